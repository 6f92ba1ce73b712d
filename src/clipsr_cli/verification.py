"""Every file of weights that is here, read through without the network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clipsr_cli import hub
from clipsr_cli.errors import WeightsError
from clipsr_cli.weights import Part, needed, registry


@dataclass(frozen=True)
class Checked:
    """What was found of one file.

    Attributes:
        name: of its row, or its reference.
        file: as the row has it.
        here: whether it is on this machine.
        error: what is wrong with it, or None.
    """

    name: str
    file: str
    here: bool
    error: WeightsError | None = None


def verify(names: Sequence[str] = ()) -> Iterator[Checked]:
    """Recompute the hashes of what is here.

    A file of the Hub must have the hash that the cache calls it by, that of its row, and that of
    the record; one in the package, of whose hash nothing is known, must be a whole safetensors
    file.

    Args:
        names: registry names and references; by default all of the registry and of the record.

    Yields:
        each file, once.

    Raises:
        UnknownNameError: no entry has such a name.
        InputError: a name is no reference.
        WeightsError: the record cannot be read.
    """
    seen = set()
    for part in [part for name in names or _everything() for part in needed(name)]:
        if part.file not in seen:
            seen.add(part.file)
            yield _check(part)


def _everything() -> list[str]:
    return [*registry(), *hub.recorded()]


def _check(part: Part) -> Checked:
    name = part.name or part.file
    try:
        if (reference := part.reference) is not None:
            here = hub.verify(reference, sha256=part.sha256, size=part.size, name=part.name)
            return Checked(name, part.file, here is not None)
        path = part.locate()
        hub.check_readable(path)
        if part.sha256 and hub.sha256(path) != part.sha256:
            raise WeightsError(f"{path} does not have the sha256 of its row.")
        return Checked(name, part.file, here=True)
    except WeightsError as error:
        return Checked(name, part.file, part.place().is_file(), error)
