"""Scores by arithmetic on pixels: PSNR, SSIM, MS-SSIM, and PSNR of the result reduced again."""

import torch
from torch import Tensor

from clipsr_cli.metrics.metric import Compared, Setting, package_folder

# Of the mean squared error: equal pictures get 100 dB.
LEAST_ERROR = 1e-10
# Luma of ITU-R BT.601, range 16 to 235, of RGB in [0, 1].
LUMA = (65.481, 128.553, 24.966)
# The same in the full range, as Pillow turns RGB to gray.
GRAY = (0.299, 0.587, 0.114)
# SSIM's window: a Gaussian of deviation 1.5 (Wang et al. 2004).
SIGMA = 1.5
WINDOW = 11
# MS-SSIM halves the picture four times, and torchmetrics wants the window to fit in what is left.
LEAST_MS_SSIM_SIDE = 16 * WINDOW


def psnr(result: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio over all RGB values, in dB: (B, 3, H, W) twice -> (B,)."""
    return _decibels((result - reference).square().mean(dim=(1, 2, 3)))


def psnr_y(result: Tensor, reference: Tensor) -> Tensor:
    """PSNR of the luma of ITU-R BT.601 (range 16 to 235), in dB: (B, 3, H, W) twice -> (B,)."""
    return _decibels(_weighted(result - reference, LUMA).square().mean(dim=(1, 2)) / 255**2)


@torch.no_grad()
def score_psnr(compared: Compared, setting: Setting) -> float | None:
    """PSNR within the border."""
    result, high = _inner(compared, setting)
    return psnr(result, high).item() if result.numel() else None


@torch.no_grad()
def score_psnr_y(compared: Compared, setting: Setting) -> float | None:
    """PSNR of the luma within the border; of a gray picture, of its value (full range)."""
    result, high = _inner(compared, setting)
    if not result.numel():
        return None
    if compared.gray:
        return _decibels(_weighted(result - high, GRAY).square().mean(dim=(1, 2))).item()
    return psnr_y(result, high).item()


@torch.no_grad()
def score_ssim(compared: Compared, setting: Setting) -> float | None:
    """SSIM within the border, the mean of the three channels (Wang et al. 2004).

    The mean is over the pixels whose whole window lies within the picture, as in the authors'
    program and scikit-image; torchmetrics' own mean counts the mirrored border too.
    """
    result, high = map(_light, _inner(compared, setting))
    if min(result.shape[-2:]) < WINDOW:
        return None
    from torchmetrics.functional.image import (  # noqa: PLC0415 - takes seconds
        structural_similarity_index_measure,
    )

    with torch.autocast(result.device.type, enabled=False):
        _, similarity = structural_similarity_index_measure(
            result, high, sigma=SIGMA, data_range=1.0, return_full_image=True
        )
    edge = WINDOW // 2
    return similarity[..., edge:-edge, edge:-edge].mean().item()


@torch.no_grad()
def score_ms_ssim(compared: Compared, setting: Setting) -> float | None:
    """MS-SSIM over five scales, the mean of the three channels (Wang et al. 2003).

    As torchmetrics has it: a negative mean at some scale counts as 0, and at the smallest scale the
    mirrored border counts too, which moves it from the authors' program by some thousandths.
    """
    result, high = (_light(_precise(i, setting)) for i in (compared.result, compared.high))
    if min(result.shape[-2:]) < LEAST_MS_SSIM_SIDE:
        return None
    from torchmetrics.functional.image import (  # noqa: PLC0415 - takes seconds
        multiscale_structural_similarity_index_measure,
    )

    with torch.autocast(result.device.type, enabled=False):
        return multiscale_structural_similarity_index_measure(
            result, high, sigma=SIGMA, data_range=1.0, normalize="relu"
        ).item()


@torch.no_grad()
def score_lr_psnr(compared: Compared, setting: Setting) -> float | None:
    """PSNR of the result, reduced again and rounded to 8 bit, against the small picture.

    It tells whether the result could be what the small picture shows, whatever detail it invents
    (the consistency of Lugmayr et al. 2021, "NTIRE 2021 learning the super-resolution space").
    """
    from clipsr_cli.degradation import shrink  # noqa: PLC0415 - torchvision takes seconds

    if compared.low is None or setting.scale is None:
        return None
    # On the CPU and in single precision, as the small picture was made: a half may round either way
    # elsewhere.
    result, low = compared.result.cpu().float(), compared.low.cpu().double()
    if result.shape[1:] != tuple(side * setting.scale for side in low.shape[1:]):
        return None
    return psnr(shrink(result[None], setting.scale, setting.kernel).double(), low[None]).item()


def torchmetrics_missing() -> str:
    """Why SSIM and MS-SSIM cannot be scored."""
    if package_folder("torchmetrics") is None:
        return "It needs torchmetrics: pip install torchmetrics"
    return ""


def _decibels(error: Tensor) -> Tensor:
    """Mean squared error of values in [0, 1] -> dB."""
    return -10 * torch.log10(error.clamp_min(LEAST_ERROR))


def _weighted(image: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """(B, 3, H, W) -> (B, H, W), a weighted sum of the channels."""
    return (image * image.new_tensor(weights).view(1, 3, 1, 1)).sum(dim=1)


def _inner(compared: Compared, setting: Setting) -> tuple[Tensor, Tensor]:
    """Result and reference (1, 3, H, W) within the border; empty where nothing is left."""
    height, width = compared.high.shape[-2:]
    edge = setting.border
    rows, columns = slice(edge, max(edge, height - edge)), slice(edge, max(edge, width - edge))
    result, high = (_precise(image, setting) for image in (compared.result, compared.high))
    return result[..., rows, columns], high[..., rows, columns]


def _precise(image: Tensor, setting: Setting) -> Tensor:
    """(3, H, W) -> (1, 3, H, W) in float64, which Apple's GPU does not know."""
    device = "cpu" if setting.device.type == "mps" else setting.device
    return image.to(device).double()[None]


def _light(image: Tensor) -> Tensor:
    """In float32 on the CPU, where SSIM's windows take several times longer in float64.

    SSIM's variances are differences of near-equal numbers, but its constants are far above what
    float32 loses (2e-6 of the score on a photo). A GPU might compute in TF32, which is not.
    """
    return image.float() if image.device.type == "cpu" else image
