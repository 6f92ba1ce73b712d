"""Write pictures: each format in its own way, each file in one step.

8-bit pictures go through Pillow. It holds 16-bit RGB as 8 bit, so 16-bit PNG goes through libvips;
and as neither writes the EXIF of a compressed TIFF, TIFF is put together here.
"""

import logging
import zlib
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from clipsr_cli.errors import ImageError, reason
from clipsr_cli.pictures import FORMATS, Format, Picture, kept_exif, to_float, to_integer

logger = logging.getLogger(__name__)

# What one JPEG marker holds.
MAX_JPEG_EXIF = 65533
# Pictures are large: a little larger file for much less time.
COMPRESSION = 2
TIFF_STRIP = 2**20


def write(picture: Picture, path: Path, form: str, *, quality: int | None = None) -> None:
    """Encode a picture and put it in its place in one step, so that ``path`` is never half a
    picture.

    What the format cannot hold is brought to what it can: 16 bit to 8, alpha onto white.

    Args:
        picture: what to write.
        path: where; its folder is made where missing.
        form: a name in ``FORMATS``.
        quality: 1 to 100 for the lossy formats; None is the format's own default.

    Raises:
        ImageError: it cannot be encoded or written.
    """
    into = FORMATS[form]
    # One fixed name per output: what a killed run left behind is overwritten by the next.
    aside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "tiff":
            _write_tiff(picture, aside)
        elif picture.pixels.dtype == np.uint16 and into.sixteen_bit:
            _write_sixteen_bit_png(picture, aside)
        else:
            _write_pillow(picture, aside, into, quality)
        aside.replace(path)
    except Exception as error:
        # Where the name or the folder is impossible, so is looking for the rest.
        with suppress(OSError):
            aside.unlink()
        raise ImageError(f"Cannot write {path}: {reason(error)}.") from error


def _write_tiff(picture: Picture, path: Path) -> None:
    """TIFF 6.0, 8 or 16 bits, strips of deflated differences to the left neighbour."""
    planes, metadata = _planes(picture), picture.metadata
    height, width, bands = planes.shape
    planes = planes.astype(planes.dtype.newbyteorder("<"), copy=False)
    rows = max(1, TIFF_STRIP // (width * bands * planes.itemsize))
    strips = []
    for top in range(0, height, rows):
        strip = planes[top : top + rows].copy()
        strip[:, 1:] -= planes[top : top + rows, :-1]
        strips.append(zlib.compress(strip.tobytes(), COMPRESSION))
    lengths = [len(strip) for strip in strips]

    directory = TiffImagePlugin.ImageFileDirectory_v2()
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        directory.update(kept_exif(exif))
    directory[TiffImagePlugin.IMAGEWIDTH] = width
    directory[TiffImagePlugin.IMAGELENGTH] = height
    directory[TiffImagePlugin.BITSPERSAMPLE] = (8 * planes.itemsize,) * bands
    directory[TiffImagePlugin.COMPRESSION] = 8
    directory[TiffImagePlugin.PREDICTOR] = 2
    directory[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if picture.gray else 2
    directory[TiffImagePlugin.SAMPLESPERPIXEL] = bands
    if picture.alpha is not None:
        directory[TiffImagePlugin.EXTRASAMPLES] = (2,)
    directory[TiffImagePlugin.ROWSPERSTRIP] = rows
    # Counted from the end of the directory; it adds its own length.
    directory[TiffImagePlugin.STRIPOFFSETS] = tuple(accumulate(lengths[:-1], initial=0))
    directory[TiffImagePlugin.STRIPBYTECOUNTS] = tuple(lengths)
    if metadata.dpi:
        directory[TiffImagePlugin.RESOLUTION_UNIT] = 2
        directory[TiffImagePlugin.X_RESOLUTION] = metadata.dpi[0]
        directory[TiffImagePlugin.Y_RESOLUTION] = metadata.dpi[1]
    if metadata.icc:
        directory[TiffImagePlugin.ICCPROFILE] = metadata.icc
    with path.open("wb") as file:
        directory.save(file)
        file.writelines(strips)


def _write_sixteen_bit_png(picture: Picture, path: Path) -> None:
    import pyvips  # noqa: PLC0415 - a large library that few pictures need

    image = pyvips.Image.new_from_array(_planes(picture))
    image = image.copy(interpretation="grey16" if picture.gray else "rgb16")
    encoded = image.pngsave_buffer(compression=COMPRESSION, bitdepth=16, keep="none")
    metadata = picture.metadata
    chunks = []
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        across, down = (round(value / 0.0254).to_bytes(4, "big") for value in metadata.dpi)
        chunks.append((b"pHYs", across + down + b"\1"))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    # libvips makes up a resolution and EXIF where there are none: what it has between the header
    # (33 bytes) and the pixels is replaced.
    with path.open("wb") as file:
        file.write(encoded[:33])
        for kind, data in chunks:
            checksum = zlib.crc32(kind + data).to_bytes(4, "big")
            file.write(len(data).to_bytes(4, "big") + kind + data + checksum)
        file.write(memoryview(encoded)[encoded.index(b"IDAT") - 4 :])


def _write_pillow(picture: Picture, path: Path, into: Format, quality: int | None) -> None:
    planes = _planes(picture)
    if planes.dtype == np.uint16:
        planes = to_integer(to_float(planes), np.uint8)
    image = Image.fromarray(planes[:, :, 0] if planes.shape[2] == 1 else planes)
    if picture.alpha is not None and not into.alpha:
        logger.warning(
            "%s cannot hold transparency: laid on white in %s", into.pillow, path.name[1:-5]
        )
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA")).convert(
            "L" if picture.gray else "RGB"
        )
    if picture.gray and not into.gray:
        image = image.convert("RGBA" if picture.alpha is not None else "RGB")

    options: dict[str, Any] = {}
    if into.quality is not None:
        options["quality"] = into.quality if quality is None else quality
    if into.pillow == "JPEG":
        options["subsampling"] = 0
    elif into.pillow == "PNG":
        options["compress_level"] = COMPRESSION
    metadata = picture.metadata
    # A gray picture written as RGB would no longer fit its gray profile.
    if metadata.icc and (into.gray or not picture.gray):
        options["icc_profile"] = metadata.icc
    if metadata.exif and into.pillow == "JPEG" and len(metadata.exif) > MAX_JPEG_EXIF:
        logger.warning("JPEG cannot hold EXIF this large: left out of %s", path.name[1:-5])
    elif metadata.exif:
        options["exif"] = metadata.exif
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    image.save(path, format=into.pillow, **options)


def _planes(picture: Picture) -> np.ndarray:
    """The picture's channels as they are stored: (H, W, 1 to 4)."""
    colour = picture.pixels[:, :, :1] if picture.gray else picture.pixels
    planes = colour if picture.alpha is None else np.dstack([colour, picture.alpha])
    return np.ascontiguousarray(planes)
