"""Rows that come in blocks become files: the same whatever the blocks, and whole or not at all."""

import io
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from clipsr_cli import encoders
from clipsr_cli.encoders import beside, place
from clipsr_cli.errors import ImageError
from clipsr_cli.pictures import FORMATS, Layout, Metadata

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = ("png", "tiff")
# The forms, and JPEG once by libvips as its rows come, once by Pillow.
WAYS = [*FORMATS, "streamed jpg"]


def way(name, monkeypatch):
    """The form of a way, which is prepared."""
    if name == "streamed jpg":
        monkeypatch.setattr(encoders, "WHOLE_PIXELS", 0)
    return name.removeprefix("streamed ")


def exif():
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    tags[0x8298] = "© José".encode()
    tags[0x8769] = {0x9003: "2024:05:06 07:08:09", 0x829A: 0.01}
    tags[0x8825] = {1: "N", 2: (47.0, 30.0, 12.5)}
    return tags.tobytes()


CARRIED = Metadata(icc=SRGB, exif=exif(), dpi=(300, 150))


def layout_of(planes, metadata=None):
    height, width, bands = planes.shape
    return Layout(
        width=width,
        height=height,
        dtype=planes.dtype,
        gray=bands < 3,
        alpha=bands in (2, 4),
        metadata=metadata or Metadata(),
    )


def noise(height, width, bands=3, dtype=np.uint8, seed=0):
    peak = np.iinfo(dtype).max
    rng = np.random.default_rng(seed)
    return rng.integers(0, peak, (height, width, bands), dtype, endpoint=True)


def smooth(height, width, bands=3):
    """A picture that JPEG keeps well: slow waves, of another length in every band."""
    y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
    waves = np.sin(x / (9 + np.arange(bands))) * np.cos(y / (11 + np.arange(bands)))
    return (128 + 100 * waves).astype(np.uint8)


def cut(planes, cuts):
    """The rows in blocks, which end at the cuts."""
    edges = [0, *sorted(cuts), len(planes)]
    return [planes[top:bottom] for top, bottom in pairwise(edges)]


def written(path, planes, form, *, blocks=None, metadata=None, quality=None):
    blocks = [planes] if blocks is None else blocks
    encoders.write_rows(iter(blocks), layout_of(planes, metadata), path, form, quality=quality)
    return path


def by_libvips(path):
    """What another's reader finds, which takes no fault for granted."""
    return np.atleast_3d(pyvips.Image.new_from_file(str(path), fail_on="warning").numpy())


def carried(path):
    with Image.open(path) as image:
        image.load()
        found = image.getexif()
        below = {tag: dict(found.get_ifd(tag)) for tag in (0x8769, 0x8825)}
        return {
            "exif": dict(found) | below,
            "icc": image.info.get("icc_profile"),
            "dpi": image.info.get("dpi"),
            "mode": image.mode,
            "size": image.size,
        }


# PNG and TIFF


@st.composite
def pictures_in_blocks(draw):
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 40))
    bands, dtype = draw(st.integers(1, 4)), draw(st.sampled_from([np.uint8, np.uint16]))
    planes = noise(height, width, bands, dtype, seed=draw(st.integers(0, 99)))
    if draw(st.booleans()):
        # What compresses well, so that there is a lot in one strip or chunk.
        planes = np.sort(planes, axis=0)
    # Some may be empty.
    return planes, cut(planes, draw(st.lists(st.integers(0, height), max_size=8)))


@settings(deadline=None, max_examples=150)
@given(
    case=pictures_in_blocks(),
    form=st.sampled_from(LOSSLESS),
    piece=st.sampled_from([1, 100, 1000, 2**20]),
)
def test_the_file_is_the_same_whatever_the_blocks(tmp_path_factory, case, form, piece):
    planes, blocks = case
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        # So small that a small picture has many.
        patch.setattr(encoders.png, "PIECE", piece)
        patch.setattr(encoders.png, "CHUNK", piece)
        patch.setattr(encoders.tiff, "STRIP", piece)

        whole = written(folder / "whole", planes, form)
        apart = written(folder / "apart", planes, form, blocks=blocks)

    assert apart.read_bytes() == whole.read_bytes()
    found = by_libvips(apart)
    assert found.dtype == planes.dtype
    np.testing.assert_array_equal(found, planes)
    assert sorted(path.name for path in folder.iterdir()) == ["apart", "whole"]


