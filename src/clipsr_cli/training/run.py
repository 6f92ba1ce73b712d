"""A training run's folder: its settings, checkpoints, metrics and sample sheets.

config.toml                        the settings, all of them
checkpoints/00000500/              after 500 steps: generator.safetensors (EMA), state.pt
generator.safetensors              the newest checkpoint's generator
metrics.jsonl                      a line every ``log_every`` steps and at every evaluation
samples/00000500.png               small, bicubic, result and reference, with the prompt
tensorboard/                       the same, for TensorBoard, where it is installed
"""

import json
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torchvision.utils import make_grid

from clipsr_cli.encoders.place import place
from clipsr_cli.errors import InputError, reason
from clipsr_cli.training.config import TrainConfig

logger = logging.getLogger(__name__)

CONFIG = "config.toml"
CHECKPOINTS = "checkpoints"
GENERATOR = "generator.safetensors"
STATE = "state.pt"
METRICS = "metrics.jsonl"
SAMPLES = "samples"
TENSORBOARD = "tensorboard"

# Settings that may differ when a run is resumed: they do not decide what a step does, or, like
# ``steps``, decide it from here on.
FREE = frozenset({"steps", "device", "precision", "run", "licence", "compile"})
# Likewise of each source: data may move, and a broken picture may have to be left out.
FREE_OF_SOURCES = frozenset({"root", "exclude"})


def as_toml(config: TrainConfig) -> str:
    """The settings as a TOML file that gives them again; what is None is left out."""
    return tomli_w.dumps(_plain(asdict(config)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def recipe(config: TrainConfig, processes: int) -> dict[str, str]:
    """The settings that decide the weights, as text, to be compared when a run is resumed."""
    settings = {name: value for name, value in asdict(config).items() if name not in FREE}
    settings["sources"] = [
        {name: value for name, value in source.items() if name not in FREE_OF_SOURCES}
        for source in settings["sources"]
    ]
    return {name: repr(value) for name, value in settings.items()} | {"processes": str(processes)}


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with place(path) as file:
        file.write(text.encode())


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One complete checkpoint."""

    folder: Path
    step: int

    @property
    def generator(self) -> Path:
        """The moving average's weights."""
        return self.folder / GENERATOR

    def state(self) -> dict[str, Any]:
        """What a resumed run needs.

        Raises:
            InputError: it cannot be read.
        """
        path = self.folder / STATE
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            if not isinstance(state, dict):
                raise ValueError(f"it holds a {type(state).__name__}")
            return state
        except Exception as error:
            raise InputError(
                f"Cannot read {path}: {reason(error)}.",
                hint=f"Delete {self.folder} to resume from the checkpoint before it.",
            ) from error


def checkpoints(output: Path) -> list[Checkpoint]:
    """The complete checkpoints of a run, oldest first."""
    folder = output / CHECKPOINTS
    if not folder.is_dir():
        return []
    found = [
        Checkpoint(folder=path, step=int(path.name))
        for path in folder.iterdir()
        if path.name.isdecimal() and path.is_dir()
    ]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def save_checkpoint(
    output: Path,
    step: int,
    write_generator: Callable[[Path], None],
    state: dict[str, Any],
    *,
    keep: int,
    best: int,
) -> Checkpoint:
    """Write a checkpoint aside, put it in place whole, then delete those no longer kept.

    Args:
        output: the run's folder.
        step: how many steps are done.
        write_generator: called with the path of the generator's file.
        state: what a resumed run needs, ``torch.load(weights_only=True)`` permitting.
        keep: how many of the newest are kept.
        best: the step of the best one, which is kept too.
    """
    folder = output / CHECKPOINTS / f"{step:08d}"
    aside = folder.with_name(f"{folder.name}.tmp")
    if aside.exists():
        shutil.rmtree(aside)
    aside.mkdir(parents=True)
    write_generator(aside / GENERATOR)
    torch.save(state, aside / STATE)
    if folder.exists():
        # Of a run that was resumed from before it; the same step gives the same weights.
        shutil.rmtree(folder)
    aside.replace(folder)
    publish(Checkpoint(folder=folder, step=step), output)
    there = checkpoints(output)
    for old in there[: max(0, len(there) - keep)]:
        if old.step != best:
            shutil.rmtree(old.folder)
    return Checkpoint(folder=folder, step=step)


def publish(checkpoint: Checkpoint, output: Path) -> None:
    """Make a checkpoint's generator the run's, in one step."""
    # A copy and no link: who writes over the one must not spoil the other.
    with checkpoint.generator.open("rb") as source, place(output / GENERATOR) as target:
        shutil.copyfileobj(source, target)


class Log:
    """Appends to metrics.jsonl and, where it is installed, to TensorBoard.

    Lines of steps after ``first`` are dropped: a resumed run does those steps again.
    """

    def __init__(self, output: Path, first: int) -> None:
        path = output / METRICS
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if _step(line) <= first]
        write_text(path, "".join(line + "\n" for line in kept))
        self.file = path.open("a", encoding="utf-8", buffering=1)
        self.board = _board(output / TENSORBOARD, first)

    def write(self, row: dict[str, float]) -> None:
        """One line of {name: value}, ``step`` among them."""
        # JSON has no infinity.
        plain = {k: v if math.isfinite(v) else None for k, v in row.items()}
        self.file.write(json.dumps(plain) + "\n")
        if self.board is not None:
            for name, value in row.items():
                if name != "step":
                    self.board.add_scalar(name, value, int(row["step"]))

    def show(self, name: str, images: Sequence[torch.Tensor], step: int) -> None:
        """A grid of those pictures (3, H, W) in [0, 1] that have the first one's size, in
        TensorBoard.
        """
        if self.board is not None:
            alike = [image for image in images if image.shape == images[0].shape]
            self.board.add_image(name, make_grid(alike, nrow=4), step)

    def close(self) -> None:
        """Write what is not yet written."""
        self.file.close()
        if self.board is not None:
            self.board.close()


def _step(line: str) -> float:
    """The step of a metrics line; beyond all steps for half a line, which a kill may leave."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _board(folder: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
    except ImportError:
        logger.warning(
            "TensorBoard is not installed; metrics go to %s alone. "
            "To have it: pip install 'clipsr-cli[train]'",
            METRICS,
        )
        return None
    return SummaryWriter(str(folder), purge_step=first + 1)
