"""Find the pictures that files, folders and globs stand for."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from glob import glob
from pathlib import Path, PurePosixPath

from clipsr_cli import images
from clipsr_cli.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A picture among the inputs.

    Attributes:
        path: as it was come by.
        relative: its path within the input folder; its name alone for a single file.
        real: its path without symlinks, by which pictures are told apart.
    """

    path: Path
    relative: PurePosixPath
    real: str


def find_pictures(
    inputs: Sequence[str], *, recursive: bool = True, pattern: str | None = None
) -> list[Found]:
    """The pictures that files, folders and globs stand for; one that comes twice is one.

    Args:
        inputs: files, folders and globs, as typed.
        recursive: look in the folders' subfolders.
        pattern: in folders, only names that match this glob.

    Raises:
        InputError: an input is not there, or no picture is found.
    """
    return find_within(expand(inputs), inputs, recursive=recursive, pattern=pattern)


def expand(inputs: Sequence[str], *, output: Path | None = None) -> list[Path]:
    """The files and folders that the inputs stand for.

    Args:
        inputs: files, folders and globs, as typed.
        output: the output folder: what a glob matches in it is left out, being earlier results.

    Raises:
        InputError: an input is not there or no picture, or a glob matches only earlier results.
    """
    places = []
    for text in inputs:
        if os.path.lexists(text):
            path = Path(text)
            if not path.is_dir() and not is_readable(path):
                raise InputError(
                    f"{path} is not a picture that clipsr reads.", hint=f"It reads {_readable()}"
                )
            places.append(path)
            continue
        matches = [Path(match) for match in sorted(glob(text, recursive=True))]  # noqa: PTH207
        if not matches:
            raise InputError(f"{text} does not exist.", hint=_near(Path(text)))
        if output is not None:
            matches = _outside(matches, text, output)
        # Captions and notes that a glob takes in are left out, as they are in a folder.
        places += [match for match in matches if match.is_dir() or is_readable(match)]
    return places


def find_within(
    places: Sequence[Path], inputs: Sequence[str], *, recursive: bool, pattern: str | None
) -> list[Found]:
    """The pictures in the folders and the single ones that ``expand`` gave.

    Args:
        places: from ``expand``.
        inputs: what it was given, for the message.
        recursive, pattern: as for ``find_pictures``.

    Raises:
        InputError: there is none.
    """
    found: dict[str, Found] = {}
    for place in places:
        if place.is_dir():
            paths = images.find(place, recursive=recursive, pattern=pattern)
            within = [(path, PurePosixPath(path.relative_to(place))) for path in paths]
        else:
            within = [(place, PurePosixPath(place.name))]
        for path, relative in within:
            real = os.path.realpath(path)
            found.setdefault(real, Found(path=path, relative=relative, real=real))
    if not found:
        what = f"no picture that matches {pattern!r}" if pattern else "no picture"
        raise InputError(
            f"There is {what} in {', '.join(inputs)}.", hint=f"clipsr reads {_readable()}"
        )
    return list(found.values())


def is_readable(path: Path) -> bool:
    """Whether a file's name is that of a picture."""
    return path.suffix.lower() in images.READABLE


def _outside(matches: Sequence[Path], text: str, output: Path) -> list[Path]:
    """What a glob matches outside the output folder."""
    folder = os.path.realpath(output)
    kept = [path for path in matches if not Path(os.path.realpath(path)).is_relative_to(folder)]
    if not kept:
        raise InputError(
            f"All that {text} matches lies in the output folder {output}.",
            hint="It would be the next run's input: choose another place.",
        )
    if len(kept) < len(matches):
        left = len(matches) - len(kept)
        logger.info("Left out of %s, as they lie in the output folder: %d.", text, left)
    return kept


def _readable() -> str:
    return " ".join(sorted(images.READABLE))


def _near(missing: Path) -> str:
    """A name that may have been meant."""
    try:
        names = os.listdir(missing.parent)
    except OSError:
        return f"There is no folder {missing.parent} to look in."
    close = get_close_matches(missing.name, names, n=1)
    return f"Did you mean {missing.parent / close[0]}?" if close else ""
