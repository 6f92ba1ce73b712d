"""Decide which pictures are held back: by a hash of their names, or by lists of names."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath

from clipsr_cli.datasets.files import is_file, read_names
from clipsr_cli.datasets.sample import SPLITS
from clipsr_cli.errors import InputError

LIST = "filenames.pickle"


def by_hash(names: Iterable[str], held_back: float, *, at_least_one: bool = True) -> dict[str, str]:
    """Put names into ``train`` or ``test``, so that a name's split stays when others are added.

    The one exception is the name held back because the share alone gives none.

    Args:
        names: file names, or whatever is to stay together.
        held_back: share in ``test``, from 0 to 1.
        at_least_one: hold one back even where the share is less than that.
    """
    places = {name: _place(name) for name in names}
    least = min(places.values(), default=0.0) if at_least_one else -1.0
    return {
        name: "test" if place < held_back or place == least else "train"
        for name, place in places.items()
    }


def pickled_lists(folders: Sequence[Path]) -> tuple[Path, dict[str, list[str]]] | None:
    """The names in ``train/filenames.pickle`` and ``test/filenames.pickle``, and their folder.

    The layout of StackGAN (https://github.com/hanzhanggit/StackGAN), which its successors share.

    Args:
        folders: where to look; the first that has one of the two counts.

    Returns:
        None where no folder has any.

    Raises:
        InputError: only one of the two is there, or one is no pickled list of names.
    """
    for folder in folders:
        files = {split: folder / split / LIST for split in ("train", "test")}
        there = [path for path in files.values() if is_file(path)]
        if len(there) == 1:
            raise InputError(f"{there[0]} is there, the other split's list is not.")
        if there:
            return folder, {split: read_names(path) for split, path in files.items()}
    return None


def by_lists(
    lists: Mapping[str, Sequence[str]], names: Iterable[str], where: Path
) -> dict[str, str]:
    """Put names into the splits that lists say; a name in no list is left out.

    Args:
        lists: for each split, names with their extension or without.
        names: the pictures' names, with their extension.
        where: what holds the lists, for the message.

    Raises:
        InputError: a listed name is no picture's, or is in two splits.
    """
    known: dict[str, list[str]] = {}
    for name in names:
        for key in {name, PurePosixPath(name).with_suffix("").as_posix()}:
            known.setdefault(key, []).append(name)
    splits: dict[str, str] = {}
    for split, listed in lists.items():
        for key in listed:
            if key not in known:
                raise InputError(f"{where}: {key!r} in the {split} list is no picture's name.")
            for name in known[key]:
                if splits.setdefault(name, split) != split:
                    raise InputError(f"{where}: {key!r} is both in {splits[name]} and in {split}.")
    return splits


def in_words(splits: Iterable[str]) -> str:
    """How many there are of each split, such as ``57 train, 3 test``."""
    counts = Counter(splits)
    return ", ".join(f"{counts[split]:,} {split}" for split in SPLITS if counts[split]) or "none"


def _place(name: str) -> float:
    """A name's place in [0, 1), always the same."""
    # A file's name may hold bytes that are not UTF-8, which Python keeps as lone surrogates.
    digest = sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
