"""Write docs/options.md: every command with its options, as the program declares them.

python scripts/list_options.py > docs/options.md
"""

from collections.abc import Iterator
from typing import Any

import typer

from clipsr_cli.cli import app

HEAD = """# Commands and options

Written by `python scripts/list_options.py > docs/options.md`; a test keeps it true.
"""


def commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All commands below one that has some, with their whole names."""
    for part, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {part}")
        else:
            yield f"{name} {part}", command


def names(parameter: Any) -> str:
    """``-o, --output``, or an argument's name."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    short_first = sorted(
        [*parameter.opts, *parameter.secondary_opts], key=lambda name: name[:2] == "--"
    )
    return ", ".join(f"`{name}`" for name in short_first)


def default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value == () or value == []:
        return ""
    return "on" if value is True else f"`{value}`"


def table(command: Any) -> str:
    """A Markdown table of a command's parameters, in the order of its help."""
    rows = ["| option | | default |", "|---|---|---|"]
    for parameter in command.params:
        if not parameter.hidden:
            told = " ".join((parameter.help or "").split()).replace("|", "\\|")
            rows.append(f"| {names(parameter)} | {told} | {default(parameter)} |")
    return "\n".join(rows)


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, command in commands(typer.main.get_command(app), "clipsr"):
        # What the help says first; the rest is in the README.
        summary = (command.help or "").strip().split("\n\n")[0]
        parts.append(f"## {name}\n\n{' '.join(summary.split())}\n\n{table(command)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(render(), end="")
