"""The installed command on a Ray cluster: as on one machine, even if an actor is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray", reason="the extra ray is not installed")

CLIPSR = Path(sys.executable).parent / "clipsr"
COUNT = 12
# Seconds after which what was to happen is taken to happen never; Ray takes its time to start.
PATIENCE = 240
ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}


def start(*arguments, environment=ENVIRONMENT):
    return subprocess.Popen(
        [CLIPSR, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments, **more):
    """Run ``clipsr`` and give its exit code, stdout and stderr."""
    process = start(*arguments, **more)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def actors(process):
    """The processes of the actors that are under a run, as far as they are there."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "ray::_Serving" in " ".join([child.name(), *child.cmdline()]):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory, write_pictures):
    """Small pictures, and what one process makes of them: the folder of both."""
    folder = tmp_path_factory.mktemp("plain")
    write_pictures(folder / "in", COUNT)
    code, _, err = run(
        "upscale", folder / "in", "-o", folder / "out", "--report", folder / "report.jsonl",
        "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    return folder


@pytest.fixture
def command(plain, tmp_path):
    """The arguments of a run with two actors over the same pictures."""
    return (
        "upscale", plain / "in", "-o", tmp_path / "out", "--engine", "ray", "--ray-workers", "2",
        "--report", tmp_path / "report.jsonl",
    )  # fmt: skip


@pytest.fixture
def check_as_plain(plain, outputs, rows):
    """Holds a run's folder against what one process makes of the pictures."""

    def check(folder):
        assert outputs(folder / "out") == outputs(plain / "out")
        own = rows(folder / "report.jsonl", folder / "out")
        assert own == rows(plain / "report.jsonl", plain / "out")
        assert len(own) == COUNT
        assert not list((folder / "out").glob(".*"))

    return check


@pytest.mark.slow
def test_two_actors_do_as_one_process(command, tmp_path, check_as_plain):
    code, out, err = run(*command, "--json")

    assert code == 0, err
    check_as_plain(tmp_path)
    assert json.loads(out)["done"] == COUNT
    assert "Running on Ray, 2 workers on 1 node." in err
    assert "WARNING" not in err


@pytest.mark.slow
def test_an_actor_that_is_killed_loses_nothing(command, tmp_path, outputs, check_as_plain):
    # One tile at a time, so that there is work left when it happens.
    process = start(*command, "--batch-size", "1", "--workers", "1")
    deadline = time.monotonic() + PATIENCE
    while not outputs(tmp_path / "out"):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    max(actors(process), key=lambda actor: actor.cpu_times().user).kill()
    _, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, err
    check_as_plain(tmp_path)
    assert "WARNING: A worker died, as Ray says" in err


@pytest.mark.slow
def test_without_ray_the_hint_says_how_to_install_it(command, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'ray':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )

    code, out, err = run(*command, environment=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)})

    assert code == 2, err
    assert "--engine ray needs Ray" in err
    assert 'pip install "clipsr-cli[ray]"' in err
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "out").exists()
