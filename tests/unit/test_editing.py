"""An edit is measured by where the picture goes: to the words, to the colour, and still true."""

import pytest
import torch

from clipsr_cli.errors import InputError
from clipsr_cli.evaluation.editing import Edit, Editing, colour_direction, read_edits
from clipsr_cli.evaluation.pairs import Pair
from clipsr_cli.evaluation.scoring import PLAIN
from clipsr_cli.metrics import Setting

RED_TO_BLUE = Edit(source="a red bird", target="a blue bird")
NO_COLOUR = Edit(source="a bird", target="a dog")


@pytest.fixture
def setting(tiny_clip):
    return Setting(scale=4, clip=tiny_clip)


def pair():
    torch.manual_seed(0)
    low = torch.rand(3, 16, 16).mul(200).round().div(255)
    high = PLAIN["bicubic"](
        Pair(name="a", high=torch.zeros(3, 64, 64), low=low, prompt="", caption="")
    )
    return Pair(name="a", high=high, low=low, prompt="", caption="a red bird")


def obedient(strength):
    """Adds blue where it is told to, and takes red away."""

    def enlarge(told):
        shift = strength * 0.1 * ("blue" in told.prompt)
        return told.high + torch.tensor([-shift, 0.0, shift])[:, None, None]

    return enlarge


def test_an_obedient_model_moves_the_colour_and_loses_consistency(setting):
    strengths = {0.0: obedient(0.0), 1.0: obedient(1.0), 2.0: obedient(2.0)}
    editing = Editing({"a": pair, "b": pair}, [RED_TO_BLUE, NO_COLOUR], strengths, setting)

    assert list(editing.run()) == ["a", "b"]
    moved = {(row.edit, row.strength): row for row in editing.moved()}

    gains = [moved[RED_TO_BLUE, strength].colour_gain.mean for strength in strengths]
    assert gains[0] == 0
    assert 10 < gains[1] < gains[2]
    consistency = [moved[RED_TO_BLUE, strength].lr_psnr.mean for strength in strengths]
    assert consistency[0] > consistency[1] > consistency[2]
    assert moved[RED_TO_BLUE, 0.0].clip_gain.mean == 0
    assert moved[RED_TO_BLUE, 2.0].clip_gain.mean != 0
    assert moved[NO_COLOUR, 2.0].colour_gain is None
    assert moved[RED_TO_BLUE, 1.0].clip_gain.n == 2


def test_the_sheet_has_a_row_per_prompt(setting):
    strengths = {0.0: obedient(0.0), 1.0: obedient(1.0)}
    editing = Editing({"a": pair, "b": pair}, [RED_TO_BLUE], strengths, setting, shown=3)
    list(editing.run())

    assert [prompt for _, _, prompt in editing.strips] == ["a red bird", "a blue bird"]
    assert all(len(made) == 2 for _, made, _ in editing.strips)


def test_a_picture_that_cannot_be_read_stops_nothing(setting):
    def broken():
        raise InputError("It is smaller than 4 pixels.")

    editing = Editing({"x": broken, "a": pair}, [NO_COLOUR], {1.0: obedient(1.0)}, setting)

    assert list(editing.run()) == ["a"]
    assert editing.failed == {"x": "It is smaller than 4 pixels."}
    fails = Editing({"a": pair}, [RED_TO_BLUE], {1.0: lambda _: broken()}, setting)
    assert list(fails.run()) == fails.moved() == []
    assert fails.failed.keys() == {"a"}
    none = Editing({"x": broken}, [NO_COLOUR], {1.0: obedient(1.0)}, setting)
    assert list(none.run()) == none.moved() == []


@pytest.mark.parametrize(
    ("source", "target", "towards"),
    [
        ("a red bird", "a BLUE bird", (-1, 0, 1)),
        ("white walls, red roof", "a black wall", (-1, -1, -1)),
        ("a bird", "a blue bird", None),
        ("a red bird", "a red dog", None),
        ("a tiredly singing bird", "a bluebird", None),
    ],
)
def test_colours_are_found_in_prompts(source, target, towards):
    way = colour_direction(Edit(source=source, target=target))

    if towards is None:
        assert way is None
    else:
        assert way.norm().item() == pytest.approx(1)
        for value, sign in zip(way.tolist(), towards, strict=True):
            assert abs(value) < 0.3 if sign == 0 else value * sign > 0.3


def test_edits_are_read_from_csv_and_json_lines(tmp_path):
    row = 'a red bird,"a  blue bird, small"\n'
    (tmp_path / "a.csv").write_text("from,to\n" + 2 * row)
    (tmp_path / "same.csv").write_text("from,to\na bird,a  bird\n")
    (tmp_path / "a.jsonl").write_text('{"from": "a red bird", "to": "a blue bird, small"}\n')
    (tmp_path / "none.csv").write_text("from,to\n")
    (tmp_path / "other.csv").write_text("file_name,text\na,b\n")

    expected = [Edit(source="a red bird", target="a blue bird, small")]
    assert read_edits(tmp_path / "a.csv") == read_edits(tmp_path / "a.jsonl") == expected
    with pytest.raises(InputError, match="stands on both sides"):
        read_edits(tmp_path / "same.csv")
    with pytest.raises(InputError, match="no pair of prompts"):
        read_edits(tmp_path / "none.csv")
    with pytest.raises(InputError, match="needs the columns from and to"):
        read_edits(tmp_path / "other.csv")
