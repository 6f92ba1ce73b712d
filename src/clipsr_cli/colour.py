"""Bring the colours of an enlarged picture back to those of the small one."""

import torch
import torch.nn.functional as F
from torch import Tensor

FIXES = ("none", "wavelet", "adain")
WAVELET_LEVELS = 5


def fix_colour(high: Tensor, low: Tensor, kind: str) -> Tensor:
    """Correct a colour drift.

    ``adain`` gives each channel the small picture's mean and deviation; ``wavelet`` keeps the enlarged
    picture's detail and takes everything coarser from the small one.

    Shapes:
        high     (1, 3, H, W)  RGB in [0, 1]
        low      (1, 3, h, w)  RGB in [0, 1]
        returns  (1, 3, H, W)
    """
    if kind == "none":
        return high
    if kind == "adain":
        mean, std = high.mean(dim=(2, 3), keepdim=True), high.std(dim=(2, 3), keepdim=True)
        wanted_mean, wanted_std = low.mean(dim=(2, 3), keepdim=True), low.std(dim=(2, 3), keepdim=True)
        return (high - mean) / (std + 1e-5) * wanted_std + wanted_mean
    assert kind == "wavelet", kind
    size = (high.shape[2], high.shape[3])
    reference = F.interpolate(low, size, mode="bicubic", align_corners=False)
    return high - _coarse(high) + _coarse(reference)


def _coarse(image: Tensor) -> Tensor:
    """What is left of an image after its finer wavelet levels are taken away (a trous, B-spline)."""
    row = image.new_tensor((1, 2, 1)) / 4
    kernel = torch.outer(row, row).expand(3, 1, 3, 3)
    for level in range(WAVELET_LEVELS):
        step = 2**level
        padded = F.pad(image, (step,) * 4, mode="replicate")
        image = F.conv2d(padded, kernel, groups=3, dilation=step)
    return image
