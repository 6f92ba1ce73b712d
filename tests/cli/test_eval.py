"""``clipsr eval``: the contract's object, reports, comparisons, and clear refusals."""

import csv
import json

import pytest
from PIL import Image

from clipsr_cli.hub.fetch import _progress
from clipsr_cli.weights import find_clip

CONTRACT = {"dataset", "split", "scale", "model", "n", "protocol", "metrics", "baseline"}


@pytest.fixture
def hr(tmp_path, photo):
    """Three pictures with captions."""
    for index, caption in enumerate(("a red bird", "a blue dog", "a green frog")):
        photo(tmp_path / "hr" / f"{index}.png", width=90, height=80, seed=index)
        (tmp_path / "hr" / f"{index}.txt").write_text(caption)
    return tmp_path / "hr"


def as_json(result):
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def test_a_folder_gives_the_contracts_object(run, hr):
    found = as_json(run("eval", hr, "--scale", 8, "--hr-size", 64, "--json"))

    assert found.keys() >= CONTRACT
    assert (found["dataset"], found["split"], found["scale"]) == (str(hr), "all", 8)
    assert (found["model"], found["n"]) == ("clipsr-mini", 3)
    assert {"psnr", "psnr_y", "ssim", "lpips", "clip_score", "lr_psnr"} <= found["metrics"].keys()
    assert found["baseline"]["bicubic"].keys() == found["metrics"].keys()
    assert found["protocol"]["hr_size"] == 64
    assert found["protocol"]["clip"] == "clipsr-clip-mini"
    low, high = found["intervals"]["psnr"]
    assert low < found["metrics"]["psnr"] < high


