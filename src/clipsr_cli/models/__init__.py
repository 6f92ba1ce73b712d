"""The networks, by the name their checkpoints carry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import Generator, GeneratorConfig
from clipsr_cli.models.released import ReleasedConfig, ReleasedGenerator

# What every architecture has in common: config.scale, clip, learned_state() and
# forward((B, 3, h, w), (B, E)) -> (B, 3, h * scale, w * scale), which is
# condition((B, E)) -> (B, K) and then render((B, 3, h, w), (B, K)).
AnyConfig = GeneratorConfig | ReleasedConfig
AnyGenerator = Generator | ReleasedGenerator


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A config class, and what builds a network of such a config around a CLIP."""

    config: type[Any]
    build: Callable[[Any, Clip], AnyGenerator]


ARCHITECTURES = {
    "clip-sr": Architecture(config=GeneratorConfig, build=Generator),
    "clip-sr-released": Architecture(config=ReleasedConfig, build=ReleasedGenerator),
}
