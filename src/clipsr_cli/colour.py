"""Keep an enlarged picture's colours true to the small one's, and transparent parts out of them."""

import numpy as np

from clipsr_cli.pictures import resize

# What colour words mean, in RGB from 0 to 255.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (200, 30, 30),
    "scarlet": (200, 30, 20),
    "orange": (230, 130, 30),
    "yellow": (230, 210, 40),
    "green": (50, 140, 50),
    "blue": (40, 70, 190),
    "purple": (120, 40, 140),
    "violet": (120, 40, 140),
    "pink": (235, 130, 170),
    "brown": (120, 75, 40),
    "black": (20, 20, 20),
    "white": (240, 240, 240),
    "gray": (128, 128, 128),
    "grey": (128, 128, 128),
    "golden": (215, 170, 50),
    "tan": (205, 170, 125),
}
FIXES = ("none", "wavelet", "adain")
WAVELET_LEVELS = 5


def fix_colour(high: np.ndarray, low: np.ndarray, kind: str) -> np.ndarray:
    """Correct a colour drift.

    ``adain`` gives each channel the small picture's mean and deviation; ``wavelet`` keeps the
    enlarged picture's detail and takes everything coarser from the small one.

    Shapes:
        high     (H, W, 3)  RGB, float in [0, 1]
        low      (h, w, 3)  RGB, float in [0, 1]
        returns  (H, W, 3)  about [0, 1]
    """
    if kind == "none":
        return high
    if kind == "adain":
        (high_mean, high_deviation), (low_mean, low_deviation) = _moments(high), _moments(low)
        return (high - high_mean) * (low_deviation / (high_deviation + 1e-5)) + low_mean
    assert kind == "wavelet", kind
    reference = resize(low, (high.shape[1], high.shape[0]))
    return high - _coarse(high) + _coarse(reference)


def fill_transparent(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give transparent pixels the colour of visible ones near them, so that none bleeds in from
    under.

    Shapes:
        pixels   (H, W, 3)  float in [0, 1], not premultiplied
        alpha    (H, W)     float in [0, 1]
        returns  (H, W, 3)  float in [0, 1], unchanged where alpha is above 0
    """
    if alpha.min() > 0 or alpha.max() == 0:
        return pixels
    weight = alpha[:, :, None]
    levels = [(pixels * weight, weight)]
    # Ever coarser averages of the visible pixels, until they cover everything.
    while levels[-1][1].min() == 0 and max(levels[-1][1].shape) > 1:
        levels.append((_halve(levels[-1][0]), _halve(levels[-1][1])))
    filled = _divide(*levels[-1])
    for premultiplied, weight in reversed(levels[:-1]):
        coarse = resize(filled, (weight.shape[1], weight.shape[0]))
        filled = np.where(weight > 0, _divide(premultiplied, weight), coarse)
    # Bicubic interpolation overshoots.
    filled = np.clip(filled, 0, 1)
    return np.where(alpha[:, :, None] > 0, pixels, filled).astype(np.float32)


def _moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel: two of (3,) float32."""
    # In float64, or a sum over some ten million pixels is too coarse to grow as it should.
    channels = [image[:, :, c] for c in range(3)]
    mean = np.array([channel.mean(dtype=np.float64) for channel in channels], np.float32)
    deviation = np.array([channel.std(dtype=np.float64) for channel in channels], np.float32)
    return mean, deviation


def _coarse(image: np.ndarray) -> np.ndarray:
    """What is left of an image after its finer wavelet levels are taken away (a trous,
    B-spline).
    """
    for level in range(WAVELET_LEVELS):
        step = 2**level
        for axis in (0, 1):
            pad = [(step, step) if a == axis else (0, 0) for a in range(3)]
            padded = np.moveaxis(np.pad(image, pad, mode="edge"), axis, 0)
            image = (padded[: -2 * step] + 2 * padded[step:-step] + padded[2 * step :]) / 4
            image = np.moveaxis(image, 0, axis)
    return image


def _halve(values: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, the last row or column repeated where a side is odd."""
    height, width = values.shape[:2]
    even = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _divide(premultiplied: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Colours by their weights, 0 where there is none."""
    return np.divide(premultiplied, weight, out=np.zeros_like(premultiplied), where=weight > 0)
