"""``clipsr caption``: describe pictures in sidecar files, which ``clipsr upscale`` reads."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsr_cli.cli import console
from clipsr_cli.cli.exits import INTERRUPTED, SOME_FAILED
from clipsr_cli.cli.fetching import fetching
from clipsr_cli.cli.jsonlines import JsonLines
from clipsr_cli.cli.options import (
    FILES,
    SAY,
    SPEED,
    Device,
    Glob,
    Inputs,
    Json,
    Offline,
    Progress,
    Quiet,
    Recursive,
    ReportFile,
    check_device,
    option,
)
from clipsr_cli.errors import ClipsrError, InputError

if TYPE_CHECKING:
    from clipsr_cli.captions import Captioner, CaptionOptions
    from clipsr_cli.captions.sidecars import CaptionJob

HOW = "How"


def caption(
    inputs: Inputs,
    backend: Annotated[
        str,
        option(
            "--backend",
            help="labels: a noun and colours. coca: a sentence. fixed: --text.",
            panel=HOW,
        ),
    ] = "labels",
    text: Annotated[
        str | None, option("--text", help="For fixed: the caption of all.", panel=HOW)
    ] = None,
    labels: Annotated[
        Path | None,
        option("--labels", help="For labels: a file with a noun on each line.", panel=HOW),
    ] = None,
    clip: Annotated[
        str | None, option("--clip", help="For labels: the CLIP [clipsr-clip-mini].", panel=HOW)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", help="For coca: the captioner [coca-vit-b-32].", rich_help_panel=HOW
        ),
    ] = None,
    beams: Annotated[
        int | None,
        option("--beams", help="For coca: sentences followed at a time [4].", panel=HOW),
    ] = None,
    caption_ext: Annotated[
        list[str] | None,
        option(
            "--caption-ext",
            help="Extensions of sidecar files; the first is written [.txt, .caption].",
            panel=FILES,
        ),
    ] = None,
    overwrite: Annotated[
        bool, option("--overwrite", help="Caption pictures with a sidecar too.", panel=FILES)
    ] = False,
    recursive: Recursive = True,
    glob: Glob = None,
    device: Device = "auto",
    batch_size: Annotated[int, option("--batch-size", help="Pictures at once.", panel=SPEED)] = 16,
    report: ReportFile = None,
    json: Json = False,
    dry_run: Annotated[
        bool, option("--dry-run", help="Print the captions, and write nothing.", panel=SAY)
    ] = False,
    offline: Offline = False,
    progress: Progress = True,
    quiet: Quiet = False,
    verbose: Annotated[
        bool, option("-v", "--verbose", help="Say every caption.", panel=SAY)
    ] = False,
) -> None:
    """Describe pictures in sidecar files: photo.txt beside photo.jpg.

    clipsr upscale takes them for prompts. Pictures that have a sidecar file keep it.
    """
    console.set_up_logging(quiet=quiet, verbose=verbose)
    check_device(device)
    if batch_size < 1:
        raise InputError(f"--batch-size is {batch_size}; it must be at least 1.")
    if report is not None and report.is_dir():
        raise InputError(f"--report {report} is a folder; it must be a file.")
    if offline:
        # What is asked at every fetch, here and in other processes.
        os.environ["HF_HUB_OFFLINE"] = "1"

    from clipsr_cli import captions
    from clipsr_cli.captions.sidecars import plan_sidecars
    from clipsr_cli.prompts import SIDECAR_EXTENSIONS, sidecar_extensions

    options = captions.CaptionOptions(
        backend=backend, text=text, labels=labels, clip=clip, model=model, beams=beams
    )
    todo = plan_sidecars(
        inputs,
        extensions=sidecar_extensions(caption_ext) if caption_ext else SIDECAR_EXTENSIONS,
        recursive=recursive,
        pattern=glob,
        overwrite=overwrite,
        report=report,
    )
    if not quiet:
        console.say(
            f"{console.count(len(todo.jobs), 'picture')} to caption, "
            f"{len(todo.skipped)} with a sidecar file already."
        )
    captioner = None
    if todo.jobs:
        with fetching(show=progress and not quiet, quiet=quiet):
            captions.check(options)
        # Torch is loaded from here on, where the backend needs it.
        captioner = captions.load(options, device=device)
    start = time.perf_counter()
    counts: Counter[str] = Counter(skipped=len(todo.skipped))
    interrupted = False
    # Opened only now: where the model or the device is missing, an older report stays as it is.
    with JsonLines(None if dry_run else report) as lines:
        for skip in todo.skipped:
            lines.add(_row(skip, options, "skipped"))
        if captioner is not None:
            work = _work(captioner, todo.jobs, options, batch_size, write=not dry_run)
            try:
                with console.progress(len(todo.jobs), show=progress and not quiet) as bar:
                    for row, error in work:
                        counts[row["status"]] += 1
                        lines.add(row)
                        bar.advance(Path(row["input"]).name)
                        _tell(bar, row, error, verbose=verbose)
                        if dry_run:
                            _show(row, json=json)
            except KeyboardInterrupt:
                interrupted = True
    _close(counts, console.seconds_since(start), json=json and not dry_run, quiet=quiet)
    if interrupted:
        console.say("Interrupted: what is done is kept; the same command goes on from here.")
        raise typer.Exit(INTERRUPTED)
    if counts["failed"]:
        raise typer.Exit(SOME_FAILED)
    lines.check()


def _work(
    captioner: "Captioner",
    jobs: "list[CaptionJob]",
    options: "CaptionOptions",
    batch_size: int,
    *,
    write: bool,
) -> Iterator[tuple[dict[str, Any], Exception | None]]:
    """Caption pictures and write the sidecar files; a line of the report for each, and what went
    wrong.
    """
    from clipsr_cli.captions.reading import caption_files
    from clipsr_cli.captions.sidecars import write_sidecar

    found = caption_files(captioner, (job.input for job in jobs), batch_size=batch_size)
    for job, (_, words) in zip(jobs, found, strict=True):
        if isinstance(words, Exception):
            yield _row(job, options, "failed", error=words), words
            continue
        try:
            if write:
                write_sidecar(job.output, words)
        except InputError as error:
            yield _row(job, options, "failed", error=error), error
            continue
        yield _row(job, options, "done" if write else "planned", caption=words), None


def _row(
    job: "CaptionJob",
    options: "CaptionOptions",
    status: str,
    *,
    caption: str | None = None,
    error: Exception | None = None,
) -> dict[str, Any]:
    """One picture's line of the report (the names are a contract)."""
    from clipsr_cli.captions import CAPTIONERS

    return {
        "input": str(job.input),
        "output": str(job.output),
        "status": status,
        "backend": options.backend,
        "model": CAPTIONERS[options.backend].model(options),
        "caption": caption,
        "error": error and {"type": type(error).__name__, "message": str(error)},
    }


