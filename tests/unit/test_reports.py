"""A sheet shows each picture that can be read: small, bicubic and what was made of it."""

import numpy as np
import pytest
from PIL import Image

from clipsr_cli.errors import ImageError
from clipsr_cli.reports import SheetRow, contact_sheet, evaluation_sheet
from clipsr_cli.reports.sheets import CELL, MARGIN, MAX_ROWS, TITLE

WIDTH = 3 * CELL + 4 * MARGIN


def cell(sheet, column, top, height, width=CELL):
    """One picture of the sheet, away from its rim: (h, w, 3)."""
    left = MARGIN + column * (CELL + MARGIN)
    return np.asarray(sheet)[top + 2 : top + height - 2, left + 2 : left + width - 2]


@pytest.fixture
def rows(tmp_path):
    """Writes pictures of given sizes and their four times larger results."""

    def make(*sizes, prompt=""):
        made = []
        for index, (width, height) in enumerate(sizes):
            low, high = tmp_path / f"low {index}.png", tmp_path / f"high {index}.png"
            pixels = np.full((height, width, 3), (200, 40, 40), np.uint8)
            pixels[:, width // 2 :] = (40, 40, 200)
            Image.fromarray(pixels).save(low)
            Image.new("RGB", (4 * width, 4 * height), (40, 200, 40)).save(high)
            made.append(SheetRow(low=low, high=high, prompt=prompt))
        return made

    return make


def test_a_sheet_has_a_row_per_picture_as_tall_as_it_needs(rows, tmp_path):
    path = tmp_path / "new" / "sheet.png"

    assert contact_sheet(rows((8, 4), (4, 8)), path) == 2

    with Image.open(path) as sheet:
        row = TITLE + MARGIN
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        assert sheet.size == (WIDTH, row + (CELL // 2 + row) + (CELL + row))


def test_a_row_shows_the_pixels_then_bicubic_then_the_result(rows, tmp_path):
    contact_sheet(rows((2, 1)), tmp_path / "sheet.png")

    with Image.open(tmp_path / "sheet.png") as sheet:
        shown = [cell(sheet, column, TITLE, CELL // 2) for column in range(3)]
    low, bicubic, high = (len(np.unique(part.reshape(-1, 3), axis=0)) for part in shown)
    # Two pixels as they are, a gradient between them, and the result's one colour.
    assert (low, high) == (2, 1)
    assert bicubic > 20
    assert np.unique(shown[2].reshape(-1, 3), axis=0).tolist() == [[40, 200, 40]]


def test_pictures_that_cannot_be_read_are_left_out(rows, tmp_path):
    first, second, third, fourth = rows(*[(4, 4)] * 4)
    first.low.write_bytes(b"")
    second.high.unlink()
    third.high.write_bytes(third.high.read_bytes()[:60])

    assert contact_sheet([first, second, third, fourth], tmp_path / "sheet.png") == 1

    contact_sheet([fourth], tmp_path / "expected.png")
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_a_sheet_of_nothing_still_has_its_titles(tmp_path):
    assert contact_sheet([], tmp_path / "sheet.png") == 0

    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (WIDTH, TITLE + MARGIN)
        darkest, brightest = sheet.convert("L").getextrema()
    assert darkest < 50
    assert brightest == 255


def test_a_sheet_ends_after_so_many_rows(rows, tmp_path):
    # Wide and flat, so that the sheet stays small.
    many = rows((32, 1)) * (MAX_ROWS + 3)

    assert contact_sheet(many, tmp_path / "sheet.png") == MAX_ROWS


def test_transparent_and_16_bit_pictures_are_shown_on_white(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, 2:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "low.png")
    Image.fromarray(np.full((16, 16), 32768, np.uint16)).save(tmp_path / "high.png")
    row = SheetRow(low=tmp_path / "low.png", high=tmp_path / "high.png", prompt="")

    contact_sheet([row], tmp_path / "sheet.png")

    with Image.open(tmp_path / "sheet.png") as sheet:
        low, high = cell(sheet, 0, TITLE, CELL), cell(sheet, 2, TITLE, CELL)
    assert (low[:, : CELL // 2 - 4].min(), low[:, CELL // 2 + 4 :].max()) == (255, 0)
    assert np.unique(high).tolist() == [128]


def test_the_prompt_is_drawn_on_one_line_whatever_it_holds(rows, tmp_path):
    drawn = {}
    for prompt in ("", "a red bird", "a red\nbird", "a red ?", "a red 鳥", "word " * 400):
        contact_sheet(rows((32, 1), prompt=prompt), tmp_path / "sheet.png")
        drawn[prompt] = (tmp_path / "sheet.png").read_bytes()

    assert drawn["a red bird"] != drawn[""]
    assert drawn["a red\nbird"] == drawn["a red bird"]
    assert drawn["a red 鳥"] == drawn["a red ?"]


def test_a_picture_of_extreme_shape_is_shown(rows, tmp_path):
    assert contact_sheet(rows((1, 700), (700, 1)), tmp_path / "sheet.png") == 2


def test_a_sheet_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(ImageError, match=r"Cannot write .*sheet\.png"):
        contact_sheet([], tmp_path / "file" / "sheet.png")


COLOURS = {"mini": (200, 0, 0), "reference": (0, 200, 0), "low": (0, 0, 200)}
MORE = {"bicubic": (90, 90, 90), "b": (1, 1, 1), "c": (2, 2, 2), "d": (3, 3, 3)}


def colours(path, rows):
    """The colour of each cell of each row of square pictures, and the titles' strip."""
    with Image.open(path) as sheet:
        columns = (sheet.width - MARGIN) // (CELL + MARGIN)
        height = CELL + TITLE + MARGIN
        return [
            [
                sheet.getpixel((MARGIN + column * (CELL + MARGIN) + 9, TITLE + row * height + 9))
                for column in range(columns)
            ]
            for row in range(rows)
        ]


def test_an_evaluation_sheet_shows_small_bicubic_each_model_and_the_reference(
    make_report, flat_pictures, tmp_path
):
    report = make_report({"mini": {"lpips": [0.1, 0.2]}, "bicubic": {"lpips": [0.1, 0.2]}})
    path = tmp_path / "sheet.png"

    assert evaluation_sheet(report, path, flat_pictures(report, COLOURS)) == 2

    assert colours(path, 2) == [[(0, 0, 200), (0, 0, 200), (200, 0, 0), (0, 200, 0)]] * 2


def test_at_most_three_models_are_shown(make_report, flat_pictures, tmp_path):
    report = make_report({name: {"psnr": [1.0]} for name in ("mini", *MORE)})
    path = tmp_path / "sheet.png"

    evaluation_sheet(report, path, flat_pictures(report, COLOURS | MORE))

    assert len(colours(path, 1)[0]) == 2 + 3 + 1


def test_results_without_small_pictures_are_shown_with_their_references(
    make_report, flat_pictures, tmp_path
):
    report = make_report({"mini": {"psnr": [1.0]}, "bicubic": {"psnr": [1.0]}}, scale=None)
    kinds = {kind: (COLOURS | MORE)[kind] for kind in ("mini", "bicubic", "reference")}
    path = tmp_path / "sheet.png"

    assert evaluation_sheet(report, path, flat_pictures(report, kinds)) == 1

    assert colours(path, 1) == [[(200, 0, 0), (90, 90, 90), (0, 200, 0)]]


def test_so_many_rows_as_asked_for_and_no_more_than_a_sheet_has(
    make_report, flat_pictures, tmp_path
):
    report = make_report({"mini": {"lpips": [i / 100 for i in range(99)]}})
    find = flat_pictures(report, COLOURS, size=(64, 4))
    path = tmp_path / "sheet.png"

    assert evaluation_sheet(report, path, find) == 12
    assert evaluation_sheet(report, path, find, rows=1) == 1
    assert evaluation_sheet(report, path, find, rows=1000) == MAX_ROWS


def test_a_row_is_labelled_with_name_score_and_prompt(make_report, flat_pictures, tmp_path):
    labels = [("a", 0.1, "x"), ("b", 0.1, "x"), ("a", 0.2, "x"), ("a", 0.1, "y"), ("a", None, "x")]
    reports = [
        make_report({"mini": {"lpips": [score]}}, names=[name], prompt=prompt)
        for name, score, prompt in labels
    ]
    find = flat_pictures(reports[0], COLOURS)
    drawn = set()
    for report in reports:
        evaluation_sheet(report, tmp_path / "sheet.png", lambda kind, name: find(kind, "a"))
        drawn.add((tmp_path / "sheet.png").read_bytes())

    assert len(drawn) == len(labels)


def test_rows_of_which_a_picture_is_missing_and_reports_of_nothing_are_no_error(
    make_report, flat_pictures, tmp_path
):
    report = make_report({"mini": {"psnr": [None]}})
    find = flat_pictures(report, {"mini": "red", "low": "blue"})

    assert evaluation_sheet(report, tmp_path / "sheet.png", find) == 0
    assert evaluation_sheet(make_report({}), tmp_path / "sheet.png", find) == 0
