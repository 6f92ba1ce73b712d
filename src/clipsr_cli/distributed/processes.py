"""Workers that are processes of this machine, one for each device."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue

from clipsr_cli.distributed.recipe import Message, Recipe, serve
from clipsr_cli.distributed.scheduler import Gone, Start, Tell
from clipsr_cli.jobs import Job

# Seconds that a process has to end by itself.
PATIENCE = 60
# What is sent instead of a job where all is to be given up.
ABANDON = "abandon"
# What is for the one that hands out jobs; not every system has all of them.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


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
        with _deferred_signals():
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
        with suppress(OSError):
            self.connection.send(ABANDON)
        self._join()

    def _join(self) -> None:
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.listener.join(PATIENCE)
        self.connection.close()

    def _listen(self) -> None:
        try:
            while True:
                self.tell(self.connection.recv())
        except (EOFError, OSError):
            pass
        finally:
            # Whatever was sent: that it is over is told.
            self.process.join()
            self.tell(Gone(_how(self.process.exitcode or 0)))


def _how(code: int) -> str:
    """How a process has ended."""
    if code >= 0:
        return f"with exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"by {known.get(-code, f'signal {-code}')}"


@contextmanager
def _deferred_signals() -> Iterator[None]:
    """Have a process that is started meanwhile begin with signals waiting, until it decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It lets signals through when it is started, which it is with the first process.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _main(recipe: Recipe, connection: Connection) -> None:
    """What the process runs."""
    # Ctrl-C reaches every process of the terminal; the one that hands out jobs decides. If that one
    # is gone, so is the connection.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    lock = threading.Lock()

    def say(message: Message) -> None:
        # The other end may be gone; then nobody wants to know.
        with lock, suppress(OSError):
            connection.send(message)

    inbox = _Inbox(connection)
    serve(recipe, inbox.given, say, inbox.abandoned.is_set)


class _Inbox:
    """What is sent, read at once: the sender never waits, and an end is noticed at any time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.given: SimpleQueue[Job | None] = SimpleQueue()
        # Somebody says so, or nobody is there any more.
        self.abandoned = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while (message := self.connection.recv()) != ABANDON:
                self.given.put(message)
        except (EOFError, OSError):
            pass
        self.abandoned.set()
