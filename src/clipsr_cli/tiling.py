"""Which crops cover an image, and with which weights their enlargements blend back into one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Self

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A rectangle of the small image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Tiles of one shape that cover an image, counted row by row.

    Only where rows and columns start is kept: an image of a million tiles costs nothing.

    Attributes:
        tops, lefts: first pixels of the rows and columns of tiles, in order.
        height, width: the tiles' shape, in pixels.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    width: int

    @classmethod
    def cover(cls, height: int, width: int, *, size: int, overlap: int) -> Self:
        """Cover an image; one that fits into a tile is one tile of its own shape.

        Args:
            height, width: the image, in pixels, at least 1.
            size: the tile's side, at least 1; a shorter image side is taken whole.
            overlap: least number of pixels that neighbours share, below ``size``.
        """
        assert 0 <= overlap < size, (overlap, size)
        tile_height, tile_width = min(height, size), min(width, size)
        return cls(
            tops=_starts(height, tile_height, overlap),
            lefts=_starts(width, tile_width, overlap),
            height=tile_height,
            width=tile_width,
        )

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, column = divmod(index, len(self.lefts))
        return Tile(
            top=self.tops[row], left=self.lefts[column], height=self.height, width=self.width
        )

    def __iter__(self) -> Iterator[Tile]:
        return (self[index] for index in range(len(self)))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of every tile."""
        return self.height, self.width

    @cached_property
    def bottom(self) -> int:
        """The image's height."""
        return self.tops[-1] + self.height

    @cached_property
    def right(self) -> int:
        """The image's width."""
        return self.lefts[-1] + self.width

    def weights(self, scale: int) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """How much a tile's enlargement counts at each of its rows, by its top, and at each of its
        columns, by its left.

        The weights fall off linearly towards a tile's inner edges. A pixel's weight is its row's
        times its column's, and those of all tiles sum to 1 at every pixel of the enlarged image, so
        that blending is a plain sum.

        Returns:
            Float32 arrays of (height * scale,) and of (width * scale,).
        """
        return (
            _axis_weights(self.tops, self.height, scale),
            _axis_weights(self.lefts, self.width, scale),
        )


def _starts(length: int, size: int, overlap: int) -> tuple[int, ...]:
    """Evenly spread first pixels of the tiles along one side."""
    if length <= size:
        return (0,)
    count = ceil((length - overlap) / (size - overlap))
    return tuple(round(i * (length - size) / (count - 1)) for i in range(count))


def _axis_weights(starts: Sequence[int], size: int, scale: int) -> dict[int, np.ndarray]:
    """Weights along one side for every start: they sum to 1 at each enlarged pixel."""
    # The distance to the nearer edge of the tile, counted from the middle of a pixel.
    places = np.arange(size * scale) + 0.5
    ramp = np.minimum(places, size * scale - places)
    total = np.zeros((starts[-1] + size) * scale)
    for start in starts:
        total[start * scale : (start + size) * scale] += ramp
    return {
        start: (ramp / total[start * scale : (start + size) * scale]).astype(np.float32)
        for start in starts
    }
