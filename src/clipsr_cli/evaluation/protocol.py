"""The rules that decide a score beside the pictures: how they are cut, reduced and described."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from clipsr_cli.datasets import Sample
from clipsr_cli.degradation import KERNELS
from clipsr_cli.errors import InputError, UnknownNameError

# Where a dataset gives the object's box: a square about it, so much larger, and reduced to a short
# side where it is larger still, as the method's authors cut CUB.
BOX_MARGIN = 1.5
BOX_SHORT_SIDE = 304
CROPS = ("centre", "none")
PROMPTS = ("matched", "mismatched", "empty")
# Every scale divides it, so that all scales are scored on the same pictures.
MULTIPLE = 16
# Resamplings of the bootstrap, and the seed they are drawn with.
RESAMPLES = 2000
SEED = 0
INTERVAL = f"95 %, bootstrap over pictures, {RESAMPLES} resamplings, seed {SEED}"
KERNEL_WORDS = {
    "bicubic": "bicubic, antialiased, a = -0.5 (Pillow's), rounded to 8 bit",
    "matlab": "bicubic as MATLAB's imresize, rounded to 8 bit",
    "bilinear": "bilinear, antialiased, rounded to 8 bit",
    "area": "mean of the area, rounded to 8 bit",
    "lanczos": "Lanczos 3, antialiased, rounded to 8 bit",
}

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """All that decides a score beside the pictures; it is printed with every number.

    Attributes:
        scale: how much is enlarged; None where results on disk are scored as they are.
        hr_size: side of the large pictures.
        crop: ``centre``: the middle square of that side, or of a smaller picture the largest part
            in multiples of 16; ``none``: the whole picture, cut to multiples of the scale.
        kernel: what reduces it, a name in ``degradation.KERNELS``; rounded to 8 bit.
        border: pixels left out on every side for PSNR and SSIM.
        prompts: ``matched``: a picture's first caption; ``mismatched``: another picture's;
            ``empty``: none.
    """

    scale: int | None
    hr_size: int = 256
    crop: str = "centre"
    kernel: str = "bicubic"
    border: int = 0
    prompts: str = "matched"

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise UnknownNameError("kernel", self.kernel, KERNELS)
        for name, choices in (("crop", CROPS), ("prompts", PROMPTS)):
            if getattr(self, name) not in choices:
                known = ", ".join(choices)
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be one of: {known}.")
        if self.hr_size < 32 or self.hr_size % MULTIPLE:
            raise InputError(
                f"hr_size is {self.hr_size}; it must be a multiple of {MULTIPLE} from 32 up."
            )
        if self.border < 0:
            raise InputError(f"border is {self.border}; it must be 0 or more.")

    def of_results_in_words(self) -> dict[str, str | int | None]:
        """The protocol of results on disk, for people and for the report."""
        kernel = KERNEL_WORDS.get(self.kernel, self.kernel)
        return {
            "pictures": "whole results on disk against references of the same size",
            "scale": self.scale,
            "kernel": f"{kernel}; for LR-PSNR and bicubic" if self.scale else None,
            "border": self.border,
            "scores": "per picture in 8 bit, then the mean",
            "interval": INTERVAL,
        }

    def in_words(self) -> dict[str, str | int | None]:
        """The protocol for people and for the report."""
        crop = {
            "centre": f"the middle {self.hr_size} x {self.hr_size}, smaller ones in sixteens",
            "none": "the whole picture, in multiples of the scale",
        }[self.crop]
        prompts = {
            "matched": "first caption",
            "mismatched": "another picture's first caption",
            "empty": "none",
        }[self.prompts]
        return {
            "scale": self.scale,
            "hr_size": self.hr_size if self.crop == "centre" else None,
            "crop": crop,
            "box": f"where a dataset gives one: cut to {BOX_MARGIN} x its side first, "
            f"short side at most {BOX_SHORT_SIDE}",
            "kernel": KERNEL_WORDS.get(self.kernel, self.kernel),
            "border": self.border,
            "prompts": prompts,
            "scores": "per picture in 8 bit, then the mean",
            "interval": INTERVAL,
        }


def cut(pixels: np.ndarray, protocol: Protocol) -> np.ndarray:
    """The part of a picture (H, W, 3) that is scored.

    Raises:
        InputError: nothing is left of it.
    """
    assert protocol.scale is not None
    middle = protocol.crop == "centre"
    limit, multiple = (protocol.hr_size, MULTIPLE) if middle else (None, protocol.scale)
    height, width = (min(limit or side, side) // multiple * multiple for side in pixels.shape[:2])
    if not height or not width:
        raise InputError(f"It is smaller than {multiple} pixels.")
    # Of whole pictures, papers cut the rest off at the bottom and the right.
    top = (pixels.shape[0] - height) // 2 if middle else 0
    left = (pixels.shape[1] - width) // 2 if middle else 0
    return pixels[top : top + height, left : left + width]


def choose_prompts(samples: Sequence[Sample], kind: str) -> list[str]:
    """The prompt of each sample: its first caption, another picture's, or none.

    Another picture's is that of the next sample, round the end, none of whose captions is the
    sample's own. It depends on the samples' names alone, not on their order.

    Raises:
        InputError: mismatched prompts are asked for, and all pictures have the same captions.
    """
    if kind == "empty":
        return [""] * len(samples)
    if kind == "matched":
        return [sample.captions[0] if sample.captions else "" for sample in samples]
    # By a hash rather than by name: neighbours by name are often of one kind.
    order = sorted(range(len(samples)), key=lambda i: _digest(samples[i].name))
    prompts = [""] * len(samples)
    for place, index in enumerate(order):
        own = set(samples[index].captions)
        following = (samples[order[(place + step) % len(order)]] for step in range(1, len(order)))
        other = next((s for s in following if s.captions and not own & set(s.captions)), None)
        if other is None:
            raise InputError(
                f"No picture has other captions than {samples[index].name}.",
                hint="--prompts mismatched needs pictures with different captions.",
            )
        prompts[index] = other.captions[0]
    return prompts


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` items, spread evenly over their order: the same ones every time."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def sample_some(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most ``limit`` samples, chosen by a hash of seed and name: not by their order."""
    names = set(some_names([sample.name for sample in samples], limit, seed))
    return [sample for sample in samples if sample.name in names]


def some_names(names: Sequence[str], limit: int | None, seed: int) -> list[str]:
    """At most ``limit`` names, chosen by a hash of seed and name, in their order."""
    if limit is None:
        return list(names)
    chosen = set(sorted(names, key=lambda name: _digest(f"{seed} {name}"))[:limit])
    return [name for name in names if name in chosen]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
