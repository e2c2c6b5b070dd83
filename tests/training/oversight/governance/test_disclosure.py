"""Disclosure control: no cell under the minimum is shown, and every shown count is a multiple of the base."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.training.oversight.governance.complaint_counts import calls_of_complaints, complaint_cells, regulator_of
from callsieve.training.oversight.governance.disclosure import BASE, Cell, Count, Partition, protect
from callsieve.training.oversight.governance.parties import read_report_data
from callsieve.training.oversight.governance.report import days_of, leagues, period_of, tables_of

LEAST = {"callee": 3, "caller": 2}


def rows(table, codes):
    names = sorted({code for code in codes if code >= 0})
    return Partition(
        np.array([names.index(code) if code >= 0 else -1 for code in codes]),
        [Cell("now", table, str(name)) for name in names],
    )


def parts(table, codes, split, values):
    """The cells of one split of a table; a record with value 2 has no part."""
    names = sorted({(row, part) for row, part in zip(codes, values, strict=True) if row >= 0 and part < 2})
    cells = [Cell("now", table, str(row), split, str(part)) for row, part in names]
    pairs = zip(codes, values, strict=True)
    return Partition(np.array([names.index(pair) if pair in names else -1 for pair in pairs]), cells)


def is_small(chosen, people):
    return any(len(set(numbers[chosen].tolist())) < LEAST[kind] for kind, numbers in people.items())


@st.composite
def populations(draw):
    count = draw(st.integers(1, 40))
    column = lambda low, high: draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
    people = {"callee": np.array(column(0, 12)), "caller": np.array(column(0, 8))}
    operator, trunk, answered, is_known = column(0, 2), column(-1, 5), column(0, 1), column(0, 2)
    tables = [
        rows("all", [0] * count),
        rows("operator", operator),
        parts("operator", operator, "known", is_known),
        rows("trunk", trunk),
        parts("trunk", trunk, "answered", answered),
    ]
    return people, tables


@pytest.mark.system
@settings(max_examples=300)
@given(population=populations())
@pytest.mark.source("P10", by="training/oversight/governance/disclosure.py")
def test_no_cell_under_the_minimum_is_shown_or_follows_from_others(population):
    """Counts are multiples of the base, hidden rows reach the minimum together, and hidden rows hide their splits."""
    people, tables = population
    shown = protect(tables, people, LEAST)
    for table in tables:
        for place, cell in enumerate(table.cells):
            if cell in shown:
                chosen = table.codes == place
                count = shown[cell]
                assert not is_small(chosen, people)
                assert count.records % BASE == 0 and abs(count.records - chosen.sum()) <= BASE // 2
                for kind, number in count.people.items():
                    exact = len(set(people[kind][chosen].tolist()))
                    assert number % BASE == 0 and number <= exact < number + BASE
    for table in (tables[1], tables[3]):
        hidden = np.isin(table.codes, [i for i, cell in enumerate(table.cells) if cell not in shown])
        if hidden.any() and any(cell in shown for cell in table.cells):
            assert not is_small(hidden, people)
    for cell in shown:
        if cell.split:
            assert cell._replace(split="", part="") in shown
            assert {other for table in tables for other in table.cells if other[:4] == cell[:4]} <= set(shown)


def test_a_small_row_hides_the_next_smallest_row_too():
    """Rows of 12, 9, 4 and 1 people: a total minus the other rows would give the row of one person."""
    people = {"callee": np.arange(26), "caller": np.arange(26)}
    codes = [0] * 12 + [1] * 9 + [2] * 4 + [3]
    answered = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0] + [1] * 8 + [0] + [1] * 5
    tables = [rows("all", [0] * 26), rows("trunk", codes), parts("trunk", codes, "answered", answered)]
    shown = protect(tables, people, LEAST)
    assert {cell.row for cell in shown if cell.table == "trunk"} == {"0", "1"}
    assert {cell.row for cell in shown if cell.split} == {"0"}  # a single person of the second row did not answer
    assert shown[Cell("now", "all", "0")] == Count(25, {"callee": 25, "caller": 25})
    assert shown[Cell("now", "trunk", "0")] == Count(10, {"callee": 10, "caller": 10})
    assert shown[Cell("now", "trunk", "1")] == Count(10, {"callee": 5, "caller": 5})
    assert shown[Cell("now", "trunk", "0", "answered", "0")] == Count(10, {"callee": 5, "caller": 5})


def test_all_cells_are_shown_if_none_is_small():
    people = {"callee": np.arange(40), "caller": np.arange(40)}
    codes = [n % 4 for n in range(40)]
    answered = parts("trunk", codes, "answered", [n // 20 for n in range(40)])
    assert len(protect([rows("all", [0] * 40), rows("trunk", codes), answered], people, LEAST)) == 1 + 4 + 8


# Leagues


ALL = {"callee": 1, "caller": 1}


@pytest.fixture(scope="module")
def source(world_folder):
    return read_report_data(world_folder)


@pytest.fixture(scope="module")
def periods(source):
    last = int(source.calls["day"].to_numpy().max())
    return period_of(last - 10, last), period_of(last - 20, last - 10)


def plain_complaints(world_folder, period):
    """The complaints of a period, by local dates."""
    frame = pq.read_table(world_folder / "complaints.parquet").to_pandas()
    day = frame["known_at"].dt.tz_convert("Asia/Shanghai").dt.tz_localize(None).dt.floor("D")
    first, after = (pd.Timestamp("1970-01-01") + pd.Timedelta(days=days) for days in days_of(period))
    return frame[(day >= first) & (day < after)]


@pytest.mark.source("L44", "L23", "L24", "L25", "L26", "L27", by="training/oversight/governance/complaint_counts.py")
def test_complaints_are_counted_by_category_and_by_the_regulator_of_the_trade(world_folder, source, periods):
    shown = tables_of(complaint_cells(source, periods, ALL), *periods)
    now, past = (plain_complaints(world_folder, period) for period in periods)
    rounded = lambda count: (count + BASE // 2) // BASE * BASE
    counts = {word: rounded(count) for word, count in now["category"].astype(str).value_counts().items()}
    assert {row["row"]: row["calls"] for row in shown["complaints_category"]} == {w: n for w, n in counts.items() if n}
    by_regulator = now["category"].astype(str).map(regulator_of).value_counts()
    assert {row["row"]: row["calls"] for row in shown["complaints_regulator"]} == {
        name: rounded(count) for name, count in by_regulator.items() if rounded(count)
    }
    [whole] = shown["complaints"]
    assert (whole["calls"], whole["before"]) == (rounded(len(now)), rounded(len(past)))
    assert regulator_of("loans") == "finance" and regulator_of("fraud") == "police"


@pytest.mark.source("L5", by="training/oversight/governance/complaint_counts.py")
def test_a_complaint_counts_for_the_operator_of_the_callers_last_call(source):
    call = calls_of_complaints(source)
    calls = source.calls.select(["start", "caller"]).to_pandas().astype({"caller": object})
    matched = 0
    for row, index in list(zip(source.complaints.itertuples(), call.tolist(), strict=True))[::7]:
        at = row.at.timestamp() * 1000
        earlier = calls[(calls["caller"] == row.number) & (calls["start"] <= at)]
        assert index == (earlier.index[-1] if len(earlier) else -1)
        matched += len(earlier) > 0
    assert matched > 5


@pytest.mark.source("P10", by="training/oversight/governance/complaint_counts.py")
def test_small_cells_of_complaints_are_hidden(source, periods):
    shown = complaint_cells(source, periods, {"callee": 6, "caller": 2})
    categories = [
        cell.row
        for cell, count in shown.items()
        if cell.table == "complaints_category" and count.records and not cell.split
    ]
    assert categories
    for row in source.complaints[source.complaints["category"].isin(categories)].groupby("category", observed=True):
        assert row[1]["reporter"].nunique() >= 6 and row[1]["number"].nunique() >= 2
    hidden = complaint_cells(source, periods, {"callee": 10**6, "caller": 1})
    assert not any(count.records for count in hidden.values())


@pytest.mark.source("L5", "L8", by="training/oversight/governance/report.py")
def test_a_league_table_ranks_by_complaints_per_call_and_shows_the_rank_before():
    row = lambda name, calls, before, **splits: {"row": name, "calls": calls, "before": before, "splits": splits}
    mix = {"pass": 900, "label": 60, "block": 40}
    tables = {
        "operator": [
            row("a", 1000, 2000, action=mix, content={"loans": 30, "fraud": 60, "others": 90}),
            row("b", 500, 500),
            row("c", 100, None),
        ],
        "complaints_operator": [row("a", 10, 10), row("b", 10, 20), row("z", 5, 5)],
    }
    [first, second, last] = leagues(tables)["operator"]
    assert (first["row"], first["rate"], first["rank"], first["rank_before"]) == ("b", 2000.0, 1, 1)
    assert (second["row"], second["rate"], second["rank"], second["rank_before"]) == ("a", 1000.0, 2, 2)
    assert (second["acted"], second["content"]) == (100, "fraud")
    assert (last["row"], last["rank"], last["complaints"], last["acted"]) == ("c", None, None, None)
    assert leagues({}) == {}
