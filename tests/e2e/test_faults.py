"""Whatever happens to a run or to its files: outputs are whole, all other pictures are done, and
every picture is told of.
"""

import importlib.util
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from clipsr_cli import images

TESTS = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("killing", TESTS / "killing.py")
killing = importlib.util.module_from_spec(SPEC)
# Where its dataclasses look for it.
sys.modules["killing"] = killing
SPEC.loader.exec_module(killing)

USAGE, SOME_FAILED = 2, 3


# Runs that are ended


def test_runs_that_are_killed_at_random_moments_harm_nothing(tmp_path):
    tally = killing.kill_again_and_again(tmp_path, kills=56, pictures=32)

    assert not tally.faults, "\n\n".join(tally.faults)
    assert tally.kills == 56
    assert tally.outputs == tally.identical == 32 * tally.rounds
    assert tally.temporary_files_left == 0
    # Or the kills would have come when nothing was at stake, and shown nothing.
    assert tally.while_work_was_left > tally.kills / 2
    assert tally.with_progress > tally.kills / 3
    assert tally.left_a_temporary_file >= 5
    assert tally.by_signal["SIGKILL"] > tally.kills / 2
    assert len(tally.by_signal) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        # As if pictures were written under their own names.
        "sys.modules['clipsr_cli.encoders.place'].beside = lambda path: path",
        # As if what is left behind stood in the way.
        "pathlib.Path.unlink = lambda self, missing_ok=False: None",
    ],
)
def test_killing_finds_out_a_writer_that_is_not_safe(tmp_path, wrong, monkeypatch):
    # Python runs this file at its start; the server has the package by the time of its first fork.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        "fork = os.fork\n"
        "def spoil():\n"
        "    import clipsr_cli.encoders.place\n"
        f"    {wrong}\n"
        "    return fork()\n"
        "if any(word.endswith('killing.py') for word in sys.orig_argv):\n"
        "    os.fork = spoil\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # Many tiles, so that writing takes its time.
    settings = [s for s in killing.SETTINGS if s.name == "tiff"]

    # No single kill is sure to hit a file that is half written.
    for seed in range(5):
        work = tmp_path / str(seed)
        work.mkdir()
        tally = killing.kill_again_and_again(
            work, kills=12, pictures=12, seed=seed, settings=settings
        )
        if tally.faults:
            break

    assert tally.faults


def test_a_second_interrupt_at_the_worst_moment_does_not_hang(tmp_path, photo):
    """Between a picture's last tile and the hand-over of its last rows."""
    photo(tmp_path / "in" / "a.png", width=24, height=24)
    script = (
        "import sys\n"
        "from clipsr_cli import UpscaleOptions, plan\n"
        "from clipsr_cli.upscaling import Upscaler\n"
        "from clipsr_cli.upscaling.finishing import Finish\n"
        "begin = Finish.begin\n"
        "def interrupted(self, rows):\n"
        "    if self.canvas.complete:\n"
        "        raise KeyboardInterrupt\n"
        "    return begin(self, rows)\n"
        "Finish.begin = interrupted\n"
        "todo = plan([sys.argv[1]], __import__('pathlib').Path(sys.argv[2]), scale=4)\n"
        "options = UpscaleOptions(tile=12, tile_overlap=2)\n"
        "try:\n"
        "    list(Upscaler.load(device='cpu', options=options).run(todo.jobs))\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    command = [sys.executable, "-c", script, tmp_path / "in", tmp_path / "out"]

    done = subprocess.run(command, timeout=40, check=False)

    assert done.returncode == 130
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


# Files and folders that are not as they should be. All runs are forks of one server.


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with killing.Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def work(tmp_path, photo):
    """A folder with six pictures that nothing is wrong with."""
    for index in range(6):
        photo(tmp_path / "in" / f"good{index}.png", seed=index)
    return tmp_path


def arguments(work, *more):
    every = ("upscale", work / "in", "-o", work / "out", "-m", killing.MODEL, "--device", "cpu")
    return (*every, "--report", work / "report.jsonl", *more)


def rows(work):
    lines = (work / "report.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def check(work, ended, *, bad=(), good=6):
    """The good ones are done and whole, the bad ones told, and nothing else was written."""
    assert ended.code == (SOME_FAILED if bad else 0), ended.stderr
    assert "Traceback" not in ended.stderr
    told = rows(work)
    failed = [row for row in told if row["status"] == "failed"]
    assert sorted(Path(row["input"]).name for row in failed) == sorted(bad)
    assert all(row["error"]["type"] == "ImageError" for row in failed)
    done = [Path(row["output"]) for row in told if row["status"] == "done"]
    assert len(told) == len(done) + len(failed) == good + len(bad)
    out = work / "out"
    assert {path for path in out.rglob("*") if path.is_file()} == set(done)
    for path in done:
        assert images.read(path).size == (96, 64)
    everything = {path.name for path in work.iterdir()}
    assert everything <= {"in", "out", "report.jsonl", "precious", "prompts.csv", "prompts.jsonl"}


def png_of_another_size(path):
    """A PNG whose header, with a checksum that fits, claims more rows than there are."""
    data = path.read_bytes()
    header = data[12:20] + struct.pack(">I", 400) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])


