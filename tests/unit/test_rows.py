"""Rows that come in blocks give what the whole picture would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsr_cli import rows
from clipsr_cli.pictures import resize
from clipsr_cli.rows import resize_rows, windows


def blocks_of(values, data):
    """The rows of an array, cut anywhere."""
    cuts = data.draw(st.lists(st.integers(1, len(values)), max_size=6).map(sorted))
    return [block for block in np.split(values, cuts) if len(block)]


@given(data=st.data(), height=st.integers(1, 60))
def test_windows_are_the_parts_that_were_asked_for(data, height):
    values = np.arange(height)[:, None]
    tops = sorted(data.draw(st.lists(st.integers(0, height - 1), min_size=1, max_size=8)))
    bottoms = sorted(min(height, top + data.draw(st.integers(1, 20))) for top in tops)
    wanted = list(zip(tops, bottoms, strict=True))

    found = list(windows(blocks_of(values, data), wanted))

    for (top, bottom), part in zip(wanted, found, strict=True):
        assert part[:, 0].tolist() == list(range(top, bottom))


def test_however_much_it_shrinks_few_rows_are_held():
    held = []

    def blocks():
        for _ in range(256):
            yield np.ones((32, 4, 3), np.float32)

    asked = rows.windows

    def watched(source, wanted):
        for part in asked(source, wanted):
            held.append(len(part))
            yield part

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "windows", watched)
        result = np.concatenate(list(resize_rows(blocks(), (4, 8192), (1, 512))))

    assert result.shape == (512, 1, 3)
    assert max(held) <= 2 * rows.BLOCK


@given(
    before=st.tuples(st.integers(1, 30), st.integers(1, 60)),
    after=st.tuples(st.integers(1, 30), st.integers(2, 60)),
    data=st.data(),
)
def test_a_part_of_a_picture_is_resized_as_in_the_whole(before, after, data):
    values = np.random.default_rng(before[0]).random((before[1], before[0], 2), np.float32)
    cut = data.draw(st.integers(1, after[1] - 1))
    middle = cut * before[1] / after[1]

    upper = resize(values, (after[0], cut), (0, middle))
    lower = resize(values, (after[0], after[1] - cut), (middle, before[1]))

    whole = resize(values, after, (0, before[1]))
    np.testing.assert_allclose(np.concatenate([upper, lower]), whole, atol=2e-6)


@given(
    data=st.data(),
    before=st.tuples(st.integers(1, 40), st.integers(1, 90)),
    after=st.tuples(st.integers(1, 40), st.integers(1, 90)),
)
def test_a_picture_in_blocks_is_resized_as_the_whole_is(data, before, after):
    values = np.random.default_rng(before[0]).random((before[1], before[0], 3), np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BLOCK", data.draw(st.integers(1, 30)))
        found = np.concatenate(list(resize_rows(blocks_of(values, data), before, after)))

    np.testing.assert_allclose(found, resize(values, after), atol=2e-6)
