"""What people see: results on stdout; progress, warnings and errors on stderr."""

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from clipsr_cli.errors import ClipsrError

# Control characters but for the tab, other ends of lines, and what turns the direction of text, as
# they are written in Python.
HIDDEN = (
    *range(9),
    *range(10, 32),
    *range(127, 160),
    *(0x061C, 0x200E, 0x200F),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
)
ESCAPES = {code: ascii(chr(code))[1:-1] for code in HIDDEN}


class _Plain(Console):
    """Shows text as it is: ``[red].png`` and ``:cat:.png`` are file names, not markup; and what
    would command the terminal, in tables too, as it is written in Python.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(_plain_lines(text), **options)


def err() -> Console:
    """The console on stderr, as it is now (tests and pipes replace it)."""
    return _Plain(stderr=True)


def out() -> Console:
    """The console on stdout."""
    return _Plain()


def plain(text: str) -> str:
    """One line that cannot send commands to the terminal, nor pass for two: file names and captions
    hold anything, an "error:" of their own as well.
    """
    return text.translate(ESCAPES)


def _plain_lines(text: str) -> str:
    """The same of a text of our own, whose lines stay lines."""
    return "\n".join(map(plain, text.split("\n")))


def tell(*lines: str) -> None:
    """Lines of a result, on stdout: any text, a picture's name or a dataset's, shown as it is."""
    print(*map(plain, lines), sep="\n")


def say(message: str) -> None:
    """One line for people, on stderr."""
    err().print(plain(message))


def print_json(value: Any) -> None:
    """A JSON object on one line of stdout, for programs."""
    # ASCII, as nobody knows which encoding a pipe's other end expects.
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def show_error(error: ClipsrError) -> None:
    """An error's message and what to do about it."""
    console = err()
    console.print(Text.assemble(("error:", "bold red"), f" {plain(str(error))}"))
    if error.hint:
        console.print(f"       {plain(error.hint)}")


class _Lines(logging.Formatter):
    """A message on one line; what it was raised by, if that is told at all, on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return _plain_lines(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return plain(super().formatMessage(record))


class _Stderr(logging.Handler):
    """Writes to what is stderr at the moment: above the progress bar, while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")


def set_up_logging(*, quiet: bool, verbose: bool) -> None:
    """Show this package's warnings on stderr, all its messages with ``verbose``, others' errors."""
    handler = _Stderr()
    handler.setFormatter(_Lines("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    logging.getLogger("clipsr_cli").setLevel(level)


@contextmanager
def progress(total: int, *, show: bool) -> Iterator["Bar"]:
    """A progress bar with the time left, on a terminal only."""
    console = err()
    if not (show and console.is_terminal):
        yield Bar(None, None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield Bar(bars, bars.add_task("Starting", total=total))


class Bar:
    """Where a progress bar stands, or nothing where none is shown."""

    def __init__(self, bars: Progress | None, task: Any) -> None:
        self.bars = bars
        self.task = task

    @property
    def shown(self) -> bool:
        """Whether there is a terminal that shows it."""
        return self.bars is not None

    def move(self, done: int, description: str) -> None:
        """So many done by now."""
        if self.bars is not None:
            self.bars.update(self.task, completed=done, description=plain(description))

    def advance(self, description: str) -> None:
        """One more done."""
        if self.bars is not None:
            self.bars.update(self.task, advance=1, description=plain(description))

    def say(self, message: str) -> None:
        """A line that stays, above the bar."""
        console = self.bars.console if self.bars is not None else err()
        console.print(plain(message))


@contextmanager
def transfers(*, show: bool) -> Iterator["Transfers"]:
    """Bars for files that come from elsewhere on a terminal, and a line for each file else."""
    console = err()
    if not (show and console.is_terminal):
        yield Transfers(None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield Transfers(bars)


class Transfers:
    """How much has come of each file."""

    def __init__(self, bars: Progress | None) -> None:
        self.bars = bars
        self.tasks: dict[str, TaskID | None] = {}

    def move(self, file: str, here: int, whole: int | None) -> None:
        """So many bytes by now, of so many (None: not known)."""
        if self.bars is None:
            if file not in self.tasks:
                self.tasks[file] = None
                say(f"Fetching {file}" + (f" ({whole / 1e6:.1f} MB)" if whole else ""))
            return
        task = self.tasks.get(file)
        if task is None:
            task = self.tasks[file] = self.bars.add_task(file.rpartition("/")[2], total=whole)
        self.bars.update(task, completed=here, total=whole)

    def say(self, message: str) -> None:
        """A line that stays, above the bars."""
        console = self.bars.console if self.bars is not None else err()
        console.print(plain(message))


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Table:
    """A table of plain values."""
    made = Table(show_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(plain(str(value)) for value in row))
    return made


def count(number: int, word: str) -> str:
    """A number of things: ``1 picture``, ``2 pictures``."""
    return f"{number} {word}" + ("" if number == 1 else "s")


def seconds_since(start: float) -> float:
    """Seconds since a ``time.perf_counter()``, to the millisecond."""
    return round(time.perf_counter() - start, 3)
