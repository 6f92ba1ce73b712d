"""Draw how one metric's scores are spread over the pictures, a row for each model, as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipsr_cli.evaluation.report import Estimate
from clipsr_cli.reports.markup import Html, element, escape, join, visible

# In units of the drawing; a page scales it to its column.
WIDTH, SIDE = 440, 14
TITLE, BAND, ROW, AXIS = 18, 44, 62, 30
RADIUS = 2.7
BINS = 76
# Above this, single pictures are no longer told apart and the outline of a histogram is drawn.
MAX_DOTS = 250
LONGEST_NAME = 38


@dataclass(frozen=True, kw_only=True)
class Series:
    """One model's scores: ``(picture's name, score)``, and their mean with its interval.

    ``style`` is the CSS class that gives its colour.
    """

    model: str
    style: str
    scores: Sequence[tuple[str, float]]
    mean: Estimate


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear scale from values to places along the drawing, and where its ticks are."""

    low: float
    high: float
    ticks: Sequence[float]
    digits: int

    def place(self, value: float) -> float:
        """How far to the right a value lies."""
        return SIDE + (value - self.low) / (self.high - self.low) * (WIDTH - 2 * SIDE)

    def words(self, value: float) -> str:
        """A tick's label."""
        return f"{value + 0.0:.{self.digits}f}"


def make_axis(values: Sequence[float], count: int = 5) -> Axis:
    """An axis over all values, with about so many ticks at multiples of 1, 2 or 5."""
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        room = max(abs(low) * 0.05, 0.05)
        low, high = low - room, high + room
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return Axis(low=low, high=high, ticks=[i * step for i in range(first, last + 1)], digits=digits)


def distribution(title: str, series: Sequence[Series], digits: int) -> Html:
    """A drawing with a row for each series: a dot for each picture, or of many the outline of a
    histogram, and the mean with its 95 % interval.

    Args:
        title: of the axis, with its direction.
        series: each with one score or more.
        digits: of the numbers.
    """
    axis = make_axis([score for one in series for _, score in one.scores])
    height = len(series) * ROW + AXIS + TITLE
    bottom = len(series) * ROW
    grid = [
        join(
            _line(x, 0, x, bottom + 4, "grid"),
            _text(x, bottom + 18, axis.words(tick), anchor=_anchor(x)),
        )
        for tick in axis.ticks
        for x in [axis.place(tick)]
    ]
    rows = [_row(one, axis, index * ROW, digits) for index, one in enumerate(series)]
    told = "; ".join(f"{one.model}: mean {one.mean.mean:.{digits}f}" for one in series)
    caption = _text(WIDTH / 2, height - 4, title, anchor="middle", class_="axis")
    return element(
        "svg",
        *grid,
        _line(SIDE, bottom, WIDTH - SIDE, bottom, "base"),
        *rows,
        caption,
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_label=f"{title}. {told}",
    )


def _row(one: Series, axis: Axis, top: float, digits: int) -> Html:
    middle = top + TITLE + BAND / 2
    name = visible(one.model)
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    mean = axis.place(one.mean.mean)
    low, high = axis.place(one.mean.low), axis.place(one.mean.high)
    draw = _dots if len(one.scores) <= MAX_DOTS else _outline
    return element(
        "g",
        _text(SIDE, top + 13, short, class_="name"),
        _text(WIDTH - SIDE, top + 13, f"{one.mean.mean:.{digits}f}", anchor="end", class_="value"),
        draw(one, axis, middle),
        _line(low, middle, high, middle, "interval"),
        _line(mean, middle - BAND / 2 + 2, mean, middle + BAND / 2 - 2, "mean"),
        class_=one.style,
    )


def _bin(value: float, axis: Axis) -> int:
    share = (value - axis.low) / (axis.high - axis.low)
    return min(BINS - 1, max(0, int(share * BINS)))


def _dots(one: Series, axis: Axis, middle: float) -> Html:
    """A dot for each picture, those of about one score piled up about the middle."""
    piles: dict[int, list[tuple[str, float]]] = {}
    for name, score in sorted(one.scores, key=lambda pair: pair[1]):
        piles.setdefault(_bin(score, axis), []).append((name, score))
    tallest = max(len(pile) for pile in piles.values())
    step = min(2 * RADIUS, (BAND - 2 * RADIUS) / max(tallest - 1, 1))
    dots = []
    for pile in piles.values():
        for place, (name, score) in zip(_mixed(len(pile)), pile, strict=True):
            y = middle + (place - (len(pile) - 1) / 2) * step
            dot = element(
                "circle",
                element("title", f"{name}: {score:.4g}"),
                cx=f"{axis.place(score):.1f}",
                cy=f"{y:.1f}",
                r=str(RADIUS),
            )
            dots.append(dot)
    return element("g", *dots, class_="dots")


def _mixed(count: int) -> list[int]:
    """The first so many numbers in an order of no pattern, or sorted dots would form stripes: by
    the fractional parts of the golden ratio's multiples.
    """
    return sorted(range(count), key=lambda place: place * 0.6180339887 % 1)


def _outline(one: Series, axis: Axis, middle: float) -> Html:
    """A histogram as a shape about the middle."""
    counts = np.bincount([_bin(score, axis) for _, score in one.scores], minlength=BINS)
    halves = counts / counts.max() * BAND / 2
    width = (WIDTH - 2 * SIDE) / BINS
    upper = [
        (SIDE + (i + side) * width, middle - h) for i, h in enumerate(halves) for side in (0, 1)
    ]
    lower = [(x, 2 * middle - y) for x, y in reversed(upper)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*upper, *lower))
    return element("polygon", points=points, class_="outline")


def _anchor(x: float) -> str:
    """Where a tick's label is held, so that none leaves the drawing."""
    return "start" if x < SIDE + 16 else "end" if x > WIDTH - SIDE - 16 else "middle"


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Html:
    places = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", class_=style, **{key: f"{value:.1f}" for key, value in places.items()})


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", class_: str | None = None
) -> Html:
    return element(
        "text", escape(words), x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_
    )
