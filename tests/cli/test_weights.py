"""``clipsr weights`` lists, fetches, checks, pins and publishes what ``--model`` takes."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from clipsr_cli import hub, weights
from clipsr_cli.checkpoints import save_generator

KEYS = {"name", "kind", "scales", "clip", "size", "present", "licence", "description"}
CONTENT = save({"a": torch.zeros(10)}, metadata={"clip": "clipsr-clip-mini"})
FILE = "hf://owner/repo/a.safetensors"
OWN = f"""
[mine]
kind = "clip"
description = "mine"
licence = "MIT"
architecture = "ViT-B-32"
files = ["{FILE}"]

[big]
kind = "generator"
description = "big"
licence = "MIT"
scales = [8]
files = ["hf://owner/none/big.safetensors"]
size = [3000000]
"""


@pytest.fixture(autouse=True)
def _no_rows_of_ones_own(monkeypatch):
    monkeypatch.delenv("CLIPSR_WEIGHTS", raising=False)


@pytest.fixture
def own(tmp_path, hub_server, monkeypatch):
    path = tmp_path / "weights.toml"
    path.write_text(OWN)
    monkeypatch.setenv("CLIPSR_WEIGHTS", str(path))
    hub_server.repository("owner/repo", {"a.safetensors": CONTENT, "a.bin": b"pickle"})
    return path


# list


def test_json_has_a_row_for_every_entry(run):
    result = run("weights", "list", "--json")

    assert result.exit_code == 0
    rows = json.loads(result.stdout)["weights"]
    assert [row["name"] for row in rows] == list(weights.registry())
    for row in rows:
        assert set(row) == KEYS
        assert row["size"] > 0 or not row["present"]


def test_a_table_says_the_same_to_people(run):
    result = run("weights", "list")

    assert result.exit_code == 0
    for words in ("clipsr-mini", "generator", "x4 x8 x16", "MB", "Apache-2.0", "captioner"):
        assert words in result.stdout


def test_missing_files_are_said_to_be_missing(run, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "ASSETS", tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    rows = json.loads(run("weights", "list", "--json").stdout)["weights"]

    assert {row["present"] for row in rows} == {False}
    # What is not here is as large as the registry says, if it does.
    assert {row["name"]: row["size"] for row in rows if row["size"]} == {
        "clip-vit-b-32": 605143284,
        "clip-vit-b-32-laion2b": 605143316,
    }
    shown = run("weights", "list").stdout
    assert " no " in shown
    assert " ? " in shown


def test_rows_of_ones_own_are_listed(run, own):
    rows = {
        row["name"]: row for row in json.loads(run("weights", "list", "--json").stdout)["weights"]
    }

    assert rows["big"]["size"] == 3_000_000
    assert not rows["mine"]["present"]


def test_a_pickle_that_another_program_fetched_is_not_present(run, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (pickle,) = weights.registry()["coca-vit-b-32"].paths()
    pickle.parent.mkdir(parents=True)
    pickle.touch()

    rows = json.loads(run("weights", "list", "--json").stdout)["weights"]

    assert not next(row for row in rows if row["name"] == "coca-vit-b-32")["present"]


def test_an_error_in_them_is_one_of_input(run, own):
    own.write_text("[mine]\nkind = 3\n")

    result = run("weights", "list")

    assert result.exit_code == 2
    assert str(own) in result.stderr


# pull


def test_a_name_is_fetched_and_then_there(run, own, hub_server):
    result = run("weights", "pull", "mine")

    assert (result.exit_code, result.stdout) == (0, "")
    assert f"Fetching {FILE} (0.0 MB)" in result.stderr
    assert "here: mine, a.safetensors, 0.0 MB" in result.stderr
    assert "Fetching" not in run("weights", "pull", "mine").stderr
    listed = json.loads(run("weights", "list", "--json").stdout)["weights"]
    assert next(row for row in listed if row["name"] == "mine")["present"]


def test_a_reference_is_fetched_with_the_clip_in_its_header(run, own):
    result = run("weights", "pull", FILE)

    assert result.exit_code == 0
    assert f"here: {FILE}, a.safetensors" in result.stderr
    assert "here: clipsr-clip-mini, clipsr-clip-mini.safetensors, 24.4 MB" in result.stderr


def test_on_a_terminal_there_is_a_bar(own, monkeypatch, capsys):
    from rich.console import Console

    from clipsr_cli.cli import console

    monkeypatch.setattr(
        console, "err", lambda: Console(stderr=True, force_terminal=True, width=120)
    )
    with console.transfers(show=True) as bars, hub.reporting(bars.move):
        hub.find(hub.Reference.parse(FILE))
        bars.move("hf://a/b/other.json", 5, None)
        bars.say("said")

    shown = capsys.readouterr().err
    assert "a.safetensors" in shown
    assert "said" in shown


def test_elsewhere_there_is_a_line_for_each_file(capsys):
    from clipsr_cli.cli import console

    with console.transfers(show=True) as bars:
        bars.move("hf://a/b/other.json", 0, None)
        bars.move("hf://a/b/other.json", 5, None)

    assert capsys.readouterr().err == "Fetching hf://a/b/other.json\n"


@pytest.mark.parametrize("arguments", [[], ["mine", "--all"]])
def test_either_names_or_all_are_fetched(run, arguments):
    result = run("weights", "pull", *arguments)

    assert result.exit_code == 2
    assert "or --all" in result.stderr


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("nothing", 2, "No entry of weights.toml is named 'nothing'"),
        ("hf://a", 2, "'hf://a' is not a reference"),
        ("hf://owner/repo/../../x.safetensors", 2, "names no file inside"),
        ("hf://owner/repo/a.bin", 4, "pickles"),
        ("coca-vit-b-32", 4, "pickles"),
        ("big", 4, "owner/none does not exist, or is private"),
    ],
)
def test_what_cannot_be_fetched_is_said(run, own, name, code, words):
    result = run("weights", "pull", name)

    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert result.stderr.count("error:") == 1


def test_all_goes_on_after_a_failure_and_tells_it(run, own, hub_server, monkeypatch):
    # What has a hash is on the public Hub; it is not this one's.
    small = {name: row for name, row in weights.registry().items() if not any(row.sha256)}
    monkeypatch.setattr(weights, "registry", lambda: small)

    result = run("weights", "pull", "--all")

    assert result.exit_code == 4
    assert "left out: coca-vit-b-32" in result.stderr
    assert "failed: big: owner/none does not exist" in result.stderr
    assert "here: mine" in result.stderr
    assert result.stderr.count("here: clipsr-clip-mini, clipsr-clip-mini.safetensors") == 1
    assert "error: 1 of the weights did not come." in result.stderr
    hub_server.repository("owner/none", {"big.safetensors": save({"a": torch.zeros(749_984)})})
    own.write_text(OWN.replace("size = [3000000]", ""))
    monkeypatch.setattr(weights, "registry", lambda: small | weights.read_registry(own))
    assert run("weights", "pull", "--all").exit_code == 0


def test_a_change_is_taken_only_when_it_is_asked_for(run, own, hub_server):
    run("weights", "pull", "mine")
    changed = save({"a": torch.ones(10)})
    hub_server.repositories["owner/repo"].commit({"a.safetensors": changed})

    result = run("weights", "pull", "mine")
    assert result.exit_code == 4
    assert "is not the file that came first" in result.stderr
    assert run("weights", "path", "mine").exit_code == 0

    advice = result.stderr.partition("clipsr ")[2].strip()
    assert run(*shlex.split(advice)).exit_code == 0
    path = Path(run("weights", "path", "mine").stdout.strip())
    assert path.read_bytes() == changed


def test_offline_says_what_to_do(run, own, hub_server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    result = run("weights", "pull", "mine")

    assert result.exit_code == 4
    assert "clipsr weights pull mine" in result.stderr
    assert "put a.safetensors of owner/repo (revision main) into" in result.stderr
    assert hub_server.seen == []


# verify


def test_what_is_here_is_verified(run, own):
    run("weights", "pull", "mine")

    result = run("weights", "verify")

    assert result.exit_code == 0
    assert "whole" in result.stdout
    assert "not here" in result.stdout


def test_a_damaged_file_is_named_and_mended(run, own):
    run("weights", "pull", "mine")
    path = hub.find(hub.Reference.parse(FILE))
    path.resolve().write_bytes(CONTENT[:-1] + b"\1")

    result = run("weights", "verify", "mine")

    assert result.exit_code == 4
    assert "BROKEN" in result.stdout
    assert f"broken: mine: {path} is damaged" in result.stderr
    assert "clipsr weights pull mine" in result.stderr
    assert run("weights", "pull", "mine").exit_code == 0
    assert run("weights", "verify", "mine").exit_code == 0


def test_what_was_named_must_be_here(run, own):
    result = run("weights", "verify", "mine")

    assert result.exit_code == 4
    assert "Not on this machine: mine" in result.stderr


# path


def test_paths_are_printed(run):
    assert len(run("weights", "path", "clipsr-mini").stdout.splitlines()) == 3
    (line,) = run("weights", "path", "clipsr-mini", "--scale", 8).stdout.splitlines()
    assert line.endswith("clipsr-mini-x8.safetensors")


def test_a_path_of_the_cache_is_printed(run, own):
    missing = run("weights", "path", FILE)
    assert missing.exit_code == 4
    assert f"clipsr weights pull {FILE}" in missing.stderr
    run("weights", "pull", "mine")

    for name in ("mine", FILE):
        assert run("weights", "path", name).stdout.endswith("a.safetensors\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "No entry of weights.toml"),
        (["clipsr-mini", "-s", 2], "clipsr-mini has no weights for x2"),
        (["clipsr-clip-mini", "-s", 4], "clipsr-clip-mini has no weights for x4"),
        (["hf://a"], "not a reference"),
    ],
)
def test_what_has_no_path_is_refused(run, arguments, words):
    result = run("weights", "path", *arguments)

    assert result.exit_code == 2
    assert words in result.stderr


# pin


def test_what_is_cached_is_pinned(run, own, hub_server):
    run("weights", "pull", "mine")

    result = run("weights", "pin", "mine")

    assert (result.exit_code, result.stdout) == (0, f"{own}\n")
    ((commit, _),) = hub_server.repositories["owner/repo"].commits
    assert f"hf://owner/repo@{commit}/a.safetensors" in own.read_text()
    before = len(hub_server.seen)
    assert run("weights", "pull", "mine").exit_code == 0
    assert len(hub_server.seen) == before


def test_pinning_needs_a_file_of_ones_own(run):
    result = run("weights", "pin", "clip-vit-b-32")

    assert result.exit_code == 2
    assert "CLIPSR_WEIGHTS is not set" in result.stderr


# push


@pytest.fixture
def generator(make_generator, tmp_path):
    made = make_generator(4)
    path = tmp_path / "my-x4.safetensors"
    save_generator(
        made.learned_state(), made.config, "clip-vit-b-32", path, notes={"licence": "MIT"}
    )
    return path


def test_a_dry_run_prints_the_card(run, generator, hub_server):
    result = run("weights", "push", generator, "hf://owner/new", "--dry-run")

    assert result.exit_code == 0
    assert result.stdout.startswith("---\nlicense: mit\nlibrary_name: clipsr\n")
    assert "-m hf://owner/new/my-x4.safetensors" in result.stdout
    assert hub_server.seen == []


@pytest.mark.parametrize(
    ("file", "target", "code", "words"),
    [
        ("my-x4.safetensors", "owner/new", 2, "is not a repository"),
        ("my-x4.safetensors", "hf://owner/new/file", 2, "is not a repository"),
        ("my-x4.pth", "hf://owner/new", 2, "no .safetensors file"),
        ("none.safetensors", "hf://owner/new", 4, "Cannot read"),
    ],
)
def test_what_cannot_be_published_is_refused(
    run, generator, monkeypatch, file, target, code, words
):
    monkeypatch.chdir(generator.parent)

    result = run("weights", "push", file, target)

    assert result.exit_code == code
    assert words in result.stderr


def test_a_generator_is_published(run, generator, monkeypatch):
    published = []

    def upload(path, repository, card, *, private, replace_card):
        published.append((path, repository, private, replace_card))
        return "0" * 40, len(published) == 1

    monkeypatch.setattr(hub, "upload", upload)

    first = run("weights", "push", generator, "hf://owner/new", "--private")
    second = run("weights", "push", generator, "hf://owner/new", "--overwrite-card")

    assert published == [
        (generator, "owner/new", True, False),
        (generator, "owner/new", False, True),
    ]
    assert first.stdout == f"hf://owner/new@{'0' * 40}/my-x4.safetensors\n"
    assert first.stderr == ""
    assert "README.md that is there stays" in second.stderr


def test_a_clip_that_others_do_not_have_is_a_warning(run, make_generator, tmp_path, monkeypatch):
    made = make_generator(4)
    path = tmp_path / "own.safetensors"
    save_generator(made.learned_state(), made.config, "own.json:own.safetensors", path)
    monkeypatch.setattr(hub, "upload", lambda *_, **__: ("0" * 40, True))

    result = run("weights", "push", path, "hf://owner/new")

    assert result.exit_code == 0
    assert "warning: its CLIP, own.json:own.safetensors" in result.stderr


def test_a_strangers_registry_sends_nothing_to_the_terminal(run, tmp_path, monkeypatch):
    (tmp_path / "weights.toml").write_text(
        '["a\\u001b[31m"]\nkind = "clip"\ndescription = "d"\narchitecture = "ViT-B-32"\n'
        'licence = "MIT\\u001b]0;owned\\u0007"\nfiles = ["a.safetensors"]\n'
    )
    monkeypatch.setenv("CLIPSR_WEIGHTS", str(tmp_path / "weights.toml"))

    listed = run("weights", "list").stdout

    assert "\x1b" not in listed
    assert "\\x1b[31m" in listed
    assert "\\x1b]0;owned" in listed
