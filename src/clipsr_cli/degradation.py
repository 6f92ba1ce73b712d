"""Turn a large picture into the small one it is to be recovered from."""

import torch.nn.functional as F
from torch import Tensor


def shrink(high: Tensor, scale: int) -> Tensor:
    """Antialiased bicubic reduction, rounded to 8 bit: the evaluation kernel.

    The kernel is Pillow's and close to MATLAB's (a = -0.5).

    Shapes:
        high     (B, 3, H, W)              RGB in [0, 1]; H and W multiples of ``scale``
        returns  (B, 3, H/scale, W/scale)  RGB in [0, 1], in steps of 1/255
    """
    height, width = high.shape[-2:]
    assert (height % scale, width % scale) == (0, 0), (height, width, scale)
    low = F.interpolate(high, (height // scale, width // scale), mode="bicubic", antialias=True)
    return low.clamp(0, 1).mul(255).round().div(255)
