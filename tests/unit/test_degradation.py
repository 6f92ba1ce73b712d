"""The evaluation kernel is Pillow's bicubic, "matlab" is MATLAB's; training spoils by chance."""

from concurrent.futures import ThreadPoolExecutor
from math import ceil, floor

import numpy as np
import pytest
import torch
from PIL import Image

from clipsr_cli.config import build
from clipsr_cli.degradation import KERNELS, DegradationConfig, degrade, resize_matlab, shrink
from clipsr_cli.errors import InputError, UnknownNameError

# All four degradations off but for what a test turns on.
BARE = {"clean": 0.0, "blur": 0.0, "kernels": ("bicubic",), "noise": 0.0, "jpeg": 0.0}


def smooth_picture(height, width, seed=0):
    """A colourful picture (3, height, width) of 8-bit values."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


@pytest.mark.parametrize("scale", [4, 8, 16])
def test_it_is_pillows_antialiased_bicubic(scale):
    high = smooth_picture(96, 64)
    pixels = high.permute(1, 2, 0).mul(255).round().byte().numpy()

    low = shrink(high[None], scale)

    size = (64 // scale, 96 // scale)
    expected = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    ours = low[0].permute(1, 2, 0).mul(255).numpy()
    # Pillow's own 8-bit arithmetic rounds between its two passes.
    assert np.abs(ours - expected.astype(np.float32)).max() <= 1.01
    np.testing.assert_allclose(ours, ours.round(), atol=1e-3)


@pytest.mark.parametrize(
    ("kernel", "resampling"),
    [
        ("bilinear", Image.Resampling.BILINEAR),
        ("area", Image.Resampling.BOX),
        ("lanczos", Image.Resampling.LANCZOS),
    ],
)
def test_the_other_kernels_are_pillows_too(kernel, resampling):
    high = smooth_picture(96, 64)
    pixels = high.permute(1, 2, 0).mul(255).round().byte().numpy()

    low = shrink(high[None], 4, kernel)

    expected = np.asarray(Image.fromarray(pixels).resize((16, 24), resampling)).astype(np.float32)
    difference = low[0].permute(1, 2, 0).mul(255).numpy() - expected
    # At the border Pillow cuts its Lanczos kernel off, where ours mirrors the picture.
    assert np.abs(difference[3:-3, 3:-3]).max() <= 1.01


def test_an_unknown_kernel_is_refused():
    with pytest.raises(UnknownNameError, match="'bicubi'") as error:
        shrink(torch.zeros(1, 3, 8, 8), 4, "bicubi")

    assert "bicubic" in error.value.hint


def slow_imresize(line, after):
    """MATLAB's imresize of one line of numbers, written out: positions and taps count from 1."""

    def cubic(x):
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    before = len(line)
    scale = after / before
    kernel_width = 4 / scale if scale < 1 else 4
    resized = []
    for x in range(1, after + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = floor(u - kernel_width / 2)
        total = weight_sum = 0.0
        for tap in range(left, left + ceil(kernel_width) + 2):
            weight = scale * cubic(scale * (u - tap)) if scale < 1 else cubic(u - tap)
            mirrored = [*range(1, before + 1), *range(before, 0, -1)][(tap - 1) % (2 * before)]
            total += weight * line[mirrored - 1]
            weight_sum += weight
        resized.append(total / weight_sum)
    return resized


@pytest.mark.parametrize(
    ("before", "after"),
    [((12, 16), (3, 4)), ((5, 7), (15, 21)), ((9, 3), (2, 5)), ((8, 8), (1, 8))],
)
def test_resize_matlab_is_matlabs_formula(before, after):
    image = np.random.default_rng(0).random(before)
    rows = np.array([slow_imresize(column, after[0]) for column in image.T]).T
    expected = np.array([slow_imresize(row, after[1]) for row in rows])

    resized = resize_matlab(torch.from_numpy(image)[None, None], after)

    np.testing.assert_allclose(resized[0, 0].numpy(), expected, atol=1e-12)


def test_the_matlab_kernel_halved_and_doubled_has_its_known_weights():
    line = torch.zeros(1, 1, 1, 16)
    line[..., 8] = 1

    halved = resize_matlab(line, (1, 8)).flatten().tolist()
    doubled = resize_matlab(line, (1, 32)).flatten().tolist()

    assert halved == [0, 0, -0.01171875, 0.11328125, 0.43359375, -0.03515625, 0, 0]
    assert doubled[13:21] == [
        *(-0.0234375, -0.0703125, 0.2265625, 0.8671875),
        *(0.8671875, 0.2265625, -0.0703125, -0.0234375),
    ]


def test_the_matlab_kernel_rounds_a_half_up_and_clips():
    high = torch.full((1, 3, 16, 16), 100 / 255)
    high[..., 8] = 228 / 255

    low = shrink(high, 2, "matlab").mul(255)

    # In full: 98.5, 114.5, 155.5, 95.5.
    expected = torch.tensor([100.0, 100, 99, 115, 156, 96, 100, 100])
    torch.testing.assert_close(low, expected.expand_as(low), atol=1e-4, rtol=0)
    edge = (torch.arange(32) < 16).float().expand(1, 3, 32, 32)
    low = shrink(edge, 4, "matlab")
    assert (low.min(), low.max()) == (0, 1)
    assert resize_matlab(edge, (8, 8)).max() > 1


def test_resize_matlab_keeps_the_type():
    assert resize_matlab(torch.zeros(2, 1, 8, 8, dtype=torch.half), (2, 4)).dtype == torch.half


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_keeps_a_flat_picture(kernel):
    high = torch.full((1, 3, 16, 24), 51 / 255)

    torch.testing.assert_close(shrink(high, 4, kernel), torch.full((1, 3, 4, 6), 51 / 255))


def test_by_default_training_pictures_get_the_evaluation_kernel():
    high = smooth_picture(64, 48)
    rng = np.random.default_rng(0)

    for _ in range(20):
        assert torch.equal(degrade(high, 4, DegradationConfig(), rng), shrink(high[None], 4)[0])


def test_the_same_seed_gives_the_same_picture_in_any_thread():
    high = smooth_picture(64, 48)
    config = DegradationConfig(clean=0.1)

    def run(seed):
        return degrade(high, 4, config, np.random.default_rng(seed))

    alone = [run(seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(40)))

    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert len({picture.numpy().tobytes() for picture in alone}) > 30


def test_the_picture_itself_is_left_alone():
    high = smooth_picture(64, 48)
    before = high.clone()

    for seed in range(20):
        degrade(high, 4, DegradationConfig(clean=0.2), np.random.default_rng(seed))

    assert torch.equal(high, before)


def test_clean_is_a_share():
    high = smooth_picture(32, 32)
    clean = shrink(high[None], 4)[0]
    rng = np.random.default_rng(0)
    config = DegradationConfig(**{**BARE, "clean": 0.25, "noise": 1.0, "noise_sigma": (0.1, 0.1)})

    untouched = sum(torch.equal(degrade(high, 4, config, rng), clean) for _ in range(400))

    assert 70 < untouched < 130


@pytest.mark.parametrize(
    "settings",
    [
        {"blur": 1.0, "blur_sigma": (0.8, 0.8)},
        {"kernels": ("area",)},
        {"noise": 1.0, "noise_sigma": (0.04, 0.04)},
        {"jpeg": 1.0, "jpeg_quality": (50, 50)},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_each_degradation_alone_changes_the_picture_but_not_its_colour(settings):
    high = 0.2 + 0.6 * smooth_picture(128, 96)
    clean = shrink(high[None], 4)[0]

    low = degrade(high, 4, DegradationConfig(**BARE | settings), np.random.default_rng(0))

    assert low.shape == clean.shape
    assert not torch.equal(low, clean)
    torch.testing.assert_close(low.mean(dim=(1, 2)), clean.mean(dim=(1, 2)), atol=0.01, rtol=0)
    assert (low - clean).abs().mean() < 0.1


def test_with_every_degradation_off_the_bare_kernel_is_left():
    high = smooth_picture(64, 48)

    low = degrade(high, 4, DegradationConfig(**BARE), np.random.default_rng(0))

    assert torch.equal(low, shrink(high[None], 4)[0])


def test_more_blur_leaves_less_detail():
    high = smooth_picture(96, 96)

    def detail(sigma):
        config = DegradationConfig(**BARE | {"blur": 1.0, "blur_sigma": (sigma, sigma)})
        return degrade(high, 4, config, np.random.default_rng(0)).diff(dim=-1).abs().mean()

    assert detail(0.0) > detail(0.5) > detail(1.0) > detail(2.0)


def test_blur_is_measured_in_pixels_of_the_small_picture():
    """Of a narrow bright line, the variance grows by the square of sigma, whatever the scale."""
    for scale in (4, 8):
        high = torch.zeros(3, 32 * scale, 32 * scale)
        high[..., 15 * scale : 17 * scale] = 1

        def variance(sigma, high=high, scale=scale):
            settings = {"kernels": ("area",), "blur": 1.0, "blur_sigma": (sigma, sigma)}
            config = DegradationConfig(**BARE | settings)
            line = degrade(high, scale, config, np.random.default_rng(0))[0, 0]
            return ((torch.arange(32) - 15.5) ** 2 * line).sum() / line.sum()

        assert variance(2.0) - variance(1.0) == pytest.approx(2.0**2 - 1.0**2, rel=0.05)


def test_a_share_of_the_noise_is_gray():
    high = torch.full((3, 32, 32), 0.5)
    config = DegradationConfig(**BARE | {"noise": 1.0, "noise_sigma": (0.04, 0.04)})
    rng = np.random.default_rng(0)

    noises = [degrade(high, 4, config, rng) - 128 / 255 for _ in range(200)]

    assert torch.stack(noises).std() == pytest.approx(0.04, rel=0.05)
    gray = sum(torch.equal(noise[0], noise[1]) for noise in noises)
    assert 60 < gray < 100


def test_jpeg_of_quality_50_is_worse_than_of_95():
    high = smooth_picture(256, 256)
    clean = shrink(high[None], 4)[0]

    def error(quality):
        config = DegradationConfig(**BARE | {"jpeg": 1.0, "jpeg_quality": (quality, quality)})
        return (degrade(high, 4, config, np.random.default_rng(0)) - clean).square().mean()

    assert error(50) > 2 * error(95) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clean": 1.5}, "clean is 1.5"),
        ({"blur": -0.1}, r"blur is -0.1"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"jpeg": 2}, "jpeg is 2.0"),
        ({"blur_sigma": [1.0, 0.1]}, "blur_sigma is 1.0, 0.1"),
        ({"blur_sigma": [0.1, float("inf")]}, "blur_sigma is 0.1, inf"),
        ({"noise_sigma": [-0.1, 0.1]}, "noise_sigma is -0.1, 0.1"),
        ({"noise_sigma": [0, 40]}, "noise_sigma is 0.0, 40.0"),
        ({"jpeg_quality": [0, 95]}, "jpeg_quality is 0, 95"),
        ({"jpeg_quality": [50, 101]}, "jpeg_quality is 50, 101"),
        ({"jpeg_quality": [50.5, 60]}, r"jpeg_quality\[0\] is 50.5"),
        ({"kernels": []}, r"kernels is \[\]"),
        ({"kernels": ["area", "bicubi"]}, r"kernels is \['area', 'bicubi'\]"),
    ],
)
def test_impossible_settings_are_refused_by_name_and_value(settings, message):
    with pytest.raises(InputError, match=message):
        build(DegradationConfig, settings)


def test_settings_of_a_toml_file_become_a_config():
    settings = {"clean": 0.5, "kernels": ["matlab", "area"], "jpeg_quality": [40, 90]}

    config = build(DegradationConfig, settings)

    assert config == DegradationConfig(clean=0.5, kernels=("matlab", "area"), jpeg_quality=(40, 90))
