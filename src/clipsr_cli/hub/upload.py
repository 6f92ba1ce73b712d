"""A file of this machine becomes a commit in a repository of the Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipsr_cli.errors import WeightsError
from clipsr_cli.hub import trouble
from clipsr_cli.hub.settings import endpoint, offline, quiet_client

CARD = "README.md"


def upload(
    path: Path, repository: str, card: str, *, private: bool = False, replace_card: bool = False
) -> tuple[str, bool]:
    """Publish a file and its card, both or neither.

    Args:
        path: the file; it keeps its name.
        repository: ``owner/repo``; it is made where it does not exist.
        card: the text of README.md. One that is there already stays.
        private: only who is allowed to may see the repository.
        replace_card: put ``card`` in the place of one that is there.

    Returns:
        the commit, and whether the card is in it.

    Raises:
        WeightsError: the Hub is out of reach or refuses; the repository is public and ``private``
            was asked for.
    """
    if offline():
        raise WeightsError(
            f"Nothing is published in {repository} while offline.", hint="Unset HF_HUB_OFFLINE."
        )
    from huggingface_hub import CommitOperationAdd, HfApi  # noqa: PLC0415 - slow to load

    hub = HfApi(endpoint=endpoint(), library_name="clipsr")
    try:
        with quiet_client(), _no_bars():
            hub.create_repo(repository, private=private or None, exist_ok=True)
            if private and not hub.model_info(repository).private:
                raise WeightsError(
                    f"{repository} exists and is public: nothing was published.",
                    hint="Make it private on its page, name another, or leave out --private.",
                )
            with_card = replace_card or not hub.file_exists(repository, CARD)
            files: dict[str, str | bytes] = {path.name: str(path)}
            if with_card:
                files[CARD] = card.encode()
            done = hub.create_commit(
                repository,
                [CommitOperationAdd(name, content) for name, content in files.items()],
                commit_message=f"Add {path.name}",
            )
    except WeightsError:
        raise
    except Exception as error:  # whatever the client and its HTTP library raise
        raise trouble.explain_upload(error, repository) from error
    return done.oid, with_card


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the client from drawing bars of its own, unless HF_HUB_DISABLE_PROGRESS_BARS decides."""
    import huggingface_hub.utils  # noqa: PLC0415 - slow to load

    utils: Any = huggingface_hub.utils
    decided = huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS is not None
    if decided or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