def test_a_dataset_is_scored_on_its_test_split(run, hr):
    rows = [
        {"file_name": f"{index}.png", "text": ["a bird"], "split": split}
        for index, split in enumerate(("train", "test", "test"))
    ]
    (hr / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = ("eval", "--dataset", "folder", "--data-root", hr, "--hr-size", 64, "--json")

    assert as_json(run(*given, "-m", "bicubic"))["n"] == 2
    assert as_json(run(*given, "-m", "bicubic", "--split", "train"))["n"] == 1
    assert as_json(run(*given, "-m", "bicubic", "--split", "all", "--limit", 1))["n"] == 1
    empty = run(*given, "--split", "val")
    assert empty.exit_code == 2
    assert "Its splits: test, train" in empty.stderr


def test_results_agree_with_the_run_that_wrote_them(run, hr, tmp_path):
    out = tmp_path / "report"
    given = ("--scale", 8, "--json")
    made = as_json(run("eval", hr, *given, "--hr-size", 64, "--report", out))

    again = as_json(
        run(
            "eval",
            out / "pictures" / "clipsr-mini",
            "--reference",
            out / "pictures" / "reference",
            *given,
        )
    )

    assert again["metrics"] == made["metrics"]
    assert again["baseline"] == made["baseline"]
    assert again["intervals"] == made["intervals"]
    assert again["n"] == 3


def test_a_report_has_a_page_a_sheet_and_every_score(run, hr, tmp_path):
    out = tmp_path / "report"

    result = run(
        "eval", hr, "--hr-size", 64, "--model", "clipsr-mini", "-m", "lanczos", "--report", out
    )

    assert result.exit_code == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "a green frog" in page
    assert "clipsr-mini" in page
    found = json.loads((out / "report.json").read_text())
    assert list(found["models"]) == ["clipsr-mini", "lanczos", "bicubic"]
    with (out / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert float(rows[0]["psnr"]) > 5
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 600
    table = result.stdout
    for word in ("clipsr-mini", "lanczos", "bicubic", "kernel: bicubic, antialiased", "PSNR"):
        assert word in table
    # The second run makes nothing again, and says the same.
    again = run(
        "eval", hr, "--hr-size", 64, "--model", "clipsr-mini", "-m", "lanczos", "--report", out
    )
    assert again.stdout == table


def test_the_effect_of_words_is_told(run, hr):
    given = ("eval", hr, "--hr-size", 64, "--prompts", "mismatched")

    table = run(*given)
    found = as_json(run(*given, "--json"))

    assert "matched minus another picture's first caption: lpips" in table.stdout
    assert found["text_effect"]["clipsr-mini"]["lpips"].keys() == {"mean", "interval", "n"}


def test_edits_are_measured_and_shown(run, hr, tmp_path):
    (tmp_path / "edits.csv").write_text("from,to\na red bird,a blue bird\n")
    given = ("eval", hr, "--scale", 16, "--hr-size", 64, "--limit", 2)

    table = run(*given, "--edits", tmp_path / "edits.csv", "--report", tmp_path / "report")
    found = as_json(run(*given, "--edits", tmp_path / "edits.csv", "--json"))

    assert table.exit_code == 0
    assert "a red bird -> a blue bird" in table.stdout
    assert [row["strength"] for row in found["edits"]] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert found["edits"][0]["clip_gain"]["mean"] == 0
    assert found["edits"][4]["colour_gain"]["mean"] != 0
    assert (tmp_path / "report" / "edits.png").is_file()
    kept = json.loads((tmp_path / "report" / "edits.json").read_text())
    assert kept["edits"] == found["edits"]


def test_a_broken_picture_costs_only_itself(run, hr):
    (hr / "1.png").write_bytes(b"no picture")

    result = run("eval", hr, "--hr-size", 64, "-m", "bicubic", "--json")

    assert result.exit_code == 3
    assert "failed: 1.png" in result.stderr
    found = json.loads(result.stdout)
    assert found["n"] == 2
    assert found["failed"].keys() == {"1.png"}


def test_only_the_asked_metrics_are_scored(run, hr):
    found = as_json(run("eval", hr, "-m", "bicubic", "--metrics", "ssim, psnr", "--json"))

    assert found["metrics"].keys() == {"ssim", "psnr"}


def test_a_metric_that_cannot_be_had_says_how_to_get_it(run, hr):
    asked = run("eval", hr, "--metrics", "psnr,niqe")
    default = run("eval", hr, "-m", "bicubic", "--hr-size", 64)

    assert asked.exit_code == 4
    assert "pip install" in asked.stderr
    assert default.exit_code == 0
    assert "NIQE" in default.stderr


def test_a_refused_scale_is_not_answered_with_an_option_of_another_command(run, hr):
    assert "--outscale" not in run("eval", hr, "--scale", 3).stderr


def test_all_that_is_fetched_is_shown(run, hr, monkeypatch):
    """The CLIP of the score and that of a model; the latter's weights are at hand here."""
    asked = []

    def find(name):
        asked.append(name)
        if (progress := _progress.get()) is not None:
            progress(f"hf://owner/{name}", 0, None)
        return find_clip(name)

    monkeypatch.setattr("clipsr_cli.weights.find_clip", find)

    result = run("eval", hr, "--hr-size", 64, "--limit", 1, "--metrics", "clip_score")

    assert result.exit_code == 0, result.stderr
    assert asked[:2] == ["clipsr-clip-mini"] * 2
    assert result.stderr.count("Fetching hf://owner/clipsr-clip-mini") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ([], 2, "Give either a folder"),
        (["--dataset", "cub"], 2, "--data-root"),
        (["HR", "--dataset", "cub"], 2, "Give either a folder"),
        (["--dataset", "cubs", "--data-root", "HR"], 2, "Did you mean 'cub'"),
        (["HR", "--scale", "3"], 2, "--scale"),
        (["HR", "--kernel", "cubic"], 2, "cubic"),
        (["HR", "--prompts", "none"], 2, "none"),
        (["HR", "--metrics", "pnsr"], 2, "Did you mean 'psnr'"),
        (["HR", "-m", "clipsr-mimi"], 2, "Did you mean 'clipsr-mini'"),
        (["HR", "-m", "gone.safetensors"], 4, "gone.safetensors"),
        (["HR", "--limit", "0"], 2, "--limit"),
        (["HR", "--split", "train"], 2, "--split means nothing with FOLDER"),
        (["HR", "--edits", "e.csv", "--split", "train"], 2, "--split means nothing with FOLDER"),
        (["HR", "--edits", "e.csv", "--group", "1"], 2, "--group means nothing with FOLDER"),
        (["HR", "--reference", "HR", "--data-root", "."], 2, "--data-root means nothing with"),
        (["HR", "--reference", "HR", "-m", "lanczos"], 2, "Give --scale 4, 8 or 16."),
        (["HR", "--reference", "HR", "--prompts", "empty"], 2, "--prompts means nothing"),
        (["HR", "--edits", "e.csv", "--metrics", "psnr"], 2, "--metrics means nothing"),
        (["--dataset", "cub", "--reference", "HR"], 2, "--reference needs"),
        (["HR", "--report", "HR/report"], 2, "lie in one another"),
        (["HR", "--metrics", ","], 2, "--metrics names none"),
        (["gone"], 2, "gone"),
        (["HR", "--reference", "gone"], 2, "gone"),
        (["HR", "--reference", "HR", "-m", "clipsr-mini"], 2, "cannot be given with --reference"),
        (["HR", "--edits", "gone.csv"], 2, "gone.csv"),
        (["HR", "--clip", "clipsr-mini"], 2, "No CLIP is named"),
        (["HR", "--device", "cuda:9"], 5, "cuda:9"),
    ],
)
def test_mistakes_are_refused(run, hr, arguments, code, named):
    result = run("eval", *(a.replace("HR", str(hr)) for a in arguments))

    assert result.exit_code == code, result.stderr
    assert named in result.stderr
