"""The folds of Mini-Ref-YouTube-VOS and Mini-Ref-SAIL-VOS: which categories a group tests, and
which categories a video shows.

Certain, from the code of https://github.com/hengliusky/Few_shot_RVOS (``datasets/categories.py``,
``ytvos_2exp.py``, ``sailvos_2exp.py``): Mini-Ref-YouTube-VOS has 48 categories in a fixed order; of
group N, numbers N, N + 4, N + 8, ... are tested and the others trained on. Mini-Ref-SAIL-VOS has
the categories dog, car and person, and all of it is tested: it has no groups there. Our own: its
groups 1 to 3 are one category each, by the same rule.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipsr_cli.datasets.files import expect, identifier, read_json
from clipsr_cli.errors import InputError

GROUPS = 4
# In the order that numbers them from 1.
CATEGORIES = {
    "ref-ytvos": (
        *("hat", "plant", "hand", "horse", "raccoon", "squirrel", "bus", "boat", "crocodile"),
        *("penguin", "motorbike", "truck", "hedgehog", "lion", "earless_seal", "whale"),
        *("elephant", "mouse", "snail", "camel", "shark", "giraffe", "tiger", "frog", "cat"),
        *("dolphin", "cow", "dog", "bear", "zebra", "airplane", "leopard", "fox", "turtle"),
        *("deer", "train", "sedan", "sheep", "fish", "bird", "rabbit", "duck", "snake"),
        *("monkey", "parrot", "lizard", "giant_panda", "person"),
    ),
    "ref-sailvos": ("dog", "car", "person"),
}


def fold(name: str, group: int) -> frozenset[str]:
    """The categories that a group tests.

    Args:
        name: ``ref-ytvos`` or ``ref-sailvos``.
        group: from 1.

    Raises:
        InputError: there is no such group.
    """
    most = min(GROUPS, len(CATEGORIES[name]))
    if not 1 <= group <= most:
        raise InputError(f"{name} has no group {group}.", hint=f"Its groups are 1 to {most}.")
    return frozenset(CATEGORIES[name][group - 1 :: GROUPS])


def read_categories(path: Path) -> dict[str, set[str]]:
    """The categories of the objects in each video.

    Args:
        path: a ``meta.json``, ``{"videos": {video: {"objects": {object: {"category": name}}}}}``,
            or the annotation file of YouTube-VIS, ``{"videos": [{"id", "file_names"}],
            "annotations": [{"video_id", "category_id"}], "categories": [{"id", "name"}]}``.

    Raises:
        InputError: it is neither.
    """
    content, where = read_json(path), str(path)
    if isinstance(content.get("videos"), dict):
        pairs = _of_objects(content["videos"], where)
    else:
        pairs = _of_annotations(content, where)
    found: dict[str, set[str]] = {}
    for video, category in pairs:
        found.setdefault(video, set()).add(category.lower().replace(" ", "_"))
    return found


def _of_objects(videos: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    for video, about in videos.items():
        objects = expect(expect(about, dict, where).get("objects"), dict, f"{where}: objects")
        for one in objects.values():
            yield video, expect(expect(one, dict, where).get("category"), str, f"{where}: category")


def _of_annotations(content: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    def rows(name: str) -> Iterator[dict[str, Any]]:
        for row in expect(content.get(name), list, f"{where}: {name}"):
            yield expect(row, dict, f"{where}: one of {name}")

    # A video is known by the folder of its frames; a frame without annotations may be null.
    folders = {}
    for row in rows("videos"):
        files = expect(row.get("file_names"), list, f"{where}: file_names")
        first = next((expect(file, str, f"{where}: a file name") for file in files if file), "")
        folders[identifier(row, "id", where)] = first.partition("/")[0]
    names = {
        identifier(row, "id", where): expect(row.get("name"), str, f"{where}: a name")
        for row in rows("categories")
    }
    for row in rows("annotations"):
        video = identifier(row, "video_id", where)
        category = identifier(row, "category_id", where)
        if video not in folders or category not in names:
            raise InputError(f"{where}: no video {video!r} or no category {category!r} is listed.")
        yield folders[video], names[category]
