"""A report as JSON keeps the command line's contract; as CSV no spreadsheet computes it."""

import csv
import json
import math

import pytest

from clipsr_cli.errors import InputError
from clipsr_cli.evaluation.report import Estimate
from clipsr_cli.reports import as_json, write_csv, write_json
from clipsr_cli.reports.cases import choose, deciding, judged

SCORES = {
    "mini": {"psnr": [30.0, 32.0], "lpips": [0.2, 0.1]},
    "bicubic": {"psnr": [20.0, 24.0], "lpips": [0.5, None]},
}


def test_the_object_has_the_contracts_fields_for_the_first_model(make_report):
    found = as_json(make_report(SCORES, missing={"dists": "no weights"}, failed={"a": "broken"}))

    assert list(found)[:8] == [
        "dataset",
        "split",
        "scale",
        "model",
        "n",
        "protocol",
        "metrics",
        "baseline",
    ]
    assert (found["dataset"], found["split"], found["scale"]) == ("birds", "test", 4)
    assert (found["model"], found["n"]) == ("mini", 2)
    assert found["metrics"] == pytest.approx({"psnr": 31.0, "lpips": 0.15})
    assert found["baseline"] == {"bicubic": {"psnr": 22.0, "lpips": 0.5}}
    assert found["intervals"]["psnr"] == [30.0, 32.0]
    assert found["models"]["bicubic"]["metrics"] == found["baseline"]["bicubic"]
    assert found["models"]["mini"]["intervals"] == found["intervals"]
    assert found["missing"] == {"dists": "no weights"}
    assert found["failed"] == {"a": "broken"}


def test_differences_are_of_the_first_model_minus_each_other_over_pictures_that_both_have(
    make_report,
):
    effect = {"mini": {"psnr": Estimate(mean=0.5, low=0.25, high=0.75, n=2)}}

    found = as_json(make_report(SCORES, text_effect=effect))

    assert found["differences"]["bicubic"]["psnr"]["mean"] == 9.0
    assert found["differences"]["bicubic"]["psnr"]["interval"] == [8.0, 10.0]
    assert found["differences"]["bicubic"]["lpips"]["n"] == 1
    expected = {"mean": 0.5, "interval": [0.25, 0.75], "n": 2}
    assert found["text_effect"] == {"mini": {"psnr": expected}}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_number_of_the_object_is_other_than_finite(make_report, tmp_path, bad):
    report = make_report(
        {"mini": {"psnr": [bad, 30.0], "lpips": [None, None]}, "b": {"psnr": [1.0, 2.0]}},
        whole={"mini": {"psnr": bad}},
    )

    write_json(report, tmp_path / "report.json")

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "report.json").read_text()
    found = json.loads(text, parse_constant=refuse)
    assert found == as_json(report)
    assert found["metrics"] == {"psnr": None, "lpips": None}
    assert found["intervals"]["lpips"] is None
    assert found["differences"]["b"]["psnr"]["mean"] is None


def test_a_report_without_baseline_scale_or_models_has_an_object_too(make_report):
    single = as_json(make_report({"mini": {"psnr": [30.0]}}, scale=None))
    empty = as_json(make_report({}))

    assert (single["baseline"], single["differences"], single["scale"]) == ({}, {}, None)
    assert (empty["model"], empty["n"], empty["metrics"]) == (None, 0, {})


def test_a_table_reads_back_as_it_was_written(make_report, tmp_path):
    names = ['a "quoted", name', "two\nlines", "b\r\rc", "caf\u00e9 \u9ce5"]
    report = make_report(
        {"mini": {"psnr": [30.0, 1 / 3, math.nan, None]}, "bicubic": {"lpips": [0.1] * 4}},
        names=names,
        prompt="a, b;\tc",
        caption="",
    )

    write_csv(report, tmp_path / "rows.csv")

    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["model", "name", "prompt", "caption", "psnr", "lpips"]
    assert [row[:2] for row in rows] == [[m, n] for m in ("mini", "bicubic") for n in names]
    assert {tuple(row[2:4]) for row in rows} == {("a, b;\tc", "")}
    assert [row[4] for row in rows[:4]] == ["30.0", repr(1 / 3), "", ""]
    assert [row[4:] for row in rows[4:]] == [["", "0.1"]] * 4


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " ="])
def test_text_is_never_taken_for_a_formula(make_report, tmp_path, start):
    payload = f'{start}HYPERLINK("a")'
    report = make_report(
        {payload: {"psnr": [-3.5]}}, names=[payload], prompt=payload, caption=payload
    )

    write_csv(report, tmp_path / "rows.csv")

    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        _, row = csv.reader(file)
    # A number keeps its sign.
    assert row == [f"'{payload}"] * 4 + ["-3.5"]


def test_names_that_are_not_utf_8_can_be_written(make_report, tmp_path):
    report = make_report({"mini": {"psnr": [30.0]}}, names=["caf\udce9"])

    write_csv(report, tmp_path / "rows.csv")
    write_json(report, tmp_path / "report.json")

    assert "caf\\udce9" in (tmp_path / "rows.csv").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_is_told(make_report, tmp_path):
    (tmp_path / "file").touch()

    for write in (write_csv, write_json):
        with pytest.raises(InputError, match="Cannot write"):
            write(make_report(SCORES), tmp_path / "file" / "out")


def test_the_judged_model_is_the_first_but_the_baseline(make_report):
    column = {"psnr": [1.0]}

    assert judged(make_report({"bicubic": column, "mini": column})) == "mini"
    assert judged(make_report({"bicubic": column})) == "bicubic"
    assert judged(make_report({})) is None


def test_lpips_decides_and_psnr_where_there_is_none(make_report):
    assert deciding(make_report(SCORES)) == "lpips"
    assert deciding(make_report({"m": {"psnr": [1.0], "lpips": [None]}})) == "psnr"
    assert deciding(make_report({"m": {"ssim": [1.0], "psnr": [math.nan]}})) == "ssim"
    assert deciding(make_report({"m": {"psnr": [None]}})) is None


def test_the_worst_and_the_best_are_by_the_metrics_direction(make_report):
    values = [0.5, 0.1, 0.4, 0.3, 0.9, 0.2, 0.7]

    def chosen(metric, count):
        report = make_report({"mini": {metric: values}})
        return [(values[case.index], case.why) for case in choose(report, count)]

    assert chosen("lpips", 3) == [(0.9, "worst"), (0.7, "between"), (0.1, "best")]
    assert chosen("psnr", 3) == [(0.1, "worst"), (0.2, "between"), (0.9, "best")]
    assert chosen("psnr", 20) == [(value, "") for value in sorted(values)]


def test_pictures_without_a_score_come_last(make_report):
    def chosen(values, count):
        report = make_report({"mini": {"psnr": values}})
        return [case.index for case in choose(report, count)]

    assert chosen([None, 3.0, math.nan, 1.0], 4) == [3, 1, 0, 2]
    assert chosen([None, 3.0, None, 1.0], 3) == [3, 1, 0]
    assert chosen([None, 3.0, None, 1.0], 2) == [3, 1]
    assert chosen([None, None], 1) == [0]
    assert choose(make_report({}), 3) == []


def test_as_many_as_asked_for_are_chosen_and_none_twice(make_report):
    for total in (1, 2, 7, 100):
        report = make_report({"mini": {"lpips": [float(i % 10) for i in range(total)]}})
        for count in (1, 2, 3, 12, 60):
            chosen = [case.index for case in choose(report, count)]
            assert len(chosen) == len(set(chosen)) == min(total, count)
