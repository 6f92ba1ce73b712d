"""Find the prompt of each picture, and say where it came from.

Precedence: a manifest's row, the one prompt for all, a sidecar file beside the picture, and else
the empty prompt.
"""

import csv
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from clipsr_cli.errors import InputError

# The columns of a prompt file.
COLUMNS = ("file_name", "text")

SIDECAR_EXTENSIONS = (".txt", ".caption")
# What a sidecar file, and any other text, may have: the largest, COCO's, are half of this.
MOST_SIDECAR_BYTES = 2**20
MOST_BYTES = 2**30

Source = Literal["manifest", "option", "sidecar", "caption", "empty"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Words for one picture, and where they came from."""

    text: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """All the places where prompts may be, in their order of precedence.

    Attributes:
        manifest: text by file name, from ``read_manifest``.
        everywhere: one prompt for every picture; None where not given.
        sidecar_folder: where sidecars lie, mirroring the pictures' tree; None: beside the pictures.
        sidecar_extensions: looked for in this order; empty: no sidecars.
    """

    manifest: dict[str, str] = field(default_factory=dict)
    everywhere: str | None = None
    sidecar_folder: Path | None = None
    sidecar_extensions: tuple[str, ...] = SIDECAR_EXTENSIONS

    def find(self, picture: Path, relative: PurePosixPath) -> Prompt:
        """The prompt of one picture.

        Args:
            picture: its path.
            relative: its path within the input folder; its name alone for a single file.

        Raises:
            InputError: its sidecar cannot be read.
        """
        for name in (str(relative), picture.name):
            if name in self.manifest:
                return Prompt(text=self.manifest[name], source="manifest")
        if self.everywhere is not None:
            return Prompt(text=one_line(self.everywhere), source="option")
        folder = (
            picture.parent if self.sidecar_folder is None else self.sidecar_folder / relative.parent
        )
        for extension in self.sidecar_extensions:
            sidecar = folder / (picture.stem + extension)
            # Path.is_file would raise where the longer extension makes the name too long.
            if os.path.isfile(sidecar):  # noqa: PTH113
                text = read_text(sidecar, most=MOST_SIDECAR_BYTES)
                return Prompt(text=one_line(text), source="sidecar")
        return Prompt(text="", source="empty")

    def unused(self, pictures: Iterable[PurePosixPath]) -> list[str]:
        """The manifest's names that fit none of the pictures."""
        used = {name for path in pictures for name in (str(path), path.name)}
        return [name for name in self.manifest if name not in used]


def read_manifest(path: Path) -> dict[str, str]:
    """Read prompts by file name from a ``.csv`` or ``.jsonl`` file with ``file_name`` and ``text``.

    File names are relative to the input folder, or bare; a list of texts counts by its first.

    Raises:
        InputError: the file cannot be read, a row lacks a field, or a file name comes twice.
    """
    prompts: dict[str, str] = {}
    for number, name, text in read_columns(path, COLUMNS):
        if not name:
            raise InputError(f"{path}, line {number}: file_name is empty.")
        key = str(PurePosixPath(name.replace("\\", "/")))
        if key in prompts:
            raise InputError(f"{path}, line {number}: {name!r} comes twice.")
        prompts[key] = one_line(text)
    return prompts


def read_columns(path: Path, columns: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    """Read two columns of a ``.csv`` or ``.jsonl`` file, with their line numbers.

    A list of texts in the second counts by its first.

    Raises:
        InputError: the file cannot be read, or a row lacks a column.
    """
    kinds = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    rows = kinds.get(path.suffix.lower())
    if rows is None:
        raise InputError(
            f"{path} is no prompt file.", hint=f"Use .csv or .jsonl with {' and '.join(columns)}."
        )
    return rows(path, read_text(path), columns)


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON lines file that have a ``file_name``, with their line numbers.

    Raises:
        InputError: the file cannot be read, or a line is no such object.
    """
    return _json_objects(path, read_text(path), COLUMNS)


def sidecar_extensions(names: Sequence[str]) -> tuple[str, ...]:
    """Extensions as typed by a user, with or without a dot, comma-separated or not.

    Raises:
        InputError: one is empty or holds a path separator.
    """
    parts = [part.strip().removeprefix(".") for name in names for part in name.split(",")]
    for part in parts:
        if not part or "/" in part or "\\" in part:
            raise InputError(f"{part!r} is no file extension.", hint="Example: --caption-ext .txt")
    return tuple(f".{part}" for part in parts)


def _csv_rows(path: Path, content: str, wanted: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    first, second = wanted
    # From the text as a whole: a quoted field may go over several lines. Strict, or a quote that is
    # never closed would take the rest of the file into one prompt.
    reader = csv.DictReader(StringIO(content), skipinitialspace=True, strict=True)
    try:
        columns = reader.fieldnames or ()
        if not set(wanted) <= set(columns):
            found = ", ".join(columns) or "none"
            raise InputError(
                f"{path} needs the columns {first} and {second}; it has: {found}.",
                hint=f"The first line must be: {first},{second}",
            )
        for row in reader:
            if None in row:
                raise InputError(
                    f"{path}, line {reader.line_num} has more fields than columns.",
                    hint='Put a text with commas in quotes: bird.png,"a red, small bird"',
                )
            if row[first] is None or row[second] is None:
                raise InputError(f"{path}, line {reader.line_num}: {first} or {second} is missing.")
            yield reader.line_num, row[first], row[second]
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.reader.line_num} is not CSV: {error}.",
            hint='A quote within quotes is written twice: "a ""red"" bird"',
        ) from error


def _json_rows(path: Path, content: str, wanted: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    for number, row in _json_objects(path, content, wanted):
        name, text = (row.get(column) for column in wanted)
        if isinstance(text, list):
            text = text[0] if text else ""
        if not isinstance(name, str) or not isinstance(text, str):
            raise InputError(f"{path}, line {number}: {' and '.join(wanted)} must be strings.")
        yield number, name, text


def _json_objects(
    path: Path, content: str, wanted: tuple[str, str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    first, second = wanted
    # Not splitlines, which also breaks at characters that JSON allows within a string.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or first not in row:
            example = {first: "bird.png", second: "a red bird"}
            raise InputError(
                f"{path}, line {number} is not a JSON object with {first} and {second}.",
                hint=f"Example: {json.dumps(example)}",
            )
        yield number, row


def read_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """A text file's content, which must be UTF-8, with a byte order mark or without.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        InputError: it cannot be read, is too large or no file, or is not UTF-8.
    """
    try:
        status = path.stat()
        # A pipe or a device could keep whoever reads it for ever.
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is no file.")
        if status.st_size > most:
            raise InputError(
                f"{path} has {status.st_size:,} bytes; a text of its kind has {most:,} at most."
            )
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text.", hint="Save it as UTF-8.") from error
    if "\0" in text:
        # UTF-16 without its mark passes for UTF-8 with a zero at every other place.
        raise InputError(f"{path} is not UTF-8 text.", hint="Save it as UTF-8.")
    return text


def one_line(text: str) -> str:
    """The words of a text with single spaces between them."""
    return " ".join(text.split())
