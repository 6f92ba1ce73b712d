"""``clipsr eval``: score models on a dataset, or results on disk."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipsr_cli import __version__
from clipsr_cli.cli import console
from clipsr_cli.cli.editing import evaluate_edits
from clipsr_cli.cli.exits import SOME_FAILED
from clipsr_cli.cli.fetching import fetching, find_model
from clipsr_cli.cli.options import (
    PRECISIONS,
    SPEED,
    Device,
    Json,
    Precision,
    Progress,
    Quiet,
    check_choice,
    check_device,
    check_scale,
    option,
)
from clipsr_cli.errors import ImageError, InputError
from clipsr_cli.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from clipsr_cli.datasets import Sample
    from clipsr_cli.evaluation import Report, ResultsAssessment
    from clipsr_cli.evaluation.folder import Folder
    from clipsr_cli.evaluation.report import Estimate
    from clipsr_cli.metrics import Metric
    from clipsr_cli.models.clip import Clip

# Options that decide nothing, by what else was given.
UNUSED = {
    "FOLDER": ("data_root", "split", "group"),
    "--reference": ("prompts", "text_strength", "hr_size", "crop", "precision"),
    "--edits": ("metrics", "prompts", "text_strength", "border", "workers"),
}

WHAT, HOW = "What is scored", "How"


def evaluate(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            help="Large pictures to be degraded and enlarged; with --reference, results.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        option("--reference", help="What the results in FOLDER should be.", panel=WHAT),
    ] = None,
    dataset: Annotated[
        str | None,
        option(
            "--dataset", help="cub, celeba, coco, ref-ytvos, ref-sailvos or folder.", panel=WHAT
        ),
    ] = None,
    data_root: Annotated[
        Path | None, option("--data-root", help="Where the dataset lies.", panel=WHAT)
    ] = None,
    split: Annotated[str, option("--split", help="test, train, val or all.", panel=WHAT)] = "test",
    group: Annotated[
        int | None,
        option("--group", help="Held-back categories (ref-ytvos, ref-sailvos).", panel=WHAT),
    ] = None,
    limit: Annotated[
        int | None, option("--limit", help="Score so many pictures only.", panel=WHAT)
    ] = None,
    seed: Annotated[int, option("--seed", help="Which pictures --limit picks.", panel=WHAT)] = 0,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            help="A name, a file, bicubic, bicubic-matlab or lanczos; may be given several times.",
        ),
    ] = None,
    scale: Annotated[int | None, typer.Option("-s", "--scale", help="4, 8 or 16 [4].")] = None,
    prompts: Annotated[
        str, option("--prompts", help="matched, mismatched or empty.", panel=HOW)
    ] = "matched",
    text_strength: Annotated[
        float,
        option("--text-strength", help="0: no text, 1: as trained, 2: exaggerated.", panel=HOW),
    ] = 1.0,
    metrics: Annotated[
        str | None,
        option(
            "--metrics",
            help="Comma-separated: psnr, psnr_y, ssim, ms_ssim, lpips, clip_score, lr_psnr "
            "(the default), dists, niqe, fid, kid.",
            panel=HOW,
        ),
    ] = None,
    clip: Annotated[
        str | None,
        option("--clip", help="The CLIP of the CLIP score [clipsr-clip-mini].", panel=HOW),
    ] = None,
    hr_size: Annotated[
        int, option("--hr-size", help="Side of the large pictures.", panel=HOW)
    ] = 256,
    crop: Annotated[
        str, option("--crop", help="centre, or none: whole pictures.", panel=HOW)
    ] = "centre",
    kernel: Annotated[
        str,
        option("--kernel", help="bicubic, matlab, bilinear, area or lanczos.", panel=HOW),
    ] = "bicubic",
    border: Annotated[
        int, option("--border", help="Pixels left out all round for PSNR and SSIM.", panel=HOW)
    ] = 0,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="Folder for report.html, report.json, rows.csv, a sheet and all pictures. "
            "A second run uses what is there.",
        ),
    ] = None,
    edits: Annotated[
        Path | None,
        typer.Option(
            "--edits",
            help="A .csv or .jsonl file with from and to: does a prompt move the result its way?",
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Annotated[
        int, option("--workers", help="Threads that read pictures.", panel=SPEED)
    ] = 2,
    json: Json = False,
    progress: Progress = True,
    quiet: Quiet = False,
) -> None:
    """Score models on a dataset or a folder of large pictures, or results on disk.

    Every picture is cut, reduced to 8 bit and enlarged by each model, and scored beside bicubic
    enlargement. The protocol is printed with the numbers.
    """
    console.set_up_logging(quiet=quiet, verbose=False)
    check_device(device)
    check_choice(precision, "--precision", PRECISIONS)
    check_choice(split, "--split", ("test", "train", "val", "all"))
    if scale is not None:
        check_scale(scale)
    if workers < 1 or (limit is not None and limit < 1):
        raise InputError("--workers and --limit must be 1 or more.")
    if (folder is None) == (dataset is None):
        raise InputError(
            "Give either a folder of pictures or a dataset.",
            hint="clipsr eval FOLDER, or clipsr eval --dataset NAME --data-root DIR",
        )
    if reference is not None and (folder is None or edits is not None):
        raise InputError("--reference needs a folder of results, and no --edits.")
    given = {"FOLDER": folder, "--reference": reference, "--edits": edits}
    for name, value in given.items():
        if value is not None:
            _refuse_unused(context, name)
    _check_report(report, [path for path in (folder, reference, data_root) if path is not None])

    from clipsr_cli.captions import DEFAULT_CLIP
    from clipsr_cli.evaluation import Assessment, ResultsAssessment
    from clipsr_cli.evaluation.contenders import contenders, digest
    from clipsr_cli.evaluation.folder import Folder
    from clipsr_cli.evaluation.protocol import Protocol, sample_some
    from clipsr_cli.evaluation.scoring import PLAIN
    from clipsr_cli.metrics import Setting
    from clipsr_cli.runtime import pick_device
    from clipsr_cli.weights import find_clip

    if edits is not None:
        if len(model or []) > 1:
            raise InputError("--edits takes one --model.")
        metrics = "clip_score,lr_psnr"
    chosen, missing = _metrics(metrics)
    clip = clip or DEFAULT_CLIP
    models = model or [DEFAULT_MODEL]
    protocol = Protocol(
        scale=scale if reference is not None else scale or 4,
        hr_size=hr_size,
        crop=crop,
        kernel=kernel,
        border=border,
        prompts=prompts,
    )
    with fetching(show=progress and not quiet, quiet=quiet):
        if "clip_score" in chosen:
            find_clip(clip)
        for name in models if reference is None else ():
            if name not in PLAIN:
                find_model(name, protocol.scale or 4)
    setting = Setting(
        scale=protocol.scale,
        kernel=kernel,
        border=border,
        clip=_clip(clip, device) if "clip_score" in chosen else None,
        device=pick_device(device),
    )
    if edits is not None:
        evaluate_edits(
            edits,
            sample_some(_samples(folder, dataset, data_root, split, group), limit, seed),
            model=models[0],
            protocol=protocol,
            setting=setting,
            precision=precision,
            report=report,
            json=json,
            show=progress and not quiet,
            quiet=quiet,
        )
        return
    kept = None
    if report is not None:
        rules: dict[str, Any] = {
            "protocol": asdict(protocol),
            "metrics": [*chosen],
            "clip": digest(find_clip(clip)[1]) if setting.clip else None,
            "device": setting.device.type,
            "version": __version__,
        }
        kept = Folder(report, rules)
    shared: dict[str, Any] = {
        "protocol": protocol,
        "metrics": chosen,
        "setting": setting,
        "folder": kept,
        "workers": workers,
    }
    if reference is not None:
        assert folder is not None
        some = {"limit": limit, "seed": seed}
        assessment: Assessment | ResultsAssessment = _of_results(
            folder, reference, model, shared | some
        )
    else:
        samples = sample_some(_samples(folder, dataset, data_root, split, group), limit, seed)
        found = contenders(
            models,
            scale=protocol.scale or 4,
            device=device,
            precision=precision,
            text_strength=text_strength,
        )
        name, part = (dataset, split) if dataset else (str(folder), "all")
        assessment = Assessment(samples, found, dataset=name, split=part, **shared)
    try:
        with console.progress(assessment.total, show=progress and not quiet) as bar:
            for name in assessment.run():
                bar.advance(name)
    finally:
        if kept is not None:
            kept.close()
    result = assessment.report()
    words = result.protocol | ({"clip": setting.clip.name} if setting.clip else {})
    result = replace(result, missing=missing, protocol=words)
    if not any(result.rows.values()):
        name, why = next(iter(result.failed.items()), ("all", "There are none."))
        raise ImageError(f"No picture could be scored; {name}: {why}")
    _tell(result, json=json, quiet=quiet)
    if report is not None:
        assert kept is not None
        _write_report(result, report, kept, quiet=quiet)
    if result.failed:
        raise typer.Exit(SOME_FAILED)


def _refuse_unused(context: typer.Context, mode: str) -> None:
    """Refuse options that were given but mean nothing in a mode.

    Raises:
        InputError: there is one.
    """
    for name in UNUSED[mode]:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = name.replace("_", "-")
            raise InputError(f"--{option} means nothing with {mode}.", hint="Leave it out.")


def _check_report(report: Path | None, inputs: list[Path]) -> None:
    """Refuse a report among the pictures that are scored.

    Raises:
        InputError: one lies in the other.
    """
    if report is None:
        return
    target = report.resolve()
    for path in inputs:
        there = path.resolve()
        if target.is_relative_to(there) or there.is_relative_to(target):
            raise InputError(
                f"--report {report} and the pictures in {path} lie in one another.",
                hint="Choose another folder for the report.",
            )


def _metrics(names: str | None) -> "tuple[dict[str, Metric], dict[str, str]]":
    """The metrics to be scored by, and those of the default ones that cannot be had, with why.

    Raises:
        UnknownNameError: there is no such metric.
        WeightsError: one that was asked for by name cannot be had.
    """
    from clipsr_cli.metrics import DEFAULT_METRICS, METRICS, find

    if names is not None:
        asked = [name.strip() for name in names.split(",") if name.strip()]
        if not asked:
            raise InputError("--metrics names none.", hint=f"Known: {', '.join(METRICS)}.")
        return find(asked), {}
    reasons = {name: METRICS[name].missing() for name in METRICS}
    chosen = {name: METRICS[name] for name in DEFAULT_METRICS if not reasons[name]}
    return chosen, {name: reason for name, reason in reasons.items() if reason}


def _clip(name: str, device: str) -> "Clip":
    from clipsr_cli.models.clip import Clip
    from clipsr_cli.runtime import pick_device
    from clipsr_cli.weights import find_clip

    return Clip.create(*find_clip(name), name=name).to(pick_device(device))


def _samples(
    folder: Path | None, dataset: str | None, root: Path | None, split: str, group: int | None
) -> "list[Sample]":
    """The pictures of a dataset's split, or all of a folder.

    Raises:
        InputError: there are none.
    """
    from clipsr_cli import datasets

    if dataset is None:
        assert folder is not None
        return datasets.read("folder", folder)
    if root is None:
        raise InputError(
            f"Nothing says where the dataset {dataset!r} lies.", hint="Give --data-root DIR."
        )
    samples = datasets.read(dataset, root, datasets.Options(group=group))
    chosen = [sample for sample in samples if split in ("all", sample.split)]
    if not chosen:
        there = ", ".join(sorted({sample.split for sample in samples})) or "none"
        raise InputError(
            f"{dataset} in {root} has no pictures of split {split!r}.",
            hint=f"Its splits: {there}. Or --split all.",
        )
    return chosen


def _of_results(
    results: Path, reference: Path, models: list[str] | None, shared: dict[str, Any]
) -> "ResultsAssessment":
    from clipsr_cli import datasets
    from clipsr_cli.evaluation import ResultsAssessment
    from clipsr_cli.evaluation.scoring import PLAIN

    for path in (results, reference):
        if not path.is_dir():
            raise InputError(f"The folder {path} does not exist.")
    if unknown := [name for name in models or [] if name not in PLAIN]:
        raise InputError(
            f"--model {unknown[0]} cannot be given with --reference.",
            hint=f"Beside results on disk only {', '.join(PLAIN)} can stand.",
        )
    if models and shared["protocol"].scale is None:
        raise InputError(
            f"--model {models[0]} cannot enlarge by an unknown scale.",
            hint="Give --scale 4, 8 or 16.",
        )
    captions = {
        sample.name: sample.captions[0]
        for sample in datasets.read("folder", reference)
        if sample.captions
    }
    names = dict.fromkeys([*(models or []), "bicubic"]) if shared["protocol"].scale else ()
    enlargers = {name: PLAIN[name] for name in names}
    return ResultsAssessment(results, reference, captions=captions, enlargers=enlargers, **shared)


def _tell(report: "Report", *, json: bool, quiet: bool) -> None:
    """The result: a table and the protocol, or the contract's object."""
    from clipsr_cli.metrics import METRICS
    from clipsr_cli.reports import as_json

    for name, why in report.failed.items():
        console.say(f"failed: {name}: {why}")
    if json:
        console.print_json(as_json(report))
        return
    rows = []
    for name, metric in report.metrics.items():
        title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
        cells = (_cell(report.mean(model, name), metric.digits) for model in report.models)
        rows.append((title, *cells))
    console.out().print(console.table(("", *report.models), rows))
    protocol = (f"{name}: {value}" for name, value in report.protocol.items() if value is not None)
    console.tell("", *protocol)
    for model, effect in report.text_effect.items():
        for name, found in effect.items():
            console.tell(
                f"{model}: matched minus {report.protocol['prompts']}: {name} {found.mean:+.4f} "
                f"[{found.low:+.4f}, {found.high:+.4f}], n = {found.n}"
            )
    if not quiet and report.missing:
        titles = ", ".join(METRICS[name].title for name in report.missing)
        console.say(f"Not scored here: {titles}; --metrics NAME says how to get it.")


def _cell(found: "Estimate | None", digits: int) -> str:
    """A mean and half of its interval, in a few characters."""
    if found is None:
        return "-"
    half = (found.high - found.low) / 2
    return f"{found.mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half else "")


def _write_report(report: "Report", path: Path, kept: "Folder", *, quiet: bool) -> None:
    from clipsr_cli.reports import evaluation_sheet, write_csv, write_json, write_page

    write_json(report, path / "report.json")
    write_csv(report, path / "rows.csv")
    write_page(report, path / "report.html", kept.picture)
    evaluation_sheet(report, path / "sheet.png", kept.picture)
    if not quiet:
        console.say(f"The report: {path / 'report.html'}")
