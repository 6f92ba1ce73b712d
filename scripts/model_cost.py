"""Print what the default generator costs for one tile: multiply-adds with CLIP-ViT, and parameters.

python scripts/model_cost.py [output side, 256 by default]
"""

import sys
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import SCALES, Generator, GeneratorConfig
from clipsr_cli.weights import find_clip


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Multiply-adds for one tile, and learned parameters."""

    multiply_adds: int
    parameters: int


def measure(scale: int, side: int = 256) -> Cost:
    """Count what one ``side`` x ``side`` output tile takes: convolutions, matrices, attention."""
    architecture, weights = find_clip("clipsr-clip-mini")
    generator = Generator(GeneratorConfig(scale=scale), Clip.create(architecture, weights))
    low = torch.rand(1, 3, side // scale, side // scale)
    text = generator.clip.text(["a bird"])
    # With gradients on, attention runs as plain matrix products, which are counted.
    with FlopCounterMode(display=False) as counter:
        generator(low, text)
    learned = sum(p.numel() for p in generator.parameters() if p.requires_grad)
    return Cost(multiply_adds=counter.get_total_flops() // 2, parameters=learned)


if __name__ == "__main__":
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    for scale in SCALES:
        cost = measure(scale, side)
        print(
            f"x{scale}, {side}x{side} output: {cost.multiply_adds / 1e9:.2f} G multiply-adds, "
            f"{cost.parameters / 1e6:.2f} M learned parameters"
        )
