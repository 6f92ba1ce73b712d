"""What the Hub's client raises becomes one clear error, with the way around the Hub."""

import errno
from collections.abc import Iterator

from clipsr_cli.errors import WeightsError, reason
from clipsr_cli.hub.cache import MAIN, place
from clipsr_cli.hub.reference import Reference
from clipsr_cli.hub.settings import cache_folder, endpoint

LOG_IN = "Log in: hf auth login, or set HF_TOKEN."
# What httpx (client 1.0 and later) and requests (before) call it, and Python itself.
UNREACHABLE = {"ConnectError", "ConnectTimeout", "ConnectionError", "ProxyError"}


def by_hand(reference: Reference) -> str:
    """How to do without the Hub's client: repository, file, folder."""
    return (
        f"By hand: put {reference.file.rpartition('/')[2]} of {reference.repository} (revision "
        f"{reference.revision or MAIN}) into {place(reference).parent}"
    )


def not_here(reference: Reference, call: str) -> WeightsError:
    """A file that would have to be fetched while the network is forbidden."""
    return WeightsError(
        f"{reference} is not on this machine, and offline (--offline, HF_HUB_OFFLINE) it is not "
        "fetched.",
        hint=f"With a network: clipsr weights pull {call}. {by_hand(reference)}",
    )


def is_answer(error: BaseException) -> bool:
    """Whether the Hub itself said no, rather than was out of reach, busy or broken."""
    status = _status(error)
    return status is not None and 400 <= status < 500 and status != 429


def explain(error: BaseException, reference: Reference) -> WeightsError:
    """What went wrong with a file, and what to do about it."""
    from huggingface_hub import errors  # noqa: PLC0415 - slow to load

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return explain(error.__cause__, reference)
    manual = by_hand(reference)
    repository = reference.repository
    if isinstance(error, errors.OfflineModeIsEnabled):
        return not_here(reference, str(reference))
    if isinstance(error, errors.RevisionNotFoundError):
        return WeightsError(
            f"{repository} has no revision {reference.revision or MAIN!r}.",
            hint=f"Check it on the repository's page: {reference}",
        )
    if isinstance(error, errors.EntryNotFoundError):
        return WeightsError(
            f"{repository} has no file {reference.file} (revision {reference.revision or MAIN}).",
            hint=f"Check it on the repository's page: {reference}",
        )
    about = _explain_access(error, repository)
    if about is not None:
        return WeightsError(about[0], hint=f"{about[1]} {manual}")
    return _explain_rest(error, f"{reference} was not fetched", f"Try again. {manual}")


def explain_upload(error: BaseException, repository: str) -> WeightsError:
    """What went wrong with an upload, and what to do about it."""
    about = _explain_access(error, repository)
    if about is not None:
        return WeightsError(about[0], hint=about[1])
    return _explain_rest(error, f"Nothing was published in {repository}", "Try again.")


def _explain_access(error: BaseException, repository: str) -> tuple[str, str] | None:
    """An answer that depends on who asks, and how often."""
    from huggingface_hub import errors  # noqa: PLC0415 - slow to load

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated: its owners say who may have it.",
            f"Ask for access on its page. {LOG_IN}",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (f"{repository} does not exist, or is private.", f"Check the name. {LOG_IN}")
    status = _status(error)
    if status == 401:
        return (f"The Hub does not accept who asks for {repository} (401).", LOG_IN)
    if status == 403:
        return (
            f"The Hub does not allow that with {repository} (403).",
            f"The token may lack a right. {LOG_IN}",
        )
    if status == 429:
        return (
            "The Hub is asked too often from here (429).",
            f"Wait some minutes; who is logged in may ask more often. {LOG_IN}",
        )
    return None


def _explain_rest(error: BaseException, outcome: str, hint: str) -> WeightsError:
    """Trouble with the network, the disk, or of a kind that nobody thought of."""
    chain = list(_chain(error))
    for cause in chain:
        number = getattr(cause, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            return WeightsError(
                f"{outcome}: the disk is full, {cache_folder()}.",
                hint="Make room, or set HF_HUB_CACHE to a folder on another disk.",
            )
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            return WeightsError(
                f"{outcome}: {cache_folder()} cannot be written.",
                hint="Set HF_HUB_CACHE to a folder of yours.",
            )
    status = next((found for cause in chain if (found := _status(cause)) is not None), None)
    if status is not None:
        return WeightsError(f"{outcome}: the Hub answers with an error ({status}).", hint=hint)
    kinds = {kind.__name__ for cause in chain for kind in type(cause).__mro__}
    if kinds & UNREACHABLE:
        return WeightsError(
            f"{outcome}: {endpoint()} cannot be reached ({_reason(chain)}).",
            hint=f"Check the network, HF_ENDPOINT and proxies. {hint}",
        )
    return WeightsError(f"{outcome}: the transfer broke off ({_reason(chain)}).", hint=hint)


def _reason(chain: list[BaseException]) -> str:
    """The first cause that says something, in one short line."""
    texts = (reason(cause) for cause in chain if isinstance(cause, Exception))
    return next(texts, "")[:200]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _status(error: BaseException) -> int | None:
    found = getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else None
