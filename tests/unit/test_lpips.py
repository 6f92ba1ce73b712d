"""LPIPS-Alex is the published one, and the other scores are what their formulas say."""

import pytest
import torch
from torch.nn.functional import interpolate

from clipsr_cli.metrics import METRICS, lpips, psnr, psnr_y
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


def test_psnr_of_a_known_error():
    reference = torch.full((2, 3, 8, 8), 0.5)
    result = reference + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)

    torch.testing.assert_close(psnr(result, reference), torch.tensor([20.0, 40.0]))


def test_psnr_of_luma_weighs_green_most():
    reference = torch.zeros(3, 3, 4, 4)
    result = reference.clone()
    for channel in range(3):
        result[channel, channel] = 0.1

    red, green, blue = psnr_y(result, reference).tolist()

    assert green < red < blue
    # BT.601: green counts 128.553 / 255.
    assert green == pytest.approx(
        -20 * torch.log10(torch.tensor(0.1 * 128.553 / 255)).item(), abs=1e-3
    )


def test_the_metrics_know_their_direction():
    torch.manual_seed(0)
    reference = torch.rand(1, 3, 64, 64)
    near, far = (reference + s * torch.randn_like(reference) for s in (0.01, 0.3))

    for metric in METRICS.values():
        better = metric.score(near, reference) > metric.score(far, reference)
        assert bool(better) == metric.higher_is_better
    assert lpips(reference, reference).requires_grad is False
