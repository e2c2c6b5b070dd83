"""The page beside the sheet of numbers to check, and what it says of the sheet."""

import re

import pandas as pd
import pytest

from callsieve.training.adapt.check_sheet import COLUMNS
from callsieve.training.reports.check_page import check_page, write_check_page

REASONS = ("<script>alert(1)</script>", "")


def example_sheet(look):
    """Returns two callers to check, in a first or a second round."""
    rows = [
        (f"e1.{letter * 32}", "0.25", look, "", "", row, nuisance, 1_058, 277, 2, 0, reasons)
        for letter, row, nuisance, reasons in zip("ba", (56_474, 9), (0.4, 1.0), REASONS, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_each_caller_has_a_row_in_the_order_of_the_sheet():
    text = check_page(example_sheet(1))
    rows = re.findall(r"<tr><td.*?</tr>", text)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    assert [row[:7] for row in cells] == [
        ["2", "56474", "0.40", "1,058", "277", "2", "0"],
        ["3", "9", "1.00", "1,058", "277", "2", "0"],
    ]
    assert [row[-1] for row in cells] == [f"<code>e1.{letter * 32}</code>" for letter in "ba"]
    assert 'data-head="probability of nuisance"' in text


@pytest.mark.parametrize(("look", "shown"), [(1, False), (2, True)])
def test_the_page_tells_how_to_fill_in_the_sheet(look, shown):
    text = check_page(example_sheet(look))
    assert "<code>verdict</code>" in text and "--answers to_check.csv" in text
    assert ("Second check." in text) is shown


def test_the_page_has_no_script_and_no_other_file():
    text = check_page(example_sheet(1))
    assert "<script" not in text and "&lt;script&gt;" in text
    assert not re.search(r"(src|href)=|https?:|url\(|@import", text)


@pytest.mark.parametrize("callers", [0, 2])
def test_there_is_a_page_only_if_there_is_a_caller_to_check(callers, tmp_path):
    write_check_page(example_sheet(1)[:callers], tmp_path / "to_check.html")
    assert (tmp_path / "to_check.html").exists() is bool(callers)
