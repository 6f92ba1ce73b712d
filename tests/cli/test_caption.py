"""``clipsr caption``: which pictures get which sidecar file, streams, report, exit codes."""

import json
import os
import sys
from pathlib import Path

import pytest

from clipsr_cli import captions
from clipsr_cli.hub.fetch import _progress

ROW_KEYS = ["input", "output", "status", "backend", "model", "caption", "error"]
CLOSING_KEYS = ["done", "skipped", "failed", "seconds", "images_per_second"]


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def pictures(photo, tmp_path, monkeypatch):
    """An empty folder to be in, and what writes pictures there."""
    monkeypatch.chdir(tmp_path)

    def write(*names):
        for name in names:
            photo(Path(name))

    return write


class Stand:
    """A captioner that says how often it was asked, and does what it is told at some call."""

    def __init__(self, **errors):
        self.errors = errors
        self.asked = []
        self.loaded = []

    def load(self, options, *, device):
        self.loaded.append((options, device))
        return self

    def caption(self, seen):
        self.asked.append(len(seen))
        if error := self.errors.get(f"call_{len(self.asked)}"):
            raise error
        return [f"caption {len(self.asked)}.{index}" for index in range(len(seen))]


@pytest.fixture
def stand(monkeypatch):
    standing = Stand()
    monkeypatch.setattr(captions, "load", standing.load)
    return standing


FIXED = ("--backend", "fixed", "--text", "a red bird")


# What is written.


def test_pictures_get_sidecar_files_that_upscale_finds(run, pictures):
    pictures("in/a.png", "in/ü ber/[b].jpg")

    result = run("caption", "in", *FIXED, "-v")

    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert Path("in/ü ber/[b].txt").read_text() == "a red bird\n"
    assert {str(path) for path in Path("in").rglob("*.*")} == {
        "in/a.png",
        "in/a.txt",
        "in/ü ber/[b].jpg",
        "in/ü ber/[b].txt",
    }
    assert "2 pictures to caption, 0 with a sidecar file already." in result.stderr
    assert "done: in/ü ber/[b].txt: a red bird" in result.stderr
    dry = run("upscale", "in", "--dry-run").stdout
    assert dry.count("prompt: 'a red bird' (sidecar)") == 2


