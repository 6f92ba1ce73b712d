"""Colour fixes bring the small picture's colours back, and hidden colours do not bleed."""

import numpy as np
import pytest

from clipsr_cli import colour
from clipsr_cli.colour import FIXES, fill_transparent
from clipsr_cli.pictures import resize

TINT = np.array([0.1, -0.05, 0.02], np.float32)


def fix_colour(high, low, kind):
    """The fix of a whole picture that comes in one block."""
    size = (high.shape[1], high.shape[0])
    return np.concatenate(list(colour.fix_colour([high], low, size, kind)))


@pytest.fixture
def low():
    """A smooth small picture, away from black and white."""
    rng = np.random.default_rng(0)
    return 0.3 + 0.4 * resize(rng.random((3, 4, 3), np.float32), (24, 18)).clip(0, 1)


@pytest.fixture
def detail():
    """What an enlargement adds: a fine checkerboard."""
    return (0.05 * (np.indices((72, 96)).sum(0) % 2 * 2 - 1)).astype(np.float32)[:, :, None]


@pytest.fixture
def tinted(low, detail):
    """An enlargement that has drifted in colour."""
    return resize(low, (96, 72)) + detail + TINT


def test_none_gives_the_same_picture(low, tinted):
    assert np.array_equal(fix_colour(tinted, low, "none"), tinted)


@pytest.mark.parametrize("kind", FIXES)
@pytest.mark.parametrize("spool", [10, 10**9])
def test_blocks_of_any_size_are_fixed_as_the_whole_is(low, kind, spool, monkeypatch):
    monkeypatch.setattr(colour, "BLOCK", 100)
    monkeypatch.setattr(colour, "SPOOL", spool)
    high = np.random.default_rng(1).random((18 * 16, 24 * 16, 3), np.float32)
    blocks = np.split(high, [1, 70, 71, 150, 287])

    fixed = list(colour.fix_colour(blocks, low, (24 * 16, 18 * 16), kind))

    monkeypatch.setattr(colour, "BLOCK", 1000)
    np.testing.assert_allclose(np.concatenate(fixed), fix_colour(high, low, kind), atol=2e-6)


@pytest.mark.parametrize("kind", [kind for kind in FIXES if kind != "none"])
def test_a_fix_takes_a_tint_away(low, tinted, kind):
    fixed = fix_colour(tinted, low, kind)

    assert fixed.mean((0, 1)) == pytest.approx(low.mean((0, 1)), abs=0.003)
    assert (fixed.shape, fixed.dtype) == (tinted.shape, np.float32)


def test_adain_gives_each_channel_the_small_pictures_deviation(low, tinted):
    fixed = fix_colour(0.5 + 0.3 * (tinted - 0.5), low, "adain")

    assert fixed.std((0, 1)) == pytest.approx(low.std((0, 1)), rel=0.01)


def test_adain_keeps_a_plain_picture_plain(low):
    fixed = fix_colour(np.full((8, 8, 3), 0.7, np.float32), low, "adain")

    assert fixed == pytest.approx(np.broadcast_to(low.mean((0, 1)), fixed.shape), abs=1e-3)


def test_adain_is_as_exact_on_a_large_picture():
    # A sum in float32 is some percent off by now.
    high = np.full((2000, 1500, 3), 0.3, np.float32)
    high[::2] = 0.5

    fixed = fix_colour(high, np.array([[[0.2] * 3], [[0.6] * 3]], np.float32), "adain")

    assert (fixed[0, 0], fixed[1, 0]) == (
        pytest.approx([0.6] * 3, abs=1e-3),
        pytest.approx([0.2] * 3, abs=1e-3),
    )


def test_wavelet_keeps_the_detail(low, tinted, detail):
    fixed = fix_colour(tinted, low, "wavelet")

    # Away from the border, where the small picture's own detail differs a little.
    added = (fixed - resize(low, (96, 72)))[8:-8, 8:-8]
    assert np.abs(added - detail[8:-8, 8:-8]).max() < 0.02


def test_wavelet_takes_a_drift_away_that_differs_from_place_to_place(low, detail):
    drift = np.linspace(-0.1, 0.1, 96, dtype=np.float32)[None, :, None]
    true = resize(low, (96, 72)) + detail

    fixed = fix_colour(true + drift, low, "wavelet")

    assert np.abs(fixed - true).mean() < 0.1 * np.abs(drift).mean()


@pytest.mark.parametrize("kind", FIXES)
def test_a_fix_works_on_a_picture_of_one_pixel(kind):
    low = np.full((1, 1, 3), 0.25, np.float32)

    fixed = fix_colour(np.full((4, 4, 3), 0.5, np.float32), low, kind)

    assert fixed == pytest.approx(0.5 if kind == "none" else 0.25, abs=1e-6)


@pytest.fixture
def sprite():
    """A white disc on transparent black, of an odd size, with an antialiased rim."""
    rows, columns = np.indices((37, 53))
    distance = np.hypot(rows - 18, columns - 20)
    alpha = np.clip(12.5 - distance, 0, 1).astype(np.float32)
    return (alpha > 0)[:, :, None] * np.array([1, 0.9, 0.8], np.float32), alpha


def test_visible_pixels_stay_as_they_are(sprite):
    pixels, alpha = sprite

    filled = fill_transparent(pixels, alpha)

    assert np.array_equal(filled[alpha > 0], pixels[alpha > 0])
    assert filled.dtype == np.float32


def test_no_dark_fringe_is_left(sprite):
    pixels, alpha = sprite

    enlarged = resize(fill_transparent(pixels, alpha), (4 * 53, 4 * 37))

    # Before: the black beside the disc is drawn into its rim.
    assert resize(pixels, (4 * 53, 4 * 37)).min() < 0.01
    assert np.abs(enlarged - [1, 0.9, 0.8]).max() < 1e-3


def test_a_hidden_pixel_takes_the_colour_that_is_near():
    pixels, alpha = np.zeros((32, 64, 3), np.float32), np.zeros((32, 64), np.float32)
    pixels[:, :4], pixels[:, -4:] = (1, 0, 0), (0, 0, 1)
    alpha[:, :4] = alpha[:, -4:] = 1

    filled = fill_transparent(pixels, alpha)

    assert filled[16, 6] == pytest.approx([1, 0, 0], abs=0.05)
    assert filled[16, 57] == pytest.approx([0, 0, 1], abs=0.05)
    assert 0 <= filled.min() <= filled.max() <= 1


def test_a_hardly_visible_pixel_colours_a_large_picture():
    pixels, alpha = np.zeros((300, 1500, 3), np.float32), np.zeros((300, 1500), np.float32)
    pixels[0, 0], alpha[0, 0] = 0.8, 1 / 65535

    assert np.abs(fill_transparent(pixels, alpha) - 0.8).max() < 1e-4


@pytest.mark.parametrize("alpha", [0, 1, 0.5])
def test_a_picture_all_visible_or_all_hidden_is_left_alone(alpha):
    pixels = np.random.default_rng(0).random((5, 4, 3), np.float32)

    assert fill_transparent(pixels, np.full((5, 4), alpha, np.float32)) is pixels
