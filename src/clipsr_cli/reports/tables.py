"""Turn a report into its JSON object, or into a table with a line per model and picture."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from clipsr_cli.datasets.files import write_text
from clipsr_cli.evaluation.report import Estimate, Report
from clipsr_cli.reports.cases import BASELINE, finite

# A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def as_json(report: Report) -> dict[str, Any]:
    """The report as an object that JSON holds: what is no finite number is None.

    ``metrics`` and ``intervals`` are of the first model, ``models`` has those of all;
    ``differences`` are of the first model minus each other, picture by picture.
    """
    found = means(report)
    scores = {model: _means(own) for model, own in found.items()}
    intervals = {model: _intervals(own) for model, own in found.items()}
    first = next(iter(report.models), None)
    return {
        "dataset": report.dataset,
        "split": report.split,
        "scale": report.scale,
        "model": first,
        "n": len(report.rows[first]) if first is not None else 0,
        "protocol": dict(report.protocol),
        "metrics": scores[first] if first is not None else {},
        "baseline": {BASELINE: scores[BASELINE]} if BASELINE in scores else {},
        "intervals": intervals[first] if first is not None else {},
        "models": {
            model: {"metrics": scores[model], "intervals": intervals[model]}
            for model in report.models
        },
        "differences": {model: _estimates(found) for model, found in differences(report).items()},
        "text_effect": {model: _estimates(found) for model, found in report.text_effect.items()},
        "missing": dict(report.missing),
        "failed": dict(report.failed),
    }


def means(report: Report) -> dict[str, dict[str, Estimate | None]]:
    """The mean of every metric, by model and metric."""
    # Where a model has gone astray, a score may be infinite.
    with np.errstate(invalid="ignore"):
        return {m: {name: report.mean(m, name) for name in report.metrics} for m in report.models}


def differences(report: Report) -> dict[str, dict[str, Estimate]]:
    """How much more of each metric the first model has than each other, picture by picture."""
    found: dict[str, dict[str, Estimate]] = {}
    for other in report.models[1:]:
        with np.errstate(invalid="ignore"):
            known = {n: report.difference(report.models[0], other, n) for n in report.metrics}
        found[other] = {name: value for name, value in known.items() if value is not None}
    return found


def write_json(report: Report, path: Path) -> None:
    """Write the report's object.

    Raises:
        InputError: it cannot be written.
    """
    write_text(path, json.dumps(as_json(report), indent=2, allow_nan=False) + "\n")


def write_csv(report: Report, path: Path) -> None:
    """Write every picture's scores, a line for each model and picture (RFC 4180).

    Text that a spreadsheet would take for a formula gets an apostrophe before it; a metric that
    does not apply is left empty.

    Raises:
        InputError: it cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["model", "name", "prompt", "caption", *report.metrics])
    for model in report.models:
        for row in report.rows[model]:
            words = (_plain(word) for word in (model, row.name, row.prompt, row.caption))
            table.writerow([*words, *(finite(row.scores.get(name)) for name in report.metrics)])
    write_text(path, text.getvalue())


def _plain(text: str) -> str:
    """Text that no spreadsheet computes."""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) else text


def _means(found: dict[str, Estimate | None]) -> dict[str, float | None]:
    return {name: finite(value.mean) if value else None for name, value in found.items()}


def _intervals(found: dict[str, Estimate | None]) -> dict[str, list[float | None] | None]:
    return {
        name: [finite(value.low), finite(value.high)] if value else None
        for name, value in found.items()
    }


def _estimates(found: dict[str, Estimate]) -> dict[str, dict[str, Any]]:
    return {
        name: {"mean": finite(e.mean), "interval": [finite(e.low), finite(e.high)], "n": e.n}
        for name, e in found.items()
    }
