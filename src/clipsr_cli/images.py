"""Find, read and write pictures: orientation, alpha, gray, 16 bit and metadata kept, writes atomic.

8-bit pictures go through Pillow. Pillow reads 16-bit RGB as 8 bit, so 16-bit ones go through
libvips.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from clipsr_cli.errors import ImageError

logger = logging.getLogger(__name__)

READABLE = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif"})
# What a file may turn out to hold, whatever its extension says.
DECODERS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "AVIF")
# Above this an input is taken for a decompression bomb.
MAX_INPUT_PIXELS = 300_000_000
# EXIF of the whole picture that stays true when it is enlarged: description, make, model, software,
# time, artist, copyright. Orientation is applied, and the rest describes the old file's layout.
KEPT_EXIF = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
EXIF_IFDS = {"exif": 0x8769, "gps": 0x8825}
EXIF_WIDTH, EXIF_HEIGHT, ORIENTATION = 0xA002, 0xA003, 0x0112
TURNED = frozenset({5, 6, 7, 8})


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

    Args:
        folder: where to look.
        recursive: also in its subfolders.
        pattern: only names that match this glob.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = (
            sorted(name for name in folders if not name.startswith(".")) if recursive else []
        )
        for name in names:
            if Path(name).suffix.lower() not in READABLE or name.startswith("."):
                continue
            if pattern is None or fnmatch(name, pattern):
                found.append(Path(parent, name))
    return sorted(found)


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of an upright picture, from its header alone.

    Raises:
        ImageError: it cannot be opened, is too large, or is of an unsupported kind.
    """
    with _open(path) as image:
        turned = image.getexif().get(ORIENTATION) in TURNED
        return (image.height, image.width) if turned else (image.width, image.height)


def read(path: Path) -> Picture:
    """Decode a picture, turned upright.

    Palette pictures become RGB, CMYK becomes sRGB by its own profile where it has one.

    Raises:
        ImageError: it is broken, animated, too large, or of an unsupported kind.
    """
    with _open(path) as image:
        try:
            exif = _exif(image)
            dpi = image.info.get("dpi")
            metadata = Metadata(
                icc=image.info.get("icc_profile"),
                exif=exif,
                dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
            )
            if _is_sixteen_bit(image):
                return _read_sixteen_bit(path, metadata)
            if image.mode in ("F", "I", "LAB"):
                raise ImageError(
                    f"{path} has the unsupported pixel type {image.mode!r}.",
                    hint="Convert it to 8- or 16-bit gray or RGB first.",
                )
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "CMYK":
                upright, metadata = _from_cmyk(upright, metadata)
            return from_pillow(upright, metadata)
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise ImageError(f"Cannot decode {path}: {error}.") from error


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
        if picture.pixels.dtype == np.uint16 and into.sixteen_bit:
            _write_sixteen_bit(picture, aside, form)
        else:
            _write_pillow(picture, aside, into, quality)
        aside.replace(path)
    except Exception as error:
        aside.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ImageError(f"Cannot write {path}: {reason}.") from error


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
    transparent = image.mode in ("RGBA", "LA", "La", "RGBa", "PA") or "transparency" in image.info
    gray = image.mode in ("1", "L", "LA", "La")
    target = {(True, True): "LA", (True, False): "L", (False, True): "RGBA", (False, False): "RGB"}
    converted = image.convert(target[gray, transparent])
    values = np.array(converted)
    alpha = values[:, :, -1].copy() if transparent else None
    if gray:
        channel = values[:, :, 0] if transparent else values
        pixels = np.repeat(channel[:, :, None], 3, axis=2)
    else:
        pixels = np.ascontiguousarray(values[:, :, :3])
    return Picture(pixels=pixels, alpha=alpha, gray=gray, metadata=metadata or Metadata())


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    # Our own limit below replaces Pillow's, which would also hit legitimate large pictures.
    Image.MAX_IMAGE_PIXELS = None
    try:
        image = Image.open(path, formats=DECODERS)
    except FileNotFoundError as error:
        raise ImageError(f"{path} is not there any more.") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not a picture in a supported format, or is broken.") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"Cannot open {path}: {error}.") from error
    with image:
        if image.width * image.height > MAX_INPUT_PIXELS:
            raise ImageError(
                f"{path} has {image.width} x {image.height} pixels, "
                f"above the limit of {MAX_INPUT_PIXELS:,}."
            )
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise ImageError(
                f"{path} is animated or has several pages ({frames} frames).",
                hint="Extract the frames and enlarge them one by one.",
            )
        yield image


