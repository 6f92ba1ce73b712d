"""Every recipe in the repository loads, and trains on none of the pictures shown as examples."""

from pathlib import Path

import pytest

from clipsr_cli.config import build, read_toml
from clipsr_cli.training.config import ClipTrainConfig, TrainConfig

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads(path):
    config = build(ClipTrainConfig if "clip-mini" in path.stem else TrainConfig, read_toml(path))

    assert config.steps > 0
    excluded = {name for source in config.sources for name in source.exclude}
    shown = {p.stem for p in (ROOT / "examples").glob("*.png")}
    for word in shown - {"castle"}:
        assert any(word in name for name in excluded)


def test_there_is_a_recipe_for_every_embedded_file():
    assert {p.stem for p in RECIPES} >= {
        "clipsr-clip-mini",
        "clipsr-mini-x4",
        "clipsr-mini-x8",
        "clipsr-mini-x16",
    }
