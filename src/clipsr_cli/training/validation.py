"""Score a generator in training on held-back pictures, and show some of them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from clipsr_cli import evaluation
from clipsr_cli.errors import InputError
from clipsr_cli.evaluation import Pair
from clipsr_cli.models.generator import Generator
from clipsr_cli.reports import draw_sheet, strip
from clipsr_cli.training.config import TrainConfig
from clipsr_cli.training.data import read_source


def held_back_pairs(config: TrainConfig) -> list[Pair]:
    """Some held-back pictures, spread over the sources and the same ones every time."""
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
    chosen = evaluation.spread(samples, config.run.evaluate_count)
    return list(evaluation.pairs(chosen, scale=config.generator.scale))


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
        """Write a PNG with the small, bicubic, resulting and true picture in each row.

        Raises:
            ImageError: it cannot be written.
        """
        strips = [
            strip(_image(pair.low), _image(result), _image(pair.high), label=pair.prompt)
            for pair, result in zip(self.shown, self.results, strict=True)
        ]
        draw_sheet(("small", "bicubic", "result", "true"), strips, path)


def validate(
    generator: Generator,
    held_back: Sequence[Pair],
    *,
    rows: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[None]],
) -> Validation:
    """Score a generator in eval mode, keeping ``rows`` of its results to be shown."""
    shown = evaluation.spread(held_back, rows)
    wanted = {id(pair) for pair in shown}
    results: list[Tensor] = []

    def enlarge(low: Tensor, prompts: Sequence[str]) -> Tensor:
        with autocast():
            high = generator(low, generator.clip.text(prompts))
        # A network that has gone astray is shown as it is: black.
        results.append(evaluation.to_8_bit(high)[0].nan_to_num().cpu())
        return high

    found = list(
        evaluation.evaluate(enlarge, held_back, scale=generator.config.scale, device=device)
    )
    scores, bicubic = evaluation.means(found)
    kept = [r for pair, r in zip(held_back, results, strict=True) if id(pair) in wanted]
    return Validation(scores=scores, bicubic=bicubic, shown=shown, results=kept)


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.mul(255).round().byte().permute(1, 2, 0).numpy())
