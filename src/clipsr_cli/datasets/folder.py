"""Any folder of pictures, with captions in one file, in one file each, or without.

The first of these that is there says what the pictures are:

1. ``metadata.jsonl``: a line ``{"file_name": ..., "text": caption or captions, "split": ...}`` for
   each picture, the last two of which may be missing;
2. ``metadata.csv``: columns ``file_name,text`` and perhaps ``split``;
3. otherwise all the pictures of the folder and its subfolders, each with the caption in
   ``photo.txt``, else ``photo.caption``, beside it.

The first two are the image folders of Hugging Face's ``datasets``
(https://huggingface.co/docs/datasets/image_dataset). A row's split is ``train``, ``val`` or
``test``; where none is given, a hash of the file name decides.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from clipsr_cli import images
from clipsr_cli.datasets.files import inside, is_file, write_text
from clipsr_cli.datasets.sample import (
    SPLITS,
    Dataset,
    Options,
    Part,
    Sample,
    have,
    replaced,
)
from clipsr_cli.datasets.splits import by_hash, in_words
from clipsr_cli.errors import InputError
from clipsr_cli.prompts import Prompts, read_json_lines, read_manifest, read_text

JSONL, CSV = "metadata.jsonl", "metadata.csv"
EXAMPLE = f'Put a photo.txt beside each photo.jpg, or write {JSONL} with {{"file_name", "text"}}.'


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A picture as the folder's files describe it; ``split`` is None where they do not say."""

    name: str
    path: Path
    captions: tuple[str, ...]
    split: str | None


def read(root: Path, options: Options) -> list[Sample]:
    """The pictures of a folder, in the order of its metadata, else by name.

    Raises:
        InputError: metadata are malformed or name what is not there, or there is no picture.
    """
    rows: dict[str, _Row] = {}
    for row in _rows(root):
        if row.name in rows:
            raise InputError(f"{_metadata(root)}: {row.name!r} comes twice.")
        rows[row.name] = row
    if not rows:
        raise InputError(f"{root} holds no pictures.", hint=EXAMPLE)
    given = {name: row.split for name, row in rows.items() if row.split is not None}
    rest = (name for name in rows if name not in given)
    splits = given | by_hash(rest, options.held_back, at_least_one="test" not in given.values())
    return [
        Sample(path=row.path, captions=row.captions, split=splits[row.name], name=row.name)
        for row in rows.values()
    ]


def check(root: Path, options: Options) -> list[Part]:
    """What the folder holds."""
    try:
        samples = read(root, options)
    except InputError as error:
        advice = error.hint or EXAMPLE
        return [Part(what="photos", found=error.message, ok=False, needed=True, advice=advice)]
    metadata = _metadata(root)
    photos = f"{len(samples):,} photos"
    if metadata:
        unlisted = set(images.find(root)) - {sample.path for sample in samples}
        photos += f" listed in {metadata.name}, {len(unlisted):,} more are not"
    captioned = sum(bool(sample.captions) for sample in samples)
    words = f"{captioned:,} of {len(samples):,} photos have captions"
    return [
        have("photos", photos),
        have("captions", words, needed=False)
        if captioned
        else replaced("captions", words, EXAMPLE),
        have("split", in_words(sample.split for sample in samples)),
    ]


def prepare(root: Path, options: Options) -> list[Path]:
    """Write ``metadata.jsonl`` with the captions and the split, where there are no metadata.

    Raises:
        InputError: there is no picture, or the file cannot be written.
    """
    if _metadata(root):
        return []
    rows = [
        {"file_name": sample.name, "text": list(sample.captions), "split": sample.split}
        for sample in read(root, options)
    ]
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return [write_text(root / JSONL, content)]


def _metadata(root: Path) -> Path | None:
    """The file that describes the pictures, where there is one."""
    return next((root / name for name in (JSONL, CSV) if is_file(root / name)), None)


def _rows(root: Path) -> Iterator[_Row]:
    metadata = _metadata(root)
    if metadata is None:
        return _plain_rows(root)
    return _json_rows(root, metadata) if metadata.name == JSONL else _csv_rows(root, metadata)


def _json_rows(root: Path, metadata: Path) -> Iterator[_Row]:
    for number, row in read_json_lines(metadata):
        name, text = row.get("file_name"), row.get("text", [])
        captions = [text] if isinstance(text, str) else text
        where = f"{metadata}, line {number}"
        if not isinstance(name, str) or not isinstance(captions, list):
            raise InputError(f"{where}: file_name or text is not text.")
        if not all(isinstance(caption, str) for caption in captions):
            raise InputError(f"{where}: a caption is not text.")
        yield _row(root, name, captions, row.get("split"), where)


def _csv_rows(root: Path, metadata: Path) -> Iterator[_Row]:
    texts = read_manifest(metadata)
    rows = csv.DictReader(StringIO(read_text(metadata)), skipinitialspace=True, strict=True)
    # The same rows in the same order, read_manifest having refused all that would change it.
    for (name, text), row in zip(texts.items(), rows, strict=True):
        where = f"{metadata}, line {rows.line_num}"
        yield _row(root, name, [text], row.get("split") or None, where)


def _plain_rows(root: Path) -> Iterator[_Row]:
    prompts = Prompts()
    for path in images.find(root):
        relative = PurePosixPath(path.relative_to(root).as_posix())
        text = prompts.find(path, relative).text
        yield _Row(name=str(relative), path=path, captions=(text,) if text else (), split=None)


def _row(root: Path, name: str, captions: list[str], split: Any, where: str) -> _Row:
    path = inside(root, name, where)
    if not is_file(path):
        raise InputError(f"{where}: {path} does not exist.")
    if split is not None and split not in SPLITS:
        raise InputError(f"{where}: the split is {split!r}; it must be train, val or test.")
    spoken = tuple(caption for caption in captions if caption.strip())
    return _Row(name=Path(name).as_posix(), path=path, captions=spoken, split=split)


DATASET = Dataset(
    read=read,
    check=check,
    prepare=prepare,
    about="a folder of your own pictures, with captions or without",
    source="your own pictures",
)
