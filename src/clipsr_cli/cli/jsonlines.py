"""A ``--report`` file: a JSON line for each picture, as it comes."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TextIO

from clipsr_cli.cli import console
from clipsr_cli.errors import ClipsrError, InputError


class JsonLines:
    """Writes objects to a file, one a line; nothing without a path."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.file: TextIO | None = None
        # What went wrong with it on the way, in words.
        self.error = ""

    def __enter__(self) -> Self:
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                # File names that are not UTF-8 hold lone surrogates, which JSON can only escape.
                self.file = self.path.open("w", encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise InputError(
                    f"Cannot write the report {self.path}: {error.strerror}."
                ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            # What could not be written has been told.
            with suppress(OSError):
                self.file.close()

    def add(self, row: dict[str, Any]) -> None:
        """Write one line, so that it is there whatever comes next.

        A report that cannot be written any more is told of once, and stops nothing.
        """
        if self.file is None or self.error:
            return
        try:
            self.file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self.file.flush()
        except OSError as error:
            self.error = f"The report {self.path} is not complete: {error.strerror}."
            console.say(f"warning: {self.error}")

    def check(self) -> None:
        """Called behind all else, where a report that is not complete is a failure.

        Raises:
            ClipsrError: it is not.
        """
        if self.error:
            raise ClipsrError(self.error, hint="The pictures are done, as far as is said above.")
