"""What tiling promises in particular cases."""

import numpy as np
import pytest

from clipsr_cli.tiling import Grid


def test_an_image_that_fits_is_one_tile_of_its_own_shape():
    (tile,) = Grid.cover(20, 30, size=32, overlap=8)

    assert (tile.top, tile.left, tile.height, tile.width) == (0, 0, 20, 30)


def test_a_long_strip_is_cut_along_its_length_only():
    grid = Grid.cover(10, 100, size=32, overlap=8)

    assert grid.tops == (0,)
    assert grid.shape == (10, 32)
    assert grid.right == 100


def test_tiles_are_counted_row_by_row():
    grid = Grid.cover(30, 30, size=20, overlap=4)

    assert [(t.top, t.left) for t in grid] == [(0, 0), (0, 10), (10, 0), (10, 10)]
    with pytest.raises(IndexError):
        grid[4]


def test_weights_fall_off_towards_inner_edges_only():
    grid = Grid.cover(8, 24, size=16, overlap=8)

    down, across = grid.weights(scale=1)

    assert np.all(down[0] == 1)
    assert np.all(across[0][:8] == 1)
    assert np.all(np.diff(across[0][8:]) < 0)
    np.testing.assert_allclose(across[0][8:] + across[8][:8], 1, atol=1e-6)
