"""Enlarge pictures: jobs become tiles, tiles of many pictures share batches, and come back
stitched.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from clipsr_cli import encoders, images, pictures
from clipsr_cli.checkpoints import load_generator, read_header
from clipsr_cli.colour import fill_transparent, fix_colour
from clipsr_cli.errors import ImageError, InputError, reason
from clipsr_cli.jobs import Done, Failed, Job, UpscaleOptions
from clipsr_cli.models import AnyGenerator
from clipsr_cli.models.clip import Clip
from clipsr_cli.pictures import Picture
from clipsr_cli.runtime import mixed_precision, pick_device, pick_precision
from clipsr_cli.tiling import Tile, blend_weights, plan_tiles
from clipsr_cli.weights import DEFAULT_MODEL, find_clip, find_generator

logger = logging.getLogger(__name__)

BATCH_SIZES = {"cpu": 4, "mps": 8, "cuda": 32}


class _Canvas:
    """One picture on its way: its tiles, and the enlargement that they add up to."""

    def __init__(self, picture: Picture, text: Tensor, options: UpscaleOptions, scale: int) -> None:
        self.picture = picture
        self.text = text
        self.scale = scale
        self.started = time.perf_counter()
        self.low = pictures.to_float(picture.pixels)
        if picture.alpha is not None:
            self.low = fill_transparent(self.low, pictures.to_float(picture.alpha))
        height, width = self.low.shape[:2]
        size, overlap = options.tiling(scale)
        self.tiles = plan_tiles(height, width, size=size, overlap=overlap)
        self.weights = blend_weights(height, width, self.tiles, scale)
        self.missing = len(self.tiles)

    @cached_property
    def high(self) -> np.ndarray:
        """The enlargement so far; not made before a tile comes: pictures that wait stay small."""
        height, width = self.low.shape[:2]
        return np.zeros((height * self.scale, width * self.scale, 3), np.float32)

    def cut(self, tile: Tile) -> Tensor:
        """A tile of the small picture: (3, h, w)."""
        pixels = self.low[tile.top : tile.bottom, tile.left : tile.right]
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def add(self, index: int, enlarged: np.ndarray) -> None:
        """Blend one tile's enlargement (H, W, 3) in."""
        tile, scale = self.tiles[index], self.scale
        rows = slice(tile.top * scale, tile.bottom * scale)
        columns = slice(tile.left * scale, tile.right * scale)
        down, across = self.weights[index]
        self.high[rows, columns] += np.multiply.outer(down, across)[:, :, None] * enlarged
        self.missing -= 1


@dataclass(frozen=True)
class _Work:
    """One tile of one picture, waiting for the network."""

    canvas: _Canvas
    index: int

    @property
    def tile(self) -> Tile:
        return self.canvas.tiles[self.index]

    @property
    def shape(self) -> tuple[int, int]:
        return self.tile.height, self.tile.width


