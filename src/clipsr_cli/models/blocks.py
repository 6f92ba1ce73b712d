"""The generator's layers: text modulation, the TIFBlock, prompt tokens, gated convolution blocks.

Legend: B batch, C channels, E text embedding, D width of CLIP's image tower.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEXT_NORMS = ("layernorm", "softmax")


class PixelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of (B, C, H, W).

    Statistics over a whole tile would differ from tile to tile and show as seams.
    """

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GatedBlock(nn.Module):
    """Residual block of a gated depthwise convolution and a gated pointwise one, (B, C, H, W) both
    ways.

    Starts as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = PixelNorm(channels)
        self.expand1 = nn.Conv2d(channels, 2 * channels, 1)
        self.spatial = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.project1 = nn.Conv2d(channels, channels, 1)
        self.norm2 = PixelNorm(channels)
        self.expand2 = nn.Conv2d(channels, 2 * channels, 1)
        self.project2 = nn.Conv2d(channels, channels, 1)
        self.scale1 = nn.Parameter(torch.zeros(channels, 1, 1))
        self.scale2 = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        value, gate = self.spatial(self.expand1(self.norm1(features))).chunk(2, dim=1)
        features = features + self.scale1 * self.project1(value * gate)
        value, gate = self.expand2(self.norm2(features)).chunk(2, dim=1)
        return features + self.scale2 * self.project2(value * gate)


class TextNorm(nn.Module):
    """Bring a raw text embedding (B, E) to a range that a small MLP can read.

    ``softmax`` is the paper's form, with a learnable temperature; of a raw CLIP vector with a few
    outlying dimensions it is close to constant across prompts. ``layernorm`` suits any CLIP.
    Figures for both: benchmarks/RESULTS.md.
    """

    def __init__(self, text_dim: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "softmax":
            self.log_temperature = nn.Parameter(torch.zeros(()))
        else:
            self.norm = nn.LayerNorm(text_dim)

    def forward(self, text: Tensor) -> Tensor:
        if self.kind == "softmax":
            # Times E: a softmax over E values averages 1/E, too small for the layers behind it.
            return text.shape[1] * (text * self.log_temperature.exp()).softmax(dim=1)
        return self.norm(text)


class TextModulation(nn.Module):
    """Scale and shift every channel of a feature map by amounts read from the text (paper, AFF).

    Starts as the identity, so an untrained layer neither helps nor harms. The amounts depend on the
    text alone: they are the same for all tiles of a picture.

    Shapes:
        features  (B, C, H, W)
        amounts   (B, 2C)        ``amounts(text)`` of one normalised embedding (B, E) per image
        returns   (B, C, H, W)
    """

    def __init__(self, channels: int, text_dim: int, hidden: int) -> None:
        super().__init__()
        self.size = 2 * channels
        self.gamma = self._mlp(text_dim, hidden, channels)
        self.beta = self._mlp(text_dim, hidden, channels)

    @staticmethod
    def _mlp(text_dim: int, hidden: int, channels: int) -> nn.Sequential:
        last = nn.Linear(hidden, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.Linear(text_dim, hidden), nn.ReLU(), last)

    def amounts(self, text: Tensor) -> Tensor:
        """How much a text scales and shifts each channel: (B, E) -> (B, 2C)."""
        return torch.cat([self.gamma(text), self.beta(text)], dim=1)

    def forward(self, features: Tensor, amounts: Tensor) -> Tensor:
        gamma, beta = amounts[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(features + beta, features, gamma)


class TIFBlock(nn.Module):
    """Text-image fusion: Affine, ReLU, Affine, ReLU, Conv, and a residual around them (paper,
    TIFBlock).

    Shapes:
        features  (B, C, H, W)
        amounts   (B, 4C)       ``amounts(text)`` of a text (B, E)
        returns   (B, C, H, W)
    """

    def __init__(self, channels: int, text_dim: int, *, hidden: int, text_norm: str) -> None:
        super().__init__()
        self.size = 4 * channels
        self.norm = TextNorm(text_dim, text_norm)
        self.affine1 = TextModulation(channels, text_dim, hidden)
        self.affine2 = TextModulation(channels, text_dim, hidden)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def amounts(self, text: Tensor) -> Tensor:
        """What both affine layers read from a text: (B, E) -> (B, 4C)."""
        text = self.norm(text)
        return torch.cat([self.affine1.amounts(text), self.affine2.amounts(text)], dim=1)

    def forward(self, features: Tensor, amounts: Tensor) -> Tensor:
        first, second = amounts.chunk(2, dim=1)
        fused = F.relu(self.affine1(features, first))
        fused = F.relu(self.affine2(fused, second))
        return features + self.conv(fused)


class PromptPredictor(nn.Module):
    """Turn a text embedding into prompt tokens for CLIP's blocks and a refined text vector (paper,
    P).

    Shapes:
        text     (B, E)
        returns  (B, n, D) prompt tokens, (B, E) refined text
    """

    def __init__(
        self, text_dim: int, tokens: int, width: int, *, heads: int, text_norm: str
    ) -> None:
        super().__init__()
        self.norm = TextNorm(text_dim, text_norm)
        self.split = nn.Linear(text_dim, tokens * width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.token_norm = nn.LayerNorm(width)
        self.refine = nn.Linear(tokens * width, text_dim)
        # The refined text starts as the text itself.
        nn.init.zeros_(self.refine.weight)
        nn.init.zeros_(self.refine.bias)
        self.tokens = tokens

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.split(self.norm(text)).unflatten(1, (self.tokens, -1))
        normed = self.token_norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return tokens, text + self.refine(tokens.flatten(1))
