"""Pictures are read, written and found without losing what they hold or leaving half a file."""

import logging
import os
import resource
import struct
import sys
import time
import tracemalloc
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms, ImageFile, TiffImagePlugin

from clipsr_cli import encoders, images, pictures
from clipsr_cli.errors import ImageError
from clipsr_cli.pictures import FORMATS, Metadata, Picture

EXACT = {"png": {}, "bmp": {}, "tif": {}, "tiff": {"compression": "tiff_lzw"}}
LOSSY = {"jpg": {"quality": 95}, "jpeg": {"quality": 95}, "avif": {"quality": 95}}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKE, ORIENTATION, TIME, COPYRIGHT, SHOT, PLACE = 0x010F, 0x0112, 0x0132, 0x8298, 0x8769, 0x8825
# Of the resolution.
ACROSS, DOWN, UNIT = 0x011A, 0x011B, 0x0128
NO_NUMBER = TiffImagePlugin.IFDRational(0, 0)
# How a picture shown upright is stored under each EXIF orientation.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def noise(height=16, width=24, bands=3, dtype=np.uint8):
    peak = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, peak, (height, width, bands), dtype, endpoint=True)


def smooth(height=32, width=48):
    """A picture that lossy formats keep well: four plain quarters."""
    quarters = np.array(
        [[[190, 90, 80], [90, 170, 100]], [[80, 95, 180], [210, 200, 120]]], np.uint8
    )
    return quarters.repeat(height // 2, 0).repeat(width // 2, 1)


def picture(planes, **metadata):
    """A picture of 1 to 4 channels: gray, gray and alpha, RGB, RGB and alpha."""
    bands = planes.shape[2]
    return Picture(
        pixels=planes[:, :, :1].repeat(3, 2) if bands < 3 else planes[:, :, :3],
        alpha=planes[:, :, -1] if bands in (2, 4) else None,
        gray=bands < 3,
        metadata=Metadata(**metadata),
    )


def planes(read):
    """The opposite of ``picture``."""
    colour = read.pixels[:, :, :1] if read.gray else read.pixels
    return colour if read.alpha is None else np.dstack([colour, read.alpha])


def exif(tags):
    built = Image.Exif()
    for tag, value in tags.items():
        built[tag] = value
    return built.tobytes()


def camera_exif(tags=()):
    return exif(
        {
            MAKE: "Maker",
            TIME: "2024:05:06 07:08:09",
            COPYRIGHT: "© José".encode(),
            SHOT: {0x9003: "2024:05:06 07:08:09", 0x829A: 0.01, 0x9204: -0.5},
            PLACE: {1: "N", 2: (47.0, 30.0, 12.5), 6: NO_NUMBER},
            **dict(tags),
        }
    )


def png(width, height, bits, colour_type, rows, *chunks):
    """A PNG by hand, for what no library writes."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    every = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in every)


def tiff(path, values, *, bits=16, photometric=2, data=None, **tags):
    """An uncompressed TIFF by hand, for what no library writes."""
    height, width, bands = values.shape
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    strips = [data or values.tobytes()]
    if tags.get("planar") == 2:
        strips = [np.ascontiguousarray(values[:, :, band]).tobytes() for band in range(bands)]
    directory[256], directory[257], directory[258] = width, height, (bits,) * bands
    directory[259], directory[262], directory[277] = 1, photometric, bands
    directory[278], directory[284] = height, tags.get("planar", 1)
    if "extra" in tags:
        directory[338] = (tags["extra"],)
    if "sample" in tags:
        directory[339] = (tags["sample"],) * bands
    directory[279] = tuple(len(strip) for strip in strips)
    directory[273] = tuple(sum(len(s) for s in strips[:i]) for i in range(len(strips)))
    with path.open("wb") as file:
        directory.save(file)
        file.writelines(strips)
    return path


def vips(values, orientation=None):
    """A 16-bit picture as libvips writes it, apart from this package's own writers."""
    image = pyvips.Image.new_from_array(values)
    image = image.copy(interpretation="grey16" if values.shape[2] < 3 else "rgb16")
    if orientation:
        image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return image


def carried(path):
    """What a file carries beside its pixels, as Pillow sees it."""
    with Image.open(path) as image:
        image.load()
        found = image.getexif()
        top = {tag: found[tag] for tag in found if tag in (*pictures.KEPT_EXIF, ORIENTATION)}
        return {
            "exif": top | {SHOT: dict(found.get_ifd(SHOT)), PLACE: dict(found.get_ifd(PLACE))},
            "icc": image.info.get("icc_profile"),
            "dpi": image.info.get("dpi"),
        }


@pytest.fixture
def broken_exif(tmp_path):
    """Writes a picture whose EXIF is given as bytes."""

    def write(name, data):
        Image.fromarray(smooth()).save(tmp_path / name, exif=data, quality=95)
        return tmp_path / name

    return write


# Reading


@pytest.mark.parametrize("extension", EXACT)
def test_lossless_formats_are_read_exactly(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    Image.fromarray(noise()).save(path, **EXACT[extension])

    read = images.read(path)

    assert np.array_equal(read.pixels, noise())
    assert (read.size, read.gray, read.alpha) == ((24, 16), False, None)
    assert images.read_size(path) == (24, 16)


def test_lossless_webp_is_read_exactly(tmp_path):
    Image.fromarray(noise(bands=4)).save(tmp_path / "a.webp", lossless=True, exact=True)

    assert np.array_equal(planes(images.read(tmp_path / "a.webp")), noise(bands=4))


@pytest.mark.parametrize("extension", LOSSY)
def test_lossy_formats_are_read_closely(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    Image.fromarray(smooth()).save(path, **LOSSY[extension])

    error = np.abs(images.read(path).pixels.astype(int) - smooth())

    assert error.mean() < 3
    assert images.read_size(path) == (48, 32)


def test_what_a_file_holds_counts_and_not_its_extension(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.png", format="JPEG")

    assert images.read(tmp_path / "a.png").size == (48, 32)


def test_a_jpeg_of_several_pictures_gives_its_first(tmp_path):
    first, second = Image.fromarray(smooth()), Image.new("RGB", (48, 32))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])

    assert images.read(tmp_path / "a.jpg").pixels.mean() > 50


def test_gray_stays_gray_with_and_without_alpha(tmp_path):
    for bands in (1, 2):
        values = noise(bands=bands)
        Image.fromarray(values[:, :, 0] if bands == 1 else values).save(tmp_path / "a.png")

        read = images.read(tmp_path / "a.png")

        assert read.gray
        assert (read.alpha is None) == (bands == 1)
        assert np.array_equal(planes(read), values)
        assert np.array_equal(read.pixels[:, :, 0], read.pixels[:, :, 2])


def test_one_bit_becomes_black_and_white(tmp_path):
    dots = noise()[:, :, 0] > 128
    for extension in ("png", "tif", "bmp"):
        Image.fromarray(dots).save(tmp_path / f"a.{extension}")

        read = images.read(tmp_path / f"a.{extension}")

        assert np.array_equal(planes(read)[:, :, 0], dots * np.uint8(255))


def test_a_palette_becomes_rgb(tmp_path):
    indexed = Image.fromarray(smooth()).quantize(4)
    for extension in ("png", "tif", "bmp"):
        indexed.save(tmp_path / f"a.{extension}")

        read = images.read(tmp_path / f"a.{extension}")

        assert np.array_equal(read.pixels, smooth())
        assert read.alpha is None


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128, 255])])
def test_a_palettes_transparency_becomes_alpha(tmp_path, transparency):
    indexed = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8)).convert("P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3])
    indexed.save(tmp_path / "a.png", transparency=transparency)

    read = images.read(tmp_path / "a.png")

    expected = [255, 0, 255, 255] if transparency == 1 else [255, 0, 128, 255]
    assert read.alpha.tolist() == [expected]
    assert read.pixels[0, 3].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("bits", "row", "key"),
    [
        (1, bytes([0b01_000000]), 1),
        (2, bytes([0b0011_0000]), 3),
        (4, bytes([0x0F]), 15),
        (8, bytes([0, 255]), 255),
    ],
)
def test_the_transparent_value_of_a_gray_png_becomes_alpha(tmp_path, bits, row, key):
    key_chunk = (b"tRNS", struct.pack(">H", key))
    (tmp_path / "a.png").write_bytes(png(2, 1, bits, 0, b"\0" + row, key_chunk))

    read = images.read(tmp_path / "a.png")

    assert read.gray
    assert read.pixels[0, :, 0].tolist() == [0, 255]
    assert read.alpha.tolist() == [[255, 0]]


