"""What a generator is trained to lower, as {name: weighted term}."""

import torch.nn.functional as F
from torch import Tensor, nn

from clipsr_cli.models.lpips import Lpips
from clipsr_cli.training.config import TrainConfig


class ReconstructionLoss(nn.Module):
    """L1, and LPIPS from a given step on.

    Shapes:
        fake, high  (B, 3, H, W)  RGB in [0, 1]; ``fake`` may leave the range
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.lpips = Lpips.load()

    def forward(self, fake: Tensor, high: Tensor, step: int) -> dict[str, Tensor]:
        config = self.config
        terms = {"l1": config.l1_weight * F.l1_loss(fake, high)}
        if config.lpips_weight and step >= config.lpips_from:
            # AlexNet looks at every fourth pixel, and the generator draws in blocks of four.
            # Without a shift that changes with the step the two lock, and hatching appears.
            top, left = divmod(step % 16, 4)
            distance = self.lpips(fake[:, :, top:, left:], high[:, :, top:, left:])
            terms["lpips"] = config.lpips_weight * distance.mean()
        return terms
