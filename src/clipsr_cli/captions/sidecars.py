"""Decide which pictures are to get a sidecar file, and write one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipsr_cli import images
from clipsr_cli.datasets.files import write_text
from clipsr_cli.errors import InputError
from clipsr_cli.finding import find_pictures
from clipsr_cli.jobs import refuse_unwritable
from clipsr_cli.prompts import SIDECAR_EXTENSIONS


@dataclass(frozen=True, kw_only=True)
class CaptionJob:
    """One picture to caption, and the file its caption goes to."""

    input: Path
    output: Path


@dataclass(frozen=True, kw_only=True)
class CaptionPlan:
    """What is to be captioned, and what has its caption.

    Attributes:
        jobs: in the order of the pictures.
        skipped: pictures with a sidecar file, each with that file; and those that share one with
            an earlier picture (``a.jpg`` and ``a.png``).
    """

    jobs: list[CaptionJob]
    skipped: list[CaptionJob]


def plan_sidecars(
    inputs: Sequence[str],
    *,
    extensions: Sequence[str] = SIDECAR_EXTENSIONS,
    recursive: bool = True,
    pattern: str | None = None,
    overwrite: bool = False,
    report: Path | None = None,
) -> CaptionPlan:
    """Find the pictures, name their sidecar files, and refuse what can be refused before any work.

    Args:
        inputs: files, folders and globs, as typed.
        extensions: of sidecar files; the first is written, and a file with any of them counts as
            the picture's sidecar: a prompt that somebody wrote is never hidden behind a new one.
        recursive: look in the folders' subfolders.
        pattern: in folders, only names that match this glob.
        overwrite: caption those too that have a sidecar.
        report: another file that the run writes.

    Raises:
        InputError: an input is not there, no picture is found, an extension is a picture's, a
            folder cannot be written to, or the report would overwrite something.
    """
    for extension in extensions:
        if extension.lower() in images.READABLE:
            raise InputError(
                f"A sidecar file cannot end in {extension}: it would pass for a picture.",
                hint="Example: --caption-ext .txt",
            )
    found = find_pictures(inputs, recursive=recursive, pattern=pattern)
    jobs: dict[str, CaptionJob] = {}
    skipped = []
    folders: dict[Path, str] = {}
    for item in found:
        folder = item.path.parent
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        there = [item.path.with_name(item.path.stem + extension) for extension in extensions]
        taken = next((path for path in there if os.path.lexists(path)), None)
        real = os.path.normcase(os.path.join(folders[folder], there[0].name))
        if real in jobs or (taken is not None and not overwrite):
            skipped.append(CaptionJob(input=item.path, output=taken or there[0]))
        else:
            jobs[real] = CaptionJob(input=item.path, output=there[0])
    for folder in {job.output.parent for job in jobs.values()}:
        refuse_unwritable(folder)
    if report is not None:
        refuse_unwritable(report.parent)
        real = os.path.normcase(os.path.realpath(report))
        if real in jobs or real in {os.path.normcase(item.real) for item in found}:
            kind = "a sidecar file" if real in jobs else "an input"
            raise InputError(
                f"{report} is {kind} and would be overwritten.", hint="Choose another name."
            )
    return CaptionPlan(jobs=list(jobs.values()), skipped=skipped)


def write_sidecar(path: Path, caption: str) -> None:
    """Write a caption in one step, so that ``path`` is never half a caption.

    Raises:
        InputError: it cannot be written.
    """
    write_text(path, f"{caption}\n")
