"""Caltech-UCSD Birds-200-2011 as its archive unpacks, with captions beside it.

``CUB_200_2011/`` (https://www.vision.caltech.edu/datasets/cub_200_2011/) holds ``images/`` and
files with a line for each picture: ``images.txt`` (``<id> <class>/<name>.jpg``),
``bounding_boxes.txt`` (``<id> <left> <top> <width> <height>``) and ``train_test_split.txt``
(``<id> <1 for training, else 0>``). A class is a folder such as ``002.Laysan_Albatross``.

Captions are text files with one a line, as the authors of "Learning Deep Representations of
Fine-Grained Visual Descriptions" gave them out (https://github.com/reedscot/cvpr2016):
``text/<class>/<name>.txt`` or ``text_c10/<class>/<name>.txt``, inside ``CUB_200_2011`` or beside
it. Where a picture has none, they are made from the attributes of its class, else from its name.

StackGAN's lists ``train/filenames.pickle`` and ``test/filenames.pickle``, another split, in which
the classes tested are none of those trained on, count where ``train_test_split.txt`` is missing.
"""

import math
import os
from collections import Counter
from functools import cached_property
from pathlib import Path, PurePosixPath

from clipsr_cli.datasets.attributes import read_traits, sentences, with_article
from clipsr_cli.datasets.files import captions, found_all, inside, is_file, table, write_text
from clipsr_cli.datasets.sample import (
    Box,
    Dataset,
    Options,
    Part,
    Sample,
    attempt,
    have,
    replaced,
)
from clipsr_cli.datasets.splits import LIST, by_lists, in_words, pickled_lists
from clipsr_cli.errors import InputError

ARCHIVE = "https://www.vision.caltech.edu/datasets/cub_200_2011/"
CAPTIONS = "https://github.com/reedscot/cvpr2016"
GET = f"Unpack CUB_200_2011.tgz from {ARCHIVE} into the folder."


