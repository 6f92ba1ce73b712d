"""The command line: its commands, and the one place where errors become messages and exit codes."""

import errno
import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from clipsr_cli import __version__
from clipsr_cli.cli import console
from clipsr_cli.cli.caption import caption
from clipsr_cli.cli.captioning import AutoCaptionCommand
from clipsr_cli.cli.data import data_app
from clipsr_cli.cli.env import env
from clipsr_cli.cli.eval import evaluate
from clipsr_cli.cli.exits import INTERRUPTED
from clipsr_cli.cli.train import train
from clipsr_cli.cli.upscale import upscale
from clipsr_cli.cli.weights import weights_app
from clipsr_cli.errors import ClipsrError, InputError


class Commands(TyperGroup):
    """Turns our errors into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ClipsrError as error:
            console.show_error(error)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            # Wherever a name is looked at: that it is too long is nothing but a wrong name.
            if error.errno != errno.ENAMETOOLONG:
                raise
            long = InputError(f"This name is too long for a file: {str(error.filename)[:60]}...")
            console.show_error(long)
            raise typer.Exit(long.exit_code) from error
        except KeyboardInterrupt as error:
            console.say("Interrupted.")
            raise typer.Exit(INTERRUPTED) from error


def _examples(*lines: str) -> str:
    """What stands below a command's options; an empty line between two keeps them apart."""
    return "\n\n".join(["Examples:", *(f"clipsr {line}" for line in lines)])


app = typer.Typer(
    name="clipsr",
    cls=Commands,
    help="Enlarge images 4, 8 or 16 times, and let words guide what the missing detail becomes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples("upscale photo.jpg", "upscale ./thumbs --scale 16", "upscale --help"),
)
app.command(
    cls=AutoCaptionCommand,
    epilog=_examples(
        "upscale photo.jpg",
        "upscale ./thumbs -o ./large --scale 16 --ext jpg",
        'upscale photo.jpg --scale 8 --prompt "a red bird"',
        'upscale "cam/**/*.png" --prompts captions.csv --report run.jsonl',
    ),
)(upscale)
app.command(
    "eval",
    epilog=_examples(
        "eval ./photos --scale 8",
        "eval ./photos --scale 8 -m clipsr-mini -m mine.safetensors --report report",
        "eval --dataset cub --data-root data --scale 8",
        "eval results --reference ./photos --scale 8",
    ),
)(evaluate)
app.command(epilog=_examples("caption ./photos --dry-run", "caption ./photos --labels nouns.txt"))(
    caption
)
app.command(
    epilog=_examples(
        "train recipes/small.toml --dataset folder --data-root ./photos --scale 8",
        "train --resume -o runs/small",
    )
)(train)
app.command()(env)
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"clipsr {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""
    # Commands that can be quiet or verbose set it up again; warnings of the others are shown too.
    console.set_up_logging(quiet=False, verbose=False)


def main() -> None:
    """The ``clipsr`` command."""
    if isinstance(sys.stdout, TextIOWrapper):
        # A file name may hold what the terminal's encoding cannot show.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except KeyboardInterrupt:
        # While the commands are still put together, none of them can take it in hand.
        console.say("Interrupted.")
        sys.exit(INTERRUPTED)
