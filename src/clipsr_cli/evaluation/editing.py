"""Measure whether a prompt moves a result towards what it says: pairs of prompts, at several
strengths.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipsr_cli.colour import COLOURS
from clipsr_cli.errors import ClipsrError, InputError
from clipsr_cli.evaluation.pairs import Pair, to_8_bit, to_pixels
from clipsr_cli.evaluation.report import Estimate, estimate
from clipsr_cli.evaluation.scoring import Enlarge, compare
from clipsr_cli.metrics import METRICS, Setting
from clipsr_cli.pictures import Picture
from clipsr_cli.prompts import one_line, read_columns

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Two prompts for the same picture."""

    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How results with ``edit.target`` differ from those with ``edit.source``, over pictures.

    Attributes:
        edit: the prompts.
        strength: of the text, in both.
        clip_gain: 100 times the cosine in CLIP of a result and the target prompt, of the target's
            result minus the source's.
        colour_gain: mean shift of all pixels from the colour that the source names towards the
            target's, in 1/255; None where a prompt names none, or both the same.
        lr_psnr: of the target's result reduced again, against the small picture, in dB.
    """

    edit: Edit
    strength: float
    clip_gain: Estimate
    colour_gain: Estimate | None
    lr_psnr: Estimate


def read_edits(path: Path) -> list[Edit]:
    """Read a ``.csv`` or ``.jsonl`` file with the columns ``from`` and ``to``; what comes twice
    counts once.

    Raises:
        InputError: it cannot be read, is empty, or a row lacks a column or says the same twice.
    """
    rows = read_columns(path, ("from", "to"))
    found = (Edit(source=one_line(source), target=one_line(target)) for _, source, target in rows)
    edits = list(dict.fromkeys(found))
    same = next((edit for edit in edits if edit.source == edit.target), None)
    if same is not None:
        raise InputError(f"{path}: {same.source!r} stands on both sides.")
    if not edits:
        raise InputError(f"{path} holds no pair of prompts.", hint="Columns: from,to")
    return edits


def colour_direction(edit: Edit) -> Tensor | None:
    """The unit vector (3,) in RGB from the first colour that the source names to the target's."""
    named = [_colour(prompt) for prompt in (edit.source, edit.target)]
    if named[0] is None or named[1] is None or named[0] == named[1]:
        return None
    way = torch.tensor(named[1], dtype=torch.float32) - torch.tensor(named[0], dtype=torch.float32)
    return way / way.norm()


def _colour(prompt: str) -> tuple[int, int, int] | None:
    words = re.findall(r"[a-z]+", prompt.lower())
    return next((COLOURS[word] for word in words if word in COLOURS), None)


class Editing:
    """An evaluation of edits.

    Args:
        pairs: functions that read the pictures, by name.
        edits: what is asked of each.
        enlargers: what enlarges a pair, by the strength of its text.
        setting: with the CLIP that judges, and the scale.
        shown: rows of the sheet, at most.
    """

    def __init__(
        self,
        pairs: Mapping[str, Callable[[], Pair]],
        edits: Sequence[Edit],
        enlargers: Mapping[float, Enlarge],
        setting: Setting,
        *,
        shown: int = 0,
    ) -> None:
        assert setting.clip is not None
        self.pairs = pairs
        self.edits = list(edits)
        self.enlargers = enlargers
        self.setting = setting
        self.failed: dict[str, str] = {}
        self.shown = shown
        # Rows of the sheet: small picture, results by strength, and what they were told.
        self.strips: list[tuple[Picture, list[np.ndarray], str]] = []
        self._scores: dict[tuple[Edit, float], list[tuple[float, float | None, float]]] = {
            (edit, strength): [] for edit in edits for strength in enlargers
        }

    @property
    def total(self) -> int:
        """How many pictures there are."""
        return len(self.pairs)

    def run(self) -> Iterator[str]:
        """Enlarge every picture with every prompt and strength, yielding the name of each done."""
        for name, read in self.pairs.items():
            try:
                pair = read()
                scores = [(edit, self._edit(pair, edit)) for edit in self.edits]
            except ClipsrError as error:
                self.failed[name] = str(error)
                continue
            for edit, found in scores:
                for strength, values in found.items():
                    self._scores[edit, strength].append(values)
            yield name

    def moved(self) -> list[Moved]:
        """What was measured, by edit and strength; nothing where no picture could be read."""
        found = []
        for (edit, strength), scores in self._scores.items():
            if not scores:
                continue
            clip, colour, low = zip(*scores, strict=True)
            found.append(
                Moved(
                    edit=edit,
                    strength=strength,
                    clip_gain=estimate(clip),
                    colour_gain=None if colour[0] is None else estimate(colour),
                    lr_psnr=estimate(low),
                )
            )
        return found

    @torch.no_grad()
    def _edit(self, pair: Pair, edit: Edit) -> dict[float, tuple[float, float | None, float]]:
        """The gains in CLIP and colour, and the consistency, of one edit by strength."""
        direction = colour_direction(edit)
        results: dict[str, list[np.ndarray]] = {edit.source: [], edit.target: []}
        scores: dict[float, tuple[float, float | None, float]] = {}
        for strength, enlarge in self.enlargers.items():
            before, after = (
                to_8_bit(enlarge(told)).cpu()
                for told in (replace(pair, prompt=p) for p in (edit.source, edit.target))
            )
            gain = self._nearness(after, edit.target) - self._nearness(before, edit.target)
            colour = None
            if direction is not None:
                shift = (after - before).mean(dim=(1, 2)) * 255
                colour = float(shift @ direction)
            scores[strength] = (gain, colour, self._consistency(pair, after))
            results[edit.source].append(to_pixels(before))
            results[edit.target].append(to_pixels(after))
        if len(self.strips) + len(results) <= self.shown:
            self.strips += [(pair.small(), made, prompt) for prompt, made in results.items()]
        return scores

    def _nearness(self, picture: Tensor, text: str) -> float:
        """100 times the cosine in CLIP, which unlike the CLIP score may fall below 0."""
        clip = self.setting.clip
        assert clip is not None
        seen = clip.image(picture[None].to(clip.mean.device))
        return 100 * F.cosine_similarity(seen, clip.text([text])).item()

    def _consistency(self, pair: Pair, picture: Tensor) -> float:
        score = METRICS["lr_psnr"].score
        assert score is not None
        found = score(compare(pair, picture), self.setting)
        # The scale is known wherever pairs are made.
        assert found is not None
        return found
