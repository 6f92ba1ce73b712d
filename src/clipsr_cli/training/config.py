"""The settings of the trainings, checked when they are made."""

from dataclasses import dataclass, field
from pathlib import Path

from clipsr_cli.degradation import DegradationConfig
from clipsr_cli.errors import InputError
from clipsr_cli.models.discriminator import DiscriminatorConfig
from clipsr_cli.models.generator import BASE_MULTIPLE, GeneratorConfig

PERCEPTUAL = ("lpips", "efficientnet-lite", "vgg19", "vgg16")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset and how often its pictures are drawn, relative to the others."""

    root: Path
    # A name of ``datasets.DATASETS``.
    dataset: str = "folder"
    weight: float = 1.0
    # File names never trained on, such as pictures shown as examples.
    exclude: tuple[str, ...] = ()
    # Share of its pictures that is kept for evaluation, where the dataset has no split of its own.
    held_back: float = 0.05
    # The fold of categories that is kept for evaluation (ref-ytvos and ref-sailvos).
    group: int | None = None

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise InputError(f"weight of {self.root} is {self.weight}; it must be above 0.")
        if not 0 < self.held_back < 1:
            raise InputError(f"held_back of {self.root} is {self.held_back}; it must be in (0, 1).")


@dataclass(frozen=True, kw_only=True)
class ClipTrainConfig:
    """Training a CLIP: from nothing with the contrastive objective (Radford et al. 2021), or its
    image tower under teachers (scripts/distil_clip.py).
    """

    sources: tuple[Source, ...]
    architecture: Path
    steps: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 50
    # Share of the patches left out: training is that much faster (Li et al. 2023, FLIP).
    patch_dropout: float = 0.5
    # Steps between evaluations on held-back pictures, after each of which the weights are written.
    save_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError("sources is empty; name at least one dataset to train on.")
        for name in ("steps", "batch_size", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("learning_rate", "weight_decay", "warmup", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more.")
        if not 0 <= self.patch_dropout < 1:
            raise InputError(f"patch_dropout is {self.patch_dropout}; it must be in [0, 1).")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The weights of the losses; 0 leaves one out (paper, L_G and L_D).

    The adversarial ones are the paper's.
    """

    l1: float = 1.0
    # L1 of result and truth after both are reduced: colours and shapes stay those of the small one.
    consistency: float = 0.0
    perceptual: float = 0.4
    # Whose features it compares: LPIPS-Alex comes with the package, three EfficientNets with the
    # extra ``train``, VGGs through torchvision. Several, joined by "+", are summed.
    perceptual_network: str = "lpips"
    # Enlargements at which they are compared, one drawn for each step.
    perceptual_zooms: tuple[float, ...] = (1.0,)
    # Steps on L1 and consistency, before the perceptual loss joins.
    perceptual_from: int = 0
    # What the discriminator says of the result; 0 leaves the discriminator out.
    adversarial: float = 0.01
    # Cosine distance of the result and the prompt in CLIP.
    clip: float = 0.04
    # Steps of warm-up, before the two text-constrained losses above join.
    adversarial_from: int = 1000
    # The matching-aware gradient penalty of the discriminator: factor and power (Tao et al. 2022).
    gradient_penalty: float = 2.0
    gradient_penalty_power: float = 6.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and value < 0:
                raise InputError(f"losses.{name} is {value}; it must be 0 or more.")
        if not set(self.perceptual_network.split("+")) <= set(PERCEPTUAL):
            raise InputError(
                f"losses.perceptual_network is {self.perceptual_network!r}; "
                f'it must be one of these, or several joined by "+": {", ".join(PERCEPTUAL)}.'
            )
        zooms = self.perceptual_zooms
        if not zooms or not all(1 <= zoom <= 4 for zoom in zooms):
            raise InputError(
                f"losses.perceptual_zooms is {list(zooms)}; it must hold numbers from 1 to 4."
            )
        if not (self.l1 or self.perceptual):
            raise InputError("losses.l1 and losses.perceptual are both 0; nothing is left to copy.")
        if self.gradient_penalty_power < 2:
            raise InputError(
                f"losses.gradient_penalty_power is {self.gradient_penalty_power}; "
                "below 2 its slope is infinite at 0."
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is written while a training runs, what it takes of the machine, and when it is given up;
    none of it changes the weights.
    """

    # Steps between evaluations on held-back pictures; each writes a checkpoint.
    evaluate_every: int = 500
    # How many pictures are scored, spread over the sources.
    evaluate_count: int = 24
    # Steps between checkpoints besides: what a kill can cost.
    save_every: int = 500
    # How many checkpoints are kept, not counting the best.
    keep: int = 2
    # Steps between lines of metrics.jsonl and TensorBoard.
    log_every: int = 10
    # Rows of a sample sheet; 0 writes none.
    sheet_rows: int = 8
    # Threads that decode and cut pictures.
    workers: int = 4
    # In each process decoded pictures are kept in memory up to so many GB, or half of its share of
    # what is free; others are decoded when they are drawn.
    memory_gb: float = 8.0
    # How many skipped steps in a row end the run.
    max_skipped: int = 25

    def __post_init__(self) -> None:
        least = {"evaluate_count": 1, "sheet_rows": 0, "memory_gb": 0}
        for name, value in vars(self).items():
            if value < least.get(name, 1):
                raise InputError(f"run.{name} is {value}; it must be {least.get(name, 1)} or more.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training a generator: L1 and a perceptual loss, then the text-constrained adversarial
    ones.
    """

    generator: GeneratorConfig
    sources: tuple[Source, ...]
    steps: int
    # The CLIP to be conditioned on: a name of weights.toml.
    clip: str = "clipsr-clip-mini"
    # Generator weights to start from; those of another scale fit too.
    start: Path | None = None
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    # Sides of the square training pictures, drawn batch by batch.
    crops: tuple[int, ...] = (192,)
    # Pictures a step, in each process.
    batch_size: int = 8
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    discriminator_learning_rate: float = 4e-4
    discriminator_betas: tuple[float, float] = (0.0, 0.9)
    weight_decay: float = 0.01
    # Steps of rising learning rate, then its course.
    warmup: int = 100
    schedule: str = "cosine"
    # Longest gradient, of either network; 0 for any.
    clip_gradient: float = 1.0
    ema: float = 0.999
    # Share of the pictures whose prompt is left empty.
    text_dropout: float = 0.1
    # Smallest factor by which a large photo is reduced before it is cropped.
    min_zoom: float = 0.4
    # Larger pictures are reduced to this short side first.
    short_side: int = 1280
    seed: int = 0
    device: str = "auto"
    # ``auto``: bf16 on a GPU that has it, else fp16; fp32 on the CPU.
    precision: str = "auto"
    compile: bool = False
    # A note for the checkpoint's header, on what the weights may be used for.
    licence: str = ""
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError("sources is empty; name at least one dataset to train on.")
        # Whole pictures of the base grid at every scale, and no padding in training.
        multiple = 4 * BASE_MULTIPLE
        if not self.crops:
            raise InputError("crops is empty; name at least one side, such as 192.")
        for crop in self.crops:
            if crop < multiple or crop % multiple:
                raise InputError(f"crops holds {crop}; a crop must be a multiple of {multiple}.")
            if crop < 64 and self.losses.perceptual:
                raise InputError(
                    f"crops holds {crop}; the perceptual loss needs 64 at least.",
                    hint="Or set losses.perceptual = 0.",
                )
        for name in ("text_dropout", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be between 0 and 1.")
        for name in (
            "learning_rate",
            "discriminator_learning_rate",
            "weight_decay",
            "warmup",
            "clip_gradient",
            "seed",
        ):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more.")
        for name in ("betas", "discriminator_betas"):
            if not all(0 <= beta < 1 for beta in getattr(self, name)):
                raise InputError(f"{name} is {getattr(self, name)}; both must be in [0, 1).")
        if self.short_side < max(self.crops):
            raise InputError(
                f"short_side is {self.short_side}, below the crop of {max(self.crops)}: "
                "pictures would be reduced and enlarged again."
            )
        if not 0 < self.min_zoom <= 1:
            raise InputError(f"min_zoom is {self.min_zoom}; it must be above 0, up to 1.")
        for name in ("steps", "batch_size", "short_side"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name, choices in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                known = ", ".join(choices)
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be one of: {known}.")

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator."""
        return self.losses.adversarial > 0
