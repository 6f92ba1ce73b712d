"""One optimiser step, and the moving average of the weights it leads to."""

import math

import torch
from torch import Tensor, nn

from clipsr_cli.training.losses import ReconstructionLoss


def learning_rate_factor(step: int, *, warmup: int, steps: int) -> float:
    """Linear warm-up, then a half cosine down to a hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def parameter_groups(
    parameters: list[nn.Parameter], weight_decay: float
) -> list[dict[str, object]]:
    """Decay matrices and kernels; leave biases, norms and scales alone."""
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def generator_step(
    generator: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: ReconstructionLoss,
    batch: tuple[Tensor, Tensor, Tensor],
    *,
    step: int,
    clip_gradient: float,
) -> dict[str, float]:
    """Lower the loss once for a batch of (high, low, text). Returns {loss name: value}.

    A step whose loss or gradient is not finite is left out and reported as ``skipped: 1``.
    """
    high, low, text = batch
    terms = loss(generator(low, text), high, step)
    optimiser.zero_grad(set_to_none=True)
    total = torch.stack(list(terms.values())).sum()
    total.backward()  # type: ignore[no-untyped-call]
    learned = [p for group in optimiser.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(learned, clip_gradient)
    # A loss can be infinite where its gradient is not: L1's is a sign.
    finite = bool(torch.isfinite(norm) and torch.isfinite(total))
    if finite:
        optimiser.step()
    return {name: term.item() for name, term in terms.items()} | {"skipped": float(not finite)}


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
