"""Turn a large picture into the small one it is to be recovered from."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from clipsr_cli.errors import InputError, UnknownNameError

# Share of the noisy pictures whose noise is the same in all three channels.
GRAY_NOISE = 0.4


def shrink(high: Tensor, scale: int, kernel: str = "bicubic") -> Tensor:
    """A picture reduced with a named kernel and rounded to 8 bit; the default is the evaluation's.

    Args:
        high: the picture.
        scale: by how much.
        kernel: a name in ``KERNELS``. The default is Pillow's bicubic and close to MATLAB's.

    Shapes:
        high     (B, 3, H, W)              RGB in [0, 1]; H and W multiples of ``scale``
        returns  (B, 3, H/scale, W/scale)  RGB in [0, 1], in steps of 1/255

    Raises:
        UnknownNameError: no kernel has that name.
    """
    if kernel not in KERNELS:
        raise UnknownNameError("kernel", kernel, KERNELS)
    low = KERNELS[kernel](high, _small_size(high, scale))
    return low.clamp(0, 1).mul(255).round().div(255)


def reduced(images: Tensor, scale: int) -> Tensor:
    """``shrink`` by the evaluation's kernel before it clips and rounds: linear, and differentiable.

    Shapes:
        images   (B, C, H, W)              any range; H and W multiples of ``scale``
        returns  (B, C, H/scale, W/scale)
    """
    return KERNELS["bicubic"](images, _small_size(images, scale))


def resize_matlab(images: Tensor, size: tuple[int, int]) -> Tensor:
    """MATLAB's ``imresize(images, size, "bicubic")`` of pictures in floating point.

    Keys' cubic with a = -0.5, stretched when it reduces, and pictures mirrored at their border with
    the border pixel repeated. Reproduces the bicubic rows of papers on super-resolution.

    Shapes:
        images   (B, C, H, W)  any range, on a device that knows float64 (CPU or CUDA)
        returns  (B, C, *size)  of the same type, neither clipped nor rounded: bicubic overshoots
    """
    return _resize(images, size, _cubic, 4)


def _resize(
    images: Tensor, size: tuple[int, int], kernel: Callable[[Tensor], Tensor], width: int
) -> Tensor:
    rows, columns = (
        _axis_weights(before, after, kernel, width).to(images.device)
        for before, after in zip(images.shape[-2:], size, strict=True)
    )
    return (rows @ images.double() @ columns.T).to(images.dtype)


@lru_cache(maxsize=16)
def _axis_weights(
    before: int, after: int, kernel: Callable[[Tensor], Tensor], width: int
) -> Tensor:
    """How much every pixel of a line counts in every pixel of the resized line.

    Follows ``contributions`` of MATLAB's imresize.m, with positions counted from 0.

    Args:
        before: pixels of the line.
        after: pixels of the resized line.
        kernel: interpolation kernel, a function of distances in pixels.
        width: width of the kernel's support.

    Returns:
        (after, before) in float64, every row of sum 1. It is shared: not to be written to.
    """
    scale = after / before
    stretch = min(scale, 1.0)
    centres = (torch.arange(after, dtype=torch.float64) + 0.5) / scale - 0.5
    first = (centres - width / stretch / 2).floor()
    taps = first[:, None] + torch.arange(math.ceil(width / stretch) + 2)
    weights = kernel(stretch * (centres[:, None] - taps))
    weights /= weights.sum(dim=1, keepdim=True)
    # Mirrored with a period of two lines: 0, 1, ..., n-1, n-1, ..., 1, 0, 0, 1, ...
    place = taps.long() % (2 * before)
    place = torch.minimum(place, 2 * before - 1 - place)
    return torch.zeros(after, before, dtype=torch.float64).scatter_add_(1, place, weights)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel of support 4, a = -0.5 (Keys 1981)."""
    x = distance.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0))


def _lanczos(distance: Tensor) -> Tensor:
    """Lanczos's windowed sinc with three lobes, of support 6."""
    return torch.where(distance.abs() < 3, torch.sinc(distance) * torch.sinc(distance / 3), 0.0)


def _matlab(high: Tensor, size: tuple[int, int]) -> Tensor:
    # MATLAB rounds a half up. In float32 a half is a hair off, which must not decide.
    steps = resize_matlab(high.double(), size).clamp(0, 1).mul(255)
    return (steps + 0.5 + 1e-4).floor().div(255).to(high.dtype)


# Reductions of (B, 3, H, W) to a size. All but "area" are antialiased by stretching their kernel;
# for "area" it is the mean of the pixels. "bicubic" and "lanczos" may overshoot [0, 1]; "matlab" is
# clipped and rounded to 8 bit as MATLAB does it.
KERNELS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "bicubic": lambda high, size: F.interpolate(high, size, mode="bicubic", antialias=True),
    "matlab": _matlab,
    "bilinear": lambda high, size: F.interpolate(high, size, mode="bilinear", antialias=True),
    "area": lambda high, size: F.interpolate(high, size, mode="area"),
    "lanczos": lambda high, size: _resize(high, size, _lanczos, 6),
}


