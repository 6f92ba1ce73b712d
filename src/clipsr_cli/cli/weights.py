"""``clipsr weights``: what can be given to ``--model`` and ``--clip``, and how to get it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clipsr_cli.cli import console
from clipsr_cli.cli.importing import import_weights
from clipsr_cli.cli.options import Json, Progress
from clipsr_cli.errors import ClipsrError, InputError, WeightsError

weights_app = typer.Typer(
    help="The weights that clipsr knows by name, and those on the Hugging Face Hub.",
    no_args_is_help=True,
)

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Names, or hf://owner/repo[@revision]/file."),
]


@weights_app.command("list")
def list_weights(json: Json = False) -> None:
    """List the known weights: kind, scales, size, licence, and whether they are present."""
    from clipsr_cli.weights import registry

    rows: list[dict[str, Any]] = []
    for name, entry in registry().items():
        present = entry.present
        on_disk = sum(file.stat().st_size for file in entry.paths() if file.is_file())
        rows.append(
            {
                "name": name,
                "kind": entry.kind,
                "scales": list(entry.scales),
                "clip": entry.clip,
                # 0: not here, and not known.
                "size": on_disk if present else sum(entry.size),
                "present": present,
                "licence": entry.licence,
                "description": entry.description,
            }
        )
    if json:
        console.print_json({"weights": rows})
        return
    columns = ("name", "kind", "scales", "size", "present", "licence")
    shown = (
        (
            row["name"],
            row["kind"],
            " ".join(f"x{scale}" for scale in row["scales"]),
            f"{row['size'] / 1e6:.1f} MB" if row["size"] else "?",
            "yes" if row["present"] else "no",
            row["licence"],
        )
        for row in rows
    )
    table = console.table(columns, shown)
    table.columns[0].no_wrap = True
    console.out().print(table)


@weights_app.command()
def pull(
    names: Names = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All the known weights, for machines without a network.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Take files that changed since they first came.")
    ] = False,
    progress: Progress = True,
) -> None:
    """Fetch weights into the Hugging Face cache, and check them; a generator's CLIP comes along."""
    if bool(names) == everything:
        raise InputError("Give names of weights, or --all.", hint="See: clipsr weights list")

    from clipsr_cli import hub, weights

    console.set_up_logging(quiet=False, verbose=False)
    failed: list[ClipsrError] = []
    seen = set()
    with console.transfers(show=progress) as bars, hub.reporting(bars.move):
        for name in names or weights.registry():
            if everything and (reason := _not_for_us(name)):
                bars.say(f"left out: {name}: {reason}")
                continue
            try:
                for part, path in weights.pull(name, update=update):
                    if part.file not in seen:
                        seen.add(part.file)
                        bars.say(f"here: {part.name or part.file}, {path.name}, {_megabytes(path)}")
            except ClipsrError as error:
                if not everything:
                    raise
                bars.say(f"failed: {name}: {error}")
                failed.append(error)
    if failed:
        raise WeightsError(f"{len(failed)} of the weights did not come.", hint=failed[0].hint)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _not_for_us(name: str) -> str:
    """Why a row cannot be fetched at all; "" if it can."""
    from clipsr_cli.weights import needed

    try:
        for part in needed(name):
            if part.reference is not None:
                part.reference.check_format()
    except WeightsError as error:
        return str(error)
    return ""


@weights_app.command()
def verify(names: Names = None) -> None:
    """Recompute the hashes of the weights that are here, without the network."""
    from clipsr_cli import verification

    found = list(verification.verify(names or []))
    rows = (
        (each.name, each.file, "BROKEN" if each.error else "whole" if each.here else "not here")
        for each in found
    )
    console.out().print(console.table(("name", "file", "state"), rows))
    broken = [each for each in found if each.error is not None]
    for each in broken:
        console.say(f"broken: {each.name}: {each.error}")
    if broken:
        error = broken[0].error
        raise WeightsError(
            f"{len(broken)} of {len(found)} files are not what they must be.",
            hint=error.hint if error else "",
        )
    absent = [each.name for each in found if names and not each.here]
    if absent:
        raise WeightsError(
            f"Not on this machine: {', '.join(absent)}.",
            hint=f"Fetch: clipsr weights pull {' '.join(dict.fromkeys(absent))}",
        )


@weights_app.command()
def path(
    name: Annotated[str, typer.Argument(help="A name, or hf://owner/repo[@revision]/file.")],
    scale: Annotated[
        int | None, typer.Option("-s", "--scale", help="Of a generator, only this scale's file.")
    ] = None,
) -> None:
    """Print where weights lie, a line for each file. Nothing is fetched."""
    from clipsr_cli import hub
    from clipsr_cli.weights import Part, entry

    if name.startswith(hub.SCHEME):
        parts = [Part("", name)]
    else:
        row = entry(name)
        if scale is not None and scale not in row.scales:
            raise InputError(f"{name} has no weights for x{scale}.")
        parts = row.parts(name) if scale is None else [row.part(name, scale)]
    places = [part.place() for part in parts]
    missing = [part for part, place in zip(parts, places, strict=True) if not place.is_file()]
    if missing:
        raise WeightsError(
            f"{missing[0].file} is not on this machine.",
            hint=f"Fetch: clipsr weights pull {name}",
        )
    for place in places:
        typer.echo(place)


@weights_app.command()
def pin(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names.")]) -> None:
    """Write the commit and sha256 of cached weights into your own weights.toml (CLIPSR_WEIGHTS)."""
    from clipsr_cli import pins

    typer.echo(pins.pin(names))


@weights_app.command()
def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A generator's .safetensors file.")],
    repository: Annotated[str, typer.Argument(metavar="hf://owner/repo", help="Where it goes.")],
    private: Annotated[
        bool, typer.Option("--private", help="Only who is allowed to may see it.")
    ] = False,
    overwrite_card: Annotated[
        bool, typer.Option("--overwrite-card", help="Replace a README.md that is there.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the model card.")] = False,
) -> None:
    """Publish a generator on the Hugging Face Hub, with a model card made from its header."""
    from clipsr_cli import hub

    target = hub.parse_repository(repository)
    if file.suffix != ".safetensors":
        raise InputError(f"{file} is no .safetensors file.")

    from clipsr_cli.cards import model_card
    from clipsr_cli.checkpoints import read_header
    from clipsr_cli.weights import registry

    header = read_header(file)
    card = model_card(file, header, target)
    if dry_run:
        typer.echo(card, nl=False)
        return
    if header.clip not in registry():
        console.say(f"warning: its CLIP, {header.clip}, is no name that others' clipsr knows.")
    commit, with_card = hub.upload(file, target, card, private=private, replace_card=overwrite_card)
    if not with_card:
        console.say("The README.md that is there stays (--overwrite-card replaces it).")
    typer.echo(hub.Reference(target, file.name, commit))


weights_app.command("import")(import_weights)