@settings(deadline=None, max_examples=60)
@given(case=pictures_in_blocks(), form=st.sampled_from(LOSSLESS))
def test_pillow_finds_no_fault(tmp_path_factory, case, form):
    planes, blocks = case
    path = written(tmp_path_factory.mktemp("rows") / "out", planes, form, blocks=blocks)

    if form == "tiff" and (planes.dtype, planes.shape[2]) == (np.uint16, 2):
        # Pillow does not know this kind.
        return
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        assert image.size == (planes.shape[1], planes.shape[0])
        found = np.atleast_3d(np.asarray(image))
    if planes.dtype == np.uint8 or planes.shape[2] == 1:
        np.testing.assert_array_equal(found, planes)


@pytest.mark.parametrize("form", LOSSLESS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_of_more_than_a_piece_is_the_same_whatever_the_blocks(tmp_path, form, dtype):
    planes = noise(900, 700, 3, dtype)

    whole = written(tmp_path / "whole", planes, form, metadata=CARRIED)
    for cuts in ([1], range(7, 900, 7), [899]):
        apart = written(tmp_path / "a", planes, form, blocks=cut(planes, cuts), metadata=CARRIED)
        assert apart.read_bytes() == whole.read_bytes()

    np.testing.assert_array_equal(by_libvips(whole), planes)
    found = carried(whole)
    assert found["icc"] == SRGB
    assert found["dpi"] == pytest.approx((300, 150), abs=0.02)
    assert found["exif"][0x010F] == "Maker"
    assert found["exif"][0x8769][0x9003] == "2024:05:06 07:08:09"


def test_a_tiff_too_large_for_itself_is_given_up_as_soon_as_that_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders.tiff, "STRIP", 3000)
    monkeypatch.setattr(encoders.tiff, "LARGEST", 2**15)
    taken = []

    def blocks():
        for index in range(100):
            taken.append(index)
            yield noise(1, 1000, seed=index)

    with pytest.raises(ImageError, match="a TIFF holds 4 GiB at most; --ext png holds more"):
        written(tmp_path / "a.tif", noise(100, 1000), "tiff", blocks=blocks())

    assert len(taken) < 15
    assert list(tmp_path.iterdir()) == []


# JPEG as its rows come


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    bands=st.integers(1, 4),
    deep=st.booleans(),
    data=st.data(),
)
def test_a_streamed_jpeg_is_close_to_the_picture(
    tmp_path_factory, height, width, bands, deep, data
):
    planes = smooth(height, width, bands)
    seen = planes
    if bands in (2, 4):
        alpha = planes[:, :, -1:] / 255
        seen = np.rint(planes[:, :, :-1] * alpha + 255 * (1 - alpha))
    if deep:
        planes = planes.astype(np.uint16) * 257
    cuts = data.draw(st.lists(st.integers(0, height), max_size=6))
    path = tmp_path_factory.mktemp("rows") / "out.jpg"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders, "WHOLE_PIXELS", 0)

        written(path, planes, "jpg", blocks=cut(planes, cuts))

    with Image.open(path) as image:
        assert image.size == (width, height)
        assert image.mode == ("L" if bands < 3 else "RGB")
        found = np.atleast_3d(np.asarray(image)).astype(int)
    assert np.abs(found - seen).mean() < 3
    np.testing.assert_allclose(by_libvips(path).astype(int), found, atol=4)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("metadata", [CARRIED, Metadata(icc=SRGB), Metadata(dpi=(72, 72)), None])
def test_a_streamed_jpeg_carries_what_a_whole_one_does(tmp_path, monkeypatch, bands, metadata):
    planes = smooth(37, 53, bands)

    whole = written(tmp_path / "whole.jpg", planes, "jpg", metadata=metadata)
    form = way("streamed jpg", monkeypatch)
    streamed = written(tmp_path / "streamed.jpg", planes, form, metadata=metadata)

    assert carried(streamed) == carried(whole)
    found = [np.asarray(Image.open(path)).astype(int) for path in (streamed, whole)]
    assert np.abs(found[0] - found[1]).max() <= 6
    if metadata is CARRIED:
        assert carried(streamed)["icc"] == SRGB
        assert carried(streamed)["dpi"] == (300, 150)
        assert carried(streamed)["exif"][0x8825][2] == (47.0, 30.0, 12.5)


def test_a_streamed_jpeg_keeps_colour_as_fine_as_light(tmp_path, monkeypatch):
    form = way("streamed jpg", monkeypatch)
    # Columns of two colours of one brightness.
    planes = np.zeros((32, 32, 3), np.uint8)
    planes[:, ::2], planes[:, 1::2] = (200, 60, 60), (60, 131, 60)

    path = written(tmp_path / "out.jpg", planes, form)

    with Image.open(path) as image:
        assert np.abs(np.asarray(image).astype(int) - planes).mean() < 6


