"""The generator: exact sizes, gradients everywhere, and words and CLIP that matter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsr_cli.errors import InputError
from clipsr_cli.models.blocks import GatedBlock, TextModulation, TIFBlock
from clipsr_cli.models.generator import Generator, GeneratorConfig, enlarge


@pytest.mark.parametrize("scale", [4, 8, 16])
@pytest.mark.parametrize("shape", [(8, 8), (13, 9), (8, 40), (1, 1), (3, 17)])
def test_output_is_exactly_scale_times_the_input(make_generator, tiny_clip, scale, shape):
    low = torch.rand(1, 3, *shape)

    with torch.no_grad():
        high = make_generator(scale)(low, tiny_clip.text(["a bird"]))

    assert high.shape == (1, 3, shape[0] * scale, shape[1] * scale)
    assert torch.isfinite(high).all()


@settings(deadline=None, max_examples=15)
@given(height=st.integers(8, 40), width=st.integers(8, 40))
def test_any_tile_from_eight_pixels_up_fits(make_generator_once, height, width):
    generator, text = make_generator_once

    with torch.no_grad():
        assert generator(torch.rand(1, 3, height, width), text).shape[2:] == (4 * height, 4 * width)


@pytest.fixture(scope="module")
def make_generator_once(make_generator, tiny_clip):
    return make_generator(4), tiny_clip.text(["a bird"])


@pytest.mark.parametrize("text_norm", ["layernorm", "softmax"])
@pytest.mark.parametrize("skip", ["bicubic", "none"])
def test_every_trainable_parameter_gets_a_gradient(make_generator, tiny_clip, text_norm, skip):
    generator = make_generator(8, text_norm=text_norm, skip=skip)
    text = tiny_clip.text(["a red bird", "a castle"])

    generator(torch.rand(2, 3, 16, 16), text).square().mean().backward()

    without = [
        name
        for name, p in generator.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    assert without == []


def test_clip_gets_no_gradient_and_is_not_saved(make_generator, tiny_clip):
    generator = make_generator(4)

    generator(torch.rand(1, 3, 8, 8), tiny_clip.text(["a"])).mean().backward()

    assert all(p.grad is None for p in generator.clip.parameters())
    assert not any(name.startswith("clip.") for name in generator.learned_state())
    assert any(name.startswith("clip.") for name in generator.state_dict())


def test_frozen_clip_stays_in_eval_when_the_generator_trains(make_generator):
    generator = make_generator(4).train()

    assert generator.training
    assert not any(module.training for module in generator.clip.modules())
    generator.eval()


def test_the_picture_changes_with_the_prompt(make_generator, tiny_clip):
    generator, low = make_generator(4), torch.rand(1, 3, 16, 16)

    with torch.no_grad():
        red = generator(low, tiny_clip.text(["a red bird"]))
        blue = generator(low, tiny_clip.text(["a blue castle"]))

    assert (red - blue).abs().mean() > 1e-5


def test_the_picture_changes_with_clips_image_tower(make_generator, tiny_clip):
    generator, low = make_generator(4), torch.rand(1, 3, 16, 16)
    text = tiny_clip.text(["a bird"])
    weight = generator.clip.model.visual.transformer.resblocks[1].mlp.c_fc.weight

    with torch.no_grad():
        before = generator(low, text)
        kept = weight.clone()
        weight.add_(torch.randn_like(weight))
        after = generator(low, text)
        weight.copy_(kept)

    assert (before - after).abs().mean() > 1e-6


def test_an_untrained_generator_is_bicubic_enlargement(tiny_clip):
    generator = Generator(GeneratorConfig(scale=4, prompts=2), tiny_clip)
    low = torch.rand(1, 3, 8, 8)

    with torch.no_grad():
        torch.testing.assert_close(generator(low, tiny_clip.text(["a"])), enlarge(low, 4))


def test_pictures_of_a_batch_do_not_see_each_other(make_generator, tiny_clip):
    generator, low = make_generator(4), torch.rand(2, 3, 16, 16)
    text = tiny_clip.text(["a red bird", "a castle"])

    with torch.no_grad():
        together = generator(low, text)
        alone = torch.cat([generator(low[:1], text[:1]), generator(low[1:], text[1:])])

    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_layers_start_as_the_identity():
    features, text = torch.rand(2, 8, 5, 5), torch.randn(2, 4)

    modulation = TextModulation(8, 4, 4)
    assert torch.equal(GatedBlock(8)(features), features)
    assert torch.equal(modulation(features, modulation.amounts(text)), features)


def test_tifblock_is_a_residual_around_its_convolution():
    block = TIFBlock(8, 4, hidden=4, text_norm="layernorm")
    torch.nn.init.zeros_(block.conv.weight)
    torch.nn.init.zeros_(block.conv.bias)
    features = torch.randn(1, 8, 3, 3)

    assert torch.equal(block(features, block.amounts(torch.randn(1, 4))), features)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"scale": 3}, "3"),
        ({"scale": 4, "text_norm": "batch"}, "batch"),
        ({"scale": 4, "skip": "nearest"}, "nearest"),
        ({"scale": 4, "prompts": 0}, "0"),
        ({"scale": 4, "widths": (-1, 8, 8, 8)}, r"widths is \(-1, 8, 8, 8\)"),
        ({"scale": 4, "head_widths": (8, 0)}, r"head_widths is \(8, 0\)"),
        ({"scale": 4, "encoder_blocks": (1, 1, 1, -2)}, "encoder_blocks is"),
        ({"scale": 4, "decoder_blocks": (-1, 1, 1, 1)}, "decoder_blocks is"),
        ({"scale": 4, "text_hidden": 0}, "text_hidden is 0"),
    ],
)
def test_a_wrong_config_is_refused_with_its_value(settings, named):
    with pytest.raises(InputError, match=named):
        GeneratorConfig(**settings)


def test_a_level_may_do_without_blocks(make_generator, tiny_clip):
    generator = make_generator(4, encoder_blocks=(0, 1, 1, 1), decoder_blocks=(1, 1, 1, 0))

    assert generator(torch.rand(1, 3, 8, 8), tiny_clip.text(["a"])).shape == (1, 3, 32, 32)


def test_more_prompts_than_clip_has_blocks_are_refused(tiny_clip):
    with pytest.raises(InputError, match="3 blocks"):
        Generator(GeneratorConfig(scale=4, prompts=3), tiny_clip)
