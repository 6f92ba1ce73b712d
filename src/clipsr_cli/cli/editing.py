"""``clipsr eval --edits``: whether prompts move results towards what they say."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clipsr_cli.cli import console
from clipsr_cli.cli.exits import SOME_FAILED
from clipsr_cli.errors import ImageError, InputError

if TYPE_CHECKING:
    from clipsr_cli.datasets import Sample
    from clipsr_cli.evaluation.editing import Editing, Moved
    from clipsr_cli.evaluation.protocol import Protocol
    from clipsr_cli.metrics import Setting

# Of the sheet.
MOST_ROWS = 24


def evaluate_edits(
    edits: Path,
    samples: "list[Sample]",
    *,
    model: str,
    protocol: "Protocol",
    setting: "Setting",
    precision: str,
    report: Path | None,
    json: bool,
    show: bool,
    quiet: bool,
) -> None:
    """Enlarge every picture with both prompts of every pair at several strengths, and compare.

    Raises:
        InputError: the prompt pairs cannot be read, or the model takes no text.
        ImageError: no picture can be read.
    """
    from clipsr_cli.evaluation.contenders import by_strength
    from clipsr_cli.evaluation.editing import Editing, read_edits
    from clipsr_cli.evaluation.pairs import make_pair
    from clipsr_cli.evaluation.scoring import PLAIN

    asked = read_edits(edits)
    if model in PLAIN:
        raise InputError(f"--edits cannot be given with --model {model}, which takes no text.")
    assert protocol.scale is not None
    enlargers = by_strength(
        model, scale=protocol.scale, device=str(setting.device), precision=precision
    )
    pairs = {sample.name: partial(make_pair, sample, protocol, "") for sample in samples}
    if report is not None:
        try:
            report.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write the report {report}: {error.strerror}.") from error
    editing = Editing(pairs, asked, enlargers, setting, shown=MOST_ROWS if report else 0)
    with console.progress(editing.total, show=show) as bar:
        for name in editing.run():
            bar.advance(name)
    for name, why in editing.failed.items():
        console.say(f"failed: {name}: {why}")
    moved = editing.moved()
    if not moved:
        raise ImageError("No picture could be read.")
    found = {
        "edits": [_plain(row) for row in moved],
        "model": model,
        "protocol": {k: v for k, v in protocol.in_words().items() if k != "prompts"},
        "clip": setting.clip.name if setting.clip else None,
    }
    if json:
        console.print_json(found)
    else:
        _show(moved, found)
    if report is not None:
        _write(editing, found, report)
        if not quiet:
            console.say(f"The report: {report / 'edits.json'} and {report / 'edits.png'}")
    if editing.failed:
        raise typer.Exit(SOME_FAILED)


def _plain(row: "Moved") -> dict[str, Any]:
    values = asdict(row)
    edit = values.pop("edit")
    return {"from": edit["source"], "to": edit["target"], **values}


def _show(moved: "list[Moved]", found: dict[str, Any]) -> None:
    def cell(value: Any, digits: int) -> str:
        if value is None:
            return "-"
        return f"{value.mean:+.{digits}f} [{value.low:+.{digits}f}, {value.high:+.{digits}f}]"

    rows = (
        (
            f"{row.edit.source} -> {row.edit.target}",
            row.strength,
            cell(row.clip_gain, 3),
            cell(row.colour_gain, 3),
            f"{row.lr_psnr.mean:.2f}",
        )
        for row in moved
    )
    columns = ("edit", "strength", "CLIP gain", "colour gain, 1/255", "LR-PSNR, dB")
    console.out().print(console.table(columns, rows))
    console.out().print(f"\n{moved[0].clip_gain.n} pictures; CLIP gain by {found['clip']}; 95 %")
    for name, value in found["protocol"].items():
        if value is not None:
            console.out().print(f"{name}: {value}")


def _write(editing: "Editing", found: dict[str, Any], folder: Path) -> None:
    import json

    from PIL import Image

    from clipsr_cli.encoders.place import place
    from clipsr_cli.reports import draw_sheet, strip

    strips = [
        strip(
            Image.fromarray(small.pixels),
            *(Image.fromarray(picture) for picture in made),
            label=prompt,
        )
        for small, made, prompt in editing.strips
    ]
    titles = ("small", "bicubic", *(f"strength {strength:g}" for strength in editing.enlargers))
    draw_sheet(titles, strips, folder / "edits.png")
    text = json.dumps(found, indent=2)
    with place(folder / "edits.json") as file:
        file.write(f"{text}\n".encode())
