"""A folder of pictures becomes samples, from metadata, from sidecars or from nothing."""

import json
import os
import sys

import pytest

from clipsr_cli import datasets
from clipsr_cli.datasets import DATASETS, Options
from clipsr_cli.errors import InputError


def write(root, rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (root / "metadata.jsonl").write_text("\n".join(lines))


def read(root, **options):
    return datasets.read("folder", root, Options(**options))


def test_samples_carry_their_captions(tmp_path, photo):
    for name in ("a.png", "b.png", "c.png"):
        photo(tmp_path / name)
    rows = [
        {"file_name": "a.png", "text": ["one", "two", " "]},
        {"file_name": "b.png", "text": "three"},
        {"file_name": "c.png"},
    ]
    write(tmp_path, rows)

    samples = read(tmp_path)

    assert [sample.captions for sample in samples] == [("one", "two"), ("three",), ()]
    assert [sample.name for sample in samples] == ["a.png", "b.png", "c.png"]
    assert [sample.path for sample in samples] == [tmp_path / s.name for s in samples]
    assert {sample.box for sample in samples} == {None}


def test_a_table_gives_captions_and_splits(tmp_path, photo):
    for name in ("a.png", "in/b.png", "c.png"):
        photo(tmp_path / name)
    (tmp_path / "metadata.csv").write_text(
        'split,file_name,text\ntest,a.png,"one, two"\nval,in\\b.png,\n,c.png,three\n'
    )

    samples = read(tmp_path)

    assert [(s.name, s.captions, s.split) for s in samples] == [
        ("a.png", ("one, two",), "test"),
        ("in/b.png", (), "val"),
        ("c.png", ("three",), "train"),
    ]


def test_without_metadata_captions_are_beside_the_pictures(tmp_path, photo):
    for name in ("both.png", "caption.jpg", "in/text.webp", "plain.bmp"):
        photo(tmp_path / name)
    (tmp_path / "both.txt").write_text("from\ntxt")
    (tmp_path / "both.caption").write_text("from caption")
    (tmp_path / "caption.caption").write_text("from caption")
    (tmp_path / "in" / "text.txt").write_text("deep")

    samples = read(tmp_path)

    assert {sample.name: sample.captions for sample in samples} == {
        "both.png": ("from txt",),
        "caption.jpg": ("from caption",),
        "in/text.webp": ("deep",),
        "plain.bmp": (),
    }


def test_json_lines_come_before_the_table_and_the_sidecars(tmp_path, photo):
    photo(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("sidecar")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,table\n")
    assert read(tmp_path)[0].captions == ("table",)
    write(tmp_path, [{"file_name": "a.png", "text": "lines"}])
    assert read(tmp_path)[0].captions == ("lines",)


def test_a_pictures_split_does_not_depend_on_the_others(tmp_path, photo):
    names = [f"{i}.png" for i in range(60)]
    for name in names:
        photo(tmp_path / name, width=2, height=2)
    write(tmp_path, [{"file_name": name} for name in names])
    all_of_them = {s.name: s.split for s in read(tmp_path, held_back=0.3)}
    write(tmp_path, [{"file_name": name} for name in names[::3]])

    some = {s.name: s.split for s in read(tmp_path, held_back=0.3)}

    assert some == {name: all_of_them[name] for name in names[::3]}
    assert 5 < list(all_of_them.values()).count("test") < 35


def test_a_rows_own_split_wins_and_no_other_picture_is_forced_into_test(tmp_path, photo):
    for name in ("a.png", "b.png", "c.png"):
        photo(tmp_path / name, width=2, height=2)
    rows = [{"file_name": "a.png", "split": "test"}, {"file_name": "b.png"}, {"file_name": "c.png"}]
    write(tmp_path, rows)

    assert [s.split for s in read(tmp_path, held_back=0)] == ["test", "train", "train"]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_small_folder_holds_a_picture_back_too(tmp_path, photo, count):
    for index in range(count):
        photo(tmp_path / f"{index}.png", width=2, height=2)

    assert [s.split for s in read(tmp_path, held_back=0)].count("test") == 1


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["{"], "line 1"),
        ([{"text": "no name"}], "line 1"),
        ([{"file_name": "gone.png"}], r"line 1: .*gone\.png"),
        (["", {"file_name": 5}], "line 2"),
        ([{"file_name": "a.png", "text": None}], "line 1"),
        ([{"file_name": "a.png", "text": [1]}], "line 1"),
        ([{"file_name": "a.png", "split": "dev"}], "line 1: the split is 'dev'"),
        ([{"file_name": "a.png", "split": ["train"]}], "line 1: the split"),
        ([{"file_name": "a.png"}, {"file_name": "./a.png"}], r"'a\.png' comes twice"),
        ([{"file_name": "../secret.png"}], r"line 1: '\.\./secret\.png'"),
        ([{"file_name": "a\0.png"}], "line 1"),
        ([{"file_name": "n" * 300}], "line 1"),
        ([{"file_name": "\ud800.png"}], "line 1"),
        ([], "no pictures"),
    ],
)
def test_broken_metadata_are_refused_with_the_line(tmp_path, photo, rows, named):
    root = tmp_path / "root"
    photo(tmp_path / "secret.png")
    photo(root / "a.png")
    write(root, rows)

    with pytest.raises(InputError, match=named):
        read(root)
    (part,) = DATASETS["folder"].check(root, Options())

    assert (part.ok, part.needed) == (False, True)


