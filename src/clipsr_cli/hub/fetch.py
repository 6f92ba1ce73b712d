"""A reference becomes a checked file of this machine: from the cache, or else from the Hub."""

import inspect
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from clipsr_cli.errors import WeightsError
from clipsr_cli.hub import cache, trouble
from clipsr_cli.hub.cache import MAIN, Cached, DamageError, Wanted
from clipsr_cli.hub.lock import Record, record
from clipsr_cli.hub.reference import Reference, is_commit
from clipsr_cli.hub.settings import cache_folder, endpoint, offline, quiet_client

logger = logging.getLogger(__name__)

# Called with a file's reference, the bytes that are here, and all its bytes (None: not known).
Progress = Callable[[str, int, int | None], None]

_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def reporting(progress: Progress) -> Iterator[None]:
    """Tell ``progress`` of everything that is fetched inside. Without it, one line is logged."""
    before = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(before)


def find(reference: Reference, *, sha256: str = "", size: int = 0, name: str = "") -> Path:
    """The local path of a file of the Hub, which is fetched if it is not here.

    Args:
        reference: the file.
        sha256: what it must have, in hexadecimal; "": what was recorded when it first came.
        size: what it must have, in bytes; 0: any.
        name: what the user calls it, for messages.

    Raises:
        WeightsError: it is no safetensors or JSON file; it is not here and cannot be fetched; it
            is damaged, or another one than it must be.
    """
    reference.check_format()
    if (found := cache.look(reference)) is not None:
        wanted = Wanted.of(reference, sha256=sha256, size=size, name=name)
        return cache.quick(reference, found, wanted)
    return fetch(reference, sha256=sha256, size=size, name=name)


def fetch(
    reference: Reference,
    *,
    sha256: str = "",
    size: int = 0,
    name: str = "",
    update: bool = False,
) -> Path:
    """Ask the Hub for a file, and read it through once it is here.

    A file that is here already is not transferred again; where its revision is a commit, or the
    Hub cannot be asked, it serves as it is. Of a damaged or unwanted file nothing stays behind.

    Args:
        reference: the file.
        sha256: as for ``find``.
        size: as for ``find``.
        name: as for ``find``.
        update: take a file that differs from what was recorded when it first came.

    Raises:
        WeightsError: as for ``find``.
    """
    reference.check_format()
    wanted = Wanted.of(reference, sha256=sha256, size=size, name=name, update=update)
    found = cache.look(reference)
    if offline():
        if found is None:
            raise trouble.not_here(reference, wanted.call)
        return _keep(reference, found, wanted)
    if found is not None and reference.pinned:
        with suppress(DamageError):
            return _keep(reference, found, wanted)
    try:
        with quiet_client():
            told = _ask(reference)
    except Exception as error:  # whatever the client and its HTTP library raise
        why = trouble.explain(error, reference)
        if found is None or trouble.is_answer(error):
            raise why from error
        logger.warning("%s What is here serves.", why)
        return _keep(reference, found, wanted)
    _check_answer(reference, told, wanted)
    if (found := cache.at_revision(reference, told.commit_hash)) is not None:
        try:
            return _keep(reference, found, wanted)
        except DamageError:
            # The client would take it for the right one.
            cache.discard(reference, found)
    found = _transfer(reference, told)
    try:
        return _keep(reference, found, wanted)
    except DamageError as error:
        cache.discard(reference, found)
        raise WeightsError(
            f"{reference} came with other bytes than the Hub named, and was not kept.",
            hint=f"Try again. {trouble.by_hand(reference)}",
        ) from error


def verify(
    reference: Reference, *, sha256: str = "", size: int = 0, name: str = ""
) -> Record | None:
    """Read through what is here of a file, without the network; None if nothing is.

    Args:
        reference: the file.
        sha256: as for ``find``.
        size: as for ``find``.
        name: as for ``find``.

    Raises:
        WeightsError: it is damaged, or another one than it must be.
    """
    if (found := cache.look(reference)) is None:
        return None
    wanted = Wanted.of(reference, sha256=sha256, size=size, name=name)
    return cache.examine(reference, found, wanted)


