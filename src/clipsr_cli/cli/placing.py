"""Where pictures are enlarged: in this process, in one for each device, or on a Ray cluster."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from clipsr_cli.cli.options import check_choice
from clipsr_cli.errors import InputError

if TYPE_CHECKING:
    from clipsr_cli.distributed import Start
    from clipsr_cli.jobs import Done, Failed, Job
    from clipsr_cli.models.clip import Clip
    from clipsr_cli.upscale_options import UpscaleOptions


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the options say of where to work."""

    device: str
    gpus: list[str] | None
    engine: str
    ray_address: str | None
    ray_workers: int | None

    def __post_init__(self) -> None:
        check_choice(self.engine, "--engine", ("local", "ray"))
        if self.gpus and self.device != "auto":
            raise InputError("--gpus and --device cannot both be given.")
        if self.gpus and self.engine == "ray":
            raise InputError("--gpus is for --engine local; Ray knows its GPUs itself.")
        if self.engine == "ray" and self.device != "auto":
            raise InputError("--device is for --engine local; Ray's workers take what they get.")
        if self.engine == "local" and (self.ray_address or self.ray_workers):
            raise InputError("--ray-address and --ray-workers need --engine ray.")
        if self.ray_workers is not None and self.ray_workers < 1:
            raise InputError(f"--ray-workers is {self.ray_workers}; it must be at least 1.")


class Runner(Protocol):
    """Something that enlarges pictures.

    Attributes:
        where: it, in words.
        device: what captions are made on.
    """

    where: str
    device: str

    def clip(self) -> "Clip":
        """The generator's CLIP."""

    def run(self, jobs: "Iterable[Job]") -> "Iterator[Done | Failed]":
        """Enlarge pictures."""


def make_runner(
    place: Place,
    *,
    model: str,
    scale: int,
    precision: str,
    options: "UpscaleOptions",
    compile: bool,
) -> Runner:
    """Load what is needed to enlarge pictures in a place.

    Raises:
        InputError, WeightsError, DeviceError: as for ``Upscaler.load``.
    """
    if place.engine == "local" and not place.gpus:
        return _Here(place.device, model, scale, precision, options, compile)

    from clipsr_cli.distributed import Recipe, cluster, processes
    from clipsr_cli.runtime import pick_device, pick_precision

    recipe = Recipe(
        model=model,
        scale=scale,
        device=place.device,
        precision=precision,
        options=options,
        compile=compile,
        level=logging.getLogger("clipsr_cli").level,
    )
    if place.engine == "ray":
        starts, where = cluster(recipe, address=place.ray_address, workers=place.ray_workers)
        return _Elsewhere(starts, where, "auto", model, scale)
    assert place.gpus
    for name in place.gpus:
        # What is not there is told before anything is loaded.
        pick_precision(precision, pick_device(name))
    starts = processes(recipe, place.gpus)
    return _Elsewhere(starts, ", ".join(place.gpus), place.gpus[0], model, scale)


class _Here:
    """An Upscaler in this process."""

    def __init__(
        self,
        device: str,
        model: str,
        scale: int,
        precision: str,
        options: "UpscaleOptions",
        compile: bool,
    ) -> None:
        from clipsr_cli.runtime import describe_device
        from clipsr_cli.upscaling import Upscaler

        self.upscaler = Upscaler.load(
            model,
            scale=scale,
            device=device,
            precision=precision,
            options=options,
            compile=compile,
        )
        self.device = device
        self.where = f"{describe_device(self.upscaler.device)}, {self.upscaler.precision}"

    def clip(self) -> "Clip":
        return self.upscaler.clip

    def run(self, jobs: "Iterable[Job]") -> "Iterator[Done | Failed]":
        return self.upscaler.run(jobs)


class _Elsewhere:
    """Workers in other processes, here or on other machines."""

    def __init__(
        self, starts: "list[Start]", where: str, device: str, model: str, scale: int
    ) -> None:
        self.starts = starts
        self.where = where
        self.device = device
        self.model = model
        self.scale = scale

    def clip(self) -> "Clip":
        from clipsr_cli.upscaling import load_clip

        return load_clip(self.model, self.scale)

    def run(self, jobs: "Iterable[Job]") -> "Iterator[Done | Failed]":
        from clipsr_cli import distributed

        return distributed.run(jobs, self.starts)
