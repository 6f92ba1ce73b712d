"""The network of the CLIP-SR authors' released code, which is not quite the paper's, for their
checkpoint: small pictures and text vectors in, pictures four times as large out.

Its branch through CLIP's image tower never reached the picture, so it has no place here; words act
through the modulated blocks alone. Layers and numbers follow the released code as described by
its tensors; the code itself has no licence and nothing of it is copied.

Legend: B batch, C channels, E text embedding, h x w small picture.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipsr_cli.errors import InputError
from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import MOST_CHANNELS

SCALE = 4
# The authors' network sees pictures of 64 x 64 px only; borders were never nearer to each other.
TRAINED_SIDE = 64
# Three layers of stride 2.
MULTIPLE = 8


@dataclass(frozen=True, kw_only=True)
class ReleasedConfig:
    """What decides the network's shape; the defaults are the released checkpoint's."""

    scale: int = SCALE
    # Of CLIP ViT-B/32.
    text_dim: int = 512
    # Channels at the small picture's size and at its half, quarter and eighth.
    widths: tuple[int, int, int, int] = (256, 512, 512, 512)
    # Channels inside the refinement behind the decoder.
    bottleneck: int = 64
    # Channels between the pixel shuffles.
    head_width: int = 64

    def __post_init__(self) -> None:
        if self.scale != SCALE:
            raise InputError(f"scale is {self.scale}; the released network enlarges x{SCALE} only.")
        sizes = (self.text_dim, *self.widths, self.bottleneck, self.head_width)
        if not all(1 <= size <= MOST_CHANNELS for size in sizes):
            raise InputError(f"The sizes {sizes} are no network's: 1 to {MOST_CHANNELS} channels.")


class Modulation(nn.Module):
    """Scale and shift every channel by amounts read from the text: gamma(t) * x + beta(t).

    Shapes:
        features  (B, C, H, W)
        amounts   (B, 2C)       ``amounts(text)`` of a text (B, E)
        returns   (B, C, H, W)
    """

    def __init__(self, channels: int, text_dim: int) -> None:
        super().__init__()
        self.size = 2 * channels
        self.gamma = self._mlp(channels, text_dim)
        self.beta = self._mlp(channels, text_dim)

    @staticmethod
    def _mlp(channels: int, text_dim: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(text_dim, channels), nn.ReLU(), nn.Linear(channels, channels)
        )

    def amounts(self, text: Tensor) -> Tensor:
        """How much a text scales and shifts each channel: (B, E) -> (B, 2C)."""
        return torch.cat([self.gamma(text), self.beta(text)], dim=1)

    def forward(self, features: Tensor, amounts: Tensor) -> Tensor:
        gamma, beta = amounts[:, :, None, None].chunk(2, dim=1)
        return gamma * features + beta


class Fusion(nn.Module):
    """Two modulations, each with a LeakyReLU (slope 0.2) behind it; shapes as in Modulation, with
    amounts of (B, 4C).
    """

    def __init__(self, channels: int, text_dim: int) -> None:
        super().__init__()
        self.size = 4 * channels
        self.affine1 = Modulation(channels, text_dim)
        self.affine2 = Modulation(channels, text_dim)

    def amounts(self, text: Tensor) -> Tensor:
        """What both modulations read from a text: (B, E) -> (B, 4C)."""
        return torch.cat([self.affine1.amounts(text), self.affine2.amounts(text)], dim=1)

    def forward(self, features: Tensor, amounts: Tensor) -> Tensor:
        first, second = amounts.chunk(2, dim=1)
        features = F.leaky_relu(self.affine1(features, first), 0.2)
        return F.leaky_relu(self.affine2(features, second), 0.2)


class FusionBlock(nn.Module):
    """Fusion, convolution, fusion, convolution, and a shortcut around them.

    Shapes:
        features  (B, inner, H, W)
        amounts   (B, 4 * (inner + outer))  ``amounts(text)`` of a text (B, E)
        returns   (B, outer, H, W)
    """

    def __init__(self, inner: int, outer: int, text_dim: int) -> None:
        super().__init__()
        self.size = 4 * (inner + outer)
        self.fuse1 = Fusion(inner, text_dim)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.fuse2 = Fusion(outer, text_dim)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def amounts(self, text: Tensor) -> Tensor:
        """What both fusions read from a text."""
        return torch.cat([self.fuse1.amounts(text), self.fuse2.amounts(text)], dim=1)

    def forward(self, features: Tensor, amounts: Tensor) -> Tensor:
        first, second = torch.split(amounts, [self.fuse1.size, self.fuse2.size], dim=1)
        changed = self.conv1(self.fuse1(features, first))
        return self.shortcut(features) + self.conv2(self.fuse2(changed, second))


class ReleasedGenerator(nn.Module):
    """Enlarge pictures four times, guided by text, as the authors' released network does.

    At 64 x 64 px it is their computation. Their code brings every picture to that size; here the
    size is relative, so that tiles of any size work: sides below 64 px or not in eights are
    repeated outwards at the right and bottom edge, and cut off the result again.

    Holds the frozen CLIP that embeds the prompts; ``learned_state`` leaves it out.

    Shapes:
        low      (B, 3, h, w)    RGB in [0, 1] (their [-1, 1] stays inside); h, w >= 1
        text     (B, E)          ``clip.text(prompts)``, not normalised; CLIP ViT-B/32 in training
        returns  (B, 3, 4h, 4w)  RGB, about [0, 1], not clamped

    Raises:
        InputError: the CLIP's embeddings are not ``config.text_dim`` long.
    """

    def __init__(self, config: ReleasedConfig, clip: Clip) -> None:
        super().__init__()
        if clip.embed_dim != config.text_dim:
            raise InputError(
                f"The CLIP {clip.name!r} gives text vectors of {clip.embed_dim} values; "
                f"this generator reads {config.text_dim}.",
                hint="The authors' checkpoint was trained with CLIP ViT-B/32: --clip clip-vit-b-32",
            )
        self.config = config
        self.clip = clip
        widths = config.widths
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encode = nn.ModuleList(
            nn.Conv2d(inner, outer, 3, stride=stride, padding=1)
            for inner, outer, stride in zip((3, *widths[:3]), widths, (1, 2, 2, 2), strict=True)
        )
        # One slope for all channels of all four levels.
        self.activation = nn.PReLU()
        inner = (widths[3], widths[3], widths[2], widths[1])
        outer = (widths[3], widths[2], widths[1], widths[0])
        self.decode = nn.ModuleList(
            FusionBlock(i, o, config.text_dim) for i, o in zip(inner, outer, strict=True)
        )
        self.refine = nn.Sequential(
            nn.Conv2d(widths[0], config.bottleneck, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(config.bottleneck, config.bottleneck, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(config.bottleneck, widths[0], 3, padding=1),
        )
        self.head = nn.Sequential(
            nn.Conv2d(widths[0], config.head_width, 3, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(config.head_width, 4 * config.head_width, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Conv2d(config.head_width, 4 * config.head_width, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Conv2d(config.head_width, 3, 3, padding=1),
        )

    def forward(self, low: Tensor, text: Tensor) -> Tensor:
        return self.render(low, self.condition(text))

    def condition(self, text: Tensor) -> Tensor:
        """All that the network reads from a text, as one vector: (B, E) -> (B, K)."""
        return torch.cat([block.amounts(text) for block in self._blocks()], dim=1)

    def render(self, low: Tensor, condition: Tensor) -> Tensor:
        """Enlarge pictures (B, 3, h, w) by what ``condition`` made of their texts, (B, K)."""
        height, width = low.shape[2:]
        bottom, right = _missing(height), _missing(width)
        if bottom or right:
            low = F.pad(low, (0, right, 0, bottom), mode="replicate")
        signed = 2 * low - 1

        levels = [signed]
        for conv in self.encode:
            levels.append(self.activation(conv(levels[-1])))
        features = levels[-1]
        blocks = self._blocks()
        amounts = torch.split(condition, [block.size for block in blocks], dim=1)
        for block, amount, level in zip(blocks, amounts, reversed(levels[1:]), strict=True):
            features = F.interpolate(features, level.shape[2:], mode="nearest")
            features = block(features, amount) + level
        features = self.refine(features) + self.stem(signed)
        high = (self.head(features) + 1) / 2
        return high[:, :, : SCALE * height, : SCALE * width]

    def _blocks(self) -> list[FusionBlock]:
        return cast(list[FusionBlock], list(self.decode))

    def learned_state(self) -> dict[str, Tensor]:
        """The tensors this network owns: everything but the frozen CLIP."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("clip.")}


def _missing(side: int) -> int:
    """Pixels to add to a side."""
    return max(side + -side % MULTIPLE, TRAINED_SIDE) - side
