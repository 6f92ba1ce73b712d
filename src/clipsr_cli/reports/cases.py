"""Turn a report into the pictures worth looking at: the worst, the best and some between."""

import math
from dataclasses import dataclass

from clipsr_cli.evaluation.protocol import spread
from clipsr_cli.evaluation.report import Report

BASELINE = "bicubic"
# The first of them that there is decides which pictures are the worst; the eye agrees with the
# first two better than with the last (Zhang et al. 2018, Ding et al. 2020).
TELLING = ("lpips", "dists", "psnr")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A picture, by its place in the report's rows, and why it is shown."""

    index: int
    why: str


def finite(value: float | None) -> float | None:
    """The value, or None where it is no number that can be compared."""
    return value if value is not None and math.isfinite(value) else None


def judged(report: Report) -> str | None:
    """The model whose worst and best pictures are looked for: the first but the baseline."""
    return next((m for m in report.models if m != BASELINE), next(iter(report.models), None))


def per_picture(report: Report) -> list[str]:
    """The metrics of which any picture has a score."""
    return [
        name
        for name in report.metrics
        if any(finite(v) is not None for m in report.models for v in report.column(m, name))
    ]


def deciding(report: Report) -> str | None:
    """The metric that decides which pictures are the worst; None where no picture has a score."""
    known = per_picture(report)
    return next((name for name in TELLING if name in known), next(iter(known), None))


def choose(report: Report, count: int) -> list[Case]:
    """At most ``count`` pictures, worst first: the worst third, the best third, and others spread
    evenly between. Those without a score come last.
    """
    model, metric = judged(report), deciding(report)
    if model is None:
        return []
    places = range(len(report.rows[model]))
    scores: dict[int, float] = {}
    if metric is not None:
        sign = 1 if report.metrics[metric].higher_is_better else -1
        column = [finite(value) for value in report.column(model, metric)]
        scores = {i: sign * value for i, value in enumerate(column) if value is not None}
    ranked = sorted(scores, key=lambda index: (scores[index], report.rows[model][index].name))
    others = [index for index in places if index not in scores]
    if len(places) <= count or len(ranked) < count:
        shown = (*ranked, *others)[:count]
        return [Case(index=i, why="") for i in shown]
    third = count // 3
    worst, rest = ranked[:third], ranked[third:]
    best = rest[len(rest) - third :]
    between = spread(rest[: len(rest) - third], count - 2 * third)
    return [
        Case(index=index, why=why)
        for why, group in (("worst", worst), ("between", between), ("best", best))
        for index in group
    ]
