"""What tiling promises in particular cases."""

import numpy as np

from clipsr_cli.tiling import blend_weights, plan_tiles


def test_an_image_that_fits_is_one_tile_of_its_own_shape():
    (tile,) = plan_tiles(20, 30, size=32, overlap=8)

    assert (tile.top, tile.left, tile.height, tile.width) == (0, 0, 20, 30)


def test_a_long_strip_is_cut_along_its_length_only():
    tiles = plan_tiles(10, 100, size=32, overlap=8)

    assert {t.top for t in tiles} == {0}
    assert {t.height for t in tiles} == {10}
    assert max(t.right for t in tiles) == 100


def test_weights_fall_off_towards_inner_edges_only():
    tiles = plan_tiles(8, 24, size=16, overlap=8)

    (down, left), (_, right) = blend_weights(8, 24, tiles, scale=1)

    assert np.all(down == 1)
    assert np.all(left[:8] == 1)
    assert np.all(np.diff(left[8:]) < 0)
    np.testing.assert_allclose(left[8:] + right[:8], 1, atol=1e-6)
