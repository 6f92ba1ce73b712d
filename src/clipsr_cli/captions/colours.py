"""Say in words which colours a picture mainly has."""

import numpy as np
from PIL import Image

from clipsr_cli.colour import COLOURS

# What else these words are said of, in RGB from 0 to 255: a word has light and dark shades.
SHADES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": (COLOURS["red"], (110, 15, 20), (175, 60, 60)),
    "orange": (COLOURS["orange"], (200, 95, 30)),
    "yellow": (COLOURS["yellow"], (245, 235, 130), COLOURS["golden"], (170, 130, 40)),
    "green": (COLOURS["green"], (25, 60, 25), (150, 190, 110), (95, 110, 60)),
    "blue": (COLOURS["blue"], (150, 190, 230), (25, 35, 80), (70, 140, 190), (90, 110, 150)),
    "purple": (COLOURS["purple"], (180, 150, 210)),
    "pink": (COLOURS["pink"], (245, 190, 205)),
    "brown": (COLOURS["brown"], (70, 45, 30), (150, 110, 75)),
    "tan": (COLOURS["tan"], (225, 205, 170)),
    "black": (COLOURS["black"],),
    "grey": (COLOURS["grey"], (75, 75, 75), (180, 180, 180)),
    "white": (COLOURS["white"],),
}
# Shares of the picture, the middle and vivid pixels counting more, above which a first and a second
# colour are spoken of.
CLEAR = (0.28, 0.2)
SIDE = 64
# Standard deviation of the weights round the middle, in halves of a side.
SPREAD = 0.5
# A pixel of this CIELAB chroma counts in full; one without colour, the share below of it.
VIVID = 40.0
NEUTRAL_SHARE = 0.3


def colour_words(pixels: np.ndarray) -> list[str]:
    """The main colours, the most frequent first: none, one or two of ``SHADES``.

    Every pixel is given to the word with the nearest shade by the colour difference CIE94, with
    lightness at half its weight, as for textiles.

    Args:
        pixels: (H, W, 3) RGB, uint8.
    """
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    colours = to_lab(np.asarray(small).reshape(-1, 3))
    words = [word for word, shades in SHADES.items() for _ in shades]
    shades = to_lab(np.array([shade for shades in SHADES.values() for shade in shades]))
    nearest = difference(colours[:, None], shades[None]).argmin(axis=1)
    place = np.linspace(-1, 1, SIDE)
    middle = np.exp(-(place**2) / (2 * SPREAD**2))
    chroma = np.hypot(colours[:, 1], colours[:, 2])
    vivid = NEUTRAL_SHARE + (1 - NEUTRAL_SHARE) * np.minimum(chroma / VIVID, 1)
    weights = np.outer(middle, middle).ravel() * vivid
    shares = dict.fromkeys(SHADES, 0.0)
    for index, weight in zip(nearest, weights / weights.sum(), strict=True):
        shares[words[index]] += weight
    ranked = sorted(shares, key=lambda word: -shares[word])
    clear = [word for word, least in zip(ranked, CLEAR, strict=False) if shares[word] >= least]
    return clear if shares[ranked[0]] >= CLEAR[0] else []


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) from 0 to 255 -> CIELAB (..., 3) under D65 (IEC 61966-2-1, ISO/CIE 11664-4)."""
    encoded = rgb / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    # Relative to white, which is (1, 1, 1) through the same matrix.
    relative = linear @ (to_xyz / to_xyz.sum(axis=1, keepdims=True)).T
    bent = np.where(relative > 216 / 24389, np.cbrt(relative), (24389 / 27 * relative + 16) / 116)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def difference(colours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The squared CIE94 difference of CIELAB colours (..., 3), with k_L = 2 (CIE 116-1995).

    The chroma that scales it is the geometric mean of both, so that it is symmetric.
    """
    lightness, a, b = np.moveaxis(colours - others, -1, 0)
    one, other = (np.hypot(lab[..., 1], lab[..., 2]) for lab in (colours, others))
    chroma = one - other
    hue = np.maximum(a**2 + b**2 - chroma**2, 0)
    scale = np.sqrt(one * other)
    return (
        (lightness / 2) ** 2 + (chroma / (1 + 0.045 * scale)) ** 2 + hue / (1 + 0.015 * scale) ** 2
    )
