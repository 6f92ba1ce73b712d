"""Batches depend on the seed and the step alone, and their wrong texts are wrong."""

import dataclasses
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from clipsr_cli.degradation import DegradationConfig, shrink
from clipsr_cli.errors import ImageError, InputError, UnknownNameError
from clipsr_cli.training.config import Source
from clipsr_cli.training.data import Cutter, Cutting, Pictures, random_crop

CUTTING = Cutting(
    seed=0,
    scale=4,
    crops=(32,),
    batch_size=3,
    min_zoom=0.5,
    text_dropout=0.5,
    degradation=DegradationConfig(),
)


@pytest.fixture(scope="module")
def pictures(source):
    return Pictures([source], "train", captioned=True)


@pytest.fixture
def cut(pictures):
    """Cuts one step's batch with changed settings."""
    with ThreadPoolExecutor(2) as threads:
        yield lambda step, **changes: Cutter(
            pictures, dataclasses.replace(CUTTING, **changes), threads
        ).batch(step)


def test_batches_depend_on_seed_and_step_alone(cut, pictures):
    one, same, other, reseeded = cut(7), cut(7), cut(8), cut(7, seed=1)
    with ThreadPoolExecutor(1) as threads:
        cutter = Cutter(pictures, CUTTING, threads)
        in_a_row = [cutter.batch(step) for step in range(8)][7]

    assert torch.equal(one.high, same.high)
    assert torch.equal(one.high, in_a_row.high)
    assert one.prompts == same.prompts == in_a_row.prompts
    assert not torch.equal(one.high, other.high)
    assert not torch.equal(one.high, reseeded.high)
    assert one.low.shape == (3, 3, 8, 8)


def test_the_small_pictures_are_the_evaluation_kernels_by_default(cut):
    batch = cut(0)

    assert torch.equal(batch.low, shrink(batch.high, 4))


def test_a_degradation_changes_the_small_pictures_alone(cut):
    clean, worn = cut(3), cut(3, degradation=DegradationConfig(clean=0.0, jpeg=1.0))

    assert torch.equal(clean.high, worn.high)
    assert not torch.equal(clean.low, worn.low)


def test_the_parts_of_several_processes_make_the_whole_batch(cut):
    whole = cut(5, batch_size=4)
    parts = [cut(5, batch_size=2, rank=rank, count=2) for rank in range(2)]

    assert torch.equal(whole.high, torch.cat([part.high for part in parts]))
    assert whole.prompts == parts[0].prompts + parts[1].prompts
    assert whole.wrong == parts[0].wrong + parts[1].wrong


def test_text_is_dropped_as_often_as_asked(cut):
    share = {
        dropout: cut(0, batch_size=200, text_dropout=dropout).prompts.count("") / 200
        for dropout in (0.0, 0.1, 1.0)
    }

    assert share[0.0] == 0
    assert 0.03 < share[0.1] < 0.2
    assert share[1.0] == 1


def test_a_wrong_text_is_another_pictures(cut):
    """Captions are "picture N" and "number N"."""
    batch = cut(0, batch_size=40, text_dropout=0.0)

    for prompt, wrong in zip(batch.prompts, batch.wrong, strict=True):
        assert wrong
        assert wrong.split()[1] != prompt.split()[1]


def test_where_all_texts_are_the_same_none_is_wrong(tmp_path, photo):
    for index in range(3):
        photo(tmp_path / f"{index}.png", seed=index, width=40, height=40)
    rows = [{"file_name": f"{i}.png", "text": "a bird", "split": "train"} for i in range(3)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with ThreadPoolExecutor(1) as threads:
        batch = Cutter(Pictures([Source(root=tmp_path)], "train"), CUTTING, threads).batch(0)

    assert batch.wrong == ["", "", ""]


def test_a_broken_picture_is_told_once_and_another_takes_its_place(source, tmp_path, caplog):
    root = tmp_path / "pictures"
    shutil.copytree(source.root, root)
    there = dataclasses.replace(source, root=root)
    pictures = Pictures([there], "train", captioned=True)
    broken = pictures.samples[0].path
    broken.write_bytes(broken.read_bytes()[:200])

    def prompts():
        cutting = dataclasses.replace(CUTTING, batch_size=4, text_dropout=0.0)
        with ThreadPoolExecutor(2) as threads:
            cutter = Cutter(Pictures([there], "train", captioned=True), cutting, threads)
            return [prompt for step in range(10) for prompt in cutter.batch(step).prompts]

    drawn = prompts()
    assert caplog.text.count("Left out") == 1
    assert str(broken) in caplog.text
    assert broken.stem not in {prompt.split()[1] for prompt in drawn}
    assert drawn == prompts()
    for sample in pictures.samples:
        sample.path.write_bytes(b"no picture")
    with pytest.raises(ImageError):
        prompts()


def test_pictures_that_do_not_fit_into_memory_are_read_again(source):
    kept, forgotten = Pictures([source], "train"), Pictures([source], "train", memory=0)

    assert kept.pixels(0) is kept.pixels(0)
    assert forgotten.pixels(0) is not forgotten.pixels(0)
    assert np.array_equal(kept.pixels(0), forgotten.pixels(0))


def test_sources_are_drawn_by_weight_and_leave_out_what_is_excluded(source):
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


def test_wrong_sources_are_refused(source):
    with pytest.raises(InputError, match="weight"):
        dataclasses.replace(source, weight=0.0)
    with pytest.raises(UnknownNameError, match="foldr"):
        Pictures([dataclasses.replace(source, dataset="foldr")], "train")
    everything = tuple(f"{i}.png" for i in range(12))
    with pytest.raises(InputError, match="no picture"):
        Pictures([dataclasses.replace(source, exclude=everything)], "train")
