"""From what is shown no small set can be reckoned, by an oracle that tries every set there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space

from callsieve.training.governance.disclosure import Cell, Partition, protect

FEW = {"callee": 3, "caller": 2}


def rows(table, codes, period="now"):
    names = sorted(set(codes))
    return Partition(np.array([names.index(code) for code in codes]), [Cell(period, table, str(n)) for n in names])


def parts(table, codes, split, values, period="now"):
    """Of a record with value 2 the part is not known."""
    names = sorted({(row, part) for row, part in zip(codes, values, strict=True) if part < 2})
    cells = [Cell(period, table, str(row), split, str(part)) for row, part in names]
    return Partition(np.array([names.index(p) if p in names else -1 for p in zip(codes, values, strict=True)]), cells)


def members(tables, shown):
    """The shown cells as rows of zeros and ones, a column a record."""
    found = [(one.codes == place) for one in tables for place, cell in enumerate(one.cells) if cell in shown]
    return np.array(found, dtype=float).reshape(len(found), len(tables[0].codes))


def is_small(chosen, people, least):
    return any(len(set(who[chosen].tolist())) < least[kind] for kind, who in people.items())


def sets_that_follow(shown, count):
    """Every set of records whose size is a combination of shown sizes: all 2**count are tried."""
    free = null_space(shown) if len(shown) else np.eye(count)
    every = np.array(list(itertools.product((0.0, 1.0), repeat=count)))[1:]
    return every[(np.abs(every @ free) < 1e-8).all(axis=1)].astype(bool)


@st.composite
def populations(draw, most=11):
    count = draw(st.integers(4, most))
    column = lambda high: draw(st.lists(st.integers(0, high), min_size=count, max_size=count))
    people = {"callee": np.array(column(5)), "caller": np.array(column(4))}
    operator, trunk, answered, known = column(2), column(3), column(1), column(2)
    tables = [
        rows("all", [0] * count), rows("operator", operator), rows("trunk", trunk),
        parts("trunk", trunk, "answered", answered), parts("operator", operator, "known", known),
    ]  # fmt: skip
    return people, tables, [rows("day", column(2), "before"), rows("all", [0] * count, "before")]


@settings(max_examples=150)
@given(drawn=populations())
@pytest.mark.source("P10", by="training/governance/disclosure.py")
def test_no_small_set_follows_from_what_is_shown(drawn):
    people, tables, _ = drawn
    shown = protect(tables, people, FEW)
    for chosen in sets_that_follow(members(tables, shown), len(people["callee"])):
        assert not is_small(chosen, people, FEW)


@settings(max_examples=100)
@given(drawn=populations(most=10))
@pytest.mark.source("P10", by="training/governance/disclosure.py")
def test_no_small_set_follows_with_what_was_shown_earlier(drawn):
    people, tables, past = drawn
    was = protect(past, people, FEW)
    earlier = [Partition(np.where(np.isin(one.codes, [i for i, c in enumerate(one.cells) if c in was]), one.codes, -1),
                         one.cells) for one in past]  # fmt: skip
    shown = protect(tables, people, FEW, earlier)
    both = np.vstack([members(tables, shown), members(past, was)])
    for chosen in sets_that_follow(both, len(people["callee"])):
        assert not is_small(chosen, people, FEW)


def test_what_a_small_row_takes_with_it():
    """Rows of 12, 9, 4 and 1 people: the last is small, and would follow from the total if only it were hidden."""
    people = {"callee": np.arange(26), "caller": np.arange(26)}
    codes = [0] * 12 + [1] * 9 + [2] * 4 + [3]
    answered = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0] + [1] * 8 + [0] + [1] * 5
    tables = [rows("all", [0] * 26), rows("trunk", codes), parts("trunk", codes, "answered", answered)]
    shown = protect(tables, people, FEW)
    assert {cell.row for cell in shown if cell.table == "trunk"} == {"0", "1"}
    assert {cell.row for cell in shown if cell.split} == {"0"}  # of the second row one person alone did not answer
    assert shown[Cell("now", "trunk", "1")].records == 9 and shown[Cell("now", "all", "0")].records == 26
    assert shown[Cell("now", "trunk", "0")].people == {"callee": 12, "caller": 12}
    assert shown[Cell("now", "trunk", "0", "answered", "1")].people == {"callee": 3, "caller": 2}


def test_what_was_known_before_takes_nothing_with_it():
    """The row of one person was shown once: nothing is hidden so that it does not follow."""
    people = {"callee": np.arange(26), "caller": np.arange(26)}
    codes = [0] * 12 + [1] * 9 + [2] * 4 + [3]
    shown = protect([rows("all", [0] * 26), rows("trunk", codes)], people, FEW, [rows("trunk", codes, "before")])
    assert {cell.row for cell in shown if cell.table == "trunk"} == {"0", "1", "2"}


def test_where_nothing_is_small_all_is_shown():
    people = {"callee": np.arange(40), "caller": np.arange(40)}
    codes = [n % 4 for n in range(40)]
    tables = [
        rows("all", [0] * 40),
        rows("trunk", codes),
        parts("trunk", codes, "answered", [n // 20 for n in range(40)]),
    ]
    assert len(protect(tables, people, FEW)) == 1 + 4 + 8


def test_too_many_cells_are_refused():
    codes = list(range(4001))
    with pytest.raises(ValueError, match="expected at most 4000 cells, got 4001"):
        protect([rows("trunk", codes)], {"callee": np.array(codes)}, FEW)
