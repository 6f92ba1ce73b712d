"""CelebA-HQ in the layouts it is found in, and a split where it has none."""

import json
import pickle

import pytest

from clipsr_cli import datasets
from clipsr_cli.datasets import DATASETS, Options
from clipsr_cli.errors import InputError


@pytest.fixture
def faces(photo):
    """Writes pictures and captions: ``faces(root, "image", "text")``."""

    def write(root, pictures, texts, count=8):
        for index in range(count):
            photo(root / pictures / f"{index}.jpg", width=2, height=2)
            text = root / texts / f"{index}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(f"face {index}\nsmiling {index}\n")
        return root

    return write


def write_lists(root, train, test):
    for split, names in (("train", train), ("test", test)):
        path = root / split / "filenames.pickle"
        path.parent.mkdir(parents=True)
        path.write_bytes(pickle.dumps(names))


def read(root, **options):
    return datasets.read("celeba", root, Options(**options))


def check(root):
    return {part.what: part for part in DATASETS["celeba"].check(root, Options())}


def usable(parts):
    return all(part.ok or not part.needed for part in parts.values())


@pytest.mark.parametrize("pictures", ["image", "images", "CelebA-HQ-img", "image/images"])
@pytest.mark.parametrize("texts", ["text", "celeba-caption", "text/celeba-caption"])
@pytest.mark.parametrize("home", ["", "CelebA", "multi-modal-celeba"])
def test_every_layout_is_read(tmp_path, faces, caplog, pictures, texts, home):
    faces(tmp_path / home, pictures, texts, count=2)

    samples = read(tmp_path)

    assert [(s.name, s.captions) for s in samples] == [
        ("0.jpg", ("face 0", "smiling 0")),
        ("1.jpg", ("face 1", "smiling 1")),
    ]
    assert all(sample.path == tmp_path / home / pictures / sample.name for sample in samples)
    assert not caplog.records


def test_pickled_lists_split_and_leave_out_what_they_do_not_name(tmp_path, faces):
    faces(tmp_path, "image", "text", count=4)
    write_lists(tmp_path, ["0", "3"], ["1"])

    assert {s.name: s.split for s in read(tmp_path)} == {
        "0.jpg": "train",
        "3.jpg": "train",
        "1.jpg": "test",
    }
    assert check(tmp_path)["split"].found == (
        "2 train, 1 test, from filenames.pickle; 1 in no list are left out"
    )
    assert DATASETS["celeba"].prepare(tmp_path, Options()) == []


@pytest.mark.parametrize(
    ("train", "test", "named"),
    [(["0"], ["0"], "both"), (["0", "../x"], ["1"], r"'\.\./x'"), ([0], ["1"], "filenames.pickle")],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, faces, train, test, named):
    faces(tmp_path, "image", "text", count=2)
    write_lists(tmp_path, train, test)

    with pytest.raises(InputError, match=named):
        read(tmp_path)
    assert not usable(check(tmp_path))


def test_preparing_fixes_the_split_for_good(tmp_path, faces):
    faces(tmp_path / "CelebA", "image", "text")
    before = read(tmp_path, held_back=0.5)

    (written,) = DATASETS["celeba"].prepare(tmp_path, Options(held_back=0.5))

    assert written == tmp_path / "CelebA/splits.json"
    assert read(tmp_path, held_back=0.01) == before
    assert check(tmp_path)["split"].ok
    assert DATASETS["celeba"].prepare(tmp_path, Options(held_back=0.01)) == []


def test_lists_of_ones_own_count_and_the_pickled_ones_count_more(tmp_path, faces):
    faces(tmp_path, "image", "text", count=3)
    lists = {"train": ["0.jpg"], "val": ["1"], "test": ["2.jpg"]}
    (tmp_path / "splits.json").write_text("\ufeff" + json.dumps(lists), encoding="utf-8")
    assert [s.split for s in read(tmp_path)] == ["train", "val", "test"]

    write_lists(tmp_path, ["0", "1"], ["2"])

    assert [s.split for s in read(tmp_path)] == ["train", "train", "test"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"dev": []}', "'dev'"),
        ('{"train": "0"}', "must be a list"),
        ('{"train": [0]}', "must be a text"),
        ('{"train": ["0"], "test": ["0.jpg"]}', "both in train and in test"),
        ('{"test": ["9"]}', "'9'"),
        ("[", "line 1"),
    ],
)
def test_broken_lists_are_refused(tmp_path, faces, content, named):
    faces(tmp_path, "image", "text", count=1)
    (tmp_path / "splits.json").write_text(content)

    with pytest.raises(InputError, match=named):
        read(tmp_path)
    assert not usable(check(tmp_path))


def test_a_face_without_a_caption_is_read_and_told(tmp_path, faces):
    faces(tmp_path, "image", "text", count=2)
    (tmp_path / "text/1.txt").unlink()

    assert [s.captions for s in read(tmp_path)] == [("face 0", "smiling 0"), ()]
    part = check(tmp_path)["captions"]
    assert part.found == "1 of 2 photos have captions"
    assert (part.ok, part.needed) == (False, False)


def test_a_split_by_hash_says_how_to_fix_it(tmp_path, faces):
    faces(tmp_path, "image", "text", count=3)

    part = check(tmp_path)["split"]

    assert "a hash of the name" in part.found
    assert f"clipsr data prepare celeba --data-root {tmp_path}" in part.advice
