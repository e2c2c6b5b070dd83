"""The governance report: calls by connecting party, trunk, industry and regulator, as disclosure-controlled counts.

Every figure of the report is a rounded cell count that passes the disclosure control of `disclosure.py`. The league
tables (通报) rank operators, industries and areas by complaints per hundred thousand calls. Counts of
earlier reports, without tokens, give the comparison with the period and the year before (环比, 同比).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.arrays import Array
from callsieve.features.files.dates import EPOCH, parse_day
from callsieve.features.files.progress import Progress
from callsieve.features.keys.tokens import is_token
from callsieve.features.reading.call_files import write_table
from callsieve.serving.custody.purposes import is_simulated

from .complaint_counts import complaint_cells, groups_with_shared_callees
from .disclosure import BASE, LEAST, Cell, Count, Partition, protect
from .parties import UNCLASSIFIED, Column, ReportData, columns, dictionary, in_force, party_names, read_report_data

if TYPE_CHECKING:
    from .report_page import LeagueRow, ReportFigures, ReportRow


MAX_ROWS = 40
"""Maximum rows of a table; the rows with the fewest calls are left out."""
BULK = 50
"""An unregistered caller with at least this many distinct callees in a period calls in bulk."""
TABLES: dict[str, tuple[str, ...]] = {
    "all": ("answered", "false_number", "registered", "action", "plan_class"),
    "operator": ("answered", "false_number", "registered", "action", "plan_class", "content"),
    "trunk": ("answered", "false_number", "outside_register", "registered", "action", "plan_class"),
    "class": ("registered", "action", "plan_class"),
    "industry": ("answered", "outsourced", "action", "plan_class", "content"),
    "area": ("answered", "action", "plan_class", "content"),
    "principal": ("answered", "outsourced", "action", "plan_class"),
    "agent": ("answered", "action", "plan_class"),
    "plan_class": ("answered", "action"),
    "content": ("answered", "action"),
    "regulator": ("answered", "action", "plan_class"),
    "unregistered_bulk": ("answered", "action", "plan_class"),
    "unlicensed": ("licence", "answered", "action", "plan_class"),
    "victims_in_common": ("answered", "action", "plan_class"),
}
"""The tables, each with the splits of its rows. Splits without data are left out."""
COMPARED = tuple(
    name for name in TABLES if name not in ("class", "unregistered_bulk", "unlicensed", "victims_in_common")
)
"""Tables that also show the calls of the previous period."""
LEAGUES = {"operator": "complaints_operator", "industry": "complaints_category", "area": "complaints_area"}
"""The league tables: the table of calls and the table of complaints behind each."""
PER = 100_000
OTHERS = "others"  # the contents of a row beside its commonest one
LEFT_OUT = frozenset(("trunk", "unregistered_bulk", "unlicensed", "victims_in_common", "preferences", "refusals"))
_SCHEMA = pa.schema({**dict.fromkeys(("period", "table", "row"), pa.string()), "records": pa.int64()}.items())
_Counts = dict[tuple[str, str, str], int]
Tables = Mapping[str, Sequence["ReportRow"]]


def period_of(first: int, last: int) -> str:
    """Returns the name of the period of local days [first, last), in days since 1970.

    >>> period_of(20150, 20157)
    '2025-03-03/2025-03-10'
    """
    return "/".join((EPOCH + timedelta(days=day)).isoformat() for day in (first, last))


def days_of(period: str) -> tuple[int, int]:
    """Returns the first day of a period and the day after its last, as days since 1970.

    >>> days_of("2025-03-03/2025-03-10")
    (20150, 20157)
    """
    first, _, last = period.partition("/")
    return (date.fromisoformat(first) - EPOCH).days, (date.fromisoformat(last) - EPOCH).days


def write_report(
    data: Path,
    out: Path,
    *,
    verdicts: Path | None = None,
    bundle: Path | None = None,
    until: str | None = None,
    days: int = 7,
    least: Mapping[str, int] = LEAST,
    past: Path | None = None,
    progress: Progress,
) -> ReportFigures:
    """Writes the report of some days in `out`: `report.html`, `tables/` (CSV) and `cells.parquet`.

    `until`: local date after the last day of the report; by default the last day of the calls. `days`: length of the
    period; the previous period has the same length.
    """
    from .report_page import write_cells, write_page, write_tables

    progress("read", 0.1)
    source = read_report_data(data, verdicts, bundle)
    now, before = periods(source, until, days)
    progress("count", 0.3)
    calls = call_cells(source, now, before, least)
    if not any(cell.table == "all" for cell in calls):
        raise ValueError(f"period {now}: every cell is below the minimum; increase --days")
    progress("preferences", 0.8)
    comparable = any(cell.period == before for cell in calls)
    complaints = complaint_cells(source, (now, before) if comparable else (now,), least)
    cells = calls | preference_cells(source, now, least) | complaints
    tables, names = tables_of(cells, now, before), party_names(source, now.partition("/")[2])
    if past is not None:
        compare(tables, names, now, before, past)
    shown = {row["row"] for rows in tables.values() for row in rows}
    figures: ReportFigures = {
        "now": now, "before": before, "least": dict(least), "base": BASE, "bulk": BULK, "tables": tables,
        "leagues": leagues(tables), "names": {token: name for token, name in names.items() if token in shown},
        "simulated": is_simulated(data), "model": source.model,
    }  # fmt: skip
    write_cells(cells, out / "cells.parquet")
    write_tables(figures, out)
    write_page(figures, out / "report.html")
    progress("write", 1.0)
    return figures


def call_cells(source: ReportData, now: str, before: str, least: Mapping[str, int]) -> dict[Cell, Count]:
    """Returns the cells of calls that may be shown; cells of `before` only if the records cover both periods."""
    comparable = _covers(source, now, before)
    source = source.filter(within(source, now) | within(source, before))
    attributes = columns(source)
    tables = list(partitions(source, attributes, now))
    if comparable:
        past = partitions(source, attributes, before)
        tables += [table for table in past if table.cells[0].table in COMPARED and not table.cells[0].split]
    people = {kind: dictionary(source.calls, kind).codes for kind in ("callee", "caller")}
    return protect(tables, people, least)


def _covers(source: ReportData, now: str, before: str) -> bool:
    """Returns whether the records cover both periods completely.

    A period that is only partly recorded has fewer calls: its comparison would show a change that did not happen.
    """
    day = source.calls["day"].to_numpy()
    if not within(source, now).any():
        recorded = period_of(int(day.min()), int(day.max()) + 1) if len(day) else "none"
        raise ValueError(f"period {now}: no call; expected days of the recorded period, {recorded}")
    return bool(day.min() <= days_of(before)[0] and days_of(now)[1] <= day.max() + 1)


def partitions(source: ReportData, attributes: Mapping[str, Column], period: str) -> Iterator[Partition]:
    """Yields every table of a period, each followed by its splits."""
    inside = within(source, period)
    rows = dict(attributes) | {
        "unregistered_bulk": _bulk(source, attributes, inside),
        "victims_in_common": _victims(source, inside, days_of(period)[1]),
    }
    for table, splits in TABLES.items():
        row = _largest(rows[table], inside) if table in rows else Column(np.empty(0), ())
        if row.labels:
            yield Partition(row.codes, [Cell(period, table, label) for label in row.labels])
            for name in splits:
                if name in rows:
                    split = _commonest if name == "content" else _split
                    yield split(row, rows[name], period, table, name)


def _split(row: Column, part: Column, period: str, table: str, split: str) -> Partition:
    size = len(part.labels)
    codes = np.where((row.codes < 0) | (part.codes < 0), -1, row.codes * size + part.codes)
    return Partition(codes, [Cell(period, table, label, split, word) for label in row.labels for word in part.labels])


def _commonest(row: Column, part: Column, period: str, table: str, split: str) -> Partition:
    inside = (row.codes >= 0) & (part.codes >= 0)
    size = len(part.labels)
    counts = np.bincount(row.codes[inside] * size + part.codes[inside], minlength=len(row.labels) * size)
    counts = counts.reshape(len(row.labels), size)
    counts[:, [code for code, word in enumerate(part.labels) if word == UNCLASSIFIED]] = 0
    top = counts.argmax(axis=1)
    codes = np.where(inside, row.codes * 2 + (part.codes != top[row.codes]), -1)
    words = [(part.labels[code], OTHERS) for code in top]
    cells = [
        Cell(period, table, label, split, word) for label, pair in zip(row.labels, words, strict=True) for word in pair
    ]
    return Partition(codes, cells)


def _largest(column: Column, inside: Array) -> Column:
    codes = np.where(inside, column.codes, -1)
    count = np.bincount(codes[codes >= 0], minlength=len(column.labels))
    rows = [int(i) for i in np.argsort(-count, kind="stable")[:MAX_ROWS] if count[i]]
    index = np.full(len(column.labels) + 1, -1, dtype=np.int64)
    index[rows] = np.arange(len(rows))
    return Column(index[codes], [column.labels[i] for i in rows])


def _bulk(source: ReportData, attributes: Mapping[str, Column], inside: Array) -> Column:
    caller, callee = (dictionary(source.calls, name).codes for name in ("caller", "callee"))
    unregistered = inside & (attributes["registered"].codes == 1)
    pairs = np.unique(np.stack([caller[unregistered], callee[unregistered]]), axis=1)
    bulk = np.bincount(pairs[0], minlength=int(caller.max(initial=-1)) + 1) >= BULK
    block = dictionary(source.calls, "caller_block")
    return Column(np.where(unregistered & bulk[caller], block.codes, -1), block.labels)


def _victims(source: ReportData, inside: Array, last: int) -> Column:
    caller, callee = dictionary(source.calls, "caller"), dictionary(source.calls, "callee")
    moment = pd.Timestamp(EPOCH + timedelta(days=last), tz="UTC")
    complained_of = set(source.complaints["number"][source.complaints["known_at"] <= moment])
    suspect = np.array([label in complained_of for label in caller.labels] + [False])[caller.codes]
    group, count = groups_with_shared_callees(caller.codes, callee.codes, inside & suspect)
    return Column(group, [f"group {i + 1}" for i in range(count)])


def preference_cells(source: ReportData, now: str, least: Mapping[str, int]) -> dict[Cell, Count]:
    """Returns the cells of preferences and refusals in force at the end of the period."""
    moment = now.partition("/")[2]
    preferences, refusals = (source.registers[name] for name in ("preferences", "refusals"))
    frame = pd.concat([preferences, refusals.rename(columns={"industry": "category"})], ignore_index=True)
    if not len(frame):
        return {}
    table = np.where(np.arange(len(frame)) < len(preferences), "preferences", "refusals")
    callee = {"callee": pd.factorize(frame["callee"])[0]}
    return protect(list(_preferences(frame.assign(table=table), moment)), callee, {"callee": least["callee"]})


def _preferences(frame: pd.DataFrame, moment: str) -> Iterator[Partition]:
    effective = in_force(frame, pd.Timestamp(moment, tz="UTC"), ("table", "callee", "category"))
    labels = sorted(set(frame["category"]))
    for table in ("preferences", "refusals"):
        codes = np.full(len(frame), -1, dtype=np.int64)
        rows = effective[effective["table"] == table]
        codes[rows.index] = [labels.index(word) for word in rows["category"]]
        yield Partition(codes, [Cell(moment, table, label) for label in labels])
        if table == "preferences":
            accepts = np.where(frame["accepts"].eq(True), 0, 1)
            yield _split(Column(codes, labels), Column(accepts, ("yes", "no")), moment, table, "accepts")


def tables_of(cells: Mapping[Cell, Count], now: str, before: str) -> dict[str, list[ReportRow]]:
    """Returns the tables as rows: calls, distinct people, splits as counts, and calls of the previous period."""
    tables: dict[str, list[ReportRow]] = {}
    for cell, count in cells.items():
        if not cell.split and cell.period != before and count.records:
            past = cells.get(cell._replace(period=before)) if cell.period == now else None
            row: ReportRow = {
                "row": cell.row,
                "calls": count.records,
                "people": dict(count.people),
                "splits": {},
                "before": None if past is None else past.records,
                "year_before": None,
            }
            tables.setdefault(cell.table, []).append(row)
    splits = {(table, row["row"]): row["splits"] for table, rows in tables.items() for row in rows}
    for cell, count in cells.items():
        if cell.split and cell.period != before and (cell.table, cell.row) in splits:
            splits[cell.table, cell.row].setdefault(cell.split, {})[cell.part] = count.records
    return {table: sorted(rows, key=lambda row: -row["calls"]) for table, rows in tables.items()}


def periods(source: ReportData, until: str | None, days: int) -> tuple[str, str]:
    """Returns the period of a report and the previous period, both `days` long; before a whole month, the month before.

    `until`: local date after the last day; by default the day of the last call, because its records are often
    incomplete.
    """
    if until is not None:
        last = (parse_day(until, "--until") - EPOCH).days
    elif source.calls.num_rows:
        last = int(source.calls["day"].to_numpy().max())
    else:
        raise ValueError("calls.parquet: expected at least one call")
    first = last - days
    begin, end = (EPOCH + timedelta(days=day) for day in (first, last))
    if begin.day == end.day == 1 and days <= 31:
        return period_of(first, last), period_of(first - (begin - timedelta(days=1)).day, first)
    return period_of(first, last), period_of(first - days, first)


def within(source: ReportData, period: str) -> Array:
    """Returns which calls are in a period; shape (calls,)."""
    first, last = days_of(period)
    day = source.calls["day"].to_numpy()
    return np.asarray((day >= first) & (day < last))


def leagues(tables: Mapping[str, Sequence[ReportRow]]) -> dict[str, list[LeagueRow]]:
    """Returns the league tables from the shown rows of the report, the highest rank first."""
    return {
        name: ranked for name, of in LEAGUES.items() if (ranked := _league(tables.get(name, ()), tables.get(of, ())))
    }


def _league(calls: Sequence[ReportRow], complaints: Sequence[ReportRow]) -> list[LeagueRow]:
    complaints_of = {row["row"]: row for row in complaints}
    rows: list[LeagueRow] = []
    for row in calls:
        about = complaints_of.get(row["row"])
        complaints_now, complaints_before = (about["calls"], about["before"]) if about else (None, None)
        actions = row["splits"].get("action")
        contents = {word: count for word, count in row["splits"].get("content", {}).items() if count and word != OTHERS}
        rows.append(
            {
                "row": row["row"],
                "calls": row["calls"],
                "acted": None if actions is None else sum(n for word, n in actions.items() if word != "pass"),
                "content": max(contents, key=lambda word: contents[word], default=None),
                "complaints": complaints_now,
                "rate": _rate(complaints_now, row["calls"]),
                "rate_before": _rate(complaints_before, row["before"]),
                "rank": None,
                "rank_before": None,
            }
        )
    ranks, earlier = _ranks([row["rate"] for row in rows]), _ranks([row["rate_before"] for row in rows])
    for league_row, rank, rank_before in zip(rows, ranks, earlier, strict=True):
        league_row["rank"], league_row["rank_before"] = rank, rank_before
    return sorted(rows, key=lambda row: (row["rank"] is None, row["rank"] or 0, -row["calls"]))


def _ranks(rates: Sequence[float | None]) -> list[int | None]:
    highest = sorted((rate for rate in rates if rate is not None), reverse=True)
    return [None if rate is None else highest.index(rate) + 1 for rate in rates]


def _rate(complaints: int | None, calls: int | None) -> float | None:
    return None if complaints is None or not calls else round(PER * complaints / calls, 1)


def year_before(period: str) -> str:
    """Returns the period of the same dates one year earlier.

    >>> year_before("2028-02-29/2028-03-31")
    '2027-02-28/2027-03-31'
    """
    days = [date.fromisoformat(day) for day in period.split("/")]
    return "/".join(
        day.replace(year=day.year - 1, day=28 if (day.month, day.day) == (2, 29) else day.day).isoformat()
        for day in days
    )


def compare(tables: Tables, names: Mapping[str, str], now: str, before: str, path: Path) -> None:
    """Fills the rows of a report with the counts of earlier reports, in place; then adds its counts to the file.

    A count of the period before that the calls themselves give is not replaced.
    """
    counts, earlier = _read(path), year_before(now)
    own: _Counts = {}
    for table, rows in tables.items():
        for row in rows if table not in LEFT_OUT else ():
            name = names.get(row["row"], row["row"])
            if is_token(name):
                continue
            if row["before"] is None:
                row["before"] = counts.get((before, table, name))
            row["year_before"] = counts.get((earlier, table, name))
            own[now, table, name] = row["calls"]
    rest = {key: count for key, count in counts.items() if key[0] != now}
    lines = [(*key, count) for key, count in sorted((rest | own).items())]
    write_table(pa.table([list(column) for column in zip(*lines, strict=True)], schema=_SCHEMA), path)


def _read(path: Path) -> _Counts:
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        raise ValueError(f"{path.name}: broken Parquet file") from None
    if not table.schema.equals(_SCHEMA):
        raise ValueError(f"{path.name}: expected the counts of earlier reports, as govern report --past writes them")
    return {(row["period"], row["table"], row["row"]): row["records"] for row in table.to_pylist()}
