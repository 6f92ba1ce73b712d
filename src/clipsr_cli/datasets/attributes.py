"""Turn CUB's class attributes into sentences about the birds of a class.

``class_attribute_labels_continuous.txt`` has a line for each class, in the order of
``classes.txt``, and on it, for each of the 312 attributes, the percentage of annotators who saw it.
``attributes.txt`` names them, a line ``<id> has_<part>::<value>`` each, such as
``10 has_wing_color::blue``. Both are described in the dataset's README
(https://www.vision.caltech.edu/datasets/cub_200_2011/).
"""

from collections.abc import Sequence
from pathlib import Path

from clipsr_cli.datasets.files import is_file, lines, table
from clipsr_cli.errors import InputError

# Percent; an attribute seen by fewer is not spoken of.
CERTAIN = 50.0
# More colours than this make a sentence hard to read.
MOST_VALUES = 2

# For each class, the certain values of each part of the bird, the most certain first.
Traits = dict[str, list[str]]


def read_traits(folders: Sequence[Path]) -> dict[str, Traits]:
    """What is certain of each class, by its number as its folder has it, from ``001``.

    Args:
        folders: where ``attributes/`` and ``attributes.txt`` may lie.

    Returns:
        Nothing where one of the two files is missing.

    Raises:
        InputError: one of them is malformed.
    """
    labels = _first(folders, "attributes/class_attribute_labels_continuous.txt")
    names = _first(folders, "attributes/attributes.txt", "attributes.txt")
    if labels is None or names is None:
        return {}
    parts = []
    for number, (name,) in table(names, 1).values():
        part, found, value = name.removeprefix("has_").partition("::")
        if not found:
            raise InputError(f"{names}, line {number}: {name[:80]!r} has no '::'.")
        # "medium_(9_-_16_in)" -> "medium"
        parts.append((part, value.partition("_(")[0].replace("_", " ").strip()))
    return {
        f"{index:03d}": _certain(line, parts, f"{labels}, line {number}")
        for index, (number, line) in enumerate(lines(labels), start=1)
    }


def sentences(traits: Traits) -> tuple[str, ...]:
    """Sentences about a bird, as many as its traits are enough for; always the same ones."""

    def of(part: str) -> str:
        return " and ".join(traits.get(part, ()))

    def some(*phrases: tuple[str, str]) -> str:
        known = [f"{values} {part}" for values, part in phrases if values]
        # Each begins with its article, but for what comes in twos.
        articled = [words if words.endswith("s") else with_article(words) for words in known]
        *first, last = articled or [""]
        return f"{', '.join(first)} and {last}" if first else last

    size = {"medium": "medium-sized"}.get(of("size"), of("size"))
    colour = of("primary_color")
    kind = " ".join(word for word in (size, colour) if word)
    bill = " ".join(word for word in (of("bill_color"), of("bill_shape")) if word)
    outside = some(
        (of("crown_color"), "crown"), (of("wing_color"), "wings"), (of("belly_color"), "belly")
    )
    front = some(
        (of("throat_color"), "throat"), (of("breast_color"), "breast"), (of("back_color"), "back")
    )
    small = some((of("leg_color"), "legs"), (of("eye_color"), "eyes"), (bill, "bill"))
    said = (
        outside and f"this bird has {outside}",
        kind and bill and f"{with_article(kind)} bird with {with_article(bill)} bill",
        kind and not bill and f"{with_article(kind)} bird",
        front and f"a bird with {front}",
        small and f"this {colour} bird has {small}".replace("  ", " "),
    )
    return tuple(sentence for sentence in said if sentence)


def with_article(words: str) -> str:
    """``a`` or ``an`` before some words."""
    vowel = words[:1].lower() in set("aeiou") and not words.lower().startswith(("eu", "uni"))
    return f"{'an' if vowel else 'a'} {words}"


def _first(folders: Sequence[Path], *names: str) -> Path | None:
    places = (folder / name for folder in folders for name in names)
    return next((path for path in places if is_file(path)), None)


def _certain(line: str, parts: Sequence[tuple[str, str]], where: str) -> Traits:
    try:
        percentages = [float(field) for field in line.split()]
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from error
    if len(percentages) != len(parts):
        raise InputError(
            f"{where} has {len(percentages)} numbers; there are {len(parts)} attributes."
        )
    traits: Traits = {}
    ranked = sorted(zip(percentages, parts, strict=True), key=lambda pair: -pair[0])
    for percentage, (part, value) in ranked:
        values = traits.setdefault(part, [])
        if percentage > CERTAIN and len(values) < MOST_VALUES:
            values.append(value)
    return {part: values for part, values in traits.items() if values}
