"""The frozen CLIP gives what the networks ask of it, for any open_clip ViT."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clipsr_cli.errors import InputError, WeightsError
from clipsr_cli.models.clip import Clip
from clipsr_cli.weights import find_clip

TINY = Path(__file__).parents[1] / "data" / "tiny-clip.json"


def test_text_depends_on_the_words(tiny_clip):
    vectors = tiny_clip.text(["a red bird", "a blue bird", "a red bird"])

    assert vectors.shape == (3, tiny_clip.embed_dim)
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.allclose(vectors[0], vectors[1])


def test_a_prompt_longer_than_the_context_is_cut_not_refused(tiny_clip):
    assert torch.isfinite(tiny_clip.text(["bird " * 500])).all()


def test_image_takes_any_size_and_lets_gradients_through(tiny_clip):
    images = torch.rand(2, 3, 40, 25, requires_grad=True)

    tiny_clip.image(images).square().sum().backward()

    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_features_come_from_the_asked_blocks(tiny_clip):
    images = torch.rand(2, 3, 32, 32)

    first, last = tiny_clip.features(images, [0, 2])

    assert first.shape == last.shape == (2, tiny_clip.width, 4, 4)
    assert not torch.allclose(first, last)


def test_features_after_the_last_block_lead_to_the_image_embedding(tiny_clip):
    """Our feature maps are the tower's own: pooling them as CLIP does gives its embedding."""
    images = torch.rand(1, 3, 32, 32)
    visual = tiny_clip.model.visual
    tokens = visual.transformer(visual._embeds(tiny_clip.preprocess(images)))

    (features,) = tiny_clip.features(images, [tiny_clip.depth - 1])

    torch.testing.assert_close(features.flatten(2).transpose(1, 2), tokens[:, 1:])


def test_prompted_without_any_prompt_is_the_tower_itself(tiny_clip):
    """Feeding the tower's own patch embeddings in gives what the tower gives."""
    images = torch.rand(2, 3, 32, 32)
    patches = tiny_clip.model.visual.conv1(tiny_clip.preprocess(images))
    none = torch.zeros(2, 0, tiny_clip.width)

    mapped = tiny_clip.prompted(patches, none)

    (expected,) = tiny_clip.features(images, [tiny_clip.depth - 1])
    torch.testing.assert_close(mapped, expected, atol=1e-5, rtol=1e-4)


def test_every_prompt_token_moves_the_map(tiny_clip):
    features = torch.rand(1, tiny_clip.width, 4, 4)
    prompts = torch.randn(1, 2, tiny_clip.width, requires_grad=True)

    tiny_clip.prompted(features, prompts).square().sum().backward()

    assert (prompts.grad.abs().sum(dim=2) > 0).all()


def test_clip_is_frozen_and_stays_in_eval_mode(tiny_clip):
    outer = torch.nn.Sequential(tiny_clip).train()

    assert not any(p.requires_grad for p in outer.parameters())
    assert not any(m.training for m in tiny_clip.modules())


def test_an_unknown_architecture_is_refused_by_name():
    with pytest.raises(InputError, match="ViT-Z-99"):
        Clip.create("ViT-Z-99")


@pytest.mark.parametrize("stem", ["local-dir:evil", "hf-hub:evil", "my siglip"])
def test_a_configs_name_tells_open_clip_nothing(tmp_path, monkeypatch, stem):
    """Else it would load what lies in ``evil``, or another tokenizer."""
    monkeypatch.chdir(tmp_path)
    config = tmp_path / f"{stem}.json"
    config.write_bytes(TINY.read_bytes())
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "open_clip_config.json").write_text("{}")

    clip = Clip.create(config)

    assert clip.name == stem
    assert clip.text(["a red bird"]).shape == (1, 32)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"embed_dim": 32', '"embed_dim": "x"'),
        ('"patch_size": 8', '"patch_size": 0'),
        ('"layers": 3', '"unknown": 3'),
        ('"context_length": 32', '"context_length": null'),
    ],
)
def test_a_config_that_no_clip_can_be_built_from_is_refused(tmp_path, old, new):
    config = tmp_path / "own.json"
    assert old in TINY.read_text()
    config.write_text(TINY.read_text().replace(old, new, 1))

    with pytest.raises(WeightsError, match=r"own\.json CLIP"):
        Clip.create(config)


def test_a_config_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(WeightsError, match="Cannot read"):
        Clip.create(tmp_path / "none.json")
    (tmp_path / "deep.json").write_text("[" * 300_000)
    with pytest.raises(WeightsError, match="Cannot read"):
        Clip.create(tmp_path / "deep.json")


def test_a_convolutional_clip_is_refused(tmp_path):
    config = TINY.read_text().replace('"layers": 3', '"layers": [1, 1, 1, 1]')
    path = tmp_path / "tiny-resnet.json"
    path.write_text(config)

    with pytest.raises(InputError, match="ViT"):
        Clip.create(path)


def test_weights_come_back_from_a_file(tiny_clip, tmp_path):
    path = tmp_path / "clip.safetensors"
    save_file(
        {k: v.contiguous() for k, v in tiny_clip.model.state_dict().items() if k != "attn_mask"},
        path,
    )

    again = Clip.create(TINY, path)

    assert torch.equal(again.text(["a bird"]), tiny_clip.text(["a bird"]))


def test_a_file_of_another_clip_is_refused(tiny_clip, tmp_path):
    path = tmp_path / "clip.safetensors"
    save_file({"visual.proj": torch.zeros(2, 2)}, path)

    with pytest.raises(WeightsError, match=r"clip\.safetensors"):
        Clip.create(TINY, path)
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        Clip.create(TINY, tmp_path / "none.safetensors")


def test_the_embedded_clip_tells_colours_apart():
    """The words that steer the default model are not noise: near ones land nearer than far."""
    architecture, weights = find_clip("clipsr-clip-mini")
    clip = Clip.create(architecture, weights)
    red, red_too, blue = torch.nn.functional.normalize(
        clip.text(["a red bird", "a photo of a red bird", "a blue bird"]), dim=1
    )

    assert weights.stat().st_size < 25e6
    assert red @ red_too > red @ blue


@pytest.mark.slow
def test_a_vit_b_32_of_the_real_size_fits_the_wrapper():
    clip = Clip.create("ViT-B-32-quickgelu")

    assert (clip.embed_dim, clip.width, clip.grid, clip.depth) == (512, 768, 7, 12)
    features = torch.rand(1, 768, 8, 8)
    assert clip.prompted(features, torch.randn(1, 8, 768)).shape == (1, 768, 7, 7)
    assert clip.text(["a bird"]).shape == (1, 512)
    assert [f.shape for f in clip.features(torch.rand(1, 3, 64, 64), [1, 4, 8])] == [
        (1, 768, 7, 7)
    ] * 3