def _keep(reference: Reference, found: Cached, wanted: Wanted) -> Path:
    record(str(reference), cache.examine(reference, found, wanted))
    return found.path


def _ask(reference: Reference) -> Any:
    """The Hub's answer: commit, etag and size, without the file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url  # noqa: PLC0415 - slow to load

    return get_hf_file_metadata(
        hf_hub_url(
            reference.repository,
            reference.file,
            revision=reference.revision or MAIN,
            endpoint=endpoint(),
        )
    )


def _check_answer(reference: Reference, told: Any, wanted: Wanted) -> None:
    """Refuse what can be refused before a byte of it comes.

    Raises:
        WeightsError: the answer is not a Hub's, is about another file, or about one for which the
            disk has no room.
    """
    # Both become names of files here.
    if not is_commit(told.commit_hash or "") or not re.fullmatch(r"[\w-]+", told.etag or ""):
        raise WeightsError(
            f"{endpoint()} does not answer as a Hub does.", hint="Check HF_ENDPOINT and proxies."
        )
    if reference.pinned and told.commit_hash != reference.revision:
        raise WeightsError(f"The Hub answers {reference} with another commit, {told.commit_hash}.")
    digest = told.etag if len(told.etag) == 64 else ""
    wanted.compare(reference, sha256=digest, size=told.size)
    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if cache.blob(reference, told.etag).exists() or free >= (told.size or 0):
        return
    raise WeightsError(
        f"{reference} needs {told.size / 1e6:.1f} MB; {existing} has {free / 1e6:.1f} MB left.",
        hint="Make room, or set HF_HUB_CACHE to a folder on another disk.",
    )


def _transfer(reference: Reference, told: Any) -> Cached:
    """Let the client fetch a file into the cache.

    Raises:
        WeightsError: it could not.
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - slow to load

    progress = _progress.get()
    options: dict[str, Any] = {}
    if progress is None:
        much = f" ({told.size / 1e6:.1f} MB)" if told.size else ""
        logger.warning("Fetching %s%s into %s.", reference, much, cache_folder())
    else:
        progress(str(reference), 0, told.size)
    # Clients before 1.2 do not have it, and show a bar of their own on a terminal.
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
        options["tqdm_class"] = _bar(str(reference), progress or (lambda *_: None))
    try:
        with quiet_client():
            hf_hub_download(
                reference.repository,
                reference.file,
                revision=reference.revision or MAIN,
                cache_dir=cache_folder(),
                endpoint=endpoint(),
                library_name="clipsr",
                **options,
            )
    except Exception as error:  # whatever the client and its HTTP library raise
        _drop_useless_part(reference, told)
        raise trouble.explain(error, reference) from error
    found = cache.at_revision(reference, told.commit_hash, told.etag)
    if found is None:
        raise WeightsError(f"{reference} changed while it came.", hint="Try again.")
    return found


def _drop_useless_part(reference: Reference, told: Any) -> None:
    """Remove what an older client keeps to go on with, if it is too much to be a part."""
    part = cache.blob(reference, f"{told.etag}.incomplete")
    with suppress(OSError):
        if told.size is None or part.stat().st_size >= told.size:
            part.unlink()


def _bar(file: str, progress: Progress) -> type:
    """A progress bar for the client, which draws nothing and tells ``progress`` instead.

    The client may make two of them for one file, for what came and for what is written.
    """
    import huggingface_hub.utils  # noqa: PLC0415 - slow to load

    utils: Any = huggingface_hub.utils
    most = 0

    class Bar(utils.tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **settings: Any) -> None:
            self.here = int(settings.get("initial") or 0)
            super().__init__(*args, **settings | {"disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal most
            self.here += int(n or 0)
            if self.here > most:
                most = self.here
                progress(file, most, self.total)
            return None

    return Bar
