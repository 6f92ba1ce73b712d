"""``clipsr upscale`` keeps its contract: exit codes, report, closing object, streams, refusals."""

import importlib
import io
import json
import logging
import os
import sys
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.numpy import save_file

from clipsr_cli import captions, encoders, images
from clipsr_cli.cli import console
from clipsr_cli.errors import ImageError, InputError, WeightsError
from clipsr_cli.hub.fetch import _progress
from clipsr_cli.jobs import Done, Failed
from clipsr_cli.pictures import Picture
from clipsr_cli.upscaling import Upscaler

REPORT_KEYS = [
    "input",
    "output",
    "status",
    "scale",
    "model",
    "prompt",
    "prompt_source",
    "size_in",
    "size_out",
    "tiles",
    "seconds",
    "device",
    "precision",
    "error",
]
CLOSING_KEYS = ["done", "skipped", "failed", "seconds", "megapixels_out", "images_per_second"]

CPU = torch.device("cpu")


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# One real run, with the model of the package.


@dataclass(frozen=True, kw_only=True)
class Run:
    result: object
    out: Path
    rows: list
    sheet: Path


@pytest.fixture(scope="module")
def real(run, tmp_path_factory):
    """A folder with a good picture and a broken one, enlarged x8."""
    root = tmp_path_factory.mktemp("real")
    (root / "in" / "ü ber").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "in" / "ü ber" / "[red] bird.png")
    (root / "in" / "ü ber" / "[red] bird.txt").write_text("a red bird", encoding="utf-8")
    (root / "in" / "broken.png").write_bytes(b"no picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        result = run(
            *("upscale", "in", "-o", "out", "-s", 8, "--device", "cpu", "--json", "-v"),
            *("--report", "report.jsonl", "--sheet", "sheet.png"),
        )
    return Run(
        result=result,
        out=root / "out",
        rows=rows(root / "report.jsonl"),
        sheet=root / "sheet.png",
    )


def test_a_picture_is_enlarged_though_another_is_broken(real):
    assert real.result.exit_code == 3, real.result.stderr
    assert [path for path in real.out.rglob("*") if path.is_file()] == [
        real.out / "ü ber" / "[red] bird_x8.png"
    ]
    assert images.read_size(real.out / "ü ber" / "[red] bird_x8.png") == (128, 96)


def test_the_report_has_exactly_the_keys_of_the_contract(real):
    assert [list(row) for row in real.rows] == [REPORT_KEYS, REPORT_KEYS]
    by_status = {row["status"]: row for row in real.rows}
    done, failed = by_status["done"], by_status["failed"]
    seconds = done.pop("seconds")
    assert 0 < seconds < 600
    assert done == {
        "input": "in/ü ber/[red] bird.png",
        "output": "out/ü ber/[red] bird_x8.png",
        "status": "done",
        "scale": 8,
        "model": "clipsr-mini",
        "prompt": "a red bird",
        "prompt_source": "sidecar",
        "size_in": [16, 12],
        "size_out": [128, 96],
        "tiles": 1,
        "device": "cpu",
        "precision": "fp32",
        "error": None,
    }
    assert failed["error"]["type"] == "ImageError"
    assert "broken.png" in failed["error"]["message"]
    assert (failed["size_in"], failed["size_out"], failed["tiles"]) == (None, None, None)


def test_the_closing_object_has_exactly_the_keys_of_the_contract_and_stdout_to_itself(real):
    closing = json.loads(real.result.stdout)

    assert list(closing) == CLOSING_KEYS
    assert (closing["done"], closing["skipped"], closing["failed"]) == (1, 0, 1)
    assert closing["megapixels_out"] == 0.012
    assert closing["images_per_second"] > 0


def test_people_are_told_what_happens(real):
    for words in (
        "2 pictures to enlarge, 0 there already; found 1 prompt sidecar.",
        "Running on cpu",
        "fp32.",
        "failed: in/broken.png: ",
        "done: out/ü ber/[red] bird_x8.png (",
        "sheet.png shows 1 picture.",
        "images/s",
    ):
        assert words in real.result.stderr


def test_a_sheet_is_written(real):
    assert images.read_size(real.sheet)[0] > 900


# The rest with a stand-in for the network.


