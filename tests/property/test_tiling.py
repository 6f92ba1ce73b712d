"""Tiles cover, share one shape, and blend back exactly."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipsr_cli.tiling import Grid

sides = st.integers(1, 90)


@given(height=sides, width=sides, size=st.integers(1, 40), data=st.data())
def test_tiles_cover_every_pixel_and_share_one_shape(height, width, size, data):
    overlap = data.draw(st.integers(0, size - 1))

    grid = Grid.cover(height, width, size=size, overlap=overlap)
    tiles = list(grid)

    assert {(t.height, t.width) for t in tiles} == {(min(height, size), min(width, size))}
    assert {row for t in tiles for row in range(t.top, t.bottom)} == set(range(height))
    assert {column for t in tiles for column in range(t.left, t.right)} == set(range(width))
    assert len({(t.top, t.left) for t in tiles}) == len(tiles) == len(grid)
    assert (grid.bottom, grid.right) == (height, width)


@given(height=sides, width=sides, size=st.integers(2, 40), data=st.data())
def test_neighbours_share_at_least_the_overlap(height, width, size, data):
    overlap = data.draw(st.integers(0, size - 1))

    grid = Grid.cover(height, width, size=size, overlap=overlap)

    for starts, length in ((grid.tops, height), (grid.lefts, width)):
        extent = min(length, size)
        assert all(a < b <= a + extent - overlap for a, b in itertools.pairwise(starts))


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    size=st.integers(1, 16),
    scale=st.sampled_from([1, 4, 8]),
    data=st.data(),
)
def test_an_identity_generator_stitches_back_exactly(height, width, size, scale, data):
    overlap = data.draw(st.integers(0, size - 1))
    image = np.random.default_rng(height * 31 + width).random((height, width, 3), np.float32)
    large = image.repeat(scale, axis=0).repeat(scale, axis=1)

    grid = Grid.cover(height, width, size=size, overlap=overlap)
    down, across = grid.weights(scale)
    canvas = np.zeros_like(large)
    for tile in grid:
        rows = slice(tile.top * scale, tile.bottom * scale)
        columns = slice(tile.left * scale, tile.right * scale)
        weights = np.multiply.outer(down[tile.top], across[tile.left])
        canvas[rows, columns] += weights[:, :, None] * large[rows, columns]

    np.testing.assert_allclose(canvas, large, atol=1e-5)
