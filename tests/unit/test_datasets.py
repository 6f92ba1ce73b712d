"""A folder with metadata.jsonl becomes samples whose split never moves."""

import json

import pytest

from clipsr_cli.datasets import folder
from clipsr_cli.errors import InputError


def write(root, rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (root / "metadata.jsonl").write_text("\n".join(lines))


def test_samples_carry_their_captions(tmp_path, photo):
    for name in ("a.png", "b.png", "c.png"):
        photo(tmp_path / name)
    write(
        tmp_path,
        [
            {"file_name": "a.png", "text": ["one", "two"]},
            {"file_name": "b.png", "text": "three"},
            {"file_name": "c.png"},
        ],
    )

    assert [s.captions for s in folder(tmp_path)] == [("one", "two"), ("three",), ()]


def test_a_pictures_split_does_not_depend_on_the_others(tmp_path, photo):
    names = [f"{i}.png" for i in range(60)]
    for name in names:
        photo(tmp_path / name, width=2, height=2)
    write(tmp_path, [{"file_name": name} for name in names])
    all_of_them = {s.path.name: s.split for s in folder(tmp_path, held_back=0.3)}
    write(tmp_path, [{"file_name": name} for name in names[::3]])

    some = {s.path.name: s.split for s in folder(tmp_path, held_back=0.3)}

    assert some == {name: all_of_them[name] for name in names[::3]}
    assert 5 < list(all_of_them.values()).count("val") < 35


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["{"], "line 1"),
        ([{"text": "no name"}], "line 1"),
        ([{"file_name": "gone.png"}], r"gone\.png"),
        (["", {"file_name": 5}], "line 2"),
        ([{"file_name": "a.png", "text": None}], "line 1"),
        ([{"file_name": "a.png", "text": [1]}], "line 1"),
    ],
)
def test_broken_metadata_are_refused_with_the_line(tmp_path, photo, rows, named):
    photo(tmp_path / "a.png")
    write(tmp_path, rows)
    with pytest.raises(InputError, match=named):
        folder(tmp_path)


def test_marks_blank_lines_and_line_separators_are_no_trouble(tmp_path, photo):
    photo(tmp_path / "a.png")
    text = json.dumps({"file_name": "a.png", "text": "one\u2028two"}, ensure_ascii=False)
    (tmp_path / "metadata.jsonl").write_text(f"\ufeff\n{text}\n\n", encoding="utf-8")

    (sample,) = folder(tmp_path)

    assert sample.captions == ("one\u2028two",)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_small_folder_holds_a_picture_back_too(tmp_path, photo, count):
    for index in range(count):
        photo(tmp_path / f"{index}.png", width=2, height=2)
    write(tmp_path, [{"file_name": f"{index}.png"} for index in range(count)])

    assert "val" in {sample.split for sample in folder(tmp_path)}


def test_missing_metadata_are_named(tmp_path):
    with pytest.raises(InputError, match=r"metadata\.jsonl"):
        folder(tmp_path)
