"""``clipsr weights import``: the CLIP-SR authors' checkpoint becomes a file for ``--model``."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import typer

from clipsr_cli.cli import console
from clipsr_cli.cli.options import Json
from clipsr_cli.errors import InputError

MAPPING = {
    "trained": "it had learned, yet it does not reach the picture in the released wiring",
    "never trained": "it never learned: the optimiser has no trace of a gradient in it",
    "unknown": "whether it ever learned cannot be told: no optimiser state in the file says so",
}


def import_weights(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="AUTHORS.pth", help="The authors' state_epoch_220.pth, or its netG."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    clip: Annotated[
        str, typer.Option("--clip", help="The CLIP that reads the prompts, ViT-B/32 in training.")
    ] = "clip-vit-b-32",
    full_precision: Annotated[
        bool, typer.Option("--full-precision", help="Keep fp32, twice the size of fp16.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that exists.")
    ] = False,
    json: Json = False,
) -> None:
    """Turn the CLIP-SR authors' checkpoint (CUB birds, x4) into a file that upscale -m takes.

    Nothing that the checkpoint holds is run.
    """
    if output.suffix != ".safetensors":
        raise InputError(
            f"--output is {output}; its name must end in .safetensors.",
            hint="For example: -o clipsr-cub-x4.safetensors",
        )
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists.", hint="Replace it with --overwrite.")
    from clipsr_cli.weights import entry

    # A name; anything else is a file, which may come later.
    named = ":" not in clip and not clip.endswith(".safetensors")
    if named:
        entry(clip, "clip")

    from clipsr_cli.released_checkpoint import import_released

    found = import_released(checkpoint, output, clip=clip, half=not full_precision)
    following = f"clipsr upscale PICTURE -m {shlex.quote(str(output))} --prompt 'a small red bird'"
    if json:
        fields = dataclasses.asdict(found) | {"output": str(output), "next": following}
        console.print_json(fields)
        return
    epoch = "unknown" if found.epoch is None else found.epoch
    steps = "" if found.steps is None else f", {found.steps} steps"
    dropped = found.dropped
    console.tell(
        f"Epoch: {epoch}{steps}",
        f"Kept: {found.kept:,} parameters, in {found.precision}",
        f"Dropped, as they do not reach the picture: {sum(dropped.values()):,} parameters "
        f"(frozen CLIP tower {dropped['clip_tower']:,}, the rest of its branch "
        f"{dropped['mapping']:,}, unused layers {dropped['unused']:,})",
        f"Branch through CLIP's image tower: {MAPPING[found.mapping]}",
        "Licence: none is stated; nothing says that you may use these weights or pass them on",
        f"Written: {output}",
    )
    if named:
        console.say(f"It reads prompts with the CLIP {clip}: clipsr weights pull {clip}")
    console.say(f"Next: {following}")
