"""Scores by what networks see in a picture: LPIPS, DISTS, the CLIP score and NIQE."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipsr_cli.errors import WeightsError
from clipsr_cli.metrics.metric import Compared, Setting, package_folder

if TYPE_CHECKING:
    from clipsr_cli.models.lpips import Lpips

# What is left of a smaller picture after the networks' poolings is no picture.
LEAST_SIDE = 32
# NIQE compares statistics of blocks of this side, at least two.
NIQE_BLOCK = 96
# cuDNN's switches are the whole program's: threads would put back each other's.
_SWITCHES = RLock()


def lpips(result: Tensor, reference: Tensor) -> Tensor:
    """LPIPS-Alex, version 0.1: (B, 3, H, W) twice -> (B,). H, W >= 32."""
    with reproducible(result.device):
        return _lpips(result.device)(result, reference)


def score_lpips(compared: Compared, setting: Setting) -> float | None:
    """LPIPS-Alex (Zhang et al. 2018), with the weights that come with the package."""
    if min(compared.high.shape[-2:]) < LEAST_SIDE:
        return None
    return lpips(*_pair(compared, setting)).item()


def score_dists(compared: Compared, setting: Setting) -> float | None:
    """DISTS (Ding et al. 2020) of the pictures at their own size.

    The authors' program reduces larger ones to a short side of 256 first; their scores differ.

    Raises:
        WeightsError: its weights are not on this machine.
    """
    if min(compared.high.shape[-2:]) < LEAST_SIDE:
        return None
    with reproducible(setting.device):
        return _dists(setting.device)(*_pair(compared, setting)).item()


def score_clip(compared: Compared, setting: Setting) -> float | None:
    """Cosine of the embeddings of result and caption, 0 to 100 (Hessel et al. 2021, w = 100).

    It depends on the CLIP, so only scores by the same one compare. The picture is resized to a
    square as a whole, not cut.
    """
    if setting.clip is None or not compared.caption.strip():
        return None
    clip = setting.clip
    device = clip.mean.device
    with reproducible(device):
        seen = clip.image(compared.result.to(device).float()[None])
        cosine = F.cosine_similarity(seen, clip.text([compared.caption]))
    return 100 * max(0.0, cosine.item())


def score_niqe(compared: Compared, setting: Setting) -> float | None:
    """NIQE (Mittal et al. 2013) of the result alone, as pyiqa computes it.

    Raises:
        WeightsError: pyiqa or its parameters are not on this machine.
    """
    height, width = compared.result.shape[-2:]
    if (height // NIQE_BLOCK) * (width // NIQE_BLOCK) < 2:
        return None
    with reproducible(setting.device):
        result = compared.result.to(setting.device).float()
        return _niqe(setting.device)(result[None]).item()


def dists_missing() -> str:
    """Why DISTS cannot be scored."""
    folder = package_folder("torchmetrics")
    # Where torchmetrics keeps the part of DISTS that is its own; older versions have none.
    heads = Path("functional", "image", "dists_models", "weights.pt")
    if folder is None or not (folder / heads).is_file():
        return "It needs torchmetrics 1.7 or newer: pip install -U 'torchmetrics>=1.7'"
    if not _vgg_path().is_file():
        return (
            "It needs VGG-16's ImageNet weights (528 MB): "
            "python -c \"from torchvision.models import vgg16; vgg16(weights='DEFAULT')\""
        )
    return ""


def niqe_missing() -> str:
    """Why NIQE cannot be scored."""
    if package_folder("pyiqa") is None:
        return (
            "It needs pyiqa, which does not come with clipsr since its licence forbids commercial "
            "use (PolyForm Noncommercial 1.0.0): pip install pyiqa"
        )
    if not _niqe_path().is_file():
        return "It needs NIQE's parameters: python -c \"import pyiqa; pyiqa.create_metric('niqe')\""
    return ""


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """No gradients, and the same arithmetic whatever the program has chosen for its own work.

    No mixed precision, no TF32, and no convolution chosen by how long it took. Threads take turns.
    """
    with (
        _SWITCHES,
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
    ):
        yield


@cache
def _lpips(device: torch.device) -> "Lpips":
    from clipsr_cli.models.lpips import Lpips  # noqa: PLC0415 - the models bring open_clip

    return Lpips.load().to(device)


@cache
def _dists(device: torch.device) -> Any:
    # Otherwise torchvision would download them.
    if reason := dists_missing():
        raise WeightsError(f"DISTS cannot be scored. {reason}")
    from torchmetrics.functional.image.dists import DISTSNetwork  # noqa: PLC0415 - takes seconds

    return DISTSNetwork().to(device).eval()


@cache
def _niqe(device: torch.device) -> Any:
    # Otherwise pyiqa would download them.
    if reason := niqe_missing():
        raise WeightsError(f"NIQE cannot be scored. {reason}")
    pyiqa = import_module("pyiqa")
    return pyiqa.create_metric("niqe", device=device, pretrained_model_path=str(_niqe_path()))


def _vgg_path() -> Path:
    """Where torchvision keeps what DISTS is built on."""
    from clipsr_cli.models.vgg import place  # noqa: PLC0415 - torchvision takes seconds

    return place("vgg16")


def _niqe_path() -> Path:
    return Path(torch.hub.get_dir()) / "pyiqa" / "niqe_modelparameters.mat"


def _pair(compared: Compared, setting: Setting) -> tuple[Tensor, Tensor]:
    """Result and reference (1, 3, H, W) where the networks run."""
    result, high = (x.to(setting.device).float()[None] for x in (compared.result, compared.high))
    return result, high
