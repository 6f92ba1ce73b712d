"""The README is true: its commands exist, and every command and exit code is in it."""

import re
import runpy
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from clipsr_cli.errors import ClipsrError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_come_first():
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)

    assert commands[0] == "pip install -e . && clipsr upscale examples --scale 16"
    assert commands[1] == 'pip install -e ".[dev]" && pytest -n auto --dist worksteal'


def test_every_command_and_exit_code_is_in_the_readme():
    import typer

    from clipsr_cli.cli import app

    for name, command in typer.main.get_command(app).commands.items():
        for words in [f"{name} {inner}" for inner in getattr(command, "commands", ())] or [name]:
            assert f"clipsr {words}" in README

    def family(kind):
        yield kind
        for child in kind.__subclasses__():
            yield from family(child)

    codes = {kind.exit_code for kind in family(ClipsrError)} | {0, 130}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)} == codes


def test_every_option_the_readme_names_exists():
    import typer

    from clipsr_cli.cli import app

    commands = typer.main.get_command(app).commands
    commands |= commands["data"].commands | commands["weights"].commands
    for start, end, names, others in (
        (
            *("## Ten jobs", "## Enlarging", ["upscale", "caption", "train", "eval", "path"]),
            {"--help", "--install-completion"},
        ),
        ("## Enlarging", "## From Python", ["upscale"], {"--help"}),
        ("## Captions", "## Weights", ["caption", "upscale"], set()),
        ("## Weights", "## Evaluating", ["upscale", "caption", "pull", "push"], set()),
        ("## Evaluating", "## Training", ["eval"], set()),
        ("## Training", "## Datasets", ["train"], {"--nproc-per-node"}),
        ("## Datasets", "## How", ["train", "check", "prepare"], set()),
    ):
        known = {opt for name in names for param in commands[name].params for opt in param.opts}
        section = README.partition(start)[2].partition(end)[0]
        named = set(re.findall(r"(?<!\w)--[a-z][a-z-]+", section))
        assert named
        assert named - known == others


def test_the_readmes_program_runs(tmp_path, monkeypatch, photo, capsys):
    photo(tmp_path / "thumbs" / "a.png")
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)\n```", README, re.DOTALL)

    exec(program, {})

    assert "Done(" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "large").iterdir()] == ["a_x16.png"]


def test_the_readme_tells_the_order_of_imports():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    told = re.search(r"Imports point one way: `([^`]+)`", README)

    assert told
    assert re.split(r"\s*>\s*", " ".join(told[1].split())) == layers


def test_files_and_modules_the_readme_names_exist():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
    layout = README.partition("## How the code is laid out")[2]
    for name in re.findall(r"^  (\w+\.py|\w+/) ", layout, re.MULTILINE):
        assert (ROOT / "src" / "clipsr_cli" / name).exists(), name


def test_the_changelog_has_a_place_for_what_comes_next():
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.skipif(
    tuple(map(int, version("typer").split(".")[:2])) < (0, 26),
    reason="older typers tell the help of arguments elsewhere",
)
def test_the_page_of_options_is_what_the_program_declares():
    written = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")

    render = runpy.run_path(str(ROOT / "scripts" / "list_options.py"))["render"]

    assert render() == written, "python scripts/list_options.py > docs/options.md"
