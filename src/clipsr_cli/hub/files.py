"""What a file's bytes say: their digests, and the header of a safetensors file, without torch."""

import hashlib
import json
from pathlib import Path

from clipsr_cli.errors import WeightsError, reason

# As in the safetensors library: a longer header is an attack, not a model.
LONGEST_HEADER = 100_000_000


def sha256(path: Path) -> str:
    """A file's sha256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_sha1(path: Path) -> str:
    """What git calls a file of these bytes; the Hub's name for those it keeps in git itself."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """The notes in a safetensors file's header, after a check that all its tensors are there.

    The format: 8 bytes with the header's length, little-endian, the header in JSON, the tensors.
    (Source: the safetensors README, "Format".)

    Raises:
        WeightsError: it cannot be read, is not safetensors, or is cut off.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, LONGEST_HEADER):
                raise ValueError("it has no header")
            header = json.loads(file.read(length))
        ends = [row["data_offsets"][1] for name, row in header.items() if name != "__metadata__"]
        if 8 + length + max(ends, default=0) != size:
            raise ValueError("its tensors and its size do not agree")
        notes = dict(header.get("__metadata__", {}))
        if not all(isinstance(note, str) for note in notes.values()):
            raise ValueError("its notes are no texts")
        return notes
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {reason(error)}.") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} is no whole safetensors file: {reason(error)}.") from error


def check_readable(path: Path) -> None:
    """Check what can be checked of a file of which nothing else is known.

    Raises:
        WeightsError: it is not there, or broken.
    """
    if path.suffix != ".json":
        read_metadata(path)
        return
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not valid JSON: {reason(error)}.") from error