def test_the_embedded_model_captions_offline(run, pictures, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    pictures("a.png", "b.png")

    result = run("caption", "a.png", "b.png", "--offline", "--device", "cpu")

    assert result.exit_code == 0, result.stderr
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert Path("a.txt").read_text().startswith("a photo of ")
    assert Path("a.txt").read_text() == Path("b.txt").read_text()


def test_what_is_fetched_for_captions_is_shown(run, pictures, stand, monkeypatch):
    def find(name):
        progress = _progress.get()
        if progress is not None:
            progress(f"hf://owner/{name}", 0, None)

    monkeypatch.setattr(captions, "find_captioner", find)
    pictures("a.png", "b.png")

    told = run("caption", "a.png", "--backend", "coca")
    quiet = run("caption", "b.png", "--backend", "coca", "-q")

    assert told.exit_code == 0, told.stderr
    assert "Fetching hf://owner/coca-vit-b-32\n" in told.stderr
    assert (quiet.exit_code, quiet.stderr) == (0, "")


def test_sidecars_that_are_there_stay(run, pictures):
    pictures("a.png", "b.png", "c.png")
    Path("a.txt").write_text("mine")
    Path("b.caption").write_text("mine too")

    result = run("caption", ".", *FIXED, "--json")

    assert result.exit_code == 0
    closing = json.loads(result.stdout)
    assert list(closing) == CLOSING_KEYS
    assert (closing["done"], closing["skipped"], closing["failed"]) == (1, 2, 0)
    assert (Path("a.txt").read_text(), Path("c.txt").read_text()) == ("mine", "a red bird\n")
    # It would come before the other and hide it.
    assert not Path("b.txt").exists()

    assert json.loads(run("caption", ".", *FIXED, "--json").stdout)["skipped"] == 3
    assert run("caption", ".", *FIXED, "--overwrite").exit_code == 0
    assert [Path(f"{name}.txt").read_text() for name in "abc"] == ["a red bird\n"] * 3
    assert Path("b.caption").read_text() == "mine too"


def test_nothing_is_loaded_where_nothing_is_to_be_done(run, pictures, stand):
    pictures("a.png")
    Path("a.txt").write_text("mine")

    assert run("caption", "a.png", "--clip", "none").exit_code == 0
    assert stand.loaded == []


def test_pictures_that_would_share_a_sidecar_are_captioned_once(run, pictures, stand):
    pictures("a.jpg", "a.png")

    result = run("caption", ".", "--report", "r.jsonl")

    assert result.exit_code == 0, result.stderr
    assert stand.asked == [1]
    assert [(row["input"], row["status"], row["output"]) for row in rows(Path("r.jsonl"))] == [
        ("a.png", "skipped", "a.txt"),
        ("a.jpg", "done", "a.txt"),
    ]


def test_extensions_can_be_chosen(run, pictures):
    pictures("a.png", "b.png")
    Path("a.txt").write_text("not looked at")
    Path("b.cap").write_text("mine")

    assert run("caption", ".", *FIXED, "--caption-ext", "prompt,cap").exit_code == 0

    assert Path("a.prompt").read_text() == "a red bird\n"
    assert not Path("b.prompt").exists()


def test_pictures_are_chosen_by_pattern_and_depth(run, pictures):
    pictures("in/a.png", "in/b.png", "in/c/b.png")

    assert run("caption", "in", *FIXED, "--glob", "b*", "-R").exit_code == 0
    assert list(Path("in").rglob("*.txt")) == [Path("in/b.txt")]


# What is said.


def test_a_dry_run_prints_captions_and_writes_nothing(run, pictures, stand, tmp_path):
    pictures("in/a.png", "in/b.png")
    Path("in/c.png").write_bytes(b"no picture")
    before = sorted(tmp_path.rglob("*"))

    result = run("caption", "in", "--dry-run", "--report", "r.jsonl")

    assert result.exit_code == 3
    assert result.stdout == "in/a.png\tcaption 1.0\nin/b.png\tcaption 1.1\n"
    assert "failed: in/c.png" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_gives_its_rows_as_json_too(run, pictures, stand):
    pictures("a.png")

    result = run("caption", "a.png", "--dry-run", "--json", "-q")

    (row,) = (json.loads(line) for line in result.stdout.splitlines())
    assert list(row) == ROW_KEYS
    assert row == {
        "input": "a.png",
        "output": "a.txt",
        "status": "planned",
        "backend": "labels",
        "model": "clipsr-clip-mini",
        "caption": "caption 1.0",
        "error": None,
    }
    assert result.stderr == ""


def test_a_broken_picture_is_reported_and_the_others_go_on(run, pictures, stand):
    pictures("in/a.png", "in/b.png")
    Path("in/b.png").write_bytes(b"no picture")
    Path("in/b.caption").symlink_to("nowhere")
    pictures("in/c.png")

    result = run("caption", "in", "--overwrite", "--json", "--report", "new/r.jsonl")

    assert result.exit_code == 3
    found = {row["input"]: row for row in rows(Path("new/r.jsonl"))}
    assert [list(row) for row in found.values()] == [ROW_KEYS] * 3
    assert (found["in/a.png"]["status"], found["in/a.png"]["caption"]) == ("done", "caption 1.0")
    assert found["in/b.png"]["status"] == "failed"
    assert found["in/b.png"]["error"]["type"] == "ImageError"
    assert Path("in/c.txt").read_text() == "caption 1.1\n"
    assert json.loads(result.stdout)["failed"] == 1


def test_a_sidecar_that_cannot_be_written_is_that_pictures_failure(run, pictures):
    pictures("a.png", "b.png")
    Path("a.txt").mkdir()
    (Path("a.txt") / "full").touch()

    result = run("caption", ".", *FIXED, "--overwrite", "-q")

    assert result.exit_code == 3
    assert "failed: a.png: Cannot write a.txt" in result.stderr
    assert "done" not in result.stderr
    assert Path("b.txt").read_text() == "a red bird\n"
    assert not list(Path().glob(".*"))


def test_advice_is_given_where_there_is_some(run, pictures, monkeypatch):
    from clipsr_cli.errors import ImageError

    standing = Stand(call_1=ImageError("It broke.", hint="Mend it."))
    monkeypatch.setattr(captions, "load", standing.load)
    pictures("a.png")

    assert "failed: a.png: It broke.\n        Mend it.\n" in run("caption", "a.png").stderr


def test_an_interruption_is_130_and_keeps_what_is_done(run, pictures, monkeypatch):
    standing = Stand(call_2=KeyboardInterrupt())
    monkeypatch.setattr(captions, "load", standing.load)
    pictures("a.png", "b.png", "c.png")

    result = run("caption", ".", "--batch-size", 1, "--json")

    assert result.exit_code == 130
    assert "Interrupted" in result.stderr
    assert json.loads(result.stdout)["done"] == 1
    assert [path.name for path in Path().glob("*.txt")] == ["a.txt"]


def test_quiet_says_nothing_but_errors(run, pictures):
    pictures("a.png")

    result = run("caption", "a.png", *FIXED, "-q")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_any_file_name_can_be_captioned(run, pictures):
    name = os.fsdecode(b"\xff") + "猫"
    pictures(f"{name}.png")

    assert run("caption", ".", *FIXED, "--report", "r.jsonl").exit_code == 0
    assert rows(Path("r.jsonl"))[0]["output"] == f"{name}.txt"
    assert Path(f"{name}.txt").is_file()


# What reaches the captioner.


def test_options_reach_the_captioner(run, pictures, stand):
    pictures("a.png", "b.png", "c.png")
    Path("nouns.txt").write_text("owl")

    run("caption", ".", "--labels", "nouns.txt", "--device", "cpu", "--batch-size", 2)

    ((options, device),) = stand.loaded
    assert (options.backend, options.labels, device) == ("labels", Path("nouns.txt"), "cpu")
    assert stand.asked == [2, 1]


@pytest.mark.parametrize(
    ("code", "match", "arguments"),
    [
        (2, "No caption backend is named 'label'", ["--backend", "label"]),
        (2, "--text has no effect with --backend labels", ["--text", "x"]),
        (2, "--backend fixed needs a text", ["--backend", "fixed"]),
        (2, "--beams is 0", ["--backend", "coca", "--beams", "0"]),
        (2, "--batch-size is 0", ["--batch-size", "0"]),
        (2, "'gpu' is no device", ["--device", "gpu"]),
        (2, "Cannot read none.txt", ["--labels", "none.txt"]),
        (2, "No CLIP is named 'none'", ["--clip", "none"]),
        (2, "No captioner is named 'none'", ["--backend", "coca", "-m", "none"]),
        (4, "own.safetensors", ["--backend", "coca", "-m", "x:own.safetensors"]),
        (2, "A sidecar file cannot end in .PNG", ["--caption-ext", ".PNG"]),
        (2, "'' is no file extension", ["--caption-ext", ","]),
        (2, "--report . is a folder", ["--report", "."]),
        (2, "a.png is an input and would be overwritten", ["--report", "a.png"]),
        (2, "a.txt is a sidecar file and would be overwritten", ["--report", "./a.txt"]),
        (2, "a.png is not a folder", ["--report", "a.png/r.jsonl"]),
        (2, "There is no picture that matches 'x*'", [".", "--glob", "x*"]),
        (2, "none.png does not exist", ["none.png"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_before_any_work(
    run, pictures, stand, tmp_path, code, match, arguments
):
    pictures("a.png")
    before = sorted(tmp_path.rglob("*"))
    inputs = [] if arguments[0] == "." else ["a.png"]

    result = run("caption", *inputs, *arguments)

    assert result.exit_code == code, result.stderr
    assert match in result.stderr
    assert result.stdout == ""
    assert stand.loaded == []
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_report_that_cannot_be_written_stops_nothing_and_is_a_failure(run, pictures, stand):
    pictures("in/a.png", "in/b.png")
    # A name that jobs take for a file of its own.
    Path("r.jsonl").symlink_to("/dev/full")

    result = run("caption", "in", "--report", "r.jsonl", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["done"] == 2
    assert result.stderr.count("The report r.jsonl is not complete: No space left") == 2


def test_an_older_report_stays_where_the_device_is_missing(run, pictures, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pictures("a.png")
    Path("r.jsonl").write_text("older")

    result = run("caption", "a.png", "--device", "cuda", "--report", "r.jsonl")

    assert result.exit_code == 5
    assert Path("r.jsonl").read_text() == "older"


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_refused(run, pictures):
    pictures("in/a.png")
    Path("in").chmod(0o500)

    result = run("caption", "in", *FIXED)

    Path("in").chmod(0o700)
    assert result.exit_code == 2
    assert "cannot be written to" in result.stderr