def _tell(bar: console.Bar, row: dict[str, Any], error: Exception | None, *, verbose: bool) -> None:
    if error is not None:
        bar.say(f"failed: {row['input']}: {error}")
        if isinstance(error, ClipsrError) and error.hint:
            bar.say(f"        {error.hint}")
    elif verbose and row["status"] == "done":
        bar.say(f"done: {row['output']}: {row['caption']}")


def _show(row: dict[str, Any], *, json: bool) -> None:
    """What a dry run prints: the picture, a tab, its caption."""
    if json:
        console.print_json(row)
    elif row["caption"] is not None:
        console.tell(f"{row['input']}\t{row['caption']}")


def _close(counts: Counter[str], seconds: float, *, json: bool, quiet: bool) -> None:
    """The closing table for people, and the closing object for programs."""
    made = counts["done"] + counts["planned"]
    rate = made / seconds if seconds else 0.0
    if json:
        console.print_json(
            {
                "done": counts["done"],
                "skipped": counts["skipped"],
                "failed": counts["failed"],
                "seconds": seconds,
                "images_per_second": round(rate, 3),
            }
        )
    if not quiet:
        columns = ("captioned", "skipped", "failed", "seconds", "images/s")
        row = (made, counts["skipped"], counts["failed"], f"{seconds:.1f}", f"{rate:.2f}")
        console.err().print(console.table(columns, [row]))
