"""Complaints and league tables of the report: against a plain count, and nothing below the minimum."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from callsieve.training.oversight.governance.complaint_counts import calls_of_complaints, complaint_cells, regulator_of
from callsieve.training.oversight.governance.disclosure import BASE
from callsieve.training.oversight.governance.leagues import leagues
from callsieve.training.oversight.governance.parties import read_report_data
from callsieve.training.oversight.governance.report import days_of, period_of, tables_of

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
