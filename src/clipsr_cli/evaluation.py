"""Turn a dataset's samples, and something that enlarges, into scores, picture by picture."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from clipsr_cli import images
from clipsr_cli.datasets import Sample
from clipsr_cli.degradation import shrink
from clipsr_cli.metrics import METRICS
from clipsr_cli.models.generator import enlarge as bicubic
from clipsr_cli.pictures import resize, to_float, to_integer

# Where a dataset gives the object's box: a square about it, so much larger, brought to a short
# side, as the method's authors cut CUB.
BOX_MARGIN = 1.5
BOX_SHORT_SIDE = 304
# Every scale divides it.
MULTIPLE = 16

Item = TypeVar("Item")
# (B, 3, h, w) in [0, 1] and a prompt for each -> (B, 3, h*s, w*s).
Enlarge = Callable[[Tensor, Sequence[str]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture (3, H, W), the small one (3, H/s, W/s) it is to be recovered from, and its words.

    Both are RGB in [0, 1], in steps of 1/255.
    """

    name: str
    high: Tensor
    low: Tensor
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One picture's scores, of a result and of bicubic enlargement, by metric."""

    name: str
    prompt: str
    scores: dict[str, float]
    bicubic: dict[str, float]


def read_high(sample: Sample, short_side: int | None = None) -> np.ndarray:
    """Decode a sample's picture to (H, W, 3) uint8 RGB.

    Args:
        sample: cut to a square about its object, brought to a short side of 304, where it has a
            box.
        short_side: reduce a larger picture to it.

    Raises:
        ImageError: the picture cannot be read.
    """
    pixels = images.read(sample.path).pixels
    if pixels.dtype != np.uint8:
        pixels = to_integer(to_float(pixels), np.uint8)
    if sample.box is not None:
        pixels = _about(pixels, sample.box)
        short_side = min(short_side or BOX_SHORT_SIDE, BOX_SHORT_SIDE)
    height, width = pixels.shape[:2]
    if short_side is None or min(height, width) <= short_side:
        return pixels
    factor = short_side / min(height, width)
    size = (round(width * factor), round(height * factor))
    return to_integer(resize(to_float(pixels), size), np.uint8)


def _about(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The part of a picture in a square about a box (left, top, width, height)."""
    left, top, width, height = box
    half = max(width, height) * BOX_MARGIN / 2
    x, y = left + width / 2, top + height / 2
    rows = slice(max(0, int(y - half)), max(1, int(y + half)))
    columns = slice(max(0, int(x - half)), max(1, int(x + half)))
    cut = pixels[rows, columns]
    # A box beside the picture says nothing about it.
    return cut if cut.size else pixels


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.array(pixels, order="C")).permute(2, 0, 1).float().div(255)


def centre(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle square of a side; of a smaller picture the largest part in multiples of 16."""
    height, width = (min(side, s // MULTIPLE * MULTIPLE) for s in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def pairs(samples: Iterable[Sample], *, scale: int, side: int = 256) -> Iterator[Pair]:
    """What to enlarge and what it should become: centre crops, and each its first caption.

    Raises:
        ImageError: a picture cannot be read.
    """
    for sample in samples:
        high = to_tensor(centre(read_high(sample), side))[None]
        low = shrink(high, scale)
        prompt = sample.captions[0] if sample.captions else ""
        yield Pair(name=sample.name, high=high[0], low=low[0], prompt=prompt)


@torch.no_grad()
def evaluate(
    enlarge: Enlarge,
    chosen: Iterable[Pair],
    *,
    scale: int,
    metrics: Sequence[str] = ("psnr", "lpips"),
    device: torch.device | None = None,
) -> Iterator[Row]:
    """Score what ``enlarge`` makes of each small picture, rounded to 8 bit, beside bicubic.

    One picture at a time, so that no score depends on its neighbours.
    """
    for pair in chosen:
        low, high = (image[None].to(device) for image in (pair.low, pair.high))
        results = {
            "scores": enlarge(low, [pair.prompt]),
            "bicubic": bicubic(low, scale),
        }
        scores = {
            kind: {name: METRICS[name].score(to_8_bit(result), high).item() for name in metrics}
            for kind, result in results.items()
        }
        yield Row(name=pair.name, prompt=pair.prompt, **scores)


def means(rows: Sequence[Row]) -> tuple[dict[str, float], dict[str, float]]:
    """Each metric's mean over pictures: of the results, and of bicubic enlargement."""
    found = []
    for kind in ("scores", "bicubic"):
        columns = [getattr(row, kind) for row in rows]
        found.append({name: float(np.mean([c[name] for c in columns])) for name in columns[0]})
    return found[0], found[1]


def to_8_bit(images: Tensor) -> Tensor:
    """Clip to [0, 1] and round to steps of 1/255, as a written picture is."""
    return images.float().clamp(0, 1).mul(255).round().div(255)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` items, spread evenly over their order: the same ones every time."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]
