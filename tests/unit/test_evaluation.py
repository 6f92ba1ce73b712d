"""An evaluation's numbers depend on the pictures and the protocol, and on nothing else."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipsr_cli.datasets import Sample, read
from clipsr_cli.degradation import shrink
from clipsr_cli.errors import ImageError, InputError, UnknownNameError
from clipsr_cli.evaluation import Assessment, ResultsAssessment
from clipsr_cli.evaluation import contenders as module
from clipsr_cli.evaluation.contenders import Contender, contenders
from clipsr_cli.evaluation.folder import Folder
from clipsr_cli.evaluation.pairs import make_pair, read_high, to_8_bit, to_pixels
from clipsr_cli.evaluation.protocol import Protocol, choose_prompts, sample_some
from clipsr_cli.evaluation.report import Row, difference, estimate
from clipsr_cli.evaluation.scoring import PLAIN
from clipsr_cli.metrics import METRICS, Metric, Setting

PROTOCOL = Protocol(scale=4, hr_size=64)
MEASURED = {name: METRICS[name] for name in ("psnr", "psnr_y", "lpips")}
PLAINS = [Contender(name=n, enlarge=PLAIN[n], fingerprint=n) for n in ("bicubic", "lanczos")]


@pytest.fixture
def samples(tmp_path, photo):
    made = []
    for index in range(5):
        path = photo(tmp_path / "hr" / f"{index}.png", width=90, height=80, seed=index)
        caption = ("a red bird", "a blue dog", "a green frog")[index % 3]
        made.append(Sample(path=path, name=path.name, captions=(caption,), split="test"))
    return made


def assess(samples, *, protocol=PROTOCOL, found=PLAINS, metrics=MEASURED, **more):
    assessment = Assessment(
        samples,
        found,
        protocol=protocol,
        metrics=metrics,
        setting=Setting(scale=protocol.scale, kernel=protocol.kernel, border=protocol.border),
        dataset="folder",
        split="test",
        **more,
    )
    done = list(assessment.run())
    return assessment.report(), done


def test_every_picture_is_scored_by_every_model(samples):
    report, done = assess(samples)

    assert done == [sample.name for sample in samples]
    assert report.models == ["bicubic", "lanczos"]
    assert report.column("bicubic", "psnr") != report.column("lanczos", "psnr")
    mean = report.mean("bicubic", "psnr")
    assert mean.n == 5
    assert mean.mean == pytest.approx(np.mean(report.column("bicubic", "psnr")))
    assert mean.low < mean.mean < mean.high


def test_scores_depend_neither_on_order_nor_on_workers_nor_on_company(samples):
    one, _ = assess(samples, workers=1)
    other, _ = assess(samples[::-1], workers=3, found=PLAINS[::-1])
    alone, _ = assess(samples[2:3])

    for model in one.models:
        for metric in MEASURED:
            assert one.column(model, metric) == other.column(model, metric)
            assert one.mean(model, metric) == other.mean(model, metric)
            assert alone.column(model, metric) == [one.column(model, metric)[2]]


def test_the_protocol_changes_what_it_says(samples):
    scores = {
        str(change): assess(samples, protocol=dataclasses.replace(PROTOCOL, **change))[0]
        .mean("bicubic", "psnr")
        .mean
        for change in (
            {},
            {"hr_size": 48},
            {"crop": "none"},
            {"kernel": "matlab"},
            {"kernel": "area"},
            {"border": 4},
            {"scale": 8},
        )
    }

    assert len(set(scores.values())) == len(scores)


@pytest.mark.parametrize(
    ("size", "protocol", "expected"),
    [
        ((300, 280), Protocol(scale=4), (256, 256)),
        ((300, 100), Protocol(scale=4), (256, 96)),
        ((301, 90), Protocol(scale=4, crop="none"), (300, 88)),
        ((301, 90), Protocol(scale=16, crop="none"), (288, 80)),
        ((70, 70), Protocol(scale=16, hr_size=48), (48, 48)),
    ],
)
def test_pictures_are_cut_as_the_protocol_says(tmp_path, photo, size, protocol, expected):
    path = photo(tmp_path / "a.png", width=size[0], height=size[1])
    sample = Sample(path=path, name="a", captions=(), split="test")

    pair = make_pair(sample, protocol, "")

    assert (pair.high.shape[2], pair.high.shape[1]) == expected
    assert torch.equal(pair.low, shrink(pair.high[None], protocol.scale, protocol.kernel)[0])
    pixels = np.asarray(Image.open(path))
    if protocol.crop == "none":
        top, left = 0, 0
    else:
        top, left = (size[1] - expected[1]) // 2, (size[0] - expected[0]) // 2
    wanted = pixels[top : top + expected[1], left : left + expected[0]]
    assert np.array_equal(to_pixels(pair.high), wanted)


def test_a_box_is_cut_out_first(tmp_path):
    """A bird 40 wide in a picture 200 wide: a square of 60 about it."""
    pixels = np.zeros((150, 200, 3), np.uint8)
    pixels[50:90, 100:140] = 255
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    sample = Sample(path=path, name="a", captions=(), split="test", box=(100.0, 50.0, 40.0, 40.0))

    high = read_high(sample)

    assert high.shape == (60, 60, 3)
    assert high[10:50, 10:50].min() == 255
    assert high.sum() == 40 * 40 * 3 * 255


def test_a_large_box_is_brought_to_a_short_side_and_one_outside_is_left_alone(tmp_path, photo):
    path = photo(tmp_path / "a.png", width=900, height=700)
    sample = Sample(path=path, name="a", captions=(), split="test", box=(100.0, 50.0, 500.0, 400.0))

    assert min(read_high(sample).shape[:2]) == 304
    beside = dataclasses.replace(sample, box=(2000.0, 2000.0, 10.0, 10.0))
    assert min(read_high(beside).shape[:2]) == 304


def test_a_picture_that_is_too_small_or_broken_is_named_and_stops_nothing(samples, photo):
    photo(samples[1].path, width=10, height=10)
    samples[3].path.write_bytes(b"no picture")

    report, done = assess(samples)

    assert done == ["0.png", "2.png", "4.png"]
    assert report.failed.keys() == {"1.png", "3.png"}
    assert "smaller than 16" in report.failed["1.png"]


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_a_mismatched_prompt_is_another_pictures_whatever_the_order(samples, shift):
    samples = samples[shift:] + samples[:shift]
    prompts = dict(
        zip((s.name for s in samples), choose_prompts(samples, "mismatched"), strict=True)
    )
    expected = dict(
        zip(
            (s.name for s in sorted(samples, key=lambda s: s.name)),
            choose_prompts(sorted(samples, key=lambda s: s.name), "mismatched"),
            strict=True,
        )
    )

    assert prompts == expected
    assert all(prompts[s.name] and prompts[s.name] not in s.captions for s in samples)


def test_other_prompts_are_the_first_caption_or_none(samples):
    assert choose_prompts(samples, "matched")[1] == "a blue dog"
    assert set(choose_prompts(samples, "empty")) == {""}
    same = [dataclasses.replace(sample, captions=("a",)) for sample in samples]
    with pytest.raises(InputError, match="No picture has other captions"):
        choose_prompts(same, "mismatched")


def test_the_effect_of_text_is_measured_picture_by_picture(samples):
    """A model that is told the truth gets every picture right."""

    def enlarge(pair):
        return pair.high if pair.prompt == pair.caption else PLAIN["bicubic"](pair)

    liar = [Contender(name="mine", enlarge=enlarge, fingerprint="1"), PLAINS[0]]
    wrong = dataclasses.replace(PROTOCOL, prompts="mismatched")

    report, _ = assess(samples, protocol=wrong, found=liar)

    assert report.text_effect.keys() == {"mine"}
    effect = report.text_effect["mine"]["lpips"]
    assert effect.n == 5
    assert effect.high < 0
    assert effect.mean == pytest.approx(-report.mean("bicubic", "lpips").mean)
    assert report.column("mine", "psnr") == report.column("bicubic", "psnr")
    matched, _ = assess(samples, found=liar)
    assert matched.text_effect == {}
    assert matched.mean("mine", "lpips").mean == 0


def test_a_second_run_uses_what_the_first_kept(samples, tmp_path):
    calls = []

    def enlarge(pair):
        calls.append(pair.name)
        return PLAIN["bicubic"](pair)

    def run(fingerprint="1", rules="same", chosen=samples):
        folder = Folder(tmp_path / "report", {"rules": rules})
        found = [Contender(name="mine", enlarge=enlarge, fingerprint=fingerprint)]
        report, _ = assess(chosen, found=found, folder=folder)
        folder.close()
        return report, len(calls)

    first, made = run(chosen=samples[:3])
    assert made == 3
    whole, made = run()
    assert made == 5
    assert run()[1] == 5
    kept = whole.column("mine", "lpips")
    samples[0].path.write_bytes(samples[1].path.read_bytes())
    assert run()[1] == 6
    assert run(fingerprint="2")[1] == 11
    assert run(rules="other")[1] == 16
    assert first.column("mine", "lpips") == kept[:3]


def test_a_killed_run_leaves_rows_that_are_used(samples, tmp_path):
    folder = Folder(tmp_path / "report", {})
    assess(samples, folder=folder)
    folder.close()
    rows = tmp_path / "report" / "rows.jsonl"
    rows.write_text(rows.read_text()[:-20])

    again = Folder(tmp_path / "report", {})
    report, _ = assess(samples, folder=again)
    again.close()

    assert report.mean("lanczos", "psnr").n == 5


def test_results_on_disk_agree_to_the_last_digit(samples, tmp_path):
    folder = Folder(tmp_path / "report", {})
    metrics = MEASURED | {"lr_psnr": METRICS["lr_psnr"]}
    report, _ = assess(samples, metrics=metrics, folder=folder)
    folder.close()
    pictures = tmp_path / "report" / "pictures"
    captions = {s.name: s.captions[0] for s in read("folder", pictures / "reference")}

    on_disk = ResultsAssessment(
        pictures / "lanczos",
        pictures / "reference",
        captions=captions,
        protocol=Protocol(scale=4),
        metrics=metrics,
        setting=Setting(scale=4),
        enlargers={"bicubic": PLAIN["bicubic"]},
    )
    assert len(list(on_disk.run())) == on_disk.total == 5
    found = on_disk.report()

    assert found.failed == {}
    for metric in metrics:
        # "lanczos" itself is what the name says, not what lies in a folder of that name.
        for there, here in (("lanczos 2", "lanczos"), ("bicubic", "bicubic")):
            assert found.column(there, metric) == report.column(here, metric)
            assert found.mean(there, metric) == report.mean(here, metric)
    assert [row.caption for row in found.rows["lanczos 2"]] == [s.captions[0] for s in samples]


def test_kept_rows_go_with_the_pictures_that_lie_there(samples, tmp_path):
    """The same folder at another scale and back."""
    for scale in (4, 8, 4):
        protocol = dataclasses.replace(PROTOCOL, scale=scale)
        folder = Folder(tmp_path / "report", {"scale": scale})
        report, _ = assess(samples, protocol=protocol, folder=folder)
        folder.close()
    on_disk = ResultsAssessment(
        tmp_path / "report" / "pictures" / "lanczos",
        tmp_path / "report" / "pictures" / "reference",
        captions={},
        protocol=Protocol(scale=None),
        metrics=MEASURED,
        setting=Setting(),
    )
    list(on_disk.run())

    assert on_disk.report().rows.keys() == {"lanczos 2"}
    assert on_disk.report().column("lanczos 2", "psnr") == report.column("lanczos", "psnr")


@pytest.mark.parametrize("name", ["bicubic", "reference", "low"])
def test_a_results_folder_of_any_name_is_scored_as_it_is(samples, tmp_path, photo, name):
    for sample in samples:
        photo(tmp_path / name / sample.name, width=90, height=80, seed=99)
    assessment = ResultsAssessment(
        tmp_path / name,
        tmp_path / "hr",
        captions={},
        protocol=Protocol(scale=None),
        metrics=MEASURED,
        setting=Setting(),
        folder=Folder(tmp_path / "report", {}),
    )
    list(assessment.run())
    assessment.folder.close()
    report = assessment.report()

    (model,) = report.models
    assert model == f"{name} 2"
    assert report.mean(model, "psnr").mean < 25
    kept = np.asarray(Image.open(assessment.folder.picture("reference", samples[0].name)))
    assert np.array_equal(kept, np.asarray(Image.open(samples[0].path)))


class Count:
    """Gathers how many pictures there are."""

    def __init__(self, _):
        self.seen = 0

    def add(self, _):
        self.seen += 1

    def value(self):
        return float(self.seen)


COUNT = Metric(title="n", higher_is_better=True, gather=Count)


def test_a_score_of_the_whole_set_alone_is_enough(samples, tmp_path, photo):
    for sample in samples:
        photo(tmp_path / "mine" / sample.name, width=90, height=80, seed=99)
    assessment = ResultsAssessment(
        tmp_path / "mine",
        tmp_path / "hr",
        captions={},
        protocol=Protocol(scale=None),
        metrics={"n": COUNT},
        setting=Setting(),
    )
    list(assessment.run())
    assert assessment.report().mean("mine", "n").mean == 5

    def fails(pair):
        raise ImageError("no")

    broken = [PLAINS[0], Contender(name="bad", enlarge=fails, fingerprint="")]
    report, _ = assess(samples, metrics={"n": COUNT}, found=broken)
    assert report.whole["bicubic"] == {"n": 0.0}


def test_names_of_any_length_and_kind_are_kept_apart(samples, tmp_path):
    long = "x" * 240
    samples = [
        dataclasses.replace(samples[0], name=f"{long}a.png"),
        dataclasses.replace(samples[1], name=f"{long}b.png"),
    ]
    found = [
        Contender(name=n, enlarge=PLAIN["bicubic"], fingerprint=n) for n in ("a@1", "a#1", "a/1")
    ]
    folder = Folder(tmp_path / "report", {})
    report, _ = assess(samples, found=found, folder=folder)
    folder.close()

    assert not report.failed
    files = list((tmp_path / "report" / "pictures").rglob("*.png"))
    assert len(files) == 2 * (2 + 3)
    again = read("folder", tmp_path / "report" / "pictures" / "reference")
    assert sorted(sample.captions for sample in again) == [("a blue dog",), ("a red bird",)]


def results(tmp_path, **more):
    return ResultsAssessment(
        tmp_path / "results",
        tmp_path / "hr",
        captions={},
        protocol=Protocol(scale=more.pop("scale", None)),
        metrics=MEASURED,
        setting=Setting(),
        **more,
    )


def test_a_second_run_over_results_scores_only_what_is_new(tmp_path, photo):
    for name in ("a.png", "b.png", "c.png"):
        photo(tmp_path / "hr" / name, width=40, height=40)
        photo(tmp_path / "results" / name, width=40, height=40, seed=1)
    scored = []

    def score(compared, _):
        scored.append(compared)
        return compared.result.mean().item()

    metrics = {"mean": Metric(title="mean", higher_is_better=True, score=score), "n": COUNT}

    def run():
        scored.clear()
        assessment = ResultsAssessment(
            tmp_path / "results",
            tmp_path / "hr",
            captions={},
            protocol=Protocol(scale=4),
            metrics=metrics,
            setting=Setting(scale=4),
            enlargers={"bicubic": PLAIN["bicubic"]},
            folder=Folder(tmp_path / "report", {}),
        )
        list(assessment.run())
        assessment.folder.close()
        lines = (tmp_path / "report" / "rows.jsonl").read_text().splitlines()
        return assessment.report(), len(scored), len(lines)

    first, *counts = run()
    assert counts == [6, 6]
    again, *counts = run()
    assert counts == [0, 6]
    assert (again.rows, again.whole) == (first.rows, first.whole)

    # Another result; then another reference, which the bicubic picture is made from, too.
    photo(tmp_path / "results" / "b.png", width=40, height=40, seed=2)
    changed, *counts = run()
    assert counts == [1, 7]
    assert changed.column("results", "mean") != first.column("results", "mean")
    photo(tmp_path / "hr" / "c.png", width=40, height=40, seed=3)
    assert run()[1:] == (2, 9)


def test_a_second_run_with_scores_of_the_whole_set_keeps_each_row_once(samples, tmp_path):
    for _ in range(2):
        folder = Folder(tmp_path / "report", {})
        report, _ = assess(samples, metrics=MEASURED | {"n": COUNT}, folder=folder)
        folder.close()

    assert report.whole["lanczos"] == {"n": 5.0}
    assert len((tmp_path / "report" / "rows.jsonl").read_text().splitlines()) == 2 * 5


def test_results_are_matched_by_stem_and_what_stands_alone_is_named(tmp_path, photo):
    for name in ("a.png", "deep/b.png", "c.png", "d.png"):
        photo(tmp_path / "hr" / name, width=40, height=40)
    for name, side in (("a.jpg", 40), ("deep/b.png", 40), ("other.png", 40), ("d.png", 48)):
        photo(tmp_path / "results" / name, width=side, height=40)

    assessment = results(tmp_path)
    done = list(assessment.run())
    report = assessment.report()

    assert done == ["a.png", "deep/b.png"]
    assert report.models == ["results"]
    failed = {name.rpartition("/")[2]: why for name, why in report.failed.items()}
    assert failed.keys() == {"c.png", "other.png", "d.png"}
    assert "no result" in failed["c.png"]
    assert "no reference" in failed["other.png"]
    assert "48 x 40" in failed["d.png"]


def test_pictures_that_cannot_have_been_made_at_the_scale_have_no_baseline(tmp_path, photo):
    for folder in ("hr", "results"):
        photo(tmp_path / folder / "a.png", width=40, height=40)
        photo(tmp_path / folder / "b.png", width=41, height=40)

    assessment = results(tmp_path, scale=4, enlargers={"bicubic": PLAIN["bicubic"]})
    list(assessment.run())
    report = assessment.report()

    assert report.mean("results", "psnr").n == 2
    assert report.mean("bicubic", "psnr").n == 1
    assert report.difference("results", "bicubic", "psnr").n == 1


def test_folders_that_cannot_be_matched_are_refused(tmp_path, photo):
    photo(tmp_path / "hr" / "a.png")
    photo(tmp_path / "results" / "b.png")
    with pytest.raises(InputError, match=r"No picture of .*results"):
        results(tmp_path)
    photo(tmp_path / "results" / "b.jpg")
    with pytest.raises(InputError, match="extension alone"):
        results(tmp_path)


def test_a_limit_picks_by_name_and_seed(samples):
    some = sample_some(samples, 3, seed=0)

    assert len(some) == 3
    assert {s.name for s in sample_some(samples[::-1], 3, seed=0)} == {s.name for s in some}
    picks = {tuple(s.name for s in sample_some(samples, 2, seed=seed)) for seed in range(8)}
    assert len(picks) > 1
    assert sample_some(samples, 99, seed=0) == sample_some(samples, None, seed=0) == samples


@pytest.mark.parametrize(
    ("change", "kind", "named"),
    [
        ({"kernel": "cubic"}, UnknownNameError, "cubic"),
        ({"crop": "left"}, InputError, "left"),
        ({"prompts": "other"}, InputError, "other"),
        ({"hr_size": 8}, InputError, "hr_size is 8"),
        ({"hr_size": 100}, InputError, "multiple of 16"),
        ({"border": -1}, InputError, "border is -1"),
    ],
)
def test_impossible_protocols_are_refused(change, kind, named):
    with pytest.raises(kind, match=named):
        Protocol(scale=4, **change)


def test_the_protocol_is_told_in_plain_values():
    told = [PROTOCOL.in_words(), Protocol(scale=8, crop="none").in_words()]
    told += [Protocol(scale=scale).of_results_in_words() for scale in (None, 8)]
    for words in told:
        assert json.loads(json.dumps(words)) == words
    assert "MATLAB" in Protocol(scale=4, kernel="matlab").in_words()["kernel"]


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        found = estimate(rng.normal(5.0, 2.0, 40).tolist())
        inside += found.low <= 5.0 <= found.high

    assert 50 <= inside <= 60
    one = estimate([3.0])
    assert (one.mean, one.low, one.high, one.n) == (3.0, 3.0, 3.0, 1)


def test_the_interval_is_that_of_95_percent():
    """For many values it comes to the one of the normal distribution."""
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)

    found = estimate(values.tolist())

    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


def test_results_are_scored_as_the_8_bit_pictures_that_are_written(tmp_path, photo):
    """What lies between two steps of 1/255, or beyond [0, 1], is not in a written picture."""
    sample = Sample(
        path=photo(tmp_path / "a.png", width=64, height=64),
        name="a.png",
        captions=(),
        split="test",
    )
    near = Contender(name="near", enlarge=lambda pair: to_8_bit(pair.high + 0.001), fingerprint="")

    report, _ = assess([sample], found=[near], metrics={"psnr": METRICS["psnr"]})

    assert report.mean("near", "psnr").mean == pytest.approx(100)
    assert to_8_bit(torch.tensor([-0.2, 1.3])).tolist() == [0, 1]


def test_a_difference_counts_pictures_that_have_both():
    def rows(*values):
        return [
            Row(name=str(i), prompt="", caption="", scores={"x": v}) for i, v in enumerate(values)
        ]

    found = difference(rows(3.0, None, 5.0), rows(1.0, 9.0, 4.0), "x")

    assert (found.mean, found.n) == (1.5, 2)
    assert difference(rows(None), rows(1.0), "x") is None


def test_models_have_names_of_their_own(tmp_path, make_generator, monkeypatch):
    from clipsr_cli.upscaling import Upscaler

    monkeypatch.setattr(
        Upscaler, "load", lambda *_, **__: Upscaler(make_generator(4), device="cpu")
    )
    monkeypatch.setattr(module, "find_clip", lambda _: ("tiny", Path(__file__)))
    paths = [tmp_path / "runs" / name / "generator.safetensors" for name in ("one", "two")]
    paths += [tmp_path / "mine.safetensors", tmp_path / "other" / "mine.safetensors"]
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([index]))

    found = contenders([*map(str, paths), "lanczos", str(paths[0])], scale=4)

    assert [c.name for c in found] == ["one", "two", "mine", "mine 2", "lanczos", "bicubic"]
    assert len({c.fingerprint for c in found}) == 6


def test_a_model_is_scored_through_its_tiles(samples, make_generator, monkeypatch, tmp_path):
    from clipsr_cli.upscaling import Upscaler

    upscaler = Upscaler(make_generator(4), device="cpu")
    monkeypatch.setattr(Upscaler, "load", lambda *_, **__: upscaler)
    monkeypatch.setattr(module, "find_clip", lambda _: ("tiny", Path(__file__)))
    (tmp_path / "mine.safetensors").touch()
    found = contenders([str(tmp_path / "mine.safetensors")], scale=4)
    pair = make_pair(samples[0], PROTOCOL, "a red bird")

    result = found[0].enlarge(pair)

    expected = upscaler.enlarge(pair.small(), "a red bird").pixels
    assert np.array_equal(to_pixels(result), expected)


def test_a_picture_that_cannot_be_read_is_an_image_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError):
        make_pair(
            Sample(path=tmp_path / "a.png", name="a", captions=(), split="test"), PROTOCOL, ""
        )


@pytest.mark.parametrize("name", ["pictures", "rows.jsonl"])
def test_a_report_is_never_written_through_a_link(tmp_path, name):
    victim = tmp_path / "victim"
    victim.mkdir() if name == "pictures" else victim.write_text("precious")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / name).symlink_to(victim)

    with pytest.raises(InputError, match=f"{name} in it is a link"):
        Folder(tmp_path / "report", {})


@pytest.mark.parametrize("content", [b"[" * 300_000, b"\xff\xfe", b"[1]\n{}"])
def test_rows_that_somebody_else_wrote_count_for_nothing(tmp_path, content):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "rows.jsonl").write_bytes(content)

    Folder(tmp_path / "report", {}).close()
