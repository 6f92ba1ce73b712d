"""``clipsr weights import`` turns the authors' checkpoint into a file for ``--model``."""

import json
import os
from functools import partial

import pytest
import torch
from PIL import Image

from clipsr_cli import released_checkpoint
from clipsr_cli.checkpoints import read_header
from clipsr_cli.models.released import ReleasedConfig
from clipsr_cli.released_checkpoint.layout import dropped_shapes, kept_shapes

# As wide as the embedded CLIP's text vectors, and else as small as can be.
TINY = ReleasedConfig(text_dim=256, widths=(8, 8, 8, 8), bottleneck=4, head_width=4)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    convert = partial(released_checkpoint.import_released, config=TINY)
    monkeypatch.setattr(released_checkpoint, "import_released", convert)


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a small checkpoint; what does not matter takes no room in it."""

    def write(**beside):
        torch.manual_seed(0)
        netg = {name: torch.randn(shape) / 4 for name, shape in kept_shapes(TINY).items()}
        netg |= {name: torch.zeros(1).expand(shape) for name, shape in dropped_shapes().items()}
        path = tmp_path / "state_epoch_220.pth"
        torch.save({"model": {"netG": netg}} | beside, path)
        return path

    return write


@pytest.fixture
def optimisers():
    def write(moved):
        """Adam's state: every tensor that is kept got a gradient, and as chosen the others."""
        shapes = kept_shapes(TINY) | dropped_shapes()
        known = kept_shapes(TINY)
        state = {
            number: {"step": 12} | dict.fromkeys(("exp_avg", "exp_avg_sq"), torch.ones(1).expand(s))
            for number, (name, s) in enumerate(shapes.items())
            if moved or name in known
        }
        group = {"params": list(range(len(shapes)))}
        return {"optimizer_G": {"state": state, "param_groups": [group]}}

    return write


def test_it_says_what_it_found_and_what_to_type_next(run, checkpoint, optimisers, tmp_path):
    output = tmp_path / "new folder" / "cub.safetensors"

    result = run(
        "weights", "import", checkpoint(epoch=220, optimizers=optimisers(False)), "-o", output
    )

    assert result.exit_code == 0
    for words in (
        "Epoch: 220, 12 steps",
        "parameters, in fp16",
        "Dropped, as they do not reach the picture: 109,293,940 parameters",
        "frozen CLIP tower 87,454,464",
        "rest of its branch 15,575,680",
        "unused layers 6,263,796",
        "it never learned",
        "Licence: none is stated",
        f"Written: {output}",
    ):
        assert words in result.stdout
    assert "clipsr weights pull clip-vit-b-32" in result.stderr
    assert f"Next: clipsr upscale PICTURE -m '{output}' --prompt " in result.stderr
    header = read_header(output)
    assert (header.clip, header.notes["epoch"]) == ("clip-vit-b-32", "220")


def test_json_says_the_same_to_programs(run, checkpoint, optimisers, tmp_path):
    output = tmp_path / "cub.safetensors"
    path = checkpoint(optimizers=optimisers(True))

    result = run("weights", "import", path, "-o", output, "--full-precision", "--json")

    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found.pop("next").startswith(f"clipsr upscale PICTURE -m {output} ")
    assert found.pop("kept") > 0
    assert found == {
        "output": str(output),
        "clip": "clip-vit-b-32",
        "precision": "fp32",
        "epoch": None,
        "steps": 12,
        "mapping": "trained",
        "dropped": {"clip_tower": 87_454_464, "mapping": 15_575_680, "unused": 6_263_796},
    }


def test_the_file_is_good_for_upscale(run, checkpoint, photo, tmp_path):
    output = tmp_path / "cub.safetensors"
    picture = photo(tmp_path / "a.png", width=100, height=70)

    imported = run("weights", "import", checkpoint(), "-o", output, "--clip", "clipsr-clip-mini")
    upscaled = [
        run("upscale", picture, "-m", output, "-o", tmp_path / prompt, "--prompt", prompt)
        for prompt in ("red", "blue")
    ]

    assert [r.exit_code for r in (imported, *upscaled)] == [0, 0, 0]
    assert "Epoch: unknown\n" in imported.stdout
    assert "cannot be told" in imported.stdout
    written = [next((tmp_path / prompt).iterdir()) for prompt in ("red", "blue")]
    with Image.open(written[0]) as image:
        assert image.size == (400, 280)
    assert written[0].read_bytes() != written[1].read_bytes()


def test_another_scale_is_refused_by_upscale(run, checkpoint, photo, tmp_path):
    output = tmp_path / "cub.safetensors"
    run("weights", "import", checkpoint(), "-o", output)

    result = run("upscale", photo(tmp_path / "a.png"), "-m", output, "-s", 8, "-o", tmp_path)

    assert result.exit_code == 2
    assert "x4, not x8" in result.stderr


def test_a_clip_may_be_a_file_and_then_nothing_is_to_be_pulled(run, checkpoint, tmp_path):
    output, clip = tmp_path / "cub.safetensors", "ViT-B-32-quickgelu:mine.safetensors"

    result = run("weights", "import", checkpoint(), "-o", output, "--clip", clip)

    assert result.exit_code == 0
    assert "pull" not in result.stderr
    assert read_header(output).clip == clip


def test_an_output_that_exists_is_replaced_only_when_asked(run, checkpoint, tmp_path):
    output = tmp_path / "cub.safetensors"
    output.write_bytes(b"precious")
    path = checkpoint()

    refused = run("weights", "import", path, "-o", output)

    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert output.read_bytes() == b"precious"
    assert run("weights", "import", path, "-o", output, "--overwrite").exit_code == 0
    assert read_header(output).architecture == "clip-sr-released"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-o", "cub.pth"), r"must end in .safetensors"),
        (("-o", "."), r"must end in .safetensors"),
        (("-o", "cub.safetensors", "--clip", "clip-vit-b-23"), "clip-vit-b-32"),
    ],
)
def test_a_slip_is_refused_before_anything_is_read(run, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)

    result = run("weights", "import", "gone.pth", *arguments)

    assert result.exit_code == 2
    assert named in result.stderr
    assert list(tmp_path.iterdir()) == []


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def test_a_checkpoint_that_cannot_be_used_is_exit_4_and_writes_nothing(run, checkpoint, tmp_path):
    output = tmp_path / "cub.safetensors"

    missing = run("weights", "import", tmp_path / "gone.pth", "-o", output)
    evil = run("weights", "import", checkpoint(epoch=Evil()), "-o", output)

    assert (missing.exit_code, evil.exit_code) == (4, 4)
    assert "gone.pth: No such file" in missing.stderr
    assert "would run" in evil.stderr
    assert not output.exists()
