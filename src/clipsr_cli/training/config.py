"""The settings of the trainings, checked when they are made."""

from dataclasses import dataclass
from pathlib import Path

from clipsr_cli.errors import InputError
from clipsr_cli.models.generator import GeneratorConfig


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset and how often its pictures are drawn, relative to the others."""

    root: Path
    dataset: str = "folder"
    weight: float = 1.0
    # File names never trained on, such as pictures shown as examples.
    exclude: tuple[str, ...] = ()
    # Share of its pictures that is kept for validation.
    held_back: float = 0.05

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise InputError(f"weight of {self.root} is {self.weight}; it must be above 0.")
        if not 0 < self.held_back < 1:
            raise InputError(f"held_back of {self.root} is {self.held_back}; it must be in (0, 1).")


@dataclass(frozen=True, kw_only=True)
class ClipTrainConfig:
    """Training a CLIP from nothing with the contrastive objective (Radford et al. 2021)."""

    sources: tuple[Source, ...]
    architecture: Path
    steps: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 50
    # Share of the patches left out: training is that much faster (Li et al. 2023, FLIP).
    patch_dropout: float = 0.5
    save_every: int = 100
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training a generator on L1 + LPIPS."""

    generator: GeneratorConfig
    sources: tuple[Source, ...]
    steps: int
    # The CLIP to be conditioned on: a name of weights.toml.
    clip: str = "clipsr-clip-mini"
    # Generator weights to start from; those of another scale fit too.
    start: Path | None = None
    # Sides of the square training pictures, drawn batch by batch.
    crops: tuple[int, ...] = (192,)
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 100
    clip_gradient: float = 1.0
    l1_weight: float = 1.0
    lpips_weight: float = 0.4
    # Steps on L1 alone, before LPIPS joins.
    lpips_from: int = 0
    ema: float = 0.999
    # Share of the pictures whose prompt is left empty.
    text_dropout: float = 0.1
    # Smallest reduction of a large photo before it is cropped.
    min_zoom: float = 0.4
    # Pictures are held in memory reduced to this short side.
    short_side: int = 1280
    evaluate_every: int = 500
    evaluate_count: int = 24
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError("sources is empty; name at least one dataset to train on.")
        multiple = 8 * 4
        for crop in self.crops:
            if crop < multiple or crop % multiple:
                raise InputError(f"crops holds {crop}; a crop must be a multiple of {multiple}.")
            if crop < 64 and self.lpips_weight:
                raise InputError(
                    f"crops holds {crop}; LPIPS needs 64 at least.", hint="Or set lpips_weight = 0."
                )
        for name in ("text_dropout", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be between 0 and 1.")
        for name in ("steps", "batch_size", "evaluate_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
