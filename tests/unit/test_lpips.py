"""LPIPS-Alex is the published one."""

import pytest
import torch
from torch.nn.functional import interpolate

from clipsr_cli.models.lpips import Lpips


@pytest.fixture(scope="module")
def network():
    return Lpips.load()


def test_equal_pictures_are_at_distance_zero(network):
    image = torch.rand(2, 3, 64, 64)

    assert torch.equal(network(image, image), torch.zeros(2))


def test_it_agrees_with_an_independent_implementation(network, monkeypatch):
    """torchmetrics brings its own code and its own copy of the learned heads (v0.1).

    Only AlexNet's features are ours there too, since torchmetrics would download them.
    """
    import torchvision
    from torchmetrics.functional.image import lpips as theirs

    def alexnet(*_, **__):
        net = torchvision.models.AlexNet()
        layers = [layer for layer in net.features if isinstance(layer, torch.nn.Conv2d)]
        for layer, ours in zip(layers, network.convs, strict=True):
            layer.load_state_dict(ours.state_dict())
        return net

    monkeypatch.setattr(torchvision.models, "alexnet", alexnet)
    reference = theirs._NoTrainLpips(net="alex")
    torch.manual_seed(0)
    first = interpolate(torch.rand(4, 3, 8, 8), (96, 80), mode="bilinear")
    second = (first + 0.2 * torch.randn_like(first)).clamp(0, 1)

    expected = reference(first, second, normalize=True).flatten()

    torch.testing.assert_close(network(first, second), expected, atol=1e-4, rtol=1e-3)


def test_blur_and_noise_are_further_than_a_small_shift_of_brightness(network):
    """What LPIPS is for: it sees lost detail where PSNR does not."""
    torch.manual_seed(0)
    image = interpolate(torch.rand(1, 3, 32, 32), (128, 128), mode="bicubic").clamp(0, 1)
    blurred = interpolate(interpolate(image, (16, 16), mode="area"), (128, 128), mode="bicubic")
    brighter = (image + (blurred - image).square().mean().sqrt()).clamp(0, 1)

    assert network(image, blurred) > network(image, brighter)
