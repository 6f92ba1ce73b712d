"""The installed command with a process for each device: as one process would, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from clipsr_cli import images

CLIPSR = Path(sys.executable).parent / "clipsr"
# Pictures that are whole, and the name of one more that is not.
COUNT = 12
BROKEN = "07.png"
# Seconds after which what was to happen is taken to happen never.
PATIENCE = 120
# Little at once, so that there is work left when something happens.
SLOWLY = ("--batch-size", "1", "--workers", "1")


def run(*arguments):
    """Run ``clipsr`` and give its exit code, stdout and stderr."""
    done = subprocess.run(
        [CLIPSR, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE
    )
    return done.returncode, done.stdout, done.stderr


class Running:
    """A run of ``clipsr`` in a process group of its own, as a shell starts it."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [CLIPSR, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def workers(self):
        """Its worker processes, as far as they are there."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            try:
                if any("spawn_main" in part for part in child.cmdline()):
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def wait_for(self, there):
        deadline = time.monotonic() + PATIENCE
        while not (found := there()):
            assert time.monotonic() < deadline
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.005)
        return found

    def ends(self):
        """Its exit code, and what it said on stderr. Nothing of it is there any more."""
        try:
            _, err = self.process.communicate(timeout=PATIENCE)
            # What only keeps the books of Python's processes ends a little later than they.
            _, alive = psutil.wait_procs([*self._left()], timeout=PATIENCE / 10)
        finally:
            for process in self._left():
                process.kill()
        assert alive == []
        return self.process.returncode, err

    def _left(self):
        for process in psutil.process_iter():
            try:
                own = os.getpgid(process.pid) == self.process.pid
                # One that has ended may wait for whoever inherited it.
                if own and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue


@pytest.fixture(scope="module")
def plain(tmp_path_factory, write_pictures):
    """Small pictures, one of them broken, and what one process makes of them: the folder of all."""
    folder = tmp_path_factory.mktemp("plain")
    write_pictures(folder / "in", COUNT + 1)
    broken = folder / "in" / BROKEN
    broken.write_bytes(broken.read_bytes()[:80])
    code, _, err = run(
        "upscale", folder / "in", "-o", folder / "out", "--report", folder / "report.jsonl",
        "--device", "cpu",
    )  # fmt: skip
    assert code == 3, err
    return folder


@pytest.fixture
def command(plain, tmp_path):
    """The arguments of a run with two processes over the pictures that are whole."""
    pictures = [p for p in sorted((plain / "in").glob("*.png")) if p.name != BROKEN]
    return (
        "upscale", *pictures, "-o", tmp_path / "out", "--gpus", "cpu,cpu",
        "--report", tmp_path / "report.jsonl",
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_do_as_one_and_a_broken_file_costs_only_itself(
    plain, tmp_path, outputs, rows
):
    code, out, err = run(
        "upscale", plain / "in", "-o", tmp_path / "out", "--gpus", "cpu,cpu",
        "--report", tmp_path / "report.jsonl", "--json",
    )  # fmt: skip

    assert code == 3, err
    assert outputs(tmp_path / "out") == outputs(plain / "out")
    assert len(outputs(tmp_path / "out")) == COUNT
    own = rows(tmp_path / "report.jsonl", tmp_path / "out")
    assert own == rows(plain / "report.jsonl", plain / "out")
    assert len(own) == COUNT + 1
    closing = json.loads(out)
    assert (closing["done"], closing["failed"]) == (COUNT, 1)
    assert "Running on cpu, cpu." in err
    assert "WARNING" not in err
    assert [line for line in err.splitlines() if BROKEN in line and "failed" in line]


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(plain, command, tmp_path, outputs, rows):
    running = Running(*command, *SLOWLY)
    running.wait_for(lambda: outputs(tmp_path / "out"))
    busiest = max(running.workers(), key=lambda worker: worker.cpu_times().user)
    busiest.kill()
    code, err = running.ends()

    assert code == 0, err
    assert outputs(tmp_path / "out") == outputs(plain / "out")
    wanted = rows(plain / "report.jsonl", plain / "out")
    assert rows(tmp_path / "report.jsonl", tmp_path / "out") == {
        r for r in wanted if BROKEN not in r
    }
    assert "WARNING: A worker died, by SIGKILL" in err
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_workers_whose_parent_is_killed_end_by_themselves(plain, command, tmp_path, outputs):
    running = Running(*command, *SLOWLY)
    running.wait_for(lambda: outputs(tmp_path / "out"))
    workers = running.workers()
    assert len(workers) == 2
    running.process.kill()

    _, alive = psutil.wait_procs(workers, timeout=PATIENCE / 4)
    code, err = running.ends()

    assert alive == []
    assert code == -signal.SIGKILL
    assert "Traceback" not in err
    finished = outputs(tmp_path / "out")
    assert 1 <= len(finished) < COUNT
    wanted = outputs(plain / "out")
    assert finished.items() <= wanted.items()
    # The next run does the rest.
    code, _, err = run("upscale", plain / "in", "-o", tmp_path / "out", "--device", "cpu")
    assert code == 3, err
    assert outputs(tmp_path / "out") == wanted
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_finishes_what_is_under_way(plain, command, tmp_path, outputs):
    running = Running(*command, *SLOWLY, "--tile", "16")
    running.wait_for(lambda: outputs(tmp_path / "out"))
    os.killpg(running.process.pid, signal.SIGINT)
    code, err = running.ends()

    assert code == 130, err
    assert "Traceback" not in err
    assert "died" not in err
    finished = outputs(tmp_path / "out")
    assert 1 <= len(finished) <= COUNT
    for name in finished:
        assert images.read(tmp_path / "out" / name).size[1] == 160
    # What is there is in the report, and nothing else is.
    report = (tmp_path / "report.jsonl").read_text().splitlines()
    done = [Path(json.loads(line)["output"]).name for line in report]
    assert sorted(done) == sorted(finished)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_ctrl_c_twice_stops_at_once_and_leaves_nothing_half_written(command, tmp_path, outputs):
    running = Running(*command, *SLOWLY, "--tile", "16")
    running.wait_for(lambda: outputs(tmp_path / "out"))
    os.killpg(running.process.pid, signal.SIGINT)
    time.sleep(0.1)
    os.killpg(running.process.pid, signal.SIGINT)
    code, err = running.ends()

    assert code == 130, err
    assert "Traceback" not in err
    for name in outputs(tmp_path / "out"):
        assert images.read(tmp_path / "out" / name).size[1] == 160
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_ctrl_c_while_the_workers_start_ends_without_a_word_of_python(command, tmp_path, outputs):
    running = Running(*command)
    running.wait_for(running.workers)
    os.killpg(running.process.pid, signal.SIGINT)
    code, err = running.ends()

    assert code == 130, err
    assert "Traceback" not in err
    assert "died" not in err
    assert outputs(tmp_path / "out") == {}


@pytest.mark.slow
def test_a_device_that_is_not_there_gives_exit_5_at_once(plain, tmp_path):
    code, out, err = run("upscale", plain / "in", "-o", tmp_path / "out", "--gpus", "7")

    assert code == 5, err
    assert "cuda:7" in err
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "out").exists()
