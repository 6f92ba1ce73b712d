"""Where pictures are enlarged follows the options, and is told."""

import json
import logging
from pathlib import Path

import pytest

from clipsr_cli import distributed
from clipsr_cli.cli.placing import Place, make_runner
from clipsr_cli.errors import DeviceError
from clipsr_cli.jobs import Done
from clipsr_cli.upscale_options import UpscaleOptions
from clipsr_cli.upscaling import Upscaler


@pytest.fixture
def place():
    """Options of a place, the defaults but for what is given."""

    def make(**given):
        default = {
            "device": "auto",
            "gpus": None,
            "engine": "local",
            "ray_address": None,
            "ray_workers": None,
        }
        return Place(**(default | given))

    return make


def runner(place, **given):
    settings = {
        "model": "clipsr-mini",
        "scale": 4,
        "precision": "auto",
        "options": UpscaleOptions(),
        "compile": False,
    }
    return make_runner(place, **(settings | given))


class Worker:
    """Does every job at once."""

    def __init__(self, tell):
        self.tell = tell
        tell(distributed.recipe.Ready("cpu", "fp32", 2))

    def give(self, job):
        self.tell(
            Done(
                job=job,
                size_in=(1, 1),
                size_out=(4, 4),
                tiles=1,
                seconds=0.0,
                device="cpu",
                precision="fp32",
            )
        )

    def finish(self):
        pass

    def abandon(self):
        pass


def test_several_devices_are_told_their_part_and_do_the_jobs(place, monkeypatch):
    made = []

    def processes(recipe, devices):
        made.append((recipe, devices))
        return [Worker, Worker]

    monkeypatch.setattr(distributed, "processes", processes)
    monkeypatch.setattr(logging.getLogger("clipsr_cli"), "level", logging.INFO)

    found = runner(place(gpus=["cpu", "cpu"]), scale=8, compile=True)

    (recipe, devices) = made[0]
    assert devices == ["cpu", "cpu"]
    assert (recipe.model, recipe.scale, recipe.compile) == ("clipsr-mini", 8, True)
    assert recipe.level == logging.INFO
    assert (found.where, found.device) == ("cpu, cpu", "cpu")
    assert found.clip().name == "clipsr-clip-mini"


def test_a_device_that_is_not_there_is_told_before_anything_is_loaded(place, monkeypatch):
    monkeypatch.setattr(Upscaler, "load", None)

    with pytest.raises(DeviceError, match="cuda:99"):
        runner(place(gpus=["cpu", "cuda:99"]))


def test_a_cluster_is_asked_for_as_the_options_say(place, monkeypatch):
    asked = []

    def cluster(recipe, *, address, workers):
        asked.append((recipe.device, address, workers))
        return [Worker], "Ray, 1 worker on 1 node"

    monkeypatch.setattr(distributed, "cluster", cluster)

    found = runner(place(engine="ray", ray_address="auto", ray_workers=3))

    assert asked == [("auto", "auto", 3)]
    assert found.where == "Ray, 1 worker on 1 node"


def test_what_workers_did_is_reported_like_what_is_done_here(run, monkeypatch, tmp_path, photo):
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        photo(Path("in", f"{name}.png"))
    monkeypatch.setattr(distributed, "processes", lambda recipe, devices: [Worker] * len(devices))

    result = run("upscale", "in", "--gpus", "cpu,cpu", "--json", "--report", "r.jsonl")

    assert result.exit_code == 0, result.stderr
    assert "Running on cpu, cpu." in result.stderr
    assert json.loads(result.stdout)["done"] == 3
    rows = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert sorted(row["input"] for row in rows) == ["in/a.png", "in/b.png", "in/c.png"]
    assert {(row["status"], row["device"], row["precision"]) for row in rows} == {
        ("done", "cpu", "fp32")
    }
