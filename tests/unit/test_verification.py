"""All weights that are here are read through, without the network."""

import json

import pytest
import torch
from safetensors.torch import save

from clipsr_cli import hub
from clipsr_cli.verification import verify

FILE = "hf://owner/repo/a.safetensors"
CONTENT = save({"a": torch.zeros(10)})


@pytest.fixture
def own(tmp_path, hub_server, monkeypatch):
    hub_server.repository("owner/repo", {"a.safetensors": CONTENT})
    path = tmp_path / "weights.toml"
    monkeypatch.setenv("CLIPSR_WEIGHTS", str(path))

    def write(**more):
        row = {"kind": "clip", "description": "d", "licence": "l", "architecture": "ViT-B-32"}
        lines = [f"{key} = {json.dumps(value)}" for key, value in (row | more).items()]
        path.write_text("\n".join(["[mine]", *lines]))

    write(files=[FILE])
    return write


def of(name):
    return [each for each in verify() if each.name == name]


def test_all_of_the_package_is_whole(monkeypatch):
    monkeypatch.delenv("CLIPSR_WEIGHTS", raising=False)

    found = list(verify(["clipsr-mini"]))

    assert len(found) == 5
    assert {(each.here, each.error) for each in found} == {(True, None)}


def test_what_is_not_here_is_no_error_and_is_not_asked_for(own, hub_server):
    (found,) = verify(["mine"])

    assert (found.here, found.error) == (False, None)
    assert hub_server.seen == []


def test_the_cache_is_read_through(own, monkeypatch):
    path = hub.find(hub.Reference.parse(FILE))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    (found,) = of("mine")
    assert (found.here, found.error) == (True, None)

    path.resolve().write_bytes(CONTENT[:-1] + b"\1")
    (found,) = of("mine")
    assert found.here
    assert "is damaged" in str(found.error)


def test_a_row_with_another_hash_is_an_error(own):
    hub.find(hub.Reference.parse(FILE))
    own(files=[FILE], sha256=["0" * 64])

    (found,) = of("mine")

    assert "is not the file that weights.toml means" in str(found.error)


def test_a_record_with_another_hash_is_an_error(own):
    hub.find(hub.Reference.parse(FILE))
    text = hub.lock_file().read_text()
    hub.lock_file().write_text(text.replace(hub.recorded()[FILE].sha256, "0" * 64))

    (found,) = of("mine")

    assert "is not the file that came first" in str(found.error)


def test_a_file_of_no_row_is_checked_too(own):
    hub.find(hub.Reference.parse(FILE).at("main"))

    (found,) = of("hf://owner/repo@main/a.safetensors")

    assert (found.here, found.error) == (True, None)


@pytest.mark.parametrize("broken", [CONTENT[:-1], b"", None])
def test_a_local_file_must_be_whole(own, tmp_path, broken):
    own(files=["local.safetensors"])
    if broken is not None:
        (tmp_path / "local.safetensors").write_bytes(broken)

    (found,) = of("mine")

    assert found.error is not None
    assert found.here == (broken is not None)


def test_a_local_file_must_have_the_hash_of_its_row(own, tmp_path):
    (tmp_path / "local.safetensors").write_bytes(CONTENT)
    own(files=["local.safetensors"], sha256=["0" * 64])

    (found,) = of("mine")

    assert "does not have the sha256 of its row" in str(found.error)