@dataclass
class Stand:
    """Stands in for an upscaler: writes plain pictures, and does to some names what it is told."""

    device: torch.device = CPU
    precision: str = "fp32"
    clip: str = "the generator's CLIP"
    broken: dict[str, BaseException] = field(default_factory=dict)
    loaded: list[dict] = field(default_factory=list)

    def load(self, model, **settings):
        self.loaded.append({"model": model, **settings})
        return self

    def run(self, jobs):
        for job in jobs:
            error = self.broken.get(job.input.name)
            if isinstance(error, Exception):
                logging.getLogger("clipsr_cli.upscaling").warning("trouble with %s", job.input)
                yield Failed(job=job, error=error, seconds=0.5)
                continue
            if error is not None:
                raise error
            width, height = job.size_out
            pixels = np.zeros((height, width, 3), np.uint8)
            encoders.write(Picture(pixels=pixels), job.output, job.form)
            yield Done(
                job=job,
                size_in=job.size_in,
                size_out=job.size_out,
                tiles=3,
                seconds=0.25,
                device="cpu",
                precision="fp32",
            )


@pytest.fixture
def stand(monkeypatch, tmp_path):
    """No network, weights or home: only an empty folder to be in."""
    standing = Stand()
    monkeypatch.setattr(Upscaler, "load", standing.load)
    monkeypatch.setattr("clipsr_cli.weights.find_generator", lambda model, *_, **__: Path(model))
    monkeypatch.chdir(tmp_path)
    return standing


@pytest.fixture
def pictures(stand, photo):
    def write(*names):
        for name in names:
            photo(Path(name))

    return write


def test_all_done_is_0_and_said_on_stderr(run, pictures):
    pictures("a.png")

    result = run("upscale", "a.png")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 picture to enlarge" in result.stderr
    assert "done: " not in result.stderr
    assert images.read_size(Path("upscaled/a_x4.png")) == (96, 64)


def test_quiet_says_nothing_but_errors(run, stand, pictures):
    pictures("in/a.png", "in/b.png")
    Path("p.csv").write_text("file_name,text\nz.png,x\n")

    result = run("upscale", "in", "-q", "--prompts", "p.csv", "--sheet", "s.png", "--quality", 50)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")

    stand.broken["b.png"] = ImageError("It broke.", hint="Mend it.")
    result = run("upscale", "in", "-q", "--overwrite", "--json")
    assert result.exit_code == 3
    assert result.stderr == "failed: in/b.png: It broke.\n        Mend it.\n"
    assert json.loads(result.stdout)["failed"] == 1


def test_warnings_of_the_library_are_shown_to_people(run, stand, pictures):
    pictures("a.png")
    stand.broken["a.png"] = ValueError("strange")

    result = run("upscale", "a.png")

    assert result.exit_code == 3
    assert "WARNING: trouble with a.png\n" in result.stderr
    assert "failed: a.png: strange\n" in result.stderr


def test_what_is_there_is_skipped_and_counts_as_done(run, stand, pictures):
    pictures("a.png", "upscaled/a_x4.png")

    result = run("upscale", "a.png", "--json", "--report", "r.jsonl", "--skip-existing")

    assert result.exit_code == 0
    assert stand.loaded == []
    assert json.loads(result.stdout) | {"seconds": 0} == dict.fromkeys(CLOSING_KEYS, 0) | {
        "skipped": 1
    }
    (row,) = rows(Path("r.jsonl"))
    assert (row["status"], row["size_out"], row["device"]) == ("skipped", [96, 64], None)


def test_what_a_killed_run_left_of_an_output_that_is_there_is_removed(run, pictures):
    pictures("in/a.png", "in/b.png", "upscaled/a_x4.png", "upscaled/b_x4.png")
    left, at_work = Path("upscaled/.a_x4.png.part"), Path("upscaled/.b_x4.png.part")
    for part in (left, at_work):
        part.write_bytes(b"half a picture")
    # Nobody has written to this one for minutes.
    os.utime(left, (0, 0))

    assert run("upscale", "in").exit_code == 0

    assert not left.exists()
    assert at_work.exists()


def test_names_send_no_commands_to_the_terminal(run, pictures, stand):
    name = "\x1b]0;owned\x07\u202egnp\nerror: forged.png"
    pictures(f"in/{name}", "in/plain.png")
    stand.broken[name] = ImageError(f"{name} broke.")

    result = run("upscale", "in", "-v")
    shown = run("upscale", "in", "--dry-run", "--overwrite")

    assert result.exit_code == 3
    for text in (result.stderr, shown.stdout):
        assert "\\x1b]0;owned\\x07\\u202egnp\\nerror: forged" in text
        assert not {"\x1b", "\x07", "\u202e"} & {*text}


