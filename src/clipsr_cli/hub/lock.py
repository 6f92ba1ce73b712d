"""The record of what was first fetched, by which a later change is noticed.

It is ``clipsr.lock.json`` in the Hub's cache, beside the files it speaks of: it goes where they go
(HF_HUB_CACHE on a shared disk, a copied cache), and every environment that shares them shares it.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipsr_cli.config import build
from clipsr_cli.errors import InputError, WeightsError, reason
from clipsr_cli.hub.settings import cache_folder

logger = logging.getLogger(__name__)

FORMAT = 1
# To write a few lines takes milliseconds, so whoever holds the lock that long is no longer there.
PATIENCE_S = 30


@dataclass(frozen=True)
class Record:
    """A file as it was fetched.

    Attributes:
        commit: of its repository; "" where it was put by hand.
        sha256: in hexadecimal.
        size: in bytes.
    """

    commit: str
    sha256: str
    size: int


# What reading a record that somebody else wrote may raise.
BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, InputError)


def lock_file() -> Path:
    """Where the record is kept."""
    return cache_folder() / "clipsr.lock.json"


def recorded() -> dict[str, Record]:
    """What was recorded so far, by reference (``hf://owner/repo/file``).

    Raises:
        WeightsError: the record cannot be read.
    """
    path = lock_file()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}, not {FORMAT}")
        return {key: build(Record, row, where=f"{key}: ") for key, row in found["files"].items()}
    except FileNotFoundError:
        return {}
    except BROKEN as error:
        raise WeightsError(
            f"Cannot read the record of fetched weights, {path}: {reason(error)}.",
            hint="Mend it, or remove it to begin anew.",
        ) from error


def record(reference: str, row: Record) -> None:
    """Write one file's row, whole or not at all, also while other processes write theirs.

    Where the cache cannot be written (it may be a read-only share) nothing is recorded, and the
    file is read through again next time.
    """
    try:
        with _alone():
            rows = recorded()
            if rows.get(reference) == row:
                return
            rows[reference] = row
            text = {"format": FORMAT, "files": {key: asdict(rows[key]) for key in sorted(rows)}}
            path = lock_file()
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                aside.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
    except OSError as error:
        logger.debug("%s is not recorded: %s", reference, error)


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process writes the record."""
    import huggingface_hub.utils  # noqa: PLC0415 - slow to load

    # The client's own lock, which also works on disks that know no locks; it is not typed.
    utils: Any = huggingface_hub.utils
    # The Hub's client keeps its own locks in this folder.
    folder = cache_folder() / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    with utils.WeakFileLock(folder / "clipsr.lock", timeout=PATIENCE_S):
        yield
