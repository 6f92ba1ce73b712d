"""The Hugging Face Hub: files come from it checked, and generators go to it with a card.

The only part of the package that imports ``huggingface_hub``, and inside functions only: what is
here already is found without it.
"""

from clipsr_cli.hub.cache import Cached, look, place
from clipsr_cli.hub.fetch import Progress, fetch, find, reporting, verify
from clipsr_cli.hub.files import check_readable, read_metadata, sha256
from clipsr_cli.hub.lock import Record, lock_file, recorded
from clipsr_cli.hub.reference import FORMATS, SCHEME, Reference, parse_repository
from clipsr_cli.hub.settings import cache_folder, offline
from clipsr_cli.hub.upload import upload

__all__ = [
    "FORMATS",
    "SCHEME",
    "Cached",
    "Progress",
    "Record",
    "Reference",
    "cache_folder",
    "check_readable",
    "fetch",
    "find",
    "lock_file",
    "look",
    "offline",
    "parse_repository",
    "place",
    "read_metadata",
    "recorded",
    "reporting",
    "sha256",
    "upload",
    "verify",
]
