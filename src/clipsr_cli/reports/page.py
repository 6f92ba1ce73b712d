"""Turn a report into one HTML file that needs nothing beside it: no network, fonts or libraries."""

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

from clipsr_cli.datasets.files import write_text
from clipsr_cli.evaluation.report import Report
from clipsr_cli.reports import scores
from clipsr_cli.reports.gallery import make_gallery
from clipsr_cli.reports.markup import Html, breakable, element, escape, join, script_json
from clipsr_cli.reports.plots import MAX_DOTS
from clipsr_cli.reports.sheets import Pictures

PROTOCOL_WORDS = {"hr_size": "HR size"}


def write_page(report: Report, path: Path, pictures: Pictures) -> None:
    """Write a report as a page.

    Args:
        report: what was scored.
        path: the HTML file.
        pictures: gives the file of a picture by kind (a model's name, ``reference`` or ``low``) and
            name. What cannot be read is not shown.

    Raises:
        InputError: it cannot be written.
    """
    write_text(path, make_page(report, pictures))


def make_page(report: Report, pictures: Pictures) -> str:
    """A report as HTML."""
    template = (files("clipsr_cli.reports") / "page.html").read_text(encoding="utf-8")
    gallery = make_gallery(report, pictures)
    found = scores.finite_means(report)
    scaled = "" if report.scale is None else f", x{report.scale}"
    parts = {
        "policy": escape(_policy(template)),
        "title": escape(f"{report.dataset}, {report.split}{scaled}"),
        "header": _header(report),
        "scores": join(scores.mean_table(report, found), _legend(report), _unscored(report)),
        "protocol": _protocol(report),
        "differences": _section(
            "Differences",
            f"{next(iter(report.models), '')} minus each other model, picture by picture, "
            "with 95 % intervals.",
            scores.difference_table(report),
        ),
        "text": _section(
            "What the text does",
            "The pictures' own captions minus the prompts of the protocol, picture by picture, "
            "with 95 % intervals.",
            scores.effect_table(report),
        ),
        "distributions": _distributions(report, scores.distributions(report, found)),
        "note": escape(gallery.note),
        "toolbar": escape(gallery.toolbar),
        "cards": join(*gallery.cards),
        "data": script_json(gallery.data),
    }
    # In one pass, so that nothing that was put in is looked at again.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def _policy(template: str) -> str:
    """What the page may load (Content Security Policy, level 3): itself, and no script but its
    own.
    """
    (script,) = re.findall(r"<script>(.*?)</script>", template, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _header(report: Report) -> Html:
    count = max((len(rows) for rows in report.rows.values()), default=0)
    facts = [
        ("split", report.split),
        ("scale", "as on disk" if report.scale is None else f"x{report.scale}"),
        ("pictures", str(count)),
        ("models", str(len(report.models))),
    ]
    if report.failed:
        facts.append(("failed", str(len(report.failed))))
    listed = [element("div", element("dt", name), element("dd", value)) for name, value in facts]
    return element(
        "header",
        element("h1", report.dataset, dir="auto"),
        element("dl", *listed, class_="facts"),
    )


def _legend(report: Report) -> Html:
    words = "Means over the pictures; in brackets the 95 % interval."
    if len(report.models) > 1:
        words += " The best value of each column is marked."
    return element("p", words, class_="faint")


def _unscored(report: Report) -> Html:
    """The metrics that could not be had and the pictures that could not be scored."""

    def listed(found: dict[str, str], titles: dict[str, str]) -> Html:
        return element(
            "ul",
            *(
                element(
                    "li", element("b", breakable(titles.get(name, name)), dir="auto"), ": ", why
                )
                for name, why in found.items()
            ),
        )

    titles = {name: metric.title for name, metric in report.metrics.items()}
    parts = []
    if report.missing:
        count = len(report.missing)
        head = f"{count} metric{'s are' if count > 1 else ' is'} not available"
        body = join(element("summary", head), listed(report.missing, titles))
        parts.append(element("details", body, class_="notice", open=count <= 5))
    if report.failed:
        count = len(report.failed)
        head = f"{count} picture{'s' if count > 1 else ''} could not be scored"
        body = join(element("summary", head), listed(report.failed, {}))
        parts.append(element("details", body, class_="notice bad", open=count <= 5))
    return join(*parts)


def _protocol(report: Report) -> Html:
    rows = [
        element(
            "tr",
            element("th", PROTOCOL_WORDS.get(name, name.replace("_", " ")), scope="row"),
            element("td", value),
        )
        for name, value in report.protocol.items()
        if value is not None
    ]
    return element("table", element("tbody", *rows), class_="protocol")


def _section(title: str, words: str, content: Html | None) -> Html:
    if content is None:
        return Html("")
    return element("section", element("h2", title), element("p", words, class_="faint"), content)


def _distributions(report: Report, figures: list[Html]) -> Html:
    count = max((len(rows) for rows in report.rows.values()), default=0)
    if not figures or count < 2:
        return Html("")
    shown = (
        "Each dot is a picture"
        if count <= MAX_DOTS
        else "The shapes are histograms of the pictures"
    )
    words = f"{shown}; the bar is the mean, and the thick line its 95 % interval."
    return _section("Distributions", words, element("div", *figures, class_="plots"))
