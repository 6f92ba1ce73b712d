"""One step of training: discriminator, then generator, each checked before it is taken."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipsr_cli.models.clip import Clip
from clipsr_cli.models.discriminator import Discriminator
from clipsr_cli.training.config import LossConfig
from clipsr_cli.training.losses import ReconstructionLoss, clip_distance, gradient_penalty, hinge
from clipsr_cli.training.parallel import Processes


def learning_rate_factor(step: int, *, warmup: int, steps: int, schedule: str = "cosine") -> float:
    """Linear warm-up, then 1 (``constant``) or a half cosine down to a hundredth (``cosine``)."""
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def parameter_groups(
    parameters: list[nn.Parameter], weight_decay: float
) -> list[dict[str, object]]:
    """Decay matrices and kernels; leave biases, norms and scales alone."""
    return [
        {"params": [p for p in parameters if not _is_vector(p)], "weight_decay": weight_decay},
        {"params": [p for p in parameters if _is_vector(p)], "weight_decay": 0.0},
    ]


def _is_vector(parameter: nn.Parameter) -> bool:
    """Whether it has one long side at most, as (C,) and (C, 1, 1) have."""
    return parameter.numel() == max(parameter.shape, default=1)


class Learner:
    """The learned parameters of one network, and how they take a step down a loss.

    Args:
        parameters: what learns.
        learning_rate: at a factor of 1.
        betas: of AdamW.
        weight_decay: of AdamW, for matrices and kernels.
        clip_gradient: longest gradient; 0 for any.
        scaler: keeps small fp16 gradients from vanishing; a disabled one for other precisions.
        processes: whose gradients are averaged.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        *,
        learning_rate: float,
        betas: tuple[float, float],
        weight_decay: float,
        clip_gradient: float,
        scaler: torch.amp.GradScaler,
        processes: Processes,
    ) -> None:
        self.parameters = parameters
        self.learning_rate = learning_rate
        self.clip_gradient = clip_gradient
        self.scaler = scaler
        self.processes = processes
        self.optimiser = torch.optim.AdamW(
            parameter_groups(parameters, weight_decay), lr=learning_rate, betas=betas
        )

    def descend(self, loss: Tensor, factor: float = 1.0) -> bool:
        """Take one step at ``factor`` of the learning rate, unless loss or gradient is not finite.

        Returns:
            Whether the step was taken.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * factor
        self.optimiser.zero_grad(set_to_none=True)
        # Other networks that the loss goes through gather no gradient.
        scaled = self.scaler.scale(loss)
        scaled.backward(inputs=self.parameters)  # type: ignore[no-untyped-call]
        total = loss.detach().clone()
        # Averaged before they are unscaled, so that every process finds the same infinities.
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.processes.average([*gradients, total])
        self.scaler.unscale_(self.optimiser)
        longest = self.clip_gradient or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, longest)
        # A loss can be infinite where its gradient is not: L1's is a sign.
        finite = bool(torch.isfinite(norm) & torch.isfinite(total))
        if finite:
            self.scaler.step(self.optimiser)
        self.scaler.update()
        return finite

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a ``state()``."""
        self.optimiser.load_state_dict(state["optimiser"])
        # Empty where the run was in another precision.
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])


@dataclass(frozen=True, kw_only=True)
class DeviceBatch:
    """A batch where the networks are: pictures, text embeddings, and the wrong ones.

    Shapes:
        high, low  (B, 3, H, W), (B, 3, H/s, W/s)
        text       (B, E)
        wrong      (B, E)   another picture's text
        has_text   (B,)     bool; False where the prompt is empty
        has_wrong  (B,)     bool; False where there is no other text
    """

    high: Tensor
    low: Tensor
    text: Tensor
    wrong: Tensor
    has_text: Tensor
    has_wrong: Tensor


@dataclass(frozen=True, kw_only=True)
class Networks:
    """All that takes part in a step.

    ``generate`` is the generator, or its compiled form. ``judge`` and ``judging`` are both None
    while there is no discriminator.
    """

    generate: Callable[[Tensor, Tensor], Tensor]
    clip: Clip
    reconstruction: ReconstructionLoss
    generating: Learner
    judge: Discriminator | None
    judging: Learner | None
    losses: LossConfig
    autocast: Callable[[], AbstractContextManager[None]]


