"""Find and read pictures: upright, with alpha, gray, 16 bit and metadata as the file means them.

8-bit pictures go through Pillow. It reads 16-bit RGB as 8 bit, so 16-bit ones go through libvips.
"""

import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from clipsr_cli.errors import ImageError, reason
from clipsr_cli.pictures import Metadata, Picture, kept_exif

logger = logging.getLogger(__name__)

READABLE = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif"})
# What a file may turn out to hold, whatever its extension says.
DECODERS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF")
# What of it is understood: Pillow's modes of at most 8 bits a channel.
MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr", "CMYK"})
# Above this an input is taken for a decompression bomb, unless somebody says otherwise.
MAX_INPUT_PIXELS = 300_000_000
ORIENTATION = 0x0112
# EXIF's unit of resolution that is not the inch.
PER_CENTIMETRE = 3
# Bytes that are inflated at a time to count them.
INFLATED = 2**20
# Channels of PNG's colour types.
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# EXIF orientation -> whether rows and columns trade places, then rows reverse, then columns.
TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def find(folder: Path, *, recursive: bool = True, pattern: str | None = None) -> list[Path]:
    """The pictures in a folder, by extension, sorted; hidden files and folders are left out.

    A subfolder that cannot be listed is left out with a warning.

    Args:
        folder: where to look.
        recursive: also in its subfolders.
        pattern: only names that match this glob.
    """
    found = []
    for parent, folders, names in os.walk(folder, onerror=_warn_unlisted):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() not in READABLE or name.startswith("."):
                continue
            if pattern is None or fnmatch(name, pattern):
                found.append(Path(parent, name))
    return sorted(found)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a picture is, as far as it can be told without decoding it.

    Attributes:
        size: (width, height) of the upright picture, in pixels.
        sixteen_bit: it holds 16 bits a channel.
    """

    size: tuple[int, int]
    sixteen_bit: bool


def read_size(path: Path, *, max_pixels: int | None = MAX_INPUT_PIXELS) -> tuple[int, int]:
    """Width and height of an upright picture: see ``read_header``."""
    return read_header(path, max_pixels=max_pixels).size


def read_header(path: Path, *, max_pixels: int | None = MAX_INPUT_PIXELS) -> Header:
    """What is known of a picture from its header alone.

    An orientation that a PNG names only behind its pixels is not seen.

    Raises:
        ImageError: it cannot be opened, is animated, or is too large.
    """
    with _open(path, max_pixels) as image:
        try:
            # A PNG's own getexif would decode the pixels, in search of EXIF behind them.
            orientation = Image.Image.getexif(image).get(ORIENTATION, 1)
        except Exception:
            # Broken EXIF; `read` tells.
            orientation = 1
        # Pillow gives a TIFF's size upright.
        turned = image.format != "TIFF" and TURNS.get(orientation, TURNS[1])[0]
        size = (image.height, image.width) if turned else (image.width, image.height)
        return Header(size=size, sixteen_bit=_is_sixteen_bit(image))


def read(
    path: Path, *, max_pixels: int | None = MAX_INPUT_PIXELS, limit_option: str = ""
) -> Picture:
    """Decode a picture, turned upright.

    Palette pictures become RGB, CMYK becomes sRGB by its own profile where it has one. Broken EXIF
    is left out with a warning.

    Args:
        path: the file.
        max_pixels: a larger one is taken for a decompression bomb; None for files of our own.
        limit_option: what raises that limit, for the message; "" where nothing does.

    Raises:
        ImageError: it is broken, animated, too large, or of an unsupported kind.
    """
    with _open(path, max_pixels, limit_option) as image:
        # Asked first: once Pillow has loaded a picture it no longer knows.
        if _is_sixteen_bit(image):
            planes = _decode_sixteen_bit(image, path)
            metadata, orientation = _metadata(image, path)
            return _picture(_turn(planes, orientation), metadata)
        if image.mode not in MODES:
            raise ImageError(
                f"{path} has the unsupported pixel type {image.mode!r}.",
                hint="Convert it to 8- or 16-bit gray or RGB first.",
            )
        _spread_key(image)
        # Loading turns a TIFF upright and clears its orientation.
        image.load()
        if image.format == "PNG":
            _refuse_missing_rows(path)
        metadata, orientation = _metadata(image, path)
        upright: Image.Image = image
        if image.mode == "CMYK":
            upright, metadata = _from_cmyk(image, metadata)
        return _picture(_turn(_channels(upright), orientation), metadata)


def from_pillow(image: Image.Image, metadata: Metadata | None = None) -> Picture:
    """A Pillow image of 8 bits a channel as a picture: palettes and colour keys resolved."""
    return _picture(_channels(image), metadata or Metadata())


def _several(image: ImageFile) -> str:
    """What a file holds beside its first picture, in words; nothing where it is the only one."""
    # A camera's MPO is a JPEG whose other frames are previews or the other eye's view.
    if image.format == "MPO":
        return ""
    if image.format != "TIFF":
        frames = getattr(image, "n_frames", 1)
        return f"{frames} frames" if frames > 1 else ""
    # To count a TIFF's pages takes time in the square of their number.
    try:
        image.seek(1)
    except EOFError:
        image.seek(0)
        return ""
    return "more than one page"


@contextmanager
def _open(path: Path, max_pixels: int | None, limit_option: str = "") -> Iterator[ImageFile]:
    """A file's picture, not decoded yet; whatever goes wrong while it is open is an ImageError."""
    # Our own limit below replaces Pillow's, which would also hit legitimate large pictures.
    Image.MAX_IMAGE_PIXELS = None
    # A pipe or a device could keep whoever reads it for ever.
    if os.path.lexists(path) and not os.path.isfile(path):  # noqa: PTH113
        raise ImageError(f"{path} is no file.")
    try:
        with Image.open(path, formats=DECODERS) as image:
            if max_pixels and image.width * image.height > max_pixels:
                raise ImageError(
                    f"{path} has {image.width} x {image.height} pixels, "
                    f"above the limit of {max_pixels:,}.",
                    hint=f"If it is no mistake, raise {limit_option}." if limit_option else "",
                )
            if several := _several(image):
                raise ImageError(
                    f"{path} is animated or has several pages ({several}).",
                    hint="Extract the frames and enlarge them one by one.",
                )
            yield image
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path} is not there any more.") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not a picture in a supported format, or is broken.") from error
    except Exception as error:
        # There is hardly an exception that no decoder raises on some broken file.
        raise ImageError(f"Cannot decode {path}: {reason(error)}.") from error