def test_there_already_can_also_be_overwritten_or_refused(run, pictures):
    pictures("a.png", "upscaled/a_x4.png")
    before = Path("upscaled/a_x4.png").read_bytes()

    refused = run("upscale", "a.png", "--fail-existing")
    assert refused.exit_code == 2
    assert "upscaled/a_x4.png exists already" in refused.stderr
    assert Path("upscaled/a_x4.png").read_bytes() == before

    assert run("upscale", "a.png", "--overwrite").exit_code == 0
    assert Path("upscaled/a_x4.png").read_bytes() != before


def test_an_interruption_is_130_and_keeps_what_is_done(run, stand, pictures):
    pictures("in/a.png", "in/b.png", "in/c.png")
    stand.broken["b.png"] = KeyboardInterrupt()

    result = run("upscale", "in", "--json", "--report", "r.jsonl", "--sheet", "s.png")

    assert result.exit_code == 130
    assert "Interrupted" in result.stderr
    assert [(row["input"], row["status"]) for row in rows(Path("r.jsonl"))] == [
        ("in/a.png", "done")
    ]
    assert json.loads(result.stdout)["done"] == 1
    assert Path("upscaled/a_x4.png").is_file()
    assert not Path("s.png").exists()

    stand.broken.clear()
    result = run("upscale", "in", "--json")
    assert result.exit_code == 0
    assert (json.loads(result.stdout)["done"], json.loads(result.stdout)["skipped"]) == (2, 1)


def test_options_reach_the_upscaler(run, stand, pictures):
    pictures("a.png")

    result = run(
        *("upscale", "a.png", "-s", 8, "-m", "own.safetensors", "--text-strength", 0.5),
        *("--tile", 32, "--tile-overlap", 4, "--batch-size", 2, "--color-fix", "wavelet"),
        *("--quality", 80, "--ext", "jpg", "--outscale", 2, "--workers", 3, "--compile"),
        *("--device", "cpu", "--precision", "bf16", "--template", "{stem}-{model}"),
    )

    assert result.exit_code == 0, result.stderr
    (loaded,) = stand.loaded
    options = loaded.pop("options")
    assert loaded == {
        "model": "own.safetensors",
        "scale": 8,
        "device": "cpu",
        "precision": "bf16",
        "compile": True,
    }
    assert (options.text_strength, options.tile, options.tile_overlap) == (0.5, 32, 4)
    assert (options.batch_size, options.workers, options.quality) == (2, 3, 80)
    assert (options.color_fix, options.resize.outscale) == ("wavelet", 2.0)
    assert images.read_size(Path("upscaled/a-own.safetensors.jpg")) == (48, 32)


def test_auto_leaves_the_choice_to_the_upscaler(run, stand, pictures):
    pictures("a.png")

    run("upscale", "a.png")

    options = stand.loaded[0]["options"]
    assert (options.tile, options.tile_overlap, options.batch_size) == (None, None, None)


