"""Train a generator: the recipe, read top to bottom."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from clipsr_cli.checkpoints import load_learned, read_tensors, save_generator
from clipsr_cli.errors import InputError
from clipsr_cli.metrics import psnr
from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import Generator, enlarge
from clipsr_cli.models.lpips import Lpips
from clipsr_cli.runtime import pick_device
from clipsr_cli.training.config import TrainConfig
from clipsr_cli.training.data import Batch, Pictures, training_batch, validation_batches
from clipsr_cli.training.losses import ReconstructionLoss
from clipsr_cli.training.steps import (
    MovingAverage,
    generator_step,
    learning_rate_factor,
    parameter_groups,
)

STATE = "state.pt"
GENERATOR = "generator.safetensors"


def train(config: TrainConfig, clip: Clip, output: Path) -> Iterator[dict[str, float]]:
    """Train until ``config.steps``, yielding {name: value} for every step and every evaluation.

    Every ``evaluate_every`` steps and at the end the moving average is scored on held-back
    pictures and written to ``output/generator.safetensors``, and all that a resumed run needs to
    ``output/state.pt``. A run that finds its state there goes on from it, and ends with the
    weights of an uninterrupted one.

    Args:
        config: the settings.
        clip: the frozen CLIP named in them.
        output: the folder for the weights and the state.

    Raises:
        InputError: the folder holds the state of a run with other settings.
    """
    device = pick_device(config.device)
    torch.manual_seed(config.seed)
    generator = Generator(config.generator, clip)
    if config.start is not None and not (output / STATE).is_file():
        load_learned(generator, read_tensors(config.start), config.start)
    generator = generator.to(device).to(memory_format=torch.channels_last).train()
    learned = [p for p in generator.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameter_groups(learned, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.99)
    )
    average = MovingAverage(generator.learned_state(), config.ema)
    first = _resume(output / STATE, config, generator, optimiser, average)

    loss = ReconstructionLoss(config).to(device)
    pictures = Pictures(config.sources, "train", short_side=config.short_side)
    held_back = validation_batches(
        Pictures(config.sources, "val", short_side=config.short_side),
        count=config.evaluate_count,
        side=max(config.crops),
        scale=config.generator.scale,
        batch_size=config.batch_size,
    )

    def cut(step: int) -> Batch:
        return training_batch(
            pictures,
            step,
            seed=config.seed,
            scale=config.generator.scale,
            crops=config.crops,
            batch_size=config.batch_size,
            min_zoom=config.min_zoom,
            text_dropout=config.text_dropout,
        )

    with ThreadPoolExecutor(1) as ahead:
        upcoming = ahead.submit(cut, first)
        for step in range(first, config.steps):
            batch = upcoming.result()
            upcoming = ahead.submit(cut, step + 1)
            factor = learning_rate_factor(step, warmup=config.warmup, steps=config.steps)
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * factor
            values = generator_step(
                generator,
                optimiser,
                loss,
                _to_device(batch, clip, device),
                step=step,
                clip_gradient=config.clip_gradient,
            )
            average.update(generator.learned_state(), step)
            done = step + 1
            if done % config.evaluate_every == 0 or done == config.steps:
                values |= _evaluate(generator, average, loss.lpips, held_back, clip, device)
                _save(output, config, generator, optimiser, average, done)
            yield {"step": done, **values}


def _to_device(batch: Batch, clip: Clip, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    def move(images: Tensor) -> Tensor:
        return images.to(device, memory_format=torch.channels_last)

    with torch.no_grad():
        return move(batch.high), move(batch.low), clip.text(batch.prompts)


@torch.no_grad()
def _evaluate(
    generator: Generator,
    average: MovingAverage,
    lpips: Lpips,
    held_back: list[Batch],
    clip: Clip,
    device: torch.device,
) -> dict[str, float]:
    """PSNR and LPIPS of the moving average and of bicubic enlargement, as means over the
    pictures.
    """
    own = {name: tensor.clone() for name, tensor in generator.learned_state().items()}
    for name, tensor in generator.learned_state().items():
        tensor.copy_(average.state[name])
    generator.eval()
    scores: dict[str, list[Tensor]] = {}
    for batch in held_back:
        high, low, text = _to_device(batch, clip, device)
        for kind, result in (
            ("val", generator(low, text)),
            ("bicubic", enlarge(low, generator.config.scale)),
        ):
            result = result.clamp(0, 1)
            scores.setdefault(f"{kind}_psnr", []).append(psnr(result, high))
            scores.setdefault(f"{kind}_lpips", []).append(lpips(result, high))
    for name, tensor in generator.learned_state().items():
        tensor.copy_(own[name])
    generator.train()
    return {name: torch.cat(values).mean().item() for name, values in scores.items()}


def _save(
    output: Path,
    config: TrainConfig,
    generator: Generator,
    optimiser: torch.optim.Optimizer,
    average: MovingAverage,
    step: int,
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    save_generator(average.state, config.generator, config.clip, output / GENERATOR, half=False)
    aside = output / (STATE + ".tmp")
    torch.save(
        {
            "step": step,
            "config": _recipe(config),
            "generator": generator.learned_state(),
            "optimiser": optimiser.state_dict(),
            "average": average.state,
        },
        aside,
    )
    aside.replace(output / STATE)


def _recipe(config: TrainConfig) -> dict[str, str]:
    """The settings that decide the weights, as text, to be compared when a run is resumed."""
    return {name: repr(value) for name, value in asdict(config).items() if name != "device"}


def _resume(
    path: Path,
    config: TrainConfig,
    generator: Generator,
    optimiser: torch.optim.Optimizer,
    average: MovingAverage,
) -> int:
    """Load a saved state where there is one. Returns the number of steps already done.

    Raises:
        InputError: it was saved with other settings.
    """
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    for name, value in _recipe(config).items():
        if state["config"].get(name) != value:
            raise InputError(
                f"{path} was made with {name} = {state['config'].get(name)}, not {value}.",
                hint="Choose another output folder, or the settings it was made with.",
            )
    load_learned(generator, state["generator"], path)
    optimiser.load_state_dict(state["optimiser"])
    for name, tensor in state["average"].items():
        average.state[name].copy_(tensor)
    return int(state["step"])
