"""The networks, by the name their checkpoints carry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import Generator, GeneratorConfig


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A config class, and what builds a network of such a config around a CLIP."""

    config: type[Any]
    build: Callable[[Any, Clip], Generator]


ARCHITECTURES = {
    "clip-sr": Architecture(config=GeneratorConfig, build=Generator),
}