def test_the_transparent_colour_of_an_rgb_png_becomes_alpha(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.png", transparency=(190, 90, 80))

    alpha = images.read(tmp_path / "a.png").alpha

    assert (alpha[0, 0], alpha[-1, -1]) == (0, 255)


@pytest.mark.parametrize("colour_type", [0, 2])
def test_the_transparent_value_of_a_16_bit_png_becomes_alpha(tmp_path, colour_type):
    bands = 3 if colour_type else 1
    row = b"\0" + struct.pack(f">{2 * bands}H", *[1000] * bands, *[1001] * bands)
    key = (b"tRNS", struct.pack(f">{bands}H", *[1000] * bands))
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, colour_type, row, key))

    read = images.read(tmp_path / "a.png")

    assert read.alpha.tolist() == [[0, 65535]]
    assert read.pixels[0, :, 0].tolist() == [1000, 1001]
    assert read.gray == (bands == 1)


# Not a TIFF of gray and alpha, which Pillow, that looks at every file first, does not open.
@pytest.mark.parametrize(
    ("extension", "bands"), [*[("png", n) for n in (1, 2, 3, 4)], *[("tif", n) for n in (1, 3, 4)]]
)
def test_16_bit_is_read_exactly(tmp_path, extension, bands):
    path = tmp_path / f"a.{extension}"
    values = noise(bands=bands, dtype=np.uint16)
    vips(values).write_to_file(str(path))

    read = images.read(path)

    assert read.pixels.dtype == np.uint16
    assert read.gray == (bands < 3)
    assert np.array_equal(planes(read), values)


