"""Turn some of a report's pictures into HTML: two results under a slider, with words and scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clipsr_cli.evaluation.folder import LOW, REFERENCE
from clipsr_cli.evaluation.report import Report, Row
from clipsr_cli.reports.cases import BASELINE, Case, choose, deciding, finite, judged, per_picture
from clipsr_cli.reports.embedding import Shown, embed
from clipsr_cli.reports.markup import Html, breakable, element
from clipsr_cli.reports.scores import NONE, best, number, styles
from clipsr_cli.reports.sheets import Pictures

# The page holds its pictures, and would not open in reasonable time with many more.
MAX_PICTURES = 60
ENDS = ("worst", "best")
KIND_WORDS = {LOW: "low (its pixels)", REFERENCE: "reference"}


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pictures of a page.

    Attributes:
        note: how many there are of how many, and which.
        toolbar: what is compared, and in which order; None where there is nothing to compare.
        cards: one for each picture, worst first.
        data: what the page's script needs.
    """

    note: str
    toolbar: Html | None
    cards: Sequence[Html]
    data: dict[str, Any]


def make_gallery(report: Report, pictures: Pictures) -> Gallery:
    """The pictures that are most worth looking at, as many as a page can hold."""
    model, metric = judged(report), deciding(report)
    rows = report.rows[model] if model is not None else []
    chosen = choose(report, MAX_PICTURES)
    embedded = embed(report, [rows[case.index].name for case in chosen], pictures)
    cases = [case for case in chosen if rows[case.index].name in embedded.shown]
    if model is None or not cases:
        note = "No picture could be read." if rows else "There are none."
        return Gallery(note=note, toolbar=None, cards=(), data=_data(report, (), ()))
    kinds = [
        kind
        for kind in dict.fromkeys((BASELINE, *report.models, REFERENCE, LOW))
        if any(kind in shown.uris for shown in embedded.shown.values())
    ]
    sides = _first_two(kinds, model)
    cards = [
        element(
            "article",
            _compare(rows[case.index].name, embedded.shown[rows[case.index].name], kinds, sides),
            _about(report, rows[case.index], case, embedded.shown[rows[case.index].name]),
            class_="card",
            data_index=place,
        )
        for place, case in enumerate(cases)
    ]
    note = _note(len(rows), cases, embedded.quality)
    if len(cases) < len(chosen):
        note += f" {len(chosen) - len(cases)} could not be read."
    if metric is not None and any(case.why for case in cases):
        note += f" Worst and best are by {report.metrics[metric].title} of {model}."
    return Gallery(
        note=note,
        toolbar=_toolbar(report, kinds, sides, sorted_=len(cases) > 1),
        cards=cards,
        data=_data(report, cases, rows),
    )


def _first_two(kinds: Sequence[str], model: str) -> tuple[str, str]:
    """What is compared at first: the baseline with the model, where there are both."""
    right = model if model in kinds else kinds[-1]
    left = next((kind for kind in kinds if kind != right), right)
    return left, right


def _note(total: int, cases: Sequence[Case], quality: int) -> str:
    shown = len(cases)
    if shown == total:
        words = "All pictures are shown."
    else:
        words = f"{shown} of {total} pictures are shown"
        counts = {why: sum(case.why == why for case in cases) for why in ENDS}
        if any(counts.values()):
            rest = shown - sum(counts.values())
            words += (
                f": the {counts['worst']} worst, the {counts['best']} best, "
                f"and {rest} spread evenly between"
            )
        words += "."
    return (
        f"{words} Here they are compressed (WebP, quality {quality}); "
        "scores are of what they are on disk."
    )


def _compare(name: str, shown: Shown, kinds: Sequence[str], sides: tuple[str, str]) -> Html:
    """All pictures of one thing, one over the other, and the slider that parts two of them."""
    layers = [
        element(
            "img",
            class_=" ".join(
                word
                for word, wanted in (
                    ("left", kind == sides[0]),
                    ("right", kind == sides[1] != sides[0]),
                    ("pixels", kind == LOW),
                )
                if wanted
            ),
            data_kind=place,
            alt=f"{kind} of {name}",
            src=shown.uris[kind],
            draggable="false",
        )
        for place, kind in enumerate(kinds)
        if kind in shown.uris
    ]
    left, right = (KIND_WORDS.get(kind, kind) for kind in sides)
    slider = element(
        "input",
        type="range",
        min=0,
        max=100,
        value=50,
        autocomplete="off",
        aria_label=f"{name}: from the left {left}, then {right}",
    )
    return element(
        "div",
        *layers,
        element("div", element("bdi", left), class_="side at-left"),
        element("div", element("bdi", right), class_="side at-right"),
        element("span", class_="handle"),
        slider,
        class_="compare" if sides[0] != sides[1] else "compare same",
        style=f"--w:{shown.size[0]};--h:{shown.size[1]}",
    )


