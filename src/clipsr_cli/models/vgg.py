"""VGG's perceptual distance of two pictures, for training (Johnson et al. 2016)."""

from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn, tensor
from torchvision.models import VGG16_Weights, VGG19_Weights

from clipsr_cli import hub
from clipsr_cli.errors import UnknownNameError, WeightsError, reason

# ImageNet weights as torchvision publishes them; a file's name ends in the start of its sha256.
URLS: dict[str, str] = {
    "vgg19": VGG19_Weights.IMAGENET1K_V1.url,
    "vgg16": VGG16_Weights.IMAGENET1K_V1.url,
}
# 3x3 convolutions in each of the five blocks, and their channels (Simonyan and Zisserman 2015).
CONVS = {"vgg19": (2, 2, 4, 4, 4), "vgg16": (2, 2, 3, 3, 3)}
WIDTHS = (64, 128, 256, 512, 512)
# How much each block counts: Real-ESRGAN's choice (Wang et al. 2021, section 4.1), which takes the
# maps before their ReLU, where here they are taken after it.
BLOCK_WEIGHTS = (0.1, 0.1, 1.0, 1.0, 1.0)


class Vgg(nn.Module):
    """How far apart VGG's frozen features of two pictures are.

    The features are the last of each of its five blocks, after the ReLU (relu1_2, relu2_2,
    relu3_4, relu4_4 and relu5_4 of VGG-19; relu3_3, relu4_3 and relu5_3 of VGG-16). The distance is
    the mean, weighted by ``BLOCK_WEIGHTS``, of the mean absolute differences in each.

    It is always in evaluation mode and learns nothing. Build it once, before the training's first
    step: loading reads some 550 MB, of which the classifier's larger part is dropped at once.

    Shapes:
        first    (B, 3, H, W)  RGB in [0, 1]; H, W >= 16; gradients flow back to it
        second   (B, 3, H, W)  the reference, which gets no gradient
        returns  (B,)          float32; 0 for equal pictures; lower is nearer
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: str = "vgg19") -> None:
        super().__init__()
        if kind not in URLS:
            raise UnknownNameError("perceptual network", kind, URLS)
        layers: list[nn.Module] = []
        before = 3
        for convs, width in zip(CONVS[kind], WIDTHS, strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(convs):
                # A ReLU in place would overwrite maps that the backward pass still reads.
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=False)]
                before = width
        # In torchvision's order, so that the names of the tensors are torchvision's.
        self.features = nn.Sequential(*layers)
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        self.register_buffer("mean", tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", tensor(std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, kind: str, weights: Path | None = None) -> Self:
        """The network with its ImageNet weights.

        Args:
            kind: ``vgg19`` or ``vgg16``.
            weights: a file of torchvision's format, with or without the classifier. Without one,
                torchvision's own from torch's cache, into which it is downloaded once
                (HF_HUB_OFFLINE=1 forbids that).

        Raises:
            UnknownNameError: there is no such network.
            WeightsError: the file is not there, cannot be downloaded, or holds something else.
        """
        network = cls(kind)
        path = _find(kind) if weights is None else weights
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise WeightsError(f"Cannot read the weights {path}: {reason(error)}.") from error
        except Exception as error:  # A damaged pickle raises almost anything.
            raise WeightsError(f"{path} is damaged or no file of PyTorch weights.") from error
        if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
            raise WeightsError(f"{path} holds no weights by name.")
        features = {k: v for k, v in state.items() if not k.startswith("classifier.")}
        try:
            network.load_state_dict(features, strict=True)
        except RuntimeError as error:
            raise WeightsError(
                f"{path} does not hold the weights of {kind}.",
                hint=f"The file is torchvision's {Path(URLS[kind]).name}, from {URLS[kind]}",
            ) from error
        return network

    def maps(self, images: Tensor) -> list[Tensor]:
        """The last map (B, C, h, w) of each of the five blocks."""
        maps, x = [], (images - self.mean) / self.std
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [*maps, x]

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever the network around it is told."""
        return super().train(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        with torch.no_grad():
            references = self.maps(second)
        distance = torch.zeros(len(first), device=first.device)
        for a, b, weight in zip(self.maps(first), references, BLOCK_WEIGHTS, strict=True):
            difference = (a - b).abs().mean(dim=(1, 2, 3), dtype=torch.float32)
            distance = distance + weight * difference
        return distance / sum(BLOCK_WEIGHTS)


def place(kind: str) -> Path:
    """Where torchvision keeps its file in torch's cache, whether it is there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(URLS[kind]).name


def _find(kind: str) -> Path:
    """Torchvision's file in torch's cache, downloaded if it is not there.

    Raises:
        WeightsError: it is not there and cannot be, or must not be, downloaded.
    """
    url, path = URLS[kind], place(kind)
    if path.is_file():
        return path
    hint = f"Download {url} by hand and save it as {path}"
    if hub.offline():
        raise WeightsError(
            f"The weights {path.name} are not there, and HF_HUB_OFFLINE forbids to download them.",
            hint=hint,
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sha256 = path.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256, progress=False)
    except (OSError, HTTPException, RuntimeError) as error:
        raise WeightsError(
            f"Cannot download the weights {path.name}: {reason(error)}.", hint=hint
        ) from error
    return path
