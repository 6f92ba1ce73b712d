"""TIFF of 8 or 16 bits, encoded as the rows come.

Neither Pillow nor libvips writes the EXIF of a compressed TIFF, so it is put together here: TIFF
6.0, strips of deflated differences to the left neighbour.
"""

import zlib
from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import ceil
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from clipsr_cli.pictures import Layout, kept_exif

# Bytes of a strip before it is deflated.
STRIP = 2**20
# Larger files are slower to write, and hardly smaller ones to make.
COMPRESSION = 2
LONG = 4
# Where the last strip may end: places in the file are numbers of four bytes.
LARGEST = 2**32


def write(blocks: Iterable[np.ndarray], layout: Layout, file: BinaryIO) -> None:
    """Encode a picture's rows (n, width, bands) into a file.

    Raises:
        ValueError: it is larger than the 4 GiB that a TIFF can hold.
    """
    rows = max(1, STRIP // (layout.width * layout.bands * layout.dtype.itemsize))
    # The directory stands before the strips that it describes, and is as long as it will be.
    lengths = [0] * ceil(layout.height / rows)
    end = _directory(layout, rows, lengths).save(file)
    little = layout.dtype.newbyteorder("<")
    for index, strip in enumerate(_strips(blocks, rows)):
        ordered = strip.astype(little, copy=False)
        differences = ordered.copy()
        differences[:, 1:] -= ordered[:, :-1]
        packed = zlib.compress(differences.tobytes(), COMPRESSION)
        lengths[index] = len(packed)
        end += len(packed)
        if end > LARGEST:
            raise ValueError("a TIFF holds 4 GiB at most; --ext png holds more")
        file.write(packed)
    file.seek(0)
    _directory(layout, rows, lengths).save(file)


def _directory(
    layout: Layout, rows: int, lengths: list[int]
) -> TiffImagePlugin.ImageFileDirectory_v2:
    metadata = layout.metadata
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        directory.update(kept_exif(exif))
    directory[TiffImagePlugin.IMAGEWIDTH] = layout.width
    directory[TiffImagePlugin.IMAGELENGTH] = layout.height
    directory[TiffImagePlugin.BITSPERSAMPLE] = (8 * layout.dtype.itemsize,) * layout.bands
    directory[TiffImagePlugin.COMPRESSION] = 8
    directory[TiffImagePlugin.PREDICTOR] = 2
    directory[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if layout.gray else 2
    directory[TiffImagePlugin.SAMPLESPERPIXEL] = layout.bands
    if layout.alpha:
        directory[TiffImagePlugin.EXTRASAMPLES] = (2,)
    directory[TiffImagePlugin.ROWSPERSTRIP] = rows
    for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS):
        # Whatever the numbers, they take the same room.
        directory.tagtype[tag] = LONG
    # Counted from the end of the directory; it adds its own length.
    directory[TiffImagePlugin.STRIPOFFSETS] = tuple(accumulate(lengths[:-1], initial=0))
    directory[TiffImagePlugin.STRIPBYTECOUNTS] = tuple(lengths)
    if metadata.dpi:
        directory[TiffImagePlugin.RESOLUTION_UNIT] = 2
        directory[TiffImagePlugin.X_RESOLUTION] = metadata.dpi[0]
        directory[TiffImagePlugin.Y_RESOLUTION] = metadata.dpi[1]
    if metadata.icc:
        directory[TiffImagePlugin.ICCPROFILE] = metadata.icc
    return directory


def _strips(blocks: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same rows, so many at a time but for the last."""
    left: list[np.ndarray] = []
    held = 0
    for block in blocks:
        left.append(block)
        held += len(block)
        if held < rows:
            continue
        joined = left[0] if len(left) == 1 else np.concatenate(left)
        whole = held - held % rows
        for top in range(0, whole, rows):
            yield joined[top : top + rows]
        left, held = ([joined[whole:]] if held % rows else []), held % rows
    if held:
        yield left[0] if len(left) == 1 else np.concatenate(left)
