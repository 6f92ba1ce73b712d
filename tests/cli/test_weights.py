"""``clipsr weights list`` says what can be given to ``--model``."""

import json

from clipsr_cli import weights

KEYS = {"name", "kind", "scales", "clip", "size", "present", "licence", "description"}


def test_json_has_a_row_for_every_entry(run):
    result = run("weights", "list", "--json")

    assert result.exit_code == 0
    rows = json.loads(result.stdout)["weights"]
    assert [row["name"] for row in rows] == list(weights.registry())
    for row in rows:
        assert set(row) == KEYS
        assert row["size"] > 0 or not row["present"]


def test_a_table_says_the_same_to_people(run):
    result = run("weights", "list")

    assert result.exit_code == 0
    for words in ("clipsr-mini", "generator", "x4 x8 x16", "MB", "Apache-2.0"):
        assert words in result.stdout


def test_missing_files_are_said_to_be_missing(run, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "ASSETS", tmp_path)

    rows = json.loads(run("weights", "list", "--json").stdout)["weights"]

    assert {(row["present"], row["size"]) for row in rows} == {(False, 0)}
    assert " no " in run("weights", "list").stdout