def _warn_unlisted(error: OSError) -> None:
    logger.warning("Cannot list the folder %s: %s", error.filename, error.strerror)


def _metadata(image: ImageFile, path: Path) -> tuple[Metadata, int]:
    """What a picture carries beside its pixels, less what is broken, and its EXIF orientation."""
    orientation, exif, dpi = 1, None, _dpi(image.info.get("dpi"))
    try:
        found = image.getexif()
        if not found and "exif" in image.info:
            # A JPEG's was looked at when it was opened: having failed then, it now seems empty.
            Image.Exif().load(image.info["exif"])
        orientation = found.get(ORIENTATION, 1)
        dpi = dpi or _exif_dpi(found)
        kept = Image.Exif()
        for tag, value in kept_exif(found).items():
            kept[tag] = value
        exif = kept.tobytes() if len(kept) else None
    except Exception as error:
        logger.warning("The EXIF of %s is broken and left out: %s", path, reason(error))
    icc = image.info.get("icc_profile")
    metadata = Metadata(icc=icc if isinstance(icc, bytes) else None, exif=exif, dpi=dpi)
    return metadata, orientation


def _exif_dpi(exif: Image.Exif) -> tuple[float, float] | None:
    """Pixels per inch as EXIF has them, for files that have no other place for them."""
    tags = ExifTags.Base.XResolution, ExifTags.Base.YResolution
    per_inch = 2.54 if exif.get(ExifTags.Base.ResolutionUnit) == PER_CENTIMETRE else 1.0
    return _dpi([exif.get(tag) for tag in tags], per_inch)


def _dpi(values: Any, per_inch: float = 1.0) -> tuple[float, float] | None:
    """Pixels per inch, where a file gives two numbers that every format can hold."""
    try:
        across, down = (float(value) * per_inch for value in values)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    # Pillow says 1 for a TIFF that says nothing.
    return (across, down) if 1 < across < 2**16 and 1 < down < 2**16 else None


def _is_sixteen_bit(image: ImageFile) -> bool:
    """Whether a file that is not loaded yet holds 16 bits a channel; the mode may say 8."""
    if image.format == "PNG":
        return any(";16" in str(tile[3]) for tile in image.tile)
    bits = getattr(image, "tag_v2", {}).get(TiffImagePlugin.BITSPERSAMPLE, 8)
    return 16 in (bits if isinstance(bits, tuple) else (bits,))


