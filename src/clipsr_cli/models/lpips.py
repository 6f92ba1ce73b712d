"""LPIPS-Alex: the perceptual distance of two pictures (Zhang et al. 2018, version 0.1)."""

from importlib.resources import as_file, files
from typing import Self

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn, tensor, zeros

CHANNELS = (64, 192, 384, 256, 256)


class Lpips(nn.Module):
    """Frozen AlexNet features and the learned weights of their differences.

    Shapes:
        first, second  (B, 3, H, W)  RGB in [0, 1]; H, W >= 32
        returns        (B,)          0 for equal pictures; lower is nearer
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(3, 64, 11, stride=4, padding=2),
                nn.Conv2d(64, 192, 5, padding=2),
                nn.Conv2d(192, 384, 3, padding=1),
                nn.Conv2d(384, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
            ]
        )
        self.heads = nn.ParameterList(zeros(channels) for channels in CHANNELS)
        # ImageNet's mean and deviation, as LPIPS writes them, brought from [-1, 1] to [0, 1].
        mean, std = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
        self.register_buffer("mean", (tensor(mean).view(1, 3, 1, 1) + 1) / 2, persistent=False)
        self.register_buffer("std", tensor(std).view(1, 3, 1, 1) / 2, persistent=False)
        self.requires_grad_(False)

    @classmethod
    def load(cls) -> Self:
        """The network with the weights that come with the package."""
        with as_file(files("clipsr_cli") / "assets" / "lpips-alex.safetensors") as path:
            network = cls()
            network.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=True)
        return network

    def features(self, images: Tensor) -> list[Tensor]:
        """AlexNet's five maps (B, C, h, w), each pixel's channels scaled to length 1."""
        maps, x = [], (images - self.mean) / self.std
        for index, conv in enumerate(self.convs):
            if index in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(conv(x))
            maps.append(x / (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt())
        return maps

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        distance = first.new_zeros(len(first))
        for a, b, head in zip(self.features(first), self.features(second), self.heads, strict=True):
            weighted = (a - b).square() * head.view(1, -1, 1, 1)
            distance = distance + weighted.sum(dim=1).mean(dim=(1, 2))
        return distance
