"""``clipsr data``: what of a dataset is there, and the making of what it lacks."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsr_cli.cli import console
from clipsr_cli.cli.options import Json
from clipsr_cli.errors import InputError

if TYPE_CHECKING:
    from clipsr_cli.datasets import Part, Sample

MOST_LISTED = 10

data_app = typer.Typer(help="The datasets to train and evaluate on.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="folder, cub, celeba, coco, ref-ytvos or ref-sailvos.",
        show_default=False,
    ),
]
DataRoot = Annotated[
    Path, typer.Option("--data-root", help="The folder it lies in.", show_default=False)
]
Group = Annotated[
    int | None,
    typer.Option("--group", help="Which fold of categories is tested, of ref-ytvos, ref-sailvos."),
]


@data_app.command()
def check(name: Name, data_root: DataRoot, group: Group = None, json: Json = False) -> None:
    """Say what of a dataset is there, what is missing, and how to get it."""
    from clipsr_cli import datasets

    dataset, options = datasets.find(name), datasets.Options(group=group)
    parts = dataset.check(data_root, options)
    samples: list[Sample] = []
    problem = next((part.found for part in parts if part.needed and not part.ok), "")
    hint = ""
    if not problem:
        try:
            samples = dataset.read(data_root, options)
        except InputError as error:
            problem, hint = error.message, error.hint
    if json:
        found = {"dataset": name, "data_root": str(data_root), "usable": not problem}
        console.print_json(found | _as_json(parts, samples) | {"source": dataset.source})
    else:
        console.tell(f"{name}: {dataset.about}", "")
        _show(parts, samples)
        console.tell("", f"Source: {dataset.source}")
    if problem:
        raise InputError(f"{name} in {data_root} cannot be used: {problem}", hint=hint)


@data_app.command()
def prepare(
    name: Name,
    data_root: DataRoot,
    group: Group = None,
    held_back: Annotated[
        float | None,
        typer.Option(
            "--held-back",
            help="Share of the pictures to test with, of folder and celeba; 0.05 by default.",
        ),
    ] = None,
) -> None:
    """Write the split and the captions that a dataset lacks; what is there is left alone."""
    from clipsr_cli import datasets

    dataset = datasets.find(name)
    if held_back is not None and name not in datasets.SPLIT_BY_SHARE:
        known = " and ".join(datasets.SPLIT_BY_SHARE)
        raise InputError(
            f"{name} is never split by --held-back.", hint=f"Only {known} are. Leave it out."
        )
    share = {} if held_back is None else {"held_back": held_back}
    written = dataset.prepare(data_root, datasets.Options(group=group, **share))
    for path in written[:MOST_LISTED]:
        console.tell(f"Wrote {path}")
    if len(written) > MOST_LISTED:
        console.tell(f"and {len(written) - MOST_LISTED:,} more.")
    if not written:
        console.tell(f"Nothing to prepare: {name} in {data_root} has what it needs.")


def _as_json(parts: "list[Part]", samples: "list[Sample]") -> dict[str, Any]:
    from dataclasses import asdict

    first = {"name": samples[0].name, "caption": _caption(samples)} if samples else None
    return {
        "parts": [asdict(part) for part in parts],
        "splits": dict(Counter(sample.split for sample in samples)),
        "samples": len(samples),
        "captions": sum(len(sample.captions) for sample in samples),
        "example": first,
    }


def _show(parts: "list[Part]", samples: "list[Sample]") -> None:
    from clipsr_cli.datasets.splits import in_words

    rows = [(part.what, part.found, _state(part)) for part in parts]
    console.out().print(console.table(("part", "found", "state"), rows))
    for part in parts:
        if part.advice:
            console.tell("", f"{part.what}: {part.advice}")
    if not samples:
        return
    splits = in_words(sample.split for sample in samples)
    captions = sum(len(sample.captions) for sample in samples)
    console.tell("", f"Samples: {splits}; {captions:,} captions")
    console.tell(f"Example: {samples[0].name}: {_caption(samples) or 'no caption'}")


def _state(part: "Part") -> str:
    if part.ok:
        return "ok"
    return "needed" if part.needed else "optional"


def _caption(samples: "list[Sample]") -> str:
    return next(iter(samples[0].captions), "")