def _exif(image: Image.Image) -> bytes | None:
    """The EXIF that stays true for the enlarged, upright picture."""
    old, new = image.getexif(), Image.Exif()
    for tag in KEPT_EXIF:
        if tag in old:
            new[tag] = old[tag]
    for tag in EXIF_IFDS.values():
        values = {k: v for k, v in old.get_ifd(tag).items() if k not in (EXIF_WIDTH, EXIF_HEIGHT)}
        if values:
            new.get_ifd(tag).update(values)
            new[tag] = values
    return new.tobytes() if len(new) else None


def _is_sixteen_bit(image: Image.Image) -> bool:
    """Whether the file holds 16 bits a channel: the decoder's raw mode tells, the image's mode may
    not.
    """
    return image.mode.startswith("I;16") or any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )


def _from_cmyk(image: Image.Image, metadata: Metadata) -> tuple[Image.Image, Metadata]:
    """CMYK -> sRGB; the profile that described the inks does not describe the result."""
    plain = Metadata(exif=metadata.exif, dpi=metadata.dpi)
    if metadata.icc:
        try:
            profile = ImageCms.ImageCmsProfile(BytesIO(metadata.icc))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
            if converted is not None:
                return converted, plain
        except ImageCms.PyCMSError as error:
            logger.warning("The CMYK profile cannot be used, converting without it: %s", error)
    return image.convert("RGB"), plain


def _read_sixteen_bit(path: Path, metadata: Metadata) -> Picture:
    import pyvips  # noqa: PLC0415 - a large library that few pictures need

    try:
        image = pyvips.Image.new_from_file(str(path)).autorot()
        if image.format != "ushort" or image.interpretation not in ("grey16", "rgb16"):
            raise ImageError(
                f"{path} has the unsupported 16-bit colour space {image.interpretation!r}.",
                hint="Convert it to gray or RGB first.",
            )
        values = image.numpy()
    except pyvips.Error as error:
        raise ImageError(f"Cannot decode {path}: {error}.") from error
    values = np.atleast_3d(values)
    bands = values.shape[2]
    gray = bands <= 2
    alpha = values[:, :, -1].copy() if bands in (2, 4) else None
    pixels = (
        np.repeat(values[:, :, :1], 3, axis=2) if gray else np.ascontiguousarray(values[:, :, :3])
    )
    return Picture(pixels=pixels, alpha=alpha, gray=gray, metadata=metadata)


def _write_sixteen_bit(picture: Picture, path: Path, form: str) -> None:
    import pyvips  # noqa: PLC0415 - a large library that few pictures need

    image = pyvips.Image.new_from_array(_planes(picture))
    image = image.copy(interpretation="grey16" if picture.gray else "rgb16")
    metadata = picture.metadata
    if metadata.dpi:
        # libvips counts pixels per millimetre.
        image = image.copy(xres=metadata.dpi[0] / 25.4, yres=metadata.dpi[1] / 25.4)
    kinds = {"icc-profile-data": metadata.icc, "exif-data": metadata.exif}
    for name, data in kinds.items():
        if data:
            image = image.copy()
            image.set_type(pyvips.GValue.blob_type, name, data)
    try:
        if form == "png":
            image.pngsave(str(path), compression=2, bitdepth=16)
        else:
            image.tiffsave(str(path), compression="deflate", predictor="horizontal")
    except pyvips.Error as error:
        raise OSError(str(error)) from error


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
        options["quality"] = quality or into.quality
    if into.pillow == "JPEG":
        options["subsampling"] = 0
    elif into.pillow == "PNG":
        options["compress_level"] = 2
    elif into.pillow == "TIFF":
        options["compression"] = "tiff_adobe_deflate"
    metadata = picture.metadata
    # A gray picture written as RGB would no longer fit its gray profile.
    if metadata.icc and (into.gray or not picture.gray):
        options["icc_profile"] = metadata.icc
    if metadata.exif:
        options["exif"] = metadata.exif
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    image.save(path, format=into.pillow, **options)


def _planes(picture: Picture) -> np.ndarray:
    """The picture's channels as they are stored: (H, W, 1 to 4)."""
    colour = picture.pixels[:, :, :1] if picture.gray else picture.pixels
    planes = colour if picture.alpha is None else np.dstack([colour, picture.alpha])
    return np.ascontiguousarray(planes)
