"""Turn reports into files: a JSON object, a table, an HTML page, sheets of pictures."""

from clipsr_cli.reports.gallery import MAX_PICTURES
from clipsr_cli.reports.page import make_page, write_page
from clipsr_cli.reports.sheets import (
    CELL,
    MARGIN,
    MAX_ROWS,
    TITLE,
    Pictures,
    SheetRow,
    Strip,
    contact_sheet,
    draw_sheet,
    evaluation_sheet,
    strip,
)
from clipsr_cli.reports.tables import as_json, write_csv, write_json

__all__ = [
    "CELL",
    "MARGIN",
    "MAX_PICTURES",
    "MAX_ROWS",
    "TITLE",
    "Pictures",
    "SheetRow",
    "Strip",
    "as_json",
    "contact_sheet",
    "draw_sheet",
    "evaluation_sheet",
    "make_page",
    "strip",
    "write_csv",
    "write_json",
    "write_page",
]
