"""The real Hub client, against a small Hub on loopback: what comes is checked, failures said."""

import errno
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
from safetensors.torch import save

from clipsr_cli import hub
from clipsr_cli.errors import InputError, WeightsError
from clipsr_cli.hub import Reference, trouble
from clipsr_cli.hub import lock as hub_lock

FILE = "small.safetensors"
REFERENCE = Reference("owner/repo", FILE)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tensors(value=0.0, **notes):
    """The bytes of a small safetensors file."""
    return save({"a": torch.full((1000,), value)}, metadata=notes)


@pytest.fixture
def repository(hub_server):
    return hub_server.repository("owner/repo", {FILE: tensors(), "small.json": b'{"a": 1}'})


def files_in_cache():
    """What the cache holds, without links, the client's notes, and what it may go on with."""
    return [
        path
        for path in hub.cache_folder().rglob("blobs/*")
        if path.is_file() and path.suffix != ".incomplete"
    ]


# References


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://owner/repo/a.safetensors", ("owner/repo", "a.safetensors", "")),
        ("hf://o-w_n.er/re.po/b/c d.json", ("o-w_n.er/re.po", "b/c d.json", "")),
        ("hf://owner/repo@v1.0/a.safetensors", ("owner/repo", "a.safetensors", "v1.0")),
        (f"hf://owner/repo@{COMMIT}/a.bin", ("owner/repo", "a.bin", COMMIT)),
        ("hf://owner/repo@refs/pr/7/a.json", ("owner/repo", "a.json", "refs/pr/7")),
    ],
)
def test_a_reference_has_parts(text, parts):
    reference = Reference.parse(text)

    assert (reference.repository, reference.file, reference.revision) == parts
    assert str(reference) == text
    assert reference.pinned == (COMMIT in text)


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://a",
        "hf://owner/repo",
        "hf://owner/repo/",
        "hf://owner/repo@main",
        "hf://owner/repo@/a.json",
        "hf://owner/repo@../a.json",
        "hf://owner/repo@a..b/a.json",
        "hf:///repo/a.json",
        "hf://owner/repo/../../a.json",
        "hf://owner/repo/b/../a.json",
        "hf://owner/repo/./a.json",
        "hf://owner/repo//a.json",
        "hf://owner/repo//etc/passwd.json",
        "hf://owner/repo/b\\a.json",
        "hf://owner/repo/C:a.json",
        "hf://owner/repo/a\n.json",
        "hf://owner/repo/a\x00.json",
        "hf://owner/re\x1bpo/a.json",
        "hf://../repo/a.json",
        "hf://owner/../a.json",
        "hf://owner/a--b/a.json",
        "hf://owner/repo.git/a.json",
        "hf://own er/repo/a.json",
        f"hf://{'o' * 97}/repo/a.json",
        "https://owner/repo/a.json",
    ],
)
def test_what_is_no_reference_is_an_error_of_usage(text):
    with pytest.raises(InputError) as caught:
        Reference.parse(text)

    assert caught.value.message.isprintable()
    assert caught.value.hint


def test_a_repository_is_named_without_a_file():
    assert hub.parse_repository("hf://owner/repo") == "owner/repo"
    for text in ("owner/repo", "hf://owner", "hf://owner/repo/file", "hf://owner/..", "hf:///"):
        with pytest.raises(InputError):
            hub.parse_repository(text)


@pytest.mark.parametrize("name", ["a.bin", "a.pt", "a.pth", "a.pkl", "a.safetensors.bin", "json"])
def test_what_could_run_code_is_refused_by_name(hub_server, name):
    hub_server.repository("owner/repo", {name: b"cos\nsystem\n"})

    with pytest.raises(WeightsError, match="pickles"):
        hub.find(Reference("owner/repo", name))

    assert hub_server.seen == []


# The environment


