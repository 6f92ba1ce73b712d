"""``clipsr train``: train a generator from a recipe, or on one dataset."""

import math
import os
import shlex
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsr_cli.cli import console
from clipsr_cli.cli.fetching import fetching
from clipsr_cli.cli.options import Json, Progress, Quiet, check_choice, check_device, check_scale
from clipsr_cli.errors import InputError

if TYPE_CHECKING:
    from clipsr_cli.training.config import TrainConfig

# Seconds between lines where there is no terminal to redraw one on.
LINE_EVERY = 30.0


def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG.toml]", help="A recipe; options given beside it win."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="cub, celeba, coco, ref-ytvos, ref-sailvos or folder."),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Where the dataset lies.")
    ] = None,
    group: Annotated[
        int | None, typer.Option("--group", help="Held-back categories (ref-ytvos, ref-sailvos).")
    ] = None,
    scale: Annotated[int | None, typer.Option("-s", "--scale", help="4, 8 or 16 [4].")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The run's folder [runs/RECIPE or runs/DATASET-xS]."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --output.")
    ] = False,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", help="Stop after so many steps.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting: --set losses.clip=0.04"),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write the trained generator here too, in half the size."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N [auto].")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="auto, fp32, fp16 or bf16.")
    ] = None,
    json: Json = False,
    progress: Progress = True,
    quiet: Quiet = False,
) -> None:
    """Train a generator, from a recipe or on one dataset.

    Stop it at any time: --resume goes on from the newest checkpoint. Under
    "torchrun --nproc-per-node N -m clipsr_cli train ..." N processes train one network.
    """
    console.set_up_logging(quiet=quiet, verbose=False)
    if scale is not None:
        check_scale(scale)
    if device is not None:
        check_device(device)
    if precision is not None:
        check_choice(precision, "--precision", ("auto", "fp32", "fp16", "bf16"))
    if export is not None:
        _check_export(export)
    if recipe is None and resume and output is not None and (output / "config.toml").is_file():
        # What is given beside it changes it, as it would a recipe.
        recipe = output / "config.toml"
    if output is None and recipe is not None and (recipe.parent / "checkpoints").is_dir():
        output = recipe.parent
    given = _recipe(recipe, settings or [])
    _apply_dataset(given, dataset, data_root, group)
    generator = given.setdefault("generator", {})
    if not isinstance(generator, dict):
        raise InputError(f"generator is {generator!r}; it must be a table of settings.")
    if scale is not None or "scale" not in generator:
        generator["scale"] = scale or 4
    if max_steps is not None:
        given["steps"] = max_steps
    if device is not None:
        given["device"] = device
    if precision is not None:
        given["precision"] = precision
    if "steps" not in given:
        raise InputError(
            "Nothing says how many steps to train.", hint="Give --max-steps, or steps in a recipe."
        )
    folder = output or Path("runs") / _name(recipe, given)

    from clipsr_cli.checkpoints import copy_in_half
    from clipsr_cli.config import build
    from clipsr_cli.training.config import TrainConfig

    config = build(TrainConfig, given)
    last = _run(config, folder, resume=resume, show=progress and not quiet, quiet=quiet)
    if int(os.environ.get("RANK", "0")):
        return
    trained = folder / "generator.safetensors"
    if export is not None:
        copy_in_half(trained, export)
        trained = export
    if json:
        # JSON has no infinity.
        plain = {name: value if math.isfinite(value) else None for name, value in last.items()}
        console.print_json({**plain, "generator": str(trained)})
    elif not quiet:
        command = f"clipsr upscale -s {config.generator.scale} -m {shlex.quote(str(trained))}"
        console.say(f"The trained generator: {trained}. Try it: {command} PICTURES")


