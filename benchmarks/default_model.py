"""Score the default model against bicubic enlargement on folders of pictures.

python benchmarks/default_model.py FOLDER... [--scale 4 --scale 8 --scale 16] [--model clipsr-mini]

Protocol: a 256 x 256 centre crop of every picture (less where it is smaller: the largest multiple
of 16); the small picture by antialiased bicubic, rounded to 8 bit; results rounded to 8 bit; the
empty prompt; PSNR over RGB and LPIPS-Alex per picture, then their mean over each folder. Bicubic
enlargement is Pillow's, of the same small picture.
"""

import argparse
import json
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clipsr_cli import images, pictures
from clipsr_cli.degradation import shrink
from clipsr_cli.metrics import lpips, psnr
from clipsr_cli.pictures import Picture
from clipsr_cli.upscaling import Upscaler

CROP = 256
MULTIPLE = 16


def crops(folder: Path) -> Iterator[np.ndarray]:
    """Centre crops (H, W, 3) uint8 of a folder's pictures."""
    for path in images.find(folder):
        pixels = images.read(path).pixels
        height, width = (min(CROP, side // MULTIPLE * MULTIPLE) for side in pixels.shape[:2])
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        yield pixels[top : top + height, left : left + width]


def tensor(pixels: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pictures.to_float(pixels)).permute(2, 0, 1)[None]


def score(upscaler: Upscaler, folder: Path) -> dict[str, float]:
    """Mean scores of the model and of bicubic enlargement over a folder."""
    scores: dict[str, list[float]] = defaultdict(list)
    for high in crops(folder):
        reference = tensor(high)
        low = shrink(reference, upscaler.scale)
        low_pixels = pictures.to_integer(low[0].permute(1, 2, 0).numpy(), np.uint8)
        start = time.perf_counter()
        enlarged = upscaler.enlarge(Picture(pixels=low_pixels)).pixels
        scores["seconds"].append(time.perf_counter() - start)
        size = (high.shape[1], high.shape[0])
        plain = np.array(Image.fromarray(low_pixels).resize(size, Image.Resampling.BICUBIC))
        for name, result in (("clipsr", enlarged), ("bicubic", plain)):
            scores[f"{name}_psnr"].append(psnr(tensor(result), reference).item())
            scores[f"{name}_lpips"].append(lpips(tensor(result), reference).item())
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    return {"n": len(scores["seconds"]), **means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--scale", type=int, action="append")
    parser.add_argument("--model", default="clipsr-mini")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    print(f"# torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads")
    for scale in arguments.scale or (4, 8, 16):
        upscaler = Upscaler.load(arguments.model, scale=scale, device=arguments.device)
        for folder in arguments.folders:
            found = score(upscaler, folder)
            row = {"set": folder.name, "scale": scale} | {
                name: round(value, 4) for name, value in found.items()
            }
            row["psnr_gain"] = round(found["clipsr_psnr"] - found["bicubic_psnr"], 3)
            row["lpips_ratio"] = round(found["clipsr_lpips"] / found["bicubic_lpips"], 3)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
