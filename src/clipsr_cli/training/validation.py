"""Score a generator in training on held-back pictures, and show some of them."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipsr_cli.errors import ClipsrError, InputError
from clipsr_cli.evaluation.pairs import Pair, make_pair, to_8_bit, to_pixels
from clipsr_cli.evaluation.protocol import Protocol, choose_prompts, spread
from clipsr_cli.evaluation.scoring import Enlarge, bicubic, score
from clipsr_cli.metrics import METRICS, Setting
from clipsr_cli.models.generator import Generator
from clipsr_cli.reports import draw_sheet, strip
from clipsr_cli.training.config import TrainConfig
from clipsr_cli.training.data import read_source

logger = logging.getLogger(__name__)

SCORED = ("psnr", "lpips")
# Of these, the one by which the best checkpoint is known; lower is better.
DECIDING = "lpips"


def held_back_pairs(config: TrainConfig) -> list[Pair]:
    """Some held-back pictures, spread over the sources and the same ones every time.

    Raises:
        InputError: there are none that can be scored.
    """
    samples = [
        sample
        for source in config.sources
        for sample in read_source(source)
        if sample.split == "test"
    ]
    if not samples:
        raise InputError(
            "The sources hold no picture of split 'test'.",
            hint="See: clipsr data check NAME --data-root DIR",
        )
    protocol = Protocol(scale=config.generator.scale)
    chosen = spread(samples, config.run.evaluate_count)
    prompts = choose_prompts(chosen, protocol.prompts)
    pairs = []
    for sample, prompt in zip(chosen, prompts, strict=True):
        try:
            pairs.append(make_pair(sample, protocol, prompt, short_side=config.short_side))
        except ClipsrError as error:
            logger.warning("Not evaluated on: %s: %s", sample.name, error)
    if not pairs:
        raise InputError("None of the held-back pictures can be scored.")
    return pairs


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Mean scores of a generator and of bicubic enlargement, by metric, and some results.

    ``results`` has a picture (3, H, W) for each of ``shown``.
    """

    scores: dict[str, float]
    bicubic: dict[str, float]
    shown: list[Pair]
    results: list[Tensor]

    def row(self) -> dict[str, float]:
        """The scores under the names they have in metrics.jsonl."""
        return {f"test_{name}": value for name, value in self.scores.items()} | {
            f"bicubic_{name}": value for name, value in self.bicubic.items()
        }

    def sheet(self, path: Path) -> None:
        """Write a PNG with the small, bicubic and resulting picture and the reference in each row.

        Raises:
            ImageError: it cannot be written.
        """
        strips = [
            strip(
                Image.fromarray(pair.small().pixels),
                _image(result),
                _image(pair.high),
                label=pair.prompt,
            )
            for pair, result in zip(self.shown, self.results, strict=True)
        ]
        draw_sheet(("small", "bicubic", "result", "reference"), strips, path)


@torch.no_grad()
def validate(
    generator: Generator,
    held_back: Sequence[Pair],
    *,
    rows: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[None]],
) -> Validation:
    """Score a generator in eval mode, keeping ``rows`` of its results to be shown."""
    metrics = {name: METRICS[name] for name in SCORED}
    setting = Setting(scale=generator.config.scale, device=device)
    shown = spread(held_back, rows)
    wanted = {id(pair) for pair in shown}
    results: list[Tensor] = []

    def enlarge(pair: Pair) -> Tensor:
        assert pair.low is not None
        with autocast():
            high = generator(pair.low[None].to(device), generator.clip.text([pair.prompt]))
        # A network that has gone astray is shown as it is: black.
        return to_8_bit(high[0]).nan_to_num().cpu()

    def scores(make: Enlarge, *, keep: bool) -> dict[str, float]:
        found = []
        for pair in held_back:
            result = make(pair)
            if keep and id(pair) in wanted:
                results.append(result)
            found.append(score(pair, result, metrics, setting).scores)
        columns = {name: [row[name] for row in found] for name in SCORED}
        known = {name: [v for v in values if v is not None] for name, values in columns.items()}
        return {name: float(np.mean(values)) for name, values in known.items() if values}

    return Validation(
        scores=scores(enlarge, keep=True),
        bicubic=scores(bicubic, keep=False),
        shown=shown,
        results=results,
    )


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(to_pixels(pixels))
