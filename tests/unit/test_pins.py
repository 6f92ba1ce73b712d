"""Rows of one's own hold what is in the cache, and nothing else in the file changes."""

import tomllib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from clipsr_cli import hub, pins, weights
from clipsr_cli.errors import InputError, UnknownNameError, WeightsError
from clipsr_cli.weights import Entry

FILES = {"a.safetensors": save({"a": torch.zeros(10)}), "a.json": b'{"embed_dim": 8}'}
OWN = """# My weights.
[mine] # the best
kind = "clip"
description = "mine"
licence = "MIT"
architecture = "hf://owner/repo/a.json"
files = ["hf://owner/repo/a.safetensors"]

# About the next one.
[other]
kind = "generator"
description = "other"
licence = "MIT"
scales = [4, 8]
files = [
  "builtin:clipsr-mini-x4.safetensors",
  "hf://owner/repo/a.safetensors",
]
"""


@pytest.fixture
def own(tmp_path, hub_server, monkeypatch):
    hub_server.repository("owner/repo", FILES)
    path = tmp_path / "deep" / "weights.toml"
    monkeypatch.setenv("CLIPSR_WEIGHTS", str(path))
    return path


@pytest.fixture
def rows(own):
    own.parent.mkdir()
    own.write_text(OWN)
    return own


def test_commit_hash_and_size_are_written_and_all_else_stays(rows, hub_server):
    list(weights.pull("mine"))

    assert pins.pin(["mine"]) == rows

    text = rows.read_text()
    assert text.startswith("# My weights.\n[mine]\n")
    assert text.endswith(OWN[OWN.index("# About") :])
    row = weights.registry()["mine"]
    ((commit, _),) = hub_server.repositories["owner/repo"].commits
    assert row.files == (f"hf://owner/repo@{commit}/a.safetensors",)
    assert row.architecture == f"hf://owner/repo@{commit}/a.json"
    assert row.size == (len(FILES["a.safetensors"]),)
    assert row.sha256 == (hub.sha256(row.paths()[0]),)
    assert weights.find_clip("mine")[1] == row.paths()[0]


def test_files_of_the_package_in_a_row_are_hashed_too(rows):
    list(weights.pull("other"))

    pins.pin(["other"])

    row = weights.registry()["other"]
    assert row.files[0] == "builtin:clipsr-mini-x4.safetensors"
    assert row.files[1].startswith("hf://owner/repo@")
    assert all(len(digest) == 64 for digest in row.sha256)


def test_a_row_of_the_package_comes_into_a_new_file(own, hub_server, monkeypatch, tmp_path):
    (tmp_path / "packaged.toml").write_text(OWN)
    packaged = weights.read_registry(tmp_path / "packaged.toml")
    monkeypatch.setattr(pins, "packaged", lambda: packaged)
    hub.find(hub.Reference.parse("hf://owner/repo/a.safetensors"))
    hub.find(hub.Reference.parse("hf://owner/repo/a.json"))

    pins.pin(["mine"])

    assert list(tomllib.loads(own.read_text())) == ["mine"]
    assert [path.name for path in own.parent.iterdir()] == ["weights.toml"]


def test_a_file_put_by_hand_has_a_hash_and_no_commit(rows):
    for name, content in FILES.items():
        path = hub.place(hub.Reference("owner/repo", name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    pins.pin(["mine"])

    row = weights.registry()["mine"]
    assert row.files == ("hf://owner/repo/a.safetensors",)
    assert len(row.sha256[0]) == 64


def test_without_a_file_of_ones_own_it_is_said(monkeypatch):
    monkeypatch.delenv("CLIPSR_WEIGHTS", raising=False)

    with pytest.raises(InputError, match="CLIPSR_WEIGHTS is not set") as caught:
        pins.pin(["clip-vit-b-32"])

    assert "export CLIPSR_WEIGHTS=" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("mine", WeightsError, "is not on this machine"),
        ("clipsr-mini", InputError, "nothing to pin"),
        ("min", UnknownNameError, r"No entry of weights\.toml is named 'min'"),
    ],
)
def test_what_cannot_be_pinned_is_said_and_nothing_written(rows, name, kind, message):
    with pytest.raises(kind, match=message):
        pins.pin([name])

    assert rows.read_text() == OWN


def test_paths_count_from_the_registrys_folder_before_and_after(own, monkeypatch):
    monkeypatch.chdir(own.parent.parent)
    monkeypatch.setenv("CLIPSR_WEIGHTS", f"{own.parent.name}/weights.toml")
    own.parent.mkdir()
    (own.parent / "clip.json").write_bytes(FILES["a.json"])
    elsewhere = own.parent.parent / "b.safetensors"
    elsewhere.write_bytes(FILES["a.safetensors"])
    text = OWN.replace("hf://owner/repo/a.json", "clip.json")
    own.write_text(text.replace("builtin:clipsr-mini-x4.safetensors", elsewhere.as_posix(), 1))
    list(weights.pull("mine"))

    pins.pin(["mine", "other"])

    rows = weights.registry()
    assert weights.find_clip("mine")[0] == own.relative_to(elsewhere.parent).with_name("clip.json")
    assert tomllib.loads(own.read_text())["mine"]["architecture"] == "clip.json"
    assert rows["other"].paths()[0] == elsewhere


def test_a_registry_that_is_a_link_stays_one(rows, monkeypatch):
    link = rows.parent.parent / "link.toml"
    link.symlink_to(rows)
    monkeypatch.setenv("CLIPSR_WEIGHTS", str(link))
    list(weights.pull("mine"))

    pins.pin(["mine"])

    assert link.is_symlink()
    assert "sha256" in rows.read_text()


def test_a_file_that_cannot_be_written_is_said(own):
    own.parent.write_text("a file")

    with pytest.raises(InputError, match="Cannot write"):
        pins.write(own, "")


ROW = Entry(
    kind="clip", description="d", licence="l", architecture="a", files=("builtin:a.safetensors",)
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a = 1\n",
        "[x]\ny = 1",
        "[mine]\nold = 1\n[x]\ny = 1\n",
        '[x]\ny = """\n[mine]\n"""\n',
        '["mine"]\nold = [\n  [1],\n]\n',
        "mine = {old = 1}\n",
        "mine.old = 1\n[x]\ny = 2\n",
        "[mine.deep]\nold = 1\n[x]\ny = 2\n",
    ],
)
def test_however_the_table_is_written_it_is_replaced(text):
    made = tomllib.loads(pins.put_row(text, "mine", ROW))

    assert made["mine"]["files"] == ["builtin:a.safetensors"]
    assert "old" not in made["mine"]
    rest = {key: value for key, value in tomllib.loads(text).items() if key != "mine"}
    assert {key: value for key, value in made.items() if key != "mine"} == rest


@given(name=st.text(min_size=1, max_size=10).filter(lambda text: "\r" not in text))
def test_any_name_can_be_written_twice(name):
    text = pins.put_row(pins.put_row("[x]\ny = 1\n", name, ROW), name, ROW)

    assert set(tomllib.loads(text)) == {"x", name}
