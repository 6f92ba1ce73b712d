"""Names never lead out of a folder, splits never move, preparing changes nothing that is read."""

import os
import pickle
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from clipsr_cli import datasets
from clipsr_cli.datasets import DATASETS, Options
from clipsr_cli.datasets.attributes import sentences
from clipsr_cli.datasets.files import inside, read_names
from clipsr_cli.datasets.splits import by_hash
from clipsr_cli.errors import InputError

names = st.text(max_size=20) | st.lists(
    st.sampled_from(["..", ".", "", "a", "b.jpg", "\0", "~", "C:"]), max_size=5
).map("/".join)
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), max_size=20
)


@given(name=names)
def test_a_name_stays_inside_or_is_refused(name):
    folder = Path("/data/set")
    try:
        path = inside(folder, name, "list")
    except InputError:
        return
    assert os.path.normpath(path).startswith("/data/set/")


@given(
    some=st.sets(st.text(max_size=8)),
    more=st.sets(st.text(max_size=8)),
    share=st.floats(0, 1, exclude_max=True),
)
def test_a_names_split_stays_when_others_come(some, more, share):
    before = by_hash(some, share, at_least_one=False)
    after = by_hash(some | more, share, at_least_one=False)

    assert before == {name: after[name] for name in some}
    forced = by_hash(some, share)
    assert sum(forced[name] != before[name] for name in some) <= 1
    assert not some or "test" in forced.values()


@given(listed=st.lists(st.text()), protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_pickled_names_come_back(listed, protocol):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "filenames.pickle")
        path.write_bytes(pickle.dumps(listed, protocol))

        assert read_names(path) == listed


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_list_of_names_or_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "filenames.pickle")
        path.write_bytes(content)
        try:
            found = read_names(path)
        except InputError:
            return
    assert all(isinstance(name, str) for name in found)


@settings(deadline=None)
@given(
    captions=st.dictionaries(st.sampled_from("abcdefgh"), texts, min_size=1),
    share=st.floats(0, 1, exclude_max=True),
)
def test_preparing_a_folder_changes_nothing_that_is_read(captions, share):
    options = Options(held_back=share)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for stem, text in captions.items():
            (root / f"{stem}.png").touch()
            (root / f"{stem}.txt").write_text(text, encoding="utf-8")
        before = datasets.read("folder", root, options)

        DATASETS["folder"].prepare(root, options)

        assert datasets.read("folder", root) == before


COLOURED = ("primary", "bill", "crown", "wing", "belly", "leg", "eye", "throat", "breast", "back")


@given(
    traits=st.dictionaries(
        st.sampled_from(["size", "bill_shape", *(f"{part}_color" for part in COLOURED)]),
        st.lists(st.sampled_from(["red", "olive", "grey"]), min_size=1, max_size=2, unique=True),
    )
)
def test_sentences_read_well_whatever_is_known(traits):
    said = sentences(traits)

    assert len(set(said)) == len(said)
    for sentence in said:
        assert sentence == " ".join(sentence.split())
        assert "bird" in sentence
        assert " a olive" not in sentence
        assert not sentence.endswith((" and", " with", " has"))
