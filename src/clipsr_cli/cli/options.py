"""Options that commands share, and the reading of their values."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from clipsr_cli.errors import InputError

# What the help's panels are called, where a command has several.
FILES, SPEED, SAY = "Files", "Speed", "What is said"
# What --precision takes; ``runtime`` knows what they are, and loads torch.
PRECISIONS = ("auto", "fp32", "fp16", "bf16")


def option(*names: str, help: str, panel: str | None = None, metavar: str | None = None) -> Any:
    """An option in one of the help's panels."""
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)


Inputs = Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders or globs.")]
Recursive = Annotated[
    bool,
    option(
        "-r/-R",
        "--recursive/--no-recursive",
        help="Look in the folders' subfolders.",
        panel=FILES,
    ),
]
Glob = Annotated[
    str | None, option("--glob", help="In folders, only names that match this.", panel=FILES)
]
Device = Annotated[str, option("--device", help="auto, cpu, cuda, cuda:N or mps.", panel=SPEED)]
Precision = Annotated[str, option("--precision", help="auto, fp32, fp16 or bf16.", panel=SPEED)]
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
ReportFile = Annotated[
    Path | None, option("--report", help="A .jsonl file with a line per picture.", panel=SAY)
]
Offline = Annotated[bool, option("--offline", help="Never use the network.", panel=SAY)]
Progress = Annotated[
    bool, option("--progress/--no-progress", help="Show how far it is.", panel=SAY)
]
Quiet = Annotated[bool, option("-q", "--quiet", help="Say errors only.", panel=SAY)]
Output = Annotated[Path, typer.Option("-o", "--output", help="Output folder.")]


def check_scale(scale: int, *, hint: str = "") -> int:
    """A scale the networks know.

    Args:
        scale: what was given.
        hint: what else there is for other sizes.

    Raises:
        InputError: it is none of 4, 8, 16.
    """
    if scale not in (4, 8, 16):
        raise InputError(f"--scale is {scale}; it must be 4, 8 or 16.", hint=hint)
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


def parse_bytes(value: str | None, option: str) -> int | None:
    """A number of bytes such as ``2G``, ``500M`` or ``1.5GB``; None stays None.

    Raises:
        InputError: it is none.
    """
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", value.strip(), re.IGNORECASE)
    if not match:
        raise InputError(f"{option} is {value!r}; it must be a size such as 2G or 500M.")
    base = 1024 if match[3] else 1000
    return int(Fraction(match[1]) * base ** " KMGT".index(match[2].upper() or " "))


def read_devices(value: str | None) -> list[str] | None:
    """``0,1`` -> cuda:0 and cuda:1; devices may also be given by name. None stays None.

    Raises:
        InputError: one of them means nothing, or comes twice.
    """
    if value is None:
        return None
    names = [part.strip() for part in value.split(",") if part.strip()]
    devices = [
        f"cuda:{int(name)}" if re.fullmatch("[0-9]+", name) else check_device(name)
        for name in names
    ]
    if "auto" in devices:
        raise InputError("--gpus names devices, and auto is none.", hint="Use --gpus 0,1.")
    devices = ["cuda:0" if name == "cuda" else name for name in devices]
    if not devices:
        raise InputError("--gpus is empty.", hint="Use --gpus 0,1.")
    # The CPU may come several times: each process then has a part of the cores.
    twice = [name for name in devices if name != "cpu" and devices.count(name) > 1]
    if twice:
        raise InputError(f"--gpus names {twice[0]} twice.")
    return devices


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
