"""A model card says what the file says of itself, in the form that the Hub reads."""

import pytest
import yaml

from clipsr_cli import hub
from clipsr_cli.cards import model_card
from clipsr_cli.checkpoints import read_header, save_generator


@pytest.fixture
def card(make_generator, tmp_path):
    def make(scale=4, **notes):
        generator = make_generator(scale)
        path = tmp_path / "my-x4.safetensors"
        save_generator(
            generator.learned_state(), generator.config, "clip-vit-b-32", path, notes=notes
        )
        return model_card(path, read_header(path), "owner/repo"), path

    return make


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_it_says_what_the_header_says(card):
    text, path = card(8, dataset="cub", steps="1200", licence="MIT")

    front = front_matter(text)
    assert (front["license"], front["library_name"]) == ("mit", "clipsr")
    assert front["pipeline_tag"] == "image-to-image"
    assert "super-resolution" in front["tags"]
    for words in (
        "# repo\n",
        "| enlarges | x8 |",
        "| CLIP | clip-vit-b-32 |",
        "| dataset | cub |",
        "| steps | 1200 |",
        f"| sha256 | {hub.sha256(path)} |",
        "clipsr upscale photo.jpg --scale 8 -m hf://owner/repo/my-x4.safetensors",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("licence", "front"),
    [
        (None, {"license": "unknown"}),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("research only!", {"license": "other", "license_name": "research-only"}),
        ("!", {"license": "other", "license_name": "other"}),
    ],
)
def test_the_licence_is_one_the_hub_knows_or_other(card, licence, front):
    text, _ = card(**({"licence": licence} if licence else {}))

    assert front.items() <= front_matter(text).items()


def test_no_note_can_break_the_table_or_the_front_matter(card):
    text, _ = card(dataset="a | b\n---\n<script>`x`", licence="x\n---\ny: z")

    assert front_matter(text)["license_name"] == "x-y-z"
    assert r"| dataset | a \| b --- \<script\>\`x\` |" in text
