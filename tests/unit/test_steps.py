"""A step changes the network it is for, and nothing at all when it is not finite."""

import copy
import dataclasses
import itertools

import pytest
import torch

from clipsr_cli.models.discriminator import Discriminator, DiscriminatorConfig
from clipsr_cli.runtime import mixed_precision
from clipsr_cli.training.config import LossConfig
from clipsr_cli.training.losses import ReconstructionLoss
from clipsr_cli.training.parallel import Processes
from clipsr_cli.training.steps import (
    DeviceBatch,
    Learner,
    MovingAverage,
    Networks,
    discriminator_losses,
    generator_losses,
    learning_rate_factor,
    training_step,
)

LOSSES = LossConfig(perceptual=0.0, adversarial_from=0)


def learner(network, *, scaler=False, rate=1e-2):
    return Learner(
        [p for p in network.parameters() if p.requires_grad],
        learning_rate=rate,
        betas=(0.0, 0.9),
        weight_decay=0.0,
        clip_gradient=1.0,
        scaler=torch.amp.GradScaler("cpu", enabled=scaler),
        processes=Processes(),
    )


@pytest.fixture
def make(make_generator, tiny_clip):
    def build(losses=LOSSES, *, scaler=False, precision="fp32"):
        torch.manual_seed(0)
        generator = make_generator(4).train()
        judge = Discriminator(DiscriminatorConfig(channels=16, head_channels=8), tiny_clip)
        return generator, Networks(
            generate=generator,
            clip=tiny_clip,
            reconstruction=ReconstructionLoss(losses, scale=4),
            generating=learner(generator, scaler=scaler),
            judge=judge if losses.adversarial else None,
            judging=learner(judge, scaler=scaler) if losses.adversarial else None,
            losses=losses,
            autocast=lambda: mixed_precision(torch.device("cpu"), precision),
        )

    return build


@pytest.fixture
def batch(tiny_clip):
    torch.manual_seed(5)
    return DeviceBatch(
        high=torch.rand(3, 3, 32, 32),
        low=torch.rand(3, 3, 8, 8),
        text=tiny_clip.text(["a red bird", "a blue car", "a dog"]),
        wrong=tiny_clip.text(["a blue car", "a dog", "a red bird"]),
        has_text=torch.tensor([True, True, True]),
        has_wrong=torch.tensor([True, True, True]),
    )


def state(network):
    return copy.deepcopy(network.state_dict())


def same(before, after):
    return all(torch.equal(before[name], after[name]) for name in before)


def total(terms):
    return torch.stack(list(terms.values())).sum()


def test_a_discriminator_step_leaves_the_generator_untouched(make, batch):
    generator, networks = make()
    before, judged = state(generator), state(networks.judge)
    fake = generator(batch.low, batch.text)

    terms = discriminator_losses(networks, networks.judge, batch, fake.detach())
    assert networks.judging.descend(total(terms))

    assert terms.keys() == {"d_hinge", "d_penalty"}
    assert same(before, generator.state_dict())
    assert not same(judged, networks.judge.state_dict())
    assert all(p.grad is None for p in generator.parameters())


def test_a_generator_step_leaves_the_discriminator_untouched(make, batch):
    generator, networks = make()
    before, judged = state(generator), state(networks.judge)
    fake = generator(batch.low, batch.text)

    terms = generator_losses(networks, networks.judge, batch, fake, step=0)
    assert networks.generating.descend(total(terms))

    assert terms.keys() == {"l1", "clip", "adversarial"}
    assert not same(before, generator.state_dict())
    assert same(judged, networks.judge.state_dict())
    assert all(p.grad is None for p in networks.judge.parameters())


def test_every_learned_parameter_of_the_generator_moves(make, batch):
    generator, networks = make()
    before = state(generator)

    for step in range(3):
        training_step(networks, batch, step=step, factor=1.0)

    learned = {name for name, p in generator.named_parameters() if p.requires_grad}
    moved = {n for n, v in generator.state_dict().items() if not torch.equal(v, before[n])}
    assert moved == learned


@pytest.mark.parametrize(
    ("losses", "names"),
    [
        ({"adversarial": 0.0, "clip": 0.0}, {"l1"}),
        ({"adversarial": 0.0}, {"l1", "clip"}),
        ({"clip": 0.0}, {"l1", "adversarial", "d_hinge", "d_penalty"}),
        ({"gradient_penalty": 0.0}, {"l1", "clip", "adversarial", "d_hinge"}),
        ({"adversarial_from": 8}, {"l1"}),
        ({"adversarial_from": 7}, {"l1", "clip", "adversarial", "d_hinge", "d_penalty"}),
    ],
)
def test_each_loss_can_be_left_out_and_waits_for_its_step(make, batch, losses, names):
    _, networks = make(dataclasses.replace(LOSSES, **losses))

    values = training_step(networks, batch, step=7, factor=1.0)

    assert values.keys() - {"skipped"} == names


