"""Every picture's scores, and what they come to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clipsr_cli.evaluation.protocol import RESAMPLES, SEED
from clipsr_cli.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class Row:
    """One picture's scores, by metric; None where a metric does not apply to it."""

    name: str
    prompt: str
    caption: str
    scores: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over ``n`` pictures with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was scored, by what protocol, and every picture's scores.

    Attributes:
        dataset, split: what was scored; a folder's path, and ``all``, for a folder.
        protocol: in words.
        rows: of each model, one for each picture, in the same order.
        whole: of each model, scores of the whole set, such as FID.
        metrics: those that were asked for.
        text_effect: of each model that was also told the pictures' own captions, how much more of
            each metric it has with them than with the prompts of the protocol.
        missing: metrics that could not be had, and why.
        failed: pictures that could not be scored, and why.
    """

    dataset: str
    split: str
    scale: int | None
    protocol: dict[str, str | int | None]
    rows: dict[str, list[Row]]
    metrics: dict[str, Metric]
    whole: dict[str, dict[str, float]] = field(default_factory=dict)
    text_effect: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """In the order they were asked for."""
        return list(self.rows)

    def column(self, model: str, metric: str) -> list[float | None]:
        """One score of each picture."""
        return [row.scores.get(metric) for row in self.rows[model]]

    def mean(self, model: str, metric: str) -> Estimate | None:
        """The mean over the pictures that have the score; None where none has."""
        if metric in self.whole.get(model, {}):
            value, n = self.whole[model][metric], len(self.rows[model])
            return Estimate(mean=value, low=value, high=value, n=n)
        values = [value for value in self.column(model, metric) if value is not None]
        return estimate(values) if values else None

    def difference(self, first: str, second: str, metric: str) -> Estimate | None:
        """The mean of first minus second over the pictures that both have a score of."""
        return difference(self.rows[first], self.rows[second], metric)


def difference(first: Sequence[Row], second: Sequence[Row], metric: str) -> Estimate | None:
    """The mean of first minus second, picture by picture; None where no picture has both."""
    pairs = (
        (a.scores.get(metric), b.scores.get(metric)) for a, b in zip(first, second, strict=True)
    )
    values = [a - b for a, b in pairs if a is not None and b is not None]
    return estimate(values) if values else None


def estimate(values: Sequence[float]) -> Estimate:
    """The mean and its 95 % interval by the percentile bootstrap (Efron 1979)."""
    # Sorted, so that nothing depends on the pictures' order.
    found = np.sort(np.asarray(values, np.float64))
    rng = np.random.default_rng(SEED)
    # In parts, or a large set would take a gigabyte.
    picked = [found[rng.integers(len(found), size=len(found))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(picked, [2.5, 97.5])
    return Estimate(mean=float(found.mean()), low=float(low), high=float(high), n=len(found))
