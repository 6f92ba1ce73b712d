"""How busy the network is kept over a folder of pictures, and how fast that is beside Real-ESRGAN.

python benchmarks/throughput.py [--pictures 48] [--side 64] [--scales 4 16] [--ext png]
    [--device auto] [--folder /dev/shm] [--rounds 3] [--peers] [--steps]

For each scale a JSON line with medians over the rounds, in seconds for the whole folder: the
network alone on every tile ("model"), the encoder alone on every result ("encode", on as many
threads as a run has), the whole run ("run", decoding and writing included) and its ratio to the
larger of the two; one picture after the other with a single tile at a time ("one_by_one"); and the
installed command with its start ("command"). With --peers also Real-ESRGAN x4plus on the CPU, its
network alone, once for x4 and twice for x16, on some of the same pictures in turn with ours, and
the ratio per output pixel. With --steps also what single decisions are worth beside what they
replaced: the network in lanes beside batches on all threads, and PNG by us beside Pillow's.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clipsr_cli import encoders, images
from clipsr_cli.jobs import Done, Job, plan
from clipsr_cli.pictures import Picture
from clipsr_cli.upscale_options import UpscaleOptions
from clipsr_cli.upscaling import Upscaler
from clipsr_cli.upscaling.canvas import Canvas

CLIPSR = Path(sys.executable).with_name("clipsr")
EXAMPLES = Path(__file__).parents[1] / "examples"


def make_inputs(folder: Path, count: int, side: int) -> None:
    """Crops of the example photos, side x side."""
    photos = [Image.open(path).convert("RGB") for path in images.find(EXAMPLES)]
    folder.mkdir()
    for index in range(count):
        photo = photos[index % len(photos)]
        factor = max(1.0, side / min(photo.size))
        photo = photo.resize(
            (max(side, round(photo.width * factor)), max(side, round(photo.height * factor)))
        )
        left = (index * 7) % (photo.width - side + 1)
        top = (index * 5) % (photo.height - side + 1)
        photo.crop((left, top, left + side, top + side)).save(folder / f"{index:04}.png")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Folder:
    """A folder of pictures and an Upscaler, and the parts of the work to be timed."""

    def __init__(self, folder: Path, output: Path, upscaler: Upscaler, form: str) -> None:
        self.upscaler = upscaler
        self.jobs = plan(
            [str(folder)], output, scale=upscaler.scale, form=form, existing="overwrite"
        ).jobs
        size, overlap = upscaler.options.tiling(upscaler.scale)
        self.canvases = [
            Canvas(images.read(job.input), scale=upscaler.scale, size=size, overlap=overlap)
            for job in self.jobs
        ]
        self.results: list[Picture] = []

    def run(self) -> None:
        outcomes = list(self.upscaler.run(self.jobs))
        assert all(isinstance(outcome, Done) for outcome in outcomes)

    def one_by_one(self) -> None:
        network = self.upscaler.network
        size, network.batch_size = network.batch_size, 1
        for job in self.jobs:
            list(self.upscaler.run([job]))
        network.batch_size = size

    def model(self) -> None:
        """Every tile through the network, in batches as a run makes them."""
        network, size = self.upscaler.network, self.upscaler.network.batch_size
        tiles = [(canvas, index) for canvas in self.canvases for index in range(len(canvas.grid))]
        futures = []
        for start in range(0, len(tiles), size):
            batch = tiles[start : start + size]
            futures.append(
                network.submit([c for c, _ in batch], [i for _, i in batch], [""] * len(batch))
            )
        for future in futures:
            assert all(isinstance(result, torch.Tensor) for result in future.result())
        if network.device.type == "cuda":
            torch.cuda.synchronize(network.device)

    def encode(self) -> None:
        """Every result written, by as many threads as a run has for it."""
        if not self.results:
            self.results = [images.read(job.output, max_pixels=None) for job in self.jobs]
        with ThreadPoolExecutor(self.upscaler.options.threads) as threads:

            def write(job: Job, picture: Picture) -> None:
                encoders.write(picture, job.output, job.form)

            list(threads.map(write, self.jobs, self.results))


def measure(
    folder: Path, temporary: Path, scale: int, given: argparse.Namespace
) -> dict[str, object]:
    upscaler = Upscaler.load(scale=scale, device=given.device, options=UpscaleOptions())
    work = Folder(folder, temporary / f"out{scale}", upscaler, given.ext)
    work.run()
    parts = {"model": work.model, "run": work.run, "one_by_one": work.one_by_one}
    work.encode()
    parts["encode"] = work.encode
    found: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(given.rounds):
        for name, part in parts.items():
            found[name].append(seconds(part))
    middle = {name: statistics.median(values) for name, values in found.items()}
    ratios = [
        run / max(model, encode)
        for run, model, encode in zip(found["run"], found["model"], found["encode"], strict=True)
    ]
    command = [
        *(str(CLIPSR), "upscale", str(folder), "-o", str(temporary / "command"), "--overwrite"),
        *("-s", str(scale), "--ext", given.ext, "--device", given.device, "-q"),
    ]
    pixels = sum(job.size_out[0] * job.size_out[1] for job in work.jobs if job.size_out)
    return {
        "scale": scale,
        "device": str(upscaler.device),
        "pictures": len(work.jobs),
        "side": given.side,
        "tiles": sum(len(canvas.grid) for canvas in work.canvases),
        "megapixels_out": round(pixels / 1e6, 2),
        "format": given.ext,
        **{name: round(value, 3) for name, value in middle.items()},
        "run_to_larger_of_model_and_encode": round(statistics.median(ratios), 3),
        "one_by_one_to_run": round(middle["one_by_one"] / middle["run"], 2),
        "command": round(seconds(lambda: subprocess.run(command, check=True)), 2),
        "seconds_per_megapixel": round(middle["run"] / pixels * 1e6, 3),
    }


def beside_peer(
    folder: Path, temporary: Path, scale: int, given: argparse.Namespace
) -> dict[str, object]:
    """The run beside Real-ESRGAN x4plus in turn, seconds per output megapixel."""
    from peers import available  # noqa: PLC0415 - needs packages that are no dependency

    (peer,) = [peer for peer in available() if peer.name == "realesrgan-x4plus"]
    upscaler = Upscaler.load(scale=scale, device="cpu", options=UpscaleOptions())
    work = Folder(folder, temporary / f"peer{scale}", upscaler, given.ext)
    work.run()
    pixels = sum(job.size_out[0] * job.size_out[1] for job in work.jobs if job.size_out) / 1e6
    # It is slow: a few pictures tell its speed per pixel.
    few = [images.read(job.input).pixels for job in work.jobs[: 4 if scale == 4 else 1]]
    few_pixels = sum(p.shape[0] * p.shape[1] * scale**2 for p in few) / 1e6
    peer.enlarge(few[0], 4)
    ours, theirs = [], []
    for _ in range(given.rounds):
        ours.append(seconds(work.run) / pixels)
        theirs.append(
            seconds(lambda: [peer.enlarge(picture, scale) for picture in few]) / few_pixels
        )
    return {
        "scale": scale,
        "peer": peer.name + (", twice" if scale > 4 else ""),
        "ours_seconds_per_megapixel": round(statistics.median(ours), 3),
        "peer_seconds_per_megapixel": round(statistics.median(theirs), 3),
        "times_faster": round(
            statistics.median(t / o for t, o in zip(theirs, ours, strict=True)), 1
        ),
    }


def steps(
    folder: Path, temporary: Path, scale: int, given: argparse.Namespace
) -> dict[str, object]:
    """What single decisions of the engine are worth, on the CPU, each beside what it replaced."""
    upscaler = Upscaler.load(scale=scale, device="cpu", options=UpscaleOptions())
    work = Folder(folder, temporary / f"steps{scale}", upscaler, "png")
    work.run()
    work.encode()
    tiles = [canvas.cut(index) for canvas in work.canvases for index in range(len(canvas.grid))]
    stacked = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2)
    condition = upscaler.condition("")

    @torch.inference_mode()
    def in_batches() -> None:
        for batch in stacked.split(4):
            low = batch.contiguous(memory_format=torch.channels_last)
            upscaler.generator.render(low, condition.expand(len(low), -1))

    sizes: dict[str, int] = {}

    def by_pillow(level: int) -> None:
        sizes[f"pillow_{level}"] = 0
        for picture in work.results:
            file = BytesIO()
            Image.fromarray(picture.pixels).save(file, "PNG", compress_level=level)
            sizes[f"pillow_{level}"] += len(file.getvalue())

    def by_us() -> None:
        sizes["ours"] = 0
        for picture in work.results:
            target = BytesIO()
            encoders.png.write([picture.planes], picture.layout, target)
            sizes["ours"] += len(target.getvalue())

    parts = {
        "network_in_fours_on_all_threads": in_batches,
        "network_in_lanes": work.model,
        "png_by_pillow_level_2": lambda: by_pillow(2),
        "png_by_pillow_level_6": lambda: by_pillow(6),
        "png_by_us": by_us,
    }
    found: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(given.rounds):
        for name, part in parts.items():
            found[name].append(seconds(part))
    middle = {name: statistics.median(values) for name, values in found.items()}
    pixels = sum(picture.pixels.shape[0] * picture.pixels.shape[1] for picture in work.results)
    return {
        "scale": scale,
        "tiles": len(tiles),
        "milliseconds_a_tile": {
            name: round(1000 * value / len(tiles), 1)
            for name, value in middle.items()
            if name.startswith("network")
        },
        "milliseconds_a_megapixel": {
            name: round(1e9 * value / pixels, 1)
            for name, value in middle.items()
            if name.startswith("png")
        },
        "bytes_a_pixel": {name: round(size / pixels, 3) for name, size in sizes.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--scales", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--ext", default="png")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--steps", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(temporary, "in")
        make_inputs(folder, given.pictures, given.side)
        for scale in given.scales:
            print(json.dumps(measure(folder, Path(temporary), scale, given)), flush=True)
            if given.steps:
                print(json.dumps(steps(folder, Path(temporary), scale, given)), flush=True)
            if given.peers:
                print(json.dumps(beside_peer(folder, Path(temporary), scale, given)), flush=True)


if __name__ == "__main__":
    main()
