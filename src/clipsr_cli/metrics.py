"""Scores of a picture against its reference."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from clipsr_cli.models.lpips import Lpips


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A function of (result, reference), both (B, 3, H, W) RGB in [0, 1], to (B,) scores."""

    score: Callable[[Tensor, Tensor], Tensor]
    higher_is_better: bool


def psnr(result: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio over all RGB values, in dB: (B, 3, H, W) twice -> (B,)."""
    error = (result - reference).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error.clamp_min(1e-10))


def psnr_y(result: Tensor, reference: Tensor) -> Tensor:
    """PSNR of the luma of ITU-R BT.601 (range 16 to 235), in dB: (B, 3, H, W) twice -> (B,)."""
    weights = result.new_tensor((65.481, 128.553, 24.966)).view(1, 3, 1, 1) / 255
    error = ((result - reference) * weights).sum(dim=1).square().mean(dim=(1, 2))
    return -10 * torch.log10(error.clamp_min(1e-10))


def lpips(result: Tensor, reference: Tensor) -> Tensor:
    """LPIPS-Alex, version 0.1: (B, 3, H, W) twice -> (B,)."""
    with torch.no_grad():
        return _lpips().to(result.device)(result, reference)


@cache
def _lpips() -> Lpips:
    return Lpips.load()


METRICS: dict[str, Metric] = {
    "psnr": Metric(score=psnr, higher_is_better=True),
    "psnr_y": Metric(score=psnr_y, higher_is_better=True),
    "lpips": Metric(score=lpips, higher_is_better=False),
}
