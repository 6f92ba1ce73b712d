"""``clipsr train``: recipes, flags over them, resuming, and refusals before any work."""

import json

import numpy as np
import pytest
from PIL import Image

from clipsr_cli.checkpoints import read_header, read_tensors

SMALL = """
batch_size = 2
crops = [64]

[generator]
scale = 4
widths = [8, 8, 8, 16]
encoder_blocks = [1, 1, 1, 1]
decoder_blocks = [1, 1, 1, 1]
head_widths = [8, 8]
text_hidden = 8

[discriminator]
channels = 8
head_channels = 8

[losses]
adversarial_from = 1

[run]
evaluate_count = 1
sheet_rows = 1
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """A tiny CUB in its official layout: four birds, three to train on."""
    root = tmp_path_factory.mktemp("cub") / "CUB_200_2011"
    names = [f"001.Red_Bird/Red_Bird_{index}" for index in range(4)]
    rng = np.random.default_rng(0)
    for name in names:
        path = root / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((120, 90), Image.Resampling.BICUBIC).save(path)
    files = {
        "images.txt": [f"{name}.jpg" for name in names],
        "bounding_boxes.txt": ["20.0 10.0 60.0 60.0"] * 4,
        "train_test_split.txt": ["1", "1", "1", "0"],
        "image_class_labels.txt": ["1"] * 4,
    }
    for name, lines in files.items():
        (root / name).write_text("".join(f"{i} {line}\n" for i, line in enumerate(lines, 1)))
    (root / "classes.txt").write_text("1 001.Red_Bird\n")
    return root.parent


def test_a_dataset_is_trained_on_and_the_result_upscales(run, recipe, birds, tmp_path, photo):
    out = tmp_path / "run"
    export = tmp_path / "mine.safetensors"

    result = run(
        "train", recipe, "--dataset", "cub", "--data-root", birds, "--scale", 8, "-o", out,
        "--max-steps", 2, "--device", "cpu", "--export", export, "--json",
    )  # fmt: skip

    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    closing = json.loads(line)
    assert closing["step"] == 2
    assert closing["generator"] == str(export)
    assert {"test_psnr", "bicubic_psnr", "adversarial"} <= closing.keys()
    assert "PSNR" in result.stderr
    header = read_header(export)
    assert (header.config.scale, header.notes["dataset"]) == (8, "cub")
    assert export.stat().st_size < 0.7 * (out / "generator.safetensors").stat().st_size
    small = photo(tmp_path / "small.png")
    upscaled = run("upscale", small, "-m", export, "-s", 8, "-o", tmp_path / "big")
    assert upscaled.exit_code == 0
    assert (tmp_path / "big" / "small_x8.png").is_file()


def test_a_run_is_resumed_from_its_folder_alone(run, recipe, birds, tmp_path):
    data = ("--dataset", "cub", "--data-root", birds)
    assert run("train", recipe, *data, "--max-steps", 2, "-o", tmp_path / "a").exit_code == 0
    again = run("train", recipe, *data, "--max-steps", 2, "-o", tmp_path / "a")
    assert again.exit_code == 2
    assert "--resume" in again.stderr

    longer = run("train", "--resume", "-o", tmp_path / "a", "--max-steps", 3)

    assert longer.exit_code == 0
    header = read_header(tmp_path / "a" / "generator.safetensors")
    assert header.notes["steps"] == "3"
    assert len(read_tensors(tmp_path / "a" / "generator.safetensors")) > 50


def test_a_runs_own_settings_are_a_recipe_that_goes_on_where_it_was(run, recipe, birds, tmp_path):
    data = ("--dataset", "cub", "--data-root", birds)
    assert run("train", recipe, *data, "--max-steps", 1, "-o", tmp_path / "a").exit_code == 0

    longer = run("train", tmp_path / "a" / "config.toml", "--resume", "--max-steps", 2)
    moved = run("train", "--resume", "-o", tmp_path / "a", *data[2:], "--max-steps", 3)

    assert (longer.exit_code, moved.exit_code) == (0, 0)
    assert read_header(tmp_path / "a" / "generator.safetensors").notes["steps"] == "3"


def test_any_setting_can_be_given(run, recipe, birds, tmp_path):
    result = run(
        "train", recipe, "--dataset", "cub", "--data-root", birds, "--max-steps", 1,
        "-o", tmp_path / "a", "--set", "losses.clip=0", "--set", "generator.widths=[8, 8, 8, 24]",
        "--set", "licence=for birds only", "--set", "losses.adversarial=0.0", "-q",
    )  # fmt: skip

    assert (result.exit_code, result.stderr) == (0, "")
    header = read_header(tmp_path / "a" / "generator.safetensors")
    assert header.config.widths[3] == 24
    assert header.notes["licence"] == "for birds only"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--max-steps", "1"], "Nothing says what to train on"),
        (["--dataset", "cub", "--max-steps", "1"], "Give --data-root"),
        (["--dataset", "cub", "--data-root", "."], "Give --max-steps"),
        (["--dataset", "cubs", "--data-root", ".", "--max-steps", "1"], "Did you mean 'cub'"),
        (["--dataset", "cub", "--data-root", ".", "--max-steps", "1"], "clipsr data check cub"),
        (["--dataset", "cub", "--data-root", ".", "--max-steps", "1", "--scale", "5"], "--scale"),
        (["--max-steps", "1", "--set", "losses"], "NAME=VALUE"),
        (["--max-steps", "1", "--set", "crops.x=1", "--set", "crops=[64]"], "Nothing says what"),
        (["--max-steps", "1", "--set", "steps=1", "--set", "steps.x=1"], "no table"),
        (["--data-root", ".", "--max-steps", "1"], "has 0 sources"),
        (["--export", "mine.pt"], ".safetensors"),
        (["--export", "gone.toml/mine.safetensors", "gone.toml"], "gone.toml"),
        (["--set", "sources=5", "--max-steps", "1"], "list of tables"),
        (["--set", "generator=5", "--set", "sources=[{root='x'}]"], "generator is 5"),
        (["--set", "sources=[{root='gone'}]", "--max-steps", "1"], "gone"),
        (["--device", "cud"], "cud"),
        (["--precision", "fp8"], "fp8"),
        (["gone.toml"], "gone.toml"),
    ],
)
def test_what_cannot_work_is_refused_with_the_next_thing_to_type(run, tmp_path, arguments, named):
    result = run("train", *arguments, "-o", tmp_path / "run")

    assert result.exit_code == 2
    assert named in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_mistyped_setting_gets_the_nearest_name(run, recipe, birds, tmp_path):
    result = run(
        "train", recipe, "--dataset", "cub", "--data-root", birds, "--max-steps", 1,
        "-o", tmp_path / "run", "--set", "losses.percptual=1",
    )  # fmt: skip

    assert result.exit_code == 2
    assert "Did you mean losses.perceptual?" in result.stderr


def test_the_root_of_a_recipes_only_source_can_be_given(run, recipe, birds, tmp_path):
    recipe.write_text(SMALL + '[[sources]]\ndataset = "cub"\nroot = "elsewhere"\n')

    moved = run("train", recipe, "--data-root", birds, "--max-steps", 1, "-o", tmp_path / "a")
    elsewhere = run("train", recipe, "--max-steps", 1, "-o", tmp_path / "b")

    assert moved.exit_code == 0
    assert elsewhere.exit_code == 2
    assert "elsewhere" in elsewhere.stderr


def celeba(root, photo):
    for index in range(3):
        photo(root / f"CelebA/image/{index:05}.jpg", width=80, height=80, seed=index)
        (root / "CelebA/text").mkdir(exist_ok=True)
        (root / f"CelebA/text/{index:05}.txt").write_text("She smiles.\nA woman with brown hair.\n")
    return ()


def coco(root, photo):
    for number, half in enumerate(("train2017", "val2017")):
        photo(root / half / f"{number:012}.jpg", width=90, height=70, seed=number)
        path = root / f"annotations/captions_{half}.json"
        path.parent.mkdir(exist_ok=True)
        images = [{"id": 9, "file_name": f"{number:012}.jpg"}]
        annotations = [{"id": n, "image_id": 9, "caption": f"Dog {n} runs."} for n in range(5)]
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return ()


def videos(held_back, trained, root, photo):
    """A video of a category of the first group, and one of another."""
    objects = {"v1": held_back, "v2": trained}
    for index, video in enumerate(objects):
        photo(root / f"train/JPEGImages/{video}/00000.jpg", width=70, height=70, seed=index)
    meta = {v: {"objects": {"1": {"category": c}}} for v, c in objects.items()}
    expressions = {
        v: {"expressions": {"0": {"exp": f"the {c}", "obj_id": "1"}}, "frames": ["00000"]}
        for v, c in objects.items()
    }
    for path, content in (
        ("train/meta.json", meta),
        ("meta_expressions/train/meta_expressions.json", expressions),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(json.dumps({"videos": content}))
    return ("--group", 1)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("celeba", celeba),
        ("coco", coco),
        ("ref-ytvos", lambda *given: videos("hat", "plant", *given)),
        ("ref-sailvos", lambda *given: videos("dog", "car", *given)),
    ],
)
def test_every_dataset_of_the_paper_is_trained_on(run, recipe, tmp_path, photo, name, make):
    more = make(tmp_path / "data", photo)

    checked = run("data", "check", name, "--data-root", tmp_path / "data", *more)
    trained = run(
        "train", recipe, "--dataset", name, "--data-root", tmp_path / "data", *more,
        "--max-steps", 1, "-o", tmp_path / "run", "--json",
    )  # fmt: skip

    assert checked.exit_code == 0
    assert trained.exit_code == 0
    assert json.loads(trained.stdout)["test_psnr"] > 5
    assert (tmp_path / "run" / "samples" / "00000001.png").is_file()
