"""Training: it learns, it stops and resumes as if it had not, and it refuses what cannot work."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clipsr_cli.checkpoints import load_generator, read_tensors
from clipsr_cli.errors import InputError, UnknownNameError
from clipsr_cli.models.generator import GeneratorConfig
from clipsr_cli.training import train
from clipsr_cli.training.config import ClipTrainConfig, Source, TrainConfig
from clipsr_cli.training.contrastive import contrastive_loss, retrieval, train_clip
from clipsr_cli.training.data import Pictures, random_crop, training_batch
from clipsr_cli.training.losses import ReconstructionLoss
from clipsr_cli.training.steps import MovingAverage, generator_step, learning_rate_factor

TINY = GeneratorConfig(
    scale=4,
    widths=(8, 8, 8, 16),
    encoder_blocks=(1, 1, 1, 1),
    decoder_blocks=(1, 1, 1, 1),
    head_widths=(8, 8),
    text_hidden=8,
    prompts=2,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Twelve small pictures with two captions each, some of them held back."""
    from PIL import Image

    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(12):
        name = f"{index}.png"
        pixels = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((84, 72), Image.Resampling.BICUBIC).save(root / name)
        rows.append({"file_name": name, "text": [f"picture {index}", f"number {index}"]})
    rows[3]["text"] = []
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Source(root=root, held_back=0.3)


@pytest.fixture
def config(source):
    return TrainConfig(
        generator=TINY,
        sources=(source,),
        steps=6,
        crops=(64,),
        batch_size=2,
        evaluate_every=3,
        evaluate_count=2,
        warmup=2,
        device="cpu",
    )


def test_a_resumed_run_equals_an_uninterrupted_one(config, tiny_clip, tmp_path):
    whole = list(train(config, tiny_clip, tmp_path / "whole"))

    run = train(config, tiny_clip, tmp_path / "parts")
    first = [next(run) for _ in range(4)]
    run.close()
    rest = list(train(config, tiny_clip, tmp_path / "parts"))

    assert [row["step"] for row in rest] == [4, 5, 6]
    assert [row["l1"] for row in whole] == [row["l1"] for row in (first[:3] + rest)]
    a, b = (read_tensors(tmp_path / name / "generator.safetensors") for name in ("whole", "parts"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_training_lowers_the_loss_and_writes_a_usable_generator(config, tiny_clip, tmp_path):
    config = dataclasses.replace(
        config, steps=40, learning_rate=3e-3, lpips_weight=0.0, crops=(32,)
    )

    rows = list(train(config, tiny_clip, tmp_path))

    generator = load_generator(tmp_path / "generator.safetensors", tiny_clip)
    last = rows[-1]
    assert last["val_psnr"] > last["bicubic_psnr"]
    assert generator(torch.rand(1, 3, 8, 8), tiny_clip.text(["a"])).shape == (1, 3, 32, 32)


def test_a_state_of_other_settings_is_not_resumed(config, tiny_clip, tmp_path):
    """Every scale has tensors of the same shapes, so shapes alone would not tell."""
    list(train(dataclasses.replace(config, steps=2), tiny_clip, tmp_path))
    before = (tmp_path / "generator.safetensors").read_bytes()

    for change in ({"generator": dataclasses.replace(TINY, scale=8)}, {"seed": 9}, {"steps": 3}):
        with pytest.raises(InputError, match=next(iter(change))):
            list(train(dataclasses.replace(config, **{"steps": 2} | change), tiny_clip, tmp_path))

    assert (tmp_path / "generator.safetensors").read_bytes() == before


def test_lpips_works_at_the_smallest_crop_and_every_shift(config):
    loss, images = ReconstructionLoss(config), torch.rand(1, 3, 64, 64)

    for step in range(16):
        assert torch.isfinite(loss(images, images.flip(3), step)["lpips"])


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

    before, after = read_tensors(start), read_tensors(tmp_path / "x8" / "generator.safetensors")
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor)


def test_batches_depend_on_seed_and_step_alone(config, source):
    pictures = Pictures([source], "train")
    settings = {
        "scale": 4,
        "crops": (32,),
        "batch_size": 3,
        "min_zoom": 0.5,
        "text_dropout": 0.5,
    }
    one, same, other, reseeded = (
        training_batch(pictures, step, seed=seed, **settings)
        for seed, step in ((0, 7), (0, 7), (0, 8), (1, 7))
    )

    assert torch.equal(one.high, same.high)
    assert one.prompts == same.prompts
    assert not torch.equal(one.high, other.high)
    assert not torch.equal(one.high, reseeded.high)
    assert one.low.shape == (3, 3, 8, 8)


def test_text_is_dropped_as_often_as_asked(config, source):
    pictures = Pictures([source], "train", captioned=True)
    settings = {"seed": 0, "scale": 4, "crops": (32,), "batch_size": 200, "min_zoom": 1.0}

    share = {
        dropout: training_batch(pictures, 0, text_dropout=dropout, **settings).prompts.count("")
        / 200
        for dropout in (0.0, 0.1, 1.0)
    }

    assert share[0.0] == 0
    assert 0.03 < share[0.1] < 0.2
    assert share[1.0] == 1


def test_sources_are_drawn_by_weight_and_leave_out_what_is_excluded(config, source):
    heavy = dataclasses.replace(source, weight=3.0, exclude=("0.png", "1.png"))
    light = dataclasses.replace(source, weight=1.0, exclude=tuple(f"{i}.png" for i in range(2, 12)))
    pictures = Pictures([heavy, light], "train")
    rng = np.random.default_rng(0)

    names = [pictures.samples[pictures.draw(rng)].path.name for _ in range(2000)]

    assert 0.2 < sum(name in ("0.png", "1.png") for name in names) / 2000 < 0.3


@pytest.mark.parametrize("shape", [(40, 60), (64, 64), (200, 90)])
def test_a_crop_has_its_side_whatever_the_picture(shape):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)

    for _ in range(5):
        crop = random_crop(pixels, 64, rng, min_zoom=0.3)
        assert crop.shape == (3, 64, 64)
        assert 0 <= crop.min() <= crop.max() <= 1


