"""The default generator stays pleasant on two CPU cores."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "model_cost.py"


@pytest.mark.parametrize("scale", [4, 8, 16])
def test_the_default_generator_stays_within_its_budget(scale, monkeypatch):
    spec = importlib.util.spec_from_file_location("model_cost", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "model_cost", script)
    spec.loader.exec_module(script)

    cost = script.measure(scale)

    # Not an empty count either: the network alone is above one G.
    assert 1e9 < cost.multiply_adds <= 4e9
    assert 1e6 < cost.parameters <= 10e6