def test_the_quality_of_a_streamed_jpeg_counts(tmp_path, monkeypatch):
    form = way("streamed jpg", monkeypatch)
    planes = noise(64, 64)

    sizes = [
        written(tmp_path / "out.jpg", planes, form, quality=quality).stat().st_size
        for quality in (10, 60, 95, 100, None)
    ]

    assert sizes[0] < sizes[1] < sizes[2] < sizes[3]
    assert sizes[4] == sizes[2]


def test_only_a_large_jpeg_is_streamed(tmp_path, monkeypatch):
    streamed = []
    write = encoders.jpeg.write

    def watched(blocks, layout, *more):
        streamed.append(layout.width)
        write(blocks, layout, *more)

    monkeypatch.setattr(encoders.jpeg, "write", watched)
    monkeypatch.setattr(encoders, "WHOLE_PIXELS", 600)
    for width in (30, 31):
        for form in FORMATS:
            written(tmp_path / "out", smooth(20, width), form)

    assert streamed == [31]
    assert not encoders.is_streamed("jpg", 600)
    assert encoders.is_streamed("jpg", 601)


# What goes wrong


class NoRowsError(Exception):
    """What the blocks' source fails with."""


def broken(planes, rows, error):
    """Some rows, and then an error."""
    for top in range(0, rows, 5):
        yield planes[top : min(top + 5, rows)]
    raise error


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("rows", [0, 1, 20, 39])
@pytest.mark.parametrize("kind", [NoRowsError, ImageError, OSError, AssertionError, StopIteration])
def test_what_the_source_of_rows_raises_goes_its_way(tmp_path, monkeypatch, name, rows, kind):
    form = way(name, monkeypatch)
    planes, error = noise(40, 30), kind("no more rows")

    class Source:
        """A generator cannot raise StopIteration."""

        def __iter__(self):
            self.blocks = broken(planes, rows, NoRowsError())
            return self

        def __next__(self):
            try:
                return next(self.blocks)
            except NoRowsError:
                raise error from None

    if kind is StopIteration:
        # Such rows are only too few.
        with pytest.raises(ImageError, match=r"Cannot write .*out\.bin"):
            written(tmp_path / "out.bin", planes, form, blocks=Source())
    else:
        with pytest.raises(kind) as caught:
            written(tmp_path / "out.bin", planes, form, blocks=Source())
        assert caught.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WAYS)
def test_what_comes_behind_the_last_row_counts_as_well(tmp_path, monkeypatch, name):
    form = way(name, monkeypatch)
    planes, error = noise(40, 30), NoRowsError()

    with pytest.raises(NoRowsError) as caught:
        written(tmp_path / "out", planes, form, blocks=broken(planes, 40, error))

    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("rows", [0, 3, 39])
def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch, name, rows):
    form = way(name, monkeypatch)
    (tmp_path / "out").write_text("the old output")
    planes = noise(40, 30)

    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "out", planes, form, blocks=broken(planes, rows, KeyboardInterrupt()))

    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "the old output"


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("rows", [0, 1, 39, 41, 80])
def test_too_few_or_too_many_rows_are_no_picture(tmp_path, monkeypatch, name, rows):
    form = way(name, monkeypatch)
    planes = noise(80, 30)

    with pytest.raises(ImageError, match=r"Cannot write .*out: "):
        encoders.write_rows(
            iter(cut(planes[:rows], range(5, rows, 5))),
            layout_of(planes[:40]),
            tmp_path / "out",
            form,
        )

    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_ends_early_has_made_no_picture(tmp_path, monkeypatch):
    # Whatever a library says of it, as libvips once did of a source that broke off.
    monkeypatch.setattr(encoders.png, "write", lambda rows, layout, file: next(iter(rows)))
    planes = noise(40, 8)

    with pytest.raises(ImageError, match="Cannot write"):
        written(tmp_path / "out.png", planes, "png", blocks=[planes[:10], planes[10:]])

    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_on_the_disk_before_its_name_says_so(tmp_path, monkeypatch):
    seen, fsync, replace = [], os.fsync, Path.replace

    def synced(number):
        seen.append(("synced", os.fstat(number).st_size))
        fsync(number)

    def renamed(self, target):
        seen.append(("renamed", self.stat().st_size))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)

    written(tmp_path / "out.png", noise(40, 8), "png")

    size = (tmp_path / "out.png").stat().st_size
    assert seen == [("synced", size), ("renamed", size)]


