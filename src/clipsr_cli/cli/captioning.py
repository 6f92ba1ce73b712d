"""``--auto-caption``: prompts for pictures that have none, before they are enlarged."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from clipsr_cli.cli import console
from clipsr_cli.cli.options import check_choice
from clipsr_cli.cli.stopping import Stop
from clipsr_cli.errors import InputError

if TYPE_CHECKING:
    from clipsr_cli.captions import CaptionOptions
    from clipsr_cli.jobs import Plan
    from clipsr_cli.models.clip import Clip

OPTION = "--auto-caption"
# `fixed` is what --prompt is for.
BACKENDS = ("labels", "coca")


class AutoCaptionCommand(TyperCommand):
    """A command whose ``--auto-caption`` may stand alone, which Typer's options cannot.

    What follows such an option is never its value: ``--auto-caption photo.jpg`` names a picture.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        alone = f"{OPTION}={BACKENDS[0]}"
        options = [alone if argument == OPTION else argument for argument in args[:end]]
        return super().parse_args(ctx, options + args[end:])


def read_auto_caption(value: str | None, inputs: Sequence[str]) -> "CaptionOptions | None":
    """What ``--auto-caption`` asks for.

    Raises:
        InputError: it is no backend, or one stands among the inputs.
    """
    if value is None:
        return None
    check_choice(value, OPTION, BACKENDS)
    for text in inputs:
        if text in BACKENDS and not os.path.lexists(text):
            raise InputError(f"{text} does not exist.", hint=f"Did you mean {OPTION}={text}?")

    from clipsr_cli.captions import CaptionOptions

    return CaptionOptions(backend=value)


def check_captions(plan: "Plan", options: "CaptionOptions", *, fetch: bool) -> "Plan":
    """The plan as it will be, with captions that are not known yet.

    Args:
        plan: what is to be enlarged.
        options: which captioner.
        fetch: have its files here; else nobody asks where they are.

    Raises:
        WeightsError: the captioner is not there and cannot be fetched.
    """
    from clipsr_cli import captions
    from clipsr_cli.prompts import Prompt

    unknown = Prompt(text="", source="caption")
    jobs = [
        replace(job, prompt=unknown) if captions.wants_caption(job) else job for job in plan.jobs
    ]
    # The CLIP that `labels` uses is the generator's, which is looked for with the generator.
    if fetch and options.backend != "labels" and jobs != plan.jobs:
        captions.check(options)
    return replace(plan, jobs=jobs)


def caption_plan(
    plan: "Plan",
    options: "CaptionOptions",
    *,
    device: str,
    clip: "Clip | None",
    stop: Stop,
    show: bool,
    quiet: bool,
) -> "Plan":
    """The plan with captions for prompts where there were none, as far as it came.

    Args:
        plan: what is to be enlarged.
        options: which captioner.
        device: its device, by name.
        clip: the generator's, for ``labels``.
        stop: ends it early.
        show: a progress bar.
        quiet: say nothing.
    """
    from clipsr_cli.captions.prompting import with_captions

    jobs = []
    with console.progress(len(plan.jobs), show=show) as bar:
        for job in stop.until(with_captions(plan.jobs, options, device=device, clip=clip)):
            jobs.append(job)
            bar.advance(f"Captioning {job.input.name}")
    captioned = sum(job.prompt.source == "caption" for job in jobs)
    if not quiet:
        console.say(f"Captioned {console.count(captioned, 'picture')} by {options.backend}.")
    return replace(plan, jobs=jobs)
