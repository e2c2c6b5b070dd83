"""Lists of reported numbers: how many complaints concern a number that was reported before, and how often it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.kernel.windows import DAY_MS
from callsieve.serving.batch.keyed_rows import milliseconds

if TYPE_CHECKING:
    from .dataset import Dataset


WINDOWS = (7, 30, 90)  # days
MINIMUMS = (1, 3)  # earlier complaints
LIST_WINDOW = 28 * DAY_MS  # a complaint keeps a number on a reputation list for this time


def list_reach(number: pd.Series[Any], day: Array, count: Array) -> dict[str, Any]:
    """Returns the shares of complaints whose number had at least MINIMUMS complaints in the WINDOWS of days before.

    Complaints of the same day do not count as earlier. Only days with a full longest window before them are judged.

    Args:
        number: one text or category a row. day: whole days since 1970, int64. count: complaints of the row.
    Returns:
        `judged`: the number of judged complaints. `shares`: by "DAYSd_MINIMUM", None if none was judged. If there is
        any complaint, also `numbers`: how many numbers they are about, and `most`: the most about one number.
    """
    if not len(day):
        return {"judged": 0, "shares": {}}
    code = pd.factorize(number)[0].astype(np.int64)
    span = int(day.max() - day.min()) + 1 + max(WINDOWS)
    key = code * span + (day - day.min())
    keys, place = np.unique(key, return_inverse=True)
    complaints = np.bincount(place, count).astype(np.int64)
    before = np.concatenate([[0], np.cumsum(complaints)])
    judged = keys % span >= max(WINDOWS)
    total = int(complaints[judged].sum())
    shares = {}
    for days in WINDOWS:
        # `span` leaves room for the longest window, so no key of another number falls into it.
        begin = np.searchsorted(keys, np.maximum(keys - days, keys // span * span))
        earlier = before[np.arange(len(keys))] - before[begin]
        for minimum in MINIMUMS:
            reached = complaints[judged & (earlier >= minimum)].sum()
            shares[f"{days}d_{minimum}"] = float(reached / total) if total else None
    return {"judged": total, "numbers": len(np.unique(code)), "most": most_per_number(code, count), "shares": shares}


def most_per_number(code: Array, count: Array) -> int:
    """Returns the most complaints about one number."""
    return int(np.bincount(code, count).max())


def mean_by_day_kind(day: Array, count: Array) -> dict[str, float]:
    """Returns the mean complaints of a weekday and of a weekend day, over the days that have any."""
    days, place = np.unique(day, return_inverse=True)
    of_day = np.bincount(place, count)
    weekend = (days + 3) % 7 >= 5  # day 0, 1970-01-01, was a Thursday
    return {
        name: float(of_day[chosen].mean())
        for name, chosen in (("weekday", ~weekend), ("weekend_day", weekend))
        if chosen.any()
    }


def recent_complaints(dataset: Dataset, caller: Array, rows: Array) -> Array:
    """Returns how many complaints against the caller were known in the LIST_WINDOW before each of these calls.

    Args:
        caller: code of each call's caller, in order of first appearance.
        rows: indices of the calls.
    """
    complaints = dataset.complaints
    names = pc.unique(pc.dictionary_decode(dataset.calls["caller"].combine_chunks()))
    code = pd.Index(names.to_pylist()).get_indexer(complaints["number"].astype(str))
    known_at = milliseconds(complaints["known_at"]).to_numpy()[code >= 0]
    start = dataset.calls["start"].to_numpy()
    first = min(int(start.min()), int(known_at.min(initial=start.min()))) - LIST_WINDOW
    span = int(max(start.max(), known_at.max(initial=0))) - first + 1
    # One sorted key for caller and moment, so that two look-ups count the complaints of a window.
    keys = np.sort(code[code >= 0] * span + (known_at - first))
    at = caller[rows] * span + (start[rows] - first)
    return np.asarray(np.searchsorted(keys, at) - np.searchsorted(keys, at - LIST_WINDOW), dtype=float)
