"""What a dataset is to the rest of the program: its samples, what a check of it finds, and the
functions that read, check and prepare it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clipsr_cli.errors import InputError

SPLITS = ("train", "val", "test")

# Left, top, width and height in pixels.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture of a dataset and what is said of it.

    Attributes:
        path: the picture.
        captions: what it shows, in none, one or several wordings.
        split: ``train``, ``val`` or ``test``.
        name: unique within the dataset: the path relative to the picture folder, with slashes; for
            a pair of frame and expression, with ``#`` and the expression's id.
        box: the object in the picture, where the dataset says where it is.
    """

    path: Path
    captions: tuple[str, ...]
    split: str
    name: str
    box: Box | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that a dataset consists of, and what a check found of it.

    Attributes:
        what: its name, such as ``photos``.
        found: what is there, in plain words.
        ok: it is usable as it is.
        needed: without it the dataset cannot be read; False where something takes its place.
        advice: how to get it; empty where it is ok.
    """

    what: str
    found: str
    ok: bool
    needed: bool
    advice: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a dataset is to be read.

    Attributes:
        held_back: share of the pictures in ``test`` where the dataset has no split of its own.
        group: which fold of categories is ``test``, for the datasets that have folds.
    """

    held_back: float = 0.05
    group: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.held_back < 1:
            raise InputError(
                f"held_back is {self.held_back}; it must be at least 0 and below 1.",
                hint="Example: 0.05 holds back one picture in twenty.",
            )


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A kind of dataset, told by how its files lie in a folder.

    Attributes:
        read: folder -> samples; raises InputError for what is missing or malformed.
        check: folder -> its parts; says what is missing or malformed.
        prepare: writes the splits and captions that the dataset lacks, and gives the files written.
        about: what it is, in one line.
        source: where people get it, and its terms.
    """

    read: Callable[[Path, Options], list[Sample]]
    check: Callable[[Path, Options], list[Part]]
    prepare: Callable[[Path, Options], list[Path]]
    about: str
    source: str


def have(what: str, found: str, *, needed: bool = True) -> Part:
    """A part that is usable as it is."""
    return Part(what=what, found=found, ok=True, needed=needed, advice="")


def replaced(what: str, found: str, advice: str) -> Part:
    """A part that is not there, in whose place something else is used."""
    return Part(what=what, found=found, ok=False, needed=False, advice=advice)


def attempt(what: str, look: Callable[[], Part], advice: str) -> Part:
    """What ``look`` finds, or the InputError it raises as a part without which nothing works.

    Args:
        what: the part's name.
        look: makes the part.
        advice: how to get the part, where the error does not say.
    """
    try:
        return look()
    except InputError as error:
        return Part(
            what=what, found=error.message, ok=False, needed=True, advice=error.hint or advice
        )


def nothing_to_prepare(_root: Path, _options: Options) -> list[Path]:
    """For datasets that come with their splits and captions."""
    return []
