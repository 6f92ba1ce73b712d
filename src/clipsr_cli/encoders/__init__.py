"""Write pictures: rows come in blocks, and a file is put in its place in one step.

PNG, TIFF and large JPEG are encoded as the rows come, so that a picture may be larger than memory;
the others are put together first.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from clipsr_cli.encoders import jpeg, png, tiff, whole
from clipsr_cli.encoders.place import beside, place
from clipsr_cli.errors import ImageError, reason
from clipsr_cli.pictures import FORMATS, Format, Layout, Picture, to_float, to_integer

__all__ = ["beside", "is_streamed", "write", "write_rows"]

logger = logging.getLogger(__name__)

# A JPEG of more pixels is encoded as its rows come, by libvips; others by Pillow.
WHOLE_PIXELS = 2**24


def write(picture: Picture, path: Path, form: str, *, quality: int | None = None) -> None:
    """Encode a picture and put it in its place: see ``write_rows``."""
    write_rows([picture.planes], picture.layout, path, form, quality=quality)


def write_rows(
    blocks: Iterable[np.ndarray],
    layout: Layout,
    path: Path,
    form: str,
    *,
    quality: int | None = None,
) -> None:
    """Encode a picture block by block and put it in its place in one step, so that ``path`` is
    never half a picture.

    What the format cannot hold is brought to what it can: 16 bit to 8, alpha onto white.

    Args:
        blocks: its rows from the top, (n, width, bands) of the layout's type, any number at a time.
        layout: what the rows are.
        path: where; its folder is made where missing.
        form: a name in ``pictures.FORMATS``.
        quality: 1 to 100 for the lossy formats; None is the format's own default.

    Raises:
        ImageError: it cannot be encoded or written. What ``blocks`` raises goes its way.
    """
    into = FORMATS[form]
    made = _Watched(blocks, layout.height)
    try:
        with place(path) as file:
            if form == "png":
                png.write(made, layout, file)
            elif form == "tiff":
                tiff.write(made, layout, file)
            else:
                rows, simple = _simplified(made, layout, into, path.name)
                quality = into.quality if quality is None else quality
                if form == "jpg" and is_streamed(form, layout.width * layout.height):
                    jpeg.write(rows, simple, file, quality, path.name)
                else:
                    whole.write(rows, simple, file, into, quality, path.name)
            made.check()
    except Exception as error:
        if made.error is not None:
            raise made.error from None
        raise ImageError(f"Cannot write {path}: {reason(error)}.") from error


def is_streamed(form: str, pixels: int) -> bool:
    """Whether a picture of so many pixels is encoded as its rows come, in little memory."""
    return form in ("png", "tiff") or (form == "jpg" and pixels > WHOLE_PIXELS)


class _Watched:
    """Blocks of rows, so many in all, and what went wrong where they come from."""

    def __init__(self, blocks: Iterable[np.ndarray], height: int) -> None:
        self.blocks = blocks
        self.height = height
        self.come = 0
        self.error: Exception | None = None

    def check(self) -> None:
        """Refuse a picture of which not all rows were taken, whatever an encoder made of it."""
        if self.error is not None:
            raise self.error
        assert self.come == self.height, (self.come, self.height)

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            for block in self.blocks:
                self.come += len(block)
                yield block
        except Exception as error:
            self.error = error
            raise
        self.check()


def _simplified(
    blocks: Iterable[np.ndarray], layout: Layout, into: Format, name: str
) -> tuple[Iterator[np.ndarray], Layout]:
    """8-bit rows of a kind that a lossy format holds, and what they are then."""
    alpha = layout.alpha and into.alpha
    if layout.alpha and not alpha:
        logger.warning("%s cannot hold transparency: laid on white in %s", into.pillow, name)
    gray = layout.gray and into.gray
    metadata = layout.metadata
    if layout.gray and not gray:
        # A gray picture written as RGB would no longer fit its gray profile.
        metadata = replace(metadata, icc=None)
    simple = replace(layout, dtype=np.dtype(np.uint8), gray=gray, alpha=alpha, metadata=metadata)

    def rows() -> Iterator[np.ndarray]:
        for block in blocks:
            if block.dtype != np.uint8:
                block = to_integer(to_float(block), np.uint8)
            if layout.alpha and not alpha:
                block = _on_white(block)
            if layout.gray and not gray:
                block = np.concatenate([block[:, :, :1]] * 3 + [block[:, :, 1:]], axis=2)
            yield np.ascontiguousarray(block)

    return rows(), simple


def _on_white(block: np.ndarray) -> np.ndarray:
    """Rows with alpha, (n, W, 2 or 4), laid on white: (n, W, 1 or 3)."""
    mode = "L" if block.shape[2] == 2 else "RGB"
    white = Image.new("RGBA", (block.shape[1], block.shape[0]), "white")
    laid = Image.alpha_composite(white, Image.fromarray(block).convert("RGBA"))
    return np.atleast_3d(np.asarray(laid.convert(mode)))
