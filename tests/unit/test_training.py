"""Training: it learns, it stops and resumes as if it had not, and it refuses what cannot work."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from clipsr_cli.checkpoints import load_generator, read_header, read_tensors
from clipsr_cli.config import build, read_toml
from clipsr_cli.errors import ClipsrError, DeviceError, InputError
from clipsr_cli.models.discriminator import DiscriminatorConfig
from clipsr_cli.models.generator import GeneratorConfig
from clipsr_cli.training import train
from clipsr_cli.training.config import (
    ClipTrainConfig,
    LossConfig,
    RunConfig,
    TrainConfig,
)
from clipsr_cli.training.contrastive import contrastive_loss, retrieval, train_clip
from clipsr_cli.training.data import Pictures, read_source
from clipsr_cli.training.parallel import fair_memory, own_device
from clipsr_cli.training.run import as_toml, checkpoints

TINY = GeneratorConfig(
    scale=4,
    widths=(8, 8, 8, 16),
    encoder_blocks=(1, 1, 1, 1),
    decoder_blocks=(1, 1, 1, 1),
    head_widths=(8, 8),
    text_hidden=8,
    prompts=2,
)
FULL = LossConfig(adversarial_from=2)


@pytest.fixture
def config(source):
    """Six steps of the whole method, the discriminator joining after two."""
    return TrainConfig(
        generator=TINY,
        discriminator=DiscriminatorConfig(channels=8, head_channels=4),
        sources=(source,),
        steps=6,
        losses=FULL,
        crops=(64,),
        batch_size=2,
        run=RunConfig(evaluate_every=3, evaluate_count=2, log_every=1, sheet_rows=2),
        warmup=2,
        device="cpu",
    )


def change_run(config, **settings):
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **settings))


def weights(folder):
    return read_tensors(folder / "generator.safetensors")


def numbers(row):
    return {name: value for name, value in row.items() if name != "images_per_second"}


def test_a_resumed_run_equals_an_uninterrupted_one(config, tiny_clip, tmp_path):
    whole = list(train(config, tiny_clip, tmp_path / "whole"))

    run = train(config, tiny_clip, tmp_path / "parts")
    first = [next(run) for _ in range(4)]
    run.close()
    torch.rand(5)
    rest = list(train(config, tiny_clip, tmp_path / "parts", resume=True))

    assert [row["step"] for row in rest] == [4, 5, 6]
    assert [*map(numbers, first[:3] + rest)] == [*map(numbers, whole)]
    a, b = (weights(tmp_path / name) for name in ("whole", "parts"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    a, b = (checkpoints(tmp_path / name)[-1].state() for name in ("whole", "parts"))
    assert_equal(a, b)


def assert_equal(a, b):
    """Every tensor and number of two nested states."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_equal(a[name], b[name])
    elif isinstance(a, list | tuple):
        for one, other in zip(a, b, strict=True):
            assert_equal(one, other)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_the_number_of_threads_changes_nothing(config, tiny_clip, tmp_path):
    for workers in (1, 3):
        list(
            train(
                change_run(config, workers=workers, memory_gb=0), tiny_clip, tmp_path / f"{workers}"
            )
        )

    a, b = (weights(tmp_path / name) for name in ("1", "3"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_training_lowers_the_loss_and_writes_a_usable_generator(config, tiny_clip, tmp_path):
    config = dataclasses.replace(
        config,
        steps=40,
        learning_rate=3e-3,
        losses=LossConfig(perceptual=0.0, adversarial=0.0),
        crops=(32,),
    )

    rows = list(train(change_run(config, evaluate_every=40), tiny_clip, tmp_path))

    generator = load_generator(tmp_path / "generator.safetensors", tiny_clip)
    last = rows[-1]
    assert last["test_psnr"] > last["bicubic_psnr"]
    assert generator(torch.rand(1, 3, 8, 8), tiny_clip.text(["a"])).shape == (1, 3, 32, 32)


def test_a_run_leaves_its_settings_metrics_samples_and_curves(config, tiny_clip, tmp_path):
    config = dataclasses.replace(config, licence="for birds only")
    rows = list(train(config, tiny_clip, tmp_path))

    assert build(TrainConfig, read_toml(tmp_path / "config.toml")) == config
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == rows
    assert {"l1", "perceptual", "clip", "adversarial", "d_hinge", "d_penalty"} <= lines[-1].keys()
    assert {"test_psnr", "test_lpips", "bicubic_psnr", "bicubic_lpips"} <= lines[-1].keys()
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "00000003.png",
        "00000006.png",
    ]
    header = read_header(tmp_path / "generator.safetensors")
    assert header.notes == {"dataset": "folder", "steps": "6", "licence": "for birds only"}

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("l1")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in board.Images("result")] == [3, 6]


