"""One picture on its way: tiles are cut from it, and their enlargements come back as whole rows.

Only the rows that tiles still change are held, so that a picture may be larger than memory.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from clipsr_cli import pictures
from clipsr_cli.colour import fill_transparent
from clipsr_cli.pictures import Picture
from clipsr_cli.tiling import Grid


class Canvas:
    """Cuts a picture into tiles, and blends what becomes of them into rows.

    Attributes:
        picture: what came.
        low: its colours (h, w, 3), visible ones under transparency too.
        grid: the tiles.
    """

    def __init__(self, picture: Picture, *, scale: int, size: int, overlap: int) -> None:
        self.picture = picture
        self.scale = scale
        self.low = picture.pixels
        if picture.alpha is not None and picture.alpha.min() == 0:
            filled = fill_transparent(
                pictures.to_float(picture.pixels), pictures.to_float(picture.alpha)
            )
            self.low = pictures.to_integer(filled, picture.pixels.dtype)
        height, width = self.low.shape[:2]
        self.grid = Grid.cover(height, width, size=size, overlap=overlap)
        self._next = 0
        self._device: torch.device | None = None
        self._band: Tensor | None = None
        self._weights: tuple[dict[int, Tensor], dict[int, Tensor]] | None = None

    @property
    def complete(self) -> bool:
        """Whether every tile has come back."""
        return self._next == len(self.grid)

    def cut(self, index: int) -> np.ndarray:
        """A tile of the small picture: (h, w, 3) float32 in [0, 1]."""
        tile = self.grid[index]
        return pictures.to_float(self.low[tile.top : tile.bottom, tile.left : tile.right])

    @torch.inference_mode()
    def add(self, index: int, high: Tensor) -> Tensor | None:
        """Blend a tile's enlargement in; tiles come in order.

        Args:
            index: which tile.
            high: (3, H, W), on any device; all rows are then on that of the first.

        Returns:
            The rows that are finished by it, (n, whole width, 3), if there are any.
        """
        assert index == self._next, (index, self._next)
        self._next += 1
        # A tile that did not fit into a device's memory may come from elsewhere.
        self._device = self._device or high.device
        high = high.to(self._device)
        pixels = high.permute(1, 2, 0)
        if len(self.grid) == 1:
            return pixels
        tile, scale = self.grid[index], self.scale
        down, across = self._weights_on(high.device)
        band = self._band
        if band is None:
            band = pixels.new_zeros(tile.height * scale, self.grid.right * scale, 3)
        weight = torch.outer(down[tile.top], across[tile.left])[:, :, None]
        band[:, tile.left * scale : tile.right * scale].addcmul_(pixels, weight)
        self._band = band
        row, column = divmod(index, len(self.grid.lefts))
        if column < len(self.grid.lefts) - 1:
            return None
        if row == len(self.grid.tops) - 1:
            self._band = None
            return band
        # What the next row of tiles starts below is finished; the rest moves up.
        done = (self.grid.tops[row + 1] - tile.top) * scale
        self._band = torch.cat([band[done:], torch.zeros_like(band[:done])])
        return band[:done]

    def _weights_on(self, device: torch.device) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        if self._weights is None:
            down, across = (
                {start: torch.from_numpy(line).to(device) for start, line in lines.items()}
                for lines in self.grid.weights(self.scale)
            )
            self._weights = down, across
        return self._weights


def stitch(canvas: Canvas, tiles: Iterator[Tensor]) -> Tensor:
    """All tiles' enlargements, in order, as one (3, H, W)."""
    rows = (canvas.add(index, tile) for index, tile in enumerate(tiles))
    return torch.cat([block for block in rows if block is not None]).permute(2, 0, 1)
