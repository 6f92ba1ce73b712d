"""Captions: what a captioner sees, nouns and colours, CoCa's decoder, and many files at a time."""

import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.color import rgb2lab

from clipsr_cli import captions
from clipsr_cli.captions import CAPTIONERS, CaptionOptions, reading
from clipsr_cli.captions.coca import Coca, Decoder, clean
from clipsr_cli.captions.colours import SHADES, colour_words, to_lab
from clipsr_cli.captions.labels import Labels
from clipsr_cli.captions.nouns import PACKAGED, Noun, as_phrase, read_nouns
from clipsr_cli.captions.prompting import with_captions
from clipsr_cli.captions.reading import caption_files, squares, view
from clipsr_cli.captions.search import Rules, repeats, search
from clipsr_cli.errors import ImageError, InputError, UnknownNameError, WeightsError
from clipsr_cli.jobs import plan
from clipsr_cli.models.clip import create_model
from clipsr_cli.pictures import Picture
from clipsr_cli.prompts import Prompts

DATA = Path(__file__).parents[1] / "data"
CPU = torch.device("cpu")


def flat(colour, *, width=40, height=30):
    return np.full((height, width, 3), colour, np.uint8)


def noise(seed, *, width=40, height=30):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# What a captioner sees.


@pytest.mark.parametrize(("width", "height"), [(24, 16), (16, 24), (900, 600), (256, 256)])
def test_every_picture_is_seen_at_one_size(width, height):
    seen = view(Picture(pixels=noise(0, width=width, height=height)))

    assert seen.dtype == np.uint8
    assert min(seen.shape[:2]) == reading.SIDE
    assert seen.shape[1] / seen.shape[0] == pytest.approx(width / height, rel=0.01)


def test_a_small_picture_is_enlarged_by_bicubic_interpolation():
    small = noise(1, width=8, height=8)

    expected = Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(view(Picture(pixels=small)), np.asarray(expected))


def test_of_a_strip_only_the_middle_is_seen():
    strip = flat((255, 0, 0), width=1000, height=10)
    strip[:, 480:520] = (0, 0, 255)

    seen = view(Picture(pixels=strip))

    assert seen.shape == (256, 1024, 3)
    # The middle 40 of 1000 columns.
    np.testing.assert_array_equal(seen[128, ::1023], [[0, 0, 255]] * 2)


def test_transparent_parts_take_the_colour_beside_them():
    pixels = flat((0, 200, 0), width=8, height=8)
    pixels[:, :4] = (200, 30, 30)
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[:, 4:] = 0

    seen = view(Picture(pixels=pixels, alpha=alpha))

    assert seen.shape == (256, 256, 3)
    assert np.abs(seen.astype(int) - (200, 30, 30)).max() <= 16


def test_sixteen_bits_become_eight():
    deep = noise(2).astype(np.uint16) * 257

    np.testing.assert_array_equal(
        view(Picture(pixels=deep)), view(Picture(pixels=(deep >> 8).astype(np.uint8)))
    )


def test_a_network_gets_the_middles_in_its_size():
    wide = flat((10, 20, 30), width=90, height=30)
    wide[:, 30:60] = (255, 0, 51)

    cut = squares([wide, flat((0, 0, 0), width=7, height=9)], 16)

    assert (cut.shape, cut.dtype) == ((2, 3, 16, 16), np.float32)
    # At the edges, a little of what lies beside is mixed in.
    inner = cut[0, :, 1:-1, 1:-1]
    np.testing.assert_allclose(inner, np.broadcast_to([[[1]], [[0]], [[0.2]]], (3, 14, 14)))
    assert not cut[1].any()


# Colours.


def test_lab_is_as_others_have_it():
    rgb = noise(3)

    np.testing.assert_allclose(to_lab(rgb), rgb2lab(rgb), atol=0.02)


@pytest.mark.parametrize("word", SHADES)
def test_every_shade_has_its_word(word):
    for shade in SHADES[word]:
        assert colour_words(flat(shade)) == [word]


def test_two_colours_are_said_the_more_frequent_first():
    pixels = flat(SHADES["blue"][0])
    pixels[:, :25] = SHADES["red"][0]
    assert colour_words(pixels) == ["red", "blue"]

    pixels[:3] = SHADES["green"][0]
    assert colour_words(pixels) == ["red", "blue"]


