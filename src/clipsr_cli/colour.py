"""Put colours right: an enlarged picture's by the small one, hidden pixels' by visible ones."""

from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile

import numpy as np

from clipsr_cli.pictures import resize
from clipsr_cli.rows import BLOCK, windows

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
# Pixels to either side that all levels together look at.
WAVELET_REACH = 2**WAVELET_LEVELS - 1
# Rows that wait for the mean of all of them go to a temporary file beyond so many bytes.
SPOOL = 2**27


def fix_colour(
    blocks: Iterable[np.ndarray], low: np.ndarray, size: tuple[int, int], kind: str
) -> Iterator[np.ndarray]:
    """Correct a colour drift, block by block.

    ``adain`` gives each channel the small picture's mean and deviation; ``wavelet`` keeps the
    enlarged picture's detail and takes everything coarser from the small one.

    Args:
        blocks: the enlarged picture's rows, (n, W, 3) RGB, float in [0, 1].
        low: the small picture, (h, w, 3) RGB, float in [0, 1].
        size: W and H.
        kind: a name in ``FIXES``.

    Returns:
        Rows (n, W, 3), about [0, 1].
    """
    if kind == "none":
        return iter(blocks)
    if kind == "adain":
        return _match_moments(blocks, low)
    assert kind == "wavelet", kind
    return _swap_coarse(blocks, low, size)


def _swap_coarse(
    blocks: Iterable[np.ndarray], low: np.ndarray, size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Fine wavelet levels of the rows, coarse ones of the small picture."""
    width, height = size
    ratio = low.shape[0] / height
    spans = [(top, min(top + BLOCK, height)) for top in range(0, height, BLOCK)]
    wanted = [
        (max(0, top - WAVELET_REACH), min(height, bottom + WAVELET_REACH)) for top, bottom in spans
    ]
    parts = windows(blocks, wanted)
    for (top, bottom), (first, last), high in zip(spans, wanted, parts, strict=True):
        reference = resize(
            low, (width, last - first), (first * ratio, min(last * ratio, low.shape[0]))
        )
        fixed = high - _coarse(high) + _coarse(reference)
        yield fixed[top - first : bottom - first]


def _match_moments(blocks: Iterable[np.ndarray], low: np.ndarray) -> Iterator[np.ndarray]:
    """The rows with the mean and deviation of the small picture's channels."""
    high = _Moments()
    with SpooledTemporaryFile(max_size=SPOOL) as spool:
        shapes = []
        for block in blocks:
            high.add(block)
            spool.write(np.ascontiguousarray(block).tobytes())
            shapes.append((block.shape, block.dtype))
        small = _Moments()
        for top in range(0, len(low), BLOCK):
            small.add(low[top : top + BLOCK])
        factor = small.deviation / (high.deviation + 1e-5)
        spool.seek(0)
        for shape, dtype in shapes:
            size = int(np.prod(shape)) * dtype.itemsize
            block = np.frombuffer(spool.read(size), dtype).reshape(shape)
            yield (block - high.mean) * factor + small.mean


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


class _Moments:
    """Mean and standard deviation of each channel of rows that come one after the other."""

    def __init__(self) -> None:
        # In float64, or a sum over some ten million pixels is too coarse to grow as it should.
        self.count = 0
        self.sums = np.zeros(3)
        self.squares = np.zeros(3)

    def add(self, rows: np.ndarray) -> None:
        """Some more rows (n, W, 3)."""
        exact = rows.reshape(-1, 3).astype(np.float64)
        self.count += len(exact)
        self.sums += exact.sum(axis=0)
        self.squares += (exact**2).sum(axis=0)

    @property
    def mean(self) -> np.ndarray:
        """(3,) float32."""
        return (self.sums / self.count).astype(np.float32)

    @property
    def deviation(self) -> np.ndarray:
        """(3,) float32."""
        variance = self.squares / self.count - (self.sums / self.count) ** 2
        return np.sqrt(np.maximum(variance, 0)).astype(np.float32)


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