def test_offline_is_told_to_the_libraries(run, pictures, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    pictures("a.png")

    assert run("upscale", "a.png", "--offline").exit_code == 0
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_quality_without_effect_is_said(run, pictures):
    pictures("a.png")

    assert "--quality has no effect" in run("upscale", "a.png", "--quality", 50).stderr
    assert "effect" not in run("upscale", "a.png", "--quality", 50, "--ext", "webp").stderr


def test_a_shard_does_its_part(run, pictures):
    pictures("in/a.png", "in/b.png", "in/c.png")

    assert run("upscale", "in", "--shard", "2/3").exit_code == 0
    assert [path.name for path in Path("upscaled").iterdir()] == ["b_x4.png"]


def test_files_are_chosen_by_pattern_and_depth(run, pictures):
    pictures("in/a.png", "in/b.png", "in/c/b.png")

    assert run("upscale", "in", "--glob", "b*", "-R").exit_code == 0
    assert [path.name for path in Path("upscaled").rglob("*")] == ["b_x4.png"]


# Prompts, through to the report.


def sources(run, *arguments):
    result = run("upscale", "in", "--overwrite", "--report", "r.jsonl", *arguments)
    assert result.exit_code == 0, result.stderr
    found = {row["input"]: (row["prompt"], row["prompt_source"]) for row in rows(Path("r.jsonl"))}
    return found, result.stderr


def test_prompts_are_found_by_precedence_and_reported(run, pictures):
    pictures("in/a.png", "in/b.png", "in/é/c.png")
    Path("in/b.txt").write_text("from sidecar")
    Path("p.csv").write_text('file_name,text\né/c.png,"a ""big"", red one"\n', encoding="utf-8")

    found, said = sources(run)
    assert found["in/a.png"] == ("", "empty")
    assert found["in/b.png"] == ("from sidecar", "sidecar")
    assert "found 1 prompt sidecar." in said

    found, said = sources(run, "--prompts", "p.csv", "--prompt", " from\noption ")
    assert found["in/b.png"] == ("from option", "option")
    assert found["in/é/c.png"] == ('a "big", red one', "manifest")
    assert "found 0 prompt sidecars." in said


def test_sidecars_can_lie_elsewhere_have_another_name_or_be_left(run, pictures):
    pictures("in/a.png", "in/b/c.png")
    Path("words/b").mkdir(parents=True)
    Path("words/b/c.txt").write_text("elsewhere")
    Path("in/a.cap").write_text("another name")
    Path("in/a.txt").write_text("beside")

    found, _ = sources(run, "--prompt-dir", "words")
    assert (found["in/a.png"][0], found["in/b/c.png"][0]) == ("", "elsewhere")
    found, _ = sources(run, "--caption-ext", "cap")
    assert found["in/a.png"][0] == "another name"
    found, _ = sources(run, "--no-sidecars")
    assert found["in/a.png"] == ("", "empty")


def test_rows_that_fit_no_picture_are_warned_about_a_few_by_name(run, pictures):
    pictures("in/a.png")
    lines = [json.dumps({"file_name": f"[{n}].png", "text": "x"}) for n in range(7)]
    Path("p.jsonl").write_text("\n".join(lines))

    _, said = sources(run, "--prompts", "p.jsonl")

    assert said.count("warning: the prompt file names") == 5
    assert "names '[0].png', which is no input" in said
    assert "and 2 more names" in said


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_and_prompts_of_any_characters_are_reported(run, pictures):
    name = os.fsdecode(b"\xff") + "猫.png"
    pictures(f"in/{name}")
    Path("p.jsonl").write_text(json.dumps({"file_name": name, "text": "\ud800\x1b 😀"}))

    found, _ = sources(run, "--prompts", "p.jsonl")

    assert found == {f"in/{name}": ("\ud800\x1b 😀", "manifest")}
    assert "猫" in Path("r.jsonl").read_text(encoding="utf-8")


# Captions for pictures without a prompt.


class Says:
    """A captioner that says how wide pictures are."""

    def caption(self, pictures):
        return [f"{pixels.shape[1]} wide" for pixels in pictures]


@pytest.fixture
def captioners(monkeypatch):
    """What captioners were loaded: options, settings, and a weak reference to each."""
    loaded = []

    def load(options, **settings):
        captioner = Says()
        loaded.append((options, settings, weakref.ref(captioner)))
        return captioner

    monkeypatch.setattr(captions, "load", load)
    return loaded


def test_pictures_without_a_prompt_are_captioned_and_others_are_not(
    run, stand, pictures, captioners, photo
):
    pictures("in/manifest.png", "in/sidecar.png", "in/z.png", "upscaled/there_x4.png")
    photo(Path("in/wide.png"), width=32, height=16)
    photo(Path("in/there.png"))
    Path("in/sidecar.txt").write_text("from sidecar")
    Path("in/broken.png").write_bytes(b"no picture")
    stand.broken["broken.png"] = ImageError("It is broken.")
    Path("p.csv").write_text("file_name,text\nmanifest.png,from manifest\n")

    result = run(
        *("upscale", "in", "--auto-caption", "--prompts", "p.csv", "--report", "r.jsonl"),
        *("--device", "cpu"),
    )

    assert result.exit_code == 3, result.stderr
    found = {
        Path(row["input"]).stem: (row["prompt"], row["prompt_source"])
        for row in rows(Path("r.jsonl"))
    }
    assert found == {
        "manifest": ("from manifest", "manifest"),
        "sidecar": ("from sidecar", "sidecar"),
        "wide": ("512 wide", "caption"),
        "z": ("384 wide", "caption"),
        # It fails when it is enlarged, as without captions.
        "broken": ("", "empty"),
        "there": ("", "empty"),
    }
    assert "3 pictures without a prompt to be captioned." in result.stderr
    assert "Captioned 2 pictures by labels." in result.stderr
    ((options, settings, _),) = captioners
    assert options.backend == "labels"
    assert settings == {"device": "cpu", "clip": "the generator's CLIP"}


def test_the_captioner_is_gone_before_the_first_picture_is_enlarged(
    run, stand, pictures, captioners, monkeypatch
):
    pictures("in/a.png")
    Path("in/broken.png").write_bytes(b"no picture")
    stand.broken["broken.png"] = ImageError("It is broken.")
    there = []
    enlarge = stand.run

    def look_and_enlarge(jobs):
        there.extend(reference() for _, _, reference in captioners)
        yield from enlarge(jobs)

    monkeypatch.setattr(stand, "run", look_and_enlarge)

    run("upscale", "in", "--auto-caption")

    assert there == [None]


@pytest.mark.parametrize(
    ("arguments", "backend"),
    [
        (["--auto-caption", "a.png"], "labels"),
        (["a.png", "--auto-caption"], "labels"),
        (["--auto-caption", "--", "a.png"], "labels"),
        (["--auto-caption=labels", "a.png"], "labels"),
        (["--auto-caption=coca", "a.png"], "coca"),
        (["--auto-caption", "--auto-caption=coca", "a.png"], "coca"),
    ],
    ids=" ".join,
)
def test_auto_caption_stands_alone_or_with_a_backend(
    run, pictures, captioners, monkeypatch, arguments, backend
):
    monkeypatch.setattr(captions, "check", lambda options: None)
    pictures("a.png")

    assert run("upscale", *arguments).exit_code == 0
    assert [options.backend for options, _, _ in captioners] == [backend]


def test_after_two_dashes_comes_no_option(run, pictures, captioners):
    pictures("--auto-caption.png")
    Path("--auto-caption.png").rename("--auto-caption")

    said = run("upscale", "--", "--auto-caption").stderr

    assert "--auto-caption is not a picture that clipsr reads." in said
    assert captioners == []


def test_no_captioner_is_loaded_where_every_picture_has_a_prompt(run, pictures, captioners):
    pictures("a.png")

    result = run("upscale", "a.png", "--auto-caption=coca", "--prompt", "x")

    assert result.exit_code == 0, result.stderr
    assert "caption" not in result.stderr
    assert captioners == []


def test_a_picture_may_be_called_as_a_backend(run, pictures, captioners):
    pictures("labels/a.png")

    assert run("upscale", "--auto-caption", "labels").exit_code == 0
    assert len(captioners) == 1


def test_a_dry_run_says_that_captions_would_be_made(run, stand, pictures, captioners):
    pictures("in/a.png", "in/b.png")
    Path("in/b.txt").write_text("a bird")

    result = run("upscale", "in", "--auto-caption", "--dry-run")

    assert result.stdout.splitlines() == [
        "write upscaled/a_x4.png  from in/a.png  24x16 -> 96x64  prompt: to be made (caption)",
        "write upscaled/b_x4.png  from in/b.png  24x16 -> 96x64  prompt: 'a bird' (sidecar)",
    ]
    assert "1 picture without a prompt to be captioned." in result.stderr
    row = json.loads(run("upscale", "in/a.png", "--auto-caption", "--dry-run", "--json").stdout)
    assert (row["prompt"], row["prompt_source"]) == ("", "caption")
    assert (captioners, stand.loaded) == ([], [])


def test_a_missing_captioner_is_4_before_any_work(run, stand, pictures, monkeypatch):
    def find(name):
        raise WeightsError("The captioner is not here.")

    monkeypatch.setattr(captions, "find_captioner", find)
    pictures("a.png")
    Path("r.jsonl").write_text("older")

    refused(
        *(run, 4, "captioner is not here", "a.png"), *("--auto-caption=coca", "--report", "r.jsonl")
    )
    assert stand.loaded == []
    assert Path("r.jsonl").read_text() == "older"


def test_a_dry_run_fetches_no_captioner(run, pictures, monkeypatch):
    def find(name):
        pytest.fail(f"{name} was looked for")

    monkeypatch.setattr(captions, "find_captioner", find)
    pictures("a.png")

    result = run("upscale", "a.png", "--auto-caption=coca", "--dry-run")

    assert result.exit_code == 0, result.stderr
    assert "prompt: to be made (caption)" in result.stdout


def test_captions_go_quietly_where_quiet_is_asked_for(run, pictures, captioners):
    pictures("a.png")

    result = run("upscale", "a.png", "--auto-caption", "-q")

    assert (result.exit_code, result.stderr) == (0, "")


# The dry run.


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(run, stand, pictures, tmp_path):
    pictures("in/[red] :cat:.png", "in/b.png", "upscaled/b_x4.png")
    Path("in/broken.png").write_bytes(b"no picture")
    before = sorted(tmp_path.rglob("*"))

    result = run(
        "upscale", "in", "--dry-run", "--prompt", "a cat", "--report", "r.jsonl", "--sheet", "s.png"
    )

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "skip  upscaled/b_x4.png  (exists)",
        "write upscaled/[red] :cat:_x4.png  from in/[red] :cat:.png  24x16 -> 96x64  "
        "prompt: 'a cat' (option)",
        "write upscaled/broken_x4.png  from in/broken.png  ? -> ?  prompt: 'a cat' (option)",
    ]
    assert sorted(tmp_path.rglob("*")) == before
    assert stand.loaded == []


