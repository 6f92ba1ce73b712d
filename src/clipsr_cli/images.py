"""Find, read and write pictures: orientation, alpha, gray, 16 bit and metadata kept, writes atomic.

8-bit pictures go through Pillow. It holds 16-bit RGB as 8 bit, so 16-bit ones go through libvips;
and as neither writes the EXIF of a compressed TIFF, TIFF is put together here.
"""

import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from clipsr_cli.errors import ImageError

logger = logging.getLogger(__name__)

READABLE = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif"})
# What a file may turn out to hold, whatever its extension says.
DECODERS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF")
# What of it is understood: Pillow's modes of at most 8 bits a channel.
MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr", "CMYK"})
# Above this an input is taken for a decompression bomb.
MAX_INPUT_PIXELS = 300_000_000
# EXIF of the whole picture that stays true when it is enlarged, all of it text: description, make,
# model, software, time, artist, copyright. Orientation is applied, and the rest describes the old
# file's layout.
KEPT_EXIF = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
# The directories below it, of the shot and of the place, are kept whole but for what counts the old
# pixels (width, height, subject area and location, focal plane resolution) and for a file offset.
EXIF_IFDS = (0x8769, 0x8825)
STALE_EXIF = frozenset({0xA002, 0xA003, 0x9214, 0xA214, 0xA20E, 0xA20F, 0xA210, 0xA005})
# What one JPEG marker holds.
MAX_JPEG_EXIF = 65533
ORIENTATION = 0x0112
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
# Pictures are large: a little larger file for much less time.
COMPRESSION = 2
TIFF_STRIP = 2**20


@dataclass(frozen=True, kw_only=True)
class Format:
    """What an output format can hold."""

    extension: str
    pillow: str
    max_side: int
    quality: int | None = None
    alpha: bool = True
    gray: bool = True
    sixteen_bit: bool = False


FORMATS = {
    "png": Format(extension=".png", pillow="PNG", max_side=2**31 - 1, sixteen_bit=True),
    "jpg": Format(extension=".jpg", pillow="JPEG", max_side=65500, quality=95, alpha=False),
    "webp": Format(extension=".webp", pillow="WEBP", max_side=16383, quality=95, gray=False),
    "avif": Format(extension=".avif", pillow="AVIF", max_side=65536, quality=85),
    "tiff": Format(extension=".tif", pillow="TIFF", max_side=2**31 - 1, sixteen_bit=True),
}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a picture carries beside its pixels."""

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (H, W, 3) RGB, uint8 or uint16.
        alpha: (H, W) of the same type, or None.
        gray: it came as a gray picture and is to be written as one.
        metadata: what it carries beside its pixels.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    gray: bool = False
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]


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


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of an upright picture, from its header alone.

    An orientation that a PNG names only behind its pixels is not seen.

    Raises:
        ImageError: it cannot be opened, is animated, or is too large.
    """
    with _open(path) as image:
        try:
            # A PNG's own getexif would decode the pixels, in search of EXIF behind them.
            orientation = Image.Image.getexif(image).get(ORIENTATION, 1)
        except Exception:
            # Broken EXIF; `read` tells.
            orientation = 1
        # Pillow gives a TIFF's size upright.
        turned = image.format != "TIFF" and TURNS.get(orientation, TURNS[1])[0]
        return (image.height, image.width) if turned else (image.width, image.height)


def read(path: Path) -> Picture:
    """Decode a picture, turned upright.

    Palette pictures become RGB, CMYK becomes sRGB by its own profile where it has one. Broken EXIF
    is left out with a warning.

    Raises:
        ImageError: it is broken, animated, too large, or of an unsupported kind.
    """
    with _open(path) as image:
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
        metadata, orientation = _metadata(image, path)
        upright: Image.Image = image
        if image.mode == "CMYK":
            upright, metadata = _from_cmyk(image, metadata)
        return _picture(_turn(_channels(upright), orientation), metadata)


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
        raise ImageError(f"Cannot write {path}: {_reason(error)}.") from error


