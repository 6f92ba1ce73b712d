"""Turn a report's numbers into HTML: means, differences, and how the scores are spread."""

from collections.abc import Iterable, Mapping, Sequence

from clipsr_cli.evaluation.report import Estimate, Report
from clipsr_cli.metrics import Metric
from clipsr_cli.reports.cases import BASELINE, finite, per_picture
from clipsr_cli.reports.markup import Html, breakable, element, join
from clipsr_cli.reports.plots import Series, distribution
from clipsr_cli.reports.tables import differences, means

STYLES = 6
NONE = "\N{EN DASH}"


def styles(report: Report) -> dict[str, str]:
    """The CSS class of each model's colour: the baseline is gray."""
    others = [model for model in report.models if model != BASELINE]
    return {BASELINE: "s0"} | {m: f"s{1 + i % STYLES}" for i, m in enumerate(others)}


def finite_means(report: Report) -> dict[str, dict[str, Estimate]]:
    """The means that are numbers, by model and metric."""
    return {
        model: {k: v for k, v in own.items() if v is not None and finite(v.mean) is not None}
        for model, own in means(report).items()
    }


def best(values: Mapping[str, float], metric: Metric) -> set[str]:
    """Of two values or more, those that are the best, in the digits that are shown."""
    if len(values) < 2:
        return set()
    rounded = {name: round(value, metric.digits) for name, value in values.items()}
    top = (max if metric.higher_is_better else min)(rounded.values())
    return {name for name, value in rounded.items() if value == top}


def number(value: float, metric: Metric, *, sign: bool = False) -> str:
    """A score, or a difference with its sign, in the metric's digits."""
    return f"{value:{'+' if sign else ''}.{metric.digits}f}"


def direction(metric: Metric) -> str:
    """Which way is better, with the unit where there is one."""
    way = "↑ higher is better" if metric.higher_is_better else "↓ lower is better"
    return f"{metric.unit}, {way}" if metric.unit else way


def mean_table(report: Report, found: Mapping[str, Mapping[str, Estimate]]) -> Html:
    """A row for each model, a column for each metric, the best values marked."""
    marks = {
        name: best({m: own[name].mean for m, own in found.items() if name in own}, metric)
        for name, metric in report.metrics.items()
    }

    def cell(model: str, name: str) -> Html:
        metric, value = report.metrics[name], found[model].get(name)
        if value is None:
            return element("td", element("span", NONE, class_="num"), data_title=metric.title)
        whole = name in report.whole.get(model, {})
        small = "whole set" if whole else _interval(value, metric)
        top = model in marks[name]
        return element(
            "td",
            element("span", number(value.mean, metric), class_="num"),
            element("span", " best", class_="unseen") if top else None,
            element("small", small),
            class_="best" if top else None,
            data_title=metric.title,
        )

    rows = [(_model(report, m), [cell(m, name) for name in report.metrics]) for m in report.models]
    return _table("model", report.metrics.values(), rows)


def difference_table(report: Report) -> Html | None:
    """The first model minus each other, picture by picture; None for a single model."""
    found = differences(report)
    return _change_table(report, "", {m: join("minus ", _model(report, m)) for m in found}, found)


def effect_table(report: Report) -> Html | None:
    """What the pictures' own captions change; None where that was not asked."""
    found = report.text_effect
    return _change_table(report, "model", {m: _model(report, m) for m in found}, found)


def distributions(report: Report, found: Mapping[str, Mapping[str, Estimate]]) -> list[Html]:
    """A figure for each metric that single pictures have a score of."""
    figures = []
    for name in per_picture(report):
        metric = report.metrics[name]
        series = []
        for model, own in found.items():
            scores = [
                (row.name, value)
                for row in report.rows[model]
                if (value := finite(row.scores.get(name))) is not None
            ]
            if scores and name in own:
                style = styles(report)[model]
                series.append(Series(model=model, style=style, scores=scores, mean=own[name]))
        if series:
            drawn = distribution(f"{metric.title} ({direction(metric)})", series, metric.digits)
            figures.append(element("figure", drawn, class_="plot"))
    return figures


def _model(report: Report, model: str) -> Html:
    swatch = element("i", class_=f"swatch {styles(report).get(model, 's0')}")
    return join(swatch, element("bdi", breakable(model)))


def _interval(value: Estimate, metric: Metric, *, sign: bool = False) -> str:
    if finite(value.low) is None or finite(value.high) is None or value.n < 2:
        return f"n = {value.n}"
    low, high = (number(end, metric, sign=sign) for end in (value.low, value.high))
    return f"[{low}, {high}]"


def _change(metric: Metric, value: Estimate | None) -> Html:
    """A difference, its interval, and whether it is for better or worse."""
    if value is None or finite(value.mean) is None:
        return element("td", element("span", NONE, class_="num"), data_title=metric.title)
    word = "unclear"
    if value.n > 1 and (value.low > 0 or value.high < 0):
        word = "better" if (value.low > 0) == metric.higher_is_better else "worse"
    return element(
        "td",
        element("span", number(value.mean, metric, sign=True), class_="num"),
        element("small", _interval(value, metric, sign=True)),
        element("small", word, class_="word"),
        class_=word,
        data_title=metric.title,
    )


def _change_table(
    report: Report,
    corner: str,
    heads: Mapping[str, Html],
    found: Mapping[str, Mapping[str, Estimate]],
) -> Html | None:
    """A row for each head, a column for each metric that has a change; None where none has."""
    known = {
        name: metric
        for name, metric in report.metrics.items()
        if any(name in changes for changes in found.values())
    }
    rows = [
        (head, [_change(metric, found[key].get(name)) for name, metric in known.items()])
        for key, head in heads.items()
    ]
    return _table(corner, known.values(), rows) if known else None


def _table(
    corner: str, metrics: Iterable[Metric], rows: Sequence[tuple[Html, Sequence[Html]]]
) -> Html:
    heads = [
        element("th", metric.title, element("small", direction(metric)), scope="col")
        for metric in metrics
    ]
    head = element("thead", element("tr", element("th", corner, scope="col"), *heads))
    lines = [element("tr", element("th", first, scope="row"), *cells) for first, cells in rows]
    table = element("table", head, element("tbody", *lines), class_="scores")
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label="Scores")