def test_a_step_that_is_not_finite_changes_nothing(config, make_generator, tiny_clip):
    generator = make_generator(4)
    learned = [p for p in generator.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(learned, lr=1.0)
    before = {k: v.clone() for k, v in generator.learned_state().items()}
    high = torch.full((1, 3, 32, 32), float("nan"))

    values = generator_step(
        generator,
        optimiser,
        ReconstructionLoss(dataclasses.replace(config, lpips_weight=0.0)),
        (high, torch.rand(1, 3, 8, 8), tiny_clip.text(["a"])),
        step=0,
        clip_gradient=1.0,
    )

    assert values["skipped"] == 1
    assert all(torch.equal(v, before[k]) for k, v in generator.learned_state().items())


def test_lpips_joins_when_told_and_each_term_can_be_left_out(config):
    loss = ReconstructionLoss(dataclasses.replace(config, lpips_from=5))
    images = torch.rand(1, 3, 64, 64)

    assert loss(images, images, 4).keys() == {"l1"}
    assert loss(images, images, 5).keys() == {"l1", "lpips"}
    assert ReconstructionLoss(dataclasses.replace(config, lpips_weight=0.0))(
        images, images, 9
    ).keys() == {"l1"}


def test_lpips_sees_every_phase_of_its_grid(config):
    """A picture and its copy with one changed column differ by another amount at each shift."""
    loss = ReconstructionLoss(config)
    high = torch.rand(1, 3, 64, 64)
    fake = high.clone()
    fake[:, :, :, 33] = 0

    distances = {round(loss(fake, high, step)["lpips"].item(), 7) for step in range(16)}

    assert len(distances) >= 4


def test_the_learning_rate_warms_up_then_falls():
    factors = [learning_rate_factor(step, warmup=10, steps=100) for step in range(100)]

    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert factors[-1] < 0.02


def test_the_moving_average_follows_slowly():
    average = MovingAverage({"w": torch.zeros(1)}, decay=0.9)
    for step in range(200):
        average.update({"w": torch.ones(1)}, step)

    assert 0.99 < average.state["w"].item() < 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"crops": (100,)}, "100"),
        ({"crops": (64, 32)}, "LPIPS"),
        ({"text_dropout": 1.5}, "1.5"),
        ({"steps": 0}, "steps"),
        ({"sources": ()}, "sources"),
    ],
)
def test_settings_that_cannot_work_are_refused(config, change, named):
    with pytest.raises(InputError, match=named):
        dataclasses.replace(config, **change)


def test_wrong_sources_are_refused(source, tmp_path):
    with pytest.raises(InputError, match="weight"):
        dataclasses.replace(source, weight=0.0)
    with pytest.raises(UnknownNameError, match="foldr"):
        Pictures([dataclasses.replace(source, dataset="foldr")], "train")
    everything = tuple(f"{i}.png" for i in range(12))
    with pytest.raises(InputError, match="no picture"):
        Pictures([dataclasses.replace(source, exclude=everything)], "train")


def test_equal_captions_are_right_answers_to_each_other():
    images = torch.eye(3)
    texts = torch.eye(3)[[0, 0, 2]]
    scale = torch.tensor(20.0)

    shared = contrastive_loss(images[[0, 0, 2]], texts, scale, ["a", "a", "c"])
    apart = contrastive_loss(images[[0, 0, 2]], texts, scale, ["a", "b", "c"])

    assert shared < apart + 1e-6
    assert shared == pytest.approx(2 / 3 * np.log(2), abs=1e-3)


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


def test_retrieval_of_a_perfect_clip_is_perfect(config, source, tiny_clip, monkeypatch):
    pictures = Pictures([source], "val", captioned=True)
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
