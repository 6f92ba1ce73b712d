"""Enlarge pictures: jobs become tiles, tiles of many pictures share batches, and come back stitched."""

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipsr_cli import images
from clipsr_cli.checkpoints import load_generator, read_header
from clipsr_cli.colour import fix_colour
from clipsr_cli.errors import ClipsrError, ImageError, InputError
from clipsr_cli.images import Picture
from clipsr_cli.jobs import Done, Failed, Job, Resize
from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import Generator
from clipsr_cli.runtime import mixed_precision, pick_device, pick_precision
from clipsr_cli.tiling import Tile, blend_weights, plan_tiles
from clipsr_cli.weights import DEFAULT_MODEL, find_clip, find_generator

logger = logging.getLogger(__name__)

# The output side of a tile and the overlap of neighbours: near what the networks saw in training.
TILE_OUTPUT = 256
OVERLAP_OUTPUT = 64
# The base grid is a quarter of the output and is halved three times.
MIN_TILE = 8
BATCH_SIZES = {"cpu": 4, "mps": 8, "cuda": 32}


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """How pictures are enlarged; None lets clipsr decide.

    Attributes:
        text_strength: 0 is the empty prompt, 1 the prompt as trained, between and beyond interpolate.
        tile: side of a tile of the small picture, in pixels.
        tile_overlap: pixels of the small picture that neighbouring tiles share.
        batch_size: tiles that go through the network at once.
        color_fix: a name in ``colour.FIXES``.
        quality: of the lossy formats, 1 to 100.
        resize: a change of size after enlarging.
        workers: threads that decode and encode.
    """

    text_strength: float = 1.0
    tile: int | None = None
    tile_overlap: int | None = None
    batch_size: int | None = None
    color_fix: str = "none"
    quality: int | None = None
    resize: Resize = field(default_factory=Resize)
    workers: int = 2

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < MIN_TILE:
            raise InputError(f"--tile is {self.tile}; it must be at least {MIN_TILE}.")
        for name in ("batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}; it must be at least 1.")
        if self.tile_overlap is not None and self.tile_overlap < 0:
            raise InputError(f"--tile-overlap is {self.tile_overlap}; it must be at least 0.")

    def tiling(self, scale: int) -> tuple[int, int]:
        """Tile side and overlap, in pixels of the small picture.

        Raises:
            InputError: the overlap would not leave any tile of its own.
        """
        size = self.tile or max(MIN_TILE, TILE_OUTPUT // scale)
        overlap = min(OVERLAP_OUTPUT // scale, size // 2) if self.tile_overlap is None else self.tile_overlap
        if overlap >= size:
            raise InputError(f"--tile-overlap is {overlap}; it must be below the tile, {size}.")
        return size, overlap


class _Canvas:
    """One picture on its way: the tiles still to come, and the enlargement they add up to."""

    def __init__(self, job: Job, picture: Picture, low: Tensor, text: Tensor, options: UpscaleOptions, scale: int):
        self.job = job
        self.picture = picture
        self.low = low
        self.text = text
        self.scale = scale
        self.started = time.perf_counter()
        height, width = low.shape[1:]
        size, overlap = options.tiling(scale)
        self.tiles = plan_tiles(height, width, size=size, overlap=overlap)
        self.weights = blend_weights(height, width, self.tiles, scale)
        self.high = np.zeros((height * scale, width * scale, 3), np.float32)
        self.missing = len(self.tiles)

    def add(self, index: int, enlarged: np.ndarray) -> None:
        """Blend one tile's enlargement (H, W, 3) in."""
        tile, scale = self.tiles[index], self.scale
        rows = slice(tile.top * scale, tile.bottom * scale)
        columns = slice(tile.left * scale, tile.right * scale)
        self.high[rows, columns] += self.weights[index] * enlarged
        self.missing -= 1


@dataclass(frozen=True)
class _Work:
    canvas: _Canvas
    index: int

    @property
    def tile(self) -> Tile:
        return self.canvas.tiles[self.index]

    def low(self) -> Tensor:
        tile = self.tile
        return self.canvas.low[:, tile.top : tile.bottom, tile.left : tile.right]


class Upscaler:
    """Enlarges pictures with one generator on one device."""

    def __init__(
        self,
        generator: Generator,
        *,
        device: str = "auto",
        precision: str = "auto",
        options: UpscaleOptions | None = None,
        compile: bool = False,
    ) -> None:
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.options = options or UpscaleOptions()
        self.options.tiling(generator.config.scale)
        self.scale = generator.config.scale
        self.clip = generator.clip
        self.generator = generator.to(self.device, memory_format=torch.channels_last).eval()
        self.batch_size = self.options.batch_size or BATCH_SIZES[self.device.type]
        self._network = torch.compile(self.generator) if compile else self.generator
        self._texts: dict[str, Tensor] = {}
        self._warned = False

    @classmethod
    def load(
        cls,
        model: str = DEFAULT_MODEL,
        *,
        scale: int = 4,
        device: str = "auto",
        precision: str = "auto",
        options: UpscaleOptions | None = None,
        compile: bool = False,
    ) -> Self:
        """Load a generator by its name or path, and the CLIP it names.

        Raises:
            InputError: no such model, or it has another scale.
            WeightsError: a file is missing or broken.
            DeviceError: the device is not there.
        """
        pick_device(device)
        path = find_generator(model, scale)
        header = read_header(path)
        if header.config.scale != scale:
            raise InputError(
                f"{model} enlarges x{header.config.scale}, not x{scale}.",
                hint=f"Use --scale {header.config.scale}.",
            )
        architecture, weights = find_clip(header.clip)
        clip = Clip.create(architecture, weights, name=header.clip)
        generator = load_generator(path, clip)
        return cls(generator, device=device, precision=precision, options=options, compile=compile)

    def run(self, jobs: Iterable[Job]) -> Iterator[Done | Failed]:
        """Enlarge pictures and write them, yielding each outcome as it comes. One failure stops nothing.

        Pictures are decoded and encoded in threads while the network runs, and tiles of different
        pictures share a batch. At most a few pictures are in memory at a time.
        """
        at_once = self.options.workers + 1
        with ThreadPoolExecutor(self.options.workers) as threads:
            waiting = iter(jobs)
            decoding: deque[tuple[Job, Future[Picture]]] = deque()
            writing: deque[tuple[_Canvas, Future[tuple[int, int]]]] = deque()
            queue: deque[_Work] = deque()

            def decode_more() -> None:
                while len(decoding) < at_once and (job := next(waiting, None)) is not None:
                    decoding.append((job, threads.submit(images.read, job.input)))

            try:
                decode_more()
                while decoding or queue:
                    while decoding and len(queue) < self.batch_size:
                        job, future = decoding.popleft()
                        decode_more()
                        try:
                            queue.extend(self._open(job, future.result()))
                        except Exception as error:
                            yield Failed(job=job, error=error)
                    if queue:
                        finished, broken = self._advance(queue)
                        yield from broken
                        for canvas in finished:
                            writing.append((canvas, threads.submit(self._finish, canvas)))
                    while writing and (len(writing) > at_once or writing[0][1].done()):
                        yield self._outcome(*writing.popleft())
                while writing:
                    yield self._outcome(*writing.popleft())
            finally:
                # A caller that stops early leaves no thread working on what nobody waits for.
                for _, pending in [*decoding, *writing]:
                    pending.cancel()

    def enlarge(self, picture: Picture, prompt: str = "") -> np.ndarray:
        """Enlarge one decoded picture's colours: (H, W, 3) -> (H * scale, W * scale, 3) float in [0, 1]."""
        job = Job(
            input=Path(), output=Path(), form="png", prompt=_option(prompt), size_in=None, size_out=None
        )
        queue = deque(self._open(job, picture))
        canvas = queue[0].canvas
        while queue:
            _, broken = self._advance(queue)
            for failure in broken:
                raise failure.error
        return np.clip(canvas.high, 0, 1)

    @torch.inference_mode()
    def text(self, prompt: str) -> Tensor:
        """The conditioning vector (E,) of a prompt at the text strength."""
        if prompt not in self._texts:
            # Prompts repeat from picture to picture; keep the last ones only.
            if len(self._texts) > 1024:
                self._texts.clear()
            empty, asked = self.clip.text(["", prompt])
            strength = self.options.text_strength
            self._texts[prompt] = asked if strength == 1 else torch.lerp(empty, asked, strength)
        return self._texts[prompt]

    def _open(self, job: Job, picture: Picture) -> list[_Work]:
        pixels = images.to_float(picture.pixels)
        if picture.alpha is not None:
            pixels = fill_transparent(pixels, images.to_float(picture.alpha))
        low = torch.from_numpy(pixels).permute(2, 0, 1)
        canvas = _Canvas(job, picture, low, self.text(job.prompt.text), self.options, self.scale)
        return [_Work(canvas, index) for index in range(len(canvas.tiles))]

    def _advance(self, queue: deque[_Work]) -> tuple[list[_Canvas], list[Failed]]:
        """Run the first tiles of one shape in the queue as one batch.

        Returns the pictures that are complete by it, and those it broke.
        """
        shape = (queue[0].tile.height, queue[0].tile.width)
        batch: list[_Work] = []
        while queue and len(batch) < self.batch_size:
            if (queue[0].tile.height, queue[0].tile.width) != shape:
                break
            batch.append(queue.popleft())
        try:
            enlarged = self._enlarge(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                return [], self._drop(queue, batch, _too_large(batch[0], error))
            self.batch_size = len(batch) // 2
            logger.warning("Out of memory: batch size lowered to %d.", self.batch_size)
            torch.cuda.empty_cache()
            queue.extendleft(reversed(batch))
            return [], []
        except (RuntimeError, ClipsrError) as error:
            return [], self._drop(queue, batch, error)
        for work, result in zip(batch, enlarged, strict=True):
            work.canvas.add(work.index, result)
        canvases = {id(work.canvas): work.canvas for work in batch}
        return [canvas for canvas in canvases.values() if not canvas.missing], []

    @staticmethod
    def _drop(queue: deque[_Work], batch: Sequence[_Work], error: Exception) -> list[Failed]:
        """Take every picture of a failed batch out of the queue."""
        lost = {id(work.canvas): work.canvas for work in batch}
        kept = [work for work in queue if id(work.canvas) not in lost]
        queue.clear()
        queue.extend(kept)
        return [
            Failed(job=canvas.job, error=error, seconds=time.perf_counter() - canvas.started)
            for canvas in lost.values()
        ]

    @torch.inference_mode()
    def _enlarge(self, batch: Sequence[_Work]) -> np.ndarray:
        """Tiles through the network: (B, H, W, 3) float32."""
        low = torch.stack([work.low() for work in batch])
        low = low.to(self.device, memory_format=torch.channels_last)
        text = torch.stack([work.canvas.text for work in batch])
        with mixed_precision(self.device, self.precision):
            high = self._network(low, text).float()
        whole = torch.isfinite(high).flatten(1).all(dim=1)
        if not bool(whole.all()):
            if self.precision == "fp32":
                raise ImageError("The network gave values that are not finite.")
            if not self._warned:
                logger.warning("%s overflowed; such tiles are done again in fp32.", self.precision)
                self._warned = True
            # Under autocast the weights stay fp32, so leaving it out is the fp32 network.
            high[~whole] = self._network(low[~whole], text[~whole]).float()
        return high.permute(0, 2, 3, 1).cpu().numpy()

    def _finish(self, canvas: _Canvas) -> tuple[int, int]:
        """Colour fix, alpha, size and file of a stitched picture. Returns width and height."""
        picture, job = canvas.picture, canvas.job
        high = torch.from_numpy(canvas.high).permute(2, 0, 1)[None].clamp(0, 1)
        high = fix_colour(high, canvas.low[None], self.options.color_fix)
        width, height = self.options.resize.size(*picture.size, self.scale)
        high = _resized(high, (height, width))
        dtype = picture.pixels.dtype
        alpha = None
        if picture.alpha is not None:
            mask = torch.from_numpy(images.to_float(picture.alpha))[None, None]
            alpha = images.to_integer(_resized(mask, (height, width))[0, 0].numpy(), dtype)
        if picture.gray:
            high = high.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        pixels = images.to_integer(high[0].permute(1, 2, 0).numpy(), dtype)
        enlarged = Picture(pixels=pixels, alpha=alpha, gray=picture.gray, metadata=picture.metadata)
        images.write(enlarged, job.output, job.form, quality=self.options.quality)
        return enlarged.size

    def _outcome(self, canvas: _Canvas, future: "Future[tuple[int, int]]") -> Done | Failed:
        try:
            size = future.result()
        except Exception as error:
            return Failed(job=canvas.job, error=error, seconds=time.perf_counter() - canvas.started)
        return Done(
            job=canvas.job,
            size_in=canvas.picture.size,
            size_out=size,
            tiles=len(canvas.tiles),
            seconds=time.perf_counter() - canvas.started,
        )


def fill_transparent(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give transparent pixels the colour of the nearest visible ones, so that none bleeds in from under.

    Shapes:
        pixels   (H, W, 3)  float in [0, 1], not premultiplied
        alpha    (H, W)     float in [0, 1]
        returns  (H, W, 3)  unchanged where alpha is above 0
    """
    if alpha.min() > 0 or alpha.max() == 0:
        return pixels
    colour = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    weight = torch.from_numpy(alpha)[None, None]
    levels = [(colour * weight, weight)]
    # Ever coarser averages of the visible pixels, until one covers everything.
    while float(levels[-1][1].min()) == 0 and max(levels[-1][1].shape[2:]) > 1:
        levels.append(tuple(F.avg_pool2d(x, 2, ceil_mode=True) for x in levels[-1]))
    filled = levels[-1][0] / levels[-1][1].clamp_min(1e-6)
    for premultiplied, weight in reversed(levels[:-1]):
        size = (weight.shape[2], weight.shape[3])
        coarse = F.interpolate(filled, size, mode="bilinear", align_corners=False)
        filled = torch.where(weight > 0, premultiplied / weight.clamp_min(1e-6), coarse)
    visible = (alpha > 0)[:, :, None]
    return np.where(visible, pixels, filled[0].permute(1, 2, 0).numpy()).astype(np.float32)


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, C, H, W) in [0, 1] to another size by antialiased bicubic interpolation."""
    if tuple(values.shape[2:]) == size:
        return values
    return F.interpolate(values, size, mode="bicubic", antialias=True).clamp(0, 1)


def _too_large(work: _Work, error: Exception) -> ClipsrError:
    tile = work.tile
    failure = ImageError(
        f"One tile of {tile.width} x {tile.height} px does not fit into the device's memory.",
        hint="Use a smaller --tile.",
    )
    failure.__cause__ = error
    return failure


def _option(text: str):  # type: ignore[no-untyped-def]
    from clipsr_cli.prompts import Prompt

    return Prompt(text=text, source="option")
