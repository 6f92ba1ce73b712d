"""Turn what a user typed into jobs, before any work: which picture goes where, with what prompt."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Literal, get_args

from clipsr_cli import images, pictures
from clipsr_cli.errors import ImageError, InputError, UnknownNameError
from clipsr_cli.finding import Found, expand, find_within, is_readable
from clipsr_cli.prompts import Prompt, Prompts
from clipsr_cli.upscale_options import UpscaleOptions

DEFAULT_TEMPLATE = "{stem}_x{scale}"
TEMPLATE_FIELDS = ("stem", "ext", "scale", "model")

Existing = Literal["skip", "overwrite", "fail"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to enlarge.

    Attributes:
        input: its file.
        output: the file it becomes.
        form: that file's format, a name in ``pictures.FORMATS``.
        prompt: the words for it.
        size_in: (width, height) as its header has it; None where that cannot be read.
        size_out: (width, height) that it is to have; None where ``size_in`` is.
        sixteen_bit: it holds 16 bits a channel.
    """

    input: Path
    output: Path
    form: str
    prompt: Prompt
    size_in: tuple[int, int] | None
    size_out: tuple[int, int] | None
    sixteen_bit: bool = False


@dataclass(frozen=True, kw_only=True)
class Done:
    """A picture that was enlarged and written, and on what.

    Attributes:
        job: what was to be done.
        size_in: (width, height) of what was read.
        size_out: (width, height) of what was written.
        tiles: how many it was cut into.
        seconds: from when it was taken in hand until it was written. Waiting for its turn at the
            network is included, so those of pictures side by side add up to more than the run.
        device: the device's name.
        precision: ``fp32``, ``fp16`` or ``bf16``.
    """

    job: Job
    size_in: tuple[int, int]
    size_out: tuple[int, int]
    tiles: int
    seconds: float
    device: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A picture whose output was there already.

    Attributes:
        job: what would have been done.
    """

    job: Job


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A picture that could not be read, enlarged or written.

    Attributes:
        job: what was to be done.
        error: what went wrong, without its traceback.
        seconds: as for ``Done``; 0 where it was never taken in hand.
        device, precision: as for ``Done``; None where no device was reached.
    """

    job: Job
    error: Exception
    seconds: float = 0.0
    device: str | None = None
    precision: str | None = None


