"""Each picture gets the prompt it was meant to have, and files that are wrong are refused."""

from pathlib import Path, PurePosixPath

import pytest

from clipsr_cli.errors import InputError
from clipsr_cli.prompts import Prompt, Prompts, read_manifest, sidecar_extensions


def find(prompts, picture, relative=None):
    return prompts.find(picture, PurePosixPath(relative or picture.name))


@pytest.fixture
def picture(tmp_path):
    """A picture's path with both of its sidecars beside it."""
    (tmp_path / "bird.txt").write_text("from txt\n", encoding="utf-8")
    (tmp_path / "bird.caption").write_text("from caption", encoding="utf-8")
    return tmp_path / "bird.png"


def test_a_manifests_row_comes_before_the_option_before_a_sidecar_before_nothing(picture):
    row = {"bird.png": "from row"}
    for prompts, expected in [
        (Prompts(manifest=row, everywhere="from option"), ("from row", "manifest")),
        (Prompts(manifest={"x.png": "x"}, everywhere="from option"), ("from option", "option")),
        (Prompts(), ("from txt", "sidecar")),
        (Prompts(sidecar_extensions=(".caption", ".txt")), ("from caption", "sidecar")),
        (Prompts(sidecar_extensions=()), ("", "empty")),
    ]:
        assert find(prompts, picture) == Prompt(text=expected[0], source=expected[1])


def test_the_second_sidecar_counts_where_the_first_is_missing(picture):
    picture.with_suffix(".txt").unlink()

    assert find(Prompts(), picture).text == "from caption"


def test_an_empty_prompt_is_a_prompt_too(picture):
    assert find(Prompts(manifest={"bird.png": ""}), picture).source == "manifest"
    assert find(Prompts(everywhere=""), picture) == Prompt(text="", source="option")


def test_a_relative_name_comes_before_a_bare_one():
    prompts = Prompts(manifest={"bird.png": "bare", "a/bird.png": "relative"})

    assert find(prompts, Path("in/a/bird.png"), "a/bird.png").text == "relative"
    assert find(prompts, Path("in/b/bird.png"), "b/bird.png").text == "bare"


def test_sidecars_elsewhere_mirror_the_pictures_tree(tmp_path):
    (tmp_path / "words" / "a").mkdir(parents=True)
    (tmp_path / "words" / "a" / "bïrd 1.txt").write_text("ein Vögel", encoding="utf-8")
    prompts = Prompts(sidecar_folder=tmp_path / "words")

    assert find(prompts, tmp_path / "in" / "a" / "bïrd 1.png", "a/bïrd 1.png").text == "ein Vögel"
    assert find(prompts, tmp_path / "in" / "bïrd 1.png").source == "empty"


def test_a_prompt_is_one_line_wherever_it_comes_from(picture):
    picture.with_suffix(".txt").write_bytes(b"\xef\xbb\xbfa red\r\n\t bird\x0b \n")

    assert find(Prompts(), picture).text == "a red bird"
    assert find(Prompts(everywhere=" a\n  bird "), picture).text == "a bird"


def test_a_long_prompt_is_kept_whole(picture):
    words = " ".join(["bird"] * 50_000)
    picture.with_suffix(".txt").write_text(words)

    assert find(Prompts(), picture).text == words


def test_a_name_too_long_for_its_sidecar_has_none(tmp_path):
    assert find(Prompts(), tmp_path / ("x" * 251 + ".png")).source == "empty"


@pytest.mark.parametrize("content", ["ü".encode("latin-1"), "a bird".encode("utf-16-le")])
def test_a_sidecar_in_another_encoding_is_refused(picture, content):
    picture.with_suffix(".txt").write_bytes(content)

    with pytest.raises(InputError, match=r"bird\.txt is not UTF-8"):
        find(Prompts(), picture)


def test_names_that_fit_no_picture_are_told():
    prompts = Prompts(manifest={"a/x.png": "", "y.png": "", "b/y.png": "", "z.png": ""})

    assert prompts.unused([PurePosixPath("a/x.png"), PurePosixPath("c/y.png")]) == [
        "b/y.png",
        "z.png",
    ]


