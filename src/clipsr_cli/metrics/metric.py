"""What a metric is: its direction and its needs are data, beside the function that scores."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    # Not when running, since open_clip is slow to import.
    from clipsr_cli.models.clip import Clip


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One result beside what it should be.

    Pictures are RGB in [0, 1] in steps of 1/255, float, on any device, and are not to be written to
    afterwards.

    Attributes:
        result: (3, H, W).
        high: (3, H, W), what the result should be.
        low: (3, h, w), the small picture that the result was made from.
        caption: what the picture truly shows, whatever the prompt was.
        gray: it came as a gray picture: its value itself counts as luma.
    """

    result: Tensor
    high: Tensor
    low: Tensor | None = None
    caption: str = ""
    gray: bool = False

    def __post_init__(self) -> None:
        assert self.result.shape == self.high.shape, (self.result.shape, self.high.shape)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What metrics need beside the pictures.

    Attributes:
        scale: by how much the small pictures were enlarged.
        kernel: what they were reduced with, a name in ``degradation.KERNELS``.
        border: pixels left out on every side for PSNR and SSIM. Papers leave out the scale.
        clip: what compares pictures with captions, on whatever device it is.
        device: where the other networks run, and the arithmetic where it can.
    """

    scale: int | None = None
    kernel: str = "bicubic"
    border: int = 0
    clip: "Clip | None" = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Gathering(Protocol):
    """Collects what a score of a whole set is computed from."""

    def add(self, compared: Compared) -> None:
        """Take one picture of the set, in any order."""

    def value(self) -> float | None:
        """The set's score so far; None for too few pictures."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A way to score results: picture by picture, or a whole set at once.

    Attributes:
        title: for tables, such as ``PSNR (Y)``.
        higher_is_better: its direction.
        unit: such as ``dB``.
        digits: decimals worth showing.
        score: one picture's score, of that picture alone; None where it does not apply to it (too
            small, no caption, no scale).
        gather: begins a whole set, for what is defined on sets alone.
        missing: what it needs and is not on this machine, in a sentence with the command that gets
            it; empty where it can be used. Never touches the network.
    """

    title: str
    higher_is_better: bool
    unit: str = ""
    digits: int = 3
    score: Callable[[Compared, Setting], float | None] | None = None
    gather: Callable[[Setting], Gathering] | None = None
    missing: Callable[[], str] = str


def package_folder(name: str) -> Path | None:
    """Where an installed package lies, found without importing it; None if it is not installed."""
    spec = find_spec(name)
    # A folder that happens to be called so has no origin.
    return Path(spec.origin).parent if spec and spec.origin else None
