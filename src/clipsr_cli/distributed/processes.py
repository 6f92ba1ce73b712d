"""Workers that are processes of this machine, one for each device."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection

from clipsr_cli.distributed.recipe import Message, Recipe, serve
from clipsr_cli.distributed.scheduler import Gone, Start, Tell
from clipsr_cli.errors import ImageError
from clipsr_cli.jobs import Failed, Job

# Seconds that a process has to end by itself.
PATIENCE = 60


def processes(recipe: Recipe, devices: Sequence[str]) -> list[Start]:
    """Starts for a process on each device; main memory, and cores for the CPU, are shared out.

    Args:
        recipe: what all have in common.
        devices: their devices; ``cpu`` may come several times.
    """
    count = len(devices)
    options = recipe.options
    options = replace(
        options,
        max_memory=options.max_memory and options.max_memory // count,
        memory_share=options.memory_share / count,
    )
    threads = max(1, (os.cpu_count() or 1) // count)
    recipes = [
        replace(recipe, device=name, options=options, threads=threads if name == "cpu" else None)
        for name in devices
    ]
    return [partial(_Process, own) for own in recipes]


class _Process:
    """A process with an Upscaler, and a thread that listens to it."""

    def __init__(self, recipe: Recipe, tell: Tell) -> None:
        # A copy of this process would share its threads' locks and its device's state.
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_main, args=(recipe, other), daemon=True)
        self.process.start()
        # Else its end would not be seen here.
        other.close()
        self.tell = tell
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def give(self, job: Job) -> None:
        """See ``scheduler.Worker``."""
        # If it is gone, its listener tells.
        with suppress(OSError):
            self.connection.send(job)

    def finish(self) -> None:
        """See ``scheduler.Worker``."""
        with suppress(OSError):
            self.connection.send(None)
        self._join()

    def abandon(self) -> None:
        """See ``scheduler.Worker``."""
        # It sees that nobody is there, cleans up and ends.
        with suppress(OSError):
            self.connection.send("abandon")
        self._join()

    def _join(self) -> None:
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.listener.join(PATIENCE)
        self.connection.close()

    def _listen(self) -> None:
        while True:
            try:
                message = self.connection.recv()
            except (EOFError, OSError):
                break
            self.tell(message)
        self.process.join()
        code = self.process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        self.tell(Gone(how))


def _main(recipe: Recipe, connection: Connection) -> None:
    """What the process runs."""
    # Ctrl-C reaches every process of the terminal; the one that hands out jobs decides. If that one
    # is gone, so is the connection.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    lock = threading.Lock()

    def say(message: Message) -> None:
        message = _sendable(message)
        # The other end may be gone; then nobody wants to know.
        with lock, suppress(OSError):
            connection.send(message)

    with suppress(EOFError):
        serve(recipe, lambda: _jobs(connection), say)


def _jobs(connection: Connection) -> Iterator[Job | None]:
    """What is sent; None where nothing is at the moment.

    Raises:
        EOFError: nobody is there any more, so that what is at hand is to be given up.
    """
    while True:
        if not connection.poll():
            yield None
            continue
        job = connection.recv()
        if job is None:
            return
        if job == "abandon":
            raise EOFError
        yield job


def _sendable(message: Message) -> Message:
    """The message, or one that says the same and can be sent."""
    try:
        pickle.loads(pickle.dumps(message))
    except Exception:
        if not isinstance(message, Failed):
            raise
        return Failed(
            job=message.job,
            error=ImageError(f"{type(message.error).__name__}: {message.error}"),
            seconds=message.seconds,
            device=message.device,
            precision=message.precision,
        )
    return message
