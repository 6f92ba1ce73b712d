"""Turn a dataset's folder into samples: a picture, its captions, the split it belongs to."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from clipsr_cli.errors import InputError

METADATA = "metadata.jsonl"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture of a dataset."""

    path: Path
    captions: tuple[str, ...]
    split: str


def folder(root: Path, *, held_back: float = 0.05) -> list[Sample]:
    """Read a folder with a ``metadata.jsonl`` of ``{"file_name": ..., "text": caption or
    captions}``.

    A picture's split, ``train`` or ``val``, is decided by a hash of its file name, so that it
    stays the same when pictures are added.

    Args:
        root: the folder.
        held_back: share of the pictures in ``val``.

    Raises:
        InputError: the metadata are missing, malformed, or name a picture that is not there.
    """
    metadata = root / METADATA
    if not metadata.is_file():
        raise InputError(
            f"{metadata} does not exist.", hint='It holds {"file_name": ..., "text": [...]} lines.'
        )
    samples = []
    for number, line in enumerate(metadata.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            name, text = row["file_name"], row.get("text", [])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{metadata}, line {number}: {error!r}") from error
        captions = (text,) if isinstance(text, str) else tuple(text)
        path = root / name
        if not path.is_file():
            raise InputError(f"{metadata}, line {number}: {path} does not exist.")
        position = int.from_bytes(sha256(name.encode()).digest()[:4], "big") / 2**32
        split = "val" if position < held_back else "train"
        samples.append(Sample(path=path, captions=captions, split=split))
    return samples


DATASETS: dict[str, Callable[[Path], list[Sample]]] = {"folder": folder}
