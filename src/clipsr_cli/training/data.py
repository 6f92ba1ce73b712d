"""Pictures, and the batches cut from them: step N's batch depends on the seed and N alone."""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipsr_cli import datasets
from clipsr_cli.datasets import Box, Sample
from clipsr_cli.degradation import DegradationConfig, degrade
from clipsr_cli.errors import ImageError, InputError
from clipsr_cli.evaluation.pairs import read_high, to_tensor
from clipsr_cli.training.config import Source

logger = logging.getLogger(__name__)

# So many pictures in a row that cannot be read are more than chance.
MOST_BROKEN = 20


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Large pictures (B, 3, H, W), their small versions (B, 3, H/s, W/s), and words for each.

    ``wrong`` is another picture's caption, never equal to the picture's own; empty where there is
    none.
    """

    high: Tensor
    low: Tensor
    prompts: list[str]
    wrong: list[str]


class Pictures:
    """The pictures of some sources, drawn by the sources' weights, and decoded as they are needed.

    Args:
        sources: where the pictures come from.
        split: ``train`` or ``test``.
        short_side: reduce pictures to this short side.
        captioned: leave out pictures without a caption.
        memory: how many bytes of decoded pictures are kept; others are decoded at every draw.

    Raises:
        InputError: no such dataset, it is not complete, or there is no picture of that split.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        split: str,
        *,
        short_side: int | None = None,
        captioned: bool = False,
        memory: float = 8e9,
    ) -> None:
        self.samples: list[Sample] = []
        weights: list[float] = []
        for source in sources:
            chosen = [
                sample
                for sample in read_source(source)
                if sample.split == split and (sample.captions or not captioned)
            ]
            self.samples += chosen
            weights += [source.weight / max(1, len(chosen))] * len(chosen)
        if not self.samples:
            raise InputError(
                f"The sources hold no picture of split {split!r}.",
                hint="See: clipsr data check NAME --data-root DIR",
            )
        self.short_side = short_side
        self._cumulative = np.array(list(accumulate(weights)))
        self._kept: dict[tuple[Path, Box | None], np.ndarray] = {}
        self._room = memory

    def __len__(self) -> int:
        return len(self.samples)

    def pixels(self, index: int) -> np.ndarray:
        """One picture, (H, W, 3) uint8. May be called from several threads.

        Raises:
            ImageError: it cannot be read.
        """
        sample = self.samples[index]
        # A video's frame is there once for each of its expressions.
        key = (sample.path, sample.box)
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        pixels = read_high(sample, self.short_side)
        if pixels.nbytes <= self._room and key not in self._kept:
            self._room -= pixels.nbytes
            self._kept[key] = pixels
        return pixels

    def draw(self, rng: np.random.Generator) -> int:
        """Index of one picture, by the sources' weights."""
        place = rng.random() * self._cumulative[-1]
        return min(int(np.searchsorted(self._cumulative, place, side="right")), len(self) - 1)


def read_source(source: Source) -> list[Sample]:
    """A source's samples, without those it excludes.

    Raises:
        InputError: no such dataset, or it is not complete.
    """
    options = datasets.Options(held_back=source.held_back, group=source.group)
    samples = datasets.read(source.dataset, source.root, options)
    return [sample for sample in samples if sample.path.name not in source.exclude]


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How batches are cut.

    Attributes:
        seed: of every random choice.
        scale: how much smaller the small pictures are.
        crops: sides of the large ones, drawn batch by batch.
        batch_size: pictures in this process's part of a batch.
        min_zoom: smallest factor by which a large picture is reduced before it is cropped.
        text_dropout: share of the pictures whose prompt is left empty.
        degradation: what happens to a picture on its way to the small one.
        rank, count: which of how many parts of the batch are this process's.
    """

    seed: int
    scale: int
    crops: tuple[int, ...]
    batch_size: int
    min_zoom: float
    text_dropout: float
    degradation: DegradationConfig
    rank: int = 0
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What a place in a batch gets: a picture, one of its captions, and the prompt it is given."""

    index: int
    caption: str
    prompt: str