def test_a_16_bit_file_that_was_rewritten_is_read_anew(tmp_path):
    for value in (1000, 2000):
        values = np.full((4, 4, 3), value, np.uint16)
        (tmp_path / "a.png").write_bytes(vips(values).pngsave_buffer(bitdepth=16))

        assert images.read(tmp_path / "a.png").pixels.max() == value


def test_16_bit_tiffs_of_every_layout_are_read_exactly(tmp_path):
    values = noise(bands=4, dtype=np.uint16)

    planar = images.read(tiff(tmp_path / "a.tif", values[:, :, :3], planar=2))
    unspecified = images.read(tiff(tmp_path / "b.tif", values, extra=0))
    inverted = images.read(tiff(tmp_path / "c.tif", values[:, :, :1], photometric=0))

    assert np.array_equal(planes(planar), values[:, :, :3])
    # The fourth channel is not said to be alpha.
    assert np.array_equal(planes(unspecified), values[:, :, :3])
    assert np.array_equal(planes(inverted), 65535 - values[:, :, :1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_alpha_is_divided_out(tmp_path, dtype):
    values = noise(bands=4, dtype=dtype)
    values[:, :, 3] |= np.iinfo(dtype).max // 2 + 1
    alpha = values[:, :, 3:] / np.iinfo(dtype).max
    stored = np.dstack([np.rint(values[:, :, :3] * alpha).astype(dtype), values[:, :, 3]])

    read = images.read(tiff(tmp_path / "a.tif", stored, bits=8 * stored.itemsize, extra=1))

    assert np.abs(planes(read).astype(int) - values).max() <= 2
    assert np.array_equal(read.alpha, values[:, :, 3])


@pytest.mark.parametrize(
    ("name", "values", "tags"),
    [
        ("float", noise(bands=1).astype(np.float32), {"bits": 32, "photometric": 1, "sample": 3}),
        ("32-bit", noise(bands=1).astype(np.uint32), {"bits": 32, "photometric": 1}),
        ("12-bit", noise(2, 2, 1, np.uint16), {"bits": 12, "photometric": 1, "data": bytes(6)}),
        ("signed", noise(bands=1, dtype=np.uint16), {"photometric": 1, "sample": 2}),
        ("cmyk", noise(bands=4, dtype=np.uint16), {"photometric": 5}),
        ("lab", noise(), {"bits": 8, "photometric": 8}),
    ],
)
def test_pixels_of_other_types_are_refused_and_named(tmp_path, name, values, tags):
    path = tiff(tmp_path / f"{name}.tif", values, **tags)

    with pytest.raises(
        ImageError, match=rf"{name}\.tif has the unsupported .*pixel type"
    ) as caught:
        images.read(path)

    assert "Convert it" in caught.value.hint


def test_cmyk_without_a_profile_becomes_rgb(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, 8:, 3] = 255
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "a.jpg", quality=100)

    pixels = images.read(tmp_path / "a.jpg").pixels

    assert pixels[:, :6].min() > 250
    assert pixels[:, 10:].max() < 5


def test_cmyk_becomes_srgb_by_its_own_profile(tmp_path, caplog):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, :, 0] = 255
    press = pyvips.Operation.call("profile_load", "cmyk")
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "a.jpg", quality=100, icc_profile=press)

    read = images.read(tmp_path / "a.jpg")

    # Printed cyan is far darker than the (0, 255, 255) that it is taken for without a profile.
    assert 100 < read.pixels[8, 8, 1] < 200
    assert read.metadata.icc is None
    assert not caplog.records


# Named, as the second holds the time of day.
@pytest.mark.parametrize("profile", [b"no profile", SRGB], ids=["none", "srgb"])
def test_cmyk_is_read_all_the_same_when_its_profile_does_not_fit(tmp_path, caplog, profile):
    inks = Image.fromarray(np.zeros((16, 16, 4), np.uint8), mode="CMYK")
    inks.save(tmp_path / "a.jpg", quality=100, icc_profile=profile, dpi=(300, 300))

    read = images.read(tmp_path / "a.jpg")

    assert read.pixels.min() > 250
    assert read.metadata == Metadata(dpi=(300, 300))
    assert "CMYK profile cannot be used" in caplog.text


# Orientation


