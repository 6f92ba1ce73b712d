"""A config comes back from its plain values as it was, and a misspelt name never passes."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsr_cli.config import build
from clipsr_cli.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Source:
    root: Path
    weight: float
    exclude: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Training:
    first: Source
    others: tuple[Source, ...]
    size: tuple[int, int]
    steps: int
    limit: int | None
    shuffled: bool
    name: str


sources = st.builds(
    Source,
    root=st.text(min_size=1).map(Path),
    weight=st.floats(allow_nan=False),
    exclude=st.lists(st.text(), max_size=3).map(tuple),
)
trainings = st.builds(
    Training,
    first=sources,
    others=st.lists(sources, max_size=3).map(tuple),
    size=st.tuples(st.integers(), st.integers()),
    steps=st.integers(),
    limit=st.none() | st.integers(),
    shuffled=st.booleans(),
    name=st.text(),
)


def plain(config):
    """As a file gives it: dicts, lists, strings and numbers only."""
    return json.loads(json.dumps(asdict(config), default=str))


@settings(deadline=None)
@given(config=trainings)
def test_plain_values_build_the_config_they_came_from(config):
    assert build(Training, plain(config)) == config
    assert build(Training, asdict(config)) == config


@settings(deadline=None)
@given(config=trainings, data=st.data())
def test_a_misspelt_name_is_refused_with_the_one_that_was_meant(config, data):
    values = plain(config)
    name = data.draw(st.sampled_from(sorted(values)))
    place = data.draw(st.integers(0, len(name)))
    values[f"{name[:place]}q{name[place:]}"] = values.pop(name)

    with pytest.raises(InputError, match="Unknown setting") as caught:
        build(Training, values)
    assert caught.value.hint == f"Did you mean {name}?"


@settings(deadline=None)
@given(config=trainings, name=st.sampled_from(["first", "others", "size", "steps", "shuffled"]))
def test_a_value_of_another_type_is_refused_by_name(config, name):
    with pytest.raises(InputError, match=f"{name} is 'x'"):
        build(Training, plain(config) | {name: "x"})