class Upscaler:
    """Enlarges pictures with one generator on one device."""

    def __init__(
        self,
        generator: AnyGenerator,
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
        self.generator = generator.to(self.device).to(memory_format=torch.channels_last).eval()
        self.batch_size = self.options.batch_size or BATCH_SIZES[self.device.type]
        self._texts: dict[str, Tensor] = {}
        self._warned = False
        self._network = self._compiled() if compile else self.generator

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
        pick_precision(precision, pick_device(device))
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
        """Enlarge pictures and write them, yielding each outcome as it comes. One failure stops
        nothing.

        Pictures are decoded and encoded in threads while the network runs, and tiles of different
        pictures share a batch. At most a few pictures are in memory at a time.
        """
        at_once = self.options.workers + 1
        waiting = iter(jobs)
        decoding: deque[tuple[Job, Future[_Canvas]]] = deque()
        running: dict[int, Job] = {}
        writing: deque[tuple[Job, _Canvas, Future[tuple[int, int]]]] = deque()
        queue: deque[_Work] = deque()
        with ThreadPoolExecutor(self.options.workers) as threads:
            try:
                while True:
                    while len(decoding) < at_once and (job := next(waiting, None)) is not None:
                        decoding.append((job, threads.submit(self._open, job)))
                    if decoding and len(queue) < self.batch_size:
                        job, opened = decoding.popleft()
                        try:
                            canvas = opened.result()
                        except Exception as error:
                            yield _failed(job, error)
                            continue
                        running[id(canvas)] = job
                        queue.extend(_Work(canvas, index) for index in range(len(canvas.tiles)))
                    elif queue:
                        finished, broken = self._advance(queue)
                        for canvas, cause in broken:
                            yield _failed(running.pop(id(canvas)), cause, canvas)
                        for canvas in finished:
                            job = running.pop(id(canvas))
                            writing.append((job, canvas, threads.submit(self._write, job, canvas)))
                    elif not writing:
                        return
                    idle = not (decoding or queue)
                    while writing and (idle or len(writing) > at_once or writing[0][2].done()):
                        yield _outcome(*writing.popleft())
            except KeyboardInterrupt:
                # What is being written is finished, and told, before the interrupt goes its way.
                while writing:
                    yield _outcome(*writing.popleft())
                raise
            finally:
                # A caller that stops early leaves no thread working on what nobody waits for.
                for future in [opened for _, opened in decoding] + [w[2] for w in writing]:
                    future.cancel()

    def enlarge(self, picture: Picture, prompt: str = "") -> Picture:
        """Enlarge one decoded picture, alpha and metadata included.

        Raises:
            ImageError: the network's result is not finite, or a tile does not fit into memory.
        """
        canvas = self._canvas(picture, prompt)
        queue = deque(_Work(canvas, index) for index in range(len(canvas.tiles)))
        while queue:
            _, broken = self._advance(queue)
            if broken:
                raise broken[0][1]
        return self._finish(canvas)

    @torch.inference_mode()
    def _compiled(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The compiled network, tried on a usual batch, so that a missing compiler shows now."""
        network: Callable[[Tensor, Tensor], Tensor] = torch.compile(self.generator)
        side, _ = self.options.tiling(self.scale)
        low = torch.zeros(self.batch_size, 3, side, side, device=self.device)
        try:
            with mixed_precision(self.device, self.precision):
                network(low, self.text("").expand(self.batch_size, -1))
        except Exception as error:
            raise InputError(
                f"--compile does not work here: {reason(error)[:300]}.",
                hint="Leave it out, or install a C++ compiler.",
            ) from error
        return network

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

    def _open(self, job: Job) -> _Canvas:
        return self._canvas(images.read(job.input), job.prompt.text)

    def _canvas(self, picture: Picture, prompt: str) -> _Canvas:
        return _Canvas(picture, self.text(prompt), self.options, self.scale)

    def _advance(
        self, queue: deque[_Work]
    ) -> tuple[list[_Canvas], list[tuple[_Canvas, Exception]]]:
        """Run the first tiles of one shape in the queue as one batch.

        Returns:
            The pictures that are complete by it, and those it broke, with what broke them.
        """
        batch: list[_Work] = []
        others: list[_Work] = []
        while queue and len(batch) < self.batch_size:
            work = queue.popleft()
            (batch if not batch or work.shape == batch[0].shape else others).append(work)
        queue.extendleft(reversed(others))
        try:
            results: list[np.ndarray | Exception] = [*self._enlarge(batch)]
        except torch.OutOfMemoryError as error:
            if len(batch) > 1:
                self.batch_size = len(batch) // 2
                logger.warning("Out of memory: batch size lowered to %d.", self.batch_size)
                torch.cuda.empty_cache()
                queue.extendleft(reversed(batch))
                return [], []
            results = [_too_large(batch[0].tile, error)]
        except Exception as error:
            # One at a time, so that only the picture at fault is lost.
            results = [error] if len(batch) == 1 else [self._enlarge_alone(work) for work in batch]
        broken: dict[int, tuple[_Canvas, Exception]] = {}
        for work, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                broken[id(work.canvas)] = (work.canvas, result)
            else:
                work.canvas.add(work.index, result)
        if broken:
            kept = [work for work in queue if id(work.canvas) not in broken]
            queue.clear()
            queue.extend(kept)
        finished = [
            canvas for canvas in _canvases(batch) if not canvas.missing and id(canvas) not in broken
        ]
        return finished, list(broken.values())

    def _enlarge_alone(self, work: _Work) -> np.ndarray | Exception:
        try:
            return self._enlarge([work])[0]
        except Exception as error:
            return error

    @torch.inference_mode()
    def _enlarge(self, batch: Sequence[_Work]) -> np.ndarray:
        """Tiles through the network: (B, H, W, 3) float32."""
        low = torch.stack([work.canvas.cut(work.tile) for work in batch])
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
            if not bool(torch.isfinite(high).all()):
                raise ImageError("The network gave values that are not finite.")
        return high.permute(0, 2, 3, 1).cpu().numpy()

    def _finish(self, canvas: _Canvas) -> Picture:
        """Colour fix, size, alpha and depth of a stitched picture."""
        picture, dtype = canvas.picture, canvas.picture.pixels.dtype
        size = self.options.resize.size(*picture.size, self.scale)
        high = canvas.high
        if self.options.color_fix != "none":
            high = fix_colour(np.clip(high, 0, 1), canvas.low, self.options.color_fix)
        high = pictures.resize(high, size)
        if picture.gray:
            high = np.repeat(high.mean(axis=2, keepdims=True), 3, axis=2)
        alpha = None
        if picture.alpha is not None:
            mask = pictures.resize(pictures.to_float(picture.alpha)[:, :, None], size)[:, :, 0]
            alpha = pictures.to_integer(mask, dtype)
        pixels = pictures.to_integer(high, dtype)
        return Picture(pixels=pixels, alpha=alpha, gray=picture.gray, metadata=picture.metadata)

    def _write(self, job: Job, canvas: _Canvas) -> tuple[int, int]:
        enlarged = self._finish(canvas)
        encoders.write(enlarged, job.output, job.form, quality=self.options.quality)
        return enlarged.size


def _outcome(job: Job, canvas: _Canvas, written: Future[tuple[int, int]]) -> Done | Failed:
    try:
        size_out = written.result()
    except Exception as error:
        return _failed(job, error, canvas)
    return Done(
        job=job,
        size_in=canvas.picture.size,
        size_out=size_out,
        tiles=len(canvas.tiles),
        seconds=_since(canvas.started),
    )


def _failed(job: Job, error: Exception, canvas: _Canvas | None = None) -> Failed:
    """A failure that can be kept: without tracebacks, whose frames would keep the whole picture."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return Failed(job=job, error=error, seconds=_since(canvas.started) if canvas else 0.0)


def _canvases(batch: Sequence[_Work]) -> list[_Canvas]:
    """The distinct pictures of a batch, in order."""
    return list({id(work.canvas): work.canvas for work in batch}.values())


def _too_large(tile: Tile, error: Exception) -> ImageError:
    failure = ImageError(
        f"One tile of {tile.width} x {tile.height} px does not fit into the device's memory.",
        hint="Use a smaller --tile.",
    )
    failure.__cause__ = error
    return failure


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
