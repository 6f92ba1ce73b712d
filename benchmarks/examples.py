"""On the example photos: how far words move them, what tiling changes, and what a tile costs.

python benchmarks/examples.py [FOLDER, examples by default]

Mean absolute differences in 1/255 over all pictures: between pairs of five prompts, and between
tiles of 32 pixels and the whole picture at once. Seconds are those of the network for one 256 x 256
output tile, in batches of 1 and of 4, median of 10.
"""

import itertools
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from clipsr_cli import images
from clipsr_cli.models.generator import SCALES
from clipsr_cli.pictures import Picture
from clipsr_cli.upscale_options import UpscaleOptions
from clipsr_cli.upscaling import Upscaler

PROMPTS = ("", "a red bird", "a blue bird", "a grey castle", "a green dress")


def difference(first: Picture, second: Picture) -> float:
    """Mean absolute difference of two pictures, in 1/255."""
    return float(np.abs(first.pixels.astype(float) - second.pixels).mean())


@torch.inference_mode()
def seconds_a_tile(upscaler: Upscaler, batch: int) -> float:
    """Median seconds that the network takes for one tile, in batches."""
    side = 256 // upscaler.scale
    low = torch.rand(batch, 3, side, side).to(memory_format=torch.channels_last)
    condition = upscaler.condition("a red bird").expand(batch, -1)
    times = []
    for _ in range(11):
        start = time.perf_counter()
        upscaler.generator.render(low, condition)
        times.append((time.perf_counter() - start) / batch)
    return statistics.median(times[1:])


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "examples")
    photos = [images.read(path) for path in images.find(folder)]
    for scale in SCALES:
        whole = Upscaler.load(scale=scale, device="cpu", options=UpscaleOptions(tile=4096))
        tiled = Upscaler.load(scale=scale, device="cpu", options=UpscaleOptions(tile=32))
        moved, cut = [], []
        for photo in photos:
            results = [tiled.enlarge(photo, prompt) for prompt in PROMPTS]
            moved += [difference(a, b) for a, b in itertools.combinations(results, 2)]
            cut.append(difference(results[0], whole.enlarge(photo)))
        row = {
            "scale": scale,
            "pictures": len(photos),
            "between_prompts": round(float(np.mean(moved)), 3),
            "between_prompts_most": round(float(np.max(moved)), 3),
            "tiles_against_whole": round(float(np.mean(cut)), 3),
            "tiles_against_whole_most": round(float(np.max(cut)), 3),
            "seconds_a_tile": round(seconds_a_tile(whole, 1), 4),
            "seconds_a_tile_in_fours": round(seconds_a_tile(whole, 4), 4),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
