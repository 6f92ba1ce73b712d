"""Two processes that train on halves of a batch do as one that trains on the whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipsr_cli.checkpoints import read_tensors

RECIPE = """
steps = 3
crops = [64]
text_dropout = 0.0

[generator]
scale = 4
widths = [8, 8, 8, 16]
encoder_blocks = [1, 1, 1, 1]
decoder_blocks = [1, 1, 1, 1]
head_widths = [8, 8]
text_hidden = 8

[discriminator]
channels = 8
head_channels = 8

[losses]
adversarial_from = 1

[run]
evaluate_every = 3
evaluate_count = 1
log_every = 1
sheet_rows = 0

[[sources]]
root = "pictures"
"""


@pytest.fixture
def work(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    (tmp_path / "pictures").mkdir()
    for index in range(8):
        name = f"{index}.png"
        pixels = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((84, 72), Image.Resampling.BICUBIC)
        image.save(tmp_path / "pictures" / name)
        split = "test" if index == 0 else "train"
        rows.append({"file_name": name, "text": f"picture {index}", "split": split})
    (tmp_path / "pictures" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def train(work: Path, output: str, batch_size: int, *launcher: str) -> list[dict]:
    command = [
        sys.executable, *launcher, "-m", "clipsr_cli", "train", "recipe.toml",
        "-o", output, "--device", "cpu", "--set", f"batch_size={batch_size}",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    # Every message once, however many processes there are.
    assert done.stderr.count("The trained generator") == 1
    lines = (work / output / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(work):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = train(work, "two", 2, *launcher)
    one = train(work, "one", 4)

    assert [row["step"] for row in two] == [1, 2, 3]
    for together, alone in zip(two, one, strict=True):
        assert together.keys() == alone.keys()
        for name in together.keys() - {"images_per_second"}:
            assert together[name] == pytest.approx(alone[name], rel=1e-4, abs=1e-6), name
    a, b = (read_tensors(work / name / "generator.safetensors") for name in ("one", "two"))
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, atol=2e-5, rtol=1e-3)
