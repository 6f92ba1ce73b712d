"""The losses say what the paper says, checked against slow and independent computations."""

import pytest
import torch

from clipsr_cli.errors import InputError
from clipsr_cli.models.discriminator import Discriminator, DiscriminatorConfig
from clipsr_cli.training.config import LossConfig
from clipsr_cli.training.losses import ReconstructionLoss, clip_distance, gradient_penalty, hinge


def test_lpips_works_at_the_smallest_crop_and_every_shift():
    loss, images = ReconstructionLoss(LossConfig(), scale=4), torch.rand(1, 3, 64, 64)

    for step in range(16):
        assert torch.isfinite(loss(images, images.flip(3), step)["perceptual"])


def test_lpips_sees_every_phase_of_its_grid():
    """A picture and its copy with one changed column differ by another amount at each shift."""
    loss = ReconstructionLoss(LossConfig(), scale=4)
    high = torch.rand(1, 3, 64, 64)
    fake = high.clone()
    fake[:, :, :, 33] = 0

    distances = {round(loss(fake, high, step)["perceptual"].item(), 7) for step in range(16)}

    assert len(distances) >= 4


class Onlooker(torch.nn.Module):
    """A perceptual network that remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, fake, high, step):
        assert fake.shape == high.shape
        self.seen.append(fake)
        return (fake - high).square().mean(dim=(1, 2, 3))


def test_the_networks_look_from_every_distance_and_side_and_alike_at_the_same_step():
    """A corner pixel tells the side, the size tells the distance."""
    loss = ReconstructionLoss(LossConfig(perceptual_zooms=(1.0, 2.0)), scale=4)
    onlooker = Onlooker()
    loss.kinds = torch.nn.ModuleList([onlooker])
    high = torch.zeros(1, 3, 64, 64)
    high[:, :, :8, :8] = 1

    for step in (*range(60), *range(60)):
        loss(high, high, step)

    def view(image):
        corners = image[0, 0, [0, 0, -1, -1], [0, -1, -1, 0]]
        return image.shape[-1] > 70, corners.argmax().item()

    views = [view(image) for image in onlooker.seen]
    assert len(set(views)) == 2 * 4
    assert views[:60] == views[60:]


def test_consistency_is_the_distance_of_the_reduced_pictures():
    loss = ReconstructionLoss(LossConfig(perceptual=0.0, consistency=2.0), scale=8)
    high = torch.rand(2, 3, 64, 64)
    # Detail that leaves nothing behind when the picture is reduced, and a drift of colour.
    finer = high + 0.1 * torch.tensor([1.0, -1.0]).repeat(32)
    drifted = high + torch.tensor([0.1, 0.0, -0.05]).view(3, 1, 1)

    assert loss(finer, high, 0)["consistency"].item() == pytest.approx(0, abs=5e-3)
    assert loss(finer, high, 0)["l1"].item() == pytest.approx(0.1)
    assert loss(drifted, high, 0)["consistency"].item() == pytest.approx(2 * 0.05, rel=1e-3)
    assert "consistency" not in ReconstructionLoss(LossConfig(), scale=8)(high, high, 0)


def test_the_perceptual_loss_joins_when_told_and_each_term_can_be_left_out():
    images = torch.rand(1, 3, 64, 64)

    def terms(step, **settings):
        return ReconstructionLoss(LossConfig(**settings), scale=4)(images, images, step).keys()

    assert terms(4, perceptual_from=5) == {"l1"}
    assert terms(5, perceptual_from=5) == {"l1", "perceptual"}
    assert terms(9, perceptual=0.0) == {"l1"}
    assert terms(0, l1=0.0, perceptual_from=5) == {"perceptual"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"clip": -0.1}, "losses.clip"),
        ({"l1": 0.0, "perceptual": 0.0}, "both 0"),
        ({"perceptual_network": "vgg18"}, "vgg18"),
        ({"perceptual_network": "lpips+"}, "lpips"),
        ({"perceptual_zooms": (1.0, 0.0)}, "perceptual_zooms"),
        ({"perceptual_zooms": ()}, "perceptual_zooms"),
        ({"gradient_penalty_power": 1.0}, "power"),
    ],
)
def test_impossible_weights_are_refused(change, named):
    with pytest.raises(InputError, match=named):
        LossConfig(**change)


def test_clip_distance_is_0_for_the_same_direction_and_falls_towards_the_text(tiny_clip):
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    with torch.no_grad():
        same = 3 * tiny_clip.image(image)
    assert clip_distance(tiny_clip, image, same).item() == pytest.approx(0, abs=1e-5)

    text = tiny_clip.text(["a red bird"])
    before = clip_distance(tiny_clip, image, text)
    (slope,) = torch.autograd.grad(before, image)
    after = clip_distance(tiny_clip, image - 0.01 * slope / slope.abs().max(), text)
    assert after < before


def test_hinge_wants_real_up_and_fake_and_mismatched_down():
    good, bad = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -3.0])

    assert hinge(good, bad, bad) == 0
    assert hinge(bad, bad, bad) == pytest.approx((2 + 4) / 2)
    assert hinge(good, good, bad) == pytest.approx((2 + 3) / 2 / 2)
    assert hinge(good, bad, good) == pytest.approx((2 + 3) / 2 / 2)
    # With no other text in the batch, fake carries the whole weight.
    assert hinge(good, good, None) == hinge(good, good, good[:0]) == pytest.approx((2 + 3) / 2)


@pytest.fixture
def penalised(tiny_clip):
    """A tiny discriminator in double precision, with what it judges."""
    torch.manual_seed(3)
    judge = Discriminator(DiscriminatorConfig(channels=4, head_channels=3), tiny_clip).double()
    with torch.no_grad():
        for parameter in judge.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    features = [torch.randn(2, 32, 4, 4, dtype=torch.float64) for _ in judge.blocks]
    text = torch.randn(2, 32, dtype=torch.float64)

    def penalty():
        wanted = [feature.clone().requires_grad_() for feature in features]
        words = text.clone().requires_grad_()
        return gradient_penalty(judge(wanted, words), wanted, words, 6.0)

    return judge, features, text, penalty


def test_the_penalty_is_the_slope_to_the_sixth(penalised):
    """Against differences of the score itself, value by value."""
    judge, features, text, penalty = penalised
    expected, step = 0.0, 1e-6
    with torch.no_grad():
        for row in range(2):
            squared = 0.0
            for values in (*features, text):
                flat = values[row].view(-1)
                for index in range(len(flat)):
                    kept = flat[index].item()
                    flat[index] = kept + step
                    up = judge(features, text)[row].item()
                    flat[index] = kept - step
                    down = judge(features, text)[row].item()
                    flat[index] = kept
                    squared += ((up - down) / (2 * step)) ** 2
            expected += squared**3 / 2

    assert penalty().item() == pytest.approx(expected, rel=1e-4)


def test_the_penaltys_gradient_equals_its_finite_differences(penalised):
    judge, _, _, penalty = penalised
    penalty().backward()
    step = 1e-6
    rng = torch.Generator().manual_seed(0)
    checked = 0
    for name, parameter in judge.named_parameters():
        if parameter.grad is None:
            # The score is linear in its last bias, and the penalty knows slopes only.
            assert name == "head.2.bias"
            continue
        flat, slope = parameter.data.view(-1), parameter.grad.view(-1)
        for index in torch.randint(len(flat), (4,), generator=rng).tolist():
            kept = flat[index].item()
            flat[index] = kept + step
            up = penalty().item()
            flat[index] = kept - step
            down = penalty().item()
            flat[index] = kept
            difference = (up - down) / (2 * step)
            assert slope[index].item() == pytest.approx(difference, rel=1e-3, abs=1e-7), name
            checked += 1
    assert checked > 40
