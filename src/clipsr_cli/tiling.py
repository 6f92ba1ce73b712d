"""Which crops cover an image, and with which weights their enlargements blend back into one."""

from dataclasses import dataclass
from math import ceil

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


def plan_tiles(height: int, width: int, *, size: int, overlap: int) -> list[Tile]:
    """Cover an image with tiles of one shape, row by row; an image that fits is one tile.

    Args:
        height, width: the image, in pixels, at least 1.
        size: the tile's side, at least 1; a shorter image side is taken whole.
        overlap: least number of pixels that neighbours share, below ``size``.
    """
    assert 0 <= overlap < size, (overlap, size)
    tile_height, tile_width = min(height, size), min(width, size)
    return [
        Tile(top=top, left=left, height=tile_height, width=tile_width)
        for top in _starts(height, tile_height, overlap)
        for left in _starts(width, tile_width, overlap)
    ]


def blend_weights(
    height: int, width: int, tiles: list[Tile], scale: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """How much each tile's enlargement counts at each of its rows and columns.

    The weights fall off linearly towards a tile's inner edges. A pixel's weight is its row's times
    its column's, and those of all tiles sum to 1 at every pixel of the enlarged image, so that
    blending is a plain sum.

    Returns:
        Float32 arrays (tile height * scale,) and (tile width * scale,) for each tile.
    """
    rows = _axis_weights([t.top for t in tiles], tiles[0].height, height, scale)
    columns = _axis_weights([t.left for t in tiles], tiles[0].width, width, scale)
    return [(rows[t.top], columns[t.left]) for t in tiles]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    """Evenly spread first pixels of the tiles along one side."""
    if length <= size:
        return [0]
    count = ceil((length - overlap) / (size - overlap))
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def _axis_weights(starts: list[int], size: int, length: int, scale: int) -> dict[int, np.ndarray]:
    """Weights along one side for every distinct start: they sum to 1 at each enlarged pixel."""
    starts = sorted(set(starts))
    # The distance to the nearer edge of the tile, counted from the middle of a pixel.
    places = np.arange(size * scale) + 0.5
    ramp = np.minimum(places, size * scale - places)
    total = np.zeros(length * scale)
    for start in starts:
        total[start * scale : (start + size) * scale] += ramp
    return {
        start: (ramp / total[start * scale : (start + size) * scale]).astype(np.float32)
        for start in starts
    }
