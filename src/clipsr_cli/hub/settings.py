"""The Hub client's own variables, as the environment has them now.

The client reads them once, when it is imported, and whoever imported it first decided. They are
read again here, by the client's rules, and given to each call.
(Source: huggingface_hub's ``constants.py`` and its page "Environment variables".)
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PUBLIC = "https://huggingface.co"


def cache_folder() -> Path:
    """Where the Hub's files lie: HF_HUB_CACHE, else ``hub`` in HF_HOME, else in ~/.cache."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "huggingface"
    )
    folder = (
        os.environ.get("HF_HUB_CACHE")
        or os.environ.get("HUGGINGFACE_HUB_CACHE")
        or os.path.join(home, "hub")
    )
    return Path(os.path.expandvars(folder)).expanduser()


def endpoint() -> str:
    """The Hub's address: HF_ENDPOINT, a mirror or one's own, else the public one."""
    return (os.environ.get("HF_ENDPOINT") or PUBLIC).rstrip("/")


def offline() -> bool:
    """Whether the network is forbidden: HF_HUB_OFFLINE, which ``--offline`` sets."""
    told = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return told.upper() in {"1", "ON", "YES", "TRUE"}


@contextmanager
def quiet_client() -> Iterator[None]:
    """Keep the client's own messages on each retry from the screen: one error follows, or none.

    HF_HUB_VERBOSITY, where it is set, decides.
    """
    client = logging.getLogger("huggingface_hub")
    before = client.level
    if not os.environ.get("HF_HUB_VERBOSITY"):
        client.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        client.setLevel(before)
