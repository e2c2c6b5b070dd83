"""Which calls a training looks at: to choose, to certify, to judge; and so, of which calls it needs the vectors.

Most calls only tell the history of others. Their own vectors are never made: of a town's calls one in five is enough.
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

    from callsieve.training.data.dataset import JudgingLabels

    from .folds import CallFolds

    Array = npt.NDArray[Any]

LAST_HOUR = 23

SAMPLE = 10_000  # calls of a day that histograms of features and scores are made of; marks of records are of all

CHOSEN_ON = 250_000  # calls at most: more calls of the same callers say little, and their vectors take memory
CHECKED = 500  # calls of a day whose vectors are computed anew, see `judging/leak_probes.py`


def needed_calls(calls: pa.Table, sides: CallFolds, choose: Array, learnt: Array) -> Array:
    """Which of all calls a training looks at beside those that it learns from.

    Args:
        choose: bool, of each call; as from `threshold_calls`.
        learnt: bool, whether a call's group is among those that are learnt from.
    """
    start, plan, judged = sides.start, sides.plan, sides.judged
    asked = choose | fold_rows("certify", plan.certify, sides.fold, start)
    asked |= calls_of_seen_groups(plan, learnt, start, judged) & judged.nuisance
    asked |= calls_of_new_callers(plan.label_cutoff, judged, sides.caller, start)
    asked[last_day_rows(start)] = True
    asked[recomputed_rows(start, plan)] = True
    for day, span in whole_days(calls).items():
        asked[day_sample(day, span)] = True
    return asked


def fold_rows(fold_name: str, span: tuple[int, int], fold: Array, start: Array) -> Array:
    """Which calls are of the groups of a fold, in a stretch of time."""
    found: Array = (fold == FOLDS.index(fold_name)) & (start >= span[0]) & (start < span[1])
    return found


def threshold_calls(plan: Plan, fold: Array, start: Array, seed: int) -> Array:
    """Which calls thresholds are chosen on: of the groups that are learnt from, later; CHOSEN_ON of them by lot."""
    rows = np.flatnonzero(fold_rows("train", plan.choose, fold, start))
    found = np.zeros(len(start), dtype=bool)
    found[np.random.default_rng(seed).permutation(rows)[:CHOSEN_ON]] = True
    return found


def calls_of_seen_groups(plan: Plan, learnt: Array, start: Array, judged: JudgingLabels) -> Array:
    """Calls of the certifying stretch whose groups were learnt from."""
    return np.asarray(learnt & (start >= plan.certify[0]) & judged.known)


def lifetime_calls(
    plan: Plan, learnt: Array, start: Array, judged: JudgingLabels, caller: Array
) -> tuple[Array, Array]:
    """All calls of nuisance numbers that began after the labels were made: of groups that were not learnt from, and of
    groups that were.

    Groups of every fold: whoever came later was not there to be learnt from, and thresholds look at innocent calls.
    """
    born = calls_of_new_callers(plan.label_cutoff, judged, caller, start)
    return np.asarray(born & ~learnt), np.asarray(born & learnt)


def calls_of_new_callers(moment: int, judged: JudgingLabels, caller: Array, start: Array) -> Array:
    """Calls of nuisance numbers whose first call came at or after `moment`."""
    first = np.full(int(caller.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, caller, start)
    return np.asarray(judged.known & judged.nuisance & (first[caller] >= moment))


def last_day_rows(start: Array) -> Array:
    """Places of the calls of the last 24 hours."""
    return np.flatnonzero(start >= start.max() - DAY)


def recomputed_rows(start: Array, plan: Plan) -> Array:
    """Places of some calls of the first day of training, whose vectors are computed anew from what was known then."""
    rows = np.flatnonzero((start >= plan.train[0]) & (start < plan.train[0] + DAY))
    return rows[:: max(1, len(rows) // CHECKED)]


def whole_days(calls: pa.Table) -> dict[date, slice]:
    """The days with a full window before them; the last one only if its calls go on into its last hour."""
    found = day_slices(calls)
    first = min(found)
    whole = {day: rows for day, rows in found.items() if (day - first).days >= WINDOW_DAYS}
    if whole and calls["hour"][-1].as_py() < LAST_HOUR:
        whole.pop(max(whole))
    return whole


def day_sample(day: date, rows: slice) -> Array:
    """Rows of a day that its histograms are made of: the same ones whenever it is asked."""
    size = rows.stop - rows.start
    if size <= SAMPLE:
        return np.arange(rows.start, rows.stop)
    drawn = np.random.default_rng(day.toordinal()).choice(size, SAMPLE, replace=False)
    return np.asarray(np.sort(drawn) + rows.start)


def day_slices(calls: pa.Table) -> dict[date, slice]:
    """The rows of each local day.

    Raises:
        ValueError: if there is no call.
    """
    days = calls["day"].to_numpy()
    if not len(days):
        raise ValueError("calls: expected some, got none")
    found, begin = np.unique(days, return_index=True)
    ends = [*begin[1:], len(days)]
    return {
        EPOCH + timedelta(days=int(day)): slice(int(one), int(end))
        for day, one, end in zip(found, begin, ends, strict=True)
    }
