"""Main memory of the installed command: over many small pictures, and for one very large output.

python benchmarks/memory.py [--small 2000] [--large 1024] [--scale 16] [--folder DIR]

Prints JSON lines: the command's resident memory while it works through a folder of small pictures
(a point for every tenth of them, in MB) with the growth over the second half; and the peak for one
picture of --large x --large pixels, with the size of what came out. The peak is that of the process
itself, as the system counts it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

CLIPSR = Path(sys.executable).with_name("clipsr")


def photo(side: int, seed: int) -> Image.Image:
    """A smooth picture with some detail, of a kind that decoders and encoders find usual."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    noise = rng.integers(-8, 9, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def watch(arguments: list[str], every: float) -> tuple[list[tuple[float, float]], float]:
    """Run the command; its resident memory over time as (seconds, MB), and its peak in MB."""
    start = time.perf_counter()
    process = subprocess.Popen([str(CLIPSR), *arguments], stderr=subprocess.DEVNULL)
    seen = psutil.Process(process.pid)
    points, peak = [], 0.0
    while process.poll() is None:
        try:
            now = seen.memory_info().rss / 1e6
            # Linux keeps the highest value itself, which no sampling misses.
            status = Path(f"/proc/{process.pid}/status")
            if status.exists():
                lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
                peak = max(peak, int(lines.get("VmHWM", "0 kB").split()[0]) * 1024 / 1e6)
        except (psutil.NoSuchProcess, OSError):
            break
        peak = max(peak, now)
        points.append((time.perf_counter() - start, now))
        time.sleep(every)
    assert process.wait() == 0, process.returncode
    return points, peak


def many_small(folder: Path, count: int, scale: int) -> dict[str, object]:
    inputs = folder / "small"
    inputs.mkdir()
    for index in range(count):
        # A few shapes, some of several tiles.
        photo(24 + 8 * (index % 6), index).save(inputs / f"{index:05}.png")
    points, peak = watch(
        ["upscale", str(inputs), "-o", str(folder / "small_out"), "-s", str(scale), "-q"], 0.5
    )
    assert len(list((folder / "small_out").glob("*.png"))) == count
    tenths = [points[len(points) * i // 10][1] for i in range(1, 10)] + [points[-2][1]]
    middle, end = tenths[4], max(tenths[5:])
    return {
        "pictures": count,
        "scale": scale,
        "seconds": round(points[-1][0], 1),
        "rss_mb_by_tenths": [round(value) for value in tenths],
        "growth_mb_over_second_half": round(end - middle, 1),
        "peak_mb": round(peak),
    }


def one_large(folder: Path, side: int, scale: int, extension: str) -> dict[str, object]:
    source = folder / f"large_{side}.png"
    photo(side, 1).save(source)
    output = folder / f"large_out_{extension}"
    points, peak = watch(
        ["upscale", str(source), "-o", str(output), "-s", str(scale), "--ext", extension, "-q"], 0.2
    )
    (result,) = output.iterdir()
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(result) as image:
        size = image.size
    assert size == (side * scale, side * scale), size
    return {
        "input": side,
        "scale": scale,
        "output": list(size),
        "format": extension,
        "seconds": round(points[-1][0], 1),
        "peak_mb": round(peak),
        "file_mb": round(result.stat().st_size / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--large", type=int, default=1024)
    parser.add_argument("--scale", type=int, default=16)
    parser.add_argument("--ext", default="png")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(temporary)
        if given.small:
            print(json.dumps(many_small(folder, given.small, 4)), flush=True)
        if given.large:
            print(json.dumps(one_large(folder, given.large, given.scale, given.ext)), flush=True)


if __name__ == "__main__":
    main()
