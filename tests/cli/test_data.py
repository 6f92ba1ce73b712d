"""``clipsr data`` says what of a dataset is there, and writes what it lacks."""

import json
import subprocess
import sys

import pytest

from clipsr_cli.datasets import DATASETS


@pytest.fixture
def cub(tmp_path, photo):
    """Two birds without captions and boxes."""
    home = tmp_path / "CUB_200_2011"
    names = ["001.Least_Auklet/a.jpg", "002.Ovenbird/b.jpg"]
    for name in names:
        photo(home / "images" / name)
    (home / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names)))
    (home / "train_test_split.txt").write_text("0 1\n1 0\n")
    return tmp_path


def test_a_check_says_what_is_there_and_where_to_get_the_rest(run, cub):
    result = run("data", "check", "cub", "--data-root", cub)

    assert (result.exit_code, result.stderr) == (0, "")
    for words in (
        "2 photos",
        "1 train, 1 test, from train_test_split.txt",
        "bounding boxes",
        "whole photos are used",
        f"clipsr data prepare cub --data-root {cub}",
        "Samples: 1 train, 1 test; 2 captions",
        "Example: 001.Least_Auklet/a.jpg: a photo of a least auklet",
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
    ):
        assert words in result.stdout


def test_json_says_the_same_to_programs(run, cub):
    result = run("data", "check", "cub", "--data-root", cub, "--json")

    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["dataset"] == "cub"
    assert found["data_root"] == str(cub)
    assert found["usable"] is True
    assert found["splits"] == {"train": 1, "test": 1}
    assert (found["samples"], found["captions"]) == (2, 2)
    assert found["example"]["name"] == "001.Least_Auklet/a.jpg"
    assert found["example"]["caption"] == "a photo of a least auklet"
    assert {part["what"] for part in found["parts"]} >= {"photos", "split", "captions"}
    assert all(set(p) == {"what", "found", "ok", "needed", "advice"} for p in found["parts"])
    assert "caltech" in found["source"]


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_missing_is_exit_2_and_said(run, tmp_path, name):
    result = run("data", "check", name, "--data-root", tmp_path)

    assert result.exit_code == 2
    assert f"error: {name} in {tmp_path} cannot be used" in result.stderr
    assert "needed" in result.stdout
    assert "Source: " in result.stdout


def test_what_is_missing_is_said_in_json_too(run, tmp_path):
    result = run("data", "check", "coco", "--data-root", tmp_path, "--json")

    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert (found["usable"], found["samples"], found["example"]) == (False, 0, None)
    assert all(part["advice"] for part in found["parts"])


def test_what_only_reading_finds_is_said(run, tmp_path, photo):
    photo(tmp_path / "train/JPEGImages/v/0.jpg")
    path = tmp_path / "meta_expressions.json"
    path.write_text(json.dumps({"videos": {"v": {"expressions": {}, "frames": ["0"]}}}))

    result = run("data", "check", "ref-ytvos", "--data-root", tmp_path)

    assert result.exit_code == 2
    assert "no frame with an expression" in result.stderr


def test_a_picture_without_a_caption_is_an_example_too(run, tmp_path, photo):
    photo(tmp_path / "a.png")

    result = run("data", "check", "folder", "--data-root", tmp_path)

    assert result.exit_code == 0
    assert "Example: a.png: no caption" in result.stdout


def test_a_share_for_a_dataset_with_a_split_of_its_own_is_refused(run, cub):
    result = run("data", "prepare", "cub", "--data-root", cub, "--held-back", 0.3)

    assert result.exit_code == 2
    assert "cub is never split by --held-back" in result.stderr
    assert "folder and celeba" in result.stderr


def test_what_strangers_wrote_sends_nothing_to_the_terminal(run, tmp_path, photo):
    photo(tmp_path / "a\x1b[31m.png")
    (tmp_path / "a\x1b[31m.txt").write_text("a bird\x1b]0;owned\x07")

    result = run("data", "check", "folder", "--data-root", tmp_path)

    assert "Example: a\\x1b[31m.png: a bird\\x1b]0;owned\\x07" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr


def test_names_and_captions_are_shown_as_they_are(run, tmp_path, photo):
    photo(tmp_path / "[red]a.png")
    (tmp_path / "[red]a.txt").write_text("a [bold] :cat:")

    result = run("data", "check", "folder", "--data-root", tmp_path)

    assert "Example: [red]a.png: a [bold] :cat:" in result.stdout


@pytest.mark.parametrize("command", ["check", "prepare"])
def test_an_unknown_dataset_is_refused(run, tmp_path, command):
    result = run("data", command, "cbu", "--data-root", tmp_path)

    assert result.exit_code == 2
    assert "'cbu'" in result.stderr
    assert "'cub'" in result.stderr


@pytest.mark.parametrize(
    ("name", "group", "said"), [("cub", 1, "no groups"), ("ref-ytvos", 7, "7")]
)
@pytest.mark.parametrize("command", ["check", "prepare"])
def test_a_group_that_is_not_there_is_refused(run, tmp_path, command, name, group, said):
    result = run("data", command, name, "--data-root", tmp_path, "--group", group)

    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_preparing_says_what_it_wrote_and_then_that_there_is_nothing(run, cub):
    first = run("data", "prepare", "cub", "--data-root", cub)
    again = run("data", "prepare", "cub", "--data-root", cub)

    assert (first.exit_code, again.exit_code) == (0, 0)
    assert f"Wrote {cub / 'text/001.Least_Auklet/a.txt'}" in first.stdout
    assert (cub / "text/002.Ovenbird/b.txt").read_text() == "a photo of an ovenbird\n"
    assert "Nothing to prepare" in again.stdout
    assert "2 photos from caption files" in run("data", "check", "cub", "--data-root", cub).stdout


def test_many_files_are_counted(run, cub, photo):
    names = [f"003.Wren/{index}.jpg" for index in range(12)]
    for name in names:
        photo(cub / "CUB_200_2011/images" / name, width=2, height=2)
    lines = "".join(f"{index} {name}\n" for index, name in enumerate(names))
    (cub / "CUB_200_2011/images.txt").write_text(lines)

    result = run("data", "prepare", "cub", "--data-root", cub)

    assert result.stdout.count("Wrote ") == 10
    assert "and 2 more." in result.stdout


def test_the_share_that_is_held_back_is_given(run, tmp_path, photo):
    for index in range(12):
        photo(tmp_path / f"{index}.png", width=2, height=2)

    result = run("data", "prepare", "folder", "--data-root", tmp_path, "--held-back", 0.99)

    assert result.exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert [row["split"] for row in rows].count("test") > 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("folder", "--held-back", "1.5"), "1.5"), (("celeba",), "no pictures")],
)
def test_what_cannot_be_prepared_is_refused(run, tmp_path, arguments, said):
    result = run("data", "prepare", *arguments, "--data-root", tmp_path)

    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["data", "check", "--help"], {"torch", "open_clip", "pyvips", "numpy", "PIL"}),
        (["data", "check", "folder", "--data-root", "."], {"torch", "open_clip", "pyvips"}),
    ],
)
def test_no_heavy_library_is_loaded(tmp_path, photo, arguments, heavy):
    photo(tmp_path / "a.png")
    script = (
        "import sys\n"
        "from clipsr_cli.cli import app\n"
        "try:\n"
        f"    app({arguments})\n"
        "except SystemExit as ended:\n"
        f"    print(ended.code, sorted({heavy} & sys.modules.keys()))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
