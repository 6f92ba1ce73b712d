"""``hf://owner/repo@revision/file`` and its parts."""

import re
from dataclasses import dataclass, replace
from typing import Self

from clipsr_cli.errors import InputError, WeightsError

SCHEME = "hf://"
# What may come from the Hub: tensors and settings. Reading other formats of weights can run code.
FORMATS = (".safetensors", ".json")

_PARTS = re.compile(
    r"(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>refs/pr/\d+|[^/]*))?/(?P<file>.*)", re.DOTALL
)
# The Hub's own rules for names (huggingface_hub.utils.validate_repo_id).
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"refs/pr/\d+|[A-Za-z0-9_][A-Za-z0-9._+-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HINT = (
    f"Write {SCHEME}owner/repo/FILE.safetensors, or {SCHEME}owner/repo@REVISION/FILE.safetensors."
)


@dataclass(frozen=True)
class Reference:
    """A file in a repository of models.

    Attributes:
        repository: ``owner/repo``.
        file: its path in the repository, with ``/``.
        revision: a commit, tag, branch or ``refs/pr/N``; "" is the newest of ``main``.
    """

    repository: str
    file: str
    revision: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``hf://owner/repo/file`` or ``hf://owner/repo@revision/file``.

        Raises:
            InputError: it is not of that form, or could lead out of the repository's folder.
        """
        found = _PARTS.fullmatch(text.removeprefix(SCHEME)) if text.startswith(SCHEME) else None
        if found is None:
            raise InputError(f"{text!r} is not a reference to a file of the Hub.", hint=_HINT)
        repository, revision, file = found["repository"], found["revision"], found["file"]
        _check_repository(repository, text)
        if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise InputError(
                f"{text!r} has no usable revision.",
                hint="A revision is a commit, a tag, a branch without /, or refs/pr/NUMBER.",
            )
        parts = file.split("/")
        if (
            {"", ".", ".."} & set(parts)
            or not file.isprintable()
            or re.search(r'[\\:*?"<>|]', file)
        ):
            raise InputError(f"{text!r} names no file inside its repository.", hint=_HINT)
        return cls(repository, file, revision or "")

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repository}{at}/{self.file}"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return bool(_COMMIT.fullmatch(self.revision))

    def at(self, revision: str) -> "Reference":
        """The same file at another revision."""
        return replace(self, revision=revision)

    def sibling(self, file: str) -> "Reference":
        """Another file of the same repository and revision."""
        return replace(self, file=file)

    def check_format(self, formats: tuple[str, ...] = FORMATS) -> None:
        """Refuse, by its name, a file that is not only data.

        Raises:
            WeightsError: the name does not end as one of the formats.
        """
        if not self.file.endswith(formats):
            raise WeightsError(
                f"{self} is not fetched: only {' and '.join(formats)} files are, as reading others "
                "(pickles) can run code.",
                hint="Convert it to safetensors where you trust it, and give that file's path, "
                "also in your own weights.toml (CLIPSR_WEIGHTS).",
            )


def is_commit(text: str) -> bool:
    """Whether it is a full commit hash."""
    return bool(_COMMIT.fullmatch(text))


def parse_repository(text: str) -> str:
    """``hf://owner/repo`` -> ``owner/repo``.

    Raises:
        InputError: it is not of that form.
    """
    repository = text.removeprefix(SCHEME)
    if not text.startswith(SCHEME) or repository.count("/") != 1:
        raise InputError(f"{text!r} is not a repository.", hint=f"Write {SCHEME}owner/repo.")
    _check_repository(repository, text)
    return repository


def _check_repository(repository: str, text: str) -> None:
    names = repository.split("/")
    wrong = [name for name in names if not _NAME.fullmatch(name) or "--" in name or ".." in name]
    if wrong or repository.endswith(".git"):
        raise InputError(f"{text!r} has no usable repository, owner/repo.", hint=_HINT)
