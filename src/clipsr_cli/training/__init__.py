"""Train a generator: the recipe, read top to bottom."""

import logging
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from clipsr_cli.checkpoints import load_learned, read_tensors
from clipsr_cli.errors import ImageError, InputError
from clipsr_cli.models.clip import Clip
from clipsr_cli.models.discriminator import Discriminator
from clipsr_cli.models.generator import Generator
from clipsr_cli.runtime import PRECISIONS, mixed_precision, pick_device, pick_precision
from clipsr_cli.training import run
from clipsr_cli.training.config import TrainConfig
from clipsr_cli.training.data import Batch, Cutter, Cutting, Pictures
from clipsr_cli.training.losses import ReconstructionLoss
from clipsr_cli.training.parallel import fair_memory, own_device, processes
from clipsr_cli.training.progress import Progress
from clipsr_cli.training.steps import (
    DeviceBatch,
    Learner,
    Networks,
    learning_rate_factor,
    training_step,
)
from clipsr_cli.training.validation import DECIDING, Validation, held_back_pairs, validate

logger = logging.getLogger(__name__)


def train(
    config: TrainConfig, clip: Clip, output: Path, *, resume: bool = False
) -> Iterator[dict[str, float]]:
    """Train until ``config.steps``, yielding {name: value} for every step, with the scores of the
    evaluation where one followed.

    The run's folder is described in ``training.run``. A resumed run goes on from the newest
    checkpoint; on the CPU it ends with the weights of an uninterrupted one, as every random choice
    follows from the seed and the step's number. Under ``torchrun`` every process runs this, and
    the first one writes and yields.

    Args:
        config: the settings.
        clip: the frozen CLIP named in them.
        output: the run's folder.
        resume: go on from the newest checkpoint there, or begin where there is none.

    Raises:
        InputError: the folder holds a run already and ``resume`` is not given, or one of other
            settings; a dataset is not complete, or its held-back pictures cannot be scored.
        ImageError: many pictures in a row cannot be read.
        DeviceError: the device is not there.
        WeightsError: weights to start from, or of the perceptual loss, are not there.
        ClipsrError: too many steps in a row were not finite.
    """
    device = pick_device(own_device(config.device))
    precision = training_precision(config.precision, device)
    with processes(device) as party:
        newest = _newest(output, resume=resume)
        torch.manual_seed(config.seed)
        generator = Generator(config.generator, clip)
        if config.start is not None and newest is None:
            load_learned(generator, read_tensors(config.start), config.start)
        # Drawn on the CPU, so that every device starts with the same weights.
        judge = Discriminator(config.discriminator, clip) if config.adversarial else None
        generator = generator.to(device).to(memory_format=torch.channels_last).train()
        judge = judge and judge.to(device).to(memory_format=torch.channels_last)

        def learner(network: torch.nn.Module, rate: float, betas: tuple[float, float]) -> Learner:
            return Learner(
                [parameter for parameter in network.parameters() if parameter.requires_grad],
                learning_rate=rate,
                betas=betas,
                weight_decay=config.weight_decay,
                clip_gradient=config.clip_gradient,
                scaler=torch.amp.GradScaler(device.type, enabled=precision == "fp16"),
                processes=party,
            )

        networks = Networks(
            generate=torch.compile(generator) if config.compile else generator,
            clip=clip,
            reconstruction=ReconstructionLoss(config.losses, scale=config.generator.scale).to(
                device
            ),
            generating=learner(generator, config.learning_rate, config.betas),
            judge=judge,
            judging=None
            if judge is None
            else learner(judge, config.discriminator_learning_rate, config.discriminator_betas),
            losses=config.losses,
            autocast=partial(mixed_precision, device, precision),
        )
        progress = Progress(config, party, networks, generator)
        if newest is not None:
            progress.load(newest)
            if party.first:
                # A kill may have come between the checkpoint and its publishing.
                run.publish(newest, output)
        if config.losses.adversarial_from >= config.steps and (judge or config.losses.clip):
            logger.warning(
                "losses.adversarial_from is %d: within %d steps the adversarial losses never join.",
                config.losses.adversarial_from,
                config.steps,
            )
        yield from _steps(config, output, progress, device)


def training_precision(name: str, device: torch.device) -> str:
    """The precision a name stands for in training: ``fp32``, ``fp16`` or ``bf16``.

    ``auto`` is bf16 on a GPU that computes in it, whose range needs no scaler; else fp16 on CUDA
    and fp32 elsewhere.

    Raises:
        InputError: the device cannot do it.
    """
    assert name == "auto" or name in PRECISIONS
    if name == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(False):
        return "bf16"
    return pick_precision(name, device)


