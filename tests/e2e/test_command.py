"""The installed command, run as a user runs it, with the model inside the package."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsr_cli import images

CLIPSR = Path(sys.executable).parent / "clipsr"
EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments, cwd=None):
    """Run ``clipsr`` and give its exit code, stdout and stderr."""
    done = subprocess.run(
        [CLIPSR, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=600
    )
    return done.returncode, done.stdout, done.stderr


def pixels(path):
    return images.read(path).pixels.astype(int)


def test_an_example_becomes_sixteen_times_as_large_with_its_sidecars_prompt(tmp_path):
    report = tmp_path / "report.jsonl"

    code, out, err = run(
        "upscale", EXAMPLES / "crab.png", "-s", 16, "-o", tmp_path, "--report", report, "--json"
    )

    assert code == 0, err
    with Image.open(EXAMPLES / "crab.png") as small, Image.open(tmp_path / "crab_x16.png") as large:
        assert large.size == (small.width * 16, small.height * 16)
    row = json.loads(report.read_text())
    assert (row["status"], row["prompt_source"]) == ("done", "sidecar")
    assert row["prompt"] == (EXAMPLES / "crab.txt").read_text().strip()
    assert json.loads(out)["done"] == 1


def test_one_broken_file_among_ten_gives_nine_pictures_and_exit_3(tmp_path, photo):
    for index in range(10):
        photo(tmp_path / "in" / f"{index}.png", seed=index)
    broken = tmp_path / "in" / "7.png"
    broken.write_bytes(broken.read_bytes()[:80])

    code, _, err = run("upscale", tmp_path / "in", "-o", tmp_path / "out")

    assert code == 3
    assert len(list((tmp_path / "out").iterdir())) == 9
    assert [line for line in err.splitlines() if "7.png" in line and "failed" in line]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_leaves_no_half_picture_and_the_next_call_finishes(tmp_path, photo, how):
    names = [f"{index:02}.png" for index in range(16)]
    for index, name in enumerate(names):
        photo(tmp_path / "in" / name, width=80, height=60, seed=index)
    out = tmp_path / "out"
    arguments = ("upscale", tmp_path / "in", "-o", out, "--batch-size", "1", "--workers", "1")
    process = subprocess.Popen(
        [CLIPSR, *map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 300
    while not (out.is_dir() and [p for p in out.iterdir() if p.suffix == ".png"]):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(how)
    process.communicate(timeout=120)

    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    finished = [p for p in out.iterdir() if not p.name.startswith(".")]
    assert 1 <= len(finished) < len(names)
    for path in finished:
        assert images.read(path).size == (320, 240)
    kept = {path: path.stat().st_mtime_ns for path in finished}

    code, _, err = run(*arguments)

    assert code == 0, err
    assert sorted(p.name for p in out.iterdir()) == [f"{index:02}_x4.png" for index in range(16)]
    assert {path: path.stat().st_mtime_ns for path in finished} == kept


def test_words_change_the_picture_and_the_same_words_give_the_same_bytes(tmp_path):
    source = EXAMPLES / "macaw.png"
    for name, prompt in (("one", "a red bird"), ("two", "a red bird"), ("three", "a grey castle")):
        code, _, err = run("upscale", source, "-s", 8, "--prompt", prompt, "-o", tmp_path / name)
        assert code == 0, err

    one, two, three = (tmp_path / n / "macaw_x8.png" for n in ("one", "two", "three"))
    assert one.read_bytes() == two.read_bytes()
    assert np.abs(pixels(one) - pixels(three)).max() > 0


@pytest.mark.parametrize("scale", [4, 8, 16])
def test_tiles_and_the_whole_picture_agree_and_show_no_seam(tmp_path, scale):
    source = EXAMPLES / "castle.png"
    for name, tile in (("tiles", "32"), ("whole", "96")):
        code, _, err = run(
            "upscale", source, "-s", scale, "--tile", tile, "-o", tmp_path / name, "--batch-size", 1
        )
        assert code == 0, err
    tiles, whole = (pixels(tmp_path / n / f"castle_x{scale}.png") for n in ("tiles", "whole"))

    assert np.abs(tiles - whole).mean() < 2
    # A seam would be a jump from row to row, or column to column, that the whole picture lacks.
    for axis in (0, 1):
        jumps = [np.abs(np.diff(p, axis=axis)).mean(axis=(1 - axis, 2)) for p in (tiles, whole)]
        assert (jumps[0] - jumps[1]).max() < 3


@pytest.mark.parametrize("options", [[], ["--offline"]])
def test_the_main_job_needs_neither_the_network_nor_a_home(tmp_path, photo, options):
    photo(tmp_path / "a.png")
    # Python runs this file at its start: any attempt to connect then ends the program.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "sys.addaudithook(lambda e, a: os._exit(99) if e == 'socket.connect' else None)\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "PYTHONPATH": str(tmp_path),
    }

    done = subprocess.run(
        [CLIPSR, "upscale", "a.png", *options], cwd=tmp_path, env=environment, timeout=300
    )

    assert done.returncode == 0
    assert (tmp_path / "upscaled" / "a_x4.png").is_file()
