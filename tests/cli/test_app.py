"""The program itself: its help, its version, its exit codes, and what it does not load."""

import importlib
import io
import os
import subprocess
import sys

import pytest
import typer

import clipsr_cli
from clipsr_cli import cli
from clipsr_cli.errors import ClipsrError, DeviceError, ImageError, InputError, WeightsError

# By its name, as the package's attribute `env` is the command.
ENV = importlib.import_module("clipsr_cli.cli.env")
HEAVY = {"torch", "torchvision", "open_clip", "huggingface_hub", "safetensors", "pyvips", "timm"}


def every_command():
    """The words of each command and group, the program's own () first."""

    def below(command, words):
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from below(child, (*words, name))

    yield from below(typer.main.get_command(cli.app), ())


@pytest.mark.parametrize("command", list(every_command()), ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_says_what_it_does(run, command, option):
    result = run(*command, option)

    assert result.exit_code == 0
    assert "Usage: " in result.stdout
    assert result.stderr == ""


def test_the_commands_are_listed_by_what_they_belong_to(run):
    commands = [command for command in every_command() if command]

    assert ("upscale",) in commands
    for command in commands:
        assert command[-1] in run(*command[:-1], "--help").stdout


@pytest.mark.parametrize("arguments", [(), ("weights",), ("upscale",)], ids=" ".join)
def test_a_command_that_lacks_something_says_so(run, arguments):
    result = run(*arguments)

    assert result.exit_code == 2
    assert "Usage: " in result.stdout + result.stderr


@pytest.mark.parametrize(
    "arguments", [("enlarge",), ("--wrong",), ("upscale", "a.png", "--wrong")], ids=" ".join
)
def test_what_is_unknown_is_refused(run, arguments):
    assert run(*arguments).exit_code == 2


def test_the_version_is_printed(run):
    result = run("--version")

    assert (result.exit_code, result.stdout) == (0, f"clipsr {clipsr_cli.__version__}\n")


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "clipsr_cli", "--version"], capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, f"clipsr {clipsr_cli.__version__}\n")


@pytest.mark.parametrize(
    ("kind", "code"),
    [(ClipsrError, 1), (InputError, 2), (ImageError, 3), (WeightsError, 4), (DeviceError, 5)],
)
def test_an_error_becomes_a_message_a_hint_and_an_exit_code(run, monkeypatch, kind, code):
    def fail():
        raise kind("The [red] :cat: broke\\", hint="Mend the [bold].")

    monkeypatch.setattr(ENV, "_look", fail)

    result = run("env", "--json")

    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == "error: The [red] :cat: broke\\\n       Mend the [bold].\n"


def test_an_error_without_a_hint_is_one_line(run, monkeypatch):
    def fail():
        raise ClipsrError("It broke.")

    monkeypatch.setattr(ENV, "_look", fail)

    assert run("env").stderr == "error: It broke.\n"


def test_an_interruption_anywhere_is_130(run, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(ENV, "_look", interrupt)

    result = run("env")

    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Interrupted.\n")


def test_an_unexpected_error_is_shown_as_it_is(run, monkeypatch):
    monkeypatch.setattr(ENV, "_look", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        run("env")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_any_file_name_can_be_printed(monkeypatch, tmp_path, photo, encoding):
    name = os.fsdecode(b"\xff") + "é猫.png"
    photo(tmp_path / name)
    (tmp_path / "own.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding))
    monkeypatch.setattr(
        sys, "argv", ["clipsr", "upscale", name, "--dry-run", "-m", "own.safetensors", "-q"]
    )

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 0
    sys.stdout.flush()
    shown = name.encode(encoding, "backslashreplace").decode(encoding)
    assert f"from {shown}  24x16" in printed.getvalue().decode(encoding)


def test_stdout_may_be_no_file(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "argv", ["clipsr", "--version"])

    with pytest.raises(SystemExit):
        cli.main()

    assert sys.stdout.getvalue() == f"clipsr {clipsr_cli.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "heavy"),
    [
        (["--help"], 0, HEAVY | {"numpy", "PIL"}),
        (["upscale", "--help"], 0, HEAVY | {"numpy", "PIL"}),
        (["upscale", "missing.png"], 2, HEAVY),
        (["upscale", "a.png", "--dry-run", "-m", "own.safetensors"], 0, HEAVY),
        (["upscale", "a.png", "-m", "none.safetensors"], 4, HEAVY),
        (["upscale", "a.png", "--dry-run", "--auto-caption", "-m", "own.safetensors"], 0, HEAVY),
        (["caption", "--help"], 0, HEAVY | {"numpy", "PIL"}),
        (["caption", "a.png", "--clip", "none"], 2, HEAVY),
        (["caption", "a.png", "--backend", "fixed", "--text", "x"], 0, HEAVY),
        (["train", "--help"], 0, HEAVY | {"numpy", "PIL"}),
        (["train", "--max-steps", "1"], 2, HEAVY),
        (["data", "check", "cub", "--data-root", "."], 2, HEAVY),
        (["weights", "list"], 0, HEAVY | {"numpy", "PIL"}),
        (["weights", "verify", "clipsr-mini"], 0, HEAVY | {"numpy", "PIL"}),
        (["weights", "pull", "clipsr-mini"], 0, HEAVY | {"numpy", "PIL"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_no_heavy_library_is_loaded_before_it_is_needed(tmp_path, photo, arguments, code, heavy):
    photo(tmp_path / "a.png")
    (tmp_path / "own.safetensors").touch()
    script = (
        "import sys\n"
        "from clipsr_cli.cli import app\n"
        "try:\n"
        f"    app({arguments})\n"
        "except SystemExit as ended:\n"
        f"    print(ended.code, sorted(set({sorted(heavy)}) & sys.modules.keys()))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.stdout.splitlines()[-1] == f"{code} []", done.stderr


def test_an_interrupt_before_any_command_has_begun_is_130(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("clipsr_cli.cli.app", interrupted)

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("upscale", "a.png", "-m", "n" * 300),
        ("upscale", "a.png", "-o", "n" * 300),
        ("upscale", "a.png", "--prompts", "n" * 300 + ".csv"),
        ("caption", "a.png", "--dry-run", "--clip", "n" * 300),
        ("weights", "path", "n" * 300),
        ("eval", "n" * 300),
    ],
    ids=lambda arguments: " ".join(arguments)[:30],
)
def test_a_name_that_no_disk_takes_is_wrong_usage(run, tmp_path, photo, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "a.png")

    result = run(*arguments)

    assert result.exit_code in (2, 4)
    assert "error: " in result.stderr
    assert "nnn" in result.stderr
