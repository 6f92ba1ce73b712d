"""Turn a dataset's folder into samples: a picture, its captions, the split it belongs to."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from clipsr_cli.errors import InputError
from clipsr_cli.prompts import read_json_lines

METADATA = "metadata.jsonl"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture of a dataset."""

    path: Path
    captions: tuple[str, ...]
    split: str


def folder(root: Path, held_back: float = 0.05) -> list[Sample]:
    """Read a folder whose ``metadata.jsonl`` holds ``{"file_name": ..., "text": captions}`` lines.

    A picture's split, ``train`` or ``val``, is decided by a hash of its file name, so that it stays
    the same when pictures are added. At least one picture is in ``val``.

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
    found = []
    for number, row in read_json_lines(metadata):
        name, text = row.get("file_name"), row.get("text", [])
        captions = [text] if isinstance(text, str) else text
        if not isinstance(name, str) or not isinstance(captions, list):
            raise InputError(f"{metadata}, line {number}: file_name or text is not text.")
        if not all(isinstance(caption, str) for caption in captions):
            raise InputError(f"{metadata}, line {number}: a caption is not text.")
        path = root / name
        if not path.is_file():
            raise InputError(f"{metadata}, line {number}: {path} does not exist.")
        found.append((path, tuple(captions), _place(name)))
    least = min((place for _, _, place in found), default=0.0)
    return [
        Sample(
            path=path,
            captions=captions,
            split="val" if place < held_back or place == least else "train",
        )
        for path, captions, place in found
    ]


def _place(name: str) -> float:
    """A file name's place in [0, 1), always the same."""
    return int.from_bytes(sha256(name.encode()).digest()[:4], "big") / 2**32


DATASETS: dict[str, Callable[[Path, float], list[Sample]]] = {"folder": folder}