def test_the_middle_and_vivid_colours_count_more():
    pixels = flat(SHADES["green"][0])
    pixels[7:23, 9:31] = SHADES["orange"][0]
    assert (pixels[:, :, 0] == SHADES["orange"][0][0]).mean() < 0.3
    assert colour_words(pixels)[0] == "orange"

    pixels = flat(SHADES["grey"][0])
    pixels[:, :15] = SHADES["yellow"][0]
    assert colour_words(pixels)[0] == "yellow"


def test_without_a_clear_colour_none_is_said():
    bars = [shades[0] for shades in SHADES.values() for _ in range(8)]
    rainbow = np.random.default_rng(0).permutation(np.array(bars * 8, np.uint8))

    assert colour_words(rainbow.reshape(32, -1, 3)) == []


# Nouns.


def test_nouns_are_read_with_their_kinds_and_articles(tmp_path):
    file = tmp_path / "nouns.txt"
    file.write_text(
        "# mine\n\npizza\nbird:\nowl  # a comment\n  blue   jay\nfruit :\nsome cherries\napples\n",
        encoding="utf-8-sig",
    )

    assert read_nouns(file) == [
        Noun(phrase="a pizza", kind="a pizza"),
        Noun(phrase="an owl", kind="a bird"),
        Noun(phrase="a blue jay", kind="a bird"),
        Noun(phrase="some cherries", kind="a fruit"),
        Noun(phrase="apples", kind="a fruit"),
    ]


@pytest.mark.parametrize(
    ("noun", "phrase"),
    [
        ("owl", "an owl"),
        ("unicorn", "a unicorn"),
        ("T-shirt", "a T-shirt"),
        ("jeans", "jeans"),
        ("cactus", "a cactus"),
        ("glass of wine", "a glass of wine"),
        ("pair of shoes", "a pair of shoes"),
        ("shoes of leather", "shoes of leather"),
        ("a lens", "a lens"),
        ("The Taj Mahal", "The Taj Mahal"),
        ("two dogs", "two dogs"),
    ],
)
def test_a_noun_gets_an_article_where_it_needs_one(noun, phrase):
    assert as_phrase(noun) == phrase


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("owl\n\nan owl\n", "line 3: 'an owl' comes twice"),
        ("# nothing\nbird:\n", "holds no nouns"),
    ],
)
def test_a_bad_list_of_nouns_is_refused(tmp_path, content, match):
    (tmp_path / "nouns.txt").write_text(content)

    with pytest.raises(InputError, match=match):
        read_nouns(tmp_path / "nouns.txt")


def test_the_packaged_list_is_sound():
    nouns = read_nouns()

    assert PACKAGED.is_file()
    assert 150 <= len(nouns) <= 300
    assert {noun.kind for noun in nouns} >= {"a bird", "an animal", "a building", "a landscape"}
    assert all(noun.kind != noun.phrase for noun in nouns)
    assert all(noun.phrase.startswith(("a ", "an ")) for noun in nouns)


# labels.


class StandClip:
    """Embeds texts by the words in them, pictures by how red, green and blue they are."""

    image_size = 8

    def __init__(self, scale):
        self.model = torch.nn.Module()
        self.model.logit_scale = torch.tensor(float(scale)).log()
        self.asked = []

    def to(self, device):
        return self

    def text(self, prompts):
        self.asked.extend(prompts)
        words = ("robin", "thrush", "car")
        return torch.tensor([[5.0 * (word in prompt) for word in words] for prompt in prompts])

    def image(self, images):
        return 3 * images.mean(dim=(2, 3))


NOUNS = [
    Noun(phrase="a robin", kind="a bird"),
    Noun(phrase="a thrush", kind="a bird"),
    Noun(phrase="a car", kind="a vehicle"),
]


def test_labels_name_the_nearest_noun_and_the_colours():
    labels = Labels(StandClip(scale=100), NOUNS, device="cpu")

    said = labels.caption([flat(SHADES["red"][0]), flat(SHADES["blue"][0], width=11)])

    assert said == ["a photo of a robin, red colours", "a photo of a car, blue colours"]


