"""Video frames with expressions: pairs of both, folds of categories, no video in two splits."""

import json

import pytest

from clipsr_cli import datasets
from clipsr_cli.datasets import DATASETS, Options
from clipsr_cli.datasets.folds import CATEGORIES, fold
from clipsr_cli.errors import InputError

# Numbers 1, 2, 5 and 48 of the 48.
VIDEOS = {"v1": ["hat"], "v2": ["plant"], "v3": ["raccoon", "plant"], "v4": ["person"]}


def expressions(objects=VIDEOS):
    return {
        "videos": {
            video: {
                "expressions": {
                    str(index): {"exp": f"the  {category}", "obj_id": str(index + 1)}
                    for index, category in enumerate(categories)
                },
                "frames": ["00005", "00000"],
            }
            for video, categories in objects.items()
        }
    }


def meta(objects=VIDEOS):
    return {
        "videos": {
            video: {"objects": {str(i + 1): {"category": c} for i, c in enumerate(categories)}}
            for video, categories in objects.items()
        }
    }


def youtube_vis(objects=VIDEOS):
    names = sorted({category for categories in objects.values() for category in categories})
    videos = [
        {"id": i, "file_names": [None, f"{video}/00000.jpg"]}
        for i, video in enumerate(objects, start=1)
    ]
    annotations = [
        {"video_id": i, "category_id": names.index(category)}
        for i, categories in enumerate(objects.values(), start=1)
        for category in categories
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    return {"videos": videos, "annotations": annotations, "categories": categories}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def videos(tmp_path, photo):
    """The layout of the README, with the objects in ``train/meta.json``."""
    write(tmp_path / "meta_expressions/train/meta_expressions.json", expressions())
    write(tmp_path / "train/meta.json", meta())
    for video in VIDEOS:
        for frame in ("00000", "00005", "00010"):
            photo(tmp_path / f"train/JPEGImages/{video}/{frame}.jpg", width=2, height=2)
    return tmp_path


def read(root, name="ref-ytvos", **options):
    return datasets.read(name, root, Options(**options))


def check(root, **options):
    return {part.what: part for part in DATASETS["ref-ytvos"].check(root, Options(**options))}


def usable(parts):
    return all(part.ok or not part.needed for part in parts.values())


def test_there_is_a_sample_for_each_pair_of_frame_and_expression(videos):
    samples = [sample for sample in read(videos) if sample.name.startswith("v3/")]

    assert [(sample.name, sample.captions) for sample in samples] == [
        ("v3/00000.jpg#0", ("the raccoon",)),
        ("v3/00000.jpg#1", ("the plant",)),
        ("v3/00005.jpg#0", ("the raccoon",)),
        ("v3/00005.jpg#1", ("the plant",)),
    ]
    assert samples[0].path == videos / "train/JPEGImages/v3/00000.jpg"
    assert len({sample.name for sample in read(videos)}) == len(read(videos)) == 10


def test_without_a_group_no_video_is_in_two_splits(videos):
    splits = {}
    for sample in read(videos, held_back=0.5):
        splits.setdefault(sample.name.partition("/")[0], set()).add(sample.split)

    assert {len(found) for found in splits.values()} == {1}
    assert {split for found in splits.values() for split in found} == {"train", "test"}


@pytest.mark.parametrize(
    ("group", "held_back"), [(1, {"v1", "v3"}), (2, {"v2", "v3"}), (3, set()), (4, {"v4"})]
)
@pytest.mark.parametrize("file", ["train/meta.json", "train/train.json"])
@pytest.mark.parametrize("form", [meta, youtube_vis])
def test_a_group_tests_every_fourth_category(videos, group, held_back, file, form):
    (videos / "train/meta.json").unlink()
    write(videos / file, form())

    samples = read(videos, group=group)

    assert {s.name.partition("/")[0] for s in samples if s.split == "test"} == held_back
    assert usable(check(videos, group=group))


def test_the_groups_of_the_paper_part_the_48_categories():
    groups = [fold("ref-ytvos", group) for group in (1, 2, 3, 4)]

    assert len(CATEGORIES["ref-ytvos"]) == 48
    assert [len(group) for group in groups] == [12, 12, 12, 12]
    assert frozenset().union(*groups) == set(CATEGORIES["ref-ytvos"])
    assert {"hat", "raccoon", "crocodile"} <= groups[0]
    assert [fold("ref-sailvos", group) for group in (1, 2, 3)] == [{"dog"}, {"car"}, {"person"}]


@pytest.mark.parametrize(
    ("name", "group"), [("ref-ytvos", 0), ("ref-ytvos", 5), ("ref-sailvos", 4)]
)
def test_a_group_that_is_not_there_is_refused(videos, name, group):
    with pytest.raises(InputError, match=f"{name} has no group {group}") as refused:
        read(videos, name, group=group)

    assert "groups are 1 to" in refused.value.hint


def test_a_group_needs_the_categories_and_nothing_else_does(videos):
    (videos / "train/meta.json").unlink()

    assert read(videos)
    assert usable(check(videos))
    with pytest.raises(InputError, match=r"meta\.json is missing"):
        read(videos, group=1)
    assert not usable(check(videos, group=1))


def test_the_layout_of_the_papers_code_is_read(tmp_path, photo):
    write(tmp_path / "meta_expressions.json", expressions({"v1": ["dog"], "v2": ["car"]}))
    write(tmp_path / "meta.json", meta({"v1": ["dog"], "v2": ["car"]}))
    for video in ("v1", "v2"):
        for frame in ("00000", "00005"):
            photo(tmp_path / f"Images/{video}/{frame}.bmp", width=2, height=2)

    samples = read(tmp_path, "ref-sailvos", group=2)

    assert [(sample.name, sample.split) for sample in samples] == [
        ("v1/00000.bmp#0", "train"),
        ("v1/00005.bmp#0", "train"),
        ("v2/00000.bmp#0", "test"),
        ("v2/00005.bmp#0", "test"),
    ]


def test_the_folder_above_may_be_given(videos, tmp_path_factory):
    above = tmp_path_factory.mktemp("data")
    (above / "Mini-Ref-YouTube-VOS").symlink_to(videos)
    (above / "Mini-Ref-SAIL-VOS").mkdir()

    assert [s.name for s in read(above)] == [s.name for s in read(videos)]
    with pytest.raises(InputError, match="Mini-Ref-SAIL-VOS"):
        read(above, "ref-sailvos")

    (above / "ref-youtube-vos").mkdir()
    with pytest.raises(InputError, match="holds both"):
        read(above)


@pytest.mark.parametrize(
    ("video", "named"),
    [
        ({"expressions": {}, "frames": ["00000", "gone", "lost"]}, "2 of the 3 frames .*'gone'"),
        ({"expressions": {}, "frames": ["../v2/00000"]}, "1 of the 1 frames"),
        ({"expressions": {}, "frames": [0]}, "frames of the video v1"),
        ({"expressions": {}, "frames": {}}, "must be a list"),
        ({"expressions": []}, "must be an object"),
        ({"expressions": {"0": {"exp": 1}}, "frames": []}, "must be a text"),
        ({"expressions": {"0": "a"}, "frames": []}, "must be an object"),
        ([], "the video v1"),
        ({"expressions": {}, "frames": []}, "no frame with an expression"),
    ],
)
def test_malformed_videos_are_refused(videos, video, named):
    path = videos / "meta_expressions/train/meta_expressions.json"
    write(path, {"videos": {"v1": video}})

    with pytest.raises(InputError, match=named):
        read(videos)


@pytest.mark.parametrize("video", ["gone", "n" * 300])
def test_a_video_that_is_not_there_is_named(videos, video):
    path = videos / "meta_expressions/train/meta_expressions.json"
    write(path, expressions({video: ["hat"]}))

    with pytest.raises(InputError, match=video):
        read(videos)
    assert not usable(check(videos))


def test_other_files_beside_the_frames_do_no_harm(videos):
    before = read(videos)
    (videos / "train/JPEGImages/v1/00000.txt").touch()
    (videos / "train/JPEGImages/v1/00000.png").touch()

    assert read(videos) == before


@pytest.mark.parametrize("video", ["..", "../train/JPEGImages/v1", "/etc", ".", "a\0"])
def test_a_video_never_leads_out_of_the_picture_folder(videos, video):
    path = videos / "meta_expressions/train/meta_expressions.json"
    write(path, expressions({video: ["hat"]}))

    with pytest.raises(InputError, match="no name of a file"):
        read(videos)
    assert not usable(check(videos))


@pytest.mark.parametrize("content", [{}, {"videos": []}, {"videos": {}}])
def test_expressions_without_videos_are_refused(videos, content):
    write(videos / "meta_expressions/train/meta_expressions.json", content)

    with pytest.raises(InputError, match="videos"):
        read(videos)
    assert not usable(check(videos))


def test_missing_frames_are_told(videos):
    for path in sorted((videos / "train/JPEGImages").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (videos / "train/JPEGImages").rmdir()

    with pytest.raises(InputError, match="JPEGImages is missing"):
        read(videos)
    assert not check(videos)["frames"].ok


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"videos": {"v1": {"objects": {}}}}, "no category of an object in 'v1'"),
        ({"videos": {"v1": []}}, "must be an object"),
        ({"videos": {"v1": {"objects": {"1": {}}}}}, "category"),
        ({"videos": 5}, "must be a list"),
        ({"videos": [{"file_names": []}], "categories": [], "annotations": []}, "id is None"),
        (youtube_vis() | {"categories": []}, "is listed"),
        (youtube_vis() | {"annotations": [{"video_id": 9, "category_id": 0}]}, "is listed"),
    ],
)
def test_malformed_categories_are_refused_where_a_group_needs_them(videos, content, named):
    write(videos / "train/meta.json", content)

    with pytest.raises(InputError, match=named):
        read(videos, group=1)
    assert not usable(check(videos, group=1))
    assert read(videos)
    assert usable(check(videos))


def test_there_is_nothing_to_prepare(videos):
    assert DATASETS["ref-ytvos"].prepare(videos, Options()) == []
