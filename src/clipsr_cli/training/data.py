"""Datasets in memory, and the batches cut from them: step N's batch depends on the seed and N
alone.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipsr_cli import images
from clipsr_cli.datasets import DATASETS, Sample
from clipsr_cli.degradation import shrink
from clipsr_cli.errors import InputError, UnknownNameError
from clipsr_cli.pictures import resize, to_float, to_integer
from clipsr_cli.training.config import Source


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Large pictures (B, 3, H, W), their small versions (B, 3, H/s, W/s), and a prompt for each."""

    high: Tensor
    low: Tensor
    prompts: list[str]


class Pictures:
    """The decoded pictures of some sources, drawn by the sources' weights.

    Args:
        sources: where the pictures come from.
        split: ``train`` or ``val``.
        short_side: reduce pictures to this short side, to save memory.
        captioned: leave out pictures without a caption.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        split: str,
        *,
        short_side: int | None = None,
        captioned: bool = False,
    ) -> None:
        self.samples: list[Sample] = []
        weights: list[float] = []
        for source in sources:
            if source.dataset not in DATASETS:
                raise UnknownNameError("dataset", source.dataset, DATASETS)
            chosen = [
                sample
                for sample in DATASETS[source.dataset](source.root, source.held_back)
                if sample.split == split
                and sample.path.name not in source.exclude
                and (sample.captions or not captioned)
            ]
            self.samples += chosen
            weights += [source.weight / max(1, len(chosen))] * len(chosen)
        if not self.samples:
            raise InputError(f"The sources hold no picture of split {split!r}.")
        self._cumulative = np.array(list(accumulate(weights)))
        with ThreadPoolExecutor() as threads:
            self.pixels = list(threads.map(lambda s: read_rgb(s.path, short_side), self.samples))

    def __len__(self) -> int:
        return len(self.samples)

    def draw(self, rng: np.random.Generator) -> int:
        """Index of one picture, by the sources' weights."""
        place = rng.random() * self._cumulative[-1]
        return min(int(np.searchsorted(self._cumulative, place, side="right")), len(self) - 1)


def read_rgb(path: Path, short_side: int | None = None) -> np.ndarray:
    """Decode a picture to (H, W, 3) uint8 RGB, reduced to a short side where one is given."""
    pixels = images.read(path).pixels
    height, width = pixels.shape[:2]
    if short_side and min(height, width) > short_side:
        factor = short_side / min(height, width)
        size = (round(width * factor), round(height * factor))
        return to_integer(resize(to_float(pixels), size), np.uint8)
    return pixels if pixels.dtype == np.uint8 else to_integer(to_float(pixels), np.uint8)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float().div(255)


def training_batch(
    pictures: Pictures,
    step: int,
    *,
    seed: int,
    scale: int,
    crops: Sequence[int],
    batch_size: int,
    min_zoom: float,
    text_dropout: float,
) -> Batch:
    """Cut step ``step``'s batch: random pictures, places, zooms, flips and captions."""
    rng = np.random.default_rng((seed, step))
    side = int(rng.choice(crops))
    highs, prompts = [], []
    for _ in range(batch_size):
        index = pictures.draw(rng)
        highs.append(random_crop(pictures.pixels[index], side, rng, min_zoom=min_zoom))
        captions = pictures.samples[index].captions
        caption = captions[rng.integers(len(captions))] if captions else ""
        prompts.append("" if rng.random() < text_dropout else caption)
    high = torch.stack(highs)
    return Batch(high=high, low=shrink(high, scale), prompts=prompts)


def random_crop(
    pixels: np.ndarray, side: int, rng: np.random.Generator, *, min_zoom: float
) -> Tensor:
    """A random square of a picture, mirrored half of the time: (3, side, side) in [0, 1].

    A large picture is first reduced by a random factor down to ``min_zoom``; a small one is
    enlarged so that the square fits.
    """
    short = min(pixels.shape[:2])
    zoom = max(side / short, rng.uniform(min_zoom, 1.0)) if short > side else side / short
    cut = min(short, round(side / zoom))
    top = rng.integers(pixels.shape[0] - cut + 1)
    left = rng.integers(pixels.shape[1] - cut + 1)
    crop = to_tensor(pixels[top : top + cut, left : left + cut])
    if cut != side:
        crop = F.interpolate(crop[None], (side, side), mode="bicubic", antialias=True)[0].clamp(
            0, 1
        )
        crop = crop.mul(255).round().div(255)
    return crop.flip(2) if rng.random() < 0.5 else crop


def validation_batches(
    pictures: Pictures, *, count: int, side: int, scale: int, batch_size: int
) -> list[Batch]:
    """Centre crops of ``count`` pictures spread over the sources, each with its first caption."""
    places = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int)
    batches = []
    for start in range(0, len(places), batch_size):
        highs, prompts = [], []
        for index in places[start : start + batch_size]:
            pixels = pictures.pixels[index]
            cut = min(side, *pixels.shape[:2])
            top, left = (pixels.shape[0] - cut) // 2, (pixels.shape[1] - cut) // 2
            crop = to_tensor(pixels[top : top + cut, left : left + cut])[None]
            if cut != side:
                crop = F.interpolate(crop, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
            highs.append(crop[0])
            captions = pictures.samples[index].captions
            prompts.append(captions[0] if captions else "")
        high = torch.stack(highs)
        batches.append(Batch(high=high, low=shrink(high, scale), prompts=prompts))
    return batches