def test_labels_name_the_kind_where_no_noun_is_likely_enough():
    # Between red and green, a robin and a thrush share what a bird has.
    between = flat((200, 190, 30))

    assert Labels(StandClip(scale=2), NOUNS, device="cpu").caption([between]) == [
        "a photo of a bird, yellow colours"
    ]
    alone = [replace(noun, kind=noun.phrase) for noun in NOUNS]
    assert Labels(StandClip(scale=2), alone, device="cpu").caption([between]) == [
        "a photo of a robin, yellow colours"
    ]


def test_labels_leave_colours_out_where_none_is_clear():
    rows = [[shades[0]] * 64 for shades in SHADES.values()]
    labels = Labels(StandClip(scale=100), NOUNS[2:], device="cpu")

    assert labels.caption([np.array(rows * 4, np.uint8)]) == ["a photo of a car"]


def test_texts_are_embedded_once_and_as_the_mean_over_templates():
    clip = StandClip(scale=100)
    labels = Labels(clip, NOUNS, device="cpu")

    assert "a photo of a robin" in clip.asked
    assert len(clip.asked) == len(set(clip.asked)) == 4 * len(NOUNS)
    torch.testing.assert_close(labels.texts, torch.eye(3))
    labels.caption([noise(0)])
    labels.caption([noise(1)])
    assert len(clip.asked) == 4 * len(NOUNS)


def test_labels_say_the_same_whatever_stands_beside(tiny_clip):
    labels = captions.load(CaptionOptions(), device="cpu", clip=tiny_clip)
    pictures = [noise(seed, width=20 + seed) for seed in range(3)]

    together = labels.caption(pictures)

    assert together == [labels.caption([picture])[0] for picture in pictures]
    assert together == labels.caption(pictures)
    assert labels.clip is tiny_clip


def test_labels_load_the_embedded_clip():
    labels = captions.load(CaptionOptions(labels=DATA / "nouns.txt"), device="cpu")

    (said,) = labels.caption([flat(SHADES["green"][0])])
    assert said in {f"a photo of {noun.phrase}, green colours" for noun in labels.nouns}
    assert labels.clip.name == captions.DEFAULT_CLIP


# The search, over a table of a language model.


class Table:
    """Steps whose next token depends on how many came before, and on nothing else.

    For each, the likeliest tokens in their order: far from each other, and far before the rest.
    """

    def __init__(self, *likely):
        self.likely = likely
        self.shapes = []

    def advance(self, tokens):
        logits = torch.zeros(*tokens.shape, 20)
        for rank, token in enumerate(reversed(self.likely[len(self.shapes)]), start=1):
            logits[..., token] = 10.0 + rank
        self.shapes.append(tuple(tokens.shape))
        return logits

    def keep(self, rows):
        pass


END = 1


def rules(**settings):
    return Rules(**({"start": 0, "end": END, "never": (0,), "shortest": 0} | settings))


def test_greedy_search_takes_the_likeliest_and_stops_at_the_end():
    table = Table([5], [6, END], [END, 7], [8])

    assert search(table, 2, rules(beams=1, longest=9), CPU) == [[5, 6], [5, 6]]
    assert table.shapes == [(2, 1)] * 3


def test_the_end_does_not_come_too_early():
    table = Table([END, 5], [END, 6], [END, 7], [END])

    assert search(table, 1, rules(beams=1, shortest=3), CPU) == [[5, 6, 7]]


def test_what_does_not_end_is_cut():
    table = Table([5], [6], [7])

    assert search(table, 1, rules(beams=1, longest=3), CPU) == [[5, 6, 7]]
    assert len(table.shapes) == 3


def test_what_ends_is_taken_before_what_is_cut():
    # The end comes second only: a beam alone never takes it.
    likely = ([5], [6, END], [7, END], [8])

    assert search(Table(*likely), 1, rules(beams=1, longest=4), CPU) == [[5, 6, 7, 8]]
    assert search(Table(*likely), 1, rules(beams=2, longest=4), CPU) == [[5, 6]]


def test_some_tokens_never_come():
    assert search(Table([3, 5], [END]), 1, rules(never=(0, 3), beams=1), CPU) == [[5]]