def test_the_cache_is_where_the_client_has_it(monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")

    def now():
        return hub.cache_folder().as_posix()

    assert now() == "/home/me/.cache/huggingface/hub"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert now() == "/xdg/huggingface/hub"
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert now() == "/home/me/hf/hub"
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", "/old")
    assert now() == "/old"
    monkeypatch.setenv("HF_HUB_CACHE", "$HOME/new")
    assert now() == "/home/me/new"


# Fetching


def test_a_file_comes_once_and_is_recorded(hub_server, repository):
    path = hub.find(REFERENCE)

    assert path.read_bytes() == tensors()
    ((commit, _),) = repository.commits
    assert commit in path.parts
    row = hub.recorded()[str(REFERENCE)]
    assert (row.commit, row.size) == (commit, len(tensors()))
    assert row.sha256 == hub.sha256(path)
    before = len(hub_server.seen)
    assert hub.find(REFERENCE) == path
    assert len(hub_server.seen) == before


def test_a_small_file_kept_in_git_comes_too(repository):
    path = hub.find(Reference("owner/repo", "small.json"))

    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("revision", ["main", "v1", "commit"])
def test_a_revision_is_asked_for(hub_server, repository, revision):
    first = repository.commits[0][0]
    repository.tags["v1"] = first
    repository.commit({FILE: tensors(1.0)})
    asked = first if revision == "commit" else revision

    path = hub.find(REFERENCE.at(asked))

    assert path.read_bytes() == tensors(1.0 if revision == "main" else 0.0)
    before = len(hub_server.seen)
    assert hub.fetch(REFERENCE.at(asked)) == path
    # A commit never changes; of anything else the Hub is asked again, without a transfer.
    assert len(hub_server.seen) == before + (revision != "commit")


def test_progress_is_told_to_whoever_asked(repository):
    told = []
    with hub.reporting(lambda *now: told.append(now)):
        hub.find(REFERENCE)

    size = len(tensors())
    assert told[0] == (str(REFERENCE), 0, size)
    assert {(file, whole) for file, _, whole in told} == {(str(REFERENCE), size)}
    assert [here for _, here, _ in told] == sorted(here for _, here, _ in told)


def test_without_progress_one_line_is_logged_and_nothing_printed(repository, caplog, capfd):
    hub.find(REFERENCE)

    assert [r.getMessage() for r in caplog.records if r.name.startswith("clipsr_cli")] == [
        f"Fetching {REFERENCE} (0.0 MB) into {hub.cache_folder()}."
    ]
    # Logs may go to stderr; a bar may not.
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "%|" not in printed.err


def test_a_token_opens_a_private_repository(hub_server, monkeypatch):
    hub_server.repository("owner/repo", {FILE: tensors()}, private=True)
    with pytest.raises(WeightsError, match="does not exist, or is private") as caught:
        hub.find(REFERENCE)
    assert "hf auth login" in caught.value.hint

    monkeypatch.setenv("HF_TOKEN", "hf_of_the_owner")

    assert hub.find(REFERENCE).is_file()


def test_the_token_does_not_reach_the_cdn(hub_server, repository, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_owner")

    hub.find(REFERENCE)

    tokens = {
        path.startswith("/cdn/"): token
        for (_, path), token in zip(hub_server.seen, hub_server.tokens, strict=True)
    }
    assert tokens == {False: "Bearer hf_of_the_owner", True: None}


def test_a_broken_transfer_goes_on_where_it_broke(hub_server, repository, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    hub_server.cut, hub_server.cuts = 1000, 1

    # Clients before 1.0 go on with it only when they are called again.
    with suppress(WeightsError):
        hub.find(REFERENCE)

    assert hub.find(REFERENCE).read_bytes() == tensors()
    assert hub_server.ranges == ["bytes=1000-"]


# Trouble


@pytest.mark.parametrize(
    ("reference", "settings", "message", "hint"),
    [
        (Reference("owner/none", FILE), {}, "owner/none does not exist", "HF_TOKEN"),
        (Reference("owner/repo", "no.json"), {}, r"owner/repo has no file no\.json", "page"),
        (REFERENCE.at("v9"), {}, "owner/repo has no revision 'v9'", "page"),
        (REFERENCE, {"gated": True}, "owner/repo is gated", "Ask for access"),
    ],
    ids=["repository", "file", "revision", "gated"],
)
def test_what_is_not_there_is_said(hub_server, reference, settings, message, hint):
    hub_server.repository("owner/repo", {FILE: tensors()}, **settings)

    with pytest.raises(WeightsError, match=message) as caught:
        hub.find(reference)

    assert hint in caught.value.hint
    assert files_in_cache() == []
    assert hub.recorded() == {}


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"\(401\)|does not exist, or is private"),
        (403, r"does not allow that with owner/repo \(403\)"),
        (429, r"asked too often .*\(429\)"),
        (500, r"answers with an error \(500\)"),
        (503, r"answers with an error \(503\)"),
    ],
)
def test_a_refusal_is_said_with_the_way_around(hub_server, repository, method, status, message):
    hub_server.status[method] = status

    with pytest.raises(WeightsError, match=message) as caught:
        hub.find(REFERENCE)

    folder = hub.cache_folder() / "models--owner--repo" / "snapshots" / "main"
    assert f"put {FILE} of owner/repo (revision main) into {folder}" in caught.value.hint
    assert files_in_cache() == []