def to_float(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 -> float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.iinfo(pixels.dtype).max


def to_integer(values: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Float in [0, 1], clipped and rounded -> uint8 or uint16."""
    peak = np.iinfo(dtype).max
    return np.rint(np.clip(values, 0, 1) * peak).astype(dtype)


def resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize float values by antialiased bicubic interpolation.

    Args:
        values: (H, W, C) float32.
        size: width and height.
    """
    if (values.shape[1], values.shape[0]) == size:
        return values
    channels = [
        Image.fromarray(np.ascontiguousarray(values[:, :, c], np.float32)).resize(
            size, Image.Resampling.BICUBIC
        )
        for c in range(values.shape[2])
    ]
    return np.dstack([np.asarray(channel) for channel in channels])


def from_pillow(image: Image.Image, metadata: Metadata | None = None) -> Picture:
    """A Pillow image of 8 bits a channel as a picture: palettes and colour keys resolved."""
    return _picture(_channels(image), metadata or Metadata())


@contextmanager
def _open(path: Path) -> Iterator[ImageFile]:
    """A file's picture, not decoded yet; whatever goes wrong while it is open is an ImageError."""
    # Our own limit below replaces Pillow's, which would also hit legitimate large pictures.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path, formats=DECODERS) as image:
            if image.width * image.height > MAX_INPUT_PIXELS:
                raise ImageError(
                    f"{path} has {image.width} x {image.height} pixels, "
                    f"above the limit of {MAX_INPUT_PIXELS:,}."
                )
            frames = getattr(image, "n_frames", 1)
            # A camera's MPO is a JPEG whose other frames are previews or the other eye's view.
            if frames > 1 and image.format != "MPO":
                raise ImageError(
                    f"{path} is animated or has several pages ({frames} frames).",
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
        raise ImageError(f"Cannot decode {path}: {_reason(error)}.") from error


def _warn_unlisted(error: OSError) -> None:
    logger.warning("Cannot list the folder %s: %s", error.filename, error.strerror)


def _reason(error: Exception) -> str:
    """What went wrong, in one line and without the path, which the message has already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _metadata(image: ImageFile, path: Path) -> tuple[Metadata, int]:
    """What a picture carries beside its pixels, less what is broken, and its EXIF orientation."""
    orientation, exif = 1, None
    try:
        found = image.getexif()
        if not found and "exif" in image.info:
            # A JPEG's was looked at when it was opened: having failed then, it now seems empty.
            Image.Exif().load(image.info["exif"])
        orientation = found.get(ORIENTATION, 1)
        kept = Image.Exif()
        for tag, value in _kept_exif(found).items():
            kept[tag] = value
        exif = kept.tobytes() if len(kept) else None
    except Exception as error:
        logger.warning("The EXIF of %s is broken and left out: %s", path, _reason(error))
    icc = image.info.get("icc_profile")
    metadata = Metadata(icc=icc if isinstance(icc, bytes) else None, exif=exif, dpi=_dpi(image))
    return metadata, orientation


def _kept_exif(exif: Image.Exif) -> dict[int, Any]:
    """The EXIF that stays true for the enlarged, upright picture."""
    kept: dict[int, Any] = {}
    for tag in KEPT_EXIF:
        text = exif.get(tag)
        if isinstance(text, str):
            # Pillow reads text as Latin-1, whatever it is in, but would write it as ASCII.
            kept[tag] = text.encode("latin-1")
    for ifd in EXIF_IFDS:
        values = {tag: v for tag, v in exif.get_ifd(ifd).items() if tag not in STALE_EXIF}
        if values:
            kept[ifd] = values
    return kept


def _dpi(image: ImageFile) -> tuple[float, float] | None:
    """Pixels per inch, where the file gives numbers that every format can hold."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError):
        return None
    # Pillow says 1 for a TIFF that says nothing.
    return (across, down) if 1 < across < 2**16 and 1 < down < 2**16 else None


def _is_sixteen_bit(image: ImageFile) -> bool:
    """Whether a file that is not loaded yet holds 16 bits a channel; the mode may say 8."""
    if image.format == "PNG":
        return any(";16" in str(tile[3]) for tile in image.tile)
    bits = getattr(image, "tag_v2", {}).get(TiffImagePlugin.BITSPERSAMPLE, 8)
    return 16 in (bits if isinstance(bits, tuple) else (bits,))


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
    """The opposite of ``_planes``."""
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
        directory.update(_kept_exif(exif))
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