def manifest(folder, content, name="prompts.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_manifest(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("file_name,text\na.png,a bird\n", {"a.png": "a bird"}),
        ("text,more,file_name\nbird,x,a.png\n", {"a.png": "bird"}),
        ('file_name,text\na.png,"red, ""big"" bird"\n', {"a.png": 'red, "big" bird'}),
        ('file_name,text\na.png,"one\ntwo"\nb.png,x', {"a.png": "one two", "b.png": "x"}),
        ('file_name, text\r\na.png, "x, y"\r\n\r\n', {"a.png": "x, y"}),
        ("file_name,text\na.png,one\u2028two\n", {"a.png": "one two"}),
        ("\ufefffile_name,text\n./a\\ b\\ü.png,x\n", {"a/ b/ü.png": "x"}),
        ("file_name,text\na.png,\n", {"a.png": ""}),
        ("file_name,text\n", {}),
    ],
)
def test_csv_is_read(tmp_path, content, expected):
    assert manifest(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "needs the columns file_name and text; it has: none"),
        ("file_name;text\na.png;x\n", "it has: file_name;text"),
        ("name,text\na.png,x\n", "it has: name, text"),
        ("file_name,text\na.png,a red, small bird\n", "line 2 has more fields than columns"),
        ("file_name,text\n\na.png\n", "line 3: file_name or text is missing"),
        ("text,file_name\nx\n", "line 2: file_name or text is missing"),
        ("file_name,text\n,x\n", "line 2: file_name is empty"),
        ("file_name,text\na.png,x\na.png,y\n", r"line 3: 'a\.png' comes twice"),
        ("file_name,text\na/b.png,x\na\\b.png,y\n", "line 3: .* comes twice"),
        ('file_name,text\na.png,"x\nb.png,y\n', "is not CSV"),
        ('file_name,text\na.png,"big" bird\n', "line 2 is not CSV"),
        ("file_name,text\na.png," + "x" * 200_000, "line 2 is not CSV"),
        (b"file_name,text\na.png,\xff\n", "is not UTF-8"),
    ],
)
def test_csv_that_would_lose_words_is_refused(tmp_path, content, named):
    with pytest.raises(InputError, match=named):
        manifest(tmp_path, content)


@pytest.mark.parametrize("name", ["prompts.jsonl", "PROMPTS.JSONL", "prompts.ndjson"])
def test_json_lines_are_read_and_blank_ones_passed_over(tmp_path, name):
    content = (
        '\ufeff{"file_name": "a.png", "text": "a \\"red\\" bird"}\n\n  \n'
        '{"file_name": "ü/b.png", "text": ["first", "second"], "more": 1}\r\n'
        '{"file_name": "c.png", "text": []}\n'
        '{"file_name": "d.png", "text": "one\u2028two\x85three"}'
    )

    assert manifest(tmp_path, content, name) == {
        "a.png": 'a "red" bird',
        "ü/b.png": "first",
        "c.png": "",
        "d.png": "one two three",
    }


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "line 2 is not a JSON object"),
        ("[1]", "line 2 is not a JSON object"),
        ('{"text": "x"}', "line 2 is not a JSON object"),
        ('{"file_name": "b.png"}', "line 2: file_name and text must be strings"),
        ('{"file_name": "b.png", "text": null}', "line 2: file_name and text must be strings"),
        ('{"file_name": 3, "text": "x"}', "line 2: file_name and text must be strings"),
        ('{"file_name": "b.png", "text": [3]}', "line 2: file_name and text must be strings"),
        ('{"file_name": "", "text": "x"}', "line 2: file_name is empty"),
        ('{"file_name": "./a.png", "text": "x"}', "line 2: .* comes twice"),
    ],
)
def test_json_lines_that_are_wrong_are_refused(tmp_path, line, named):
    content = '{"file_name": "a.png", "text": "x"}\n' + line

    with pytest.raises(InputError, match=named):
        manifest(tmp_path, content, "prompts.jsonl")


def test_a_prompt_file_of_another_kind_or_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"prompts\.xlsx is no prompt file") as caught:
        manifest(tmp_path, b"PK\xff", "prompts.xlsx")
    assert ".csv or .jsonl" in caught.value.hint
    with pytest.raises(InputError, match=r"Cannot read .*none\.csv: No such file"):
        read_manifest(tmp_path / "none.csv")


def test_extensions_are_taken_as_typed():
    assert sidecar_extensions(["txt", ".caption, .cap.txt"]) == (".txt", ".caption", ".cap.txt")


@pytest.mark.parametrize("name", ["", ".", "txt,", "a/b", "a\\b"])
def test_what_is_no_extension_is_refused(name):
    with pytest.raises(InputError, match="is no file extension"):
        sidecar_extensions([name])


def test_a_sidecar_file_of_gigabytes_is_refused(tmp_path):
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(3 * 2**30)

    with pytest.raises(InputError, match=r"a\.txt has 3,221,225,472 bytes"):
        Prompts().find(tmp_path / "a.png", PurePosixPath("a.png"))
