"""Every recipe in the repository loads, fits its CLIP, and trains on none of the examples."""

from pathlib import Path

import pytest

from clipsr_cli.config import build, read_toml
from clipsr_cli.datasets import DATASETS
from clipsr_cli.training.config import ClipTrainConfig, TrainConfig
from clipsr_cli.weights import registry

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
# Blocks of the image towers that recipes name.
DEPTHS = {"clip-vit-b-32": 12, "clipsr-clip-mini": 6}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads(path):
    settings = read_toml(path)
    # The data of this one are always given beside it.
    if path.stem == "small":
        settings["sources"] = [{"root": "data"}]
    config = build(ClipTrainConfig if "architecture" in settings else TrainConfig, settings)

    assert all(source.dataset in DATASETS for source in config.sources)
    if isinstance(config, TrainConfig):
        assert registry()[config.clip].kind == "clip"
        assert config.generator.prompts < DEPTHS[config.clip]


@pytest.mark.parametrize(
    "path", [p for p in RECIPES if p.stem.startswith("clipsr-")], ids=lambda path: path.stem
)
def test_the_embedded_weights_recipes_leave_the_examples_out(path):
    sources = read_toml(path)["sources"]
    excluded = {name.lower() for source in sources for name in source.get("exclude", [])}

    # examples/castle.png is neuschwansteinCastle.jpg where it comes from.
    for example in (ROOT / "examples").glob("*.png"):
        assert any(example.stem in name for name in excluded)


def test_there_is_a_recipe_for_every_embedded_file_and_every_dataset_of_the_paper():
    wanted = {"clipsr-clip-mini", "clipsr-mini-x4", "clipsr-mini-x8", "clipsr-mini-x16", "small"}
    wanted |= {f"{name}-x{scale}" for name in ("cub", "celeba", "coco") for scale in (4, 8, 16)}

    assert {path.stem for path in RECIPES} >= wanted