@contextmanager
def a_full_disk(size):
    """No file may become larger than some bytes, which the system itself sees to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("size", [0, 100, 70_000])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch, name, size):
    form = way(name, monkeypatch)
    planes = noise(300, 300)
    (tmp_path / "out").write_text("the old output")

    with a_full_disk(size), pytest.raises(ImageError, match=r"Cannot write .*out: File too large"):
        written(tmp_path / "out", planes, form, blocks=cut(planes, range(9, 300, 9)), quality=100)

    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "the old output"
    # Nothing of it stays for the next.
    assert written(tmp_path / "out", planes, form).stat().st_size > size


STREAM = """
import resource, sys
import numpy as np
from pathlib import Path
from clipsr_cli import encoders
from clipsr_cli.pictures import Layout

form, height = sys.argv[1], int(sys.argv[3])
layout = Layout(width=16000, height=height, dtype=np.dtype(np.uint8))
small = Layout(width=64, height=64, dtype=np.dtype(np.uint8))
row = np.arange(16000, dtype=np.int64)[:, None] * (1, 2, 3) // 64
encoders.WHOLE_PIXELS = 0

def blocks(layout):
    for top in range(0, layout.height, 64):
        rows = row[None, : layout.width] + np.arange(64)[:, None, None] + top
        yield (rows % 256).astype(np.uint8)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

encoders.write_rows(blocks(small), small, Path(sys.argv[2]), form)
before = peak()
encoders.write_rows(blocks(layout), layout, Path(sys.argv[2]), form)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is counted otherwise")
@pytest.mark.parametrize("form", ["png", "tiff", "jpg"])
def test_memory_stays_flat_however_high_the_picture(tmp_path, form):
    path = tmp_path / f"out.{form}"

    done = subprocess.run(
        [sys.executable, "-c", STREAM, form, path, "4096"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    # The picture itself is 197 MB.
    assert int(done.stdout) < 100e6
    assert pyvips.Image.new_from_file(str(path), access="sequential").height == 4096


# The place


def test_a_file_is_in_its_place_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "out.png"

    with place(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        assert beside(path).read_bytes() == b"half"
        file.seek(0)
        assert file.read() == b"half"

    assert path.read_bytes() == b"half"
    assert [each.name for each in path.parent.iterdir()] == ["out.png"]


@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_nothing_is_written_through_a_link(tmp_path, target):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "out.png"
    beside(path).symlink_to(tmp_path / target)

    with place(path) as file:
        file.write(b"picture")

    assert victim.read_text() == "precious"
    assert path.read_bytes() == b"picture"
    assert not path.is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.png", "victim"]


def test_a_link_laid_in_between_is_not_written_through(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "out.png"
    unlink = Path.unlink

    def and_lay(self, **options):
        unlink(self, **options)
        self.symlink_to(victim)

    monkeypatch.setattr(Path, "unlink", and_lay)
    with pytest.raises(FileExistsError), place(path):
        pytest.fail("it was opened")

    assert victim.read_text() == "precious"
    assert not path.exists()


@pytest.mark.parametrize("kind", ["file", "link", "none"])
def test_what_another_run_writes_is_left_to_it(tmp_path, kind):
    path, other = tmp_path / "out.png", tmp_path / "other"
    path.write_text("the old output")
    other.write_text("another run's")

    def write():
        with place(path) as file:
            file.write(b"ours")
            beside(path).unlink()
            if kind == "file":
                beside(path).write_text("another run's")
            elif kind == "link":
                beside(path).symlink_to(other)

    with pytest.raises(OSError, match="another run is writing it"):
        write()

    assert path.read_text() == "the old output"
    assert other.read_text() == "another run's"
    assert os.path.lexists(beside(path)) == (kind != "none")
    if kind != "none":
        assert beside(path).read_text() == "another run's"


def test_a_failure_beside_another_run_leaves_its_file(tmp_path):
    path = tmp_path / "out.png"

    def write():
        with place(path) as file:
            file.write(b"ours")
            beside(path).unlink()
            beside(path).write_text("another run's")
            raise NoRowsError

    with pytest.raises(NoRowsError):
        write()

    assert beside(path).read_text() == "another run's"
    assert not path.exists()


def test_of_two_runs_at_one_output_one_gets_it_whole(tmp_path):
    planes, others = noise(40, 30), noise(40, 30, seed=1)
    path = tmp_path / "out.png"

    def blocks():
        yield planes[:20]
        # Another run does the same picture meanwhile, from beginning to end.
        written(path, others, "png")
        yield planes[20:]

    with pytest.raises(ImageError, match=r"Cannot write .*out\.png: another run is writing it\."):
        written(path, planes, "png", blocks=blocks())

    np.testing.assert_array_equal(by_libvips(path), others)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_left_beside_does_not_matter(tmp_path):
    path = tmp_path / "out.png"
    beside(path).write_bytes(bytes(10**6))

    written(path, noise(4, 4), "png")

    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image.verify()
    assert list(tmp_path.iterdir()) == [path]
