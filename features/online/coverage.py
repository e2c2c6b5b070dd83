"""Whether what is known reaches back over the widest window.

A history that has just begun, or that was away, takes everybody for new: whoever made eight calls today seems to have
begun with them. What a model says of such vectors was certified by nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from callsieve.features.kernel.windows import DAY_MS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

COVERAGE_DAYS = 7
BUSY_DAYS_A_WEEK = 5  # days of a week on which there are calls: an office has none at a weekend


def is_covered(days: Collection[int], first: int, at: int, wanted: int = COVERAGE_DAYS) -> bool:
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
    return not wanted or (first <= day - wanted and known * COVERAGE_DAYS >= wanted * BUSY_DAYS_A_WEEK)


class CallDays:
    """The days on which calls began, of a history that takes in calls one by one.

    >>> known = KnownDays(range(100, 107))
    >>> known.filled(107 * DAY_MS), known.filled(109 * DAY_MS), known.filled(110 * DAY_MS)
    (True, True, False)
    """

    def __init__(self, days: Iterable[int] = ()) -> None:
        self.days = set(days)
        self._first = min(self.days, default=0)
        self._asked: tuple[int, int] | None = None
        self._answer = False

    def note(self, start: int) -> None:
        """A call began (Unix ms)."""
        day = start // DAY_MS
        if day not in self.days:
            self._first = min(self._first, day) if self.days else day
            self.days.add(day)
            self._asked = None

    def filled(self, at: int, wanted: int = COVERAGE_DAYS) -> bool:
        """`is_covered` of a call at this moment; of a day the answer stays, until another day has calls."""
        asked = at // DAY_MS, wanted
        if asked != self._asked:
            self._asked, self._answer = asked, is_covered(self.days, self._first, at, wanted)
        return self._answer


def call_days(start: npt.NDArray[np.int64]) -> set[int]:
    """The days on which calls began, `start` in Unix ms."""
    import numpy as np

    return set(np.unique(start // DAY_MS).tolist())


def covered_rows(start: npt.NDArray[np.int64], days: set[int], wanted: int = COVERAGE_DAYS) -> npt.NDArray[np.bool_]:
    """`is_covered` of each call of a table, from the days of all calls of which its vectors were made."""
    import numpy as np

    found, place = np.unique(start // DAY_MS, return_inverse=True)
    first = min(days, default=0)
    return np.array([is_covered(days, first, day * DAY_MS, wanted) for day in found.tolist()], dtype=np.bool_)[place]
