"""What all datasets share: their names, their errors, and splits that never move."""

import os
import pickle
import sys
import tracemalloc
from pathlib import Path

import pytest

from clipsr_cli import datasets
from clipsr_cli.datasets import DATASETS, Options
from clipsr_cli.datasets.files import captions, inside, read_json, read_names, write_text
from clipsr_cli.datasets.splits import by_hash, by_lists
from clipsr_cli.encoders import beside
from clipsr_cli.errors import InputError, UnknownNameError

NAMES = ["folder", "cub", "celeba", "coco", "ref-ytvos", "ref-sailvos"]


class Runs:
    """Pickles to a call of ``Path.touch``, as an attacker's file would to something worse."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_the_datasets_are_known_by_name():
    assert list(DATASETS) == NAMES


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="cbu") as refused:
        datasets.read("cbu", tmp_path)

    assert "cub" in refused.value.hint


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["nowhere", "a-file", "empty", "n" * 300, "a\0b"])
def test_what_is_not_there_is_refused_and_checked_without_a_crash(tmp_path, name, place):
    (tmp_path / "a-file").touch()
    (tmp_path / "empty").mkdir()
    root = tmp_path / place

    with pytest.raises(InputError) as refused:
        datasets.read(name, root)
    parts = DATASETS[name].check(root, Options())

    assert place in str(refused.value) or place == "a\0b"
    assert refused.value.hint
    assert any(part.needed and not part.ok for part in parts)
    assert all(bool(part.advice) != part.ok for part in parts)


def test_an_error_says_how_to_see_what_is_missing(tmp_path):
    with pytest.raises(InputError) as refused:
        datasets.read("cub", tmp_path)

    assert f"clipsr data check cub --data-root {tmp_path}" in refused.value.hint


@pytest.mark.parametrize("name", ["folder", "cub", "celeba", "coco"])
def test_a_group_of_a_dataset_without_groups_is_refused(tmp_path, name):
    for act in (DATASETS[name].read, DATASETS[name].check, DATASETS[name].prepare):
        with pytest.raises(InputError, match=f"{name} has no groups"):
            act(tmp_path, Options(group=1))


@pytest.mark.parametrize("share", [-0.1, 1, 7, float("nan")])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(InputError, match="held_back"):
        Options(held_back=share)


def test_the_split_by_hash_is_the_same_in_every_version():
    splits = by_hash([f"{index}.png" for index in range(30)], 0.1)

    held_back = [name for name, split in splits.items() if split == "test"]
    assert held_back == ["0.png", "6.png", "8.png"]


def test_a_name_that_is_not_utf_8_has_a_split_too():
    assert by_hash(["\udcff.png"], 0.5) == {"\udcff.png": "test"}


def test_lists_name_pictures_with_extension_or_without():
    lists = {"train": ["a/one", "two.v2"], "test": ["three.png"]}

    splits = by_lists(lists, ["a/one.jpg", "two.v2.jpg", "three.png", "four.jpg"], Path("lists"))

    assert splits == {"a/one.jpg": "train", "two.v2.jpg": "train", "three.png": "test"}


@pytest.mark.parametrize(
    ("lists", "named"),
    [({"train": ["a"], "test": ["a.jpg"]}, "both in train and in test"), ({"test": ["b"]}, "'b'")],
)
def test_lists_that_overlap_or_name_strangers_are_refused(lists, named):
    with pytest.raises(InputError, match=named):
        by_lists(lists, ["a.jpg"], Path("lists"))


def test_a_pickle_of_python_2_is_read(tmp_path):
    path = tmp_path / "filenames.pickle"
    path.write_bytes(b"(lp0\nS'001.A/a_1'\np1\naV002.B/b_2\np2\na.")

    assert read_names(path) == ["001.A/a_1", "002.B/b_2"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol):
    path, target = tmp_path / "filenames.pickle", tmp_path / "ran"
    path.write_bytes(pickle.dumps(["a", Runs(target)], protocol=protocol))

    with pytest.raises(InputError, match=r"filenames\.pickle"):
        read_names(path)

    assert not target.exists()


def test_a_shell_command_in_a_pickle_is_refused_and_not_run(tmp_path):
    path, target = tmp_path / "filenames.pickle", tmp_path / "ran"
    path.write_bytes(b"cos\nsystem\n(S'touch " + bytes(target) + b"'\ntR.")

    with pytest.raises(InputError, match=r"os\.system|posix\.system"):
        read_names(path)

    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps({"a": 1}),
        pickle.dumps(["a", 1]),
        pickle.dumps(("a",)),
        b"\x80\x04r\xff\xff\xff\xff.",
        b"(" * 100_000 + b".",
    ],
    ids=["empty", "text", "dict", "number", "tuple", "memo", "marks"],
)
def test_a_pickle_of_anything_else_is_refused(tmp_path, content):
    path = tmp_path / "filenames.pickle"
    path.write_bytes(content)

    with pytest.raises(InputError, match=r"filenames\.pickle"):
        read_names(path)


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "", ".", "a\0b", "a/.."])
def test_a_name_never_leads_out_of_its_folder(tmp_path, name):
    with pytest.raises(InputError, match="list, line 3"):
        inside(tmp_path, name, "list, line 3")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"a":\n 1,}', "line 2"),
        ("[" * 100_000, "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ("[1]", "an object"),
        ("null", "an object"),
        ("", "line 1"),
        ('{"a": "\0"}', "UTF-8"),
    ],
    ids=["comma", "deep", "digits", "list", "null", "empty", "nul"],
)
def test_absurd_json_is_refused(tmp_path, content, named):
    path = tmp_path / "a.json"
    path.write_text(content)

    with pytest.raises(InputError, match=named):
        read_json(path)


def test_captions_are_lines_of_words(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa red\tbird \r\n\n  \n\ufffd\na\ufffd\ufffdblue  bird".encode())

    assert captions(path) == ("a red bird", "a blue bird")


def test_a_text_is_never_written_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "out" / "a.txt"
    path.parent.mkdir()
    beside(path).symlink_to(victim)

    write_text(path, "a bird\n")

    assert victim.read_text() == "precious"
    assert (path.read_text(), path.is_symlink()) == ("a bird\n", False)


def test_a_text_with_the_longest_name_that_a_disk_takes_is_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".txt")

    write_text(path, "a bird\n")

    assert path.read_text() == "a bird\n"


def test_a_pickle_cannot_have_the_memory_filled(tmp_path):
    """Nine bytes that have the C unpickler make room for four billion names."""
    path = tmp_path / "filenames.pickle"
    path.write_bytes(bytes.fromhex("80045d72ffffff072e"))

    tracemalloc.start()
    assert read_names(path) == []
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "endless.txt").symlink_to("/dev/zero")

    for name in ("pipe.txt", "endless.txt"):
        with pytest.raises(InputError, match="is no file"):
            captions(tmp_path / name)
