"""A model of the Hub is fetched, used and used again offline, by the installed command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipsr_cli import images
from clipsr_cli.checkpoints import save_generator
from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import Generator, GeneratorConfig
from clipsr_cli.weights import find_clip

CLIPSR = Path(sys.executable).parent / "clipsr"
MODEL = "hf://owner/tiny/tiny-x4.safetensors"
# Python runs this file at its start: the first socket then ends the program.
NO_SOCKETS = """
import os, sys
def end(event, _):
    if event.startswith("socket.") and event != "socket.gethostname":
        os.write(2, event.encode())
        os._exit(99)
sys.addaudithook(end)
"""


@pytest.fixture
def tiny(tmp_path, hub_server):
    """A tiny generator for the CLIP inside the package, in a repository of the Hub."""
    clip = Clip.create(*find_clip("clipsr-clip-mini"), name="clipsr-clip-mini")
    config = GeneratorConfig(
        scale=4,
        widths=(8, 8, 8, 16),
        encoder_blocks=(1, 1, 1, 1),
        decoder_blocks=(1, 1, 1, 1),
        head_widths=(8, 8),
        text_hidden=8,
        prompts=2,
    )
    path = tmp_path / "tiny-x4.safetensors"
    save_generator(Generator(config, clip).learned_state(), config, clip.name, path)
    return hub_server.repository("owner/tiny", {path.name: path.read_bytes()})


@pytest.fixture
def run(tmp_path, hub_server):
    """Runs ``clipsr`` against the Hub on loopback, or where any socket ends it."""
    (tmp_path / "no_sockets").mkdir()
    (tmp_path / "no_sockets" / "sitecustomize.py").write_text(NO_SOCKETS)

    def run(*arguments, sockets=True, **variables):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_ENDPOINT": hub_server.endpoint,
            "HF_HUB_DISABLE_XET": "1",
        }
        if not sockets:
            environment["PYTHONPATH"] = str(tmp_path / "no_sockets")
        return subprocess.run(
            [CLIPSR, *arguments],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_a_model_of_the_hub_is_pulled_used_and_used_offline(tmp_path, photo, tiny, run):
    photo(tmp_path / "a.png")

    first = run("upscale", "a.png", "-m", MODEL, "-o", "first", "--prompt", "a red bird")

    assert first.returncode == 0, first.stderr
    assert f"Fetching {MODEL}" in first.stderr
    assert images.read_size(tmp_path / "first" / "a_x4.png") == (96, 64)

    again = run(
        "upscale", "a.png", "-m", MODEL, "-o", "again", "--prompt", "a red bird", "--offline",
        sockets=False,
    )  # fmt: skip

    assert again.returncode == 0, again.stderr
    pictures = [(tmp_path / name / "a_x4.png").read_bytes() for name in ("first", "again")]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["upscale", "a.png", "--offline", "-m", MODEL], {}),
        (["upscale", "a.png", "-m", MODEL], {"HF_HUB_OFFLINE": "1"}),
        (["weights", "pull", MODEL], {"HF_HUB_OFFLINE": "1"}),
        (["weights", "path", MODEL], {}),
    ],
    ids=["option", "variable", "pull", "path"],
)
def test_offline_no_socket_is_opened_and_what_is_missing_is_said(
    tmp_path, photo, tiny, run, arguments, variables
):
    photo(tmp_path / "a.png")

    done = run(*arguments, sockets=False, **variables)

    assert done.returncode == 4, done.stderr
    assert f"clipsr weights pull {MODEL}" in done.stderr
    assert not (tmp_path / "upscaled").exists()


def test_commands_that_need_no_network_open_no_socket(run):
    for arguments in (["weights", "list"], ["weights", "verify"], ["weights", "--help"]):
        done = run(*arguments, sockets=False)
        assert done.returncode == 0, done.stderr


def test_a_generator_is_published_and_pulled(tmp_path, tiny, run, hub_server):
    source = tmp_path / "tiny-x4.safetensors"
    alone = run("weights", "push", source, "hf://owner/mine")
    assert alone.returncode == 4
    assert "hf auth login" in alone.stderr

    pushed = run(
        "weights", "push", source, "hf://owner/mine", "--private", HF_TOKEN="hf_of_the_owner"
    )

    assert pushed.returncode == 0, pushed.stderr
    reference = pushed.stdout.strip()
    assert reference.startswith("hf://owner/mine@")
    ((_, files),) = hub_server.repositories["owner/mine"].commits
    assert set(files) == {"README.md", "tiny-x4.safetensors"}
    assert files["README.md"].startswith(b"---\nlicense: ")
    assert run("weights", "pull", reference).returncode == 4
    pulled = run("weights", "pull", reference, HF_TOKEN="hf_of_the_owner")
    assert pulled.returncode == 0, pulled.stderr
    path = Path(run("weights", "path", reference).stdout.strip())
    assert path.read_bytes() == source.read_bytes()
