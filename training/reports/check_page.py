"""The page beside the sheet of numbers to check: what is known of each caller, and how to fill in the sheet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from callsieve.features.files.atomic import write_atomic
from callsieve.training.adapt.answers import SHEET

from .run_page import environment, render

PAGE = "to_check.html"
FIRST_LINE = 2  # of the sheet, below its heading


def write_check_page(sheet: pd.DataFrame, path: Path) -> None:
    """Writes the page, in the language in force; nothing if there is no caller to check."""
    if len(sheet):
        write_atomic(path, check_page(sheet).encode())


def check_page(sheet: pd.DataFrame) -> str:
    """Returns the page as text: one row a caller, in the order of the sheet."""
    rows = [row | {"line": place} for place, row in enumerate(sheet.to_dict("records"), FIRST_LINE)]
    again = bool((sheet["look"] == 2).any())
    return render(environment(__package__).get_template("check_page.html"), {"rows": rows}, again=again, file=SHEET)
