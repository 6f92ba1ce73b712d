"""The evaluation kernel is antialiased bicubic to 8 bit: Pillow's, which papers use too."""

import numpy as np
import pytest
import torch
from PIL import Image

from clipsr_cli.degradation import shrink


@pytest.mark.parametrize("scale", [4, 8, 16])
def test_it_is_pillows_antialiased_bicubic(scale):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((64, 96), Image.Resampling.BICUBIC))
    high = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255

    low = shrink(high, scale)

    size = (64 // scale, 96 // scale)
    expected = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    ours = low[0].permute(1, 2, 0).mul(255).numpy()
    # Pillow's own 8-bit arithmetic rounds between its two passes.
    assert np.abs(ours - expected.astype(np.float32)).max() <= 1.01
    np.testing.assert_allclose(ours, ours.round(), atol=1e-3)
