"""Have the weights that a command needs on this machine, and show what comes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from clipsr_cli.cli import console
from clipsr_cli.errors import WeightsError


@contextmanager
def fetching(*, show: bool, quiet: bool) -> Iterator[None]:
    """What is fetched inside is told of.

    Args:
        show: by bars, where there is a terminal; else by a line for each file.
        quiet: not at all.
    """
    if quiet:
        yield
        return

    from clipsr_cli import hub

    with console.transfers(show=show) as bars, hub.reporting(bars.move):
        yield


def find_model(model: str, scale: int) -> None:
    """Have a generator and the CLIP it was trained with here, before torch is loaded.

    Raises:
        InputError: no such model, or it has no weights for that scale.
        WeightsError: a file is not there and cannot be fetched, or is not what it must be.
    """
    from clipsr_cli import hub
    from clipsr_cli.weights import find_clip, find_generator

    path = find_generator(model, scale)
    notes: dict[str, str] = {}
    # If something is the matter with it, those who load it say so better.
    with suppress(WeightsError):
        notes = hub.read_metadata(path)
    if notes.get("clip") and notes.get("scale", str(scale)) == str(scale):
        find_clip(notes["clip"])
