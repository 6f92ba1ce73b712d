"""A generator survives its file, and a wrong file is refused with its reason."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clipsr_cli.checkpoints import (
    copy_in_half,
    load_generator,
    read_header,
    save_clip,
    save_generator,
)
from clipsr_cli.errors import WeightsError
from clipsr_cli.models.clip import Clip

TINY = Path(__file__).parents[1] / "data" / "tiny-clip.json"


def test_a_generator_comes_back_as_it_was_saved(make_generator, tiny_clip, tmp_path):
    generator = make_generator(8, text_norm="softmax")
    path = tmp_path / "deep" / "g.safetensors"
    save_generator(generator.learned_state(), generator.config, "tiny", path, half=False)

    again = load_generator(path, tiny_clip)

    low, text = torch.rand(1, 3, 9, 8), tiny_clip.text(["a bird"])
    with torch.no_grad():
        assert torch.equal(again(low, text), generator(low, text))
    assert not again.training
    header = read_header(path)
    assert (header.config, header.clip, header.architecture) == (
        generator.config,
        "tiny",
        "clip-sr",
    )


def test_the_file_holds_neither_clip_nor_leftovers(make_generator, tmp_path):
    generator = make_generator(4)
    path = tmp_path / "g.safetensors"
    save_generator(generator.learned_state(), generator.config, "tiny", path)

    tensors = load_file(path)

    assert tensors.keys() == generator.learned_state().keys()
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert [p.name for p in tmp_path.iterdir()] == ["g.safetensors"]


def test_others_may_read_the_file_as_any_other(make_generator, tmp_path):
    generator = make_generator(4)
    path, other = tmp_path / "g.safetensors", tmp_path / "other"
    save_generator(generator.learned_state(), generator.config, "tiny", path)
    other.touch()

    assert path.stat().st_mode == other.stat().st_mode


def test_half_a_size_costs_next_to_nothing(make_generator, tiny_clip, tmp_path):
    generator = make_generator(4)
    path = tmp_path / "g.safetensors"
    save_generator(generator.learned_state(), generator.config, "tiny", path, half=True)
    low, text = torch.rand(1, 3, 8, 8), tiny_clip.text(["a bird"])

    with torch.no_grad():
        difference = (load_generator(path, tiny_clip)(low, text) - generator(low, text)).abs().max()

    assert difference < 1 / 255


def test_values_that_half_cannot_hold_are_refused_and_nothing_is_written(
    make_generator, tiny_clip, tmp_path
):
    generator = make_generator(4)
    state = generator.learned_state() | {"stem.bias": torch.full((8,), 1e5)}
    full, target = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save_generator(state, generator.config, "tiny", full, half=False)

    with pytest.raises(WeightsError, match=r"too large for half precision: stem\.bias"):
        save_generator(state, generator.config, "tiny", target)
    with pytest.raises(WeightsError, match=r"half\.safetensors: .*stem\.bias") as caught:
        copy_in_half(full, target)
    assert str(full) in caught.value.hint
    with pytest.raises(WeightsError, match="logit_scale"):
        save_clip({"logit_scale": torch.tensor(-1e5)}, target, steps=1)
    assert [p.name for p in tmp_path.iterdir()] == ["full.safetensors"]


def test_a_copy_in_half_says_the_same_of_itself(make_generator, tmp_path):
    generator = make_generator(8)
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    notes = {"dataset": "cub", "steps": "3"}
    save_generator(
        generator.learned_state(), generator.config, "tiny", full, half=False, notes=notes
    )

    copy_in_half(full, half)

    assert read_header(half) == read_header(full)
    assert {t.dtype for t in load_file(half).values()} == {torch.float16}


def test_a_clip_comes_back_from_its_file(tiny_clip, tmp_path):
    path = tmp_path / "deep" / "clip.safetensors"
    save_clip(tiny_clip.model.state_dict(), path, steps=3)

    again = Clip.create(TINY, path)

    for text in ("a bird", "two birds"):
        torch.testing.assert_close(again.text([text]), tiny_clip.text([text]), rtol=0.01, atol=0.01)
    assert "attn_mask" not in load_file(path)


@pytest.fixture
def saved(make_generator, tmp_path):
    generator = make_generator(4)
    path = tmp_path / "g.safetensors"
    save_generator(generator.learned_state(), generator.config, "tiny", path)
    return path


def change(path, *, drop=None, add=None, metadata=None):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
    tensors = load_file(path)
    if drop:
        del tensors[drop]
    save_file(tensors | (add or {}), path, metadata=header | (metadata or {}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"drop": "stem.weight"}, r"stem\.weight"),
        ({"add": {"extra": torch.zeros(1)}}, "extra"),
        ({"add": {"stem.bias": torch.zeros(3)}}, r"stem\.bias"),
        ({"metadata": {"config": '{"scale": 5}'}}, "scale is 5"),
        ({"metadata": {"config": "{"}}, "broken header"),
        ({"metadata": {"config": "[" * 100_000}}, "broken header"),
        ({"metadata": {"config": '{"scale": 4, "widths": [30000, 1, 1, 1]}'}}, "widths is"),
        (
            {"metadata": {"config": '{"scale": 4, "encoder_blocks": [1000000000, 1, 1, 1]}'}},
            "blocks",
        ),
        ({"metadata": {"config": '{"scale": 4, "clip_weight": 1' + 400 * "0" + "}"}}, "beyond"),
        ({"metadata": {"format": "99"}}, "not a clipsr generator"),
        ({"metadata": {"architecture": "esrgan"}}, "not a clipsr generator"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_reason(saved, tiny_clip, changes, named):
    change(saved, **changes)

    with pytest.raises(WeightsError, match=named):
        load_generator(saved, tiny_clip)


def test_a_network_larger_than_its_file_takes_no_memory(saved, tiny_clip):
    """A stranger's header may claim what no memory holds: this one 10 GB."""
    change(saved, metadata={"config": '{"scale": 4, "prompts": 2, "widths": [16384, 1, 1, 16384]}'})

    with pytest.raises(WeightsError, match="does not fit the network"):
        load_generator(saved, tiny_clip)


def test_what_is_no_safetensors_file_is_refused(tmp_path, tiny_clip):
    path = tmp_path / "g.safetensors"
    for content in (b"", b"not tensors at all"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"g\.safetensors"):
            load_generator(path, tiny_clip)
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        read_header(tmp_path / "none.safetensors")


def test_a_failed_save_leaves_the_old_file(saved, make_generator, monkeypatch):
    old = saved.read_bytes()
    generator = make_generator(4)

    def full(_, path, **__):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("clipsr_cli.checkpoints.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_generator(generator.learned_state(), generator.config, "tiny", saved)

    assert saved.read_bytes() == old
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]
