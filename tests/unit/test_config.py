"""Settings become dataclasses, and what does not fit is named, with what was meant."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clipsr_cli.config import build, read_toml
from clipsr_cli.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Network:
    width: int
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Settings:
    name: str
    network: Network = field(default_factory=lambda: Network(width=8))
    more: tuple[Network, ...] = ()
    pair: tuple[int, str] = (1, "a")
    folder: Path | None = None
    bright: bool = False


def test_defaults_stay_where_nothing_is_given():
    assert build(Settings, {"name": "a"}) == Settings(name="a")


def test_values_are_brought_to_their_types():
    built = build(
        Settings,
        {
            "name": "a",
            "network": {"width": 4, "rate": 1},
            "more": [{"width": 1}, Network(width=2)],
            "pair": [3, "c"],
            "folder": "there",
            "bright": True,
        },
    )

    assert built == Settings(
        name="a",
        network=Network(width=4, rate=1.0),
        more=(Network(width=1), Network(width=2)),
        pair=(3, "c"),
        folder=Path("there"),
        bright=True,
    )
    assert isinstance(built.network.rate, float)
    assert build(Settings, {"name": "a", "folder": None}).folder is None
    assert build(Settings, {"name": "a", "folder": Path("x")}).folder == Path("x")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"name": 3}, "name is 3; it must be str"),
        ({"name": "a", "bright": 1}, "bright is 1; it must be bool"),
        ({"name": "a", "network": 3}, "network is 3; it must be Network"),
        ({"name": "a", "network": {"width": 1.5}}, r"network\.width is 1\.5; it must be int"),
        ({"name": "a", "network": {"width": True}}, r"network\.width is True; it must be int"),
        ({"name": "a", "network": {"width": 1, "rate": "x"}}, r"network\.rate is 'x'"),
        ({"name": "a", "network": {"width": 1, "rate": False}}, r"network\.rate is False"),
        ({"name": "a", "network": {}}, r"Missing setting network\.width"),
        ({"name": "a", "more": {"width": 1}}, r"more is .*; it must be tuple\["),
        ({"name": "a", "more": [{"width": "x"}]}, r"more\[0\]\.width is 'x'"),
        ({"name": "a", "pair": [1]}, r"pair is \[1\]; it must be tuple\[int, str\]"),
        ({"name": "a", "folder": 3}, "folder is 3; it must be Path"),
        ({}, "Missing setting name"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(settings, named):
    with pytest.raises(InputError, match=named):
        build(Settings, settings)


def test_an_unknown_setting_is_answered_with_the_nearest_known_one():
    with pytest.raises(InputError, match=r"Unknown setting network\.widht") as caught:
        build(Settings, {"name": "a", "network": {"widht": 3}})
    assert caught.value.hint == "Did you mean network.width?"

    with pytest.raises(InputError, match="Unknown setting zzz") as caught:
        build(Network, {"zzz": 3})
    assert caught.value.hint == "Known: width, rate."


def test_what_is_no_table_is_refused():
    with pytest.raises(InputError, match=r"mini is no table: \[1\]"):
        build(Network, [1], where="mini.")
    with pytest.raises(InputError, match="Network is no table: 3"):
        build(Network, 3)


def test_toml_is_read_with_or_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "é.toml"
    path.write_text('name = "ü"\n', encoding="utf-8-sig")

    assert read_toml(path) == {"name": "ü"}


def test_toml_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"Cannot read .*none\.toml: No such file"):
        read_toml(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    for content in (b"a = ", b"a = '\xff'"):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=r"broken\.toml is not valid TOML"):
            read_toml(broken)


@pytest.mark.parametrize("text", ["x = " + "[" * 3000, "x = " + "9" * 5000], ids=["deep", "long"])
def test_toml_that_is_made_to_confuse_is_refused(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)

    with pytest.raises(InputError, match="is not valid TOML"):
        read_toml(tmp_path / "a.toml")


def test_a_number_beyond_all_floats_is_refused():
    with pytest.raises(InputError, match=r"network\.rate is beyond"):
        build(Settings, {"name": "a", "network": {"width": 8, "rate": 10**400}})
