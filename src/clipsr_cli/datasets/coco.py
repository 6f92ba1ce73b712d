"""COCO's captions, 2017 or 2014, as its archives unpack (https://cocodataset.org/#download).

``annotations/captions_train2017.json`` holds ``{"images": [{"id", "file_name"}], "annotations":
[{"image_id", "caption"}]}``; the pictures are in ``train2017/`` or ``images/train2017/``; ``val``
the same. COCO's ``val`` is our ``test``, as the captions of its test pictures are not public.

A split whose annotations or whose whole picture folder is missing is left out. Only one year
counts, as many pictures that 2014 validates on are trained on in 2017: the one that has more of
the two splits, else the later.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clipsr_cli.datasets.files import expect, found_all, identifier, inside, is_file, read_json
from clipsr_cli.datasets.sample import (
    Dataset,
    Options,
    Part,
    Sample,
    attempt,
    have,
    nothing_to_prepare,
    replaced,
)
from clipsr_cli.errors import InputError
from clipsr_cli.prompts import one_line

YEARS = ("2017", "2014")
DOWNLOAD = "https://cocodataset.org/#download"


@dataclass(frozen=True, kw_only=True)
class _Half:
    """One of the two splits of a year.

    Attributes:
        name: what COCO calls it, such as ``train2017``.
        split: what we call it.
        annotations: the file with its captions.
        pictures: the folder with its pictures; None where it is missing.
    """

    name: str
    split: str
    annotations: Path
    pictures: Path | None

    @property
    def lacks(self) -> str:
        """What is missing of it, empty where it is there."""
        if not is_file(self.annotations):
            return f"annotations/{self.annotations.name} is missing"
        return "" if self.pictures else f"the folder {self.name}/ is missing"


def read(root: Path, _options: Options) -> list[Sample]:
    """The pictures of the splits that are there, in the order of the annotations.

    Raises:
        InputError: no split is there, annotations are malformed, or a listed picture is missing
            from a picture folder that is there.
    """
    halves = [half for half in _halves(root) if not half.lacks]
    if not halves:
        raise InputError(f"{root} has no split of COCO with both annotations and pictures.")
    return [sample for half in halves for sample in _read_half(half)]


def check(root: Path, _options: Options) -> list[Part]:
    """The two splits."""
    halves = _halves(root)
    alone = all(half.lacks for half in halves)
    parts = []
    for half in halves:
        what = f"{half.split} photos and captions"
        advice = (
            f"Unpack {half.name}.zip and annotations_trainval{half.name[-4:]}.zip there: {DOWNLOAD}"
        )
        if not half.lacks:
            parts.append(attempt(what, partial(_check_half, half, what), advice))
        elif alone:
            parts.append(Part(what=what, found=half.lacks, ok=False, needed=True, advice=advice))
        else:
            parts.append(replaced(what, f"{half.lacks}: the split is left out", advice))
    return parts


def _halves(root: Path) -> list[_Half]:
    """Both splits of the year that has more of them."""
    years = [
        [_half(root, part, split, year) for part, split in (("train", "train"), ("val", "test"))]
        for year in YEARS
    ]
    # The first of equals.
    return max(years, key=lambda halves: sum(not half.lacks for half in halves))


def _half(root: Path, part: str, split: str, year: str) -> _Half:
    name = part + year
    return _Half(
        name=name,
        split=split,
        annotations=root / "annotations" / f"captions_{name}.json",
        pictures=next((p for p in (root / name, root / "images" / name) if p.is_dir()), None),
    )


def _read_half(half: _Half) -> Iterator[Sample]:
    assert half.pictures is not None
    content, where = read_json(half.annotations), str(half.annotations)
    names: dict[int | str, str] = {}
    for row in _rows(content, "images", where):
        name = expect(row.get("file_name"), str, f"{where}: a file_name")
        inside(half.pictures, name, where)
        names[identifier(row, "id", where)] = name
    if not names or len(set(names.values())) < len(names):
        raise InputError(f"{where} lists no pictures, or one of them twice.")
    captions: dict[int | str, list[str]] = {key: [] for key in names}
    for row in _rows(content, "annotations", where):
        caption = expect(row.get("caption"), str, f"{where}: a caption")
        captions.get(identifier(row, "image_id", where), []).append(one_line(caption))
    found_all((half.pictures / name for name in names.values()), half.annotations)
    for key, name in names.items():
        yield Sample(
            path=half.pictures / name,
            captions=tuple(caption for caption in captions[key] if caption),
            split=half.split,
            name=f"{half.name}/{Path(name).as_posix()}",
        )


def _rows(content: dict[str, object], name: str, where: str) -> Iterator[dict[str, object]]:
    for row in expect(content.get(name), list, f"{where}: {name}"):
        yield expect(row, dict, f"{where}: one of {name}")


def _check_half(half: _Half, what: str) -> Part:
    samples = list(_read_half(half))
    captions = sum(len(sample.captions) for sample in samples)
    return have(what, f"{len(samples):,} photos of {half.name} with {captions:,} captions")


DATASET = Dataset(
    read=read,
    check=check,
    prepare=nothing_to_prepare,
    about="COCO captions: photos of everyday scenes, five captions each",
    source=f"{DOWNLOAD} (annotations CC BY 4.0; the photos under their authors' terms on Flickr)",
)
