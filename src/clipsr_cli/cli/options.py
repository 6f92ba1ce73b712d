"""Options that commands share, and the reading of their values."""

import re
from pathlib import Path
from typing import Annotated

import typer

from clipsr_cli.errors import InputError

Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel="Speed")
]
Scale = Annotated[int, typer.Option("-s", "--scale", help="4, 8 or 16.")]
Model = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        help="A name from clipsr weights list, a .safetensors file, or hf://owner/repo/FILE.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON to stdout.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Output folder.")]


def check_scale(scale: int) -> int:
    """A scale the networks know.

    Raises:
        InputError: it is none of 4, 8, 16.
    """
    if scale not in (4, 8, 16):
        raise InputError(
            f"--scale is {scale}; it must be 4, 8 or 16.", hint="For other sizes: --outscale."
        )
    return scale


def auto_or_number(value: str, option: str) -> int | None:
    """``auto`` -> None, a whole number -> itself.

    Raises:
        InputError: it is neither.
    """
    if value == "auto":
        return None
    try:
        return int(value)
    except ValueError as error:
        raise InputError(f"{option} is {value!r}; it must be auto or a whole number.") from error


def check_device(name: str) -> str:
    """A device's name that means something, whether or not it is there.

    Raises:
        InputError: it means nothing.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise InputError(f"{name!r} is no device.", hint="Use auto, cpu, cuda, cuda:N or mps.")
    return name


def check_choice(value: str, option: str, choices: tuple[str, ...]) -> str:
    """One of some words.

    Raises:
        InputError: it is none of them.
    """
    if value not in choices:
        raise InputError(f"{option} is {value!r}; it must be one of: {', '.join(choices)}.")
    return value