def test_the_way_around_works(hub_server, repository):
    """What the hint says is done: the file is put into the folder by hand."""
    hub_server.status["GET"] = 503
    with pytest.raises(WeightsError) as caught:
        hub.find(REFERENCE)
    folder = hub.cache_folder() / "models--owner--repo" / "snapshots" / "main"
    assert caught.value.hint.endswith(str(folder))
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(tensors())

    assert hub.find(REFERENCE) == folder / FILE
    assert hub.recorded()[str(REFERENCE)].commit == ""
    (folder / FILE).write_bytes(tensors()[:-1])
    with pytest.raises(WeightsError, match="is not the file that came first: its sha256"):
        hub.find(REFERENCE)


def test_a_half_file_put_by_hand_is_refused(repository):
    path = hub.place(REFERENCE)
    path.parent.mkdir(parents=True)
    path.write_bytes(tensors()[:-1])

    with pytest.raises(WeightsError, match="no whole safetensors file"):
        hub.find(REFERENCE)


def test_an_unreachable_hub_is_said(hub_server, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", endpoint)

        with pytest.raises(WeightsError, match=f"{endpoint} cannot be reached") as caught:
            hub.find(REFERENCE)

    assert "HF_ENDPOINT" in caught.value.hint
    assert "By hand" in caught.value.hint


def test_what_is_here_serves_while_the_hub_is_out_of_reach(hub_server, repository, caplog):
    path = hub.find(REFERENCE)
    hub_server.status["HEAD"] = 503

    assert hub.fetch(REFERENCE) == path
    assert "What is here serves" in caplog.text


def test_a_server_that_is_no_hub_is_noticed(hub_server, repository):
    hub_server.strange = True

    with pytest.raises(WeightsError, match="does not answer as a Hub"):
        hub.find(REFERENCE)


def test_a_commit_that_would_lead_out_of_the_cache_is_refused(hub_server, repository):
    hub_server.answered_commit = "../../../../x"

    with pytest.raises(WeightsError, match="does not answer as a Hub"):
        hub.find(REFERENCE)


def test_another_commit_than_asked_for_is_refused(hub_server, repository):
    hub_server.answered_commit = COMMIT

    with pytest.raises(WeightsError, match="another commit"):
        hub.find(REFERENCE.at(repository.commits[0][0]))


@pytest.mark.parametrize("fault", ["wrong", "short", "cut"])
def test_other_or_fewer_bytes_are_not_kept(hub_server, repository, fault):
    if fault == "cut":
        hub_server.cut, hub_server.cuts = 1000, 100
    else:
        setattr(hub_server, fault, True)

    with pytest.raises(WeightsError, match="other bytes" if fault == "wrong" else "broke off"):
        hub.find(REFERENCE)

    assert files_in_cache() == []
    assert hub.look(REFERENCE) is None
    assert hub.recorded() == {}
    hub_server.cut, hub_server.wrong, hub_server.short = None, False, False
    # What an older client kept of it may be wrong too, which is found out the next time.
    with suppress(WeightsError):
        hub.find(REFERENCE)
    assert hub.find(REFERENCE).read_bytes() == tensors()


def test_a_full_disk_is_said_before_anything_comes(hub_server, repository, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))

    with pytest.raises(WeightsError, match=r"needs 0\.0 MB; .* has 0\.0 MB left") as caught:
        hub.find(REFERENCE)

    assert "HF_HUB_CACHE" in caught.value.hint
    assert not [path for path in hub_server.paths("GET") if path.startswith("/cdn/")]


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "cannot be written")]
)
def test_a_disk_that_takes_no_more_is_said(repository, monkeypatch, number, message):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("huggingface_hub.file_download._chmod_and_move", fail)

    with pytest.raises(WeightsError, match=message):
        hub.find(REFERENCE)

    assert files_in_cache() == []


