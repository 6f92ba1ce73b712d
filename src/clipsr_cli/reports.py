"""Put small pictures and their enlargements side by side on one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clipsr_cli import encoders, images, pictures
from clipsr_cli.errors import ClipsrError
from clipsr_cli.pictures import Picture

CELL = 320
MARGIN = 8
TITLE = 20
MAX_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """One picture's line on the sheet."""

    low: Path
    high: Path
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Pictures of one thing, side by side and none larger than a cell, and a line under them."""

    images: Sequence[Image.Image]
    label: str


def contact_sheet(rows: Sequence[SheetRow], path: Path) -> int:
    """Write a PNG with a row per picture: small (pixels shown as they are), bicubic, result, and
    the prompt.

    At most the first 40 rows are shown; pictures that cannot be read are left out.

    Returns:
        How many rows it has.

    Raises:
        ImageError: the sheet cannot be written.
    """
    strips = []
    for row in rows[:MAX_ROWS]:
        try:
            # Our own outputs may be larger than any input.
            low = _visible(images.read(row.low))
            high = _visible(images.read(row.high, max_pixels=None))
        except ClipsrError:
            continue
        strips.append(strip(low, high, label=f"{row.low.name}   {row.prompt}"))
    draw_sheet(("input", "bicubic", "clipsr"), strips, path)
    return len(strips)


def strip(low: Image.Image, *others: Image.Image, label: str) -> Strip:
    """A small picture with its pixels to be seen, its bicubic enlargement, and others of it."""
    shown = [_fit(other, Image.Resampling.LANCZOS) for other in others]
    bicubic = low.resize(shown[0].size, Image.Resampling.BICUBIC)
    return Strip(images=(_fit(low, Image.Resampling.NEAREST), bicubic, *shown), label=label)


def draw_sheet(titles: Sequence[str], strips: Sequence[Strip], path: Path) -> None:
    """Write a PNG with a row per strip.

    Args:
        titles: of the columns, one for each picture of a strip.
        strips: the rows.
        path: the PNG.

    Raises:
        ImageError: the sheet cannot be written.
    """
    heights = [max(image.height for image in row.images) + TITLE + MARGIN for row in strips]
    width = len(titles) * (CELL + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, TITLE + MARGIN + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((MARGIN + column * (CELL + MARGIN), 5), title, fill="black")
    top = TITLE
    for row, height in zip(strips, heights, strict=True):
        for column, image in enumerate(row.images):
            sheet.paste(image, (MARGIN + column * (CELL + MARGIN), top))
        # One line, in what the built-in font can draw.
        label = " ".join(row.label.splitlines()).encode("latin-1", "replace").decode("latin-1")
        draw.text((MARGIN, top + height - TITLE - MARGIN + 3), label, fill="black")
        top += height
    encoders.write(images.from_pillow(sheet), path, "png")


def _visible(picture: Picture) -> Image.Image:
    """8-bit RGB, transparent parts on white."""
    colour = pictures.to_float(picture.pixels)
    if picture.alpha is not None:
        alpha = pictures.to_float(picture.alpha)[:, :, None]
        colour = colour * alpha + (1 - alpha)
    return Image.fromarray(pictures.to_integer(colour, np.uint8))


def _fit(image: Image.Image, kind: Image.Resampling) -> Image.Image:
    """As large as a cell allows."""
    factor = CELL / max(image.size)
    return image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))), kind
    )
