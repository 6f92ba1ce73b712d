"""Where an evaluation keeps its rows and pictures, so that a second run need not make them again.

rows.jsonl                         one row of scores for each model and picture
pictures/reference/NAME.png        what each picture should be
pictures/low/NAME.png              what it was made from
pictures/MODEL/NAME.png            what each model made of it
pictures/reference/metadata.jsonl  captions, so that the folder is a dataset of its own
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor

from clipsr_cli import encoders
from clipsr_cli.errors import InputError, reason
from clipsr_cli.evaluation.pairs import Pair, to_pixels
from clipsr_cli.evaluation.report import Row
from clipsr_cli.pictures import Picture
from clipsr_cli.prompts import read_json_lines

ROWS = "rows.jsonl"
PICTURES = "pictures"
METADATA = "metadata.jsonl"
REFERENCE = "reference"
LOW = "low"
# Bytes of a file's name.
LONGEST = 200


class Folder:
    """The kept part of one evaluation.

    Args:
        path: the folder; it is made.
        rules: all that decides a score beside picture and model. Rows made by other rules are left
            alone, and not used.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, path: Path, rules: dict[str, Any]) -> None:
        self.path = path
        self.rules = _digest(json.dumps(rules, sort_keys=True, default=str).encode())
        self._rows: dict[tuple[str, ...], Row] = {}
        # What the picture of each model and name is the result of.
        self._last: dict[tuple[str, str], tuple[str, ...]] = {}
        self._seen: set[str] = set()
        self._captions: dict[str, str] = {}
        try:
            (path / PICTURES).mkdir(parents=True, exist_ok=True)
            for own in (path / PICTURES, path / ROWS):
                if own.is_symlink():
                    raise OSError(f"{own.name} in it is a link")
            self._read()
            self._file: TextIO = (path / ROWS).open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise InputError(f"Cannot write the report {path}: {reason(error)}.") from error

    def close(self) -> None:
        """Write what is not yet written."""
        self._file.close()
        if not self._captions:
            return
        metadata = self.path / PICTURES / REFERENCE / METADATA
        captions = self._kept_captions(metadata) | self._captions
        lines = (
            json.dumps({"file_name": name, "text": [text] if text else []})
            for name, text in sorted(captions.items())
        )
        metadata.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def picture(self, kind: str, name: str) -> Path:
        """Where a picture is: ``kind`` is a model's name, ``reference`` or ``low``."""
        folder = self.path / PICTURES / _safe(kind)
        # Names of datasets hold no "..": their readers refuse it.
        return folder.joinpath(*map(_fitting, f"{name}.png".split("/")))

    def keep_pair(self, pair: Pair) -> None:
        """Write what a picture should be and what it is made from, once."""
        if pair.name in self._seen:
            return
        self._seen.add(pair.name)
        place = self.picture(REFERENCE, pair.name)
        self._write(place, pair.high, gray=pair.gray)
        self._captions[place.relative_to(self.path / PICTURES / REFERENCE).as_posix()] = (
            pair.caption
        )
        if pair.low is not None:
            self._write(self.picture(LOW, pair.name), pair.low, gray=pair.gray)

    def row(self, model: str, fingerprint: str, pair: Pair) -> Row | None:
        """The kept row of a model's result, where it is of the same picture and words."""
        key = self._key(model, fingerprint, pair)
        if self._last.get((model, pair.name)) != key:
            return None
        return self._rows[key] if self.picture(model, pair.name).is_file() else None

    def keep(self, model: str, fingerprint: str, pair: Pair, result: Tensor, row: Row) -> None:
        """Write a result and its row."""
        self._write(self.picture(model, pair.name), result, gray=False)
        key = self._key(model, fingerprint, pair)
        self._rows[key] = row
        self._last[model, pair.name] = key
        line: dict[str, Any] = {"key": key, "model": model, "name": row.name, "prompt": row.prompt}
        line |= {"caption": row.caption, "scores": row.scores}
        self._file.write(json.dumps(line) + "\n")

    @staticmethod
    def _kept_captions(metadata: Path) -> dict[str, str]:
        """The captions of pictures that earlier runs left there."""
        if not metadata.is_file():
            return {}
        found = (row for _, row in read_json_lines(metadata))
        return {
            row["file_name"]: next(iter(row.get("text", [])), "")
            for row in found
            if (metadata.parent / row["file_name"]).is_file()
        }

    def _key(self, model: str, fingerprint: str, pair: Pair) -> tuple[str, ...]:
        picture = digest_picture(pair.high)
        return (self.rules, fingerprint, model, pair.name, pair.prompt, pair.caption, picture)

    def _read(self) -> None:
        path = self.path / ROWS
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                found = json.loads(line)
                row = Row(
                    name=found["name"],
                    prompt=found["prompt"],
                    caption=found["caption"],
                    scores=dict(found["scores"]),
                )
                key = tuple(found["key"])
                self._rows[key] = row
                self._last[found["model"], row.name] = key
            except (ValueError, KeyError, TypeError, RecursionError):
                # Half a line, of a run that was killed.
                continue

    @staticmethod
    def _write(path: Path, image: Tensor, *, gray: bool) -> None:
        encoders.write(Picture(pixels=to_pixels(image), gray=gray), path, "png")


def digest_picture(image: Tensor) -> str:
    """What tells a picture (3, H, W) in [0, 1] from another of its size: a digest of its pixels."""
    return _digest(to_pixels(image).tobytes())


def _safe(name: str) -> str:
    """A folder's name for a model's name, which may be a path."""
    plain = re.sub(r"[^\w.()+ -]+", "_", name).strip(". ")
    # Another name may come to the same plain one.
    return _fitting(plain if plain == name else f"{plain}~{_digest(name.encode())[:6]}")


def _fitting(part: str) -> str:
    """A part of a path, shortened where a file system might not take it with what is put aside."""
    content = part.encode("utf-8", "surrogateescape")
    if len(content) <= LONGEST:
        return part
    short = content[: LONGEST - 40].decode("utf-8", "ignore")
    return f"{short}~{_digest(content)}{Path(part).suffix[:8]}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