def _check_export(path: Path) -> None:
    """Refuse an export that could not be written, before hours of training.

    Raises:
        InputError: it could not.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"--export is {path}; it must end in .safetensors.")
    if path.is_dir():
        raise InputError(f"--export {path} is a folder; it must be a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot write the export {path}: {error.strerror}.") from error
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"Cannot write the export {path}: its folder is read-only.")


def _recipe(path: Path | None, changes: list[str]) -> dict[str, Any]:
    """A recipe's settings with ``--set NAME=VALUE`` changes.

    Raises:
        InputError: the file cannot be read, or a change is no NAME=VALUE.
    """
    from clipsr_cli.config import read_toml

    given = read_toml(path) if path is not None else {}
    for change in changes:
        name, equals, text = change.partition("=")
        *tables, last = name.strip().split(".")
        if not equals or not all([*tables, last]):
            raise InputError(
                f"--set {change!r} is no NAME=VALUE.", hint="Example: --set losses.clip=0.04"
            )
        place = given
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {change!r}: {table} is no table of settings.")
        place[last] = _value(text)
    return given


def _value(text: str) -> Any:
    """A TOML value; words that are none stand for themselves, so that no shell must quote twice."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _apply_dataset(
    given: dict[str, Any], dataset: str | None, root: Path | None, group: int | None
) -> None:
    """Put ``--dataset``, ``--data-root`` and ``--group`` in place of a recipe's sources.

    Raises:
        InputError: what is given and what the recipe has do not make a dataset.
    """
    sources = given.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        raise InputError("sources must be a list of tables.", hint="Write [[sources]] for each.")
    if dataset is not None:
        if root is None:
            raise InputError(
                f"Nothing says where the dataset {dataset!r} lies.", hint="Give --data-root DIR."
            )
        given["sources"] = [{"dataset": dataset, "root": str(root)}]
    elif root is not None:
        if len(sources) != 1:
            raise InputError(
                f"--data-root is given, but the recipe has {len(sources)} sources.",
                hint="Give --dataset too, or change the recipe.",
            )
        sources[0]["root"] = str(root)
    elif not sources:
        raise InputError(
            "Nothing says what to train on.",
            hint="Give a recipe, or --dataset NAME --data-root DIR.",
        )
    for source in given["sources"]:
        if group is not None:
            source["group"] = group
        if isinstance(source.get("root"), str):
            # The run's own settings must hold wherever it is resumed from.
            source["root"] = os.path.abspath(source["root"])


def _name(recipe: Path | None, given: dict[str, Any]) -> str:
    if recipe is not None:
        return recipe.stem
    dataset = given["sources"][0].get("dataset", "folder")
    return f"{dataset}-x{given['generator']['scale']}"


def _run(
    config: "TrainConfig", folder: Path, *, resume: bool, show: bool, quiet: bool
) -> dict[str, float]:
    """Train with a progress line. Returns the last row of metrics."""
    from clipsr_cli.models.clip import Clip
    from clipsr_cli.runtime import describe_device, pick_device
    from clipsr_cli.training import train as run_training
    from clipsr_cli.training.parallel import own_device
    from clipsr_cli.weights import find_clip

    first = int(os.environ.get("RANK", "0")) == 0
    quiet = quiet or not first
    with fetching(show=show, quiet=quiet):
        found = find_clip(config.clip)
    clip = Clip.create(*found, name=config.clip)
    if not quiet:
        where = describe_device(pick_device(own_device(config.device)))
        console.say(f"Training x{config.generator.scale} for {config.steps} steps on {where}.")
        console.say(f"Everything goes to {folder}.")
    last: dict[str, float] = {}
    begun = spoken = time.monotonic()
    done = 0
    with console.progress(config.steps, show=show and first) as bar:
        for last in run_training(config, clip, folder, resume=resume):
            step = int(last["step"])
            done += 1
            bar.move(step, _losses(last))
            if quiet:
                continue
            if "test_psnr" in last:
                bar.say(_scores(last))
            elif not bar.shown and time.monotonic() - spoken > LINE_EVERY:
                left = (config.steps - step) * (time.monotonic() - begun) / done
                bar.say(f"step {step} of {config.steps}: {_losses(last)}, {left / 60:.0f} min left")
                spoken = time.monotonic()
    return last


def _losses(row: dict[str, float]) -> str:
    """The row's losses and rate, in a few words."""
    left_out = ("step", "skipped", "learning_rate", "images_per_second")
    losses = (
        f"{name} {value:.4f}"
        for name, value in row.items()
        if name not in left_out and not name.startswith(("test_", "bicubic_"))
    )
    return f"{'  '.join(losses)}  {row['images_per_second']:.1f} pictures/s"


def _scores(row: dict[str, float]) -> str:
    return (
        f"step {row['step']:.0f}: PSNR {row['test_psnr']:.2f} dB (bicubic "
        f"{row['bicubic_psnr']:.2f}), LPIPS {row['test_lpips']:.3f} "
        f"(bicubic {row['bicubic_lpips']:.3f})"
    )
