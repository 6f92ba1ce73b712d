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


def contact_sheet(rows: Sequence[SheetRow], path: Path) -> int:
    """Write a PNG with a row per picture: small (pixels shown as they are), bicubic, result, and
    the prompt.

    At most the first 40 rows are shown; pictures that cannot be read are left out.

    Returns:
        How many rows it has.

    Raises:
        ImageError: the sheet cannot be written.
    """
    cells = []
    for row in rows[:MAX_ROWS]:
        try:
            # Our own outputs may be larger than any input.
            low = _visible(images.read(row.low))
            high = _fit(_visible(images.read(row.high, max_pixels=None)), Image.Resampling.LANCZOS)
        except ClipsrError:
            continue
        shown = (
            _fit(low, Image.Resampling.NEAREST),
            low.resize(high.size, Image.Resampling.BICUBIC),
            high,
        )
        cells.append((row, shown))
    width = 3 * CELL + 4 * MARGIN
    heights = [shown[0].height + TITLE + MARGIN for _, shown in cells]
    sheet = Image.new("RGB", (width, TITLE + MARGIN + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("input", "bicubic", "clipsr")):
        draw.text((MARGIN + column * (CELL + MARGIN), 5), title, fill="black")
    top = TITLE
    for (row, shown), height in zip(cells, heights, strict=True):
        for column, image in enumerate(shown):
            sheet.paste(image, (MARGIN + column * (CELL + MARGIN), top))
        # One line, in what the built-in font can draw.
        label = " ".join(f"{row.low.name}   {row.prompt}".splitlines())
        label = label.encode("latin-1", "replace").decode("latin-1")
        draw.text((MARGIN, top + shown[0].height + 3), label, fill="black")
        top += height
    encoders.write(images.from_pillow(sheet), path, "png")
    return len(cells)


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