def test_an_absolute_name_is_refused_though_the_picture_is_there(tmp_path, photo):
    path = photo(tmp_path / "a.png")
    write(tmp_path, [{"file_name": str(path)}])

    with pytest.raises(InputError, match="line 1"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("file_name,text\ngone.png,a\n", r"line 2: .*gone\.png"),
        ("file_name,text,split\na.png,a,dev\n", "line 2: the split is 'dev'"),
        ("file_name,text\n../a.png,a\n", "line 2"),
        ("name,text\na.png,a\n", "file_name"),
    ],
)
def test_a_broken_table_is_refused(tmp_path, photo, table, named):
    photo(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text(table)

    with pytest.raises(InputError, match=named):
        read(tmp_path)


def test_marks_blank_lines_and_line_separators_are_no_trouble(tmp_path, photo):
    photo(tmp_path / "a.png")
    text = json.dumps({"file_name": "a.png", "text": "one\u2028two"}, ensure_ascii=False)
    (tmp_path / "metadata.jsonl").write_text(f"\ufeff\n{text}\n\n", encoding="utf-8")

    (sample,) = read(tmp_path)

    assert sample.captions == ("one\u2028two",)


def test_preparing_writes_down_what_was_read(tmp_path, photo):
    for index in range(20):
        photo(tmp_path / f"in/{index}.png", width=2, height=2)
        (tmp_path / f"in/{index}.txt").write_text(f"größe {index}")
    options = Options(held_back=0.4)
    before = datasets.read("folder", tmp_path, options)

    written = DATASETS["folder"].prepare(tmp_path, options)

    assert written == [tmp_path / "metadata.jsonl"]
    assert read(tmp_path) == before
    assert "größe 7" in written[0].read_text(encoding="utf-8")
    assert DATASETS["folder"].prepare(tmp_path, options) == []


def test_preparing_leaves_a_table_alone(tmp_path, photo):
    photo(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,one\n")

    assert DATASETS["folder"].prepare(tmp_path, Options()) == []
    assert not (tmp_path / "metadata.jsonl").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf_8_can_be_prepared(tmp_path, photo):
    photo(tmp_path / (os.fsdecode(b"\xff") + ".png"))
    before = read(tmp_path)

    DATASETS["folder"].prepare(tmp_path, Options())

    assert read(tmp_path) == before


def test_what_cannot_be_written_is_said(tmp_path, photo):
    photo(tmp_path / "a.png")
    (tmp_path / ".metadata.jsonl.part").mkdir()

    with pytest.raises(InputError, match=r"Cannot write .*metadata\.jsonl"):
        DATASETS["folder"].prepare(tmp_path, Options())


def test_a_check_counts_photos_captions_and_splits(tmp_path, photo):
    for name in ("a.png", "b.png", "unlisted.png"):
        photo(tmp_path / name, width=2, height=2)
    write(tmp_path, [{"file_name": "a.png", "text": "a"}, {"file_name": "b.png", "split": "val"}])

    photos, texts, split = DATASETS["folder"].check(tmp_path, Options())

    assert photos.found == "2 photos listed in metadata.jsonl, 1 more are not"
    assert texts.found == "1 of 2 photos have captions"
    assert split.found == "1 val, 1 test"
    assert photos.ok
    assert texts.ok
    assert split.ok


def test_pictures_without_captions_are_usable(tmp_path, photo):
    photo(tmp_path / "a.png")

    _, texts, _ = DATASETS["folder"].check(tmp_path, Options())

    assert (texts.ok, texts.needed) == (False, False)
    assert "photo.txt" in texts.advice