def test_a_resumed_run_leaves_each_step_once_in_the_metrics(config, tiny_clip, tmp_path):
    run = train(config, tiny_clip, tmp_path)
    for _ in range(5):
        next(run)
    run.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "l1"')

    list(train(config, tiny_clip, tmp_path, resume=True))

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_the_newest_and_the_best_checkpoints_are_kept(config, tiny_clip, tmp_path, monkeypatch):
    from clipsr_cli.training import progress

    scores = iter([0.5, 0.2, 0.4, 0.3, 0.6, 0.7])
    compare = progress.Progress.compare
    monkeypatch.setattr(progress.Progress, "compare", lambda self, _: compare(self, next(scores)))

    list(train(change_run(config, evaluate_every=1, keep=2), tiny_clip, tmp_path))

    assert [checkpoint.step for checkpoint in checkpoints(tmp_path)] == [2, 5, 6]
    newest = (tmp_path / "checkpoints" / "00000006" / "generator.safetensors").read_bytes()
    assert (tmp_path / "generator.safetensors").read_bytes() == newest


def test_checkpoints_between_evaluations_are_written_too(config, tiny_clip, tmp_path):
    run = train(change_run(config, evaluate_every=100, save_every=2), tiny_clip, tmp_path)
    for _ in range(5):
        next(run)
    run.close()

    assert [checkpoint.step for checkpoint in checkpoints(tmp_path)] == [2, 4]


def test_a_kill_while_a_checkpoint_is_written_costs_only_that_one(
    config, tiny_clip, tmp_path, monkeypatch
):
    whole = list(train(config, tiny_clip, tmp_path / "whole"))
    run = train(config, tiny_clip, tmp_path / "parts")
    for _ in range(5):
        next(run)
    monkeypatch.setattr(torch, "save", lambda _, path: path.write_bytes(b"half") / 0)
    with pytest.raises(ZeroDivisionError):
        next(run)
    monkeypatch.undo()
    left = {path.name for path in (tmp_path / "parts" / "checkpoints").iterdir()}

    rest = list(train(config, tiny_clip, tmp_path / "parts", resume=True))

    assert [*map(numbers, rest)] == [*map(numbers, whole[3:])]
    assert left == {"00000003", "00000006.tmp"}
    names = {path.name for path in (tmp_path / "parts" / "checkpoints").iterdir()}
    assert names == {"00000003", "00000006"}


def test_a_damaged_checkpoint_is_named(config, tiny_clip, tmp_path):
    list(train(config, tiny_clip, tmp_path))
    (tmp_path / "checkpoints" / "00000006" / "state.pt").write_bytes(b"half")

    with pytest.raises(InputError, match=r"00000006.*state\.pt") as caught:
        list(train(config, tiny_clip, tmp_path, resume=True))

    assert "Delete" in caught.value.hint


def test_a_run_is_not_overwritten_and_other_settings_are_not_resumed(config, tiny_clip, tmp_path):
    """Every scale has tensors of the same shapes, so shapes alone would not tell."""
    list(train(config, tiny_clip, tmp_path))
    before = (tmp_path / "generator.safetensors").read_bytes()

    with pytest.raises(InputError, match="6 steps already") as caught:
        list(train(config, tiny_clip, tmp_path))
    assert "--resume" in caught.value.hint
    for change in ({"generator": dataclasses.replace(TINY, scale=8)}, {"seed": 9}, {"ema": 0.5}):
        with pytest.raises(InputError, match=next(iter(change))):
            list(train(dataclasses.replace(config, **change), tiny_clip, tmp_path, resume=True))

    assert (tmp_path / "generator.safetensors").read_bytes() == before


def test_a_finished_run_can_be_made_longer(config, tiny_clip, tmp_path):
    list(train(config, tiny_clip, tmp_path))

    longer = dataclasses.replace(config, steps=8)
    assert [row["step"] for row in train(longer, tiny_clip, tmp_path, resume=True)] == [7, 8]
    assert list(train(longer, tiny_clip, tmp_path, resume=True)) == []


def test_resuming_nothing_begins(config, tiny_clip, tmp_path):
    rows = list(train(config, tiny_clip, tmp_path / "new", resume=True))

    assert len(rows) == 6


