"""Turn text into HTML in which nothing that came from outside is markup."""

import html
import json
import re
from typing import Any

# Elements without an end tag (HTML standard, "Void elements").
VOID = frozenset({"br", "hr", "img", "input", "meta", "wbr"})
# What is not seen, or changes how its neighbours are seen: controls, bidirectional marks and
# overrides (Unicode Bidirectional Algorithm, UAX 9), line separators, halves of surrogate pairs
# (bytes of a file's name that are not UTF-8), and what is no character.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff]"
)


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


Content = str | int | None


def visible(text: str) -> str:
    """The text with what is not seen in it written as escapes, such as ``\\u202e``."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escape(content: Content) -> Html:
    """Content as HTML; what is HTML already is left as it is, and None is nothing."""
    if isinstance(content, Html):
        return content
    return Html("" if content is None else html.escape(visible(str(content))))


def breakable(name: str) -> Html:
    """A path or a long name that may be broken into lines behind its separators."""
    return Html(re.sub(r"([/_-])(?=\w)", r"\1<wbr>", escape(name)))


def join(*contents: Content) -> Html:
    """Contents one after another."""
    return Html("".join(escape(content) for content in contents))


def element(name: str, /, *contents: Content, **attributes: Content) -> Html:
    """An element, its contents and attributes escaped.

    Args:
        name: its tag.
        contents: what is in it.
        attributes: ``class_`` is class, ``data_kind`` is data-kind; True is an attribute without
            a value, False and None are left out.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            label = key.rstrip("_").replace("_", "-")
            parts.append(label if value is True else f'{label}="{escape(value)}"')
    start = f"<{' '.join(parts)}>"
    return Html(start if name in VOID else f"{start}{join(*contents)}</{name}>")


def script_json(value: Any) -> Html:
    """JSON that is safe inside a script element, where ``</script>`` would end it.

    Raises:
        ValueError: it holds a number that is not finite.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(text)
