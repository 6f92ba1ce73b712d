"""A decoded picture, what it carries beside its pixels, and what each output format can hold."""

from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from PIL import Image

# EXIF of the whole picture that stays true when it is enlarged, all of it text: description, make,
# model, software, time, artist, copyright. Orientation is applied, and the rest describes the old
# file's layout.
KEPT_EXIF = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
# The directories below it, of the shot and of the place, are kept whole but for what counts the old
# pixels (width, height, subject area and location, focal plane resolution) and for a file offset.
EXIF_IFDS = (0x8769, 0x8825)
STALE_EXIF = frozenset({0xA002, 0xA003, 0x9214, 0xA214, 0xA20E, 0xA20F, 0xA210, 0xA005})


# Source pixels that bicubic interpolation looks at to either side of a place.
CUBIC_REACH = 2


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
class Layout:
    """What a picture's rows are, known before the rows are.

    Attributes:
        width, height: in pixels.
        dtype: uint8 or uint16.
        gray: one channel of colour instead of three.
        alpha: one channel more, the last.
        metadata: what the picture carries beside its pixels.
    """

    width: int
    height: int
    dtype: np.dtype[Any]
    gray: bool = False
    alpha: bool = False
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def bands(self) -> int:
        """Channels of a pixel, 1 to 4."""
        return (1 if self.gray else 3) + self.alpha


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

    @property
    def layout(self) -> Layout:
        """What its rows are."""
        return Layout(
            width=self.size[0],
            height=self.size[1],
            dtype=self.pixels.dtype,
            gray=self.gray,
            alpha=self.alpha is not None,
            metadata=self.metadata,
        )

    @property
    def planes(self) -> np.ndarray:
        """Its channels as they are stored: (H, W, 1 to 4)."""
        colour = self.pixels[:, :, :1] if self.gray else self.pixels
        planes = colour if self.alpha is None else np.dstack([colour, self.alpha])
        return np.ascontiguousarray(planes)


def to_float(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 -> float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.iinfo(pixels.dtype).max


def to_integer(values: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Float in [0, 1], clipped and rounded -> uint8 or uint16."""
    peak = np.iinfo(dtype).max
    whole = np.empty(values.shape, dtype)
    # Row by row, or a large picture would stand in memory several times over.
    for index, row in enumerate(values):
        whole[index] = np.rint(np.clip(row, 0, 1) * peak)
    return whole


def resize(
    values: np.ndarray, size: tuple[int, int], rows: tuple[float, float] | None = None
) -> np.ndarray:
    """Resize float values by antialiased bicubic interpolation.

    Args:
        values: (H, W, C) float32.
        size: width and height.
        rows: what part of ``values`` to bring to that size, from and to these rows; what lies
            beside them is looked at all the same, so that parts fit together. All by default.
    """
    if (values.shape[1], values.shape[0]) == size and rows is None:
        return values
    top, bottom = rows or (0, values.shape[0])
    # Pillow would turn all rows into a picture of its own, and use these.
    reach = CUBIC_REACH * max(1.0, (bottom - top) / size[1])
    first, last = max(0, floor(top - reach)), min(len(values), ceil(bottom + reach))
    values, top, bottom = values[first:last], top - first, bottom - first
    channels = [
        Image.fromarray(np.ascontiguousarray(values[:, :, c], np.float32)).resize(
            size, Image.Resampling.BICUBIC, box=(0, top, values.shape[1], bottom)
        )
        for c in range(values.shape[2])
    ]
    return np.dstack([np.asarray(channel) for channel in channels])


def kept_exif(exif: Image.Exif) -> dict[int, Any]:
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
