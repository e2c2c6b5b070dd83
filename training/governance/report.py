"""The report for those who govern: calls by connecting party, trunk, trade and regulator, as counts that harm nobody.

All that is told are counts of cells (`disclosure.py`) that may be shown together and beside all earlier releases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.files.dates import EPOCH, day_in

from .disclosure import LEAST, Cell, Count, Partition, protect
from .parties import Column, Ledger, columns, dictionary, in_force, read_ledger
from .releases import Release, add_release, of_periods, read_releases
from .shared_victims import groups

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.features.files.progress import Progress

    Array = npt.NDArray[Any]

MOST_ROWS = 40  # of a table; the rows of fewest calls are not told apart
BULK = 50  # people that an unregistered caller calls in a period, to count as one who calls in bulk
# Each table and how its rows are split. A split that nothing is known of is left out.
TABLES: dict[str, tuple[str, ...]] = {
    "all": ("answered", "false_number", "registered", "action"),
    "operator": ("answered", "false_number", "registered", "action"),
    "trunk": ("answered", "false_number", "outside_register", "registered", "action"),
    "class": ("registered", "action"),
    "industry": ("answered", "action"),
    "regulator": ("answered", "action"),
    "unregistered_bulk": ("answered", "action"),
    "victims_in_common": ("answered", "action"),
}
COMPARED = ("all", "operator", "trunk", "industry", "regulator")
"""Tables whose calls are also told of the period before."""


class NotAgain(ValueError):  # noqa: N818 - it names what is wrong
    """An earlier release cannot be made again from the records as they are now."""


def period_of(first: int, last: int) -> str:
    """The name of a stretch of local days, `last` not among them.

    >>> period_of(20150, 20157)
    '2025-03-03/2025-03-10'
    """
    return "/".join((EPOCH + timedelta(days=day)).isoformat() for day in (first, last))


def days_of(period: str) -> tuple[int, int]:
    """The days of a period.

    >>> days_of("2025-03-03/2025-03-10")
    (20150, 20157)
    """
    first, _, last = period.partition("/")
    return (date.fromisoformat(first) - EPOCH).days, (date.fromisoformat(last) - EPOCH).days


def govern(
    data: Path,
    out: Path,
    releases: Path,
    *,
    verdicts: Path | None = None,
    until: str | None = None,
    days: int = 7,
    least: Mapping[str, int] = LEAST,
    progress: Progress,
) -> dict[str, Any]:
    """Write the report of some days: `report.html` and `cells.parquet`; what it shows is added to the releases.

    Args:
        until: local date of the first day that does not count; by default the last day of the calls.
        least: callees and callers that a cell must hold.
    Returns: what the page tells, JSON-able.
    Raises:
        ValueError: if nothing can be shown without giving somebody away, or earlier releases cannot be made again.
    """
    from .page import write_cells, write_page

    progress("read", 0.1)
    ledger = read_ledger(data, verdicts)
    last = _until(ledger, until)
    now, before = period_of(last - days, last), period_of(last - 2 * days, last - days)
    earlier = read_releases(releases)
    progress("count", 0.3)
    shown = calls_shown(ledger, now, before, earlier, least)
    progress("preferences", 0.8)
    said, left_out = {}, ""
    try:
        said = preferences_shown(ledger, now, earlier, least)
    except NotAgain as error:  # a person who was deleted since is reason enough; calls do not depend on it
        left_out = str(error)
    if not any(cell.table == "all" for cell in shown):
        raise ValueError(f"period {now}: nothing can be shown without giving somebody away beside earlier releases")
    name = add_release(releases, shown | said)
    facts = {"release": name, "now": now, "before": before, "least": dict(least), "bulk": BULK, "left_out": left_out}
    facts |= {"tables": told(shown | said, now, before)}
    write_cells(shown | said, out / "cells.parquet")
    write_page(facts, out / "report.html")
    progress("write", 1.0)
    return facts


def calls_shown(
    ledger: Ledger, now: str, before: str, earlier: Sequence[Release], least: Mapping[str, int]
) -> dict[Cell, Count]:
    """The cells of calls that may be shown of two periods; of the one before only if the records are of all of both.

    Raises:
        ValueError: if no call is of the period.
    """
    comparable = _recorded(ledger, now, before)
    wanted = _overlapping({now, before}, {cell.period for one in earlier for cell in one.cells if "/" in cell.period})
    near = of_periods(earlier, wanted)
    day = ledger.calls["day"].to_numpy()
    ledger = _of_days(ledger, np.any([(day >= a) & (day < b) for a, b in map(days_of, wanted)], axis=0))
    found = columns(ledger)
    parts = {period: list(partitions(ledger, found, period)) for period in wanted}
    people = {kind: dictionary(ledger.calls, kind).codes for kind in ("callee", "caller")}
    kept = [one for part in parts.values() for one in part]
    past = parts[before] if comparable else []
    mine = parts[now] + [one for one in past if one.cells[0].table in COMPARED and not one.cells[0].split]
    return protect(mine, people, least, [again for one in near for again in made_again(one, kept)])


def _recorded(ledger: Ledger, now: str, before: str) -> bool:
    """Whether the records begin with the period before, or earlier, and go on to the end of the one reported.

    Of fewer days there are fewer calls: they would seem to have become more, or less.

    Raises:
        ValueError: if no call is of the period reported.
    """
    day = ledger.calls["day"].to_numpy()
    first, last = days_of(now)
    if not ((day >= first) & (day < last)).any():
        known = period_of(int(day.min()), int(day.max()) + 1) if len(day) else "none"
        raise ValueError(f"period {now}: expected days of the calls, {known}")
    return bool(day.min() <= days_of(before)[0] and last <= day.max() + 1)


def partitions(ledger: Ledger, found: Mapping[str, Column], period: str) -> Iterator[Partition]:
    """All that one may want to show of the calls of a period."""
    first, last = days_of(period)
    day = ledger.calls["day"].to_numpy()
    inside = (day >= first) & (day < last)
    rows = dict(found) | {
        "unregistered_bulk": _bulk(ledger, found, inside),
        "victims_in_common": _victims(ledger, inside, last),
    }
    for table, splits in TABLES.items():
        row = _largest(rows[table], inside)
        if row.labels:
            yield Partition(row.codes, [Cell(period, table, label) for label in row.labels])
            yield from (_split(row, rows[name], period, table, name) for name in splits if name in rows)


def _split(row: Column, part: Column, period: str, table: str, split: str) -> Partition:
    size = len(part.labels)
    codes = np.where((row.codes < 0) | (part.codes < 0), -1, row.codes * size + part.codes)
    return Partition(codes, [Cell(period, table, label, split, word) for label in row.labels for word in part.labels])


def _largest(column: Column, inside: Array) -> Column:
    """The rows of most calls, and the calls of the period alone."""
    codes = np.where(inside, column.codes, -1)
    count = np.bincount(codes[codes >= 0], minlength=len(column.labels))
    kept = [int(i) for i in np.argsort(-count, kind="stable")[:MOST_ROWS] if count[i]]
    place = np.full(len(column.labels) + 1, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    return Column(place[codes], [column.labels[i] for i in kept])


def _bulk(ledger: Ledger, found: Mapping[str, Column], inside: Array) -> Column:
    """Blocks of numbers from which unregistered callers call many people."""
    caller, callee = (dictionary(ledger.calls, name).codes for name in ("caller", "callee"))
    free = inside & (found["registered"].codes == 1)
    pairs = np.unique(np.stack([caller[free], callee[free]]), axis=1)
    many = np.bincount(pairs[0], minlength=int(caller.max(initial=-1)) + 1) >= BULK
    block = dictionary(ledger.calls, "caller_block")
    return Column(np.where(free & many[caller], block.codes, -1), block.labels)


def _victims(ledger: Ledger, inside: Array, last: int) -> Column:
    """Groups of reported callers that share whom they call."""
    caller, callee = dictionary(ledger.calls, "caller"), dictionary(ledger.calls, "callee")
    moment = pd.Timestamp(EPOCH + timedelta(days=last), tz="UTC")
    reported = set(ledger.complaints["number"][ledger.complaints["known_at"] <= moment])
    suspect = np.array([label in reported for label in caller.labels] + [False])[caller.codes]
    group, many = groups(caller.codes, callee.codes, inside & suspect)
    return Column(group, [f"group {i + 1}" for i in range(many)])


def preferences_shown(
    ledger: Ledger, now: str, earlier: Sequence[Release], least: Mapping[str, int]
) -> dict[Cell, Count]:
    """What people want to receive, and refuse, as known at the end of the period."""
    moment = now.partition("/")[2]
    moments = {moment} | {cell.period for one in earlier for cell in one.cells if "/" not in cell.period}
    held = {name: ledger.registers[name] for name in ("preferences", "refusals")}
    frame = pd.concat(
        [held["preferences"], held["refusals"].rename(columns={"industry": "category"})], ignore_index=True
    )
    if not len(frame):
        return {}
    chosen = np.where(np.arange(len(frame)) < len(held["preferences"]), "preferences", "refusals")
    parts = {at: list(_preferences(frame.assign(table=chosen), at)) for at in sorted(moments)}
    kept = [one for part in parts.values() for one in part]
    before = [again for one in of_periods(earlier, moments) for again in made_again(one, kept)]
    callee = {"callee": pd.factorize(frame["callee"])[0]}
    return protect(parts[moment], callee, {"callee": least["callee"]}, before)


def _preferences(frame: pd.DataFrame, moment: str) -> Iterator[Partition]:
    held = in_force(frame, pd.Timestamp(moment, tz="UTC"), ("table", "callee", "category"))
    labels = sorted(set(frame["category"]))
    for table in ("preferences", "refusals"):
        codes = np.full(len(frame), -1, dtype=np.int64)
        mine = held[held["table"] == table]
        codes[mine.index] = [labels.index(word) for word in mine["category"]]
        yield Partition(codes, [Cell(moment, table, label) for label in labels])
        if table == "preferences":
            accepts = np.where(frame["accepts"].eq(True), 0, 1)
            yield _split(Column(codes, labels), Column(accepts, ("yes", "no")), moment, table, "accepts")


def made_again(release: Release, parts: Iterable[Partition]) -> Iterator[Partition]:
    """What an earlier release showed, from the records as they are now.

    Raises:
        NotAgain: if a count is not what it was: records came or went, and what they are might follow.
    """
    wanted = {cell: count for cell, count in release.cells.items() if count}
    for one in parts:
        places = [i for i, cell in enumerate(one.cells) if cell in wanted]
        size = np.bincount(one.codes[one.codes >= 0], minlength=len(one.cells))
        if places and all(size[i] == wanted[one.cells[i]] for i in places):
            for i in places:
                del wanted[one.cells[i]]
            yield Partition(np.where(np.isin(one.codes, places), one.codes, -1), one.cells)
    for cell in wanted:
        raise NotAgain(
            f"release {release.name} cannot be made again from these records (table {cell.table}, {cell.period}): "
            "what came or went since might be told apart; expected the records as they were, or days not reported yet"
        )


def told(shown: Mapping[Cell, Count], now: str, before: str) -> dict[str, list[dict[str, Any]]]:
    """The tables as rows: calls, people (at least so many), splits as counts, calls of the period before."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell, count in shown.items():
        if not cell.split and cell.period != before and count.records:
            row = {"row": cell.row, "calls": count.records, "people": dict(count.people), "splits": {}}
            past = shown.get(cell._replace(period=before)) if cell.period == now else None
            row["before"] = None if past is None else past.records
            found.setdefault(cell.table, []).append(row)
    place = {(table, row["row"]): row["splits"] for table, rows in found.items() for row in rows}
    for cell, count in shown.items():
        if cell.split and cell.period != before and (cell.table, cell.row) in place:
            place[cell.table, cell.row].setdefault(cell.split, {})[cell.part] = count.records
    return {table: sorted(rows, key=lambda row: -row["calls"]) for table, rows in found.items()}


def _until(ledger: Ledger, until: str | None) -> int:
    if until is not None:
        return (day_in(until, "--until") - EPOCH).days
    if not ledger.calls.num_rows:
        raise ValueError("calls: expected at least one")
    return int(ledger.calls["day"].to_numpy().max())


def _of_days(ledger: Ledger, inside: Array) -> Ledger:
    action = None if ledger.action is None else ledger.action[inside]
    return Ledger(ledger.calls.filter(pa.array(inside)), ledger.registers, ledger.complaints, action)


def _overlapping(periods: set[str], others: set[str]) -> set[str]:
    """The periods, and those of the others that share days with them, directly or by way of another."""
    reached = set(periods)
    while True:
        spans = [days_of(one) for one in reached]
        near = {one for one in others - reached for c, d in [days_of(one)] if any(a < d and c < b for a, b in spans)}
        if not near:
            return reached
        reached |= near
