"""Work on a picture's rows as they come, block by block from the top, never holding all of them."""

from collections.abc import Iterable, Iterator
from math import ceil, floor

import numpy as np

from clipsr_cli.pictures import CUBIC_REACH, resize

# Rows that are made at a time.
BLOCK = 256


def windows(
    blocks: Iterable[np.ndarray], wanted: Iterable[tuple[int, int]]
) -> Iterator[np.ndarray]:
    """Overlapping parts of a picture, from rows that come in blocks of any number.

    Args:
        blocks: all rows from the top, (n, ...).
        wanted: first row and row behind the last of each part; neither ever goes back.
    """
    source = iter(blocks)
    held: list[np.ndarray] = []
    first = last = 0
    for top, bottom in wanted:
        while last < bottom:
            block = next(source)
            held.append(block)
            last += len(block)
        while held and first + len(held[0]) <= top:
            first += len(held.pop(0))
        joined = held[0] if len(held) == 1 else np.concatenate(held)
        held = [joined]
        yield joined[top - first : bottom - first]


def resize_rows(
    blocks: Iterable[np.ndarray], before: tuple[int, int], after: tuple[int, int]
) -> Iterator[np.ndarray]:
    """``pictures.resize`` of a picture that comes in blocks.

    Args:
        blocks: its rows, (n, width, C) float32.
        before, after: width and height.
    """
    if before == after:
        yield from blocks
        return
    ratio = before[1] / after[1]
    reach = CUBIC_REACH * max(1.0, ratio)
    # As many source rows at a time, however much it shrinks.
    step = max(1, int(BLOCK / max(1.0, ratio)))
    spans = [(top, min(top + step, after[1])) for top in range(0, after[1], step)]
    wanted = [
        (max(0, floor(top * ratio - reach)), min(before[1], ceil(bottom * ratio + reach)))
        for top, bottom in spans
    ]
    parts = windows(blocks, wanted)
    for (top, bottom), (start, _), part in zip(spans, wanted, parts, strict=True):
        within = (top * ratio - start, min(bottom * ratio - start, len(part)))
        yield resize(part, (after[0], bottom - top), within)
