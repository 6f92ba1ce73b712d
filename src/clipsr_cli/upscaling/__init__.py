"""Enlarge pictures: jobs become tiles, tiles of many pictures share batches, and come back as
files.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Self

import numpy as np
from torch import Tensor

from clipsr_cli.checkpoints import load_generator, read_header
from clipsr_cli.errors import InputError
from clipsr_cli.jobs import Done, Failed, Job
from clipsr_cli.models import AnyGenerator
from clipsr_cli.models.clip import Clip
from clipsr_cli.pictures import Picture
from clipsr_cli.runtime import pick_device, pick_precision
from clipsr_cli.upscale_options import UpscaleOptions
from clipsr_cli.upscaling import memory
from clipsr_cli.upscaling.canvas import Canvas
from clipsr_cli.upscaling.engine import Engine, appetite
from clipsr_cli.upscaling.finishing import Finish
from clipsr_cli.upscaling.network import Network
from clipsr_cli.weights import DEFAULT_MODEL, find_clip, find_generator

__all__ = ["Upscaler", "load_clip"]


def load_clip(model: str, scale: int) -> Clip:
    """The CLIP that a generator was trained with.

    Raises:
        InputError: no such model.
        WeightsError: a file is missing or broken.
    """
    name = read_header(find_generator(model, scale)).clip
    architecture, weights = find_clip(name)
    return Clip.create(architecture, weights, name=name)


class Upscaler:
    """Enlarges pictures with one generator on one device.

    Attributes:
        device: where it works.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        options: how pictures are enlarged.
        scale: how many times.
        clip: the generator's CLIP.
        network: computes tiles; ``generator`` is the one in it.
    """

    def __init__(
        self,
        generator: AnyGenerator,
        *,
        device: str = "auto",
        precision: str = "auto",
        options: UpscaleOptions | None = None,
        compile: bool = False,
    ) -> None:
        """Bring a generator to a device.

        Args:
            generator: taken over: it is moved, and belongs to this from here on.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``.
            options: how pictures are enlarged; None for the defaults.
            compile: compile the network: slow to start, then faster.

        Raises:
            InputError: the device cannot do the precision, the options do not fit the scale, or
                ``options.max_memory`` leaves nothing for pictures.
            DeviceError: the device is not there.
        """
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.options = options or UpscaleOptions()
        self.scale = generator.config.scale
        self.clip = generator.clip
        side, _ = self.options.tiling(self.scale)
        self.network = Network(
            generator,
            device=self.device,
            precision=self.precision,
            text_strength=self.options.text_strength,
            batch_size=self.options.batch_size,
        )
        self.generator = self.network.generator
        self.network.prepare(side)
        # Refused before any work where it cannot be kept.
        memory.budget(self.options, self.network.lanes)
        if compile:
            self.network.compile(side)

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
            InputError: no such model, or it has another scale, or ``options.max_memory`` leaves
                nothing for pictures.
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
        generator = load_generator(path, load_clip(model, scale))
        return cls(generator, device=device, precision=precision, options=options, compile=compile)

    @property
    def appetite(self) -> int:
        """How many jobs ``run`` takes at once, where the memory allows it."""
        return appetite(self.network, self.options)

    def run(
        self, jobs: Iterable[Job | None], *, stopped: Callable[[], bool] | None = None
    ) -> Iterator[Done | Failed]:
        """Enlarge pictures and write them, yielding each outcome as it comes. One failure stops
        nothing.

        Pictures are decoded and encoded in threads while the network runs, and tiles of different
        pictures share a batch. Only so many pictures are under way as the memory holds; jobs are
        taken from the iterable as room comes free, and those taken are finished when it ends. None
        among them says that there is no job at the moment. ``stopped`` is asked now and then: once
        it says so, what is under way is given up, and the rest left.
        """
        return Engine(self.network, self.options, self.scale, stopped).run(jobs)

    def enlarge(self, picture: Picture, prompt: str = "") -> Picture:
        """Enlarge one decoded picture, alpha and metadata included, as ``run`` would.

        Raises:
            ImageError: the network's result is not finite, or a tile does not fit into memory.
        """
        size, overlap = self.options.tiling(self.scale)
        canvas = Canvas(picture, scale=self.scale, size=size, overlap=overlap)
        finish = Finish(canvas, self.options)
        planes = np.concatenate(list(finish.rows(self._bands(canvas, finish, prompt))))
        colours = 1 if picture.gray else 3
        return Picture(
            pixels=np.repeat(planes[:, :, :1], 3, axis=2) if picture.gray else planes[:, :, :3],
            alpha=planes[:, :, colours] if finish.layout.alpha else None,
            gray=picture.gray,
            metadata=picture.metadata,
        )

    def condition(self, prompt: str) -> Tensor:
        """What the generator reads from a prompt at the text strength, (K,): for its ``render``."""
        return self.network.condition(prompt)

    def _bands(self, canvas: Canvas, finish: Finish, prompt: str) -> Iterator[Tensor]:
        """A picture's rows, as its tiles come back."""
        size = self.network.batch_size
        batches = [
            range(start, min(start + size, len(canvas.grid)))
            for start in range(0, len(canvas.grid), size)
        ]
        futures = [
            self.network.submit([canvas] * len(batch), batch, [prompt] * len(batch))
            for batch in batches
        ]
        for batch, future in zip(batches, futures, strict=True):
            for index, result in zip(batch, future.result(), strict=True):
                if isinstance(result, Exception):
                    raise result
                rows = canvas.add(index, result)
                if rows is not None:
                    yield finish.begin(rows)