def _about(report: Report, row: Row, case: Case, shown: Shown) -> Html:
    head = element(
        "div",
        element("h3", breakable(row.name), dir="auto"),
        element("span", case.why, class_=f"chip {case.why}") if case.why in ENDS else None,
        element("button", "Larger", type="button", class_="larger", aria_pressed="false"),
        class_="head",
    )
    words = _words(row.prompt, row.caption)
    return element("div", head, words, _cut(shown), _marks(report, case.index), class_="about")


def _words(prompt: str, caption: str) -> Html:
    """The prompt and the caption, once where they are the same."""

    def line(label: str, text: str) -> Html:
        shown = element("q", text, dir="auto") if text else element("span", "none", class_="faint")
        return element("div", element("dt", label), element("dd", shown))

    if prompt == caption:
        return element("dl", line("Prompt and caption", prompt), class_="words")
    return element("dl", line("Prompt", prompt), line("Caption", caption), class_="words")


def _cut(shown: Shown) -> Html | None:
    if shown.cut_from is None:
        return None
    (width, height), (full_width, full_height) = shown.size, shown.cut_from
    words = f"Shown: the middle {width} x {height} of {full_width} x {full_height}."
    return element("p", words, class_="faint")


def _marks(report: Report, index: int) -> Html:
    """One picture's scores: a row for each metric, a column for each model."""
    colours = styles(report)
    heads = [
        element(
            "th",
            element(
                "span",
                element("i", class_=f"swatch {colours[model]}"),
                element("bdi", breakable(model)),
            ),
            scope="col",
            title=model,
        )
        for model in report.models
    ]
    lines = []
    for name in per_picture(report):
        metric = report.metrics[name]
        found = {m: finite(report.rows[m][index].scores.get(name)) for m in report.models}
        top = best({m: v for m, v in found.items() if v is not None}, metric)
        arrow = "↑" if metric.higher_is_better else "↓"
        cells = [
            element(
                "td",
                NONE if value is None else number(value, metric),
                class_="best" if model in top else None,
            )
            for model, value in found.items()
        ]
        lines.append(element("tr", element("th", f"{metric.title} {arrow}", scope="row"), *cells))
    head = element("thead", element("tr", element("td"), *heads))
    table = element(
        "table", head, element("tbody", *lines), class_="marks", style=f"--n:{len(report.models)}"
    )
    return element("div", table, class_="scroll")


def _toolbar(
    report: Report, kinds: Sequence[str], sides: tuple[str, str], *, sorted_: bool
) -> Html:
    """What is compared and, of more than one picture, in which order."""

    def select(label: str, name: str, options: Sequence[tuple[str, str]], chosen: str) -> Html:
        made = [
            element("option", words, value=str(place), selected=value == chosen)
            for place, (value, words) in enumerate(options)
        ]
        shown = element("select", *made, name=name)
        return element("label", element("span", label), shown, class_=f"pick {name}")

    compared = [(kind, KIND_WORDS.get(kind, kind)) for kind in kinds]
    parts = [
        select("Left", "left", compared, sides[0]),
        element("button", "⇄", type="button", class_="swap", title="Swap left and right"),
        select("Right", "right", compared, sides[1]),
    ]
    if sorted_:
        orders = [(order, order) for order in ("worst first", "best first", "by name")]
        parts.append(select("Order", "order", orders, "worst first"))
    if sorted_ and (scored := per_picture(report)):
        titles = [(name, report.metrics[name].title) for name in scored]
        models = [(model, model) for model in report.models]
        parts.append(select("by", "metric", titles, deciding(report) or ""))
        parts.append(select("of", "model", models, judged(report) or ""))
    label = "What is compared, and in which order"
    return element("form", *parts, class_="toolbar", autocomplete="off", aria_label=label)


def _data(report: Report, cases: Sequence[Case], rows: Sequence[Row]) -> dict[str, Any]:
    """What the script sorts by: of each card its place by name, and scores by model and metric."""
    names = per_picture(report)
    by_name = sorted(cases, key=lambda case: rows[case.index].name)
    ranks = {case.index: rank for rank, case in enumerate(by_name)}
    return {
        "higher": [report.metrics[name].higher_is_better for name in names],
        "ranks": [ranks[case.index] for case in cases],
        "scores": [
            [
                [finite(report.rows[m][case.index].scores.get(name)) for name in names]
                for m in report.models
            ]
            for case in cases
        ],
    }