def training_step(
    networks: Networks, batch: DeviceBatch, *, step: int, factor: float
) -> dict[str, float]:
    """Lower both networks' losses once. Returns {loss name: value} and ``skipped``, how many of
    the two steps were left out as not finite.
    """
    config = networks.losses
    adversarial = step >= config.adversarial_from
    with networks.autocast():
        fake = networks.generate(batch.low, batch.text)
    values: dict[str, float] = {}
    skipped = 0
    judge = networks.judge if adversarial else None
    if judge is not None:
        assert networks.judging is not None
        terms = discriminator_losses(networks, judge, batch, fake.detach())
        skipped += not networks.judging.descend(_sum(terms), factor)
        values |= _values(terms, networks.judging.processes)
    terms = generator_losses(networks, judge, batch, fake, step)
    skipped += not networks.generating.descend(_sum(terms), factor)
    values |= _values(terms, networks.generating.processes)
    return values | {"skipped": float(skipped)}


def discriminator_losses(
    networks: Networks, judge: Discriminator, batch: DeviceBatch, fake: Tensor
) -> dict[str, Tensor]:
    """L_D: hinge with matched, fake and mismatched text, and the gradient penalty, in fp32.

    Args:
        networks: CLIP and settings.
        judge: the discriminator.
        batch: real pictures and their texts.
        fake: (B, 3, H, W), detached from the generator.
    """
    config = networks.losses
    with torch.no_grad(), networks.autocast():
        real_features = judge.look(networks.clip, batch.high)
        fake_features = judge.look(networks.clip, fake)
    text = judge.read(batch.text)
    if config.gradient_penalty:
        real_features = tuple(found.requires_grad_() for found in real_features)
        text = text.requires_grad_()
    real = judge(real_features, text)
    rows = batch.has_wrong
    wrong = None
    if bool(rows.any()):
        wrong = judge([found[rows] for found in real_features], judge.read(batch.wrong[rows]))
    terms = {"d_hinge": hinge(real, judge(fake_features, text), wrong)}
    if config.gradient_penalty:
        penalty = gradient_penalty(real, real_features, text, config.gradient_penalty_power)
        terms["d_penalty"] = config.gradient_penalty * penalty
    return terms


def generator_losses(
    networks: Networks,
    judge: Discriminator | None,
    batch: DeviceBatch,
    fake: Tensor,
    step: int,
) -> dict[str, Tensor]:
    """L_G: reconstruction, and from ``adversarial_from`` on what D and CLIP say of the result."""
    config = networks.losses
    fake = fake.float()
    with networks.autocast():
        terms = networks.reconstruction(fake, batch.high, step)
        if config.clip and step >= config.adversarial_from:
            distance = clip_distance(networks.clip, fake, batch.text)
            # An empty prompt says nothing that a picture could come near to.
            told = batch.has_text.float()
            terms["clip"] = config.clip * (distance * told).sum() / told.sum().clamp_min(1)
        features = judge.look(networks.clip, fake) if judge is not None else ()
    if judge is not None:
        scores = judge(features, judge.read(batch.text))
        terms["adversarial"] = -config.adversarial * scores.mean()
    return terms


def _sum(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([term.float() for term in terms.values()]).sum()


def _values(terms: dict[str, Tensor], processes: Processes) -> dict[str, float]:
    """The terms as numbers, over all processes' parts of the batch."""
    # All at once: each would wait for the device.
    values = torch.stack([term.detach().float() for term in terms.values()])
    processes.average([values])
    return dict(zip(terms, values.tolist(), strict=True))


class MovingAverage:
    """Exponential moving average of a network's learned tensors (EMA)."""

    def __init__(self, state: dict[str, Tensor], decay: float) -> None:
        self.state = {name: tensor.detach().clone().float() for name, tensor in state.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, state: dict[str, Tensor], step: int) -> None:
        """Move towards a state; early steps move faster, so that the start is soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in state.items():
            self.state[name].lerp_(tensor.float(), 1 - decay)