def test_searching_never_goes_round_in_circles():
    found = search(Table(*[[5, 6, 7, 8]] * 8), 1, rules(beams=1, longest=8), CPU)

    assert found == [[5, 6, 5, 6, 7, 5, 6, 8]]
    assert repeats([]) == set()
    assert repeats([4]) == {4}
    assert repeats([1, 2, 3, 9, 1, 2]) == {2, 3}


# CoCa.


@pytest.fixture(scope="module")
def tiny_coca():
    """A random CoCa of the real format, which now and then ends what it says."""
    torch.manual_seed(1)
    model, tokenizer = create_model(DATA / "tiny-coca.json")
    for name, parameter in model.named_parameters():
        # Normalisations stay as they are, and words and pictures make a difference.
        if parameter.dim() > 1:
            vivid = {"text.token_embedding.weight": 2.0}
            wide = "visual" in name or "cross_attn" in name
            torch.nn.init.normal_(parameter, std=vivid.get(name, 1.0 if wide else 0.5))
    with torch.no_grad():
        model.text_decoder.text_projection[:, tokenizer.eot_token_id].normal_(std=3)
    return model.eval(), tokenizer


def naive(model, image, rule):
    """Beam search for one picture as it is written down: everything computed anew each time."""
    live, ended = [([], 0.0)], []
    for length in range(rule.longest):
        ways = []
        for tokens, score in live:
            _, seen = model._encode_image(image[None])
            _, texts = model._encode_text(torch.tensor([[rule.start, *tokens]]))
            chances = model.text_decoder(seen, texts)[0, -1].log_softmax(dim=0)
            for token in chances.topk(40).indices.tolist():
                longer = [*tokens, token]
                threes = [longer[i : i + 3] for i in range(len(longer) - 2)]
                if (
                    token in rule.never
                    or (token == rule.end and length < rule.shortest)
                    or (tokens and token == tokens[-1])
                    or (len(threes) > 1 and threes[-1] in threes[:-1])
                ):
                    continue
                ways.append((score + chances[token].item(), longer))
        ways = sorted(ways, reverse=True)[: 2 * rule.beams]
        ended += [
            (score / len(tokens), tokens[:-1])
            for score, tokens in ways[: rule.beams]
            if tokens[-1] == rule.end
        ]
        going = [(tokens, score) for score, tokens in ways if tokens[-1] != rule.end]
        live = going[: rule.beams]
        if len(ended) >= rule.beams:
            break
    cut = [(score / len(tokens), tokens) for tokens, score in live]
    return max(ended or cut)[1]


@pytest.mark.parametrize("beams", [1, 3])
@torch.inference_mode()
def test_the_decoder_finds_what_a_naive_one_finds(tiny_coca, beams):
    model, tokenizer = tiny_coca
    captioner = Coca(model, tokenizer, beams=beams, shortest=2, longest=9, device="cpu")
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    _, seen = model._encode_image(images)

    found = search(Decoder(model, seen), 6, captioner.rules, CPU)

    assert found == [naive(model, image, captioner.rules) for image in images]
    # Some ended, at different times, and some did not.
    assert len({len(tokens) for tokens in found}) > 2


@torch.inference_mode()
def test_a_step_gives_what_the_whole_towers_give_whichever_rows_are_kept(tiny_coca):
    model, _ = tiny_coca
    _, seen = model._encode_image(torch.randn(3, 3, 32, 32))
    decoder = Decoder(model, seen)
    first = torch.tensor([[7], [8], [9]])
    decoder.advance(first)
    decoder.keep(torch.tensor([[0, 0], [1, 1], [2, 2]]))
    second = torch.tensor([[11, 12], [13, 14], [15, 16]])
    decoder.advance(second)
    # The last picture, both its rows turned round; and twice the second row of the first.
    decoder.keep(torch.tensor([[5, 4], [1, 1]]))
    third = torch.tensor([[21, 22], [23, 24]])

    logits = decoder.advance(third)

    for place, picture, text in [
        ((0, 0), 2, [9, 16, 21]),
        ((0, 1), 2, [9, 15, 22]),
        ((1, 0), 0, [7, 12, 23]),
        ((1, 1), 0, [7, 12, 24]),
    ]:
        _, embedded = model._encode_text(torch.tensor([text]))
        whole = model.text_decoder(seen[picture : picture + 1], embedded)[0, -1]
        torch.testing.assert_close(logits[place], whole, atol=1e-5, rtol=1e-5)


