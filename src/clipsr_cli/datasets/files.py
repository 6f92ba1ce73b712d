"""Read and write the files of a dataset: text, JSON, pickled names, captions.

Somebody else wrote what is read: whatever is wrong with it is an InputError, and no name in it
leads out of its folder.
"""

import json
import os
import pickle
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from reprlib import repr as brief
from typing import Any, TypeVar

from clipsr_cli.encoders.place import place
from clipsr_cli.errors import InputError, reason
from clipsr_cli.prompts import one_line, read_text

Kind = TypeVar("Kind")
_KINDS: dict[Any, str] = {dict: "an object", list: "a list", str: "a text"}


def is_file(path: Path) -> bool:
    """Whether a file is there; False for what can be no file's name."""
    # Path.is_file raises where a name is too long.
    return os.path.isfile(path)  # noqa: PTH113


def inside(folder: Path, name: str, where: str) -> Path:
    """The path of a name that a dataset's file gives, within a folder.

    Args:
        folder: what the name is relative to.
        name: the name as it was read.
        where: the file, and line if known, that gives it; for the message.

    Raises:
        InputError: it is empty, or leads out of the folder.
    """
    path = Path(name)
    if "\0" in name or not path.parts or path.anchor or ".." in path.parts:
        raise InputError(f"{where}: {name!r} is no name of a file below {folder}.")
    return folder / path


def found_all(paths: Iterable[Path], where: Path) -> int:
    """How many the listed pictures are, all of them being there.

    Args:
        paths: the pictures.
        where: the file that lists them.

    Raises:
        InputError: some are not there; names the first.
    """
    listed = list(paths)
    gone = [path for path in listed if not is_file(path)]
    if gone:
        raise InputError(
            f"{len(gone):,} of the {len(listed):,} pictures in {where} are missing, "
            f"the first is {gone[0]}."
        )
    return len(listed)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers, stripped.

    Raises:
        InputError: it cannot be read or is not UTF-8.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def table(path: Path, fields: int) -> dict[str, tuple[int, list[str]]]:
    """The lines of a file of ``<id> <field> ...`` lines: by id, the line's number and its fields.

    Raises:
        InputError: the file cannot be read, a line has too few fields, or an id comes twice.
    """
    rows: dict[str, tuple[int, list[str]]] = {}
    for number, line in lines(path):
        key, *rest = line.split(maxsplit=fields)
        if len(rest) != fields:
            raise InputError(f"{path}, line {number}: {line[:80]!r} has not {fields + 1} fields.")
        if key in rows:
            raise InputError(f"{path}, line {number}: the id {key[:80]!r} comes twice.")
        rows[key] = (number, rest)
    return rows


def captions(path: Path) -> tuple[str, ...]:
    """The captions of a text file that has one a line.

    Raises:
        InputError: it cannot be read or is not UTF-8.
    """
    # The character for what could not be decoded is in many of the CUB captions.
    found = (one_line(line.replace("\ufffd", " ")) for _, line in lines(path))
    return tuple(caption for caption in found if caption)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        InputError: it cannot be read, or holds no JSON object.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno} is not JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {reason(error)}.") from error
    return expect(content, dict, str(path))


def expect(value: Any, kind: type[Kind], where: str) -> Kind:
    """A value out of JSON, which must be an object, a list or a text.

    Args:
        value: what was read.
        kind: dict, list or str.
        where: what it is, for the message.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, kind):
        raise InputError(f"{where} is {brief(value)}; it must be {_KINDS[kind]}.")
    return value


def identifier(row: dict[str, Any], name: str, where: str) -> int | str:
    """A field of a JSON object that identifies something.

    Raises:
        InputError: it is missing, or neither a number nor a text.
    """
    value = row.get(name)
    if not isinstance(value, int | str):
        raise InputError(f"{where}: {name} is {brief(value)}; it must be a number or a text.")
    return value


# Python's own, not C's, whose memo grows to gigabytes where nine bytes tell it to.
class _Names(pickle._Unpickler):
    """Unpickles lists and texts, and nothing that would run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_names(path: Path) -> list[str]:
    """The names in a ``filenames.pickle``: a pickled list of texts, of Python 2 or 3.

    The pickle can name no class and no function, so that nothing in it is ever run.

    Raises:
        InputError: it cannot be read, or holds anything but a list of texts.
    """
    try:
        names = _Names(BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:
        # There is hardly an exception that no broken pickle raises.
        raise InputError(f"{path} is no pickled list of names: {reason(error)}.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} is no pickled list of names.")
    return names


def write_text(path: Path, text: str) -> Path:
    """Write a text file in one step, so that it is never half a file, and give its path.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with place(path) as file:
            # What of a file's name is not UTF-8 becomes an escape that JSON understands.
            file.write(text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot write {path}: {reason(error)}.") from error
    return path
