"""PNG of 8 or 16 bits, encoded as the rows come.

Every row is the difference to Paeth's prediction, deflated with runs only: on enlarged photos that
is as small as zlib's level 6 and several times faster (benchmarks/RESULTS.md).

Source: PNG specification, https://www.w3.org/TR/png/.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

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
    file.write(b"\x89PNG\r\n\x1a\n")
    bits = 8 * layout.dtype.itemsize
    size = layout.width.to_bytes(4, "big") + layout.height.to_bytes(4, "big")
    _chunk(file, b"IHDR", size + bytes((bits, COLOUR_TYPES[layout.bands - 1], 0, 0, 0)))
    metadata = layout.metadata
    if metadata.icc:
        _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        across, down = (round(value / 0.0254).to_bytes(4, "big") for value in metadata.dpi)
        _chunk(file, b"pHYs", across + down + b"\1")
    if metadata.exif:
        _chunk(file, b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    # Chunks of one size: the file shall not depend on the blocks that the rows came in.
    deflate, packed = zlib.compressobj(1, strategy=zlib.Z_RLE), bytearray()
    for filtered in _filtered(blocks, layout):
        packed += deflate.compress(filtered.data)
        while len(packed) >= CHUNK:
            _chunk(file, b"IDAT", packed[:CHUNK])
            del packed[:CHUNK]
    packed += deflate.flush()
    for start in range(0, len(packed), CHUNK):
        _chunk(file, b"IDAT", packed[start : start + CHUNK])
    _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, kind: bytes, data: bytes | bytearray) -> None:
    file.write(len(data).to_bytes(4, "big") + kind)
    file.write(data)
    file.write(zlib.crc32(data, zlib.crc32(kind)).to_bytes(4, "big"))


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