def test_coca_says_the_same_whatever_stands_beside(tiny_coca):
    captioner = Coca(*tiny_coca, beams=2, device="cpu")
    pictures = [noise(seed, width=30 + seed) for seed in range(4)]

    together = captioner.caption(pictures)

    assert together == [captioner.caption([picture])[0] for picture in pictures]
    assert together == captioner.caption(pictures)
    assert len(set(together)) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_says_what_the_cpu_says(tiny_coca):
    pictures = [noise(seed) for seed in range(4)]
    on_cpu = Coca(*tiny_coca, beams=2, device="cpu").caption(pictures)

    try:
        assert Coca(*tiny_coca, beams=2, device="cuda").caption(pictures) == on_cpu
    finally:
        tiny_coca[0].cpu()


def test_captions_are_no_longer_than_the_context(tiny_coca):
    assert Coca(*tiny_coca, device="cpu").rules.longest == 16


def test_coca_is_loaded_from_a_file(tiny_coca, tmp_path):
    model, tokenizer = tiny_coca
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "own.safetensors")
    named = f"{DATA / 'tiny-coca.json'}:{tmp_path / 'own.safetensors'}"
    options = CaptionOptions(backend="coca", model=named, beams=2)

    captions.check(options)
    loaded = captions.load(options, device="cpu")

    expected = Coca(model, tokenizer, beams=2, device="cpu")
    assert loaded.caption([noise(0)]) == expected.caption([noise(0)])
    assert CAPTIONERS["coca"].model(options) == named


@pytest.mark.parametrize("change", [{"no_causal_mask": True}, {"embed_cls": False}])
def test_a_coca_whose_text_tower_is_another_is_refused(tmp_path, change):
    config = json.loads((DATA / "tiny-coca.json").read_text())
    config["text_cfg"] |= change
    (tmp_path / f"{next(iter(change))}.json").write_text(json.dumps(config))

    with pytest.raises(InputError, match="no CoCa"):
        Coca(*create_model(tmp_path / f"{next(iter(change))}.json"), device="cpu")


def test_a_clip_is_no_coca(tiny_clip):
    with pytest.raises(InputError, match="no CoCa"):
        Coca(tiny_clip.model, tiny_clip.tokenizer, device="cpu")


def test_decoded_text_is_cleaned():
    assert clean(" a man 's hat ,\n red \ufffd and  blue . ") == "a man's hat, red and blue"
    assert clean(" . ") == ""


# Options.


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"backend": "label"}, "No caption backend is named 'label'"),
        ({"text": "x"}, "--text has no effect with --backend labels"),
        ({"backend": "coca", "labels": Path("x")}, "--labels has no effect with --backend coca"),
        ({"backend": "coca", "beams": 0}, "--beams is 0"),
        ({"backend": "fixed"}, "--backend fixed needs a text"),
        ({"backend": "fixed", "text": " \n"}, "--backend fixed needs a text"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(settings, match):
    with pytest.raises(InputError, match=match):
        CaptionOptions(**settings)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"labels": Path("none.txt")}, InputError),
        ({"clip": "none"}, UnknownNameError),
        ({"backend": "coca", "model": "none"}, UnknownNameError),
        ({"backend": "coca", "model": "x:none.safetensors"}, WeightsError),
    ],
)
def test_what_is_not_there_is_told_before_any_work(settings, error):
    with pytest.raises(error):
        captions.check(CaptionOptions(**settings))


def test_what_is_there_is_all_right():
    captions.check(CaptionOptions())
    captions.check(CaptionOptions(backend="fixed", text="x"))
    assert CAPTIONERS["labels"].model(CaptionOptions()) == captions.DEFAULT_CLIP


def test_fixed_says_the_same_of_all():
    fixed = captions.load(CaptionOptions(backend="fixed", text=" a\nred bird "))

    assert fixed.caption([noise(0), noise(1)]) == ["a red bird", "a red bird"]


# Many files.


