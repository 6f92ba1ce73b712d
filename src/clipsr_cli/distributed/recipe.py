"""What a worker needs to make its Upscaler, and the loop in which it serves."""

import logging
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

from clipsr_cli.errors import ClipsrError, ImageError, InputError, reason
from clipsr_cli.jobs import Done, Failed, Job
from clipsr_cli.upscale_options import UpscaleOptions


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that ``Upscaler.load`` takes, and the worker's share of the machine.

    Attributes:
        threads: CPU threads of the worker; None for all.
        folder: where relative paths start; None for where the worker is.
        level: of what is logged that which is told.
    """

    model: str
    scale: int
    device: str = "auto"
    precision: str = "auto"
    options: UpscaleOptions
    compile: bool = False
    threads: int | None = None
    folder: str | None = None
    level: int = logging.WARNING


@dataclass(frozen=True)
class Ready:
    """A worker is there, and takes so many jobs at once."""

    device: str
    precision: str
    appetite: int


@dataclass(frozen=True)
class Refused:
    """A worker could not begin."""

    error: Exception


# What a worker says.
Message = Ready | Refused | Done | Failed | logging.LogRecord


def serve(
    recipe: Recipe,
    jobs: "SimpleQueue[Job | None]",
    say: Callable[[Message], None],
    stopped: Callable[[], bool],
) -> None:
    """Enlarge what comes until it ends. Called in the worker.

    Args:
        recipe: what to make the Upscaler of.
        jobs: the jobs as they come, None behind the last.
        say: takes every message, from any thread.
        stopped: whether what is under way is to be given up.
    """
    # Loaded in the worker only: the one who hands out jobs needs no network.
    import torch  # noqa: PLC0415

    from clipsr_cli.upscaling import Upscaler  # noqa: PLC0415

    package = logging.getLogger("clipsr_cli")
    package.handlers = [_Sayer(say)]
    package.propagate = False
    package.setLevel(recipe.level)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    try:
        if recipe.folder:
            os.chdir(recipe.folder)
        upscaler = Upscaler.load(
            recipe.model,
            scale=recipe.scale,
            device=recipe.device,
            precision=recipe.precision,
            options=recipe.options,
            compile=recipe.compile,
        )
        outcomes = upscaler.run(taken(jobs), stopped=stopped)
        say(Ready(str(upscaler.device), upscaler.precision, upscaler.appetite))
    except ClipsrError as error:
        say(Refused(error))
        return
    except Exception as error:
        words = f"A worker cannot begin: {type(error).__name__}: {reason(error)}."
        say(Refused(InputError(words)))
        return
    for outcome in outcomes:
        say(_sendable(outcome))


def taken(given: "SimpleQueue[Job | None]") -> Iterator[Job | None]:
    """The jobs of a queue that ends with None; None where there is none at the moment."""
    while True:
        try:
            job = given.get_nowait()
        except Empty:
            yield None
            continue
        if job is None:
            return
        yield job


def died(job: Job, how: str) -> Failed:
    """The outcome of a picture whose workers died."""
    return Failed(
        job=job,
        error=ImageError(
            f"{job.input}: the worker that enlarged it died, {how}.",
            hint="Run it alone to see why: clipsr upscale with this file only.",
        ),
    )


def left(job: Job) -> Failed:
    """The outcome of a picture that no worker had, as all had died."""
    return Failed(
        job=job,
        error=ImageError(
            f"{job.input} was not begun: all workers had died.",
            hint="The same command again does what is left.",
        ),
    )


def _sendable(outcome: Done | Failed) -> Done | Failed:
    """The outcome, or one that says the same and can be sent."""
    if isinstance(outcome, Done):
        return outcome
    try:
        pickle.loads(pickle.dumps(outcome))
    except Exception:
        error = ImageError(f"{type(outcome.error).__name__}: {outcome.error}")
        return replace(outcome, error=error)
    return outcome


class _Sayer(logging.Handler):
    """Sends what is logged to where the jobs come from."""

    def __init__(self, say: Callable[[Message], Any]) -> None:
        super().__init__()
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        # Arguments may be what cannot be sent.
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self.say(record)
