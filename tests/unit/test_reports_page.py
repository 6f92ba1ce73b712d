"""The page holds what the report says, as text and never as markup, and asks for nothing else."""

import base64
import hashlib
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from clipsr_cli.errors import InputError
from clipsr_cli.evaluation.report import Estimate
from clipsr_cli.reports import make_page, write_page
from clipsr_cli.reports.gallery import MAX_PICTURES
from clipsr_cli.reports.markup import VOID

SCORES = {
    "mini": {"psnr": [30.0, 32.0, 29.0], "lpips": [0.2, 0.1, 0.3]},
    "bicubic": {"psnr": [20.0, 24.0, 31.0], "lpips": [0.5, 0.4, 0.45]},
}
COLOURS = {"mini": "red", "bicubic": "gray", "reference": "green", "low": "blue"}
SCHEMES = re.compile(r"^(data:image/(png|webp);base64,[A-Za-z0-9+/=]+|#.*)$")


class Page(HTMLParser):
    """A page's elements: ``(tag, attributes, text in it)``; every tag must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.open = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        # A name that is there twice is dropped by browsers.
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, texts in self.open:
            texts.append(data)

    def all(self, tag, **wanted):
        """Those of a tag whose attributes are, or whose class holds, what is wanted."""
        return [
            (attrs, "".join(texts))
            for name, attrs, texts in self.elements
            if name == tag
            and all(
                value in (attrs.get(key.rstrip("_")) or "").split() for key, value in wanted.items()
            )
        ]

    def texts(self, tag, **wanted):
        return [text for _, text in self.all(tag, **wanted)]

    def data(self):
        (text,) = self.texts("script", id="data")
        return json.loads(text)


def embedded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def no_pictures(tmp_path):
    return lambda kind, name: tmp_path / "none.png"


@pytest.fixture
def page(make_report, flat_pictures):
    """The page of a report, parsed."""

    def make(scores, **fields):
        report = make_report(scores, **fields)
        return Page(make_page(report, flat_pictures(report, COLOURS)))

    return make


def test_the_head_says_what_was_scored_and_how(page):
    found = page(SCORES, failed={"x": "broken"})

    assert found.texts("title")[0] == "birds, test, x4"
    assert found.texts("h1") == ["birds"]
    facts = dict(zip(found.texts("dt"), found.texts("dd"), strict=True))
    assert (facts["split"], facts["scale"], facts["pictures"]) == ("test", "x4", "3")
    assert (facts["models"], facts["failed"]) == ("2", "1")
    assert {"scale4", "border0"} <= set(found.texts("tr"))
    # What the protocol does not say is left out.
    assert not [text for text in found.texts("th") if text == "box"]


def test_the_best_mean_of_each_direction_is_marked_and_no_other(page):
    found = page(SCORES)

    best = [text for text in found.texts("td", class_="best") if "[" in text]
    assert [text.partition(" best")[0] for text in best] == ["30.33", "0.2000"]
    assert [text for text in found.texts("small") if text.startswith("[29")] == ["[29.00, 32.00]"]
    assert any("higher is better" in text for text in found.texts("th"))
    assert any("lower is better" in text for text in found.texts("th"))


def test_values_that_look_the_same_are_all_the_best(page):
    found = page({"mini": {"psnr": [30.001]}, "other": {"psnr": [30.002]}})

    marked = found.texts("td", class_="best")
    assert [text for text in marked if "best" in text] == ["30.00 bestn = 1"] * 2


def test_a_single_model_has_nothing_marked_and_no_differences(page):
    found = page({"mini": SCORES["mini"]})

    assert not found.all("td", class_="best")
    assert "Differences" not in found.texts("h2")


def test_differences_say_whether_they_are_for_the_better(page):
    found = page(
        {
            "mini": {"psnr": [30.0, 31.0], "lpips": [0.3, 0.4], "ssim": [0.5, 0.7]},
            "bicubic": {"psnr": [20.0, 20.0], "lpips": [0.1, 0.1], "ssim": [0.6, 0.6]},
        }
    )

    words = {attrs["data-title"]: text for attrs, text in found.all("td") if "data-title" in attrs}
    assert words["PSNR"] == "+10.50[+10.00, +11.00]better"
    assert words["LPIPS"] == "+0.2500[+0.2000, +0.3000]worse"
    assert words["SSIM"].endswith("unclear")


def test_a_difference_that_cannot_be_had_is_left_blank(page):
    found = page(
        {
            "mini": {"psnr": [30.0, 31.0], "lpips": [0.3, 0.4]},
            "bicubic": {"psnr": [20.0, 20.0], "lpips": [0.1, 0.1]},
            "other": {"psnr": [20.0, 20.0]},
        }
    )

    blank = [attrs for attrs, text in found.all("td") if text == "\N{EN DASH}"]
    # Its mean, and its difference.
    assert [attrs["data-title"] for attrs in blank if "data-title" in attrs] == ["LPIPS"] * 2


def test_what_the_text_does_is_told_where_it_was_measured(page):
    effect = {"mini": {"lpips": Estimate(mean=-0.5, low=-0.7, high=-0.3, n=3)}}

    found = page(SCORES, text_effect=effect)

    assert "What the text does" in found.texts("h2")
    assert "-0.5000[-0.7000, -0.3000]better" in found.texts("td", class_="better")


def test_scores_of_the_whole_set_have_no_interval_and_no_drawing(make_report, tmp_path):
    metrics = dict(make_report({"m": {"psnr": [1.0], "fid": [None]}}).metrics)
    report = make_report(SCORES, metrics=metrics, whole={"mini": {"fid": 41.9}})

    found = Page(make_page(report, no_pictures(tmp_path)))

    assert "41.90whole set" in found.texts("td")
    assert "\N{EN DASH}" in found.texts("td")
    assert len(found.all("svg")) == 1


def test_missing_metrics_and_failed_pictures_are_named_with_why(page):
    found = page(SCORES, missing={"niqe": "needs pyiqa"}, failed={"a/b.png": "It is broken."})

    assert found.texts("li") == ["niqe: needs pyiqa", "a/b.png: It is broken."]
    assert "1 metric is not available" in found.texts("summary")
    assert "1 picture could not be scored" in found.texts("summary")


def test_every_metric_of_pictures_is_drawn_with_its_axis_and_a_dot_for_each(page):
    found = page(SCORES)

    assert len(found.all("svg", role="img")) == 2
    assert len(found.all("circle")) == 12
    drawn = found.texts("svg")[1]
    assert "LPIPS (↓ lower is better)" in drawn
    assert {"0.1", "0.2", "0.3", "0.4", "0.5"} <= set(found.texts("text"))
    assert "000: 0.2" in found.texts("title")


def test_many_pictures_are_drawn_as_an_outline(make_report, tmp_path):
    report = make_report({"mini": {"psnr": [20 + i / 100 for i in range(400)]}})

    found = Page(make_page(report, no_pictures(tmp_path)))

    assert not found.all("circle")
    ((attrs, _),) = found.all("polygon")
    places = [float(value) for value in re.split("[ ,]", attrs["points"])]
    assert min(places) >= 0
    assert max(places) <= 440


@pytest.mark.parametrize("values", [[5.0, 5.0], [0.0, 0.0], [-2e-9, 3e-9], [1e6, 2e6], [None, 3.0]])
def test_any_values_have_an_axis(page, values):
    found = page({"mini": {"psnr": values}})

    known = [value for value in values if value is not None]
    assert len(found.all("circle")) == len(known)
    for attrs, _ in found.all("circle"):
        assert 0 <= float(attrs["cx"]) <= 440


def test_cards_show_worst_first_what_each_model_made_of_it(page):
    found = page(SCORES)

    assert found.texts("h3") == ["002", "000", "001"]
    assert len(found.all("img")) == 3 * 4
    assert len(found.all("img", class_="left")) == len(found.all("img", class_="right")) == 3
    assert found.all("img", class_="left")[0][0]["alt"] == "bicubic of 002"
    assert found.all("img", class_="right")[0][0]["alt"] == "mini of 002"
    assert found.all("img", class_="pixels")[0][0]["alt"] == "low of 002"
    assert found.texts("q") == ["a red bird"] * 3
    options = found.texts("option")
    assert options[:4] == ["bicubic", "mini", "reference", "low (its pixels)"]
    assert {"worst first", "best first", "by name", "LPIPS", "PSNR"} <= set(options)
    ranges = found.all("input", type="range")
    assert ranges[0][0]["aria-label"] == "002: from the left bicubic, then mini"
    assert "All pictures are shown." in found.texts("p", class_="faint")[-1]


def test_prompt_and_caption_are_both_told_where_they_differ(page):
    found = page({"mini": {"psnr": [1.0]}}, prompt="", caption="a blue bird")

    words = dict(zip(found.texts("dt")[-2:], found.texts("dd")[-2:], strict=True))
    assert words == {"Prompt": "none", "Caption": "a blue bird"}


def test_the_embedded_pictures_are_those_on_disk(page):
    found = page({"mini": {"psnr": [1.0]}})

    images = {attrs["alt"]: embedded(attrs["src"]) for attrs, _ in found.all("img")}
    # Nobody scored bicubic: it is made from the small picture.
    for kind, colour in (
        ("mini", (255, 0, 0)),
        ("reference", (0, 128, 0)),
        ("bicubic", (0, 0, 255)),
    ):
        image = images[f"{kind} of 000"].convert("RGB")
        assert image.size == (128, 128)
        assert image.getpixel((60, 60)) == pytest.approx(colour, abs=4)
    # The small picture is kept to the last digit.
    assert images["low of 000"].format == "PNG"
    assert images["low of 000"].getpixel((3, 3)) == (0, 0, 255)


def test_of_a_large_picture_the_middle_is_shown_and_of_the_small_one_the_same(
    make_report, flat_pictures, monkeypatch
):
    monkeypatch.setattr("clipsr_cli.reports.embedding.MIN_SIDE", 50)
    monkeypatch.setattr("clipsr_cli.reports.embedding.MAX_PIXELS", 1)
    report = make_report({"mini": {"psnr": [1.0]}})

    found = Page(make_page(report, flat_pictures(report, COLOURS, size=(160, 40))))

    sizes = {
        attrs["alt"].partition(" ")[0]: embedded(attrs["src"]).size for attrs, _ in found.all("img")
    }
    # 50 in fours is 48.
    assert sizes == {
        "mini": (48, 40),
        "bicubic": (48, 40),
        "reference": (48, 40),
        "low": (12, 10),
    }
    assert "Shown: the middle 48 x 40 of 160 x 40." in found.texts("p")


def test_pictures_are_compressed_until_they_fit(make_report, tmp_path, photo, monkeypatch):
    monkeypatch.setattr("clipsr_cli.reports.embedding.MAX_BYTES", 1)
    picture = photo(tmp_path / "picture.png", width=128, height=128)

    text = make_page(make_report({"mini": {"psnr": [1.0]}}), lambda kind, name: picture)

    assert "quality 50" in text


def test_a_page_holds_so_many_pictures_and_says_so(make_report, flat_pictures):
    report = make_report({"mini": {"lpips": [i / 100 for i in range(100)]}})

    found = Page(make_page(report, flat_pictures(report, COLOURS, size=(8, 8))))

    assert len(found.all("article")) == MAX_PICTURES
    (said,) = [text for text in found.texts("p", class_="faint") if "pictures are shown" in text]
    assert said.startswith(
        "60 of 100 pictures are shown: the 20 worst, the 20 best, and 20 spread evenly between."
    )
    assert said.endswith("Worst and best are by LPIPS of mini.")
    assert found.texts("h3")[:2] == ["099", "098"]
    assert found.texts("h3")[-1] == "000"
    chips = [attrs["class"] for attrs, _ in found.all("span", class_="chip")]
    assert chips == ["chip worst"] * 20 + ["chip best"] * 20


def test_pictures_that_cannot_be_read_are_left_out(make_report, tmp_path, photo):
    report = make_report({"mini": {"psnr": [1.0, 2.0]}})
    picture = photo(tmp_path / "picture.png")

    def find(kind, name):
        return picture if (kind, name) == ("mini", "001") else tmp_path / "none.png"

    found = Page(make_page(report, find))

    assert found.texts("h3") == ["001"]
    assert [attrs["alt"] for attrs, _ in found.all("img")] == ["mini of 001"]
    assert any("1 could not be read." in text for text in found.texts("p"))


@pytest.mark.parametrize("scores", [{}, {"mini": {}}, {"mini": {"psnr": [None]}}, SCORES])
def test_a_report_without_pictures_or_scores_has_a_page_too(make_report, tmp_path, scores):
    found = Page(make_page(make_report(scores, scale=None), no_pictures(tmp_path)))

    assert not found.all("article")
    assert not found.all("form")
    assert found.data()["scores"] == []
    assert "as on disk" in found.texts("dd")


def test_numbers_that_are_none_are_shown_as_none_and_sorted_last(page):
    found = page({"mini": {"psnr": [math.nan, 30.0], "lpips": [None, None]}})

    assert found.texts("h3") == ["001", "000"]
    assert found.data() == {"higher": [True], "ranks": [1, 0], "scores": [[[30.0]], [[None]]]}
    assert "nan" not in " ".join(found.texts("td"))


HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"><b onmouseover='alert(1)'>",
    "&lt;b&gt; &amp; {{cards}} \\1",
    "</style></title><!-- ]]>",
    "a\u202eb\u2066c\x00d\x1b[31m\ne\u2028f\udce9",
]


@pytest.mark.parametrize("payload", HOSTILE)
def test_whatever_comes_from_outside_is_text(make_report, tmp_path, photo, payload):
    picture = photo(tmp_path / "picture.png", width=100, height=100)

    def page_with(word):
        report = make_report(
            {word: {"psnr": [1.0, 2.0]}, "bicubic": {"psnr": [3.0, 4.0]}},
            names=[word, "other"],
            prompt=word,
            caption=f"{word} ",
            dataset=word,
            split=word,
            protocol={word: word},
            missing={word: word},
            failed={word: word},
        )
        return make_page(report, lambda kind, name: picture)

    def shape(page):
        return [(tag, sorted(attrs)) for tag, attrs, _ in page.elements if tag != "wbr"]

    text = page_with(payload)

    found = Page(text)
    # The same elements with the same attributes, whatever the words are.
    assert shape(found) == shape(Page(page_with("word")))
    seen = re.sub(
        "[\x00-\x1f\u202a-\u202e\u2066-\u2069\u2028\ud800-\udfff]",
        lambda c: f"\\u{ord(c[0]):04x}",
        payload,
    )
    assert found.texts("h1") == found.texts("h3")[:1] == [seen]
    assert found.texts("q")[:2] == [seen, f"{seen} "]
    assert f"{seen} of {seen}" in [attrs["alt"] for attrs, _ in found.all("img")]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202a-\u202e\u2066-\u2069]", text)


def test_the_page_needs_nothing_but_itself(make_report, flat_pictures, tmp_path):
    report = make_report(SCORES)

    write_page(report, tmp_path / "new" / "page.html", flat_pictures(report, COLOURS))

    text = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    found = Page(text)
    for _, attrs, _ in found.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            if name in attrs:
                assert SCHEMES.match(attrs[name])
        assert not [name for name in attrs if name.startswith("on")]
    for style in found.texts("style"):
        assert not re.search(r"url\(|@import|@font-face", style)
    scripts = "".join(found.texts("script"))
    assert not re.search(r"https?:|//[a-z]+\.|fetch|XMLHttp|import\(|eval|innerHTML", scripts)
    assert not re.search(r"https?://", text)


def test_the_policy_allows_this_script_and_nothing_from_elsewhere(page):
    found = page(SCORES)

    (policy,) = [a["content"] for a, _ in found.all("meta") if "http-equiv" in a]
    (script,) = [text for attrs, text in found.all("script") if not attrs]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"
    assert set(rules) == {
        "default-src",
        "img-src",
        "style-src",
        "script-src",
        "base-uri",
        "form-action",
    }


def test_a_page_of_sixty_pictures_and_three_models_is_of_moderate_size(make_report, tmp_path):
    """Of pictures as detailed as the examples."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    examples = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))
    for index, path in enumerate(examples):
        with Image.open(path) as image:
            image.convert("RGB").resize((256, 256)).save(folder / f"{index}.png")
    column = {"lpips": [i / 60 for i in range(60)]}
    report = make_report({"one": column, "two": column, "three": column})

    text = make_page(report, lambda kind, name: folder / f"{int(name) % len(examples)}.png")

    assert text.count("<article") == 60
    assert 2e6 < len(text) < 12e6


def test_a_page_that_cannot_be_written_is_told(make_report, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match=r"Cannot write .*page\.html"):
        write_page(make_report({}), tmp_path / "file" / "page.html", no_pictures(tmp_path))
