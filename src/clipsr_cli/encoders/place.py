"""Put a file in its place in one step: whole, or not at all."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# What file systems allow a name.
MOST_BYTES = 255


def beside(path: Path) -> Path:
    """Where a file is written before it takes its place.

    One fixed name per output: what a killed run left behind is overwritten by the next.
    """
    name = f".{path.name}.part"
    if len(os.fsencode(name)) > MOST_BYTES:
        # The output's own name may just fit.
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.part"
    return path.with_name(name)


@contextmanager
def place(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing and reading, that becomes ``path`` when the block is left.

    If the block fails, nothing of it stays. The folder is made where missing.

    Raises:
        OSError: it cannot be made, written or put in its place.
    """
    aside = beside(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never through a link that somebody laid there, and never into a file that another run writes.
    aside.unlink(missing_ok=True)
    ours = False
    with aside.open("x+b") as file:
        try:
            yield file
            file.flush()
            # On the disk before the name says so, or a power cut could leave a name without a
            # picture, which the next run would skip.
            os.fsync(file.fileno())
            if not _is_ours(file, aside):
                raise OSError("another run is writing it")
            ours = True
            if os.name == "nt":
                # An open file cannot be renamed there.
                file.close()
            aside.replace(path)
        except BaseException:
            ours = ours or _is_ours(file, aside)
            # On a full disk closing fails as well.
            with suppress(OSError):
                file.close()
            if ours:
                with suppress(OSError):
                    aside.unlink()
            raise


def _is_ours(file: BinaryIO, path: Path) -> bool:
    """Whether a name still stands for the file that was opened by it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    except (OSError, ValueError):
        return False