def _newest(output: Path, *, resume: bool) -> run.Checkpoint | None:
    """The checkpoint to go on from.

    Raises:
        InputError: there is a run, and it is not to be resumed.
    """
    there = run.checkpoints(output)
    if resume and not there:
        logger.warning("%s holds nothing to resume; the training begins.", output)
    if there and not resume:
        raise InputError(
            f"{output} holds a run of {there[-1].step} steps already.",
            hint="Go on with it by --resume, or choose another --output.",
        )
    return there[-1] if there else None


def _steps(
    config: TrainConfig, output: Path, progress: Progress, device: torch.device
) -> Iterator[dict[str, float]]:
    """The steps that are left, with all that is written on the way."""
    party, networks = progress.party, progress.networks
    pictures = Pictures(
        config.sources,
        "train",
        short_side=config.short_side,
        memory=min(config.run.memory_gb * 1e9, fair_memory() / 2),
    )
    cutting = Cutting(
        seed=config.seed,
        scale=config.generator.scale,
        crops=config.crops,
        batch_size=config.batch_size,
        min_zoom=config.min_zoom,
        text_dropout=config.text_dropout,
        degradation=config.degradation,
        rank=party.rank,
        count=party.count,
    )
    with ExitStack() as closing:
        log = None
        if party.first:
            output.mkdir(parents=True, exist_ok=True)
            for left in (output / run.CHECKPOINTS).glob("*.tmp"):
                shutil.rmtree(left)
            held_back = held_back_pairs(config)
            run.write_text(output / run.CONFIG, run.as_toml(config))
            log = run.Log(output, progress.step)
            closing.callback(log.close)
        threads = ThreadPoolExecutor(config.run.workers)
        closing.callback(threads.shutdown, cancel_futures=True)
        cutter = Cutter(pictures, cutting, threads)
        for step in range(progress.step, config.steps):
            started = time.perf_counter()
            batch = _to_device(cutter.batch(step), networks.clip, device)
            factor = learning_rate_factor(
                step, warmup=config.warmup, steps=config.steps, schedule=config.schedule
            )
            row = training_step(networks, batch, step=step, factor=factor)
            progress.average.update(progress.generator.learned_state(), step)
            progress.step = done = step + 1
            progress.count_skipped(bool(row["skipped"]))
            seconds = time.perf_counter() - started
            row |= {
                "learning_rate": config.learning_rate * factor,
                "images_per_second": config.batch_size * party.count / seconds,
            }
            scored = done % config.run.evaluate_every == 0 or done == config.steps
            if log is not None:
                found = None
                if scored:
                    with progress.averaged() as generator:
                        found = validate(
                            generator,
                            held_back,
                            rows=config.run.sheet_rows,
                            device=device,
                            autocast=networks.autocast,
                        )
                    row |= found.row()
                    progress.compare(found.scores.get(DECIDING, float("inf")))
                # Before the checkpoint: a run resumed from it does not come by here again.
                if scored or done % config.run.log_every == 0:
                    log.write({"step": done, **row})
                if scored or done % config.run.save_every == 0:
                    progress.save(output)
                if found is not None and found.shown:
                    log.show("result", found.results, done)
                    _write_sheet(found, output / run.SAMPLES / f"{done:08d}.png")
                yield {"step": done, **row}
            if scored:
                party.wait()


def _write_sheet(found: Validation, path: Path) -> None:
    try:
        found.sheet(path)
    except ImageError as error:
        # Not worth a training.
        logger.warning("%s", error)


def _to_device(batch: Batch, clip: Clip, device: torch.device) -> DeviceBatch:
    def move(images: Tensor) -> Tensor:
        if device.type == "cuda":
            images = images.pin_memory()
        return images.to(device, memory_format=torch.channels_last, non_blocking=True)

    with torch.no_grad():
        # The same words often come several times; they are read once.
        words = list(dict.fromkeys([*batch.prompts, *batch.wrong]))
        known = dict(zip(words, clip.text(words), strict=True))
    return DeviceBatch(
        high=move(batch.high),
        low=move(batch.low),
        text=torch.stack([known[prompt] for prompt in batch.prompts]),
        wrong=torch.stack([known[prompt] for prompt in batch.wrong]),
        has_text=torch.tensor([bool(prompt) for prompt in batch.prompts], device=device),
        has_wrong=torch.tensor([bool(prompt) for prompt in batch.wrong], device=device),
    )
