"""What is in the cache becomes rows of the user's own ``weights.toml``, with commit and sha256."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tomli_w

from clipsr_cli import hub
from clipsr_cli.encoders.place import place
from clipsr_cli.errors import InputError, UnknownNameError, WeightsError, reason
from clipsr_cli.weights import (
    BUILTIN,
    OWN,
    REGISTRY,
    TENSORS,
    Entry,
    own_registry,
    packaged,
    registry,
)


def pin(names: Sequence[str]) -> Path:
    """Write the rows of some names, as they are in the cache, into the file CLIPSR_WEIGHTS names.

    Its other rows and its comments stay; it is made where it does not exist.

    Args:
        names: registry names whose files are on the Hub.

    Returns:
        the file.

    Raises:
        InputError: CLIPSR_WEIGHTS is not set, its file is malformed or cannot be written, or a
            name has nothing on the Hub.
        UnknownNameError: no entry has such a name.
        WeightsError: a file is not here, or not what it must be.
    """
    path = own_registry()
    if path is None:
        raise InputError(
            f"{OWN} is not set: there is no weights.toml of your own to write to.",
            hint=f"For example: export {OWN}=~/.config/clipsr/weights.toml",
        )
    there = path.exists()
    rows = registry() if there else packaged()
    text = path.read_text(encoding="utf-8-sig") if there else ""
    for name in names:
        if name not in rows:
            raise UnknownNameError(f"entry of {REGISTRY}", name, rows)
        row = _as_written(pinned(name, rows[name]), path.parent)
        text = put_row(text, name, row)
    write(path, text)
    return path


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and the folders it lies in.

    Raises:
        InputError: it cannot be written.
    """
    try:
        # Where the name is a link, the file behind it is meant.
        with place(path.resolve()) as file:
            file.write(text.encode())
    except OSError as error:
        raise InputError(f"Cannot write {path}: {reason(error)}.") from error


def pinned(name: str, row: Entry) -> Entry:
    """A row with the commit, sha256 and size of each of its files on the Hub, as they are here.

    Args:
        name: of the row.
        row: as it is.

    Raises:
        InputError: nothing of it is on the Hub.
        WeightsError: a file is not here, or not what it must be.
    """
    if not any(part.reference for part in row.parts(name)):
        raise InputError(f"{name} is not on the Hub: there is nothing to pin.")
    files, digests, sizes = [], [], []
    for part in row.parts(name):
        if part.reference is None:
            path = part.locate()
            found = hub.Record("", hub.sha256(path), path.stat().st_size)
            files.append(part.file)
        else:
            found = _here(part.reference, sha256=part.sha256, size=part.size, name=name)
            files.append(str(part.reference.at(found.commit or part.reference.revision)))
        digests.append(found.sha256)
        sizes.append(found.size)
    architecture = row.architecture
    if architecture.startswith(hub.SCHEME):
        config = hub.Reference.parse(architecture)
        architecture = str(config.at(_here(config, name=name).commit or config.revision))
    return replace(
        row,
        files=tuple(files),
        sha256=tuple(digests),
        size=tuple(sizes),
        architecture=architecture,
    )


def _as_written(row: Entry, folder: Path) -> Entry:
    """A row whose paths within the registry's folder count from there, as it reads them."""

    def relative(file: str) -> str:
        if file.startswith((BUILTIN, hub.SCHEME)) or not file.endswith((*TENSORS, ".json")):
            return file
        path = Path(file)
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else file

    return replace(
        row,
        files=tuple(relative(file) for file in row.files),
        architecture=relative(row.architecture),
    )


def _here(reference: hub.Reference, *, sha256: str = "", size: int = 0, name: str) -> hub.Record:
    found = hub.verify(reference, sha256=sha256, size=size, name=name)
    if found is None:
        raise WeightsError(
            f"{reference} is not on this machine.", hint=f"First: clipsr weights pull {name}"
        )
    return found


def put_row(text: str, name: str, row: Entry) -> str:
    """A TOML text with one table in the place of the one of that name, or at its end.

    All else stays as it is, comments too, unless the table is written in a way not known here:
    then all is written anew.
    """
    values = {key: value for key, value in asdict(row).items() if value}
    wanted = tomllib.loads(text) | {name: _plain(values)}
    block = tomli_w.dumps({name: _plain(values)})
    lines = text.splitlines(keepends=True)
    heads = [index for index, line in enumerate(lines) if re.match(r"\s*\[", line)]
    own = [index for index in heads if lines[index].split("#")[0].strip() in _heads(name)]
    if own:
        end = next((index for index in heads if index > own[0]), len(lines))
        # Blank lines and comments before the next table are that table's.
        while end > own[0] + 1 and re.match(r"\s*(#|$)", lines[end - 1]):
            end -= 1
        new = "".join([*lines[: own[0]], block, *lines[end:]])
    else:
        new = text.rstrip() + ("\n\n" if text.strip() else "") + block
    try:
        kept = tomllib.loads(new) == wanted
    except tomllib.TOMLDecodeError:
        kept = False
    return new if kept else tomli_w.dumps(wanted)


def _heads(name: str) -> set[str]:
    return {f"[{name}]", f'["{name}"]', f"['{name}']"}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
