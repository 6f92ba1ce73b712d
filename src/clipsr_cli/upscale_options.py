"""How pictures are enlarged: sizes, tiles, threads and memory, as asked for or decided here."""

import math
import os
from dataclasses import dataclass, field

from clipsr_cli import images
from clipsr_cli.colour import FIXES
from clipsr_cli.errors import InputError
from clipsr_cli.pictures import FORMATS

# The output side of a tile and the overlap of neighbours: near what the networks saw in training.
TILE_OUTPUT = 256
OVERLAP_OUTPUT = 64
# The base grid is a quarter of the output and is halved three times.
MIN_TILE = 8

MOST_WORKERS = 8
# Pixels a side that some format holds: beyond it no size can be meant.
MOST_SIDE = max(form.max_side for form in FORMATS.values())


@dataclass(frozen=True, kw_only=True)
class Resize:
    """A change of size after enlarging: by a factor of the input's size, or to a longest side."""

    outscale: float | None = None
    longest_side: int | None = None

    def __post_init__(self) -> None:
        if self.outscale is not None and self.longest_side is not None:
            raise InputError("--outscale and --longest-side cannot both be given.")
        if self.outscale is not None and not 0 < self.outscale <= MOST_SIDE:
            raise InputError(
                f"--outscale is {self.outscale}; it must be above 0, and at most {MOST_SIDE}."
            )
        if self.longest_side is not None and not 1 <= self.longest_side <= MOST_SIDE:
            raise InputError(
                f"--longest-side is {self.longest_side}; it must be from 1 to {MOST_SIDE}."
            )

    def size(self, width: int, height: int, scale: int) -> tuple[int, int]:
        """Width and height of the output of a ``width`` x ``height`` input."""
        if self.outscale is not None:
            factor = self.outscale
        elif self.longest_side is not None:
            factor = self.longest_side / max(width, height)
        else:
            factor = scale
        return max(1, round(width * factor)), max(1, round(height * factor))


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """How pictures are enlarged; None lets clipsr decide.

    Attributes:
        text_strength: 0 is the empty prompt, 1 the prompt as trained; others lie on the line
            through the two.
        tile: side of a tile of the small picture, in pixels.
        tile_overlap: pixels of the small picture that neighbouring tiles share.
        batch_size: tiles that go through the network at once.
        color_fix: a name in ``colour.FIXES``.
        quality: of the lossy formats, 1 to 100.
        resize: a change of size after enlarging.
        workers: threads that decode, and threads that encode.
        max_memory: bytes of main memory that the process shall stay below.
        memory_share: share of the free memory that pictures may take where nothing else is said.
        max_input_pixels: an input of more is taken for a decompression bomb.
    """

    text_strength: float = 1.0
    tile: int | None = None
    tile_overlap: int | None = None
    batch_size: int | None = None
    color_fix: str = "none"
    quality: int | None = None
    resize: Resize = field(default_factory=Resize)
    workers: int | None = None
    max_memory: int | None = None
    memory_share: float = 0.5
    max_input_pixels: int = images.MAX_INPUT_PIXELS

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < MIN_TILE:
            raise InputError(f"--tile is {self.tile}; it must be at least {MIN_TILE}.")
        for name in ("batch_size", "workers", "max_memory", "max_input_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}; it must be at least 1.")
        if self.color_fix not in FIXES:
            raise InputError(
                f"--color-fix is {self.color_fix!r}; it must be one of: {', '.join(FIXES)}."
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise InputError(f"--quality is {self.quality}; it must be from 1 to 100.")
        if not math.isfinite(self.text_strength):
            raise InputError(f"--text-strength is {self.text_strength}; it must be finite.")
        if self.tile_overlap is not None and self.tile_overlap < 0:
            raise InputError(f"--tile-overlap is {self.tile_overlap}; it must be at least 0.")

    @property
    def threads(self) -> int:
        """Threads that decode, and as many that encode: half the cores, 2 to 8, unless asked."""
        return self.workers or max(2, min(MOST_WORKERS, (os.cpu_count() or 1) // 2))

    def needs_exact_rows(self, size: tuple[int, int], scale: int) -> bool:
        """Whether rows of a picture of this (width, height) are changed after the network, and so
        must stay floats until then.
        """
        width, height = size
        native = (width * scale, height * scale)
        return self.color_fix != "none" or self.resize.size(width, height, scale) != native

    def tiling(self, scale: int) -> tuple[int, int]:
        """Tile side and overlap, in pixels of the small picture.

        Raises:
            InputError: the overlap would not leave any tile of its own.
        """
        size = self.tile or max(MIN_TILE, TILE_OUTPUT // scale)
        overlap = (
            min(OVERLAP_OUTPUT // scale, size // 2)
            if self.tile_overlap is None
            else self.tile_overlap
        )
        if overlap >= size:
            raise InputError(f"--tile-overlap is {overlap}; it must be below the tile, {size}.")
        return size, overlap
