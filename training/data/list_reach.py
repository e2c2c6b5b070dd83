"""How far a list of reported numbers reaches: the share of reports whose number was reported before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

WINDOWS = (7, 30, 90)  # days
LEAST = (1, 3)  # earlier reports


def list_reach(number: pd.Series[Any], day: Array, count: Array) -> dict[str, Any]:
    """Shares of reports whose number had at least so many reports (LEAST) in so many days (WINDOWS) before their own.

    Reports of the same day are not earlier ones. Judged are the days that have the longest window of records before
    them; of shorter records nothing is said.

    Args:
        number: one text or category a row. day: whole days, int64. count: reports of the row.
    Returns: how many reports were `judged`, and `shares` of them by "DAYSd_LEAST", None if none was judged; where there
        are any reports, how many `numbers` they are of, and the `most` of one.
    """
    if not len(day):
        return {"judged": 0, "shares": {}}
    code = pd.factorize(number)[0].astype(np.int64)
    span = int(day.max() - day.min()) + 1 + max(WINDOWS)
    key = code * span + (day - day.min())
    keys, place = np.unique(key, return_inverse=True)
    reports = np.bincount(place, count).astype(np.int64)
    before = np.concatenate([[0], np.cumsum(reports)])
    judged = keys % span >= max(WINDOWS)
    whole = int(reports[judged].sum())
    shares = {}
    for days in WINDOWS:
        # No key of another number lies within the window: the span has room for the longest one.
        begin = np.searchsorted(keys, np.maximum(keys - days, keys // span * span))
        earlier = before[np.arange(len(keys))] - before[begin]
        for least in LEAST:
            told = reports[judged & (earlier >= least)].sum()
            shares[f"{days}d_{least}"] = float(told / whole) if whole else None
    return {"judged": whole, "numbers": len(np.unique(code)), "most": most_of_one(code, count), "shares": shares}


def most_of_one(code: Array, count: Array) -> int:
    """The most reports of one number."""
    return int(np.bincount(code, count).max())


def weekdays(day: Array, count: Array) -> dict[str, float]:
    """Mean reports of a weekday and of a weekend day, over the days that have any."""
    days, place = np.unique(day, return_inverse=True)
    of_day = np.bincount(place, count)
    weekend = (days + 3) % 7 >= 5  # day 0, 1970-01-01, was a Thursday
    return {
        name: float(of_day[chosen].mean())
        for name, chosen in (("weekday", ~weekend), ("weekend_day", weekend))
        if chosen.any()
    }