def test_broken_files_fail_alone(server, work, photo):
    folder = work / "in"
    whole = photo(folder / "truncated.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    whole = photo(folder / "short.jpg").read_bytes()
    (folder / "short.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    (folder / "empty.webp").touch()
    (folder / "text.tif").write_text("no picture")
    bomb = photo(folder / "bomb.bmp")
    data = bomb.read_bytes()
    bomb.write_bytes(data[:18] + struct.pack("<ii", 100_000, 100_000) + data[26:])
    # These are none: what a file holds counts, not its name; and a folder is a folder.
    photo(folder / "other.png").rename(folder / "other.jpg")
    photo(folder / "folder.png" / "within.png")

    ended = server.run(*arguments(work))

    bad = ("truncated.png", "short.jpg", "empty.webp", "text.tif", "bomb.bmp")
    check(work, ended, bad=bad, good=8)
    assert (work / "out" / "folder.png" / "within_x4.png").is_file()


def test_a_png_of_fewer_rows_than_it_claims_fails_alone(server, work, photo):
    png_of_another_size(photo(work / "in" / "claims.png"))

    ended = server.run(*arguments(work))

    check(work, ended, bad=["claims.png"])


def test_an_unreadable_file_fails_alone(server, work):
    (work / "in" / "good3.png").chmod(0)

    ended = server.run(*arguments(work), powerless=True)

    check(work, ended, bad=["good3.png"], good=5)


def test_a_file_that_vanishes_after_planning_fails_alone(server, work, photo):
    photo(work / "in" / "last.png")

    server.start(*arguments(work))
    until(lambda: "to enlarge" in server.said())
    # The model is loaded from here on, before any picture is read.
    (work / "in" / "last.png").unlink()
    ended = server.wait()

    check(work, ended, bad=["last.png"])
    assert "not there any more" in ended.stderr


def until(holds):
    deadline = time.monotonic() + killing.PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_pictures_that_a_full_disk_does_not_take_fail_and_leave_nothing(server, work, photo):
    photo(work / "in" / "large.png", width=96, height=64)

    # What any of the others takes uncompressed.
    ended = server.run(*arguments(work), file_size=96 * 64 * 3 + 1000)

    check(work, ended, bad=["large.png"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_report_that_cannot_be_written_stops_no_picture(server, work):
    ended = server.run(*arguments(work, "--report", "/dev/full"))

    assert len(killing.contents(work / "out")) == 6
    assert ended.code not in (0, -signal.SIGKILL)
    assert "Traceback" not in ended.stderr


def test_an_output_folder_that_cannot_be_written_is_refused(server, work):
    (work / "out").mkdir(mode=0o500)

    ended = server.run(*arguments(work), powerless=True)

    assert ended.code == USAGE
    assert "cannot be written" in ended.stderr


def test_a_subfolder_that_cannot_be_written_is_refused(server, work, photo):
    photo(work / "in" / "sub" / "a.png")
    (work / "out" / "sub").mkdir(parents=True)
    (work / "out" / "sub").chmod(0o500)

    ended = server.run(*arguments(work), powerless=True)

    assert ended.code == USAGE
    assert killing.contents(work / "out") == {}


def test_a_run_goes_on_when_its_output_folder_is_removed(server, work, photo):
    for index in range(40):
        photo(work / "in" / f"more{index:02}.png", seed=index)
    out = work / "out"

    server.start(*arguments(work))
    until(lambda: out.exists() and len(killing.contents(out)) >= 5)
    moved = work / "gone"
    out.rename(moved)
    shutil.rmtree(moved, ignore_errors=True)
    ended = server.wait()

    assert ended.code in (0, SOME_FAILED), ended.stderr
    assert "Traceback" not in ended.stderr
    told = rows(work)
    assert len({row["input"] for row in told}) == len(told) == 46
    assert all(row["error"]["type"] == "ImageError" for row in told if row["status"] == "failed")
    written = [path for path in out.rglob("*") if path.is_file()]
    # Most of what came later is there.
    assert len(written) >= 20
    assert all(images.read(path).size == (96, 64) for path in written)


# Links and names that lead elsewhere


@pytest.fixture
def precious(work):
    """A folder outside the output folder with a file that must stay as it is."""
    folder = work / "precious"
    folder.mkdir()
    (folder / "file").write_text("precious")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert (folder / "file").read_text() == "precious"
    assert not (folder / "file").is_symlink()


@pytest.mark.parametrize("where", ["sub", "sub/deeper"])
def test_a_link_that_leads_out_of_the_output_folder_is_refused(
    server, work, photo, precious, where
):
    photo(work / "in" / "sub" / "deeper" / "a.png")
    link = work / "out" / where
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)

    ended = server.run(*arguments(work))

    assert ended.code == USAGE, ended.stderr
    assert killing.contents(work / "out") == {}


@pytest.mark.parametrize("lay", [Path.symlink_to, Path.hardlink_to])
def test_a_link_under_a_temporary_name_is_not_written_through(server, work, precious, lay):
    (work / "out").mkdir()
    lay(work / "out" / ".good0_x4.png.part", precious / "file")

    ended = server.run(*arguments(work))

    check(work, ended)


def test_a_link_under_an_outputs_name_is_replaced_and_not_followed(server, work, precious):
    (work / "out").mkdir()
    (work / "out" / "good0_x4.png").symlink_to(precious / "file")

    ended = server.run(*arguments(work, "--overwrite"))

    check(work, ended)
    assert not (work / "out" / "good0_x4.png").is_symlink()


@pytest.mark.parametrize("name", ["good0_x4.png", ".good0_x4.png.part"])
def test_a_folder_under_an_outputs_name_fails_alone(server, work, name):
    (work / "out" / name).mkdir(parents=True)

    ended = server.run(*arguments(work, "--overwrite"))

    check(work, ended, bad=["good0.png"], good=5)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_file_names_of_a_prompt_file_lead_nowhere(server, work, precious, form):
    names = ["../precious/file", str(precious / "file"), "sub/../../good1.png", "good0.png"]
    if form == "csv":
        lines = ["file_name,text", *(f"{name},a red bird" for name in names)]
    else:
        lines = [json.dumps({"file_name": name, "text": "a red bird"}) for name in names]
    (work / f"prompts.{form}").write_text("\n".join(lines))

    ended = server.run(*arguments(work, "--prompts", work / f"prompts.{form}"))

    check(work, ended)
    prompts = {Path(row["input"]).name: row["prompt"] for row in rows(work)}
    assert prompts == {f"good{i}.png": "a red bird" if i == 0 else "" for i in range(6)}


HOSTILE = {
    "newline": "two\nlines.png",
    "escape sequence": "\x1b[31mred\x1b]0;title\x07.png",
    "return": "good\rbad.png",
    "not UTF-8": os.fsdecode(b"caf\xe9.png"),
    "right to left": "\u202egnp.png",
    "option": "--overwrite.png",
    "markup": "[red]{stem}%s$(id)`id`.png",
    "dots": "a...png..png",
}


@pytest.mark.parametrize("broken", [False, True])
def test_hostile_names_stay_in_the_output_folder(server, work, photo, broken):
    for name in HOSTILE.values():
        photo(work / "in" / name)
        if broken:
            (work / "in" / name).write_bytes(b"no picture")

    ended = server.run(*arguments(work, "-v"))

    bad = list(HOSTILE.values()) if broken else []
    check(work, ended, bad=bad, good=6 if broken else 6 + len(HOSTILE))
    assert len((work / "report.jsonl").read_bytes().splitlines()) == 6 + len(HOSTILE)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_name_cannot_send_commands_to_the_terminal(server, work, photo, dry):
    photo(work / "in" / HOSTILE["escape sequence"])
    (work / "in" / f"broken {HOSTILE['escape sequence']}").write_bytes(b"no picture")

    ended = server.run(*arguments(work, "-v", *dry))

    assert not {"\x1b", "\x07"} & {*ended.stdout, *ended.stderr}


@pytest.mark.parametrize("length", [240, 246, 251])
def test_a_name_too_long_for_its_output_fails_alone(server, work, photo, length):
    name = "n" * length + ".png"
    photo(work / "in" / name)

    ended = server.run(*arguments(work))

    # A file system's names have 255 bytes.
    too_long = length + len("_x4.png") > 255
    check(work, ended, bad=[name] if too_long else [], good=6 + (not too_long))
