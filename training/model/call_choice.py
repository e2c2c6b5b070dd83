"""Chooses the calls that a training needs vectors of: to choose thresholds, to certify, to judge and to monitor.

Most calls only fill the history of others, so their own vectors are never computed: in a town one call in five needs
one.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from callsieve.features.files.dates import DAY, EPOCH

from .split import FOLDS, WINDOW_DAYS, Plan

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from callsieve.training.data.judging_labels import JudgingLabels

    Array = npt.NDArray[Any]

LAST_HOUR = 23
SAMPLE = 10_000  # calls of a day that the drift histograms use; marks of records count all calls
MAX_CHOSEN_ON = 250_000  # more calls of the same callers add little, and their vectors take memory
RECOMPUTED = 500  # calls of a day whose vectors `judging/leak_probes.py` computes again


def fold_rows(fold_name: str, span: tuple[int, int], fold: Array, start: Array) -> Array:
    """Returns whether each call is in a fold and starts within a span `[begin, end)` of Unix ms; bool."""
    rows: Array = (fold == FOLDS.index(fold_name)) & (start >= span[0]) & (start < span[1])
    return rows


def threshold_calls(plan: Plan, fold: Array, start: Array, seed: int) -> Array:
    """Returns the calls that thresholds are chosen on: MAX_CHOSEN_ON random later calls of training groups."""
    rows = np.flatnonzero(fold_rows("train", plan.choose, fold, start))
    chosen = np.zeros(len(start), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(rows)[:MAX_CHOSEN_ON]] = True
    return chosen


def calls_of_seen_groups(plan: Plan, in_training: Array, start: Array, judged: JudgingLabels) -> Array:
    """Returns the calls of the certifying span whose groups have training rows; bool."""
    return np.asarray(in_training & (start >= plan.certify[0]) & judged.known)


def lifetime_calls(
    plan: Plan, in_training: Array, start: Array, judged: JudgingLabels, caller: Array
) -> tuple[Array, Array]:
    """Returns all calls of nuisance numbers whose first call came after the label cutoff: of unseen and of seen groups.

    Groups of every fold count: these callers came too late for training, and thresholds use innocent calls only.
    """
    new = calls_of_new_callers(plan.label_cutoff, judged, caller, start)
    return np.asarray(new & ~in_training), np.asarray(new & in_training)


def calls_of_new_callers(moment: int, judged: JudgingLabels, caller: Array, start: Array) -> Array:
    """Returns the calls of nuisance numbers whose first call came at or after `moment` (Unix ms); bool."""
    first = np.full(int(caller.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, caller, start)
    return np.asarray(judged.known & judged.nuisance & (first[caller] >= moment))


def last_day_rows(start: Array) -> Array:
    """Returns the places of the calls of the last 24 hours."""
    return np.flatnonzero(start >= start.max() - DAY)


def recomputed_rows(start: Array, plan: Plan) -> Array:
    """Returns places of calls of the first training day, for the probe that computes their vectors again."""
    rows = np.flatnonzero((start >= plan.train[0]) & (start < plan.train[0] + DAY))
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