Outcome = Done | Skipped | Failed


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done, what is done already, and what a user may want to know of it."""

    jobs: list[Job]
    skipped: list[Skipped]
    unused_prompts: list[str]

    @property
    def sidecars(self) -> int:
        """How many pictures have their prompt from a sidecar file."""
        every = [*self.jobs, *(skip.job for skip in self.skipped)]
        return sum(job.prompt.source == "sidecar" for job in every)


def plan(
    inputs: Sequence[str],
    output: Path,
    *,
    scale: int,
    options: UpscaleOptions | None = None,
    prompts: Prompts | None = None,
    model: str = "",
    recursive: bool = True,
    pattern: str | None = None,
    template: str = DEFAULT_TEMPLATE,
    form: str = "auto",
    existing: Existing = "skip",
    shard: tuple[int, int] | None = None,
    also: Sequence[Path] = (),
) -> Plan:
    """Find the pictures, name their outputs, and refuse all that can be refused before any work.

    A folder's tree is mirrored below ``output``; a single file goes right into it.

    Args:
        inputs: files, folders and globs, as typed.
        output: the output folder; need not exist.
        scale: 4, 8 or 16.
        options: those of the ``Upscaler`` that will do the jobs: they decide the final size, and
            what is too large to be read.
        prompts: where prompts may be.
        model: fills ``{model}`` in the template.
        recursive: look in the folders' subfolders.
        pattern: in folders, only names that match this glob.
        template: output name without extension, of the fields ``{stem} {ext} {scale} {model}``.
        form: a name in ``pictures.FORMATS``, or ``auto``, which is png.
        existing: what to do where an output is there already.
        shard: (i, n): only every n-th picture, from the i-th on, counted from 1.
        also: other files that the run writes: a report, a sheet.

    Raises:
        InputError: ``form`` or ``existing`` means nothing, an input is not there, no picture is
            found, a glob matches only what is in ``output``, two would share one output, an output
            would overwrite an input, land in an input folder or outside the output folder,
            is too large for its format, exists and ``existing`` is ``fail``, or the output folder
            cannot be written.
    """
    form = "png" if form == "auto" else form
    if form not in pictures.FORMATS:
        raise UnknownNameError("output format", form, ("auto", *pictures.FORMATS))
    if existing not in get_args(Existing):
        raise InputError(
            f"existing is {existing!r}; it must be one of: {', '.join(get_args(Existing))}."
        )
    options = options or UpscaleOptions()
    prompts = prompts or Prompts()
    places = expand(inputs, output=output)
    folders = [place for place in places if place.is_dir()]
    for path in (output, *filter(is_readable, also)):
        _refuse_within(path, folders)
    found = find_within(places, inputs, recursive=recursive, pattern=pattern)
    unused = prompts.unused(item.relative for item in found)
    extension = pictures.FORMATS[form].extension
    names = [_name(template, item.path, scale=scale, model=model) + extension for item in found]
    planned = _targets(found, names, output, also)
    if shard:
        index, count = shard
        planned = planned[index - 1 :: count]
    todo, skipped = [], []
    for item, target in planned:
        job = _job(
            item,
            target,
            form=form,
            scale=scale,
            options=options,
            prompts=prompts,
            max_pixels=options.max_input_pixels,
        )
        if existing == "fail" and os.path.lexists(target):
            raise InputError(
                f"{target} exists already.", hint="Use --overwrite or --skip-existing."
            )
        # A folder of that name, or a link to nowhere, is no picture that is done.
        if existing == "skip" and target.is_file():
            skipped.append(Skipped(job=job))
        else:
            todo.append(job)
    return Plan(jobs=todo, skipped=skipped, unused_prompts=unused)


def parse_shard(text: str) -> tuple[int, int]:
    """``I/N`` -> (I, N).

    Raises:
        InputError: it is not two whole numbers with 1 <= I <= N.
    """
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise InputError(
        f"{text!r} is no shard.", hint="Use I/N with 1 <= I <= N, such as --shard 1/4."
    )


def refuse_unwritable(folder: Path) -> None:
    """Refuse a folder that could not be made, or not be written to.

    Raises:
        InputError: it is so.
    """
    place = folder.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{place} is not a folder.", hint="Choose another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"The folder {place} cannot be written to.", hint="Choose another place.")


def _refuse_within(written: Path, folders: Sequence[Path]) -> None:
    """Refuse results in an input folder: the next run would take them for inputs."""
    for folder in folders:
        if Path(os.path.realpath(written)).is_relative_to(os.path.realpath(folder)):
            raise InputError(
                f"The output {written} lies in the input folder {folder}.",
                hint="It would be the next run's input: choose another place.",
            )


def _targets(
    found: Sequence[Found], names: Sequence[str], output: Path, also: Sequence[Path]
) -> list[tuple[Found, Path]]:
    """Each picture with its output; no file is written twice, and none that is an input."""
    inputs = {os.path.normcase(item.real): item.path for item in found}
    origins: dict[str, Path] = {}
    # Thousands of pictures share a few folders; each is looked at once.
    folders: dict[Path, str] = {}
    planned = []
    for item, name in zip(found, names, strict=True):
        folder = output / item.relative.parent
        if folder not in folders:
            refuse_unwritable(folder)
            folders[folder] = os.path.realpath(folder)
            if not Path(folders[folder]).is_relative_to(os.path.realpath(output)):
                raise InputError(
                    f"{folder} is a link that leads out of the output folder, to "
                    f"{folders[folder]}.",
                    hint="Remove the link, or choose another -o.",
                )
        target = folder / name
        real = os.path.normcase(os.path.join(folders[folder], name))
        if real in origins:
            raise InputError(
                f"{origins[real]} and {item.path} would both be written to {target}.",
                hint="Give the folder above both as INPUT: its tree is mirrored."
                if origins[real].name == item.path.name
                else 'Tell them apart by name: --template "{stem}_{ext}_x{scale}"',
            )
        if real in inputs:
            raise InputError(
                f"{target} is an input and would be overwritten.", hint="Choose another -o."
            )
        origins[real] = item.path
        planned.append((item, target))
    for path in also:
        refuse_unwritable(path.parent)
        real = os.path.normcase(os.path.realpath(path))
        if real in inputs or real in origins:
            kind = "an input" if real in inputs else f"the output of {origins[real]}"
            raise InputError(
                f"{path} is {kind} and would be overwritten.", hint="Choose another name."
            )
    return planned


def _name(template: str, path: Path, *, scale: int, model: str) -> str:
    try:
        parts = [part for part in Formatter().parse(template) if part[1] is not None]
        # Wider than any file name: a thousand million characters are not to be tried.
        if any(re.search(r"\d{4}", form or "") for _, _, form, _ in parts):
            raise ValueError("a field in it is too wide")
        unknown = sorted({str(name) for _, name, _, _ in parts} - set(TEMPLATE_FIELDS))
        if unknown:
            raise InputError(
                f"The template {template!r} has the unknown field {{{unknown[0]}}}.",
                hint="Fields: " + " ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS),
            )
        name = template.format(
            stem=path.stem,
            ext=path.suffix[1:],
            scale=scale,
            model=re.sub(r"[/\\:]", "_", model),
        )
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise InputError(f"The template {template!r} is malformed: {error}.") from error
    if not name.strip(". ") or "/" in name or "\\" in name or "\0" in name:
        raise InputError(f"The template {template!r} gives {name!r}, which is no file name.")
    return name


def _job(
    item: Found,
    target: Path,
    *,
    form: str,
    scale: int,
    options: UpscaleOptions,
    prompts: Prompts,
    max_pixels: int,
) -> Job:
    prompt = prompts.find(item.path, item.relative)
    try:
        header = images.read_header(item.path, max_pixels=max_pixels)
    except ImageError:
        # Told when its turn comes, so that one broken picture does not stop the others.
        return Job(
            input=item.path, output=target, form=form, prompt=prompt, size_in=None, size_out=None
        )
    size_out = options.resize.size(*header.size, scale)
    limit = pictures.FORMATS[form].max_side
    if max(size_out) > limit:
        raise InputError(
            f"{item.path} would become {size_out[0]} x {size_out[1]}, "
            f"and {form} holds {limit} px a side.",
            hint="Use --ext png, a smaller --scale, or --longest-side.",
        )
    return Job(
        input=item.path,
        output=target,
        form=form,
        prompt=prompt,
        size_in=header.size,
        size_out=size_out,
        sixteen_bit=header.sixteen_bit,
    )
