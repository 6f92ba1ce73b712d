"""Read the list of nouns that ``labels`` chooses from."""

from dataclasses import dataclass
from pathlib import Path

from clipsr_cli.datasets.attributes import with_article
from clipsr_cli.errors import InputError
from clipsr_cli.prompts import one_line, read_text
from clipsr_cli.weights import ASSETS

PACKAGED = ASSETS / "labels.txt"
# What a noun may begin with instead of needing an article.
DETERMINERS = frozenset({"a", "an", "the", "some", "two", "three", "four", "several", "many"})
# Words in s that are no plurals.
SINGULAR_ENDINGS = ("ss", "us", "is", "as", "ens")


@dataclass(frozen=True, kw_only=True)
class Noun:
    """Something that a picture may show.

    Attributes:
        phrase: the noun as it stands in a sentence: ``an owl``.
        kind: what it is one of, in the same form: ``a bird``; its own phrase where none is given.
    """

    phrase: str
    kind: str


def read_nouns(path: Path | None = None) -> list[Noun]:
    """Read a list of nouns, one a line; a line that ends in a colon begins a kind, # a comment.

    Args:
        path: a UTF-8 text file; None for the list of the package.

    Raises:
        InputError: it cannot be read, holds no noun, or holds one twice.
    """
    path = path or PACKAGED
    nouns: dict[str, Noun] = {}
    kind = ""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        words = one_line(line.partition("#")[0])
        if not words:
            continue
        if words.endswith(":"):
            kind = as_phrase(words[:-1].rstrip())
            continue
        noun = as_phrase(words)
        if noun in nouns:
            raise InputError(f"{path}, line {number}: {words!r} comes twice.")
        nouns[noun] = Noun(phrase=noun, kind=kind or noun)
    if not nouns:
        raise InputError(f"{path} holds no nouns.", hint="Write one noun a line, such as: owl")
    return list(nouns.values())


def as_phrase(words: str) -> str:
    """A noun with its article, unless it has one or is a plural: ``an owl``, ``jeans``."""
    # What is counted in "pair of shoes" are pairs.
    head = words.lower().partition(" of ")[0]
    plural = head.endswith("s") and not head.endswith(SINGULAR_ENDINGS)
    determined = head.split()[:1] and head.split()[0] in DETERMINERS
    return words if determined or plural else with_article(words)