def _refuse_missing_rows(path: Path) -> None:
    """Refuse a PNG that claims more rows than it holds: Pillow leaves those black without a word.

    A truncated one Pillow refuses itself. Interlaced ones are let through.

    Raises:
        ImageError: rows are missing.
    """
    with path.open("rb") as file:
        header = file.read(33)
        width, height = (int.from_bytes(header[at : at + 4], "big") for at in (16, 20))
        bits, colour_type, interlaced = header[24], header[25], header[28]
        if interlaced:
            return
        row = 1 + (width * bits * PNG_CHANNELS[colour_type] + 7) // 8
        inflate, come = zlib.decompressobj(), 0
        while come < height * row and len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            end = file.tell() + int.from_bytes(head[:4], "big")
            # Never much at a time: the data may be a bomb, whatever the header says.
            while head[4:] == b"IDAT" and come < height * row and (at := file.tell()) < end:
                data = file.read(min(end - at, INFLATED))
                if not data:
                    break
                while data and come < height * row:
                    come += len(inflate.decompress(data, INFLATED))
                    data = inflate.unconsumed_tail
            # Behind the checksum.
            file.seek(end + 4)
    if come < height * row:
        raise ImageError(f"{path} claims {height} rows and holds {come // row}.")


def _spread_key(image: ImageFile) -> None:
    """Bring the transparent value of a 2- or 4-bit gray PNG to 8 bits, which Pillow does to its
    pixels only.
    """
    factors = {"L;2": 85, "L;4": 17}
    key = image.info.get("transparency")
    if image.format == "PNG" and image.tile and isinstance(key, int):
        image.info["transparency"] = key * factors.get(str(image.tile[0][3]), 1)


def _from_cmyk(image: Image.Image, metadata: Metadata) -> tuple[Image.Image, Metadata]:
    """CMYK -> sRGB; the profile that described the inks does not describe the result."""
    plain = Metadata(exif=metadata.exif, dpi=metadata.dpi)
    if metadata.icc:
        try:
            profile = ImageCms.ImageCmsProfile(BytesIO(metadata.icc))
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.buildTransform(profile, srgb, "CMYK", "RGB").apply(image), plain
        except (ImageCms.PyCMSError, OSError) as error:
            logger.warning("The CMYK profile cannot be used, converting without it: %s", error)
    return image.convert("RGB"), plain


def _channels(image: Image.Image) -> np.ndarray:
    """A Pillow image of 8 bits a channel as gray or RGB, with alpha or without: (H, W, 1 to 4)."""
    gray = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        return np.array(image.convert("LA" if gray else "RGBA"))
    return np.atleast_3d(np.array(image.convert("L" if gray else "RGB")))


def _decode_sixteen_bit(image: ImageFile, path: Path) -> np.ndarray:
    """The pixels of a PNG or TIFF of 16 bits a channel, not turned: (H, W, 1 to 4) uint16."""
    import pyvips  # noqa: PLC0415 - a large library that few pictures need

    # libvips would keep the last 100 pictures in memory.
    pyvips.cache_set_max(0)
    load = pyvips.Image.pngload_buffer if image.format == "PNG" else pyvips.Image.tiffload_buffer
    # Unless told to fail, it makes up what a truncated file lacks.
    decoded = load(path.read_bytes(), fail_on="error")
    if decoded.format != "ushort" or decoded.interpretation not in ("grey16", "rgb16"):
        raise ImageError(
            f"{path} has the unsupported 16-bit pixel type "
            f"{decoded.format} {decoded.interpretation}.",
            hint="Convert it to gray or RGB first.",
        )
    planes = np.atleast_3d(decoded.numpy())
    # A TIFF may have a fourth channel that is no alpha.
    return (
        planes if image.has_transparency_data else planes[:, :, : 1 if planes.shape[2] < 3 else 3]
    )


def _turn(planes: np.ndarray, orientation: int) -> np.ndarray:
    """Rows and columns as EXIF wants them shown; an orientation it does not know is ignored."""
    swap, reverse_rows, reverse_columns = TURNS.get(orientation, TURNS[1])
    if swap:
        planes = planes.swapaxes(0, 1)
    return planes[:: -1 if reverse_rows else 1, :: -1 if reverse_columns else 1]


def _picture(planes: np.ndarray, metadata: Metadata) -> Picture:
    """Channels as they are stored, (H, W, 1 to 4), as a picture: undoes ``Picture.planes``."""
    bands = planes.shape[2]
    gray = bands < 3
    return Picture(
        pixels=np.repeat(planes[:, :, :1], 3, axis=2)
        if gray
        else np.ascontiguousarray(planes[:, :, :3]),
        alpha=np.ascontiguousarray(planes[:, :, -1]) if bands in (2, 4) else None,
        gray=gray,
        metadata=metadata,
    )