@dataclass(frozen=True, kw_only=True)
class DegradationConfig:
    """What happens to a training picture on its way to the small one.

    The defaults are the evaluation kernel; with ``clean`` below 1 the other pictures get, in this
    order, a blur, a kernel, noise and JPEG.

    Attributes:
        clean: share of the pictures that get the evaluation kernel and nothing else.
        blur: share of the others that are blurred before they are reduced.
        blur_sigma: least and greatest deviation of the Gaussian blur, in pixels of the small
            picture.
        kernels: names in ``KERNELS``, of which every picture gets one; a name may come twice.
        noise: share that gets Gaussian noise after the reduction.
        noise_sigma: least and greatest deviation of the noise, of 1.
        jpeg: share that is compressed as JPEG in the end.
        jpeg_quality: least and greatest quality, 1 to 100.

    Raises:
        InputError: a value is impossible.
    """

    clean: float = 1.0
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 1.0)
    kernels: tuple[str, ...] = ("bicubic", "bilinear", "area", "lanczos")
    noise: float = 0.3
    noise_sigma: tuple[float, float] = (0.0, 0.04)
    jpeg: float = 0.7
    jpeg_quality: tuple[int, int] = (50, 95)

    def __post_init__(self) -> None:
        for name in ("clean", "blur", "noise", "jpeg"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be from 0 to 1.")
        for name, lowest, highest in (
            ("blur_sigma", 0, 100),
            ("noise_sigma", 0, 1),
            ("jpeg_quality", 1, 100),
        ):
            least, greatest = getattr(self, name)
            if not lowest <= least <= greatest <= highest:
                raise InputError(
                    f"{name} is {least}, {greatest}; it must be two numbers from {lowest} to "
                    f"{highest}, the smaller one first."
                )
        if not self.kernels or not KERNELS.keys() >= set(self.kernels):
            raise InputError(
                f"kernels is {list(self.kernels)}; it must hold some of: {', '.join(KERNELS)}."
            )


def degrade(
    high: Tensor, scale: int, config: DegradationConfig, rng: np.random.Generator
) -> Tensor:
    """A training picture reduced, and spoilt as pictures out in the world are.

    The result depends on the arguments alone, ``rng``'s state included, which moves on.

    Shapes:
        high     (3, H, W)              RGB in [0, 1], on the CPU; H and W multiples of ``scale``
        returns  (3, H/scale, W/scale)  RGB in [0, 1], in steps of 1/255
    """
    if rng.random() < config.clean:
        return shrink(high[None], scale)[0]
    if rng.random() < config.blur:
        high = _blur(high, scale * rng.uniform(*config.blur_sigma))
    kernel = KERNELS[config.kernels[rng.integers(len(config.kernels))]]
    low = kernel(high[None], _small_size(high, scale))[0].clamp(0, 1)
    if rng.random() < config.noise:
        channels = 1 if rng.random() < GRAY_NOISE else 3
        noise = rng.standard_normal((channels, *low.shape[1:]), dtype=np.float32)
        low = low + rng.uniform(*config.noise_sigma) * torch.from_numpy(noise)
    steps = low.clamp(0, 1).mul(255).round().byte()
    if rng.random() < config.jpeg:
        steps = _jpeg(steps, int(rng.integers(*config.jpeg_quality, endpoint=True)))
    return steps.to(high.dtype).div(255)


def _small_size(high: Tensor, scale: int) -> tuple[int, int]:
    height, width = high.shape[-2:]
    assert (height % scale, width % scale) == (0, 0), (height, width, scale)
    return height // scale, width // scale


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (C, H, W), out to three deviations, mirrored at the border."""
    # Below a tenth of a pixel nothing of the neighbours is left, and the arithmetic underflows.
    if sigma < 0.1:
        return image
    radius = math.ceil(3 * sigma)
    # A mirror shows no more than the picture has.
    down, across = (2 * min(radius, side - 1) + 1 for side in image.shape[-2:])
    # One axis after the other, since torchvision's blur of both at once takes many times longer.
    image = gaussian_blur(image, [across, 1], [sigma, sigma])
    return gaussian_blur(image, [1, down], [sigma, sigma])


def _jpeg(steps: Tensor, quality: int) -> Tensor:
    """A picture (3, H, W) of bytes, compressed and decoded again."""
    file = BytesIO()
    # Pillow's, since torchvision's own is to be removed.
    Image.fromarray(steps.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).contiguous()
