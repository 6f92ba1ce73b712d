"""Everything that can go wrong for a user, as one tree of exceptions.

ClipsrError                 exit 1
├── InputError              exit 2   a path, option, prompt file or configuration is wrong
│   └── UnknownNameError    exit 2   a registry holds no such name
├── ImageError              exit 3   one picture cannot be read or written; the others go on
├── WeightsError            exit 4   weights are missing, unreachable or not what they should be
└── DeviceError             exit 5   the asked-for device is not there
"""

from collections.abc import Collection
from difflib import get_close_matches


class ClipsrError(Exception):
    """A failure that has a message for the user and, where possible, the next thing to type."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(ClipsrError):
    """What the user gave cannot be used: a path, an option, a prompt file, a configuration."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name was asked of a registry that does not hold it."""

    def __init__(self, kind: str, name: str, known: Collection[str]) -> None:
        close = get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known))}."
        super().__init__(f"No {kind} is named {name!r}.", hint=hint)


class ImageError(ClipsrError):
    """One picture cannot be decoded, converted or written."""

    exit_code = 3


class WeightsError(ClipsrError):
    """Weights are missing, cannot be fetched, or fail verification."""

    exit_code = 4


class DeviceError(ClipsrError):
    """The asked-for device does not exist or cannot be used."""

    exit_code = 5


def without_traceback(error: Exception) -> Exception:
    """An error that can be kept: without tracebacks, whose frames would keep whole pictures."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return error


def reason(error: Exception) -> str:
    """What went wrong, in one line and without the path, which the message has already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__
