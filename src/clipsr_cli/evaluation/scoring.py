"""Score what is made of small pictures, one picture at a time."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipsr_cli.degradation import resize_matlab
from clipsr_cli.evaluation.pairs import Pair, to_8_bit, to_tensor
from clipsr_cli.evaluation.report import Row
from clipsr_cli.metrics import Compared, Metric, Setting

# What is scored: (3, H, W) RGB in [0, 1] for a pair; it is rounded to 8 bit.
Enlarge = Callable[[Pair], Tensor]


def bicubic(pair: Pair) -> Tensor:
    """Pillow's bicubic enlargement of the small picture."""
    return _pillow(pair, Image.Resampling.BICUBIC)


def bicubic_matlab(pair: Pair) -> Tensor:
    """MATLAB's bicubic enlargement of the small picture."""
    assert pair.low is not None
    return to_8_bit(resize_matlab(pair.low[None], (pair.high.shape[1], pair.high.shape[2]))[0])


def lanczos(pair: Pair) -> Tensor:
    """Pillow's Lanczos enlargement of the small picture."""
    return _pillow(pair, Image.Resampling.LANCZOS)


def _pillow(pair: Pair, kind: Image.Resampling) -> Tensor:
    size = (pair.high.shape[2], pair.high.shape[1])
    return to_tensor(np.asarray(Image.fromarray(pair.small().pixels).resize(size, kind)))


# What needs no weights, by the name that ``--model`` takes.
PLAIN: dict[str, Enlarge] = {
    "bicubic": bicubic,
    "bicubic-matlab": bicubic_matlab,
    "lanczos": lanczos,
}


@torch.no_grad()
def score(pair: Pair, result: Tensor, metrics: Mapping[str, Metric], setting: Setting) -> Row:
    """One result's scores by those metrics that score single pictures."""
    compared = compare(pair, result)
    scores = {
        name: metric.score(compared, setting)
        for name, metric in metrics.items()
        if metric.score is not None
    }
    return Row(name=pair.name, prompt=pair.prompt, caption=pair.caption, scores=scores)


def compare(pair: Pair, result: Tensor) -> Compared:
    """A result beside what it should be, for the metrics."""
    return Compared(
        result=result, high=pair.high, low=pair.low, caption=pair.caption, gray=pair.gray
    )