def test_offline_nothing_is_asked(hub_server, repository, monkeypatch):
    path = hub.find(REFERENCE)
    before = len(hub_server.seen)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    assert hub.find(REFERENCE) == path
    assert hub.fetch(REFERENCE) == path
    with pytest.raises(WeightsError, match="offline") as caught:
        hub.find(Reference("owner/repo", "other.safetensors"), name="other")
    assert "clipsr weights pull other" in caught.value.hint
    assert len(hub_server.seen) == before


def test_what_the_client_says_of_being_offline_is_said_as_we_do():
    """It may have been imported while HF_HUB_OFFLINE was set, which is not so any more."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    error = trouble.explain(OfflineModeIsEnabled("offline"), REFERENCE)

    assert "it is not fetched" in error.message


# What must be


def test_a_hash_or_size_of_the_registry_is_held_against_the_hub(hub_server, repository):
    with pytest.raises(WeightsError, match=r"that weights\.toml means: its sha256"):
        hub.find(REFERENCE, sha256="0" * 64)
    with pytest.raises(WeightsError, match=r"its size is .* bytes, not 5"):
        hub.find(REFERENCE, size=5)
    assert not [path for path in hub_server.paths("GET") if path.startswith("/cdn/")]

    path = hub.find(REFERENCE)

    assert hub.find(REFERENCE, sha256=hub.sha256(path), size=path.stat().st_size) == path
    with pytest.raises(WeightsError, match=r"that weights\.toml means"):
        hub.find(REFERENCE, sha256="0" * 64)


@pytest.mark.parametrize("file", [FILE, "small.json"])
def test_a_later_change_is_refused_until_it_is_accepted(hub_server, repository, file):
    reference = Reference("owner/repo", file)
    first = hub.find(reference)
    old = first.read_bytes()
    new = tensors(1.0) if file == FILE else b'{"a": 2}'
    repository.commit({file: new})

    with pytest.raises(WeightsError, match="is not the file that came first") as caught:
        hub.fetch(reference, name="small")
    assert "clipsr weights pull --update small" in caught.value.hint
    assert f"hf://owner/repo@{repository.commits[0][0]}/{file}" in caught.value.hint

    # What came first goes on to serve, whatever else is in the cache.
    assert hub.find(reference) == first
    assert first.read_bytes() == old
    updated = hub.fetch(reference, update=True)
    assert updated.read_bytes() == new
    assert hub.find(reference) == updated


def test_a_new_commit_with_the_same_bytes_is_no_change(repository):
    path = hub.find(REFERENCE)
    repository.commit({"README.md": b"news"})

    assert hub.fetch(REFERENCE).samefile(path)
    assert hub.recorded()[str(REFERENCE)].commit == repository.commits[1][0]


def test_a_change_by_another_program_is_noticed(hub_server, repository):
    from huggingface_hub import hf_hub_download

    first = hub.find(REFERENCE)
    repository.commit({FILE: tensors(1.0)})
    hf_hub_download("owner/repo", FILE, cache_dir=hub.cache_folder(), endpoint=hub_server.endpoint)
    assert hub.find(REFERENCE) == first

    first.unlink()

    with pytest.raises(WeightsError, match="is not the file that came first"):
        hub.find(REFERENCE)


def test_what_another_program_fetched_is_read_through_once(hub_server, repository):
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(
        "owner/repo", FILE, cache_dir=hub.cache_folder(), endpoint=hub_server.endpoint
    )

    assert str(hub.find(REFERENCE)) == path
    assert str(REFERENCE) in hub.recorded()


def test_damage_is_found_and_mended(hub_server, repository):
    path = hub.find(REFERENCE)
    path.resolve().write_bytes(tensors(1.0))

    for broken in (lambda: hub.verify(REFERENCE), lambda: hub.verify(REFERENCE, name="small")):
        with pytest.raises(WeightsError, match="is damaged"):
            broken()

    assert hub.fetch(REFERENCE) == path
    assert path.read_bytes() == tensors()
    assert hub.verify(REFERENCE) == hub.recorded()[str(REFERENCE)]


@pytest.mark.parametrize("file", [FILE, "small.json"])
def test_a_pinned_file_that_is_damaged_comes_again(hub_server, repository, file):
    reference = Reference("owner/repo", file, repository.commits[0][0])
    path = hub.find(reference)
    right = path.read_bytes()
    path.resolve().write_bytes(right[:-1])

    assert hub.fetch(reference).read_bytes() == right


def test_what_is_not_here_cannot_be_verified(hub_server):
    assert hub.verify(REFERENCE) is None


def test_without_links_all_is_the_same(repository, monkeypatch):
    """Some disks know no links: the cache then holds the files themselves."""
    monkeypatch.setattr(
        "huggingface_hub.file_download.are_symlinks_supported", lambda *_, **__: False
    )

    path = hub.find(REFERENCE)

    assert not path.is_symlink()
    assert hub.find(REFERENCE) == path
    assert hub.fetch(REFERENCE) == path
    assert hub.verify(REFERENCE) == hub.recorded()[str(REFERENCE)]


# The record


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"format": 2, "files": {}}', '{"format": 1}', '{"format": 1, "files": []}',
     '{"format": 1, "files": {"a": {}}}', '{"format": 1, "files": {"a": {"commit": 3}}}'],
)  # fmt: skip
def test_a_broken_record_is_refused_with_what_to_do(hub_server, text):
    hub.cache_folder().mkdir(parents=True)
    hub.lock_file().write_text(text)

    with pytest.raises(WeightsError, match=r"clipsr\.lock\.json") as caught:
        hub.find(REFERENCE)

    assert "remove it" in caught.value.hint


def at_once(code, *arguments):
    """Run a script in a process for each argument, all at the same time."""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, argument], stderr=subprocess.PIPE, text=True)
        for argument in arguments
    ]
    told = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), told


def test_processes_that_write_at_once_lose_nothing(hub_server):
    at_once(
        "import sys\n"
        "from clipsr_cli.hub.lock import Record, record\n"
        "for index in range(30):\n"
        "    record(f'{sys.argv[1]}-{index}', Record('', '0' * 64, index))\n",
        "a",
        "b",
        "c",
    )

    assert set(hub.recorded()) == {f"{own}-{index}" for own in "abc" for index in range(30)}
    left = [path.name for path in hub.cache_folder().iterdir() if path.is_file()]
    assert left == ["clipsr.lock.json"]


def test_processes_may_fetch_one_file_at_once(hub_server, repository):
    at_once(
        "import sys\n"
        "from clipsr_cli import hub\n"
        "assert hub.find(hub.Reference.parse(sys.argv[1])).is_file()\n",
        str(REFERENCE),
        str(REFERENCE),
    )

    assert hub.find(REFERENCE).read_bytes() == tensors()
    assert [path.stat().st_size for path in files_in_cache()] == [len(tensors())]


def test_a_cache_that_cannot_be_written_still_serves(repository, monkeypatch, caplog):
    path = hub.find(REFERENCE)
    hub.lock_file().unlink()

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(hub_lock, "_alone", refuse)
    caplog.set_level(logging.DEBUG, "clipsr_cli")

    assert hub.find(REFERENCE) == path
    assert "is not recorded" in caplog.text


@pytest.mark.parametrize("named", ["../../../../out", "n" * 5000, "\xff" * 40])
def test_a_shared_cache_does_not_lead_out_of_itself(repository, named):
    """What is in refs or in the record is a commit, or nothing."""
    path = hub.find(REFERENCE)
    out = hub.cache_folder() / "out"
    out.mkdir()
    (out / FILE).write_bytes(tensors(2.0))
    ref = path.parents[2] / "refs" / "main"
    ref.write_bytes(named.encode("latin-1"))
    hub_lock.lock_file().write_text(
        json.dumps(
            {
                "format": hub_lock.FORMAT,
                "files": {str(REFERENCE): {"commit": named, "sha256": "", "size": 0}},
            }
        )
    )

    found = hub.look(REFERENCE)

    assert found is None or out not in found.path.parents


def test_a_record_of_endless_depth_is_said(hub_server):
    hub.cache_folder().mkdir(parents=True, exist_ok=True)
    hub_lock.lock_file().write_text("[" * 300_000)

    with pytest.raises(WeightsError, match="Cannot read the record"):
        hub_lock.recorded()


# Headers


def test_a_header_is_read_without_torch(tmp_path):
    path = tmp_path / FILE
    path.write_bytes(tensors(clip="words"))

    assert hub.read_metadata(path) == {"clip": "words"}


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 8, b"\xff" * 8, tensors()[:-1], tensors() + b"\0", b"\2\0\0\0\0\0\0\0[]",
     b"\2\0\0\0\0\0\0\0{{", b"\x0d\0\0\0\0\0\0\0" + b'{"a":{"b":1}}', b"\x04\0\0\0\0\0\0\0null"],
)  # fmt: skip
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    path = tmp_path / FILE
    path.write_bytes(content)

    with pytest.raises(WeightsError, match="no whole safetensors file"):
        hub.read_metadata(path)


def header(text):
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content", [header(b"[" * 300_000), header(b'{"__metadata__": {"clip": [1]}}')]
)
def test_a_header_that_is_made_to_confuse_is_refused(tmp_path, content):
    path = tmp_path / FILE
    path.write_bytes(content)

    with pytest.raises(WeightsError, match="no whole safetensors file"):
        hub.read_metadata(path)


def test_json_of_endless_depth_is_refused(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 300_000)

    with pytest.raises(WeightsError, match="not valid JSON"):
        hub.check_readable(tmp_path / "deep.json")


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(WeightsError, match="Cannot read"):
        hub.read_metadata(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="Cannot read"):
        hub.check_readable(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(WeightsError, match="not valid JSON"):
        hub.check_readable(tmp_path / "broken.json")


# Publishing

# The client gives its HTTP library what that library would rather have otherwise.
with_upload = pytest.mark.filterwarnings("ignore:Use 'content=.*:DeprecationWarning")


@pytest.fixture
def small(tmp_path, hub_server, monkeypatch):
    # Clients of 1.0 read a commit's address by the Hub they were imported with.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub_server.endpoint)
    for module in ("constants", "file_download"):
        monkeypatch.setattr(
            f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE",
            hub_server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            raising=False,
        )
    path = tmp_path / FILE
    path.write_bytes(tensors())
    return path


@with_upload
def test_a_file_and_its_card_are_published_in_one_commit(hub_server, small, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_owner")

    commit, with_card = hub.upload(small, "owner/new", "---\nlicense: mit\n---\n# New\n")

    made = hub_server.repositories["owner/new"]
    assert with_card
    assert made.commits == [
        (commit, {FILE: tensors(), "README.md": b"---\nlicense: mit\n---\n# New\n"})
    ]
    assert not made.private
    assert capfd.readouterr() == ("", "")
    assert hub.find(Reference("owner/new", FILE, commit)).read_bytes() == tensors()


@with_upload
def test_a_card_that_is_there_stays_unless_it_is_to_be_replaced(hub_server, small, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_owner")
    made = hub_server.repository("owner/repo", {"README.md": b"by hand"})

    assert not hub.upload(small, "owner/repo", "made")[1]
    assert made.commits[-1][1] == {FILE: tensors(), "README.md": b"by hand"}
    assert hub.upload(small, "owner/repo", "made", replace_card=True)[1]
    assert made.commits[-1][1]["README.md"] == b"made"


@with_upload
def test_private_means_private(hub_server, small, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_owner")

    hub.upload(small, "owner/secret", "card", private=True)

    assert hub_server.repositories["owner/secret"].private
    public = hub_server.repository("owner/open", {"a.json": b"{}"})
    with pytest.raises(WeightsError, match="is public"):
        hub.upload(small, "owner/open", "card", private=True)
    assert len(public.commits) == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (None, r"owner/new does not exist, or is private|\(401\)"),
        (403, r"owner/new does not exist, or is private|\(403\)"),
        (429, r"\(429\)"),
        (500, r"\(500\)"),
    ],
)
def test_a_refused_upload_is_said(hub_server, small, status, message):
    hub_server.status = {} if status is None else {"POST": status}

    with pytest.raises(WeightsError, match=message) as caught:
        hub.upload(small, "owner/new", "card")

    assert caught.value.hint


def test_offline_nothing_is_published(hub_server, small, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(WeightsError, match="offline"):
        hub.upload(small, "owner/new", "card")

    assert hub_server.seen == []
