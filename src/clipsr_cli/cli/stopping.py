"""Ctrl-C and SIGTERM: the first lets what is under way be finished, the second stops at once."""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Self, TypeVar

from clipsr_cli.cli import console

T = TypeVar("T")

# A terminal that is closed sends SIGHUP, where there is such a thing.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Stop:
    """While it is entered, signals ask for a stop rather than end the program."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        # Only the main thread may decide on signals; elsewhere the program around decides.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # nohup, and shells that start in the background, have some of them ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def until(self, items: Iterable[T]) -> Iterator[T]:
        """The items, until a stop is asked for."""
        for item in items:
            if self.asked:
                return
            yield item

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # A signal may come in the middle of another line, which Python does not allow to be joined.
        with suppress(RuntimeError):
            console.say("Stopping: pictures under way are finished first; once more stops at once.")
