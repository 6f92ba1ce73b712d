"""EfficientNet's distance is of a network that knows pictures, and reaches the picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from PIL import Image, ImageFilter

from clipsr_cli.errors import UnknownNameError, WeightsError
from clipsr_cli.evaluation.pairs import to_tensor
from clipsr_cli.models import efficientnet
from clipsr_cli.models.efficientnet import PACKAGES, EfficientNetLite
from clipsr_cli.training.config import LossConfig
from clipsr_cli.training.losses import ReconstructionLoss

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def network():
    return EfficientNetLite.load("lite0")


def example(name, *, blur=0.0):
    image = Image.open(EXAMPLES / f"{name}.png").convert("RGB").resize((224, 224))
    return to_tensor(np.asarray(image.filter(ImageFilter.GaussianBlur(blur))))[None]


@pytest.mark.parametrize("kind", PACKAGES)
def test_its_weights_know_what_pictures_show(kind):
    """One tensor in another's place would be enough to lose this."""
    network = EfficientNetLite.load(kind).network

    for name in ("castle", "macaw", "red panda"):
        logits = network((example(name.replace(" ", "_")) * 255 - 127) / 128)
        assert IMAGENET_CLASSNAMES[int(logits.argmax())] == name


def test_equal_pictures_are_0_apart_and_more_blur_is_farther(network):
    sharp = example("macaw")

    same, near, far = (float(network(example("macaw", blur=b), sharp)) for b in (0, 1, 3))

    assert same == 0 < near < far < 4


def test_each_picture_of_a_batch_has_its_own_distance(network):
    pictures = torch.cat([example("macaw"), example("castle")])
    others = torch.cat([example("macaw", blur=2), example("castle", blur=1)])

    both = network(others, pictures)

    alone = [network(others[i : i + 1], pictures[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-4, atol=1e-6)


def test_the_gradient_reaches_the_first_picture_and_nothing_else(network):
    first, second = (torch.rand(1, 3, 32, 32, requires_grad=True) for _ in range(2))

    network(first, second).sum().backward()

    assert first.grad.abs().sum() > 0
    assert second.grad is None
    assert all(not p.requires_grad and p.grad is None for p in network.parameters())


def test_it_stays_in_evaluation_mode(network):
    network.train()

    assert not any(module.training for module in network.network.modules())


def perceptual(step, fake, high, **settings):
    loss = ReconstructionLoss(LossConfig(**settings), scale=4)
    return loss(fake, high, step)["perceptual"].item()


def test_three_networks_take_turns_as_a_loss():
    config = LossConfig(perceptual_network="efficientnet-lite")
    (kind,) = ReconstructionLoss(config, scale=4).kinds
    fake, high = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)

    found = [kind(fake, high, step).item() for step in range(6)]

    assert len(set(found[:3])) == 3
    assert found[:3] == found[3:]


def test_networks_of_several_kinds_are_summed():
    fake, high = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)

    both, first, second = (
        perceptual(5, fake, high, perceptual_network=network)
        for network in ("efficientnet-lite+lpips", "efficientnet-lite", "lpips")
    )

    assert both == pytest.approx(first + second, rel=1e-5)
    assert min(first, second) > 0


def test_missing_weights_are_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)

    with pytest.raises(WeightsError, match="lite1") as caught:
        EfficientNetLite.load("lite1")

    assert "[train]" in caught.value.hint
    with pytest.raises(UnknownNameError, match="lite9"):
        EfficientNetLite.load("lite9")


def test_a_package_with_something_else_in_it_is_refused(monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    torch.save({"_conv_stem.weight": torch.zeros(1)}, tmp_path / "models" / "a.pth")
    monkeypatch.setattr(efficientnet, "files", lambda name: tmp_path)

    with pytest.raises(WeightsError, match="does not hold the weights"):
        EfficientNetLite.load("lite0")
