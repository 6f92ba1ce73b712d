"""Broken picture files by the thousand, read and enlarged in a process of their own.

A case is a whole number: with a seed it names one mutation of one real small file. To replay one:

    python tests/fuzzing.py SEED CASE
"""

import faulthandler
import json
import os
import random
import resource
import selectors
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Seconds without an answer after which a case is taken to hang. Some claim a size that is allowed
# and have a gigabyte cleared for it.
PATIENCE = 60
MEMORY = 8 * 2**30
# Cases that are enlarged together.
BATCH = 25
# The engine is given small ones only, to be quick.
MOST_PIXELS = 64 * 64
FORMS = ("png", "jpg", "webp", "avif", "tiff")
HUGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


# Mutations


@cache
def originals() -> dict[str, tuple[str, bytes]]:
    """Real small files by kind: extension and content."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (15, 20, 4), dtype=np.uint8)
    colour = Image.fromarray(pixels[:, :, :3])
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a red bird"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:01 00:00:00"

    def saved(image: Image.Image, form: str, **options: Any) -> bytes:
        file = BytesIO()
        image.save(file, form, **options)
        return file.getvalue()

    return {
        "png": ("png", saved(colour, "PNG", exif=exif, dpi=(72, 72))),
        "png with alpha": ("png", saved(Image.fromarray(pixels), "PNG")),
        "png palette": ("png", saved(colour.quantize(16), "PNG", transparency=3)),
        "png 1 bit": ("png", saved(colour.convert("1"), "PNG")),
        "png 16 bit": ("png", _deep("png", pixels)),
        "jpeg": ("jpg", saved(colour, "JPEG", exif=exif, dpi=(72, 72))),
        "jpeg progressive": ("jpg", saved(colour.convert("L"), "JPEG", progressive=True)),
        "jpeg cmyk": ("jpg", saved(colour.convert("CMYK"), "JPEG")),
        "webp": ("webp", saved(colour, "WEBP", exif=exif)),
        "webp lossless": ("webp", saved(Image.fromarray(pixels), "WEBP", lossless=True)),
        "tiff": ("tif", saved(colour, "TIFF", exif=exif)),
        "tiff lzw": ("tif", saved(Image.fromarray(pixels), "TIFF", compression="tiff_lzw")),
        "tiff 16 bit": ("tif", _deep("tiff", pixels)),
        "bmp": ("bmp", saved(colour, "BMP")),
        "bmp palette": ("bmp", saved(colour.quantize(16), "BMP")),
        "avif": ("avif", saved(Image.fromarray(pixels), "AVIF", exif=exif)),
    }


def _deep(form: str, pixels: np.ndarray) -> bytes:
    from clipsr_cli import encoders
    from clipsr_cli.pictures import Picture

    deep = pixels.astype(np.uint16) * 257
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "deep")
        encoders.write(Picture(pixels=deep[:, :, :3], alpha=deep[:, :, 3]), path, form)
        return path.read_bytes()


def mutated(seed: int, case: int) -> tuple[str, str, bytes]:
    """A case's kind, file name and content."""
    known = originals()
    rng = random.Random(f"{seed}/{case}")
    kind = list(known)[case % len(known)]
    extension, data = known[kind]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(MUTATIONS)(rng, data)
    if rng.random() < 0.1:
        extension = rng.choice([other for other, _ in known.values()])
    return kind, f"{case:06}.{extension}", data


def _flip_bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        if changed:
            changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _set_integer(rng: random.Random, data: bytes) -> bytes:
    """A number near the beginning or anywhere, replaced by a huge one or a small one."""
    form = rng.choice(("<H", ">H", "<I", ">I"))
    length = struct.calcsize(form)
    if len(data) < length:
        return data
    place = min(_place(rng, data), len(data) - length)
    value = rng.choice(HUGE) & (256**length - 1)
    return data[:place] + struct.pack(form, value) + data[place + length :]


def _repeat_stretch(rng: random.Random, data: bytes) -> bytes:
    first, last = _stretch(rng, data)
    return data[:last] + data[first:last] * rng.choice((1, 1, 5)) + data[last:]


def _remove_stretch(rng: random.Random, data: bytes) -> bytes:
    first, last = _stretch(rng, data)
    return data[:first] + data[last:]


def _zero_stretch(rng: random.Random, data: bytes) -> bytes:
    first, last = _stretch(rng, data)
    return data[:first] + bytes(last - first) + data[last:]


def _swap_stretches(rng: random.Random, data: bytes) -> bytes:
    first, last = _stretch(rng, data)
    behind, end = _stretch(rng, data[last:])
    return data[:first] + data[last : last + end] + data[first:last] + data[last + behind :]


