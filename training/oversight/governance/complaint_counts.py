"""Complaints for counts: their class, their regulator, the call before each, the cells of the report, and the groups of
callers with complaints that share callees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from callsieve.features.arrays import Array
from callsieve.features.reading.layouts import DEFAULT_ZONE
from callsieve.serving.rules.plan_classes import plan_class

from .disclosure import Cell, Count, Partition, protect
from .parties import UNCLASSIFIED, Column, ReportData, columns, regulators

NO_REGULATOR = "no regulator named"
CLASSES = ("marketing", "harassment", "illegal", UNCLASSIFIED)
COMPLAINTS = {
    "complaints": "all",
    "complaints_category": "category",
    "complaints_regulator": "regulator",
    "complaints_operator": "operator",
    "complaints_area": "area",
}
"""The tables of complaints, each with the attribute of its rows."""
LEAST_SHARED, FACTOR, DEVIATIONS = 10, 4.0, 6.0
MOST_CALLERS = 5000  # only the callers with the most callees are compared


def regulator_of(category: object) -> str:
    """Returns the regulator of the trade that a complaint names.

    >>> regulator_of("loans"), regulator_of("fraud"), regulator_of("other")
    ('finance', 'police', 'no regulator named')
    """
    table = regulators()
    return str(table.complaints.get(str(category)) or table.industries.get(str(category)) or NO_REGULATOR)


def class_of(category: str | None, mode: str | None) -> str:
    """Returns the class of a complaint in the plan of thirteen ministries, or "unclassified"."""
    return plan_class(category, (), mode) or UNCLASSIFIED


def known_within(complaints: pd.DataFrame, period: str) -> Array:
    """Returns which complaints became known in a period of local days, as a report counts them; shape (complaints,)."""
    first, last = (pd.Timestamp(day, tz=DEFAULT_ZONE) for day in period.split("/"))
    known = pd.to_datetime(complaints["known_at"], utc=True)
    return np.asarray((known >= first) & (known < last))


def calls_of_complaints(source: ReportData, period: str | None = None) -> Array:
    """Returns for each complaint of a period the index of its call, or -1: the caller's last call before `at`.

    `period`: only complaints that became known in it; by default all of them.
    """
    complaints = source.complaints
    if period is not None:
        complaints = complaints[known_within(complaints, period)]
    calls = pd.DataFrame(
        {
            "moment": pd.to_datetime(source.calls["start"].to_numpy(), unit="ms", utc=True),
            "number": source.calls["caller"].to_pandas().astype(object),
            "call": np.arange(source.calls.num_rows),
        }
    )
    about = pd.DataFrame(
        {
            "moment": pd.to_datetime(complaints["at"], utc=True).astype(calls["moment"].dtype),
            "number": complaints["number"].astype(object),
            "row": np.arange(len(complaints)),
        }
    ).sort_values("moment", kind="stable")
    joined = pd.merge_asof(
        about, calls.sort_values("moment", kind="stable"), on="moment", by="number", tolerance=pd.Timedelta(days=60)
    )
    result = np.full(len(complaints), -1, dtype=np.int64)
    result[joined["row"]] = joined["call"].fillna(-1).astype(np.int64)
    return result


def complaint_cells(source: ReportData, periods: Sequence[str], least: Mapping[str, int]) -> dict[Cell, Count]:
    """Returns the cells of complaints that may be shown; records are complaints, callees are reporters."""
    frame = source.complaints
    if not len(frame):
        return {}
    rows = {"all": Column(np.zeros(len(frame), np.int64), ("all",)), **_words(source)}
    people = {"callee": pd.factorize(frame["reporter"])[0], "caller": pd.factorize(frame["number"])[0]}
    return protect(list(_partitions(rows, frame, periods)), people, least)


def _words(source: ReportData) -> dict[str, Column]:
    frame = source.complaints
    category = frame["category"].astype(object).where(frame["category"].notna(), "other")
    mode = [word if isinstance(word, str) else None for word in frame["mode"]]
    classes = [class_of(word, form) for word, form in zip(category, mode, strict=True)]
    call = calls_of_complaints(source)
    of_call = columns(replace(source, calls=source.calls.take(pa.array(call[call >= 0])), verdicts={}))
    return {
        "category": _column(category),
        "regulator": _column(category.map(regulator_of)),
        "plan_class": Column(np.array([CLASSES.index(name) for name in classes], np.int64), CLASSES),
        **{name: _scattered(of_call[name], call >= 0) for name in ("operator", "area")},
    }


def _scattered(column: Column, matched: Array) -> Column:
    codes = np.full(len(matched), -1, dtype=np.int64)
    codes[matched] = column.codes
    return Column(codes, column.labels)


def _column(words: pd.Series[Any]) -> Column:
    codes, labels = pd.factorize(words)
    return Column(np.asarray(codes, np.int64), [str(label) for label in labels])


def _partitions(rows: Mapping[str, Column], frame: pd.DataFrame, periods: Sequence[str]) -> Iterator[Partition]:
    classes = rows["plan_class"]
    for place, period in enumerate(periods):
        inside = known_within(frame, period)
        for table, name in COMPLAINTS.items():
            codes, labels = np.where(inside, rows[name].codes, -1), rows[name].labels
            if not len(labels):
                continue
            yield Partition(codes, [Cell(period, table, label) for label in labels])
            if place == 0:
                parts = np.where(codes < 0, -1, codes * len(classes.labels) + classes.codes)
                cells = [Cell(period, table, label, "plan_class", part) for label in labels for part in classes.labels]
                yield Partition(parts, cells)


def groups_with_shared_callees(caller: Array, callee: Array, suspect: Array) -> tuple[Array, int]:
    """Returns for each call the group of its caller, or -1, and the number of groups; group 0 is the largest.

    A group shares more callees than chance explains. The chance model is the configuration model: each caller keeps its
    number of callees, each callee its number of callers. Two callers are linked if they share at least LEAST_SHARED
    callees, FACTOR times the expected number, and DEVIATIONS standard deviations (Poisson) above it. Groups are
    connected components. A group suggests that several lines use one list of people. It does not prove a leak, because
    couriers of one street share callees as well.
    """
    result = np.full(len(caller), -1, dtype=np.int64)
    pairs = np.unique(np.stack([caller[suspect], callee[suspect]]), axis=1)
    callers, place, reach = np.unique(pairs[0], return_inverse=True, return_counts=True)
    if len(callers) < 2:
        return result, 0
    compared = np.zeros(len(callers), dtype=bool)
    compared[np.argsort(-reach, kind="stable")[:MOST_CALLERS]] = True
    victims = np.unique(pairs[1], return_inverse=True)[1]
    calls = sparse.coo_array((np.ones(len(place)), (place, victims))).tocsr() * compared[:, None]
    linked = sparse.csr_array(_linked(sparse.csr_array(calls)))
    count, part = connected_components(linked, directed=False)
    size = np.bincount(part, minlength=count)
    order = np.argsort(-size, kind="stable")[: int((size > 1).sum())]
    rank = np.full(count, -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    inside = np.flatnonzero(suspect)
    result[inside] = rank[part[np.searchsorted(callers, caller[inside])]]
    return result, len(order)


def _linked(calls: sparse.csr_array) -> sparse.coo_array:
    reach, called = calls.sum(axis=1), calls.sum(axis=0)
    shared = (calls @ calls.T).tocoo()
    chance = (called * (called - 1)).sum() / max(called.sum(), 1.0) ** 2
    expected = reach[shared.row] * reach[shared.col] * chance
    more = (shared.data >= LEAST_SHARED) & (shared.data > FACTOR * expected)
    more &= shared.data > expected + DEVIATIONS * np.sqrt(expected)
    return sparse.coo_array((np.ones(more.sum()), (shared.row[more], shared.col[more])), shape=shared.shape)
