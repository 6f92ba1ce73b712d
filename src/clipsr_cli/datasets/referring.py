"""Mini-Ref-YouTube-VOS and Mini-Ref-SAIL-VOS: video frames, and expressions for objects in them.

From "Learning Cross-Modal Affinity for Referring Video Object Segmentation Targeting Limited
Samples" (ICCV 2023, https://github.com/hengliusky/Few_shot_RVOS). Certain, from the code and README
there:

- ``meta_expressions/train/meta_expressions.json`` holds ``{"videos": {video: {"expressions": {id:
  {"exp": text, "obj_id": object}}, "frames": [frame, ...]}}}``, as in Ref-YouTube-VOS;
- frames are ``train/JPEGImages/<video>/<frame>.jpg``; the masks in ``train/Annotations/``, which
  are not read here, have the same names;
- ``train/meta.json`` says which categories the objects have, see ``folds.py``;
- the code reads Mini-Ref-SAIL-VOS as ``meta_expressions.json``, ``meta.json`` and
  ``Images/<video>/<frame>.bmp`` right in its folder; the README shows both in the first layout.

Assumed, as the archives could not be seen: ``train/train.json``, which the README names and the
code does not read, has the content of ``meta.json``, or is the annotation file of YouTube-VIS. Both
are read. Our own: a video with objects of several categories is tested where any of them is.
"""

from functools import cached_property, partial
from pathlib import Path
from typing import Any

from clipsr_cli.datasets.files import expect, inside, read_json
from clipsr_cli.datasets.folds import fold, read_categories
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
from clipsr_cli.datasets.splits import by_hash, in_words
from clipsr_cli.errors import InputError
from clipsr_cli.prompts import one_line

REPOSITORY = "https://github.com/hengliusky/Few_shot_RVOS"
# What the dataset's own folder is called, in lower case.
HOMES = {
    "ref-ytvos": ("mini-ref-youtube-vos", "ref-youtube-vos"),
    "ref-sailvos": ("mini-ref-sail-vos", "mini-sail-vos"),
}
EXPRESSIONS = ("meta_expressions/train/meta_expressions.json", "meta_expressions.json")
PICTURES = ("train/JPEGImages", "train/Images", "JPEGImages", "Images")
OBJECTS = ("train/meta.json", "train/train.json", "meta.json", "train.json")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp")


class Videos:
    """The dataset's files below a folder, each read when it is asked for.

    Args:
        name: ``ref-ytvos`` or ``ref-sailvos``.
        root: the dataset's folder, or the one that holds it under its own name.
        options: ``group`` and ``held_back`` count.
    """

    def __init__(self, name: str, root: Path, options: Options) -> None:
        self.name = name
        self.root = root
        self.options = options

    @cached_property
    def home(self) -> Path:
        """The folder with the expressions."""
        if self._first(self.root, EXPRESSIONS):
            return self.root
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        inner = [path for path in folders if path.name.lower() in HOMES[self.name]]
        if len(inner) > 1:
            raise InputError(f"{self.root} holds both {inner[0].name} and {inner[1].name}.")
        return inner[0] if inner else self.root

    @cached_property
    def expressions(self) -> dict[str, dict[str, Any]]:
        """What ``meta_expressions.json`` says of each video."""
        path = self._first(self.home, EXPRESSIONS)
        if path is None:
            raise InputError(f"{self.home / EXPRESSIONS[0]} is missing.")
        videos = expect(read_json(path).get("videos"), dict, f"{path}: videos")
        if not videos:
            raise InputError(f"{path} lists no videos.")
        return {
            video: expect(about, dict, f"{path}: the video {video}")
            for video, about in videos.items()
        }

    def texts(self, video: str) -> dict[str, str]:
        """A video's expressions by id."""
        where = f"the expressions of the video {video}"
        rows = expect(self.expressions[video].get("expressions"), dict, where)
        return {
            key: one_line(expect(expect(row, dict, where).get("exp"), str, where))
            for key, row in rows.items()
        }

    def frames(self, video: str) -> list[Path]:
        """A video's frames, in their order, all that are listed being there."""
        where = f"the frames of the video {video}"
        listed = expect(self.expressions[video].get("frames"), list, where)
        pictures = self._first(self.home, PICTURES)
        if pictures is None:
            raise InputError(f"{self.home / PICTURES[0]} is missing.")
        folder = inside(pictures, video, str(self.home / EXPRESSIONS[0]))
        there: dict[str, Path] = {}
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in EXTENSIONS:
                    there.setdefault(path.stem, path)
        frames = sorted({expect(frame, str, where) for frame in listed})
        gone = [frame for frame in frames if frame not in there]
        if gone:
            raise InputError(
                f"{len(gone):,} of the {len(frames):,} frames of the video {video} are not in "
                f"{folder}, the first is {gone[0]!r}."
            )
        return [there[frame] for frame in frames]

    @cached_property
    def objects(self) -> Path | None:
        """The file that says which objects are in the videos."""
        return self._first(self.home, OBJECTS)

    @cached_property
    def categories(self) -> dict[str, set[str]]:
        """The categories of the objects in each video."""
        if self.objects is None:
            raise InputError(f"{self.home / OBJECTS[0]} is missing, which group needs.")
        found = read_categories(self.objects)
        for video in self.expressions:
            if video not in found:
                raise InputError(f"{self.objects} has no category of an object in {video!r}.")
        return found

    @cached_property
    def splits(self) -> dict[str, str]:
        """The split of each video."""
        if self.options.group is None:
            return by_hash(self.expressions, self.options.held_back)
        held_back = fold(self.name, self.options.group)
        return {
            video: "test" if self.categories[video] & held_back else "train"
            for video in self.expressions
        }

    @staticmethod
    def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
        return next((folder / name for name in names if (folder / name).exists()), None)


