"""The CLIP discriminator: frozen CLIP's feature maps of a picture, and a text, to one score.

Legend: B batch, E text embedding, D width of CLIP's image tower, g side of its patch grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipsr_cli.errors import InputError
from clipsr_cli.models.clip import Clip

# The depth of the image tower whose blocks the config counts.
VIT_B_DEPTH = 12


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """What decides the discriminator's shape; the defaults are the paper's for ViT-B/32."""

    # Blocks of a tower of 12 whose feature maps are judged; in proportion for other depths.
    blocks: tuple[int, ...] = (1, 4, 8)
    # Channels of the map that meets the text.
    channels: int = 512
    # Channels between the map and the score.
    head_channels: int = 128

    def __post_init__(self) -> None:
        if not self.blocks or any(not 0 <= block < VIT_B_DEPTH for block in self.blocks):
            raise InputError(f"blocks is {self.blocks}; it must hold numbers from 0 to 11.")
        if list(self.blocks) != sorted(set(self.blocks)):
            raise InputError(f"blocks is {self.blocks}; it must rise.")
        for name in ("channels", "head_channels"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")


class GatedResidual(nn.Module):
    """Residual block whose convolutions are let in by a learned gate: (B, C, g, g) -> (B, O, g, g).

    The gate starts at 0: the block starts as its shortcut.
    """

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(inner, outer, 1)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        inner = F.leaky_relu(self.conv1(features), 0.2)
        inner = F.leaky_relu(self.conv2(inner), 0.2)
        return self.shortcut(features) + self.gate * inner


class Discriminator(nn.Module):
    """Score pictures by what frozen CLIP sees in them and by how well a text fits (paper, D and C).

    Shapes:
        features  tuple of (B, D, g, g), one for each judged block, from ``look``
        text      (B, E), from ``read``
        returns   (B,)   high for real pictures with their own text
    """

    def __init__(self, config: DiscriminatorConfig, clip: Clip) -> None:
        super().__init__()
        self.blocks = sorted({block * clip.depth // VIT_B_DEPTH for block in config.blocks})
        joins = len(self.blocks) - 1
        self.residuals = nn.ModuleList(GatedResidual(clip.width, clip.width) for _ in range(joins))
        # How much of the next deeper map joins in after each block.
        self.joins = nn.Parameter(torch.zeros(joins))
        self.main = GatedResidual(clip.width, config.channels)
        self.head = nn.Sequential(
            nn.Conv2d(config.channels + clip.embed_dim, config.head_channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(config.head_channels, 1, 3, padding=1),
        )

    def forward(self, features: Sequence[Tensor], text: Tensor) -> Tensor:
        first, *deeper = features
        for residual, join, feature in zip(self.residuals, self.joins, deeper, strict=True):
            first = residual(first) + join * feature
        seen = self.main(first)
        text = text[:, :, None, None].expand(-1, -1, *seen.shape[2:])
        return self.head(torch.cat([seen, text], dim=1)).mean(dim=(1, 2, 3))

    def look(self, clip: Clip, images: Tensor) -> tuple[Tensor, ...]:
        """What ``forward`` takes for pictures (B, 3, H, W) in [0, 1], in fp32.

        Each pixel's channels are brought to mean 0 and deviation 1, so that rates and penalties
        mean the same for every CLIP. Gradients flow through to the pictures.
        """
        return tuple(
            F.layer_norm(found.float().permute(0, 2, 3, 1), found.shape[1:2]).permute(0, 3, 1, 2)
            for found in clip.features(images, self.blocks)
        )

    def read(self, text: Tensor) -> Tensor:
        """What ``forward`` takes for text embeddings (B, E), brought to the same range."""
        return F.layer_norm(text.float(), text.shape[1:])