class Sizes:
    """Says how wide pictures are, and fails at some widths."""

    def __init__(self, *broken, silent=()):
        self.broken = broken
        self.silent = silent
        self.batches = []

    def caption(self, pictures):
        widths = [picture.shape[1] for picture in pictures]
        self.batches.append(widths)
        if set(widths) & set(self.broken):
            raise ValueError("out of memory")
        return ["" if width in self.silent else f"{width} wide" for width in widths]


def test_files_are_captioned_in_batches_and_in_order(photo, tmp_path):
    paths = [photo(tmp_path / f"{n}.png", width=16 + n, height=16) for n in range(5)]
    captioner = Sizes()

    found = list(caption_files(captioner, iter(paths), batch_size=2))

    assert found == [(path, f"{256 + 16 * n} wide") for n, path in enumerate(paths)]
    assert [len(batch) for batch in captioner.batches] == [2, 2, 1]
    assert list(caption_files(captioner, [])) == []


def test_a_picture_that_fails_costs_only_itself(photo, tmp_path):
    paths = [photo(tmp_path / f"{n}.png", width=16 + n, height=16) for n in range(6)]
    paths[1].write_bytes(b"no picture")
    captioner = Sizes(256 + 16 * 3, silent=(256 + 16 * 5,))

    found = dict(caption_files(captioner, paths, batch_size=8))

    assert isinstance(found[paths[1]], ImageError)
    assert isinstance(found[paths[3]], ValueError)
    assert str(found[paths[5]]) == "The captioner found no words."
    assert [found[paths[n]] for n in (0, 2, 4)] == ["256 wide", "288 wide", "320 wide"]


def test_a_batch_of_broken_files_asks_nothing_of_the_captioner(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    captioner = Sizes()

    ((_, error),) = caption_files(captioner, [tmp_path / "a.png"])

    assert isinstance(error, ImageError)
    assert captioner.batches == []


def test_no_more_than_two_batches_are_read_ahead(photo, tmp_path, monkeypatch):
    paths = [photo(tmp_path / f"{n}.png") for n in range(20)]
    asked = []
    monkeypatch.setattr(reading, "read_view", lambda path: asked.append(path) or flat(0))

    found = caption_files(Sizes(), paths, batch_size=3)
    next(found)
    assert len(asked) <= 6
    found.close()


# Prompts for jobs.


def test_only_pictures_without_a_prompt_are_captioned_and_the_captioner_goes(
    photo, tmp_path, monkeypatch
):
    for name in ("a", "b", "c"):
        photo(tmp_path / "in" / f"{name}.png", width=16, height=16)
    (tmp_path / "in" / "b.txt").write_text("a sidecar")
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    jobs = plan([str(tmp_path / "in")], tmp_path / "out", scale=4, prompts=Prompts()).jobs
    kept = []

    def load(options, **settings):
        captioner = Sizes()
        kept.append(weakref.ref(captioner))
        return captioner

    monkeypatch.setattr(captions, "load", load)

    found = list(with_captions(jobs, CaptionOptions()))

    assert [(job.prompt.text, job.prompt.source) for job in found] == [
        ("256 wide", "caption"),
        ("a sidecar", "sidecar"),
        ("", "empty"),
    ]
    assert [replace(job, prompt=old.prompt) for job, old in zip(found, jobs, strict=True)] == jobs
    assert [reference() for reference in kept] == [None]


def test_no_captioner_is_loaded_where_none_is_wanted(photo, tmp_path, monkeypatch):
    photo(tmp_path / "a.png")
    jobs = plan(
        [str(tmp_path / "a.png")], tmp_path / "out", scale=4, prompts=Prompts(everywhere="x")
    ).jobs
    monkeypatch.delattr(captions, "load")

    assert list(with_captions(jobs, CaptionOptions())) == jobs


def test_a_captioner_that_fails_is_warned_about_and_leaves_the_prompt_empty(
    photo, tmp_path, monkeypatch, caplog
):
    photo(tmp_path / "a.png", width=16, height=16)
    jobs = plan([str(tmp_path / "a.png")], tmp_path / "out", scale=4).jobs
    monkeypatch.setattr(captions, "load", lambda options, **settings: Sizes(256))

    assert list(with_captions(jobs, CaptionOptions())) == jobs
    assert "a.png could not be captioned: out of memory" in caplog.text
