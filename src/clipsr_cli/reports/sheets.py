"""Put small pictures and their enlargements side by side on one sheet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clipsr_cli import encoders, images
from clipsr_cli.errors import ClipsrError, ImageError
from clipsr_cli.evaluation.folder import LOW, REFERENCE
from clipsr_cli.evaluation.report import Report
from clipsr_cli.pictures import Picture, to_float, to_integer
from clipsr_cli.reports.cases import BASELINE, choose, deciding, finite, judged

CELL = 320
MARGIN = 8
TITLE = 20
MAX_ROWS = 40
MAX_MODELS = 3

# The file of a picture by kind (a model's name, ``reference`` or ``low``) and name.
Pictures = Callable[[str, str], Path]


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
    """Write a PNG with a row per picture: input (pixels shown as they are), bicubic, result, and
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
            low = _visible(images.read(row.low))
            high = read_shown(row.high)
        except ClipsrError:
            continue
        strips.append(strip(low, high, label=f"{row.low.name}   {row.prompt}"))
    draw_sheet(("input", BASELINE, "result"), strips, path)
    return len(strips)


def evaluation_sheet(report: Report, path: Path, pictures: Pictures, rows: int = 12) -> int:
    """Write a PNG with a row for each of the worst, the best and some other pictures of a report:
    small, bicubic, of at most three models what they made of it, and the reference.

    Where there are no small pictures, they and their bicubic enlargement are left out, and so are
    pictures of which one cannot be read.

    Args:
        report: what was scored.
        path: the PNG.
        pictures: gives the file of a picture by kind (a model's name, ``reference`` or ``low``) and
            name.
        rows: how many pictures are shown at most.

    Returns:
        How many rows it has.

    Raises:
        ImageError: the sheet cannot be written.
    """
    model, metric = judged(report), deciding(report)
    cases = choose(report, min(rows, MAX_ROWS))
    chosen = [report.rows[model][case.index] for case in cases] if model is not None else []
    with_low = any(_can_be_read(pictures(LOW, row.name)) for row in chosen)
    made = [name for name in report.models if name != BASELINE or not with_low][:MAX_MODELS]
    strips = []
    for row in chosen:
        score = finite(row.scores.get(metric)) if metric is not None else None
        label = f"{row.name}   {row.prompt}"
        if metric is not None and score is not None:
            asked = report.metrics[metric]
            label = f"{row.name}   {asked.title} {score:.{asked.digits}f}   {row.prompt}"
        try:
            shown = [read_shown(pictures(kind, row.name)) for kind in (*made, REFERENCE)]
            if with_low:
                strips.append(strip(read_shown(pictures(LOW, row.name)), *shown, label=label))
            else:
                fitted = [_fit(image, Image.Resampling.LANCZOS) for image in shown]
                strips.append(Strip(images=fitted, label=label))
        except ImageError:
            continue
    draw_sheet((*(("small", BASELINE) if with_low else ()), *made, REFERENCE), strips, path)
    return len(strips)


def read_shown(path: Path) -> Image.Image:
    """A picture in 8-bit RGB, transparent parts on white, however large it is.

    Raises:
        ImageError: it cannot be read.
    """
    # Our own outputs may be larger than any input.
    return _visible(images.read(path, max_pixels=None))


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


def _can_be_read(path: Path) -> bool:
    try:
        images.read_size(path)
    except ImageError:
        return False
    return True


def _visible(picture: Picture) -> Image.Image:
    """8-bit RGB, transparent parts on white."""
    colour = to_float(picture.pixels)
    if picture.alpha is not None:
        alpha = to_float(picture.alpha)[:, :, None]
        colour = colour * alpha + (1 - alpha)
    return Image.fromarray(to_integer(colour, np.uint8))


def _fit(image: Image.Image, kind: Image.Resampling) -> Image.Image:
    """As large as a cell allows."""
    factor = CELL / max(image.size)
    return image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))), kind
    )
