"""Whether what is known reaches back over the widest window.

A history that has just begun, or that was away, takes everybody for new: whoever made eight calls today seems to have
begun with them. What a model says of such vectors was certified by nobody.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from .windows import DAY_MS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

WEEK = 7
WORKED = 5  # days of a week on which there are calls: an office has none at a weekend


def is_filled(days: Collection[int], first: int, at: int, wanted: int = WEEK) -> bool:
    """Whether records began so many days before a call, and most days since then have some.

    Args:
        days: since 1970 (UTC), on which any call is known to have begun. `first` is the least of them.
        at: the call's start (Unix ms).
        wanted: how many days; 0 asks for nothing.

    >>> [is_filled(set(range(100, last)), 100, 107 * DAY_MS) for last in (104, 105, 107)]
    [False, True, True]
    >>> is_filled(set(range(100, 106)), 100, 106 * DAY_MS), is_filled(set(), 0, 0, wanted=0)
    (False, True)
    """
    day = at // DAY_MS
    known = sum(day - ago in days for ago in range(1, wanted + 1))
    return not wanted or (first <= day - wanted and known * WEEK >= wanted * WORKED)


def days_of(start: npt.NDArray[np.int64]) -> set[int]:
    """The days on which calls began, `start` in Unix ms."""
    import numpy as np

    return set(np.unique(start // DAY_MS).tolist())


def filled_rows(start: npt.NDArray[np.int64], days: set[int], wanted: int = WEEK) -> npt.NDArray[np.bool_]:
    """`is_filled` of each call of a table, from the days of all calls of which its vectors were made."""
    import numpy as np

    found, place = np.unique(start // DAY_MS, return_inverse=True)
    first = min(days, default=0)
    return np.array([is_filled(days, first, day * DAY_MS, wanted) for day in found.tolist()], dtype=np.bool_)[place]
