"""Turn what a user typed into jobs, before any work: which picture goes where, with what prompt."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from glob import glob
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Literal

from clipsr_cli import images, pictures
from clipsr_cli.colour import FIXES
from clipsr_cli.errors import ImageError, InputError
from clipsr_cli.prompts import Prompt, Prompts

DEFAULT_TEMPLATE = "{stem}_x{scale}"
TEMPLATE_FIELDS = ("stem", "ext", "scale", "model")

# The output side of a tile and the overlap of neighbours: near what the networks saw in training.
TILE_OUTPUT = 256
OVERLAP_OUTPUT = 64
# The base grid is a quarter of the output and is halved three times.
MIN_TILE = 8

MOST_WORKERS = 8

Existing = Literal["skip", "overwrite", "fail"]


@dataclass(frozen=True, kw_only=True)
class Resize:
    """A change of size after enlarging: by a factor of the input's size, or to a longest side."""

    outscale: float | None = None
    longest_side: int | None = None

    def __post_init__(self) -> None:
        if self.outscale is not None and self.longest_side is not None:
            raise InputError("--outscale and --longest-side cannot both be given.")
        if self.outscale is not None and not 0 < self.outscale < math.inf:
            raise InputError(f"--outscale is {self.outscale}; it must be above 0, and finite.")
        if self.longest_side is not None and self.longest_side < 1:
            raise InputError(f"--longest-side is {self.longest_side}; it must be at least 1.")

    def size(self, width: int, height: int, scale: int) -> tuple[int, int]:
        """Width and height of the output of a ``width`` x ``height`` input."""
        if self.outscale is not None:
            factor = self.outscale
        elif self.longest_side is not None:
            factor = self.longest_side / max(width, height)
        else:
            factor = scale
        return max(1, round(width * factor)), max(1, round(height * factor))


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """How pictures are enlarged; None lets clipsr decide.

    Attributes:
        text_strength: 0 is the empty prompt, 1 the prompt as trained; others lie on the line
            through the two.
        tile: side of a tile of the small picture, in pixels.
        tile_overlap: pixels of the small picture that neighbouring tiles share.
        batch_size: tiles that go through the network at once.
        color_fix: a name in ``colour.FIXES``.
        quality: of the lossy formats, 1 to 100.
        resize: a change of size after enlarging.
        workers: threads that decode, and threads that encode.
        max_memory: bytes of main memory that the process shall stay below.
        memory_share: share of the free memory that pictures may take where nothing else is said.
        max_input_pixels: an input of more is taken for a decompression bomb.
    """

    text_strength: float = 1.0
    tile: int | None = None
    tile_overlap: int | None = None
    batch_size: int | None = None
    color_fix: str = "none"
    quality: int | None = None
    resize: Resize = field(default_factory=Resize)
    workers: int | None = None
    max_memory: int | None = None
    memory_share: float = 0.5
    max_input_pixels: int = images.MAX_INPUT_PIXELS

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < MIN_TILE:
            raise InputError(f"--tile is {self.tile}; it must be at least {MIN_TILE}.")
        for name in ("batch_size", "workers", "max_memory", "max_input_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}; it must be at least 1.")
        if self.color_fix not in FIXES:
            raise InputError(
                f"--color-fix is {self.color_fix!r}; it must be one of: {', '.join(FIXES)}."
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise InputError(f"--quality is {self.quality}; it must be from 1 to 100.")
        if not math.isfinite(self.text_strength):
            raise InputError(f"--text-strength is {self.text_strength}; it must be finite.")
        if self.tile_overlap is not None and self.tile_overlap < 0:
            raise InputError(f"--tile-overlap is {self.tile_overlap}; it must be at least 0.")

    @property
    def threads(self) -> int:
        """Threads that decode, and as many that encode: half the cores, 2 to 8, unless asked."""
        return self.workers or max(2, min(MOST_WORKERS, (os.cpu_count() or 1) // 2))

    def tiling(self, scale: int) -> tuple[int, int]:
        """Tile side and overlap, in pixels of the small picture.

        Raises:
            InputError: the overlap would not leave any tile of its own.
        """
        size = self.tile or max(MIN_TILE, TILE_OUTPUT // scale)
        overlap = (
            min(OVERLAP_OUTPUT // scale, size // 2)
            if self.tile_overlap is None
            else self.tile_overlap
        )
        if overlap >= size:
            raise InputError(f"--tile-overlap is {overlap}; it must be below the tile, {size}.")
        return size, overlap


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to enlarge."""

    input: Path
    output: Path
    form: str
    prompt: Prompt
    size_in: tuple[int, int] | None
    size_out: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True)
class Done:
    """A picture that was enlarged and written, and on what."""

    job: Job
    size_in: tuple[int, int]
    size_out: tuple[int, int]
    tiles: int
    seconds: float
    device: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A picture whose output was there already."""

    job: Job


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A picture that could not be read, enlarged or written."""

    job: Job
    error: Exception
    seconds: float = 0.0
    # Where no device was reached there is none.
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


@dataclass(frozen=True, kw_only=True)
class Found:
    """A picture among the inputs.

    Attributes:
        path: as it was come by.
        relative: its path within the input folder; its name alone for a single file.
        real: its path without symlinks, by which pictures are told apart.
    """

    path: Path
    relative: PurePosixPath
    real: str


def plan(
    inputs: Sequence[str],
    output: Path,
    *,
    scale: int,
    prompts: Prompts | None = None,
    model: str = "",
    recursive: bool = True,
    pattern: str | None = None,
    template: str = DEFAULT_TEMPLATE,
    form: str = "auto",
    existing: Existing = "skip",
    resize: Resize | None = None,
    shard: tuple[int, int] | None = None,
    max_pixels: int = images.MAX_INPUT_PIXELS,
    also: Sequence[Path] = (),
) -> Plan:
    """Find the pictures, name their outputs, and refuse all that can be refused before any work.

    A folder's tree is mirrored below ``output``; a single file goes right into it.

    Args:
        inputs: files, folders and globs, as typed.
        output: the output folder; need not exist.
        scale: 4, 8 or 16.
        prompts: where prompts may be.
        model: fills ``{model}`` in the template.
        recursive: look in the folders' subfolders.
        pattern: in folders, only names that match this glob.
        template: output name without extension, of the fields ``{stem} {ext} {scale} {model}``.
        form: a name in ``pictures.FORMATS``, or ``auto``, which is png.
        existing: what to do where an output is there already.
        resize: a change of size after enlarging.
        shard: (i, n): only every n-th picture, from the i-th on, counted from 1.
        max_pixels: an input of more is taken for a decompression bomb.
        also: other files that the run writes: a report, a sheet.

    Raises:
        InputError: an input is not there, no picture is found, two would share one output, an
            output would overwrite an input, land in an input folder or outside the output folder,
            is too large for its format, exists and ``existing`` is ``fail``, or the output folder
            cannot be written.
    """
    form = "png" if form == "auto" else form
    resize = resize or Resize()
    prompts = prompts or Prompts()
    places = _places(inputs)
    folders = [place for place in places if place.is_dir()]
    for path in (output, *filter(_is_readable, also)):
        _refuse_within(path, folders)
    found = _find(places, inputs, recursive=recursive, pattern=pattern)
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
            resize=resize,
            prompts=prompts,
            max_pixels=max_pixels,
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


def find_pictures(
    inputs: Sequence[str], *, recursive: bool = True, pattern: str | None = None
) -> list[Found]:
    """The pictures that files, folders and globs stand for; one that comes twice is one.

    Args:
        inputs: files, folders and globs, as typed.
        recursive: look in the folders' subfolders.
        pattern: in folders, only names that match this glob.

    Raises:
        InputError: an input is not there, or no picture is found.
    """
    return _find(_places(inputs), inputs, recursive=recursive, pattern=pattern)


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


def _places(inputs: Sequence[str]) -> list[Path]:
    """The files and folders that the inputs stand for."""
    places = []
    for text in inputs:
        if os.path.lexists(text):
            path = Path(text)
            if not path.is_dir() and not _is_readable(path):
                raise InputError(
                    f"{path} is not a picture that clipsr reads.", hint=f"It reads {_readable()}"
                )
            places.append(path)
            continue
        matches = [Path(match) for match in sorted(glob(text, recursive=True))]  # noqa: PTH207
        if not matches:
            raise InputError(f"{text} does not exist.", hint=_near(Path(text)))
        # Captions and notes that a glob takes in are left out, as they are in a folder.
        places += [match for match in matches if match.is_dir() or _is_readable(match)]
    return places


def _find(
    places: Sequence[Path], inputs: Sequence[str], *, recursive: bool, pattern: str | None
) -> list[Found]:
    """The pictures in the folders, and the single ones, that the inputs stand for."""
    found: dict[str, Found] = {}
    for place in places:
        if place.is_dir():
            paths = images.find(place, recursive=recursive, pattern=pattern)
            within = [(path, PurePosixPath(path.relative_to(place))) for path in paths]
        else:
            within = [(place, PurePosixPath(place.name))]
        for path, relative in within:
            real = os.path.realpath(path)
            found.setdefault(real, Found(path=path, relative=relative, real=real))
    if not found:
        what = f"no picture that matches {pattern!r}" if pattern else "no picture"
        raise InputError(
            f"There is {what} in {', '.join(inputs)}.", hint=f"clipsr reads {_readable()}"
        )
    return list(found.values())


def _is_readable(path: Path) -> bool:
    return path.suffix.lower() in images.READABLE


def _readable() -> str:
    return " ".join(sorted(images.READABLE))


def _near(missing: Path) -> str:
    """A name that may have been meant."""
    try:
        names = os.listdir(missing.parent)
    except OSError:
        return f"There is no folder {missing.parent} to look in."
    close = get_close_matches(missing.name, names, n=1)
    return f"Did you mean {missing.parent / close[0]}?" if close else ""


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
        fields = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        unknown = sorted(fields - set(TEMPLATE_FIELDS))
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
    resize: Resize,
    prompts: Prompts,
    max_pixels: int,
) -> Job:
    prompt = prompts.find(item.path, item.relative)
    try:
        size_in = images.read_size(item.path, max_pixels=max_pixels)
    except ImageError:
        # Told when its turn comes, so that one broken picture does not stop the others.
        return Job(
            input=item.path, output=target, form=form, prompt=prompt, size_in=None, size_out=None
        )
    size_out = resize.size(*size_in, scale)
    limit = pictures.FORMATS[form].max_side
    if max(size_out) > limit:
        raise InputError(
            f"{item.path} would become {size_out[0]} x {size_out[1]}, "
            f"and {form} holds {limit} px a side.",
            hint="Use --ext png, a smaller --scale, or --longest-side.",
        )
    return Job(
        input=item.path, output=target, form=form, prompt=prompt, size_in=size_in, size_out=size_out
    )