def _join_another(rng: random.Random, data: bytes) -> bytes:
    _, other = rng.choice(list(originals().values()))
    return rng.choice(
        (data + other, other + data, data[: len(data) // 2] + other[len(other) // 2 :])
    )


def _mend_png(rng: random.Random, data: bytes) -> bytes:
    """Change a PNG's chunk and give it the checksum it then has, so that decoders look inside."""
    chunks = list(_png_chunks(data))
    if not chunks:
        return _set_integer(rng, data)
    first, last = rng.choice(chunks)
    body = data[first + 4 : last - 4]
    body = body[:4] + rng.choice((_flip_bits, _set_integer, _zero_stretch))(rng, body[4:])
    return data[: first + 4] + body + struct.pack(">I", zlib.crc32(body)) + data[last:]


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip_bits,
    _truncate,
    _set_integer,
    _set_integer,
    _repeat_stretch,
    _remove_stretch,
    _zero_stretch,
    _swap_stretches,
    _join_another,
    _mend_png,
)


def _place(rng: random.Random, data: bytes) -> int:
    """Somewhere in the file, often in its header."""
    near = min(len(data), 64)
    return rng.randrange(max(1, near if rng.random() < 0.5 else len(data)))


def _stretch(rng: random.Random, data: bytes) -> tuple[int, int]:
    """One of the format's own pieces where they are known, or any stretch."""
    pieces = [*_png_chunks(data), *_jpeg_segments(data), *_riff_chunks(data), *_boxes(data)]
    if pieces and rng.random() < 0.7:
        return rng.choice(pieces)
    first = rng.randrange(len(data) + 1)
    return first, min(len(data), first + rng.choice((1, 2, 4, 16, 100)))


def _png_chunks(data: bytes) -> Iterator[tuple[int, int]]:
    place = 8
    while data.startswith(b"\x89PNG") and place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if end > len(data):
            return
        yield place, end
        place = end


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    place = 2
    while data.startswith(b"\xff\xd8") and place + 4 <= len(data) and data[place] == 0xFF:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if end > len(data):
            return
        yield place, end
        place = end


def _riff_chunks(data: bytes) -> Iterator[tuple[int, int]]:
    place = 12
    while data.startswith(b"RIFF") and place + 8 <= len(data):
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        end = place + 8 + length + length % 2
        if end > len(data):
            return
        yield place, end
        place = end


def _boxes(data: bytes) -> Iterator[tuple[int, int]]:
    """An AVIF's boxes, and those in its ``meta``."""
    place = 0
    while data[4:8] == b"ftyp" and place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if length < 8 or place + length > len(data):
            return
        yield place, place + length
        place += 12 if data[place + 4 : place + 8] == b"meta" else length


# The process that reads them


class OddityError(Exception):
    """Something that must not happen, short of a crash."""


def work(seed: int, first: int, last: int, folder: Path, model: Path) -> None:
    """Go through the cases from the first to before the last; a JSON line on stdout for each."""
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    from clipsr_cli.upscale_options import UpscaleOptions
    from clipsr_cli.upscaling import Upscaler

    options = UpscaleOptions(max_input_pixels=MOST_PIXELS, workers=1)
    os.environ["CLIPSR_WEIGHTS"] = str(model)
    upscaler = Upscaler.load("tiny", device="cpu", options=options)
    for start in range(first, last, BATCH):
        cases = range(start, min(start + BATCH, last))
        place = folder / f"{start:06}"
        decoded = {case: _read(seed, case, place) for case in cases}
        _say(case=None, at=f"engine {start}")
        try:
            _enlarge(upscaler, place, decoded, FORMS[start // BATCH % len(FORMS)])
        except Exception as error:
            faulthandler.dump_traceback()
            for case in cases:
                _say(case=case, at="engine", odd=f"{type(error).__name__}: {error}")


def _read(seed: int, case: int, place: Path) -> tuple[int, int] | None:
    """Read one case in both ways, and tell how it went; its size if it decodes."""
    from clipsr_cli import images
    from clipsr_cli.errors import ImageError

    kind, name, data = mutated(seed, case)
    path = place / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    _say(case=case, at="read")
    sizes: list[tuple[int, int] | None] = []
    odd = None
    for read in (images.read_size, lambda path: images.read(path).size):
        try:
            sizes.append(read(path))
        except ImageError:
            sizes.append(None)
        except BaseException as error:
            sizes.append(None)
            odd = f"{type(error).__name__}: {error}"
    _say(case=case, at="read", kind=kind, decoded=sizes[1] is not None, odd=odd)
    return sizes[1]


def _enlarge(
    upscaler: Any, place: Path, decoded: dict[int, tuple[int, int] | None], form: str
) -> None:
    """Enlarge all of a batch, and look whether it came out as reading them says.

    Raises:
        OddityError: it did not.
    """
    from clipsr_cli import images, jobs
    from clipsr_cli.errors import ImageError

    todo = jobs.plan(
        [str(place / "in")], place / "out", scale=4, form=form, options=upscaler.options
    )
    outcomes = {int(o.job.input.stem): o for o in upscaler.run(todo.jobs)}
    if outcomes.keys() != decoded.keys():
        raise OddityError(f"no outcome for {decoded.keys() - outcomes.keys()}")
    written = set()
    for case, size in decoded.items():
        outcome = outcomes[case]
        fits = size is not None and size[0] * size[1] <= MOST_PIXELS
        if isinstance(outcome, jobs.Failed):
            if not isinstance(outcome.error, ImageError):
                raise OddityError(f"case {case}: {type(outcome.error).__name__}: {outcome.error}")
            if fits:
                raise OddityError(f"case {case} decodes and was not enlarged: {outcome.error}")
            continue
        if size is None or not fits:
            raise OddityError(f"case {case} was enlarged and does not decode")
        written.add(outcome.job.output)
        if images.read(outcome.job.output).size != (size[0] * 4, size[1] * 4):
            raise OddityError(f"case {case} gave an output of another size")
    inputs = set((place / "in").iterdir())
    every = {path for path in place.rglob("*") if path.is_file()}
    if every != written | inputs or len(inputs) != len(decoded):
        raise OddityError(f"files that should not be there: {every - written - inputs}")


def _say(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


# The process that watches it


@dataclass(kw_only=True)
class Tally:
    """What the cases came to, and all that was found wrong, with the cases' numbers."""

    cases: Counter[str] = field(default_factory=Counter)
    decoded: int = 0
    refused: int = 0
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return [*self.crashes, *self.hangs, *self.oddities]


def fuzz(folder: Path, model: Path, *, seed: int, cases: int, first: int = 0) -> Tally:
    """Have so many cases read and enlarged below a folder; after a crash or a hang it goes on with
    the next one. Files that were at fault are kept in ``faults`` there.
    """
    tally = Tally()
    after = first
    while after < first + cases:
        after = _watch(folder, model, seed, after, first + cases, tally)
    return tally


def _watch(folder: Path, model: Path, seed: int, first: int, last: int, tally: Tally) -> int:
    """Watch a worker until its end; gives the case to go on from."""
    command = [sys.executable, __file__, "work", str(seed), str(first), str(last), folder, model]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "stderr"
    now, at = first, "start"
    deadline = time.monotonic() + 2 * PATIENCE
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as process,
        selectors.DefaultSelector() as selector,
    ):
        assert process.stdout is not None
        selector.register(process.stdout, selectors.EVENT_READ)
        rest = b""
        while True:
            hung = not selector.select(max(0.0, deadline - time.monotonic()))
            if hung:
                process.kill()
            piece = os.read(process.stdout.fileno(), 2**16)
            *lines, rest = (rest + piece).split(b"\n")
            for row in map(json.loads, lines):
                deadline = time.monotonic() + PATIENCE
                now, at = now if row["case"] is None else row["case"], row["at"]
                if "kind" in row:
                    tally.cases[row["kind"]] += 1
                    tally.decoded += row["decoded"]
                    tally.refused += not row["decoded"]
                if row.get("odd"):
                    _note(tally.oddities, folder, seed, now, f"{at}: {row['odd']}")
            if hung or not piece:
                break
        code = process.wait()
    if code == 0:
        return last
    end = f"{at}: ended with {code}\n{log.read_text(errors='replace')[-3000:]}"
    _note(tally.hangs if hung else tally.crashes, folder, seed, now, end)
    return now + 1


def _note(notes: list[str], folder: Path, seed: int, case: int, text: str) -> None:
    _, name, data = mutated(seed, case)
    kept = folder / "faults" / name
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(data)
    notes.append(f"python tests/fuzzing.py {seed} {case}  ({kept}): {text}")


def replay(seed: int, case: int) -> None:
    """Read one case in this process, with whatever comes of it."""
    from clipsr_cli import images

    _, name, data = mutated(seed, case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        sys.stdout.write(f"{images.read_size(path)} {images.read(path)}\n")


if __name__ == "__main__":
    faulthandler.enable()
    if sys.argv[1] == "work":
        work(*map(int, sys.argv[2:5]), *map(Path, sys.argv[5:7]))
    else:
        replay(*map(int, sys.argv[1:3]))
