"""Small pictures, a tiny random CLIP and a tiny random generator, for every test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import Generator, GeneratorConfig

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="session")
def tiny_clip() -> Clip:
    """A random CLIP of the real format: 3 blocks, a 4 x 4 grid, 32 wide."""
    torch.manual_seed(0)
    return Clip.create(DATA / "tiny-clip.json")


@pytest.fixture(scope="session")
def make_generator(tiny_clip: Clip) -> Callable[..., Generator]:
    """Builds a tiny generator whose every layer has an effect (as built, many are the identity)."""

    def make(scale: int = 4, **settings: object) -> Generator:
        torch.manual_seed(1)
        config = GeneratorConfig(
            scale=scale,
            **(
                {
                    "widths": (8, 8, 8, 16),
                    "encoder_blocks": (1, 1, 1, 1),
                    "decoder_blocks": (1, 1, 1, 1),
                    "head_widths": (8, 8),
                    "text_hidden": 8,
                    "prompts": 2,
                }
                | settings
            ),
        )
        generator = Generator(config, tiny_clip)
        with torch.no_grad():
            for parameter in generator.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        return generator.eval()

    return make


@pytest.fixture
def photo() -> Callable[..., Path]:
    """Writes a small colourful picture: ``photo(path, width=..., height=..., seed=...)``."""

    def write(
        path: Path, *, width: int = 24, height: int = 16, seed: int = 0, mode: str = "RGB"
    ) -> Path:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = (
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        return path

    return write
