"""Train the small CLIP from a recipe, resumable, and write its weights in fp16.

python scripts/train_clip.py recipes/clipsr-clip-mini-start.toml runs/clip-start
"""

import json
import sys
from pathlib import Path

import torch

from clipsr_cli.checkpoints import save_clip
from clipsr_cli.config import build, read_toml
from clipsr_cli.training.config import ClipTrainConfig
from clipsr_cli.training.contrastive import train_clip


def main(recipe: Path, output: Path) -> None:
    config = build(ClipTrainConfig, read_toml(recipe))
    state = output / "state.pt"
    for row in train_clip(config, state):
        if row["step"] % 10 == 0:
            print(json.dumps(row), flush=True)
    model = torch.load(state, weights_only=True)["model"]
    save_clip(model, output / "clip.safetensors", steps=config.steps)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
