"""Turn pictures into prompts, by one of several backends.

A new backend is a class with ``caption``, and a line in ``CAPTIONERS``. Nothing here loads torch
before ``load`` is called.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from clipsr_cli.captions.nouns import read_nouns
from clipsr_cli.errors import InputError, UnknownNameError
from clipsr_cli.prompts import one_line
from clipsr_cli.weights import find_captioner, find_clip

if TYPE_CHECKING:
    from clipsr_cli.jobs import Job
    from clipsr_cli.models.clip import Clip

DEFAULT_BACKEND = "labels"
DEFAULT_CLIP = "clipsr-clip-mini"
DEFAULT_COCA = "coca-vit-b-32"
DEFAULT_BEAMS = 4


class Captioner(Protocol):
    """Describes pictures; the same picture always in the same words, whatever stands beside it."""

    def caption(self, pictures: Sequence[np.ndarray]) -> list[str]:
        """A text of one line for each picture, all of them in one batch.

        Args:
            pictures: (H, W, 3) RGB, uint8, of any sizes; see ``reading.read_view``.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """Which backend, and what it is told. None is the backend's own choice.

    Attributes:
        backend: a name in ``CAPTIONERS``.
        text: for ``fixed``, the caption of every picture.
        labels: for ``labels``, a file of nouns.
        clip: for ``labels``, the CLIP that looks at the pictures.
        model: for ``coca``, the captioner.
        beams: for ``coca``, captions followed at a time; 1 takes the likeliest word each time.
    """

    backend: str = DEFAULT_BACKEND
    text: str | None = None
    labels: Path | None = None
    clip: str | None = None
    model: str | None = None
    beams: int | None = None

    def __post_init__(self) -> None:
        if self.backend not in CAPTIONERS:
            raise UnknownNameError("caption backend", self.backend, CAPTIONERS)
        takes = CAPTIONERS[self.backend].takes
        for name in ("text", "labels", "clip", "model", "beams"):
            if getattr(self, name) is not None and name not in takes:
                owner = next(known for known, row in CAPTIONERS.items() if name in row.takes)
                raise InputError(
                    f"--{name} has no effect with --backend {self.backend}.",
                    hint=f"It belongs to --backend {owner}.",
                )
        if self.backend == "fixed" and not one_line(self.text or ""):
            raise InputError(
                "--backend fixed needs a text.", hint='Example: --backend fixed --text "a red bird"'
            )
        if self.beams is not None and self.beams < 1:
            raise InputError(f"--beams is {self.beams}; it must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to caption.

    Attributes:
        takes: which of ``CaptionOptions`` it reads.
        check: refuses, before torch is loaded, what is not there.
        load: builds it on a device, given by name, perhaps with a CLIP that is loaded already.
        model: what it captions with, for reports.
    """

    takes: frozenset[str]
    check: Callable[[CaptionOptions], object]
    load: Callable[[CaptionOptions, str, "Clip | None"], Captioner]
    model: Callable[[CaptionOptions], str | None]


def check(options: CaptionOptions) -> None:
    """Refuse what can be refused before torch is loaded.

    Raises:
        InputError: the label file cannot be read, or a name is unknown.
        WeightsError: weights are not there.
    """
    CAPTIONERS[options.backend].check(options)


def load(options: CaptionOptions, *, device: str = "auto", clip: "Clip | None" = None) -> Captioner:
    """Build a captioner.

    Args:
        options: which, and what it is told.
        device: its device, by name.
        clip: one that is loaded already, which ``labels`` takes where the options name none.

    Raises:
        InputError: the label file cannot be read, or a name is unknown.
        WeightsError: weights are missing or broken.
        DeviceError: the device is not there.
    """
    return CAPTIONERS[options.backend].load(options, device, clip)


def wants_caption(job: "Job") -> bool:
    """Whether a picture has no prompt from anywhere else."""
    return job.prompt.source == "empty"


class Fixed:
    """Says the same of every picture."""

    def __init__(self, text: str) -> None:
        self.text = one_line(text)

    def caption(self, pictures: Sequence[np.ndarray]) -> list[str]:
        """The text, once for each picture."""
        return [self.text] * len(pictures)


def _check_labels(options: CaptionOptions) -> None:
    read_nouns(options.labels)
    find_clip(options.clip or DEFAULT_CLIP)


def _load_labels(options: CaptionOptions, device: str, clip: "Clip | None") -> Captioner:
    from clipsr_cli.captions.labels import Labels  # noqa: PLC0415 - loads torch

    nouns = read_nouns(options.labels)
    if clip is not None and options.clip is None:
        return Labels(clip, nouns, device=device)
    return Labels.load(options.clip or DEFAULT_CLIP, nouns, device=device)


def _load_coca(options: CaptionOptions, device: str, clip: "Clip | None") -> Captioner:
    from clipsr_cli.captions.coca import Coca  # noqa: PLC0415 - loads torch

    return Coca.load(
        options.model or DEFAULT_COCA, beams=options.beams or DEFAULT_BEAMS, device=device
    )


CAPTIONERS: dict[str, Backend] = {
    "labels": Backend(
        takes=frozenset({"labels", "clip"}),
        check=_check_labels,
        load=_load_labels,
        model=lambda options: options.clip or DEFAULT_CLIP,
    ),
    "coca": Backend(
        takes=frozenset({"model", "beams"}),
        check=lambda options: find_captioner(options.model or DEFAULT_COCA),
        load=_load_coca,
        model=lambda options: options.model or DEFAULT_COCA,
    ),
    "fixed": Backend(
        takes=frozenset({"text"}),
        check=lambda options: None,
        load=lambda options, device, clip: Fixed(options.text or ""),
        model=lambda options: None,
    ),
}
