"""Show that training can learn: a few pictures learnt by heart must come out far above bicubic.

python scripts/overfit.py FOLDER [--scale 8] [--pictures 8] [--steps 300]

Takes the first pictures of a folder, their middle squares reduced to 128 x 128, trains on them
(mirrored at random) with L1 alone, and scores the same pictures.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

from clipsr_cli import images
from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import GeneratorConfig
from clipsr_cli.training import train
from clipsr_cli.training.config import LossConfig, RunConfig, Source, TrainConfig
from clipsr_cli.weights import find_clip

SIDE = 128
WANTED = 3.0


def prepare(folder: Path, count: int, target: Path) -> None:
    """Write the squares, once to train on and once to score."""
    rows = []
    for index, path in enumerate(sorted(images.find(folder))[:count]):
        square = ImageOps.fit(Image.fromarray(images.read(path).pixels), (SIDE, SIDE))
        for split in ("train", "test"):
            name = f"{split}-{index}.png"
            square.save(target / name)
            rows.append({"file_name": name, "text": f"picture {index}", "split": split})
    (target / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output", type=Path, help="keep the run here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        pictures = Path(temporary) / "pictures"
        pictures.mkdir()
        prepare(arguments.folder, arguments.pictures, pictures)
        config = TrainConfig(
            generator=GeneratorConfig(scale=arguments.scale),
            sources=(Source(root=pictures),),
            steps=arguments.steps,
            losses=LossConfig(perceptual=0.0, adversarial=0.0, clip=0.0),
            crops=(SIDE,),
            batch_size=arguments.pictures,
            learning_rate=2e-3,
            warmup=20,
            ema=0.9,
            weight_decay=0.0,
            text_dropout=0.0,
            run=RunConfig(evaluate_every=50),
        )
        clip = Clip.create(*find_clip(config.clip), name=config.clip)
        gain = 0.0
        for row in train(config, clip, Path(temporary) / "run"):
            if "test_psnr" in row:
                gain = row["test_psnr"] - row["bicubic_psnr"]
                print(
                    f"step {row['step']}: PSNR {row['test_psnr']:.2f} dB, bicubic "
                    f"{row['bicubic_psnr']:.2f} dB, gain {gain:+.2f} dB",
                    flush=True,
                )
        if arguments.output:
            shutil.copytree(Path(temporary) / "run", arguments.output)
    sys.exit(gain < WANTED)


if __name__ == "__main__":
    main()
