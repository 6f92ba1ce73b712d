"""Turn reports into files: a JSON object, a table, an HTML page, sheets of pictures."""

from clipsr_cli.reports.page import make_page, write_page
from clipsr_cli.reports.sheets import (
    Pictures,
    SheetRow,
    contact_sheet,
    draw_sheet,
    evaluation_sheet,
    strip,
)
from clipsr_cli.reports.tables import as_json, write_csv, write_json

__all__ = [
    "Pictures",
    "SheetRow",
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
