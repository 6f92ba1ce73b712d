"""Whatever the picture, scale and chance, a degraded picture is a small 8-bit picture."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsr_cli.degradation import KERNELS, DegradationConfig, degrade, resize_matlab

sides = st.integers(1, 12)
SPOILT = DegradationConfig(
    clean=0.1, blur=0.8, blur_sigma=(0.0, 3.0), kernels=tuple(KERNELS), noise=0.8, jpeg=0.8
)


@settings(deadline=None)
@given(height=sides, width=sides, scale=st.sampled_from([1, 2, 3, 4, 8, 16]), seed=st.integers(0))
def test_a_degraded_picture_is_small_and_8_bit_and_repeatable(height, width, scale, seed):
    random = np.random.default_rng(seed)
    high = torch.from_numpy(random.random((3, height * scale, width * scale), dtype=np.float32))

    first, second = (degrade(high, scale, SPOILT, np.random.default_rng(seed)) for _ in range(2))

    assert first.shape == (3, height, width)
    assert first.dtype == torch.float32
    assert 0 <= first.min() <= first.max() <= 1
    torch.testing.assert_close(first * 255, (first * 255).round(), atol=1e-3, rtol=0)
    assert torch.equal(first, second)


@settings(deadline=None)
@given(before=st.tuples(sides, sides), after=st.tuples(sides, sides), seed=st.integers(0, 99))
def test_resizing_keeps_flat_pictures_and_mirrors_with_them(before, after, seed):
    image = torch.rand(1, 1, *before, generator=torch.Generator().manual_seed(seed)).double()

    resized = resize_matlab(image, after)

    assert resized.shape == (1, 1, *after)
    torch.testing.assert_close(resize_matlab(image + 2, after), resized + 2)
    torch.testing.assert_close(resize_matlab(image.flip(-1, -2), after).flip(-1, -2), resized)
