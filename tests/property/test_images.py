"""What is written comes back, and no file, however broken, does more than fail to be read."""

import contextlib
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from clipsr_cli import encoders, images, pictures
from clipsr_cli.errors import ImageError
from clipsr_cli.pictures import FORMATS, Metadata, Picture

sides = st.integers(1, 12)
dtypes = st.sampled_from([np.uint8, np.uint16])
text = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=20)


@st.composite
def any_pictures(draw):
    """Any picture: 8 or 16 bit, gray or colour, with alpha or without."""
    height, width, dtype = draw(sides), draw(sides), draw(dtypes)
    gray = draw(st.booleans())
    colour = draw(arrays(dtype, (height, width, 1 if gray else 3)))
    alpha = draw(st.none() | arrays(dtype, (height, width)))
    pixels = colour.repeat(3, axis=2) if gray else colour
    return Picture(pixels=pixels, alpha=alpha, gray=gray)


@st.composite
def metadata(draw):
    exif = Image.Exif()
    for tag in draw(st.sets(st.sampled_from(pictures.KEPT_EXIF))):
        exif[tag] = draw(text).encode()
    dpi = draw(st.none() | st.tuples(st.floats(2, 65535), st.floats(2, 65535)))
    icc = draw(st.none() | st.binary(min_size=1, max_size=300))
    return Metadata(icc=icc, exif=exif.tobytes() if len(exif) else None, dpi=dpi)


@settings(deadline=None, max_examples=60)
@given(picture=any_pictures(), form=st.sampled_from(["png", "tiff"]))
def test_pixels_come_back(tmp_path_factory, picture, form):
    deep_gray_alpha = picture.gray and picture.alpha is not None and picture.alpha.itemsize == 2
    # Such a TIFF is written, but Pillow, that looks at every file first, does not open it.
    assume(not (form == "tiff" and deep_gray_alpha))
    path = tmp_path_factory.mktemp("i") / f"a{FORMATS[form].extension}"

    encoders.write(picture, path, form)

    read = images.read(path)
    assert images.read_size(path) == read.size == picture.size
    assert (read.pixels.dtype, read.gray) == (picture.pixels.dtype, picture.gray)
    assert np.array_equal(read.pixels, picture.pixels)
    if picture.alpha is None:
        assert read.alpha is None
    else:
        assert np.array_equal(read.alpha, picture.alpha)


@settings(deadline=None, max_examples=60)
@given(carried=metadata(), form=st.sampled_from(["png", "jpg", "tiff"]), dtype=dtypes)
def test_what_a_picture_carries_comes_back(tmp_path_factory, carried, form, dtype):
    path = tmp_path_factory.mktemp("i") / "a"

    encoders.write(Picture(pixels=np.zeros((2, 3, 3), dtype), metadata=carried), path, form)

    read = images.read(path).metadata
    assert (read.icc, read.exif) == (carried.icc, carried.exif)
    if carried.dpi is None:
        # EXIF has a default.
        assert read.dpi in (None, (72, 72) if form == "jpg" and carried.exif else None)
    else:
        # JPEG counts whole pixels per inch, PNG per metre.
        assert read.dpi == pytest.approx(carried.dpi, abs=0.51)


@settings(deadline=None, max_examples=40)
@given(values=arrays(np.float32, (3, 4, 3), elements=st.floats(0, 1, width=32)), dtype=dtypes)
def test_floats_come_back_from_integers_within_half_a_step(values, dtype):
    back = pictures.to_float(pictures.to_integer(values, dtype))

    assert np.abs(back - values).max() <= 0.501 / np.iinfo(dtype).max


@settings(deadline=None, max_examples=40)
@given(height=sides, width=sides, value=st.floats(0, 1, width=32), size=st.tuples(sides, sides))
def test_a_plain_picture_stays_plain_at_any_size(height, width, value, size):
    resized = pictures.resize(np.full((height, width, 2), value, np.float32), size)

    assert resized.shape == (size[1], size[0], 2)
    assert np.abs(resized - value).max() < 1e-5


def whole_files():
    """Small pictures of every format that is read, 8 and 16 bit."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x8769] = "Maker", 6, {0x9003: "2024:05:06 07:08:09"}
    files = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        for form in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP"):
            Image.fromarray(pixels).save(path, form, exif=exif.tobytes(), icc_profile=b"icc")
            files.append(path.read_bytes())
        carried = Metadata(icc=b"icc", dpi=(72, 72))
        for form in ("png", "tiff"):
            for dtype in (np.uint8, np.uint16):
                encoders.write(Picture(pixels=pixels.astype(dtype), metadata=carried), path, form)
                files.append(path.read_bytes())
    return files


@settings(deadline=None, max_examples=150)
@given(
    whole=st.sampled_from(whole_files()),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    kept=st.floats(0, 1) | st.just(1),
)
def test_a_broken_file_is_read_or_refused_and_nothing_else(tmp_path_factory, whole, changes, kept):
    path = tmp_path_factory.mktemp("i") / "broken.png"
    data = bytearray(whole)
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    path.write_bytes(data[: int(kept * len(data))])

    with warnings.catch_warnings():
        # Pillow warns of what it finds odd.
        warnings.simplefilter("ignore")
        for open_it in (images.read_size, images.read):
            with contextlib.suppress(ImageError):
                found = open_it(path)
                size = found if open_it is images.read_size else found.size
                assert min(size) > 0