@pytest.mark.parametrize("scaler", [False, True])
def test_a_step_that_is_not_finite_changes_nothing(make, batch, scaler):
    generator, networks = make(scaler=scaler)
    training_step(networks, batch, step=0, factor=1.0)
    before, judged = state(generator), state(networks.judge)
    bad = dataclasses.replace(batch, high=torch.full_like(batch.high, float("nan")))

    values = training_step(networks, bad, step=1, factor=1.0)

    assert values["skipped"] == 2
    assert same(before, generator.state_dict())
    assert same(judged, networks.judge.state_dict())
    assert training_step(networks, batch, step=2, factor=1.0)["skipped"] == 0
    assert not same(before, generator.state_dict())


def test_an_infinite_loss_with_a_finite_gradient_is_skipped_too(make, batch):
    generator, networks = make(dataclasses.replace(LOSSES, adversarial=0.0))
    before = state(generator)
    bad = dataclasses.replace(batch, high=torch.full_like(batch.high, float("inf")))

    assert training_step(networks, bad, step=0, factor=1.0)["skipped"] == 1
    assert same(before, generator.state_dict())


def test_a_scaler_lowers_its_scale_at_an_overflow_and_goes_with_the_state(make, batch):
    _, networks = make(scaler=True)
    bad = dataclasses.replace(batch, text=torch.full_like(batch.text, float("nan")))
    high = networks.generating.scaler.get_scale()

    training_step(networks, bad, step=0, factor=1.0)

    scale = networks.generating.scaler.get_scale()
    assert scale < high
    _, other = make(scaler=True)
    other.generating.load(networks.generating.state())
    assert other.generating.scaler.get_scale() == scale


def test_scaled_steps_equal_plain_ones(make, batch):
    """A scale that is a power of two changes no digit."""
    plain, networks = make()
    training_step(networks, batch, step=0, factor=1.0)
    scaled, networks = make(scaler=True)
    training_step(networks, batch, step=0, factor=1.0)

    for name, tensor in plain.learned_state().items():
        torch.testing.assert_close(scaled.state_dict()[name], tensor)


def test_mixed_precision_trains_and_judges_in_fp32(make, batch):
    _, networks = make(precision="bf16")

    features = networks.judge.look(networks.clip, batch.high)
    values = training_step(networks, batch, step=0, factor=1.0)

    assert all(found.dtype == torch.float32 for found in features)
    assert values["skipped"] == 0


def test_a_picture_without_another_text_is_not_mismatched(make, batch):
    _, networks = make()
    fake = torch.rand_like(batch.high)

    def loss(**change):
        changed = dataclasses.replace(batch, **change)
        return discriminator_losses(networks, networks.judge, changed, fake)["d_hinge"].item()

    some = torch.tensor([True, False, True])
    nonsense = batch.wrong.clone()
    nonsense[1] = 99
    assert loss(has_wrong=some) == loss(has_wrong=some, wrong=nonsense) != loss()
    assert loss(has_wrong=torch.zeros(3, dtype=torch.bool)) != loss()


def test_an_empty_prompt_draws_no_picture_towards_it(make, batch):
    generator, networks = make(dataclasses.replace(LOSSES, adversarial=0.0))
    fake = generator(batch.low, batch.text).detach()

    def term(**change):
        changed = dataclasses.replace(batch, **change)
        return generator_losses(networks, None, changed, fake, step=0)["clip"].item()

    some = torch.tensor([True, False, True])
    other = batch.text.clone()
    other[1] = batch.wrong[1]
    assert term(has_text=some) == term(has_text=some, text=other) != term()
    assert term(has_text=torch.zeros(3, dtype=torch.bool)) == 0


def test_a_discriminator_learns_which_text_is_wrong(make, tiny_clip):
    """Red and blue pictures with their words, then unseen ones."""
    _, networks = make()
    torch.manual_seed(7)

    def pictures(count):
        colour = torch.arange(count) % 2
        images = 0.3 * torch.rand(count, 3, 32, 32)
        images[torch.arange(count), 2 * colour] += 0.6
        words = [("a red picture", "a blue picture")[c] for c in colour]
        return images, tiny_clip.text(words), tiny_clip.text([words[i ^ 1] for i in range(count)])

    for _ in range(60):
        high, text, wrong = pictures(8)
        told = torch.ones(8, dtype=torch.bool)
        batch = DeviceBatch(
            high=high, low=high, text=text, wrong=wrong, has_text=told, has_wrong=told
        )
        terms = discriminator_losses(networks, networks.judge, batch, torch.rand_like(high))
        networks.judging.descend(total(terms))

    high, text, wrong = pictures(16)
    features = networks.judge.look(tiny_clip, high)
    right, mistaken = (networks.judge(features, networks.judge.read(t)) for t in (text, wrong))
    assert (right > mistaken).float().mean() > 0.9


def test_the_learning_rate_warms_up_then_falls_or_stays():
    factors = [learning_rate_factor(step, warmup=10, steps=100) for step in range(100)]

    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert factors[-1] < 0.02
    assert learning_rate_factor(99, warmup=10, steps=100, schedule="constant") == 1
    assert learning_rate_factor(0, warmup=0, steps=1) == 1


def test_the_moving_average_follows_slowly():
    average = MovingAverage({"w": torch.zeros(1)}, decay=0.9)
    for step in range(200):
        average.update({"w": torch.ones(1)}, step)

    assert 0.99 < average.state["w"].item() < 1