def test_a_dry_run_gives_its_rows_as_json_too(run, pictures):
    pictures("in/a.png", "in/b.png", "upscaled/b_x4.png")

    result = run("upscale", "in", "--dry-run", "--json", "-q")

    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [list(row) for row in found] == [REPORT_KEYS, REPORT_KEYS]
    assert [row["status"] for row in found] == ["skipped", "planned"]
    assert result.stderr == ""


# Refusals.


def refused(run, code, match, *arguments):
    result = run("upscale", *arguments)
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert match in result.stderr, result.stderr
    assert not Path("upscaled").exists()
    return result.stderr


@pytest.mark.parametrize(
    ("match", "arguments"),
    [
        ("--auto-caption is 'fixed'; it must be one of: labels, coca", ["--auto-caption=fixed"]),
        ("--auto-caption is ''; it must be one of", ["--auto-caption="]),
        ("Did you mean --auto-caption=coca?", ["--auto-caption", "coca"]),
        ("'x' is no device", ["--gpus", "0,x"]),
        ("--gpus names cuda:1 twice", ["--gpus", "1,cuda:1"]),
        ("--gpus is empty", ["--gpus", ","]),
        ("--gpus and --device", ["--gpus", "0", "--device", "cpu"]),
        ("--gpus is for --engine local", ["--gpus", "0", "--engine", "ray"]),
        ("--engine is 'spark'; it must be one of: local, ray", ["--engine", "spark"]),
        ("--ray-workers need --engine ray", ["--ray-workers", "2"]),
        ("--device is for --engine local", ["--engine", "ray", "--device", "cpu"]),
        ("--gpus names devices", ["--gpus", "auto"]),
        ("--gpus names cuda:0 twice", ["--gpus", "0,cuda"]),
        ("--ray-workers is 0", ["--engine", "ray", "--ray-workers", "0"]),
        ("--max-memory is 'much'", ["--max-memory", "much"]),
        ("--max-input-pixels is 0", ["--max-input-pixels", "0"]),
        ("--scale is 3; it must be 4, 8 or 16", ["-s", "3"]),
        ("--ext is 'gif'; it must be one of: auto, png", ["--ext", "gif"]),
        ("Only one of", ["--overwrite", "--skip-existing"]),
        ("Only one of", ["--overwrite", "--fail-existing"]),
        ("--tile is 4; it must be at least 8", ["--tile", "4"]),
        ("--tile is 'big'; it must be auto or a whole number", ["--tile", "big"]),
        ("--batch-size is '1.5'", ["--batch-size", "1.5"]),
        ("--tile-overlap is 32; it must be below the tile, 32", "--tile 32 --tile-overlap 32"),
        ("--quality is 0; it must be from 1 to 100", ["--quality", "0"]),
        ("--text-strength is nan", ["--text-strength", "nan"]),
        ("--outscale is nan", ["--outscale", "nan"]),
        ("--outscale is 1e+308; it must be above 0, and at most", ["--outscale", "1e308"]),
        ("For other sizes: --outscale.", ["-s", "6"]),
        ("--sheet s.jpg must end in .png", ["--sheet", "s.jpg"]),
        ("--sheet s must end in .png", ["--sheet", "s"]),
        ("cannot both be given", "--outscale 2 --longest-side 9"),
        ("'' is no shard", ["--shard", ""]),
        ("'3/2' is no shard", ["--shard", "3/2"]),
        ("The prompt folder none does not exist", ["--prompt-dir", "none"]),
        ("--no-sidecars cannot be given with", "--no-sidecars --prompt-dir ."),
        ("--no-sidecars cannot be given with", "--no-sidecars --caption-ext .txt"),
        ("'' is no file extension", ["--caption-ext", ","]),
        ("Cannot read none.csv", ["--prompts", "none.csv"]),
        ("unknown field {name}", ["--template", "{name}"]),
        ("p.csv is not a folder", ["--report", "p.csv/r.jsonl"]),
        ("p.csv is not a folder", ["--sheet", "p.csv/new/s.png"]),
        ("--report . is a folder", ["--report", "."]),
        ("--sheet .. is a folder", ["--sheet", ".."]),
        ("a.png is an input and would be overwritten", ["--report", "a.png"]),
        ("a.png is an input and would be overwritten", ["--sheet", "./a.png"]),
        ("--report p.csv is the prompt file", "--prompts p.csv --report p.csv"),
        ("--sheet b.png is the report", "--sheet b.png --report b.png"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_what_cannot_be_meant_is_refused_before_any_work(run, stand, pictures, match, arguments):
    pictures("a.png")
    Path("p.csv").write_text("file_name,text\na.png,x\n")
    given = arguments.split() if isinstance(arguments, str) else arguments

    refused(run, 2, match, "a.png", *given)

    assert stand.loaded == []
    assert Path("p.csv").read_text() == "file_name,text\na.png,x\n"
    assert images.read_size(Path("a.png")) == (24, 16)


def test_a_missing_input_is_2_with_the_name_that_was_meant(run, pictures):
    pictures("[red].png")

    said = refused(run, 2, "[rad].png does not exist", "[rad].png")

    assert "Did you mean [red].png?" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_report_that_cannot_be_written_stops_nothing_and_is_a_failure(run, pictures):
    pictures("in/a.png", "in/b.png")

    result = run("upscale", "in", "--report", "/dev/full", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["done"] == 2
    assert result.stderr.count("The report /dev/full is not complete: No space left") == 2


def test_a_report_that_cannot_be_opened_is_2(run, pictures):
    pictures("a.png")
    Path("r.jsonl").symlink_to("none/r.jsonl")

    refused(run, 2, "Cannot write the report r.jsonl: No such file", "a.png", "--report", "r.jsonl")


def test_folders_of_report_and_sheet_are_made(run, pictures):
    pictures("a.png")

    result = run(
        *("upscale", "a.png", "-o", "out"),
        *("--report", "out/new/r.jsonl", "--sheet", "sheets/s.png"),
    )

    assert result.exit_code == 0, result.stderr
    assert len(rows(Path("out/new/r.jsonl"))) == 1
    assert Path("sheets/s.png").is_file()


@pytest.mark.parametrize(
    ("code", "match", "arguments"),
    [
        (4, "hf://owner/repo/file.safetensors", ["-m", "hf://owner/repo/file.safetensors"]),
        (4, "none.safetensors do not exist", ["-m", "none.safetensors"]),
        (4, "Cannot read the weights own.safetensors", ["-m", "own.safetensors"]),
        (2, "Did you mean 'clipsr-mini'?", ["-m", "clipsr-mni"]),
        (5, "The device 'cuda' is not there", ["-m", "own.safetensors", "--device", "cuda"]),
        (2, "'gpu' is no device", ["-m", "own.safetensors", "--device", "gpu"]),
    ],
)
def test_a_model_or_device_that_is_not_there_is_refused(
    run, photo, tmp_path, monkeypatch, code, match, arguments
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    photo(Path("a.png"))
    Path("own.safetensors").write_bytes(b"no weights")
    Path("r.jsonl").write_text("older")

    refused(run, code, match, "a.png", "--report", "r.jsonl", *arguments)

    assert Path("r.jsonl").read_text() == "older"


def test_a_dry_run_refuses_a_missing_model_and_fetches_nothing(run, photo, tmp_path, monkeypatch):
    """Sockets to elsewhere than loopback are blocked here: fetching would fail."""
    monkeypatch.chdir(tmp_path)
    photo(Path("a.png"))

    refused(run, 4, "none.safetensors", "a.png", "--dry-run", "-m", "none.safetensors")
    planned = run("upscale", "a.png", "--dry-run", "-m", "hf://owner/repo/file.safetensors")
    assert planned.exit_code == 0
    assert "write" in planned.stdout


class Fetched:
    """What was fetched, and whether people were told of it."""

    def __init__(self):
        self.names = []

    def find(self, name):
        self.names.append(name)
        if (progress := _progress.get()) is not None:
            progress(f"hf://owner/{name}", 1, 2_000_000)
        return "ViT-B-32", Path(name)


@pytest.fixture
def fetched(stand, monkeypatch):
    """A generator whose CLIP, and a captioner, have to be fetched."""
    save_file({"a": np.zeros(1)}, "own.safetensors", metadata={"clip": "large-clip"})
    fetched = Fetched()
    monkeypatch.setattr("clipsr_cli.weights.find_clip", fetched.find)
    monkeypatch.setattr(captions, "find_captioner", fetched.find)
    return fetched


def test_all_that_a_run_fetches_is_shown(run, pictures, captioners, fetched):
    pictures("a.png")

    result = run("upscale", "a.png", "-m", "own.safetensors", "--auto-caption=coca")

    assert result.exit_code == 0, result.stderr
    assert fetched.names == ["large-clip", "coca-vit-b-32"]
    for name in fetched.names:
        assert f"Fetching hf://owner/{name} (2.0 MB)\n" in result.stderr


def test_quiet_fetches_without_a_word(run, pictures, fetched):
    pictures("a.png")

    result = run("upscale", "a.png", "-m", "own.safetensors", "-q")

    assert (result.exit_code, result.stderr) == (0, "")
    assert fetched.names == ["large-clip"]


def test_a_dry_run_and_one_without_work_fetch_no_clip(run, pictures, fetched):
    pictures("a.png", "b.png", "upscaled/b_x4.png")

    for arguments in (["a.png", "--dry-run"], ["b.png"]):
        assert run("upscale", *arguments, "-m", "own.safetensors").exit_code == 0
    assert fetched.names == []


# What a terminal shows.


def test_warnings_are_shown_plainly_by_commands_that_set_nothing_up(run, monkeypatch):
    def look():
        logging.getLogger("clipsr_cli.hub").warning("%s is odd", "a\x1b[2K\nerror: forged")
        raise InputError("It ends.")

    monkeypatch.setattr(importlib.import_module("clipsr_cli.cli.env"), "_look", look)

    assert run("env").stderr == ("WARNING: a\\x1b[2K\\nerror: forged is odd\nerror: It ends.\n")


@pytest.fixture
def terminal(monkeypatch):
    """stderr as a terminal; gives what it was sent."""
    shown = io.StringIO()
    plain = console.err()
    monkeypatch.setattr(
        console,
        "err",
        lambda: Console(
            file=shown,
            force_terminal=True,
            width=200,
            _environ={"TERM": "xterm"},
            highlight=plain._highlight,
            markup=plain._markup,
            emoji=plain._emoji,
            soft_wrap=plain.soft_wrap,
        ),
    )
    return shown


def test_a_bar_moves_on_a_terminal_and_lines_stay_above_it(run, stand, pictures, terminal):
    # The last one stays on the bar.
    pictures("in/a.png", "in/b [red] :cat:.png")
    stand.broken["a.png"] = ImageError("The [bold] broke.")

    assert run("upscale", "in", "-v").exit_code == 3

    shown = terminal.getvalue()
    assert "2/2" in shown
    assert "b [red] :cat:.png \x1b" in shown
    assert "failed: in/a.png: The [bold] broke." in shown
    assert "done: upscaled/b [red] :cat:_x4.png" in shown


@pytest.mark.parametrize("option", ["--no-progress", "-q"])
def test_no_bar_where_none_is_wanted(run, pictures, terminal, option):
    pictures("a.png")

    assert run("upscale", "a.png", option).exit_code == 0
    assert "Enlarging" not in terminal.getvalue()
    assert "1/1" not in terminal.getvalue()


def test_the_sheet_says_how_many_it_leaves_out(run, pictures, monkeypatch):
    monkeypatch.setattr(importlib.import_module("clipsr_cli.reports.sheets"), "MAX_ROWS", 1)
    pictures("in/a.png", "in/b.png", "upscaled/b_x4.png")

    result = run("upscale", "in", "--sheet", "sheet.png")

    assert result.exit_code == 0
    assert "sheet.png shows 1 picture (of 2)." in result.stderr
    assert Path("sheet.png").is_file()
