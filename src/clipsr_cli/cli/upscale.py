"""``clipsr upscale``: enlarge images and write them to a folder."""

import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsr_cli.cli import console
from clipsr_cli.cli.captioning import (
    caption_plan,
    check_captions,
    read_auto_caption,
)
from clipsr_cli.cli.exits import INTERRUPTED, SOME_FAILED
from clipsr_cli.cli.fetching import fetching, find_model
from clipsr_cli.cli.jsonlines import JsonLines
from clipsr_cli.cli.options import (
    FILES,
    PRECISIONS,
    SAY,
    SPEED,
    Device,
    Glob,
    Inputs,
    Json,
    Model,
    Offline,
    Output,
    Precision,
    Progress,
    Quiet,
    Recursive,
    ReportFile,
    Scale,
    auto_or_number,
    check_choice,
    check_device,
    check_scale,
    option,
    parse_bytes,
    read_devices,
)
from clipsr_cli.cli.placing import Place, make_runner
from clipsr_cli.cli.stopping import Stop
from clipsr_cli.errors import ClipsrError, InputError
from clipsr_cli.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from clipsr_cli.jobs import Job, Outcome, Plan, Skipped
    from clipsr_cli.prompts import Prompts

# Seconds for which nobody has written to a file that nobody is at.
LEFT_ALONE = 60

WORDS, SIZE = "Prompts", "Size and colour"


