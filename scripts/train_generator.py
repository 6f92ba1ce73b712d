"""Train a generator from a recipe; the same command goes on where an earlier one stopped.

python scripts/train_generator.py recipes/clipsr-mini-x8-base.toml runs/clipsr-mini-x8-base
"""

import json
import sys
from itertools import islice
from pathlib import Path

from clipsr_cli.config import build, read_toml
from clipsr_cli.models.clip import Clip
from clipsr_cli.training import train
from clipsr_cli.training.config import TrainConfig
from clipsr_cli.weights import find_clip


def main(recipe: Path, output: Path) -> None:
    config = build(TrainConfig, read_toml(recipe))
    clip = Clip.create(*find_clip(config.clip), name=config.clip)
    output.mkdir(parents=True, exist_ok=True)
    metrics = output / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    rows = train(config, clip, output)
    for row in islice(rows, 1):
        # A resumed run does its last steps again: their rows are replaced.
        kept = [line for line in lines if json.loads(line)["step"] < row["step"]]
        metrics.write_text("".join([*kept, json.dumps(row) + "\n"]))
    with metrics.open("a", buffering=1) as log:
        for row in rows:
            log.write(json.dumps(row) + "\n")
            if row["step"] % 50 == 0 or "val_psnr" in row:
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
