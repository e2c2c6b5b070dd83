"""Chooses the calls that a training needs vectors of: to choose thresholds, to certify, to judge and to monitor.

Most calls only fill the history of others, so their own vectors are never computed: in a town one call in five needs
one.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.files.dates import DAY, EPOCH

from .split import FOLDS, WINDOW_DAYS, Plan

if TYPE_CHECKING:
    import pyarrow as pa

    from callsieve.training.data.judging_labels import JudgingLabels


LAST_HOUR = 23
SAMPLE = 10_000  # calls of a day that the drift histograms use; marks of records count all calls
# More calls of the same callers add little, and their vectors take memory.
MAX_CHOSEN_ON, CHOSEN_IN_ALL = 250_000, 1_500_000
MAX_CERTIFIED_ON = 2_000_000  # of all folders together
POORER_IN_ALL = 600_000  # calls of a poorer feed that thresholds are chosen or certified on
RECOMPUTED = 500  # calls of a day whose vectors `judging/leak_probes.py` computes again


def fold_rows(fold_name: str, span: tuple[int, int], fold: Array, start: Array) -> Array:
    """Returns whether each call is in a fold and starts within a span `[begin, end)` of Unix ms; bool."""
    rows: Array = (fold == FOLDS.index(fold_name)) & (start >= span[0]) & (start < span[1])
    return rows


def threshold_calls(plan: Plan, fold: Array, start: Array, seed: int, folders: int) -> Array:
    """Returns the calls that thresholds are chosen on: random later calls of training groups; bool.

    Args:
        folders: how many folders the training learns from; together they give at most CHOSEN_IN_ALL calls.
    """
    rows = np.flatnonzero(fold_rows("train", plan.choose, fold, start))
    return random_rows(rows, min(MAX_CHOSEN_ON, CHOSEN_IN_ALL // folders), len(start), seed)


def certified_calls(plan: Plan, fold: Array, start: Array, seed: int, folders: int) -> Array:
    """Returns the calls that certificates are computed on: random calls of the certifying fold; bool.

    Args:
        folders: how many folders the training certifies on; together they give at most MAX_CERTIFIED_ON calls.
    """
    rows = np.flatnonzero(fold_rows("certify", plan.certify, fold, start))
    return random_rows(rows, MAX_CERTIFIED_ON // folders, len(start), seed)


def poorer_calls(rows: Array, count: int, seed: int, folders: int) -> Array:
    """Returns the places of the calls whose vectors are also computed from a poorer feed: random ones of `rows`.

    Args:
        rows: places of the calls of a folder, of `count`, that the feed records and that thresholds are chosen or
            certified on.
        folders: how many folders the training has; together they give at most POORER_IN_ALL calls.
    """
    return np.flatnonzero(random_rows(rows, POORER_IN_ALL // folders, count, seed))


def random_rows(rows: Array, most: int, count: int, seed: int) -> Array:
    """Returns which of `count` calls are among at most `most` random ones of `rows`; bool."""
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(rows)[:most]] = True
    return chosen


def nth_call(caller: Array, start: Array) -> Array:
    """Returns the number of each call among its caller's calls, from 1, in order of start; ties keep their order in the
    table.

    >>> nth_call(np.array([5, 3, 5, 5]), np.array([10, 20, 30, 20]))
    array([1, 1, 3, 2])
    """
    order = np.lexsort((start, caller))
    owners = caller[order]
    begin = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]])) if len(order) else np.zeros(0, int)
    place = np.arange(len(order)) - np.repeat(begin, np.diff(np.append(begin, len(order))))
    nth = np.empty(len(order), dtype=np.int64)
    nth[order] = place + 1
    return nth


def calls_of_new_callers(moment: int, judged: JudgingLabels, caller: Array, start: Array) -> Array:
    """Returns the calls of nuisance numbers whose first call came at or after `moment` (Unix ms); bool."""
    first = np.full(int(caller.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, caller, start)
    return np.asarray(judged.known & judged.nuisance & (first[caller] >= moment))


def last_day_rows(start: Array) -> Array:
    """Returns the places of the calls of the last 24 hours."""
    return np.flatnonzero(start >= start.max() - DAY)


def recomputed_rows(start: Array) -> Array:
    """Returns places of calls of the first day with full windows, for the probe that computes their vectors again."""
    begin = int(start.min()) + WINDOW_DAYS * DAY
    rows = np.flatnonzero((start >= begin) & (start < begin + DAY))
    return rows[:: max(1, len(rows) // RECOMPUTED)]


def whole_days(calls: pa.Table) -> dict[date, slice]:
    """Returns the days with a full window before them; the last day only if it has calls in its last hour."""
    days = day_slices(calls)
    first = min(days)
    whole = {day: rows for day, rows in days.items() if (day - first).days >= WINDOW_DAYS}
    if whole and calls["hour"][-1].as_py() < LAST_HOUR:
        whole.pop(max(whole))
    return whole


def day_sample(day: date, rows: slice) -> Array:
    """Returns the rows of a day that its histograms use; the day alone decides which."""
    size = rows.stop - rows.start
    if size <= SAMPLE:
        return np.arange(rows.start, rows.stop)
    drawn = np.random.default_rng(day.toordinal()).choice(size, SAMPLE, replace=False)
    return np.asarray(np.sort(drawn) + rows.start)


def day_slices(calls: pa.Table) -> dict[date, slice]:
    """Returns the rows of each local day.

    Raises:
        ValueError: if there is no call.
    """
    days = calls["day"].to_numpy()
    if not len(days):
        raise ValueError("calls: expected some, got none")
    values, begin = np.unique(days, return_index=True)
    ends = [*begin[1:], len(days)]
    return {
        EPOCH + timedelta(days=int(day)): slice(int(first), int(end))
        for day, first, end in zip(values, begin, ends, strict=True)
    }
