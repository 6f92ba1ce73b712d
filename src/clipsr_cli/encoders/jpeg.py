"""JPEG that libvips encodes as the rows come, for pictures larger than one likes to hold."""

from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from clipsr_cli.encoders import png
from clipsr_cli.encoders.whole import carried
from clipsr_cli.pictures import FORMATS, Layout, Metadata


def write(
    blocks: Iterable[np.ndarray], layout: Layout, file: BinaryIO, quality: int | None, name: str
) -> None:
    """Encode a picture's 8-bit rows (n, width, 1 or 3) into a file; ``name`` is for warnings."""
    import pyvips  # noqa: PLC0415 - a large library that few pictures need

    # libvips would keep the last 100 pictures in memory.
    pyvips.cache_set_max(0)
    feed = _Feed(blocks, layout)
    sieve = _Sieve(file, _segments(layout, quality, name))
    source, target = pyvips.SourceCustom(), pyvips.TargetCustom()
    source.on_read(feed.read)
    target.on_write(sieve.write)
    try:
        image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="truncated")
        image.jpegsave_target(target, Q=quality, subsample_mode="off", keep="none")
    except pyvips.Error:
        if feed.error is None and sieve.error is None:
            raise
    # What stopped it says more than what it says of having been stopped, if it says anything.
    if (error := feed.error or sieve.error) is not None:
        raise error


class _Feed:
    """Rows as a stream of bytes that every libvips reads: a PNG that is not compressed."""

    def __init__(self, blocks: Iterable[np.ndarray], layout: Layout) -> None:
        # What the picture carries goes into the JPEG another way.
        self.pieces = png.stored(blocks, replace(layout, metadata=Metadata()))
        self.piece = memoryview(b"")
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        """The next bytes, none at the end. Called by libvips, which takes no exceptions."""
        try:
            while not self.piece:
                self.piece = memoryview(next(self.pieces))
        except StopIteration:
            return b""
        except BaseException as error:
            self.error = error
            return b""
        taken, self.piece = self.piece[:size], self.piece[size:]
        return taken.tobytes()


class _Sieve:
    """Writes a JPEG that comes in pieces, with other segments in front than it came with."""

    def __init__(self, file: BinaryIO, segments: bytes) -> None:
        self.file = file
        self.segments = segments
        self.head: bytes | None = b""
        self.error: BaseException | None = None

    def write(self, data: Any) -> int:
        """Take some bytes. Called by libvips, which takes no exceptions."""
        try:
            if self.head is None:
                self.file.write(data)
            else:
                self.head += bytes(data)
                end = _behind_segments(self.head)
                if end is not None:
                    self.file.write(self.segments + self.head[end:])
                    self.head = None
        except BaseException as error:
            self.error = error
            return -1
        return len(data)


def _segments(layout: Layout, quality: int | None, name: str) -> bytes:
    """A JPEG's beginning with what the picture carries, as Pillow writes it."""
    file = BytesIO()
    small = Image.new("L" if layout.bands == 1 else "RGB", (8, 8))
    into = FORMATS["jpg"]
    small.save(file, format=into.pillow, quality=quality, **carried(layout, into, name))
    data = file.getvalue()
    return data[: _behind_segments(data)]


def _behind_segments(data: bytes) -> int | None:
    """Where a JPEG's application segments end; None where that is not reached yet."""
    place = 2
    while len(data) >= place + 4:
        marker = data[place + 1]
        # APP0 to APP15, and comments.
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            return place
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