class Cutter:
    """Cuts batches ahead of their use, picture by picture in threads.

    A picture that cannot be read is told once, and another is drawn in its place.
    """

    def __init__(
        self, pictures: Pictures, cutting: Cutting, threads: Executor, *, ahead: int = 2
    ) -> None:
        self.pictures = pictures
        self.cutting = cutting
        self.threads = threads
        self.ahead = ahead
        self._coming: dict[int, list[Future[tuple[Draw, Tensor, Tensor]]]] = {}
        self._told: set[Path] = set()

    def batch(self, step: int) -> Batch:
        """Step ``step``'s batch; the ones after it are begun.

        Raises:
            ImageError: many pictures in a row cannot be read.
        """
        for number in range(step, step + 1 + self.ahead):
            if number not in self._coming:
                self._coming[number] = self._begin(number)
        cut = [future.result() for future in self._coming.pop(step)]
        draws = [self._draw(step, place) for place in range(self._whole)]
        return Batch(
            high=torch.stack([high for _, high, _ in cut]),
            low=torch.stack([low for _, _, low in cut]),
            prompts=[draw.prompt for draw, _, _ in cut],
            wrong=[
                self._wrong(draw, [*draws[place + 1 :], *draws[:place]])
                for place, (draw, _, _) in enumerate(cut, start=self._first)
            ],
        )

    @property
    def _whole(self) -> int:
        """Pictures of all processes' parts together."""
        return self.cutting.batch_size * self.cutting.count

    @property
    def _first(self) -> int:
        return self.cutting.batch_size * self.cutting.rank

    def _begin(self, step: int) -> list[Future[tuple[Draw, Tensor, Tensor]]]:
        side = int(np.random.default_rng((self.cutting.seed, step)).choice(self.cutting.crops))
        return [
            self.threads.submit(self._cut, step, self._first + place, side)
            for place in range(self.cutting.batch_size)
        ]

    def _draw(self, step: int, place: int, attempt: int = 0) -> Draw:
        # Another stream than the cut's: every process follows the draws of every place.
        rng = np.random.default_rng((self.cutting.seed, step, place, 0, attempt))
        index = self.pictures.draw(rng)
        captions = self.pictures.samples[index].captions
        caption = captions[rng.integers(len(captions))] if captions else ""
        dropped = rng.random() < self.cutting.text_dropout
        return Draw(index=index, caption=caption, prompt="" if dropped else caption)

    def _wrong(self, draw: Draw, others: Sequence[Draw]) -> str:
        """The first caption among others that is of another picture and none of its own."""
        own = self.pictures.samples[draw.index]
        for other in others:
            sample = self.pictures.samples[other.index]
            if other.caption and other.caption not in own.captions and sample.path != own.path:
                return other.caption
        return ""

    def _cut(self, step: int, place: int, side: int) -> tuple[Draw, Tensor, Tensor]:
        """The picture at a place of a batch and its small version."""
        rng = np.random.default_rng((self.cutting.seed, step, place, 1))
        for attempt in range(MOST_BROKEN):
            draw = self._draw(step, place, attempt)
            try:
                pixels = self.pictures.pixels(draw.index)
                break
            except ImageError as error:
                path = self.pictures.samples[draw.index].path
                if path not in self._told:
                    self._told.add(path)
                    logger.warning("Left out: %s", error)
                broken = error
        else:
            raise broken
        high = random_crop(pixels, side, rng, min_zoom=self.cutting.min_zoom)
        return draw, high, degrade(high, self.cutting.scale, self.cutting.degradation, rng)


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
    crop = pixels[top : top + cut, left : left + cut]
    if cut != side:
        # Pillow's, which keeps to one thread: many of these run beside each other.
        crop = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC))
    return to_tensor(crop[:, ::-1] if rng.random() < 0.5 else crop)
