"""``clipsr weights``: what can be given to ``--model``."""

from typing import Any

import typer

from clipsr_cli.cli import console
from clipsr_cli.cli.options import Json

weights_app = typer.Typer(help="The weights that clipsr knows by name.", no_args_is_help=True)


@weights_app.callback()
def _weights() -> None:
    """Keeps ``weights`` a group while it has one command."""


@weights_app.command("list")
def list_weights(json: Json = False) -> None:
    """List the known weights: kind, scales, size, licence, and whether they are present."""
    from clipsr_cli.weights import registry

    rows: list[dict[str, Any]] = []
    for name, entry in registry().items():
        files = entry.paths()
        rows.append(
            {
                "name": name,
                "kind": entry.kind,
                "scales": list(entry.scales),
                "clip": entry.clip,
                "size": sum(file.stat().st_size for file in files if file.is_file()),
                "present": all(file.is_file() for file in files),
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
            f"{row['size'] / 1e6:.1f} MB",
            "yes" if row["present"] else "no",
            row["licence"],
        )
        for row in rows
    )
    console.out().print(console.table(columns, shown))
