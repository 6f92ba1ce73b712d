"""The Hub's cache on this machine: where a file of it lies, and whether its bytes are right.

Its layout: ``models--OWNER--REPO/refs/REVISION`` holds a commit, ``snapshots/COMMIT/FILE`` is the
file or a link to ``blobs/ETAG``, whose name is the sha256 of a large file (LFS), and what git calls
a small one. (Source: huggingface_hub's page "Understand caching".)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clipsr_cli.errors import WeightsError, reason
from clipsr_cli.hub.files import check_readable, git_sha1, sha256
from clipsr_cli.hub.lock import Record, record, recorded
from clipsr_cli.hub.reference import Reference, is_commit
from clipsr_cli.hub.settings import cache_folder

MAIN = "main"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class DamageError(WeightsError):
    """A cached file's bytes are not those that the Hub named."""


@dataclass(frozen=True)
class Cached:
    """A file of the Hub that is here.

    Attributes:
        path: where.
        commit: of its repository; "" where it was put by hand under a branch's name.
        etag: the Hub's name for its bytes, a sha256 or git's; "" where it was put by hand.
    """

    path: Path
    commit: str
    etag: str


@dataclass(frozen=True)
class Wanted:
    """What a file must be; "" and 0 where that is not known.

    Attributes:
        sha256: in hexadecimal.
        size: in bytes.
        source: where that is written.
        call: what the user calls the file, a name or the reference.
    """

    sha256: str = ""
    size: int = 0
    source: str = ""
    call: str = ""

    @classmethod
    def of(
        cls, reference: Reference, *, sha256: str, size: int, name: str, update: bool = False
    ) -> "Wanted":
        """What the registry says of a file, or else what was recorded when it first came."""
        call = name or str(reference)
        first = recorded().get(str(reference))
        if not sha256 and first is not None and not update:
            return cls(first.sha256, size or first.size, "record", call)
        return cls(sha256, size, "registry", call)

    def compare(
        self, reference: Reference, *, sha256: str = "", size: int | None = None, path: str = ""
    ) -> None:
        """Refuse a file that is another one than it must be.

        Args:
            reference: the file.
            sha256: of the file; "" where it is not known yet.
            size: of the file in bytes; None where it is not known.
            path: where it is; "" while it is on the Hub.

        Raises:
            WeightsError: its sha256 or size differs.
        """
        if self.sha256 and sha256 and sha256 != self.sha256:
            is_now = f"its sha256 is {sha256[:12]}..., not {self.sha256[:12]}..."
        elif self.size and size is not None and size != self.size:
            is_now = f"its size is {size} bytes, not {self.size}"
        else:
            return
        called = f"{path} ({reference})" if path else str(reference)
        if self.source == "registry":
            raise WeightsError(
                f"{called} is not the file that weights.toml means: {is_now}.",
                hint="Do not use it unless you know why. A row of your own with the new sha256 "
                "(CLIPSR_WEIGHTS, clipsr weights pin) accepts it.",
            )
        first = recorded().get(str(reference))
        keep = ""
        if first is not None and first.commit and not reference.pinned:
            keep = f"To go on with the first: {reference.at(first.commit)}. "
        raise WeightsError(
            f"{called} is not the file that came first: {is_now}.",
            hint=f"{keep}If you trust the change: clipsr weights pull --update {self.call}",
        )


def place(reference: Reference) -> Path:
    """Where a file is looked for when it is put there by hand."""
    return _repository(reference) / "snapshots" / (reference.revision or MAIN) / reference.file


def look(reference: Reference) -> Cached | None:
    """The file in the cache, or None.

    The one that was recorded comes before the newest that another program has fetched since.

    Raises:
        WeightsError: the record cannot be read.
    """
    for revision in _revisions(reference):
        if (found := at_revision(reference, revision)) is not None:
            return found
    return None


def at_revision(reference: Reference, revision: str, etag: str = "") -> Cached | None:
    """The file in the snapshot of one revision, or None.

    Args:
        reference: the file.
        revision: name of the snapshot's folder.
        etag: the Hub's name for its bytes, where the disk has no links, whose target tells it.
    """
    path = _repository(reference) / "snapshots" / revision / reference.file
    if not path.is_file():
        return None
    # Behind the link there may be another, to a store that repositories share.
    named = path.readlink().name if path.is_symlink() else etag
    return Cached(path, revision if is_commit(revision) else "", named)


def quick(reference: Reference, found: Cached, wanted: Wanted) -> Path:
    """A cached file that was checked when it came, or is read through now and recorded.

    Raises:
        WeightsError: it is damaged, or another one than it must be.
    """
    row = recorded().get(str(reference))
    if (
        row is not None
        and row.commit == found.commit
        and row.size == found.path.stat().st_size
        and (not wanted.sha256 or wanted.sha256 == row.sha256)
        and (not is_sha256(found.etag) or found.etag == row.sha256)
    ):
        return found.path
    record(str(reference), examine(reference, found, wanted))
    return found.path


def examine(reference: Reference, found: Cached, wanted: Wanted) -> Record:
    """Read a cached file through.

    Raises:
        DamageError: its bytes are not those that the Hub named.
        WeightsError: it cannot be read, or is another one than it must be.
    """
    try:
        size, digest = found.path.stat().st_size, sha256(found.path)
        is_now = git_sha1(found.path) if is_commit(found.etag) else digest
    except OSError as error:
        raise WeightsError(f"Cannot read {found.path}: {reason(error)}.") from error
    if (is_commit(found.etag) or is_sha256(found.etag)) and is_now != found.etag:
        raise DamageError(
            f"{found.path} is damaged: its hash is {is_now[:12]}..., not {found.etag[:12]}...",
            hint=f"Fetch it again: clipsr weights pull {wanted.call}",
        )
    wanted.compare(reference, sha256=digest, size=size, path=str(found.path))
    if not found.etag:
        check_readable(found.path)
    return Record(found.commit, digest, size)


def discard(reference: Reference, found: Cached) -> None:
    """Remove a damaged file."""
    found.path.unlink(missing_ok=True)
    if found.etag:
        blob(reference, found.etag).unlink(missing_ok=True)


def blob(reference: Reference, etag: str) -> Path:
    """Where the Hub's client puts the bytes themselves."""
    return _repository(reference) / "blobs" / etag


def is_sha256(text: str) -> bool:
    """Whether it is a sha256, as the Hub names its large files."""
    return bool(_SHA256.fullmatch(text))


def _repository(reference: Reference) -> Path:
    return cache_folder() / f"models--{reference.repository.replace('/', '--')}"


def _revisions(reference: Reference) -> Iterator[str]:
    """The names of the snapshots in which a file may be."""
    row = recorded().get(str(reference))
    # Whoever writes into a shared cache shall not have others look for snapshots elsewhere.
    if row is not None and is_commit(row.commit):
        yield row.commit
    revision = reference.revision or MAIN
    ref = _repository(reference) / "refs" / revision
    if ref.is_file():
        named = ref.read_bytes()[:100].decode("ascii", "replace").strip()
        if is_commit(named):
            yield named
    yield revision
