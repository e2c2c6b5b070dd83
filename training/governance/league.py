"""Complaints as cells of the report, and league tables (通报): who stands where, against the period before.

A league table ranks operators, industries and areas by complaints per 100,000 calls. It uses only counts that the
report shows, so it discloses nothing more. A row without a shown count of calls or of complaints has no rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from .complaints import calls_of_complaints, class_of, known_within, regulator_of
from .disclosure import Cell, Count, Partition, protect
from .parties import UNCLASSIFIED, Column, ReportData, columns

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

CLASSES = ("marketing", "harassment", "illegal", UNCLASSIFIED)
COMPLAINTS = {
    "complaints": "all",
    "complaints_category": "category",
    "complaints_regulator": "regulator",
    "complaints_operator": "operator",
    "complaints_area": "area",
}
"""The tables of complaints, each with the attribute of its rows."""
LEAGUES = {"operator": "complaints_operator", "industry": "complaints_category", "area": "complaints_area"}
"""The league tables: the table of calls and the table of complaints behind each."""
PER = 100_000


def complaint_cells(source: ReportData, periods: Sequence[str], least: Mapping[str, int]) -> dict[Cell, Count]:
    """Returns the cells of complaints that may be shown; records are complaints, callees are reporters.

    Args:
        periods: a complaint counts in the period in which it became known. Only the first period has splits.
    """
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
    """Returns a column of the matched complaints as one of all complaints; -1 without a call."""
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


def leagues(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Returns the league tables from the shown rows of the report, the highest rank first.

    Returns: by table, rows with `row`, `calls`, `acted` (calls with an action, or None), `content` (the commonest one
    that was predicted, or None), `complaints`, `rate` (complaints per 100,000 calls, or None), `rank` and
    `rank_before` (1 for the highest rate, or None).
    """
    return {
        name: ranked for name, of in LEAGUES.items() if (ranked := _league(tables.get(name, ()), tables.get(of, ())))
    }


def _league(calls: Sequence[Mapping[str, Any]], complaints: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    told = {row["row"]: row for row in complaints}
    rows = []
    for row in calls:
        about = told.get(row["row"], {"calls": None, "before": None})
        actions = row["splits"].get("action")
        contents = {
            word: count for word, count in row["splits"].get("content", {}).items() if count and word != UNCLASSIFIED
        }
        rows.append(
            {
                "row": row["row"],
                "calls": row["calls"],
                "acted": None if actions is None else sum(n for word, n in actions.items() if word != "pass"),
                "content": max(contents, key=lambda word: contents[word], default=None),
                "complaints": about["calls"],
                "rate": _rate(about["calls"], row["calls"]),
                "rate_before": _rate(about["before"], row["before"]),
            }
        )
    for name, rate in (("rank", "rate"), ("rank_before", "rate_before")):
        rates = sorted((row[rate] for row in rows if row[rate] is not None), reverse=True)
        for row in rows:
            row[name] = None if row[rate] is None else rates.index(row[rate]) + 1
    return sorted(rows, key=lambda row: (row["rank"] is None, row["rank"] or 0, -row["calls"]))


def _rate(complaints: int | None, calls: int | None) -> float | None:
    return None if complaints is None or not calls else round(PER * complaints / calls, 1)
