"""What changes while a run goes on, to and from its checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from clipsr_cli.checkpoints import load_learned, save_generator
from clipsr_cli.errors import ClipsrError, InputError
from clipsr_cli.models.generator import Generator
from clipsr_cli.training import run
from clipsr_cli.training.config import TrainConfig
from clipsr_cli.training.parallel import Processes
from clipsr_cli.training.steps import MovingAverage, Networks


class Progress:
    """All that changes while a run goes on, and so all that its checkpoints hold."""

    def __init__(
        self, config: TrainConfig, party: Processes, networks: Networks, generator: Generator
    ) -> None:
        self.config = config
        self.party = party
        self.networks = networks
        self.generator = generator
        self.average = MovingAverage(generator.learned_state(), config.ema)
        self.step = 0
        # The best evaluation so far, by LPIPS, and how many steps were done at it.
        self.best = float("inf")
        self.best_step = 0
        # Steps in a row that were skipped.
        self.skipped = 0

    def load(self, checkpoint: run.Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            InputError: it was made with other settings.
        """
        state, networks = checkpoint.state(), self.networks
        for name, value in run.recipe(self.config, self.party.count).items():
            if state["config"].get(name) != value:
                raise InputError(
                    f"{checkpoint.folder} was made with {name} = {state['config'].get(name)}, "
                    f"not {value}.",
                    hint="Choose another --output, or the settings it was made with.",
                )
        load_learned(self.generator, state["generator"], checkpoint.folder)
        networks.generating.load(state["generating"])
        if networks.judge is not None and networks.judging is not None:
            networks.judge.load_state_dict(state["judge"])
            networks.judging.load(state["judging"])
        for name, tensor in state["average"].items():
            self.average.state[name].copy_(tensor)
        self.step, self.skipped = state["step"], state["skipped"]
        self.best, self.best_step = state["best"], state["best_step"]

    @contextmanager
    def averaged(self) -> Iterator[Generator]:
        """The generator with the moving average's weights, in eval mode; its own come back."""
        learned = self.generator.learned_state()
        own = {name: tensor.clone() for name, tensor in learned.items()}
        with torch.no_grad():
            for name, tensor in learned.items():
                tensor.copy_(self.average.state[name])
        self.generator.eval()
        try:
            yield self.generator
        finally:
            self.generator.train()
            with torch.no_grad():
                for name, tensor in learned.items():
                    tensor.copy_(own[name])

    def save(self, output: Path) -> None:
        """Write a checkpoint, from the first process only."""
        config, networks = self.config, self.networks
        state = {
            "config": run.recipe(config, self.party.count),
            "step": self.step,
            "skipped": self.skipped,
            "best": self.best,
            "best_step": self.best_step,
            "generator": self.generator.learned_state(),
            "generating": networks.generating.state(),
            "judge": networks.judge and networks.judge.state_dict(),
            "judging": networks.judging and networks.judging.state(),
            "average": self.average.state,
        }
        run.save_checkpoint(
            output,
            self.step,
            partial(write_generator, self.average.state, config, steps=self.step),
            state,
            keep=config.run.keep,
            best=self.best_step,
        )

    def compare(self, score: float) -> None:
        """Note the score of the moving average, lower being better."""
        if score < self.best:
            self.best, self.best_step = score, self.step

    def count_skipped(self, skipped: bool) -> None:
        """Note whether a step was skipped.

        Raises:
            ClipsrError: too many in a row were.
        """
        self.skipped = self.skipped + 1 if skipped else 0
        if self.skipped >= self.config.run.max_skipped:
            raise ClipsrError(
                f"Training stopped after step {self.step}: the losses or gradients of the last "
                f"{self.skipped} steps were not finite.",
                hint="Go on from the last checkpoint by --resume --precision bf16 (or fp32), or "
                "begin anew with a lower learning_rate.",
            )


def write_generator(
    state: dict[str, Tensor], config: TrainConfig, path: Path, *, steps: int
) -> None:
    """Write a trained generator in fp32, with notes on how it was trained in its header."""
    notes = {
        "dataset": ", ".join(dict.fromkeys(source.dataset for source in config.sources)),
        "steps": str(steps),
        "licence": config.licence,
    }
    save_generator(state, config.generator, config.clip, path, half=False, notes=notes)
