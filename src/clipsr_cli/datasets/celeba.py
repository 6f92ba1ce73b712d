"""CelebA-HQ faces with captions, as CLIP-SR's authors lay them out and as Multi-Modal-CelebA-HQ
unpacks.

Pictures are in ``image/``, ``image/images/``, ``images/`` or ``CelebA-HQ-img/``; the captions of
``<name>.jpg`` are in ``<name>.txt``, one a line, in ``text/``, ``text/celeba-caption/`` or
``celeba-caption/``. The folder may be given itself, or the one that holds it as ``CelebA/`` or
``multi-modal-celeba/``.

The split is in ``train/filenames.pickle`` and ``test/filenames.pickle``, lists of names without
extension (https://github.com/IIGROUP/MM-CelebA-HQ-Dataset; the authors' code,
https://github.com/hengliusky/CLIP-SR, reads the same). Where they are missing, ``splits.json``
counts, which ``clipsr data prepare`` writes: ``{"train": [name, ...], "val": [...], "test":
[...]}`` with names relative to the picture folder. Where neither is there, a hash of the name
decides. A picture in no list is left out.
"""

import json
from functools import cached_property
from pathlib import Path, PurePosixPath

from clipsr_cli import images
from clipsr_cli.datasets.files import captions, expect, is_file, read_json, write_text
from clipsr_cli.datasets.sample import (
    SPLITS,
    Dataset,
    Options,
    Part,
    Sample,
    attempt,
    have,
    replaced,
)
from clipsr_cli.datasets.splits import LIST, by_hash, by_lists, in_words, pickled_lists
from clipsr_cli.errors import InputError

HOMES = ("CelebA", "multi-modal-celeba")
PICTURES = ("image/images", "image", "images", "CelebA-HQ-img")
TEXTS = ("text/celeba-caption", "text", "celeba-caption")
OWN_LISTS = "splits.json"
SOURCE = "https://github.com/IIGROUP/MM-CelebA-HQ-Dataset"
GET = f"Put the image and text folders of {SOURCE} there."


class Faces:
    """The dataset's files below a folder, each read when it is asked for."""

    def __init__(self, root: Path, options: Options) -> None:
        self.home = next((root / name for name in HOMES if (root / name).is_dir()), root)
        self.options = options

    @cached_property
    def photos(self) -> dict[str, Path]:
        """The pictures by name, which is relative to their folder."""
        for folder in (self.home / name for name in PICTURES):
            found = images.find(folder) if folder.is_dir() else []
            if found:
                return {path.relative_to(folder).as_posix(): path for path in found}
        raise InputError(f"{self.home} has no pictures in {', '.join(PICTURES)}.")

    @cached_property
    def splits(self) -> tuple[str, dict[str, str]]:
        """What says which split pictures are in, and the split by name."""
        pickled = pickled_lists([self.home])
        if pickled:
            folder, lists = pickled
            return LIST, by_lists(lists, self.photos, folder)
        path = self.home / OWN_LISTS
        if is_file(path):
            return OWN_LISTS, by_lists(_read_lists(path), self.photos, path)
        return "a hash of the name", by_hash(self.photos, self.options.held_back)

    def captions(self, name: str) -> tuple[str, ...]:
        """What is said of a picture."""
        file = f"{PurePosixPath(name).stem}.txt"
        for path in (self.home / folder / file for folder in TEXTS):
            if is_file(path):
                return captions(path)
        return ()


def read(root: Path, options: Options) -> list[Sample]:
    """The faces, by name.

    Raises:
        InputError: there are no pictures, or a file is malformed or names what is not there.
    """
    faces = Faces(root, options)
    _, splits = faces.splits
    return [
        Sample(path=path, captions=faces.captions(name), split=splits[name], name=name)
        for name, path in faces.photos.items()
        if name in splits
    ]


def check(root: Path, options: Options) -> list[Part]:
    """The photos, their split and captions."""
    faces = Faces(root, options)
    photos = attempt("photos", lambda: have("photos", f"{len(faces.photos):,} photos"), GET)
    if not photos.ok:
        return [photos]
    return [
        photos,
        attempt("split", lambda: _check_split(faces, root), f"Mend it, or get it from {SOURCE}"),
        attempt("captions", lambda: _check_captions(faces), f"Get them anew: {SOURCE}"),
    ]


def prepare(root: Path, options: Options) -> list[Path]:
    """Write ``splits.json``, where no split is there.

    Raises:
        InputError: there are no pictures, or the file cannot be written.
    """
    faces = Faces(root, options)
    if is_file(faces.home / OWN_LISTS) or pickled_lists([faces.home]):
        return []
    _, splits = faces.splits
    lists = {split: [name for name in splits if splits[name] == split] for split in SPLITS}
    return [write_text(faces.home / OWN_LISTS, json.dumps(lists, indent=1, ensure_ascii=False))]


def _read_lists(path: Path) -> dict[str, list[str]]:
    lists = {}
    for split, names in read_json(path).items():
        if split not in SPLITS:
            raise InputError(f"{path}: {split[:80]!r} is no split; use train, val and test.")
        where = f"{path}: {split}"
        lists[split] = [expect(name, str, where) for name in expect(names, list, where)]
    return lists


def _check_split(faces: Faces, root: Path) -> Part:
    source, splits = faces.splits
    words = f"{in_words(splits.values())}, from {source}"
    left_out = len(faces.photos) - len(splits)
    if left_out:
        words += f"; {left_out:,} in no list are left out"
    if source in (LIST, OWN_LISTS):
        return have("split", words)
    advice = (
        f"Get train/ and test/filenames.pickle from {SOURCE}, or fix this one: "
        f"clipsr data prepare celeba --data-root {root}"
    )
    return replaced("split", words, advice)


def _check_captions(faces: Faces) -> Part:
    captioned = sum(bool(faces.captions(name)) for name in faces.photos)
    words = f"{captioned:,} of {len(faces.photos):,} photos have captions"
    if captioned == len(faces.photos):
        return have("captions", words, needed=False)
    return replaced("captions", words, f"Put text/<name>.txt from {SOURCE} there.")


DATASET = Dataset(
    read=read,
    check=check,
    prepare=prepare,
    about="CelebA-HQ: 30,000 faces, with captions from their attributes",
    source=f"{SOURCE} (non-commercial research)",
)