def read(name: str, root: Path, options: Options) -> list[Sample]:
    """A sample for each pair of a frame and an expression, video by video.

    A video is never in two splits. Without a group, a hash of its name decides.

    Args:
        name: ``ref-ytvos`` or ``ref-sailvos``.
        root: the dataset's folder, or the one that holds it.
        options: ``group`` and ``held_back`` count.

    Raises:
        InputError: a file is missing or malformed, a listed frame is missing, or there is no such
            group.
    """
    videos = Videos(name, root, options)
    samples = []
    for video in videos.expressions:
        texts = videos.texts(video)
        samples += [
            Sample(
                path=frame,
                captions=(text,) if text else (),
                split=videos.splits[video],
                name=f"{video}/{frame.name}#{key}",
            )
            for frame in videos.frames(video)
            for key, text in texts.items()
        ]
    if not samples:
        raise InputError(f"{videos.home} has no frame with an expression.")
    return samples


def check(name: str, root: Path, options: Options) -> list[Part]:
    """The expressions, frames, categories and split."""
    videos = Videos(name, root, options)
    get = f"Get it from {REPOSITORY}"
    expressions = attempt("expressions", lambda: _check_expressions(videos), get)
    if not expressions.ok:
        return [expressions]
    return [
        expressions,
        attempt("frames", lambda: _check_frames(videos), get),
        attempt("categories", lambda: _check_categories(videos), get),
        attempt("split", lambda: have("split", f"videos: {in_words(videos.splits.values())}"), get),
    ]


def _check_expressions(videos: Videos) -> Part:
    count = sum(len(videos.texts(video)) for video in videos.expressions)
    return have("expressions", f"{count:,} expressions for {len(videos.expressions):,} videos")


def _check_frames(videos: Videos) -> Part:
    count = sum(len(videos.frames(video)) for video in videos.expressions)
    return have("frames", f"{count:,} frames")


def _check_categories(videos: Videos) -> Part:
    if videos.objects is None:
        return replaced("categories", "missing: no group can be asked for", f"Get {OBJECTS[0]}")
    if videos.options.group is None:
        return have("categories", f"{videos.objects.name}, for groups", needed=False)
    count = len(set().union(*videos.categories.values()))
    return have("categories", f"{count} categories of objects in {videos.objects.name}")


def _dataset(name: str, about: str, terms: str) -> Dataset:
    return Dataset(
        read=partial(read, name),
        check=partial(check, name),
        prepare=nothing_to_prepare,
        about=about,
        source=f"{REPOSITORY} (terms: {terms})",
    )


YTVOS = _dataset(
    "ref-ytvos",
    "Mini-Ref-YouTube-VOS: video frames with expressions for their objects, 48 categories",
    "those of YouTube-VOS, https://youtube-vos.org",
)
SAILVOS = _dataset(
    "ref-sailvos",
    "Mini-Ref-SAIL-VOS: rendered video frames with expressions for dogs, cars and persons",
    "those of SAIL-VOS, http://sailvos.web.illinois.edu",
)
