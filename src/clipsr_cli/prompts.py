"""Find the prompt of each picture, and say where it came from.

Precedence: a manifest's row, the one prompt for all, a sidecar file beside the picture, an
    automatic
caption, and else the empty prompt.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from clipsr_cli.errors import InputError

SIDECAR_EXTENSIONS = (".txt", ".caption")

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
            return Prompt(text=self.everywhere, source="option")
        folder = (
            picture.parent if self.sidecar_folder is None else self.sidecar_folder / relative.parent
        )
        for extension in self.sidecar_extensions:
            sidecar = folder / (picture.stem + extension)
            if sidecar.is_file():
                return Prompt(text=_one_line(_read_text(sidecar)), source="sidecar")
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
    content = _read_text(path)
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(content.splitlines())
        if not {"file_name", "text"} <= set(reader.fieldnames or ()):
            found = ", ".join(reader.fieldnames or ()) or "none"
            raise InputError(f"{path} needs the columns file_name and text; it has: {found}.")
        rows = [(reader.line_num, row["file_name"], row["text"]) for row in reader]
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        rows = [
            (number, *_json_row(path, number, line))
            for number, line in enumerate(content.splitlines(), start=1)
            if line.strip()
        ]
    else:
        raise InputError(
            f"{path} is no prompt file.", hint="Use .csv or .jsonl with file_name and text."
        )
    prompts: dict[str, str] = {}
    for number, name, text in rows:
        if not name or text is None:
            raise InputError(f"{path}, line {number}: file_name or text is missing.")
        key = str(PurePosixPath(name.replace("\\", "/")))
        if key in prompts:
            raise InputError(f"{path}, line {number}: {name!r} comes twice.")
        prompts[key] = _one_line(text)
    return prompts


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


def _json_row(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
        name, text = row["file_name"], row["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}, line {number} is not a JSON object with file_name and text.",
            hint='Example: {"file_name": "bird.png", "text": "a red bird"}',
        ) from error
    if isinstance(text, list):
        text = text[0] if text else ""
    if not isinstance(name, str) or not isinstance(text, str):
        raise InputError(f"{path}, line {number}: file_name and text must be strings.")
    return name, text


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text.", hint="Save it as UTF-8.") from error


def _one_line(text: str) -> str:
    return " ".join(text.split())
