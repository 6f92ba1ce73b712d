"""A generator around a CLIP of the real format and size runs through the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clipsr_cli.checkpoints import save_generator
from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import Generator, GeneratorConfig

TINY = Path(__file__).parents[1] / "data" / "tiny-clip.json"
CONFIG = GeneratorConfig(
    scale=4,
    widths=(8, 8, 8, 16),
    encoder_blocks=(1, 1, 1, 1),
    decoder_blocks=(1, 1, 1, 1),
    head_widths=(8, 8),
    text_hidden=8,
    prompts=2,
)


def upscale(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "CLIPSR_WEIGHTS": str(folder / "mine.toml"),
        "HF_HUB_CACHE": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "clipsr_cli", "upscale", "small.png", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "architecture", [str(TINY), pytest.param("ViT-B-32-quickgelu", marks=pytest.mark.slow)]
)
def test_a_generator_runs_around_its_clip_and_says_where_a_missing_one_is(
    tmp_path, photo, architecture
):
    photo(tmp_path / "small.png")
    torch.manual_seed(0)
    clip = Clip.create(Path(architecture) if architecture.endswith(".json") else architecture)
    generator = Generator(CONFIG, clip)
    with torch.no_grad():
        for parameter in generator.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    model = tmp_path / "mine.safetensors"
    save_generator(generator.learned_state(), CONFIG, "clip-vit-b-32", model)
    # The packaged row says where it is on the Hub.
    (tmp_path / "mine.toml").write_text("")
    missing = upscale(tmp_path, "-m", str(model), "--offline")
    assert missing.returncode == 4
    assert "clipsr weights pull clip-vit-b-32" in missing.stderr

    tensors = {k: v for k, v in clip.model.state_dict().items() if k != "attn_mask"}
    save_file(tensors, tmp_path / "clip.safetensors")
    (tmp_path / "mine.toml").write_text(
        f'[clip-vit-b-32]\nkind = "clip"\ndescription = "random"\nlicence = "none"\n'
        f'architecture = "{architecture}"\nfiles = ["clip.safetensors"]\n'
    )
    for prompt in ("a red bird", "a castle"):
        done = upscale(tmp_path, "-m", str(model), "--prompt", prompt, "-o", prompt, "--offline")
        assert done.returncode == 0, done.stderr

    red, castle = (
        (tmp_path / prompt / "small_x4.png").read_bytes() for prompt in ("a red bird", "a castle")
    )
    assert red != castle