def upscale(
    inputs: Inputs,
    output: Output = Path("upscaled"),
    scale: Scale = 4,
    model: Model = DEFAULT_MODEL,
    prompt: Annotated[
        str | None, option("--prompt", help="What all the pictures show.", panel=WORDS)
    ] = None,
    prompts: Annotated[
        Path | None,
        option("--prompts", help="A .csv or .jsonl file with file_name and text.", panel=WORDS),
    ] = None,
    prompt_dir: Annotated[
        Path | None,
        option(
            "--prompt-dir", help="Where sidecar files lie, if not beside the pictures.", panel=WORDS
        ),
    ] = None,
    caption_ext: Annotated[
        list[str] | None,
        option("--caption-ext", help="Extensions of sidecar files [.txt, .caption].", panel=WORDS),
    ] = None,
    no_sidecars: Annotated[
        bool, option("--no-sidecars", help="Do not look for sidecar files.", panel=WORDS)
    ] = False,
    auto_caption: Annotated[
        str | None,
        option(
            "--auto-caption",
            metavar="[=labels|coca]",
            help="Describe pictures without a prompt: a noun and colours, or a sentence.",
            panel=WORDS,
        ),
    ] = None,
    text_strength: Annotated[
        float,
        option("--text-strength", help="0: no text, 1: as trained, 2: exaggerated.", panel=WORDS),
    ] = 1.0,
    recursive: Recursive = True,
    glob: Glob = None,
    template: Annotated[
        str | None,
        option(
            "--template",
            help="Output name, of {stem} {ext} {scale} {model} [{stem}_x{scale}].",
            panel=FILES,
        ),
    ] = None,
    ext: Annotated[
        str, option("--ext", help="auto (png), png, jpg, webp, avif or tiff.", panel=FILES)
    ] = "auto",
    quality: Annotated[
        int | None,
        option("--quality", help="Of jpg, webp and avif, 1 to 100 [95; avif 85].", panel=FILES),
    ] = None,
    skip_existing: Annotated[
        bool, option("--skip-existing", help="Leave outputs that exist (default).", panel=FILES)
    ] = False,
    overwrite: Annotated[
        bool, option("--overwrite", help="Make outputs that exist again.", panel=FILES)
    ] = False,
    fail_existing: Annotated[
        bool, option("--fail-existing", help="Stop if an output exists.", panel=FILES)
    ] = False,
    shard: Annotated[
        str | None,
        option("--shard", help="I/N: only every N-th picture from the I-th on.", panel=FILES),
    ] = None,
    outscale: Annotated[
        float | None,
        option("--outscale", help="Final size, as a factor of the input's.", panel=SIZE),
    ] = None,
    longest_side: Annotated[
        int | None,
        option("--longest-side", help="Final size of the longest side, in pixels.", panel=SIZE),
    ] = None,
    color_fix: Annotated[
        str, option("--color-fix", help="none, wavelet or adain: the input's colours.", panel=SIZE)
    ] = "none",
    tile: Annotated[
        str, option("--tile", help="auto, or input pixels a side.", panel=SPEED)
    ] = "auto",
    tile_overlap: Annotated[
        int | None, option("--tile-overlap", help="Input pixels that tiles share.", panel=SPEED)
    ] = None,
    batch_size: Annotated[
        str, option("--batch-size", help="auto, or tiles at once.", panel=SPEED)
    ] = "auto",
    device: Device = "auto",
    gpus: Annotated[
        str | None,
        option("--gpus", help="0,1: a process for each of these CUDA devices.", panel=SPEED),
    ] = None,
    precision: Precision = "auto",
    compile: Annotated[
        bool,
        option("--compile", help="Compile the network: slow to start, then faster.", panel=SPEED),
    ] = False,
    workers: Annotated[
        int | None,
        option(
            "--workers",
            help="Threads that decode, and as many that encode [half the cores, 2 to 8].",
            panel=SPEED,
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        option("--max-memory", help="Main memory to stay below, such as 2G or 500M.", panel=SPEED),
    ] = None,
    max_input_pixels: Annotated[
        int | None,
        option(
            "--max-input-pixels", help="Refuse inputs of more pixels [300 million].", panel=FILES
        ),
    ] = None,
    engine: Annotated[
        str, option("--engine", help="local, or ray: on a Ray cluster.", panel=SPEED)
    ] = "local",
    ray_address: Annotated[
        str | None,
        option("--ray-address", help="A Ray cluster [a local one is started].", panel=SPEED),
    ] = None,
    ray_workers: Annotated[
        int | None,
        option("--ray-workers", help="How many [one a GPU, else one a node].", panel=SPEED),
    ] = None,
    sheet: Annotated[
        Path | None,
        option("--sheet", help="A PNG with input, bicubic and result side by side.", panel=SAY),
    ] = None,
    report: ReportFile = None,
    json: Json = False,
    dry_run: Annotated[
        bool, option("--dry-run", help="Only say what would be done.", panel=SAY)
    ] = False,
    offline: Offline = False,
    progress: Progress = True,
    quiet: Quiet = False,
    verbose: Annotated[
        bool, option("-v", "--verbose", help="Say every picture.", panel=SAY)
    ] = False,
) -> None:
    """Enlarge images and write them to a folder.

    A picture's prompt is the first of: its row in --prompts, --prompt, a sidecar file (photo.txt or
    photo.caption beside photo.jpg), a description by --auto-caption, and else none.
    """
    from clipsr_cli import encoders, images, jobs
    from clipsr_cli.pictures import FORMATS
    from clipsr_cli.upscale_options import Resize, UpscaleOptions
    from clipsr_cli.weights import find_generator

    console.set_up_logging(quiet=quiet, verbose=verbose)
    check_scale(scale, hint="For other sizes: --outscale.")
    check_device(device)
    place = Place(
        device=device,
        gpus=read_devices(gpus),
        engine=engine,
        ray_address=ray_address,
        ray_workers=ray_workers,
    )
    check_choice(precision, "--precision", PRECISIONS)
    check_choice(ext, "--ext", ("auto", *FORMATS))
    if sum((skip_existing, overwrite, fail_existing)) > 1:
        raise InputError(
            "Only one of --skip-existing, --overwrite and --fail-existing can be given."
        )
    _check_written(report, sheet, prompts)
    captioner = read_auto_caption(auto_caption, inputs)
    if offline:
        # What is asked at every fetch, here and in other processes.
        os.environ["HF_HUB_OFFLINE"] = "1"
    options = UpscaleOptions(
        text_strength=text_strength,
        tile=auto_or_number(tile, "--tile"),
        tile_overlap=tile_overlap,
        batch_size=auto_or_number(batch_size, "--batch-size"),
        color_fix=color_fix,
        quality=quality,
        resize=Resize(outscale=outscale, longest_side=longest_side),
        workers=workers,
        max_memory=parse_bytes(max_memory, "--max-memory"),
        max_input_pixels=(
            images.MAX_INPUT_PIXELS if max_input_pixels is None else max_input_pixels
        ),
    )
    options.tiling(scale)
    todo = jobs.plan(
        inputs,
        output,
        scale=scale,
        options=options,
        prompts=_prompts(prompt, prompts, prompt_dir, caption_ext, no_sidecars),
        model=model,
        recursive=recursive,
        pattern=glob,
        template=jobs.DEFAULT_TEMPLATE if template is None else template,
        form=ext,
        existing="overwrite" if overwrite else "fail" if fail_existing else "skip",
        shard=jobs.parse_shard(shard) if shard is not None else None,
        also=[path for path in (report, sheet) if path is not None],
    )
    planned = todo
    with fetching(show=progress and not quiet, quiet=quiet):
        if todo.jobs and dry_run:
            find_generator(model, scale, fetch=False)
        elif todo.jobs:
            find_model(model, scale)
        if captioner:
            planned = check_captions(todo, captioner, fetch=not dry_run)
    if not quiet:
        _announce(planned)
        if quality is not None and ext in ("auto", "png", "tiff"):
            console.say("warning: --quality has no effect on png and tiff.")
    run: dict[str, Any] = {"scale": scale, "model": model}
    if dry_run:
        _show_plan(planned, run, json=json)
        return

    start = time.perf_counter()
    outcomes: list[Outcome] = []
    interrupted = False
    # From here on nothing is lost by a signal: libraries that load weights take it badly.
    with ExitStack() as closing:
        stop = closing.enter_context(Stop())
        runner = None
        if todo.jobs:
            # Torch is loaded from here on.
            runner = make_runner(
                place,
                model=model,
                scale=scale,
                precision=precision,
                options=options,
                compile=compile,
            )
            if not quiet:
                console.say(f"Running on {runner.where}.")
            if captioner and planned != todo:
                todo = caption_plan(
                    todo,
                    captioner,
                    device=runner.device,
                    clip=runner.clip() if captioner.backend == "labels" else None,
                    stop=stop,
                    show=progress and not quiet,
                    quiet=quiet,
                )
        # Opened only now: where the model or the device is missing, an older report stays.
        lines = closing.enter_context(JsonLines(report))
        for skip in todo.skipped:
            # A run that was killed while it made this output again has left its half.
            _remove_left(encoders.beside(skip.job.output))
            lines.add(_row(skip, run))
        if runner is not None:
            with console.progress(len(todo.jobs), show=progress and not quiet) as bar:
                try:
                    for outcome in runner.run(stop.until(todo.jobs)):
                        outcomes.append(outcome)
                        lines.add(_row(outcome, run))
                        _tell(bar, outcome, verbose=verbose)
                except KeyboardInterrupt:
                    interrupted = True
        interrupted |= stop.asked
    _close(todo, outcomes, console.seconds_since(start), json=json, quiet=quiet)
    if interrupted:
        console.say("Interrupted: what is done is kept; the same command goes on from here.")
        raise typer.Exit(INTERRUPTED)
    if sheet is not None:
        _write_sheet(todo, outcomes, sheet, quiet=quiet)
    if any(isinstance(outcome, jobs.Failed) for outcome in outcomes):
        raise typer.Exit(SOME_FAILED)
    lines.check()


def _remove_left(part: Path) -> None:
    """Remove what a run left half-written, unless one may be at it right now."""
    with suppress(OSError):
        if time.time() - part.stat().st_mtime > LEFT_ALONE:
            part.unlink()


def _check_written(report: Path | None, sheet: Path | None, prompts: Path | None) -> None:
    """Refuse a report or sheet that is a folder, the prompt file, or the other of the two, and a
    sheet of another format.
    """
    taken = {} if prompts is None else {os.path.realpath(prompts): "the prompt file"}
    for name, path in (("--report", report), ("--sheet", sheet)):
        if path is None:
            continue
        if path.is_dir():
            raise InputError(f"{name} {path} is a folder; it must be a file.")
        if name == "--sheet" and path.suffix.lower() != ".png":
            raise InputError(f"--sheet {path} must end in .png: it is written as PNG.")
        real = os.path.realpath(path)
        if real in taken:
            raise InputError(f"{name} {path} is {taken[real]} and would be overwritten.")
        taken[real] = "the report"


def _prompts(
    prompt: str | None,
    manifest: Path | None,
    folder: Path | None,
    extensions: list[str] | None,
    no_sidecars: bool,
) -> "Prompts":
    from clipsr_cli.prompts import SIDECAR_EXTENSIONS, Prompts, read_manifest, sidecar_extensions

    if folder is not None and not folder.is_dir():
        raise InputError(f"The prompt folder {folder} does not exist.")
    if no_sidecars and (folder is not None or extensions):
        raise InputError("--no-sidecars cannot be given with --prompt-dir or --caption-ext.")
    chosen = sidecar_extensions(extensions) if extensions else SIDECAR_EXTENSIONS
    return Prompts(
        manifest=read_manifest(manifest) if manifest is not None else {},
        everywhere=prompt,
        sidecar_folder=folder,
        sidecar_extensions=() if no_sidecars else chosen,
    )


def _announce(plan: "Plan") -> None:
    console.say(
        f"{console.count(len(plan.jobs), 'picture')} to enlarge, "
        f"{len(plan.skipped)} there already; "
        f"found {console.count(plan.sidecars, 'prompt sidecar')}."
    )
    captions = sum(job.prompt.source == "caption" for job in plan.jobs)
    if captions:
        console.say(f"{console.count(captions, 'picture')} without a prompt to be captioned.")
    for name in plan.unused_prompts[:5]:
        console.say(f"warning: the prompt file names {name!r}, which is no input.")
    if len(plan.unused_prompts) > 5:
        console.say(f"warning: and {len(plan.unused_prompts) - 5} more names that are no input.")


def _show_plan(plan: "Plan", run: dict[str, Any], *, json: bool) -> None:
    if json:
        for skip in plan.skipped:
            console.print_json(_row(skip, run))
        for job in plan.jobs:
            console.print_json(_row(job, run))
        return
    for skip in plan.skipped:
        console.tell(f"skip  {skip.job.output}  (exists)")
    for job in plan.jobs:
        size = " -> ".join(f"{s[0]}x{s[1]}" if s else "?" for s in (job.size_in, job.size_out))
        # A caption is not known before the run.
        text = "to be made" if job.prompt.source == "caption" else repr(job.prompt.text)
        console.tell(
            f"write {job.output}  from {job.input}  {size}  prompt: {text} ({job.prompt.source})"
        )


def _row(outcome: "Outcome | Job", run: dict[str, Any]) -> dict[str, Any]:
    """One picture's line of the report (the names are a contract)."""
    from clipsr_cli.jobs import Done, Failed, Job

    job = outcome if isinstance(outcome, Job) else outcome.job
    done = outcome if isinstance(outcome, Done) else None
    failed = outcome if isinstance(outcome, Failed) else None
    names = {"Job": "planned", "Done": "done", "Skipped": "skipped", "Failed": "failed"}
    return {
        "input": str(job.input),
        "output": str(job.output),
        "status": names[type(outcome).__name__],
        "scale": run["scale"],
        "model": run["model"],
        "prompt": job.prompt.text,
        "prompt_source": job.prompt.source,
        "size_in": done.size_in if done else job.size_in,
        "size_out": done.size_out if done else job.size_out,
        "tiles": done.tiles if done else None,
        "seconds": done.seconds if done else failed.seconds if failed else None,
        "device": done.device if done else failed.device if failed else None,
        "precision": done.precision if done else failed.precision if failed else None,
        "error": {"type": type(failed.error).__name__, "message": str(failed.error)}
        if failed
        else None,
    }


def _tell(bar: console.Bar, outcome: "Outcome", *, verbose: bool) -> None:
    from clipsr_cli.jobs import Done, Failed

    bar.advance(outcome.job.input.name)
    if isinstance(outcome, Failed):
        bar.say(f"failed: {outcome.job.input}: {outcome.error}")
        if isinstance(outcome.error, ClipsrError) and outcome.error.hint:
            bar.say(f"        {outcome.error.hint}")
    elif verbose and isinstance(outcome, Done):
        bar.say(f"done: {outcome.job.output} ({outcome.seconds:.2f} s)")


def _close(
    plan: "Plan", outcomes: "list[Outcome]", seconds: float, *, json: bool, quiet: bool
) -> None:
    """The closing table for people, and the closing object for programs."""
    from clipsr_cli.jobs import Done

    done = [outcome for outcome in outcomes if isinstance(outcome, Done)]
    failed = len(outcomes) - len(done)
    megapixels = sum(outcome.size_out[0] * outcome.size_out[1] for outcome in done) / 1e6
    rate = len(done) / seconds if seconds else 0.0
    if json:
        console.print_json(
            {
                "done": len(done),
                "skipped": len(plan.skipped),
                "failed": failed,
                "seconds": seconds,
                "megapixels_out": round(megapixels, 3),
                "images_per_second": round(rate, 3),
            }
        )
    if not quiet:
        columns = ("done", "skipped", "failed", "seconds", "megapixels", "images/s")
        row = (
            len(done),
            len(plan.skipped),
            failed,
            f"{seconds:.1f}",
            f"{megapixels:.1f}",
            f"{rate:.2f}",
        )
        console.err().print(console.table(columns, [row]))


def _write_sheet(plan: "Plan", outcomes: "list[Outcome]", path: Path, *, quiet: bool) -> None:
    from clipsr_cli.jobs import Done
    from clipsr_cli.reports import SheetRow, contact_sheet

    shown: list[Skipped | Done] = [
        *plan.skipped,
        *(outcome for outcome in outcomes if isinstance(outcome, Done)),
    ]
    rows = [
        SheetRow(low=item.job.input, high=item.job.output, prompt=item.job.prompt.text)
        for item in shown
    ]
    count = contact_sheet(rows, path)
    if not quiet:
        left = f" (of {len(rows)})" if count < len(rows) else ""
        console.say(f"{path} shows {console.count(count, 'picture')}{left}.")
