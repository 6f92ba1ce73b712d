"""Prompts come through manifests as they were written, and in their order of precedence."""

import csv
import json
import tempfile
from pathlib import Path, PurePosixPath

from hypothesis import given, settings
from hypothesis import strategies as st

from clipsr_cli.prompts import Prompts, read_manifest

# No NUL and no lone surrogate, which no text file holds; no byte order mark, which is left out.
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=40
)
names = st.from_regex(r"[a-zé0-9_\-]{1,8}( [a-z,;\"']{1,4})?\.png", fullmatch=True)
manifests = st.dictionaries(names, texts, max_size=6)


def one_line(text):
    return " ".join(text.split())


def as_read(prompts):
    return {name: one_line(text) for name, text in prompts.items()}


@settings(deadline=None)
@given(prompts=manifests)
def test_csv_comes_back_as_it_was_written(prompts):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prompts.csv")
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("file_name", "text"), *prompts.items()])

        assert read_manifest(path) == as_read(prompts)


@settings(deadline=None)
@given(prompts=manifests, escaped=st.booleans())
def test_json_lines_come_back_as_they_were_written(prompts, escaped):
    rows = [
        json.dumps({"file_name": name, "text": text}, ensure_ascii=escaped)
        for name, text in prompts.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prompts.jsonl")
        path.write_bytes("\n".join(rows).encode())

        assert read_manifest(path) == as_read(prompts)


@settings(deadline=None)
@given(
    row=st.none() | texts,
    option=st.none() | texts,
    txt=st.none() | texts,
    caption=st.none() | texts,
)
def test_the_first_place_that_has_a_prompt_gives_it(row, option, txt, caption):
    with tempfile.TemporaryDirectory() as folder:
        for extension, text in ((".txt", txt), (".caption", caption)):
            if text is not None:
                Path(folder, "a" + extension).write_bytes(text.encode())
        manifest = {} if row is None else {"a.png": one_line(row)}
        prompts = Prompts(manifest=manifest, everywhere=option)

        prompt = prompts.find(Path(folder, "a.png"), PurePosixPath("a.png"))

    places = [(row, "manifest"), (option, "option"), (txt, "sidecar"), (caption, "sidecar")]
    text, source = next(((t, s) for t, s in places if t is not None), ("", "empty"))
    assert (prompt.text, prompt.source) == (one_line(text), source)