class Birds:
    """The dataset's files below a folder, each read when it is asked for.

    Args:
        root: the folder that holds ``CUB_200_2011``, or ``CUB_200_2011`` itself.
    """

    def __init__(self, root: Path) -> None:
        inner = root / "CUB_200_2011"
        self.home = inner if inner.is_dir() else root
        beside = root if inner.is_dir() else Path(os.path.abspath(root)).parent
        self.folders = (self.home, beside)

    @cached_property
    def names(self) -> dict[str, str]:
        """Picture names, ``<class>/<name>.jpg``, by id."""
        listed = self.home / "images.txt"
        keys: dict[str, str] = {}
        for key, (number, (name,)) in table(listed, 1).items():
            where = f"{listed}, line {number}"
            path = inside(self.home / "images", name, where)
            plain = path.relative_to(self.home / "images").as_posix()
            if plain in keys:
                raise InputError(f"{where}: {name!r} comes twice.")
            keys[plain] = key
        if not keys:
            raise InputError(f"{listed} lists no pictures.")
        return {key: name for name, key in keys.items()}

    def path(self, name: str) -> Path:
        """Where a picture lies."""
        return self.home / "images" / name

    def count_photos(self) -> int:
        """How many pictures there are, all that are listed being there."""
        return found_all(map(self.path, self.names.values()), self.home / "images.txt")

    @cached_property
    def splits(self) -> dict[str, str]:
        """The split of each picture, by name."""
        official = self.home / "train_test_split.txt"
        if is_file(official):
            rows = table(official, 1)
            splits = {}
            for key, name in self.names.items():
                number, (flag,) = rows.get(key, (0, ["nothing"]))
                if flag not in ("0", "1"):
                    place = f"line {number}" if number else f"picture {key}"
                    raise InputError(f"{official}, {place}: {flag[:80]!r}; it must be 1 or 0.")
                splits[name] = "train" if flag == "1" else "test"
            return splits
        pickled = pickled_lists(self.folders)
        if pickled is None:
            raise InputError(f"{official} is missing.")
        folder, lists = pickled
        return by_lists(lists, self.names.values(), folder)

    @cached_property
    def boxes(self) -> dict[str, Box] | None:
        """The box of each picture, by id; None where the file is missing."""
        path = self.home / "bounding_boxes.txt"
        if not is_file(path):
            return None
        rows = table(path, 4)
        boxes = {}
        for key in self.names:
            if key not in rows:
                raise InputError(f"{path} has no line for picture {key}.")
            number, fields = rows[key]
            boxes[key] = _box(fields, f"{path}, line {number}")
        return boxes

    def captions(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Where a picture's captions come from, and the captions."""
        file = PurePosixPath(name).with_suffix(".txt")
        for folder in self.folders:
            for texts in ("text", "text_c10"):
                path = folder / texts / file
                found = captions(path) if is_file(path) else ()
                if found:
                    return "caption files", found
        number, _, words = PurePosixPath(name).parent.name.rpartition(".")
        plain = with_article(words.replace("_", " ").lower() or "bird")
        made = sentences(self._traits.get(number, {}))
        if made:
            return "class attributes", (*made, f"a photo of {plain}")
        return "class names", (f"a photo of {plain}",)

    @cached_property
    def _traits(self) -> dict[str, dict[str, list[str]]]:
        return read_traits(self.folders)


def read(root: Path, _options: Options) -> list[Sample]:
    """The pictures in the order of ``images.txt``.

    Raises:
        InputError: a needed file is missing, a file is malformed, or a listed picture is missing.
    """
    birds = Birds(root)
    birds.count_photos()
    return [
        Sample(
            path=birds.path(name),
            captions=birds.captions(name)[1],
            split=birds.splits[name],
            name=name,
            box=birds.boxes[key] if birds.boxes else None,
        )
        for key, name in birds.names.items()
        if name in birds.splits
    ]


def check(root: Path, _options: Options) -> list[Part]:
    """The photos, their split, captions and boxes."""
    birds = Birds(root)
    listed = attempt("list of photos", lambda: have("list of photos", f"{len(birds.names):,}"), GET)
    if not listed.ok:
        return [listed]
    return [
        attempt("photos", lambda: have("photos", f"{birds.count_photos():,} photos"), GET),
        attempt("split", lambda: _check_split(birds), GET),
        attempt("captions", lambda: _check_captions(birds, root), f"Get them anew: {CAPTIONS}"),
        attempt("bounding boxes", lambda: _check_boxes(birds), GET),
    ]


def prepare(root: Path, _options: Options) -> list[Path]:
    """Write a caption file for each picture that has none, from its class's attributes or name.

    Files that are there are left alone.

    Raises:
        InputError: the list of pictures is missing or malformed, or a file cannot be written.
    """
    birds = Birds(root)
    written = []
    for name in birds.names.values():
        source, texts = birds.captions(name)
        path = root / "text" / PurePosixPath(name).with_suffix(".txt")
        if source != "caption files" and not is_file(path):
            written.append(write_text(path, "".join(f"{text}\n" for text in texts)))
    return written


def _check_split(birds: Birds) -> Part:
    words = in_words(birds.splits.values())
    if is_file(birds.home / "train_test_split.txt"):
        unused = any(is_file(folder / "train" / LIST) for folder in birds.folders)
        words = f"{words}, from train_test_split.txt"
        return have("split", f"{words}; StackGAN's {LIST} is not used" if unused else words)
    words = f"{words}, from StackGAN's {LIST}"
    left_out = len(birds.names) - len(birds.splits)
    return have("split", f"{words}; {left_out:,} in no list are left out" if left_out else words)


def _check_captions(birds: Birds, root: Path) -> Part:
    sources = Counter(birds.captions(name)[0] for name in birds.names.values())
    words = ", ".join(f"{count:,} photos from {source}" for source, count in sources.items())
    if set(sources) == {"caption files"}:
        return have("captions", words, needed=False)
    advice = (
        f"Put text/<class>/<image>.txt from {CAPTIONS} there, or write the ones made here to edit "
        f"them: clipsr data prepare cub --data-root {root}"
    )
    return replaced("captions", words, advice)


def _check_boxes(birds: Birds) -> Part:
    if birds.boxes is None:
        return replaced("bounding boxes", "missing: whole photos are used", GET)
    return have("bounding boxes", f"{len(birds.boxes):,} boxes", needed=False)


def _box(fields: list[str], where: str) -> Box:
    try:
        left, top, width, height = (float(field) for field in fields)
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from error
    if not all(map(math.isfinite, (left, top, width, height))) or width <= 0 or height <= 0:
        raise InputError(f"{where}: {' '.join(fields)!r} is no box.")
    return left, top, width, height


DATASET = Dataset(
    read=read,
    check=check,
    prepare=prepare,
    about="CUB-200-2011: 11,788 photos of 200 kinds of birds",
    source=f"photos: {ARCHIVE} (non-commercial research and education); captions: {CAPTIONS}",
)
