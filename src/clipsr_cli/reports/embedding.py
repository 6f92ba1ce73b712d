"""Turn picture files into data URIs that a page holds, compressed the more the more they are."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from clipsr_cli.errors import ImageError
from clipsr_cli.evaluation.folder import LOW, REFERENCE
from clipsr_cli.evaluation.report import Report
from clipsr_cli.reports.cases import BASELINE
from clipsr_cli.reports.sheets import Pictures, read_shown

# What all pictures of a page shall come to; they may be more at the lowest quality. base64 adds a
# third.
MAX_BYTES = 8_500_000
MAX_PIXELS = 20_000_000
# No picture is shown smaller than this for want of room.
MIN_SIDE = 256
# A picture so small is kept to the last digit.
EXACT_PIXELS = 96 * 96
# Of WebP; the first that fits, else the last, and the same for all, or they could not be compared.
QUALITIES = (90, 80, 70, 60, 50)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Pictures of one thing.

    Attributes:
        size: width and height of the large ones as they are shown.
        cut_from: their size, where it is larger than what is shown; the middle is.
        uris: by kind: a model's name, ``reference`` or ``low``.
    """

    size: tuple[int, int]
    cut_from: tuple[int, int] | None
    uris: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Pictures for a page.

    Attributes:
        quality: of those that are WebP.
        shown: by name, those of which any large picture could be read.
    """

    quality: int
    shown: Mapping[str, Shown]


def embed(report: Report, names: Sequence[str], pictures: Pictures) -> Embedded:
    """Read, cut where they are too large, and encode the pictures of some names.

    Where bicubic is no model of the report, it is made from the small picture.
    """
    large = len({*report.models, BASELINE, REFERENCE}) * max(len(names), 1)
    side = max(MIN_SIDE, int((MAX_PIXELS / large) ** 0.5))
    views = {name: view for name in names if (view := _view(report, name, pictures, side))}
    for quality in QUALITIES:
        encoded = {
            name: {kind: _encode(image, quality) for kind, image in view.images.items()}
            for name, view in views.items()
        }
        if sum(len(data) for found in encoded.values() for data in found.values()) <= MAX_BYTES:
            break
    shown = {
        name: Shown(
            size=view.size,
            cut_from=view.cut_from,
            uris={kind: _uri(data) for kind, data in encoded[name].items()},
        )
        for name, view in views.items()
    }
    return Embedded(quality=quality, shown=shown)


@dataclass(frozen=True, kw_only=True)
class _View:
    """The same, not yet encoded."""

    size: tuple[int, int]
    cut_from: tuple[int, int] | None
    images: Mapping[str, Image.Image]


def _view(report: Report, name: str, pictures: Pictures, side: int) -> _View | None:
    found = {}
    for kind in (*report.models, REFERENCE, LOW):
        try:
            found[kind] = read_shown(pictures(kind, name))
        except ImageError:
            continue
    low = found.pop(LOW, None)
    if not found:
        return None
    size = next(reversed(found.values())).size
    if low is not None and BASELINE not in found:
        found[BASELINE] = low.resize(size, Image.Resampling.BICUBIC)
    # What is cut out of the large and of the small picture is the same.
    unit = max(1, round(size[0] / low.width)) if low is not None else 1
    left, top, right, bottom = _middle(size, side, unit)
    images = {kind: image.crop((left, top, right, bottom)) for kind, image in found.items()}
    if low is not None:
        images[LOW] = low.crop((left // unit, top // unit, right // unit, bottom // unit))
    shown = (right - left, bottom - top)
    return _View(size=shown, cut_from=None if shown == size else size, images=images)


def _middle(size: tuple[int, int], side: int, unit: int) -> tuple[int, int, int, int]:
    """The middle of a picture, no side longer than that: left, top, right, bottom.

    Where it is cut, it is cut at multiples of the unit, between pixels of the small picture.
    """

    def ends(length: int) -> tuple[int, int]:
        kept = length if length <= side else max(1, side // unit) * unit
        start = (length - kept) // 2 // unit * unit
        return start, start + kept

    (left, right), (top, bottom) = (ends(length) for length in size)
    return left, top, right, bottom


def _encode(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    if image.width * image.height <= EXACT_PIXELS:
        image.save(file, "PNG")
    else:
        image.save(file, "WEBP", quality=quality)
    return file.getvalue()


def _uri(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
