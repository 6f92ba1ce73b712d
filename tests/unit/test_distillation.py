"""What scripts/distil_clip.py teaches is learned; made-up places stand in for its teacher's."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tomli_w
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from clipsr_cli.errors import InputError
from clipsr_cli.evaluation.pairs import to_tensor
from clipsr_cli.models.clip import Clip
from clipsr_cli.training.config import ClipTrainConfig
from clipsr_cli.training.data import Pictures

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "data" / "tiny-clip.json"
# Lines of WordNet's data.noun, with a colour below a colour, and a thing that cannot be seen.
WORDNET = """\
  1 This is a licence.
01 07 n 01 red 0 001 @ 09 n 0000 | red color or pigment; "the hue of blood"
02 07 n 02 scarlet 0 vermilion 1 001 @ 01 n 0000 | a variable color that is vivid red
03 05 n 02 kingfisher 0 Old_World_kingfisher 0 001 @ 09 n 0000 | nonpasserine large-headed bird; it dives
04 09 n 01 thought 0 001 @ 09 n 0000 | the content of cognition
05 06 n 02 stone_house 0 castle 0 001 @ 09 n 0000 | a large building formerly occupied by a ruler
09 03 n 01 entity 0 000 | that which is perceived
"""  # noqa: E501


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        # As python puts it for a script.
        patch.syspath_prepend(ROOT / "scripts")
        return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "distil_clip.py")))


@pytest.fixture(scope="module")
def teaching():
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "teaching_texts.py")))


@pytest.fixture
def words(teaching, tmp_path):
    (tmp_path / "data.noun").write_text(WORDNET, encoding="latin-1")
    return teaching.read_wordnet(tmp_path)


def test_wordnet_gives_what_can_be_seen_and_which_colour_a_shade_is(words):
    nouns, glosses, shades = words

    assert nouns == ["castle", "kingfisher", "stone house"]
    assert glosses == [
        "nonpasserine large-headed bird",
        "stone house: a large building formerly occupied by a ruler",
    ]
    assert (shades["scarlet"], shades["vermilion"], shades["red"]) == ("red", "red", "red")
    assert "thought" not in shades


def test_a_text_stands_beside_its_plainer_words(teaching, words):
    pairs = teaching.make_texts(*words, ["a red bird"], np.random.default_rng(0))

    said = [text for text, _ in pairs]
    assert {"a red bird", "castle", "goldfish"} <= set(said)
    assert not any("{" in text for text in said)
    changed = [(text, plain) for text, plain in pairs if text != plain]
    assert changed
    assert all({*text.split()} & {"scarlet", "vermilion"} for text, _ in changed)
    assert not any({*plain.split()} & {"scarlet", "vermilion"} for _, plain in changed)


def test_the_text_tower_learns_places_and_reads_as_the_clip_does(script, teaching, monkeypatch):
    monkeypatch.setitem(script.train_texts.__globals__, "HELD_BACK_TEXTS", 24)
    colours, things = teaching.BASIC, ["bird", "car", "house", "cat", "tree", "boat", "shoe", "cup"]
    texts = [f"a {colour} {thing}" for colour in colours for thing in things]
    rng = np.random.default_rng(1)
    of = {word: rng.standard_normal(32) for word in [*colours, *things]}
    places = np.array([of[text.split()[1]] + of[text.split()[2]] for text in texts])
    places = (places / np.linalg.norm(places, axis=1, keepdims=True)).astype(np.float32)
    torch.manual_seed(0)
    clip = Clip.create(TINY)
    tokens = clip.tokenizer(texts)

    with torch.no_grad():
        before = (script.read_texts(clip, tokens) * torch.from_numpy(places)).sum(dim=1).mean()
    found = script.train_texts(clip, texts, places, steps=300, batch=4)

    # Of texts that it never saw, but whose words it knows.
    assert found["cosine"] > 0.6 > 0.3 > before
    with torch.no_grad():
        read = script.read_texts(clip, tokens)
    torch.testing.assert_close(read, F.normalize(clip.text(texts), dim=1), rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in clip.parameters())


def test_the_image_tower_learns_and_the_text_tower_stays(script, source):
    torch.manual_seed(0)
    clip = Clip.create(TINY)
    before = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    config = ClipTrainConfig(
        sources=(source,), architecture=TINY, steps=12, batch_size=4, save_every=6
    )

    rows = list(script.train_images(clip, config))

    losses = [row for row in rows if "named" in row]
    assert len(losses) == 12
    assert sum(losses[-1].values()) - 12 < sum(losses[0].values()) - 1
    changed = {
        name
        for name, tensor in clip.model.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert any(name.startswith("visual.") for name in changed)
    assert all(name.startswith("visual.") or name == "logit_scale" for name in changed)
    assert [row["step"] for row in rows if "recall@1" in row] == [6, 12]


def write_recipe(path, source, **settings):
    """A recipe of six steps on a source."""
    settings = {
        "architecture": str(TINY),
        "steps": 6,
        "batch_size": 4,
        "save_every": 4,
        "warmup": 2,
        "patch_dropout": 0.0,
        "sources": [{"root": str(source.root), "held_back": source.held_back}],
    } | settings
    path.write_text(tomli_w.dumps(settings))
    return path


@pytest.fixture
def taught(script, source, tmp_path):
    """Teaches in ``tmp_path``, where the text tower is taught already; gives the weights' steps."""
    torch.manual_seed(0)
    before = Clip.create(TINY).model.state_dict()
    saved = []
    real = script.main.__globals__["save_clip"]

    def save(state, path, *, steps):
        real(state, path, steps=steps)
        saved.append((steps, load_file(path)))

    def teach(**settings):
        (tmp_path / "texts.npz").touch()
        torch.save(before, tmp_path / "text-tower.pt")
        saved.clear()
        recipe = write_recipe(tmp_path / "recipe.toml", source, **settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(script.main.__globals__, "save_clip", save)
            script.main(recipe, tmp_path, tmp_path, text_steps=0)
        return dict(saved)

    return teach


def test_weights_are_written_on_the_way_and_do_not_change_what_comes_after(taught):
    often, once = taught(save_every=4), taught(save_every=6)

    assert (list(often), list(once)) == ([4, 6], [6])
    assert all(torch.equal(often[6][name], once[6][name]) for name in once[6])


@pytest.mark.parametrize("setting", [{"weight_decay": 3.0}, {"warmup": 5}, {"learning_rate": 0.1}])
def test_every_setting_of_the_recipe_counts(taught, setting):
    plain, other = taught(save_every=6)[6], taught(save_every=6, **setting)[6]

    assert any(not torch.equal(plain[name], other[name]) for name in plain)


def test_what_is_not_done_to_a_taught_tower_is_refused(taught):
    with pytest.raises(InputError, match=r"patch_dropout is 0\.5"):
        taught(patch_dropout=0.5)


def test_centring_takes_away_what_all_pictures_share_and_nothing_of_the_feature_maps(
    script, source
):
    torch.manual_seed(0)
    clip = Clip.create(TINY)
    config = ClipTrainConfig(sources=(source,), architecture=TINY, steps=1)
    pictures = Pictures([source], "train", captioned=True)
    images = torch.cat(
        [clip.preprocess(to_tensor(pictures.pixels(i))[None]) for i in range(len(pictures))]
    )
    images = images * clip.std + clip.mean

    with torch.no_grad():
        before, maps = clip.image(images), clip.features(images, [1])[0]
        script.centre(clip, config)
        after, maps_after = clip.image(images), clip.features(images, [1])[0]

    assert torch.equal(maps, maps_after)
    assert after.mean(dim=0).norm() < 0.2 * before.mean(dim=0).norm()
    torch.testing.assert_close(
        after - after.mean(dim=0), before - before.mean(dim=0), rtol=1e-3, atol=1e-4
    )