@pytest.mark.parametrize("extension", ["png", "tif", "jpg", "webp", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_cleared(tmp_path, extension, orientation):
    path = tmp_path / f"a.{extension}"
    stored = Image.fromarray(smooth())
    if orientation > 1:
        stored = stored.transpose(STORED[orientation])
    stored.save(path, exif=exif({ORIENTATION: orientation, MAKE: "Maker"}), quality=95)

    read = images.read(path)
    encoders.write(read, tmp_path / "out.png", "png")

    assert images.read_size(path) == read.size == (48, 32)
    assert np.abs(read.pixels.astype(int) - smooth()).mean() < 5
    assert np.array_equal(images.read(tmp_path / "out.png").pixels, read.pixels)
    assert ORIENTATION not in carried(tmp_path / "out.png")["exif"]


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_16_bit_and_alpha(tmp_path, extension, orientation):
    path = tmp_path / f"a.{extension}"
    values = noise(bands=4, dtype=np.uint16)
    turned = [
        np.asarray(Image.fromarray(values[:, :, band]).transpose(STORED[orientation]))
        if orientation > 1
        else values[:, :, band]
        for band in range(4)
    ]
    vips(np.dstack(turned), orientation).write_to_file(str(path))

    read = images.read(path)
    encoders.write(read, tmp_path / "out.tif", "tiff")

    assert images.read_size(path) == read.size == (24, 16)
    assert np.array_equal(planes(read), values)
    assert np.array_equal(planes(images.read(tmp_path / "out.tif")), values)


def test_an_orientation_that_exif_does_not_know_is_ignored(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "a.png", exif=exif({ORIENTATION: 99}))

    assert np.array_equal(images.read(tmp_path / "a.png").pixels, noise())
    assert images.read_size(tmp_path / "a.png") == (24, 16)


# What a picture carries


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A picture with everything in every format that is read, 8 and 16 bit."""
    folder = tmp_path_factory.mktemp("sources")
    image, everything = Image.fromarray(smooth()), {"exif": camera_exif(), "icc_profile": SRGB}
    for extension in ("png", "jpg"):
        image.save(folder / f"8.{extension}", dpi=(300, 150), **everything)
    # These have no place for the resolution but EXIF.
    everything["exif"] = camera_exif({ACROSS: 300.0, DOWN: 150.0, UNIT: 2})
    for extension in ("webp", "avif"):
        image.save(folder / f"8.{extension}", **everything)
    # Pillow would write the copyright as ASCII into a TIFF, and nothing else writes 16 bit.
    carries = {"exif": camera_exif(), "icc": SRGB, "dpi": (300, 150)}
    encoders.write(picture(smooth(), **carries), folder / "8.tif", "tiff")
    deep = picture(smooth().astype(np.uint16) * 257, **carries)
    encoders.write(deep, folder / "16.png", "png")
    encoders.write(deep, folder / "16.tif", "tiff")
    return folder


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "source", ["8.png", "8.jpg", "8.webp", "8.tif", "8.avif", "16.png", "16.tif"]
)
def test_exif_icc_and_dpi_are_carried_over(tmp_path, sources, source, form):
    read = images.read(sources / source)
    deep = source.startswith("16")

    encoders.write(read, tmp_path / "out", form)

    assert read.pixels.dtype == (np.uint16 if deep else np.uint8)
    found = carried(tmp_path / "out")
    tags = found["exif"]
    assert (tags[MAKE], tags[TIME]) == ("Maker", "2024:05:06 07:08:09")
    assert tags[COPYRIGHT].encode("latin-1").decode() == "© José"
    assert tags[SHOT] == {0x9003: "2024:05:06 07:08:09", 0x829A: 0.01, 0x9204: -0.5}
    assert (tags[PLACE][1], tags[PLACE][2]) == ("N", (47.0, 30.0, 12.5))
    assert found["icc"] == SRGB
    assert images.read(tmp_path / "out").metadata.dpi == pytest.approx((300, 150), abs=0.02)
    if form in ("png", "jpg", "tiff"):
        assert found["dpi"] == pytest.approx((300, 150), abs=0.02)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nothing_is_made_up(tmp_path, form, dtype):
    encoders.write(picture(noise(dtype=dtype)), tmp_path / "out", form)

    assert images.read(tmp_path / "out").metadata == Metadata()
    with Image.open(tmp_path / "out") as image:
        # Pillow says 1 for a TIFF that says nothing.
        assert image.info.get("dpi") in (None, (1, 1))


def test_exif_that_counts_the_old_pixels_is_left_out(tmp_path):
    stale = {0xA002: 24, 0xA003: 16, 0x9214: (1, 2), 0xA20E: 100.0, 0xA005: {1: "R98"}}
    tags = {SHOT: {0x829A: 0.01, **stale}, 0x0100: 24, 0x011A: 72.0}
    Image.fromarray(noise()).save(tmp_path / "a.jpg", exif=exif(tags))

    encoders.write(images.read(tmp_path / "a.jpg"), tmp_path / "out.jpg", "jpg")

    with Image.open(tmp_path / "out.jpg") as image:
        assert list(image.getexif()) == [SHOT]
        assert image.getexif().get_ifd(SHOT) == {0x829A: 0.01}


def test_exif_behind_the_pixels_of_a_png_is_found(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "a.png")
    plain = (tmp_path / "a.png").read_bytes()
    data = exif({MAKE: "Maker", ORIENTATION: 6}).removeprefix(b"Exif\0\0")
    checksum = struct.pack(">I", zlib.crc32(b"eXIf" + data))
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + checksum
    (tmp_path / "a.png").write_bytes(plain[:-12] + chunk + plain[-12:])

    read = images.read(tmp_path / "a.png")

    assert read.size == (16, 24)
    assert b"Maker" in read.metadata.exif


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_broken_exif_does_not_lose_the_picture(broken_exif, caplog, name):
    path = broken_exif(name, b"Exif\0\0rubbish")

    read = images.read(path)

    assert images.read_size(path) == read.size == (48, 32)
    assert np.abs(read.pixels.astype(int) - smooth()).mean() < 5
    assert read.metadata.exif is None
    assert f"The EXIF of {path} is broken" in caplog.text


# Pillow itself warns, in words of its own, and gives what it has found.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
@pytest.mark.parametrize("kept", [14, 30, -20])
def test_truncated_exif_does_not_lose_the_picture(broken_exif, name, kept):
    path = broken_exif(name, camera_exif()[:kept])

    read = images.read(path)

    assert images.read_size(path) == read.size == (48, 32)
    assert np.abs(read.pixels.astype(int) - smooth()).mean() < 5


def test_exif_without_a_tag_is_not_called_broken(broken_exif, caplog):
    read = images.read(broken_exif("a.jpg", exif({})))

    assert read.metadata.exif is None
    assert not caplog.records


def test_orientation_is_applied_though_the_exif_behind_it_is_broken(broken_exif, caplog):
    data = exif({ORIENTATION: 6, SHOT: {0x9003: "2024"}})
    pointer = data.index(struct.pack(">HHI", SHOT, 4, 1))
    # A signed number below 0 is no place in a file.
    data = data[:pointer] + struct.pack(">HHIi", SHOT, 9, 1, -1) + data[pointer + 12 :]
    path = broken_exif("a.png", data)

    read = images.read(path)

    assert read.size == (32, 48)
    assert read.metadata.exif is None
    assert "broken" in caplog.text


@pytest.mark.parametrize(
    ("tags", "dpi"),
    [
        ({ACROSS: 300.0, DOWN: 150.0, UNIT: 2}, (300, 150)),
        ({ACROSS: 100.0, DOWN: 50.0, UNIT: 3}, (254, 127)),
        ({ACROSS: 300.0}, None),
        ({ACROSS: NO_NUMBER, DOWN: NO_NUMBER, UNIT: 3, MAKE: "Maker"}, None),
    ],
    ids=["inches", "centimetres", "half", "no number"],
)
def test_a_resolution_in_exif_is_read_where_a_format_has_no_other_place(tmp_path, tags, dpi):
    Image.fromarray(noise()).save(tmp_path / "a.webp", exif=exif(tags))

    read = images.read(tmp_path / "a.webp")

    assert read.metadata.dpi == (dpi and pytest.approx(dpi))
    # Whatever the resolution, the rest stays.
    encoders.write(read, tmp_path / "a.png", "png")
    assert carried(tmp_path / "a.png")["exif"].get(MAKE) == tags.get(MAKE)


def test_what_has_no_exif_but_a_resolution_keeps_it(tmp_path):
    for form in ("webp", "avif"):
        encoders.write(picture(noise(), dpi=(300, 150)), tmp_path / "out", form)

        assert images.read(tmp_path / "out").metadata == Metadata(dpi=(300, 150))


@pytest.mark.parametrize("dpi", [(0, 0), (1, 1)])
def test_a_resolution_that_is_none_is_left_out(tmp_path, dpi):
    for name in ("a.tif", "a.png"):
        Image.fromarray(noise()).save(tmp_path / name, dpi=dpi)

        assert images.read(tmp_path / name).metadata.dpi is None


def test_a_resolution_that_is_not_a_number_is_left_out(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(noise()).save(path, dpi=(300, 300))
    entry, ratio = struct.pack("<HHI", 282, 5, 1), struct.pack("<II", 300, 1)
    data = path.read_bytes()
    assert entry in data
    path.write_bytes(data.replace(ratio, struct.pack("<II", 0, 0)))

    assert images.read(path).metadata.dpi is None


def test_exif_too_large_for_jpeg_is_left_out_with_a_warning(tmp_path, caplog):
    large = picture(noise(), exif=exif({MAKE: "Maker", SHOT: {0x927C: bytes(70_000)}}))

    encoders.write(large, tmp_path / "out.jpg", "jpg")
    assert "EXIF this large: left out of out.jpg" in caplog.text
    encoders.write(large, tmp_path / "out.png", "png")

    assert carried(tmp_path / "out.jpg")["exif"].get(MAKE) is None
    assert carried(tmp_path / "out.png")["exif"][MAKE] == "Maker"


def test_the_profile_of_a_gray_picture_goes_only_where_gray_goes(tmp_path):
    gray = picture(noise(bands=1), icc=SRGB)
    for form in ("png", "jpg", "tiff", "webp"):
        encoders.write(gray, tmp_path / "out", form)

        assert carried(tmp_path / "out")["icc"] == (None if form == "webp" else SRGB)


# What is refused


@pytest.mark.parametrize("extension", ["png", "webp", "tif", "avif"])
def test_animated_and_paged_pictures_are_refused_and_named(tmp_path, extension):
    path = tmp_path / f"moving.{extension}"
    frames = [Image.fromarray(np.roll(smooth(), step, 0)) for step in (0, 8, 16)]
    frames[0].save(path, save_all=True, append_images=frames[1:])

    for open_it in (images.read, images.read_size):
        with pytest.raises(
            ImageError, match=r"moving.* has several pages \((3 frames|more than one)"
        ):
            open_it(path)


def test_a_format_that_is_not_read_is_refused_whatever_its_extension(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "a.png", format="GIF")
    (tmp_path / "b.jpg").write_text("no picture")
    (tmp_path / "c.tif").touch()

    for name in ("a.png", "b.jpg", "c.tif"):
        for open_it in (images.read, images.read_size):
            with pytest.raises(ImageError, match=rf"{name} is not a picture in a supported format"):
                open_it(tmp_path / name)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png is not there any more"):
        images.read(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=r" is no file"):
        images.read_size(tmp_path)


@pytest.mark.parametrize(
    "name", ["8.png", "8.jpg", "8.webp", "8.tif", "8.avif", "16.png", "16.tif"]
)
@pytest.mark.parametrize("kept", [0.1, 0.6, 0.97])
def test_a_truncated_file_is_refused(tmp_path, name, kept):
    path = tmp_path / name
    # Noise, so that the pixels fill most of the file.
    values = noise(64, 64, dtype=np.uint16 if name.startswith("16") else np.uint8)
    form = {"png": "png", "jpg": "jpg", "ebp": "webp", "tif": "tiff", "vif": "avif"}[name[-3:]]
    encoders.write(picture(values), path, form)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])

    with pytest.raises(ImageError, match=name):
        images.read(path)


def test_the_size_of_a_png_is_read_without_its_pixels(tmp_path):
    (tmp_path / "a.png").write_bytes(png(15_000, 15_000, 8, 2, b""))

    assert images.read_size(tmp_path / "a.png") == (15_000, 15_000)


def test_a_png_that_holds_fewer_rows_than_it_claims_is_refused(tmp_path):
    encoders.write(picture(noise(16, 24)), tmp_path / "a.png", "png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[20:24] = (20).to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)

    with pytest.raises(ImageError, match="claims 20 rows and holds 16"):
        images.read(tmp_path / "a.png")


def test_counting_the_rows_of_a_png_never_fills_the_memory(tmp_path):
    bomb = zlib.compress(bytes(300_000_000), 9)
    encoders.write(picture(noise()), tmp_path / "a.png", "png")
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"IDAT") - 4
    end = data.index(b"IEND") - 4
    chunk = len(bomb).to_bytes(4, "big") + b"IDAT" + bomb
    chunk += zlib.crc32(b"IDAT" + bomb).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data[:start] + chunk + data[end:])

    tracemalloc.start()
    images.read(tmp_path / "bomb.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 20_000_000


def test_too_many_pixels_are_refused_from_the_header(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000, 8, 2, b""))

    for open_it in (images.read, images.read_size):
        with pytest.raises(
            ImageError, match=r"bomb\.png has 60000 x 60000 pixels, above the limit"
        ):
            open_it(tmp_path / "bomb.png")


def test_only_who_has_an_option_for_the_limit_is_told_of_it(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000, 8, 2, b""))

    with pytest.raises(ImageError) as without:
        images.read(tmp_path / "bomb.png")
    with pytest.raises(ImageError) as told:
        images.read(tmp_path / "bomb.png", limit_option="--max-input-pixels")

    assert without.value.hint == ""
    assert "raise --max-input-pixels" in told.value.hint


@pytest.mark.parametrize(("name", "deep"), [("8.png", False), ("16.png", True), ("16.tif", True)])
def test_the_depth_is_known_from_the_header(sources, name, deep):
    assert images.read_header(sources / name) == images.Header(size=(48, 32), sixteen_bit=deep)


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("no"),
        EOFError(),
        IndexError("no"),
        KeyError("no"),
        MemoryError(),
        OSError(5, "Input/output error"),
        OverflowError("no"),
        RuntimeError("no"),
        SyntaxError("no"),
        TypeError("no"),
        ZeroDivisionError("no"),
        struct.error("no"),
        zlib.error("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises_is_one_pictures_failure(tmp_path, monkeypatch, error):
    Image.fromarray(noise()).save(tmp_path / "a.png")

    def fail(self):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)

    with pytest.raises(ImageError, match=r"Cannot decode .*a\.png: ['\w][^\n]*\.$"):
        images.read(tmp_path / "a.png")


# Writing


@pytest.mark.parametrize("form", ["png", "tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_lossless_formats_are_written_exactly(tmp_path, form, dtype, bands):
    values = noise(bands=bands, dtype=dtype)
    path = tmp_path / f"a{FORMATS[form].extension}"

    encoders.write(picture(values), path, form)

    # libvips is another's reader.
    found = np.atleast_3d(pyvips.Image.new_from_file(str(path), fail_on="warning").numpy())
    assert found.dtype == dtype
    assert np.array_equal(found, values)
    if (form, dtype, bands) != ("tiff", np.uint16, 2):
        assert np.array_equal(planes(images.read(path)), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_of_many_strips_is_written_exactly(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(encoders.tiff, "STRIP", 500)
    values = noise(61, 43, dtype=dtype)

    encoders.write(picture(values), tmp_path / "a.tif", "tiff")

    assert np.array_equal(images.read(tmp_path / "a.tif").pixels, values)
    with Image.open(tmp_path / "a.tif") as image:
        assert len(image.tag_v2[273]) > 10
        assert image.info["compression"] == "tiff_adobe_deflate"


@pytest.mark.parametrize("form", ["jpg", "webp", "avif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("gray", [False, True])
def test_lossy_formats_are_written_closely(tmp_path, form, dtype, gray):
    values = smooth()[:, :, :1] if gray else smooth()
    scale = np.iinfo(dtype).max // 255

    encoders.write(picture(values.astype(dtype) * scale), tmp_path / "out", form)

    read = images.read(tmp_path / "out")
    assert read.pixels.dtype == np.uint8
    assert np.abs(read.pixels.astype(int) - values).mean() < 3
    assert read.gray == (gray and FORMATS[form].gray)


@pytest.mark.parametrize("form", ["webp", "avif"])
@pytest.mark.parametrize("gray", [False, True])
def test_formats_with_alpha_keep_it(tmp_path, form, gray):
    alpha = smooth()[:, :, :1]
    values = np.dstack([smooth()[:, :, :1] if gray else smooth(), alpha])

    encoders.write(picture(values), tmp_path / "out", form)

    assert np.abs(images.read(tmp_path / "out").alpha.astype(int) - alpha[:, :, 0]).mean() < 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("gray", [False, True])
def test_jpeg_has_alpha_laid_on_white_with_a_warning(tmp_path, caplog, dtype, gray):
    peak = np.iinfo(dtype).max
    values = np.zeros((16, 48, 2 if gray else 4), dtype)
    values[:, 16:32, -1] = peak // 2
    values[:, 32:, -1] = peak

    encoders.write(picture(values), tmp_path / "out.jpg", "jpg")

    read = images.read(tmp_path / "out.jpg")
    assert [round(read.pixels[8, x].mean()) for x in (4, 24, 44)] == pytest.approx(
        [255, 128, 0], abs=3
    )
    assert read.gray == gray
    assert "JPEG cannot hold transparency: laid on white in out.jpg" in caplog.text


@pytest.mark.parametrize("form", ["jpg", "webp", "avif"])
def test_quality_is_honoured(tmp_path, form):
    sizes = {}
    for quality in (10, 50, 100, None, FORMATS[form].quality):
        encoders.write(picture(noise(64, 64)), tmp_path / "out", form, quality=quality)
        sizes[quality] = (tmp_path / "out").stat().st_size

    assert sizes[10] < sizes[50] < sizes[100]
    assert sizes[None] == sizes[FORMATS[form].quality]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_names_in_any_script_are_written_and_read(tmp_path, form, dtype):
    path = tmp_path / "größe 日本" / f"鳥 é[1]{FORMATS[form].extension}"

    encoders.write(picture(smooth().astype(dtype)), path, form)

    assert images.read(path).size == images.read_size(path) == (48, 32)
    assert images.find(tmp_path) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are text")
def test_names_that_are_no_text_are_written_and_read(tmp_path):
    for form in ("png", "tiff"):
        path = tmp_path / os.fsdecode(b"\xff\xfe" + FORMATS[form].extension.encode())

        encoders.write(picture(noise(dtype=np.uint16)), path, form)

        assert np.array_equal(images.read(path).pixels, noise(dtype=np.uint16))


@contextmanager
def a_full_disk():
    """No file may become larger than some bytes, which the system itself sees to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_failure_half_way_leaves_the_old_output_and_nothing_else(tmp_path, form, dtype):
    path = tmp_path / "out"
    path.write_text("the old output")

    with a_full_disk(), pytest.raises(ImageError, match=r"Cannot write .*out: [A-Za-z]"):
        encoders.write(picture(noise(dtype=dtype)), path, form)

    assert path.read_text() == "the old output"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_is_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "out.png"
    path.write_text("the old output")
    seen = []
    replace = images.Path.replace

    def look(self, target):
        seen.append((path.read_text(), images.read(self).size))
        return replace(self, target)

    monkeypatch.setattr(images.Path, "replace", look)
    encoders.write(picture(noise()), path, "png")

    assert seen == [("the old output", (24, 16))]
    assert images.read(path).size == (24, 16)


def test_what_a_killed_run_left_behind_is_replaced(tmp_path):
    (tmp_path / ".out.png.part").write_text("half a picture")

    encoders.write(picture(noise()), tmp_path / "out.png", "png")

    assert list(tmp_path.iterdir()) == [tmp_path / "out.png"]


def test_targets_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()

    for target in ("file/out.png", "folder.png", "n" * 300 + ".png"):
        with pytest.raises(ImageError, match=f"Cannot write .*{target}: [A-Z]"):
            encoders.write(picture(noise()), tmp_path / target, "png")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_picture_too_large_for_its_format_is_refused(tmp_path):
    with pytest.raises(ImageError, match="Cannot write"):
        encoders.write(picture(np.zeros((1, 16384, 3), np.uint8)), tmp_path / "out.webp", "webp")

    assert not list(tmp_path.iterdir())


# Finding


@pytest.fixture
def tree(tmp_path):
    names = ["b.PNG", "a.jpg", ".hidden.png", "notes.txt", "sub/c.webp", "sub/deep/a 鳥.avif"]
    for name in (*names, ".dir/d.png", "sub/.dir/e.png", "z.bmp", "folder.png/f.tiff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_pictures_are_found_sorted_and_hidden_ones_left_out(tree):
    expected = ["a.jpg", "b.PNG", "folder.png/f.tiff", "sub/c.webp", "sub/deep/a 鳥.avif", "z.bmp"]

    assert images.find(tree) == [tree / name for name in expected]


def test_subfolders_are_left_out_on_request(tree):
    assert images.find(tree, recursive=False) == [tree / n for n in ("a.jpg", "b.PNG", "z.bmp")]


def test_a_pattern_chooses_by_name(tree):
    assert images.find(tree, pattern="a*") == [tree / "a.jpg", tree / "sub" / "deep" / "a 鳥.avif"]
    assert images.find(tree, pattern="a*", recursive=False) == [tree / "a.jpg"]
    assert images.find(tree, pattern="*.txt") == []


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert images.find(tmp_path / "gone") == []

    assert f"Cannot list the folder {tmp_path / 'gone'}: No such file" in caplog.text


# Values


def test_integers_become_floats_from_0_to_1_and_come_back():
    for dtype in (np.uint8, np.uint16):
        peak = np.iinfo(dtype).max
        every = np.arange(peak + 1, dtype=dtype)

        floats = pictures.to_float(every)

        assert (floats.dtype, floats.min(), floats.max()) == (np.float32, 0, 1)
        assert np.array_equal(pictures.to_integer(floats, dtype), every)


def test_floats_are_clipped_and_rounded():
    values = np.array([-0.5, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 7.0])

    assert pictures.to_integer(values, np.uint8).tolist() == [0, 0, 0, 1, 255, 255]


def test_resizing_keeps_channels_apart_and_the_mean():
    values = pictures.to_float(smooth(64, 48))

    small = pictures.resize(values, (12, 8))

    assert (small.shape, small.dtype) == ((8, 12, 3), np.float32)
    assert small.mean((0, 1)) == pytest.approx(values.mean((0, 1)), abs=0.01)
    assert pictures.resize(values, (48, 64)) is values


def test_shrinking_what_was_enlarged_brings_it_back():
    rng = np.random.default_rng(0)
    smooth_values = pictures.resize(rng.random((4, 5, 2), np.float32), (40, 32))

    back = pictures.resize(pictures.resize(smooth_values, (160, 128)), (40, 32))

    assert np.abs(back - smooth_values).max() < 0.01


def test_a_pillow_image_becomes_a_picture():
    made = images.from_pillow(Image.fromarray(noise(bands=4)), Metadata(dpi=(72, 72)))

    assert np.array_equal(planes(made), noise(bands=4))
    assert made.metadata.dpi == (72, 72)
    assert images.from_pillow(Image.new("L", (2, 2))).metadata == Metadata()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_a_pipe_called_like_a_picture_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")

    for read in (images.read, images.read_header):
        with pytest.raises(ImageError, match="is no file"):
            read(tmp_path / "a.png")


def test_a_tiff_of_thousands_of_pages_is_refused_at_once(tmp_path):
    """To count them takes a minute."""
    path = tmp_path / "a.tif"
    Image.new("L", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    size = 2 + 12 * entries + 4
    directory = content[first : first + size - 4]
    # Each page's directory is the first one's, and names the next one's place.
    start = len(content) + len(content) % 2
    content.extend(bytes(start - len(content)))
    struct.pack_into("<I", content, first + size - 4, start)
    for index in range(40_000):
        content += directory + struct.pack("<I", start + (index + 1) * size)
    path.write_bytes(content + directory + struct.pack("<I", 0))

    begun = time.perf_counter()
    with pytest.raises(ImageError, match="more than one page"):
        images.read_header(path)

    assert time.perf_counter() - begun < 5
