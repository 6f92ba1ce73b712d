"""A training that is killed goes on from its last checkpoint and ends as if nothing had been."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipsr_cli.checkpoints import read_tensors

SETTINGS = [
    "batch_size=2", "crops=[64]", "generator.widths=[8, 8, 8, 16]",
    "generator.encoder_blocks=[1, 1, 1, 1]", "generator.decoder_blocks=[1, 1, 1, 1]",
    "generator.head_widths=[8, 8]", "generator.text_hidden=8", "discriminator.channels=8",
    "discriminator.head_channels=8", "losses.adversarial_from=2", "run.save_every=1",
    "run.evaluate_every=100", "run.evaluate_count=1", "run.log_every=1",
]  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(6):
        pixels = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((84, 72), Image.Resampling.BICUBIC)
        image.save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"picture {index}")
    return folder


def start(pictures: Path, output: Path, *more: str) -> subprocess.Popen:
    command = [
        sys.executable, "-m", "clipsr_cli", "train", "--dataset", "folder", "--data-root",
        str(pictures), "-o", str(output), "--max-steps", "12", "--device", "cpu", *more,
    ]  # fmt: skip
    for setting in SETTINGS:
        command += ["--set", setting]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> None:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


@pytest.mark.slow
def test_a_killed_training_loses_only_the_steps_since_its_checkpoint(pictures, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finish(start(pictures, whole))
    process = start(pictures, parts)
    checkpoints = parts / "checkpoints"
    deadline = time.monotonic() + 120
    while not (checkpoints / "00000004").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    done = max(int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal())
    assert 4 <= done < 12

    finish(start(pictures, parts, "--resume"))

    a, b = (read_tensors(folder / "generator.safetensors") for folder in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    lines = (parts / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))
    assert not list(parts.rglob("*.tmp"))
