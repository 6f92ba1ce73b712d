"""COCO's captions: two splits of one year, as many as are there."""

import json

import pytest

from clipsr_cli import datasets
from clipsr_cli.datasets import DATASETS, Options
from clipsr_cli.errors import InputError

CAPTIONS = {1: ["a dog  runs", "two dogs"], 2: []}


@pytest.fixture
def half(tmp_path, photo):
    """Writes one split: ``half("train2017")``."""

    def write(name, pictures=None):
        names = {number: f"{name}_{number:012}.jpg" for number in CAPTIONS}
        for file in names.values():
            photo(tmp_path / (pictures or name) / file, width=2, height=2)
        images = [{"id": number, "file_name": file} for number, file in names.items()]
        annotations = [
            {"id": 7, "image_id": number, "caption": caption}
            for number, captions in CAPTIONS.items()
            for caption in captions
        ]
        path = tmp_path / f"annotations/captions_{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
        return path

    return write


def read(root):
    return datasets.read("coco", root)


def check(root):
    return DATASETS["coco"].check(root, Options())


def usable(root):
    return all(part.ok or not part.needed for part in check(root))


@pytest.mark.parametrize("year", ["2014", "2017"])
@pytest.mark.parametrize("where", ["", "images/"])
def test_both_splits_are_read(tmp_path, half, year, where):
    for name in (f"train{year}", f"val{year}"):
        half(name, where + name)

    samples = read(tmp_path)

    assert [(s.name, s.split, s.captions) for s in samples] == [
        (f"train{year}/train{year}_000000000001.jpg", "train", ("a dog runs", "two dogs")),
        (f"train{year}/train{year}_000000000002.jpg", "train", ()),
        (f"val{year}/val{year}_000000000001.jpg", "test", ("a dog runs", "two dogs")),
        (f"val{year}/val{year}_000000000002.jpg", "test", ()),
    ]
    assert all(sample.path.is_file() for sample in samples)
    assert [part.ok for part in check(tmp_path)] == [True, True]
    assert DATASETS["coco"].prepare(tmp_path, Options()) == []


@pytest.mark.parametrize("lost", ["pictures", "annotations"])
def test_a_split_that_is_not_there_is_left_out(tmp_path, half, lost):
    half("val2017")
    if lost == "pictures":
        half("train2017", "elsewhere")
    else:
        (tmp_path / "train2017").mkdir()

    assert {sample.split for sample in read(tmp_path)} == {"test"}
    train, test = check(tmp_path)
    assert (train.ok, train.needed, test.ok) == (False, False, True)
    assert "train2017" in train.found
    assert "train2017.zip" in train.advice


def test_years_are_never_mixed(tmp_path, half):
    half("val2014")
    half("train2017")
    assert {sample.name.partition("/")[0] for sample in read(tmp_path)} == {"train2017"}
    half("train2014")
    assert {s.name.partition("/")[0] for s in read(tmp_path)} == {"train2014", "val2014"}


def test_one_missing_picture_is_refused(tmp_path, half):
    half("train2017")
    half("val2017")
    (tmp_path / "train2017/train2017_000000000002.jpg").unlink()

    with pytest.raises(InputError, match=r"1 of the 2 .*train2017_000000000002\.jpg"):
        read(tmp_path)
    assert not usable(tmp_path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({}, "images"),
        ({"images": [], "annotations": []}, "no pictures"),
        ({"images": [3], "annotations": []}, "must be an object"),
        ({"images": [{"id": 1}], "annotations": []}, "file_name"),
        ({"images": [{"id": [1], "file_name": "a"}], "annotations": []}, "id is"),
        ({"images": [{"id": 1, "file_name": "../a.jpg"}], "annotations": []}, r"'\.\./a\.jpg'"),
        ({"images": [{"id": 1, "file_name": "a\0"}], "annotations": []}, "no name of a file"),
        ({"images": [{"id": i, "file_name": "a"} for i in (1, 2)], "annotations": []}, "twice"),
        ({"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1}]}, "caption"),
        ({"images": [{"id": 1, "file_name": "a"}], "annotations": [{"caption": "a"}]}, "image_id"),
    ],
)
def test_malformed_annotations_are_refused(tmp_path, half, content, named):
    half("val2017").write_text(json.dumps(content))

    with pytest.raises(InputError, match=named):
        read(tmp_path)
    assert not usable(tmp_path)


def test_captions_of_other_pictures_do_no_harm(tmp_path, half):
    path = half("val2017")
    content = json.loads(path.read_text())
    content["annotations"].append({"image_id": 99, "caption": "elsewhere"})
    path.write_text(json.dumps(content))

    assert len(read(tmp_path)) == 2