def test_a_run_starts_from_given_weights_even_of_another_scale(config, tiny_clip, tmp_path):
    list(train(dataclasses.replace(config, steps=2), tiny_clip, tmp_path / "x4"))
    start = tmp_path / "x4" / "generator.safetensors"
    larger = dataclasses.replace(
        config,
        steps=1,
        generator=dataclasses.replace(TINY, scale=8),
        start=start,
        learning_rate=0.0,
    )

    list(train(larger, tiny_clip, tmp_path / "x8"))

    before, after = read_tensors(start), weights(tmp_path / "x8")
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor)


def test_training_stops_with_advice_when_steps_keep_failing(config, tiny_clip, tmp_path):
    config = change_run(dataclasses.replace(config, learning_rate=1e30), max_skipped=3)

    with pytest.raises(ClipsrError, match="3 steps were not finite") as caught:
        list(train(dataclasses.replace(config, steps=60), tiny_clip, tmp_path))

    assert "--resume" in caught.value.hint
    assert caught.value.exit_code == 1


def test_pictures_none_of_which_can_be_read_are_refused(
    config, source, tiny_clip, tmp_path, caplog
):
    root = tmp_path / "pictures"
    shutil.copytree(source.root, root)
    for path in root.glob("*.png"):
        path.write_bytes(path.read_bytes()[:200])
    config = dataclasses.replace(config, sources=(dataclasses.replace(source, root=root),))

    with pytest.raises(InputError, match="None of the held-back pictures"):
        list(train(config, tiny_clip, tmp_path / "run"))

    assert "Not evaluated on" in caplog.text


def test_a_run_goes_on_where_its_data_have_moved_and_in_another_precision(
    config, source, tiny_clip, tmp_path
):
    list(train(config, tiny_clip, tmp_path / "run"))
    moved = tmp_path / "moved"
    shutil.copytree(source.root, moved)
    there = dataclasses.replace(source, root=moved, exclude=("5.png",))
    longer = dataclasses.replace(config, steps=7, sources=(there,), precision="bf16")

    rows = list(train(longer, tiny_clip, tmp_path / "run", resume=True))

    assert [row["step"] for row in rows] == [7]
    assert build(TrainConfig, read_toml(tmp_path / "run" / "config.toml")) == longer


def test_a_run_killed_before_it_published_publishes_when_resumed(config, tiny_clip, tmp_path):
    list(train(config, tiny_clip, tmp_path))
    newest = (tmp_path / "generator.safetensors").read_bytes()
    shutil.copy(checkpoints(tmp_path)[0].generator, tmp_path / "generator.safetensors")

    list(train(config, tiny_clip, tmp_path, resume=True))

    assert (tmp_path / "generator.safetensors").read_bytes() == newest


def test_a_small_held_back_picture_does_not_stop_a_run(config, source, tiny_clip, tmp_path, photo):
    root = tmp_path / "pictures"
    shutil.copytree(source.root, root)
    held_back = [s.path for s in read_source(source) if s.split == "test"]
    for path, side in zip(held_back, (10, 24), strict=False):
        photo(root / path.name, width=side, height=side)
    config = dataclasses.replace(config, sources=(dataclasses.replace(source, root=root),), steps=1)

    (row,) = train(change_run(config, evaluate_count=9), tiny_clip, tmp_path / "run")

    assert row["test_psnr"] > 5


def test_adversarial_losses_that_never_join_are_told(config, tiny_clip, tmp_path, caplog):
    losses = dataclasses.replace(FULL, adversarial_from=100)
    list(train(dataclasses.replace(config, losses=losses, steps=1), tiny_clip, tmp_path))

    assert "never join" in caplog.text


def test_settings_survive_their_file(config, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(as_toml(config))

    assert build(TrainConfig, read_toml(path)) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"crops": (100,)}, "100"),
        ({"crops": ()}, "crops"),
        ({"crops": (64, 32)}, "perceptual"),
        ({"text_dropout": 1.5}, "1.5"),
        ({"steps": 0}, "steps"),
        ({"sources": ()}, "sources"),
        ({"min_zoom": 0.0}, "min_zoom"),
        ({"schedule": "linear"}, "linear"),
        ({"precision": "fp8"}, "fp8"),
        ({"clip_gradient": -1.0}, "clip_gradient"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"seed": -1}, "seed"),
        ({"short_side": 48}, "short_side"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, change, named):
    with pytest.raises(InputError, match=named):
        dataclasses.replace(config, **change)


