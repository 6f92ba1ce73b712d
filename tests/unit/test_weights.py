"""A model's name becomes a file, or a clear word on what is wrong with it."""

from pathlib import Path

import pytest

from clipsr_cli import weights
from clipsr_cli.errors import InputError, UnknownNameError, WeightsError

REGISTRY = """
[small]
kind = "generator"
description = "one"
licence = "MIT"
scales = [4, 8]
files = ["builtin:small-x4.safetensors", "builtin:small-x8.safetensors"]
clip = "words"

[words]
kind = "clip"
description = "two"
licence = "MIT"
architecture = "builtin:words.json"
files = ["builtin:words.safetensors"]

[open]
kind = "clip"
description = "three"
licence = "MIT"
architecture = "ViT-B-32"
files = ["builtin:words.safetensors"]
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package folder of our own, with a registry and all files but the one for x8."""
    assets = tmp_path / "src" / "package" / "assets"
    assets.mkdir(parents=True)
    for name in ("small-x4.safetensors", "words.json", "words.safetensors"):
        (assets / name).touch()
    (assets.parent / "weights.toml").write_text(REGISTRY)
    monkeypatch.setattr(weights, "PACKAGE", assets.parent)
    monkeypatch.setattr(weights, "ASSETS", assets)
    monkeypatch.chdir(tmp_path)
    weights.registry.cache_clear()
    yield assets.parent
    weights.registry.cache_clear()


def test_the_packages_own_registry_is_sound():
    known = weights.registry()

    default = weights.entry(weights.DEFAULT_MODEL, "generator")
    assert weights.entry(default.clip, "clip") in known.values()
    for entry in known.values():
        assert entry.description
        assert entry.licence
    architecture, file = weights.find_clip(default.clip)
    assert Path(architecture).is_file()
    assert file.is_file()


def test_a_name_and_a_scale_give_a_file(package):
    assert weights.find_generator("small", 4) == package / "assets" / "small-x4.safetensors"


def test_a_registry_at_the_top_of_the_checkout_is_found_too(package, tmp_path):
    (package / "weights.toml").rename(tmp_path / "weights.toml")

    assert list(weights.registry()) == ["small", "words", "open"]


def test_a_file_that_is_not_there_is_a_matter_of_weights(package):
    with pytest.raises(WeightsError, match=r"small-x8\.safetensors are missing") as caught:
        weights.find_generator("small", 8)
    assert "pip install" in caught.value.hint


def test_a_scale_without_weights_is_refused_with_those_there_are(package):
    with pytest.raises(InputError, match="small has no weights for x16") as caught:
        weights.find_generator("small", 16)
    assert caught.value.hint == "Its scales: 4, 8."


def test_a_path_is_taken_as_it_is(package, tmp_path):
    for name in ("own.safetensors", "own.bin"):
        (tmp_path / name).touch()
        assert weights.find_generator(name, 4) == Path(name)
        assert weights.find_generator(str(tmp_path / name), 4) == tmp_path / name


def test_a_file_called_like_a_model_does_not_stand_in_for_it(package, tmp_path):
    (tmp_path / "small").touch()

    assert weights.find_generator("small", 4).name == "small-x4.safetensors"
    assert weights.find_generator("./small", 4) == Path("small")


@pytest.mark.parametrize("model", ["none.safetensors", "folder/none", "./folder/none.pth"])
def test_a_path_that_is_not_there_is_a_matter_of_weights(package, model):
    with pytest.raises(WeightsError, match=r"none.* do not exist"):
        weights.find_generator(model, 4)


def test_weights_elsewhere_are_not_fetched(package):
    with pytest.raises(WeightsError, match="hf://owner/repo/file") as caught:
        weights.find_generator("hf://owner/repo/file.safetensors", 4)
    assert "-m" in caught.value.hint


@pytest.mark.parametrize(("model", "hint"), [("smal", "Did you mean 'small'?"), ("words", "small")])
def test_an_unknown_name_is_answered_with_known_ones(package, model, hint):
    with pytest.raises(UnknownNameError, match=f"No generator is named '{model}'") as caught:
        weights.find_generator(model, 4)
    assert hint in caught.value.hint


def test_a_clip_has_an_architecture_and_a_file(package):
    assets = package / "assets"

    assert weights.find_clip("words") == (assets / "words.json", assets / "words.safetensors")
    assert weights.find_clip("open") == ("ViT-B-32", assets / "words.safetensors")
    with pytest.raises(UnknownNameError, match="No CLIP is named 'small'"):
        weights.find_clip("small")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[small]", "small = 3\n[other]", "small is no table: 3"),
        ("[4, 8]", '"4"', r"small\.scales is '4'"),
        ("[4, 8]", '["x4", "x8"]', r"small\.scales\[0\] is 'x4'"),
        ("[4, 8]", "[4]", "files holds 2; it must hold 1"),
        ('"builtin:words.safetensors"', "", "files holds 0; it must hold 1"),
        ('"generator"', '"genrator"', "kind is 'genrator'"),
        ('licence = "MIT"', "", r"Missing setting small\.licence"),
        ("licence", "license", r"Unknown setting small\.license"),
        ("[small]", "[small", "not valid TOML"),
    ],
)
def test_a_malformed_registry_is_refused(package, old, new, named):
    (package / "weights.toml").write_text(REGISTRY.replace(old, new, 1))

    with pytest.raises(InputError, match=named):
        weights.registry()


def test_a_missing_registry_is_named(package):
    (package / "weights.toml").unlink()

    with pytest.raises(InputError, match=r"Cannot read .*weights\.toml"):
        weights.registry()
