"""``clipsr env`` says what is there, and what ``auto`` would pick."""

import importlib
import json
import platform
from importlib.metadata import version

import pytest
import torch

import clipsr_cli
from clipsr_cli import weights

# By its name, as the package's attribute `env` is the command.
ENV = importlib.import_module("clipsr_cli.cli.env")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_json_holds_all_that_is_known(run, no_gpu):
    result = run("env", "--json")

    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert set(found) == {
        "clipsr",
        "python",
        "platform",
        "libraries",
        "devices",
        "auto_device",
        "auto_precision",
        "cache",
        "models",
    }
    assert (found["clipsr"], found["python"]) == (clipsr_cli.__version__, platform.python_version())
    assert found["libraries"]["torch"] == version("torch")
    assert found["devices"] == ["cpu"]
    assert found["auto_device"].startswith("cpu")
    assert found["auto_precision"] == "fp32"
    assert set(found["models"]) == set(weights.registry())


def test_a_table_says_the_same_to_people(run, no_gpu):
    result = run("env")

    assert result.exit_code == 0
    for words in ("libraries: torch", "auto_device", "models: clipsr-mini", "cache"):
        assert words in result.stdout


def test_gpus_are_listed_and_picked(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    found = json.loads(run("env", "--json").stdout)

    assert found["devices"] == ["cpu", "cuda:0 (Card 0)", "cuda:1 (Card 1)"]
    assert (found["auto_device"], found["auto_precision"]) == ("cuda:0 (Card 0)", "fp16")


def test_what_is_not_installed_or_missing_is_said(run, no_gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(ENV, "LIBRARIES", ("torch", "no-such-library"))
    monkeypatch.setattr(weights, "ASSETS", tmp_path)

    found = json.loads(run("env", "--json").stdout)

    assert found["libraries"]["no-such-library"] == "not installed"
    assert set(found["models"].values()) == {"missing"}
