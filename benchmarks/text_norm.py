"""Measure how much pictures move between prompts for each text normaliser, equally trained.

python benchmarks/text_norm.py recipes/clipsr-mini-x8-base.toml [--steps 150]

For each normaliser: the spread of the normalised text itself (distance between two prompts over
their length), then, after the recipe's first steps on 128-px crops, the mean change of held-back
pictures between pairs of prompts, in 1/255, with the scores at the right prompts.
"""

import argparse
import dataclasses
import itertools
import json
import tempfile
from pathlib import Path

import torch

from clipsr_cli.checkpoints import load_generator
from clipsr_cli.config import build, read_toml
from clipsr_cli.models.blocks import TEXT_NORMS, TextNorm
from clipsr_cli.models.clip import Clip
from clipsr_cli.training import train
from clipsr_cli.training.config import TrainConfig
from clipsr_cli.training.run import GENERATOR
from clipsr_cli.training.validation import held_back_pairs
from clipsr_cli.weights import find_clip

PROMPTS = ("", "a red bird", "a blue bird", "a grey castle", "a green dress")


@torch.no_grad()
def spread(clip: Clip, kind: str) -> float:
    """Mean relative distance between normalised prompts, as an untrained layer sees them."""
    texts = TextNorm(clip.embed_dim, kind)(clip.text(PROMPTS))
    pairs = itertools.combinations(texts, 2)
    return torch.stack([2 * (a - b).norm() / (a.norm() + b.norm()) for a, b in pairs]).mean().item()


@torch.no_grad()
def movement(path: Path, clip: Clip, config: TrainConfig) -> float:
    """Mean change of held-back pictures between two prompts, in 1/255."""
    generator = load_generator(path, clip)
    texts = clip.text(PROMPTS)
    changes = []
    for pair in held_back_pairs(config):
        low = pair.low[None].expand(len(PROMPTS), -1, -1, -1)
        results = generator(low, texts).clamp(0, 1)
        changes += [255 * (a - b).abs().mean() for a, b in itertools.combinations(results, 2)]
    return torch.stack(changes).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    recipe = build(TrainConfig, read_toml(arguments.recipe))
    clip = Clip.create(*find_clip(recipe.clip), name=recipe.clip)
    for kind in TEXT_NORMS:
        config = dataclasses.replace(
            recipe,
            generator=dataclasses.replace(recipe.generator, text_norm=kind),
            steps=arguments.steps,
            crops=(128,),
            losses=dataclasses.replace(recipe.losses, perceptual_from=0),
            run=dataclasses.replace(recipe.run, evaluate_every=arguments.steps, evaluate_count=16),
        )
        with tempfile.TemporaryDirectory() as folder:
            *_, last = train(config, clip, Path(folder))
            row = {
                "text_norm": kind,
                "steps": arguments.steps,
                "text_spread": spread(clip, kind),
                "movement": movement(Path(folder) / GENERATOR, clip, config),
                "test_psnr": last["test_psnr"],
                "test_lpips": last["test_lpips"],
            }
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}))


if __name__ == "__main__":
    main()
