"""The discriminator judges what CLIP sees, together with the text, and all of it learns."""

import pytest
import torch

from clipsr_cli.errors import InputError
from clipsr_cli.models.discriminator import Discriminator, DiscriminatorConfig

SMALL = DiscriminatorConfig(channels=8, head_channels=4)


@pytest.fixture
def judge(tiny_clip):
    torch.manual_seed(0)
    return Discriminator(SMALL, tiny_clip)


def open_gates(judge):
    """As built the gates are shut; training opens them."""
    with torch.no_grad():
        for name, parameter in judge.named_parameters():
            if name.endswith("gate") or name == "joins":
                parameter.fill_(0.5)
    return judge


def test_a_score_for_each_picture(judge, tiny_clip):
    features = judge.look(tiny_clip, torch.rand(3, 3, 40, 24))

    scores = judge(features, judge.read(tiny_clip.text(["a", "b", "c"])))

    assert scores.shape == (3,)
    assert len(set(scores.tolist())) == 3


def test_every_parameter_learns_once_the_gates_are_open(judge, tiny_clip):
    features = open_gates(judge).look(tiny_clip, torch.rand(2, 3, 32, 32))

    judge(features, judge.read(tiny_clip.text(["a red bird", "a dog"]))).square().sum().backward()

    for name, parameter in judge.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_score_depends_on_the_text_and_on_every_map(judge, tiny_clip):
    features = open_gates(judge).look(tiny_clip, torch.rand(1, 3, 32, 32))
    one, other = judge.read(tiny_clip.text(["a red bird", "a blue dog"])).split(1)

    score = judge(features, one)
    assert judge(features, other) != score
    for index in range(len(features)):
        changed = [f + (i == index) * torch.randn_like(f) for i, f in enumerate(features)]
        assert judge(changed, one) != score


def test_gradients_reach_the_picture_and_never_clip(judge, tiny_clip):
    images = torch.rand(1, 3, 32, 32, requires_grad=True)

    judge(judge.look(tiny_clip, images), judge.read(tiny_clip.text(["a"]))).sum().backward()

    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in tiny_clip.parameters())


def test_what_it_sees_has_one_range_whatever_the_clip(judge, tiny_clip):
    for found in judge.look(tiny_clip, torch.rand(2, 3, 32, 32)):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.mean(dim=1), torch.zeros(2, 4, 4), atol=1e-5, rtol=0)
        assert found.std(dim=1).mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("depth", "blocks"), [(12, [1, 4, 8]), (24, [2, 8, 16]), (6, [0, 2, 4]), (3, [0, 1, 2])]
)
def test_blocks_are_chosen_in_proportion_to_the_depth(tiny_clip, monkeypatch, depth, blocks):
    monkeypatch.setattr(tiny_clip, "depth", depth)

    assert Discriminator(SMALL, tiny_clip).blocks == blocks


@pytest.mark.parametrize(
    "change", [{"blocks": ()}, {"blocks": (4, 1)}, {"blocks": (12,)}, {"channels": 0}]
)
def test_impossible_shapes_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        DiscriminatorConfig(**change)
