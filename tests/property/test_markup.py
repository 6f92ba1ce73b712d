"""Whatever a text holds, a page shows it as text."""

import html
import json
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from clipsr_cli.reports.markup import breakable, element, escape, script_json, visible

# Halves of surrogate pairs too: Python's way to hold bytes that are not UTF-8.
texts = st.text(st.characters() | st.sampled_from("<>&\"'\\/_-\x00\u202e\ud800"))


class Seen(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data):
        self.text += data


@given(texts, texts)
def test_content_and_attributes_are_read_back_and_add_no_element(content, attribute):
    seen = Seen(element("p", content, title=attribute))

    assert seen.tags == ["p"]
    assert seen.attributes == [("title", visible(attribute))]
    assert seen.text == visible(content)


@given(texts)
def test_a_name_may_be_broken_anywhere_but_stays_the_same(name):
    seen = Seen(breakable(name))

    assert set(seen.tags) <= {"wbr"}
    assert seen.text == visible(name)


@given(texts)
def test_what_is_seen_can_be_written_as_utf_8_and_holds_no_control(text):
    shown = escape(text).encode("utf-8").decode()

    assert html.unescape(shown) == visible(text)
    assert not {character for character in shown if ord(character) < 32}
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(shown)


@given(st.recursive(texts | st.floats(allow_nan=False, allow_infinity=False) | st.none(), st.lists))
def test_json_in_a_script_is_read_back_and_cannot_end_it(value):
    text = script_json(value)

    assert json.loads(text) == value
    assert not set("<>&") & set(text)
