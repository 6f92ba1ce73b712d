"""Turn a picture's enlarged rows into those of its file: colours, size, gray, depth, alpha."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from clipsr_cli import pictures
from clipsr_cli.colour import fix_colour
from clipsr_cli.pictures import Layout
from clipsr_cli.rows import resize_rows
from clipsr_cli.upscale_options import UpscaleOptions
from clipsr_cli.upscaling.canvas import Canvas


class Finish:
    """What is to be done to one picture's rows between the network and the file.

    Attributes:
        layout: what the file's rows are.
    """

    def __init__(self, canvas: Canvas, options: UpscaleOptions) -> None:
        picture = canvas.picture
        self.canvas = canvas
        self.color_fix = options.color_fix
        self.native = (picture.size[0] * canvas.scale, picture.size[1] * canvas.scale)
        width, height = options.resize.size(*picture.size, canvas.scale)
        self.layout = Layout(
            width=width,
            height=height,
            dtype=picture.pixels.dtype,
            gray=picture.gray,
            alpha=picture.alpha is not None,
            metadata=picture.metadata,
        )
        # Otherwise rows may be rounded where they are, which is where the network is.
        self.exact = options.needs_exact_rows(picture.size, canvas.scale)

    @torch.inference_mode()
    def begin(self, rows: Tensor) -> Tensor:
        """Rows (n, W, 3) as they are handed over: rounded already, unless exact ones are needed."""
        return rows if self.exact else self._round(rows)

    def rows(self, blocks: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """The file's rows, (n, width, bands), from what ``begin`` gave."""
        if self.exact:
            exact = (block.cpu().numpy() for block in blocks)
            blocks = (self._round(torch.from_numpy(block)) for block in self._changed(exact))
        picture, layout = self.canvas.picture, self.layout
        alpha = None
        if picture.alpha is not None:
            alpha = pictures.to_float(picture.alpha)[:, :, None]
        top = 0
        for block in blocks:
            # 16-bit values come as 32-bit integers, which every device knows.
            whole = block.cpu().numpy().astype(layout.dtype, copy=False)
            bottom = top + len(whole)
            if alpha is not None:
                ratio = alpha.shape[0] / layout.height
                part = (top * ratio, min(bottom * ratio, alpha.shape[0]))
                mask = pictures.resize(alpha, (layout.width, len(whole)), part)
                whole = np.concatenate([whole, pictures.to_integer(mask, layout.dtype)], axis=2)
            yield whole
            top = bottom

    def _changed(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Rows of floats, with their colours and their size changed."""
        if self.color_fix != "none":
            clipped = (np.clip(block, 0, 1) for block in blocks)
            low = pictures.to_float(self.canvas.low)
            blocks = fix_colour(clipped, low, self.native, self.color_fix)
        return resize_rows(blocks, self.native, (self.layout.width, self.layout.height))

    def _round(self, rows: Tensor) -> Tensor:
        """Floats about [0, 1], (n, W, 3) -> whole numbers of the layout's colours, (n, W, 1 or
        3).
        """
        if self.layout.gray:
            rows = rows.mean(dim=2, keepdim=True)
        peak = np.iinfo(self.layout.dtype).max
        whole = (rows.clamp(0, 1) * peak).round()
        return whole.to(torch.uint8 if peak == 255 else torch.int32)
