"""PNG of 8 or 16 bits, encoded as the rows come.

Every row is the difference to Paeth's prediction, deflated with runs only: on enlarged photos that
is as small as zlib's level 6 and several times faster (benchmarks/RESULTS.md).

Source: PNG specification, https://www.w3.org/TR/png/.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from clipsr_cli.pictures import Layout

# Bytes that are filtered at once; the arithmetic takes some ten times as many.
PIECE = 2**20
CHUNK = 2**18
# Gray, gray with alpha, RGB, RGB with alpha.
COLOUR_TYPES = (0, 4, 2, 6)
PAETH = 4


def write(blocks: Iterable[np.ndarray], layout: Layout, file: BinaryIO) -> None:
    """Encode a picture's rows (n, width, bands) into a file."""
    deflate = zlib.compressobj(1, strategy=zlib.Z_RLE)
    file.writelines(_pieces(_filtered(blocks, layout), layout, deflate))


def stored(blocks: Iterable[np.ndarray], layout: Layout) -> Iterator[bytes]:
    """The same picture as a PNG that is not compressed, piece by piece, for another program to
    read.
    """
    return _pieces(_plain(blocks, layout), layout, zlib.compressobj(0))


def _pieces(rows: Iterable[np.ndarray], layout: Layout, deflate: Any) -> Iterator[bytes]:
    """A file, from its rows as PNG stores them."""
    yield b"\x89PNG\r\n\x1a\n"
    bits = 8 * layout.dtype.itemsize
    size = layout.width.to_bytes(4, "big") + layout.height.to_bytes(4, "big")
    yield _chunk(b"IHDR", size + bytes((bits, COLOUR_TYPES[layout.bands - 1], 0, 0, 0)))
    metadata = layout.metadata
    if metadata.icc:
        yield _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        across, down = (round(value / 0.0254).to_bytes(4, "big") for value in metadata.dpi)
        yield _chunk(b"pHYs", across + down + b"\1")
    if metadata.exif:
        yield _chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    # Chunks of one size: the file shall not depend on the blocks that the rows came in.
    packed = bytearray()
    for some in rows:
        packed += deflate.compress(some.data)
        while len(packed) >= CHUNK:
            yield _chunk(b"IDAT", packed[:CHUNK])
            del packed[:CHUNK]
    packed += deflate.flush()
    for start in range(0, len(packed), CHUNK):
        yield _chunk(b"IDAT", packed[start : start + CHUNK])
    yield _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes | bytearray) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind)).to_bytes(4, "big")
    return b"".join((len(data).to_bytes(4, "big"), kind, data, checksum))


def _plain(blocks: Iterable[np.ndarray], layout: Layout) -> Iterator[np.ndarray]:
    """8-bit rows with the number of no filter in front, (n, 1 + bytes) uint8."""
    for block in blocks:
        rows = np.zeros((len(block), 1 + layout.width * layout.bands), np.uint8)
        rows[:, 1:] = block.reshape(len(block), layout.width * layout.bands)
        yield rows


def _filtered(blocks: Iterable[np.ndarray], layout: Layout) -> Iterator[np.ndarray]:
    """The rows as PNG stores them: a filter's number, and differences, (n, 1 + bytes) uint8."""
    pixel = layout.bands * layout.dtype.itemsize
    rows = max(1, PIECE // (layout.width * pixel))
    # A frame of zeros around the picture: the row above, and the pixel to the left.
    above = np.zeros((1, layout.width, pixel), np.uint8)
    for block in blocks:
        ordered = block.astype(layout.dtype.newbyteorder(">"), copy=False)
        every = np.ascontiguousarray(ordered).view(np.uint8).reshape(-1, layout.width, pixel)
        for top in range(0, len(every), rows):
            piece = every[top : top + rows]
            framed = np.zeros((len(piece) + 1, layout.width + 1, pixel), np.int16)
            framed[:1, 1:] = above
            framed[1:, 1:] = piece
            above = piece[-1:]
            stored = np.empty((len(piece), 1 + layout.width * pixel), np.uint8)
            stored[:, 0] = PAETH
            difference = piece - _predicted(framed).astype(np.uint8)
            stored[:, 1:] = difference.reshape(len(piece), -1)
            yield stored


def _predicted(framed: np.ndarray) -> np.ndarray:
    """Paeth's prediction of every byte from those to the left, above, and left above.

    Shapes:
        framed   (n + 1, W + 1, C)  int16
        returns  (n, W, C)          int16
    """
    left, above, corner = framed[1:, :-1], framed[:-1, 1:], framed[:-1, :-1]
    to_left = np.abs(above - corner)
    to_above = np.abs(left - corner)
    to_corner = np.abs(left + above - 2 * corner)
    nearer = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, nearer)