def test_run_settings_that_cannot_work_are_refused(config):
    with pytest.raises(InputError, match=r"run\.keep is 0"):
        change_run(config, keep=0)


def test_equal_captions_are_right_answers_to_each_other():
    images = torch.eye(3)
    texts = torch.eye(3)[[0, 0, 2]]
    scale = torch.tensor(20.0)

    shared = contrastive_loss(images[[0, 0, 2]], texts, scale, ["a", "a", "c"])
    apart = contrastive_loss(images[[0, 0, 2]], texts, scale, ["a", "b", "c"])

    assert shared < apart + 1e-6
    assert shared == pytest.approx(2 / 3 * np.log(2), abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sources": ()}, "sources is empty"),
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": -3}, "batch_size is -3"),
        ({"save_every": 0}, "save_every is 0"),
        ({"learning_rate": -1.0}, r"learning_rate is -1\.0"),
        ({"weight_decay": -0.1}, r"weight_decay is -0\.1"),
        ({"warmup": -1}, "warmup is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"patch_dropout": 7.0}, r"patch_dropout is 7\.0"),
        ({"patch_dropout": 1.0}, r"patch_dropout is 1\.0"),
    ],
)
def test_a_wrong_setting_of_a_clip_s_training_is_refused(source, settings, named):
    settings = {"sources": (source,), "architecture": Path("clip.json"), "steps": 1} | settings

    with pytest.raises(InputError, match=named):
        ClipTrainConfig(**settings)


def test_memory_is_shared_by_the_processes_of_a_machine_or_container(monkeypatch):
    monkeypatch.setattr("clipsr_cli.training.parallel.available_memory", lambda: 12_000)
    assert fair_memory() == 12_000

    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert fair_memory() == 3_000


@pytest.mark.parametrize(
    ("name", "gpu", "local", "own"),
    [
        ("auto", False, None, "cpu"),
        ("auto", False, "1", "cpu"),
        ("auto", True, None, "auto"),
        ("auto", True, "1", "cuda:1"),
        ("cuda", True, "1", "cuda:1"),
        ("cuda:1", True, None, "cuda:1"),
        ("cpu", True, "1", "cpu"),
    ],
)
def test_each_process_takes_a_device_that_training_runs_on(monkeypatch, name, gpu, local, own):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    if local is not None:
        monkeypatch.setenv("LOCAL_RANK", local)
        monkeypatch.setenv("WORLD_SIZE", "2")

    assert own_device(name) == own


def test_a_device_that_training_cannot_share_or_use_is_refused(monkeypatch):
    with pytest.raises(DeviceError, match="mps"):
        own_device("mps")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match="2 processes"):
        own_device("cuda:0")


def test_a_clip_learns_and_a_resumed_one_equals_an_uninterrupted_one(source, tmp_path):
    settings = ClipTrainConfig(
        sources=(source,),
        architecture=Path(__file__).parents[1] / "data" / "tiny-clip.json",
        steps=31,
        save_every=15,
        batch_size=8,
        learning_rate=3e-3,
        warmup=2,
        patch_dropout=0.5,
    )

    whole = list(train_clip(settings, tmp_path / "whole.pt"))
    run = train_clip(settings, tmp_path / "parts.pt")
    while "recall@1" not in next(run):
        pass
    run.close()
    rest = list(train_clip(settings, tmp_path / "parts.pt"))

    losses = [row["loss"] for row in whole if "loss" in row]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.2
    assert rest[0]["step"] == 16
    assert 0 <= whole[-1]["recall@1"] <= whole[-1]["recall@5"] <= 1
    a, b = (
        torch.load(tmp_path / name, weights_only=True)["model"] for name in ("whole.pt", "parts.pt")
    )
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_retrieval_of_a_perfect_clip_is_perfect(source, tiny_clip, monkeypatch):
    pictures = Pictures([source], "test", captioned=True)
    captions = [sample.captions[0] for sample in pictures.samples]
    order = iter(range(len(captions)))
    monkeypatch.setattr(
        tiny_clip,
        "text",
        lambda texts: torch.eye(len(captions))[[captions.index(t) for t in texts]],
    )
    monkeypatch.setattr(tiny_clip, "image", lambda _: torch.eye(len(captions))[[next(order)]])

    scores = retrieval(tiny_clip, pictures)

    assert scores["recall@1"] == 1
    assert scores["chance@1"] == pytest.approx(1 / len(captions))
