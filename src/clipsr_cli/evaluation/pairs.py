"""Turn samples, and results on disk, into pairs of pictures to be compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clipsr_cli import images
from clipsr_cli.datasets import Sample
from clipsr_cli.degradation import shrink
from clipsr_cli.errors import ImageError, InputError
from clipsr_cli.evaluation.protocol import BOX_MARGIN, BOX_SHORT_SIDE, Protocol, cut
from clipsr_cli.pictures import Picture, resize, to_float, to_integer


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture, the small one it is to be recovered from, and its words.

    Attributes:
        name: unique in its set.
        high: (3, H, W) RGB in [0, 1], in steps of 1/255.
        low: (3, H/s, W/s), likewise; None where it is not known.
        prompt: what the enlarger is told.
        caption: what the picture shows.
        gray: it came as a gray picture.
    """

    name: str
    high: Tensor
    low: Tensor | None
    prompt: str
    caption: str
    gray: bool = False

    def small(self) -> Picture:
        """The small picture as it would be decoded from a file."""
        assert self.low is not None
        return Picture(pixels=to_pixels(self.low), gray=self.gray)


def read_high(sample: Sample, short_side: int | None = None) -> np.ndarray:
    """Decode a sample's picture to (H, W, 3) uint8 RGB.

    Args:
        sample: where it has a box, it is cut to a square about its object, and reduced to a short
            side of 304 where larger.
        short_side: reduce a larger picture to it.

    Raises:
        ImageError: the picture cannot be read.
    """
    return _read_high(sample, short_side)[0]


def _read_high(sample: Sample, short_side: int | None = None) -> tuple[np.ndarray, bool]:
    """The same, and whether it is a gray picture."""
    picture = images.read(sample.path)
    pixels = _in_8_bit(picture.pixels)
    if sample.box is not None:
        pixels = _about(pixels, sample.box)
        short_side = min(short_side or BOX_SHORT_SIDE, BOX_SHORT_SIDE)
    height, width = pixels.shape[:2]
    if short_side is not None and min(height, width) > short_side:
        factor = short_side / min(height, width)
        size = (round(width * factor), round(height * factor))
        pixels = to_integer(resize(to_float(pixels), size), np.uint8)
    return pixels, picture.gray


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


def to_pixels(image: Tensor) -> np.ndarray:
    """(3, H, W) float in [0, 1] -> (H, W, 3) uint8."""
    return image.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()


def to_8_bit(images: Tensor) -> Tensor:
    """Clip to [0, 1] and round to steps of 1/255, as a written picture is."""
    return images.float().clamp(0, 1).mul(255).round().div(255)


def make_pair(
    sample: Sample, protocol: Protocol, prompt: str, *, short_side: int | None = None
) -> Pair:
    """What to enlarge and what it should become.

    Args:
        sample: the picture.
        protocol: how it is cut and reduced.
        prompt: what the enlarger is told.
        short_side: reduce a larger picture to it before it is cut.

    Raises:
        ImageError: the picture cannot be read.
        InputError: it is smaller than the scale.
    """
    assert protocol.scale is not None
    pixels, gray = _read_high(sample, short_side)
    high = to_tensor(cut(pixels, protocol))
    low = shrink(high[None], protocol.scale, protocol.kernel)[0]
    caption = sample.captions[0] if sample.captions else ""
    return Pair(name=sample.name, high=high, low=low, prompt=prompt, caption=caption, gray=gray)


def results_on_disk(
    results: Path, references: Path, captions: Mapping[str, str], protocol: Protocol
) -> tuple[Mapping[str, Callable[[], tuple[Pair, Tensor]]], dict[str, str]]:
    """Pictures of two folders that belong together by their path without its extension.

    Args:
        results: the folder of results.
        references: the folder of what they should be.
        captions: what the references show, by their path within their folder.
        protocol: its scale, where it is known, tells what the results were made from.

    Returns:
        For each two that belong together, by the reference's path in its folder, a function that
        reads them; and pictures that stand alone, with why.

    Raises:
        InputError: no two belong together.
    """
    made, wanted = (_by_stem(folder) for folder in (results, references))
    alone = {str(path): f"It has no reference in {references}." for path in _only(made, wanted)}
    alone |= {str(path): f"It has no result in {results}." for path in _only(wanted, made)}
    both = sorted(made.keys() & wanted.keys())
    if not both:
        raise InputError(
            f"No picture of {results} has the name of one of {references}.",
            hint="They are matched by their path within the folder, without the extension.",
        )

    readers = {}
    for stem in both:
        name = wanted[stem].relative_to(references).as_posix()
        caption = captions.get(name, "")
        readers[name] = partial(_read_both, made[stem], wanted[stem], name, caption, protocol)
    return readers, alone


def _by_stem(folder: Path) -> dict[str, Path]:
    """A folder's pictures by their path within it, without the extension.

    Raises:
        InputError: two differ in their extension alone.
    """
    found: dict[str, Path] = {}
    for path in images.find(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise InputError(
                f"{found[stem]} and {path} differ in their extension alone.",
                hint="Which of them is meant cannot be told: move one away.",
            )
        found[stem] = path
    return found


def _only(first: Mapping[str, Path], second: Mapping[str, Path]) -> list[Path]:
    return [first[stem] for stem in sorted(first.keys() - second.keys())]


def _read_both(
    result: Path, reference: Path, name: str, caption: str, protocol: Protocol
) -> tuple[Pair, Tensor]:
    made, wanted = (images.read(path, max_pixels=None) for path in (result, reference))
    if made.size != wanted.size:
        width, height = wanted.size
        raise ImageError(
            f"{result} is {made.size[0]} x {made.size[1]}, its reference {width} x {height}."
        )
    high = to_tensor(_in_8_bit(wanted.pixels))
    low = None
    if protocol.scale is not None and all(side % protocol.scale == 0 for side in made.size):
        low = shrink(high[None], protocol.scale, protocol.kernel)[0]
    pair = Pair(name=name, high=high, low=low, prompt="", caption=caption, gray=wanted.gray)
    return pair, to_tensor(_in_8_bit(made.pixels))


def _in_8_bit(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else to_integer(to_float(pixels), np.uint8)
