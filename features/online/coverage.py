"""Whether a history reaches back far enough to judge a call.

To a history that has just started, or that has a gap, every caller looks new: eight calls of today seem to be the first
eight calls ever. The certificate of a model does not apply to such vectors, so the scorer abstains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from callsieve.features.kernel.windows import DAY_MS

if TYPE_CHECKING:
    from callsieve.features.arrays import Bools, Int64s

COVERAGE_DAYS = 7  # the widest window
BUSY_DAYS_A_WEEK = 5  # an office has no calls at the weekend


def is_covered(days: Collection[int], first: int, at: int, wanted: int = COVERAGE_DAYS) -> bool:
    """Returns whether records began `wanted` days before a call, and most days since then have calls.

    Args:
        days: days with calls, in days since 1970 (UTC).
        at: the call's start (Unix ms).
        wanted: required days; 0 is always covered.

    >>> [is_covered(set(range(100, last)), 100, 107 * DAY_MS) for last in (104, 105, 107)]
    [False, True, True]
    >>> is_covered(set(range(100, 106)), 100, 106 * DAY_MS), is_covered(set(), 0, 0, wanted=0)
    (False, True)
    """
    day = at // DAY_MS
    busy = sum(day - ago in days for ago in range(1, wanted + 1))
    return not wanted or (first <= day - wanted and busy * COVERAGE_DAYS >= wanted * BUSY_DAYS_A_WEEK)


class CallDays:
    """The days with calls of a history that observes calls one by one.

    >>> days = CallDays(range(100, 107))
    >>> days.covers(107 * DAY_MS), days.covers(109 * DAY_MS), days.covers(110 * DAY_MS)
    (True, True, False)
    """

    def __init__(self, days: Iterable[int] = ()) -> None:
        self.days = set(days)
        self._first = min(self.days, default=0)
        self._cached_query: tuple[int, int] | None = None
        self._cached_answer = False

    def note(self, start: int) -> None:
        """Adds the day of a call that started at `start` (Unix ms)."""
        day = start // DAY_MS
        if day not in self.days:
            self._first = min(self._first, day) if self.days else day
            self.days.add(day)
            self._cached_query = None

    def covers(self, at: int, wanted: int = COVERAGE_DAYS) -> bool:
        """Returns `is_covered` for a call at `at` (Unix ms).

        The last answer is cached until a call arrives on a new day.
        """
        query = at // DAY_MS, wanted
        if query != self._cached_query:
            self._cached_query, self._cached_answer = query, is_covered(self.days, self._first, at, wanted)
        return self._cached_answer


def call_days(start: Int64s) -> set[int]:
    """Returns the days on which calls started, for an array of start times (Unix ms)."""
    import numpy as np

    return set(np.unique(start // DAY_MS).tolist())


def covered_rows(start: Int64s, days: set[int], wanted: int = COVERAGE_DAYS) -> Bools:
    """Returns `is_covered` for each call of a table.

    Args:
        start: start times (Unix ms), shape (calls,).
        days: days with calls, of all calls that the vectors were computed from.
        wanted: required days.
    """
    import numpy as np

    unique_days, inverse = np.unique(start // DAY_MS, return_inverse=True)
    first = min(days, default=0)
    return np.array([is_covered(days, first, day * DAY_MS, wanted) for day in unique_days.tolist()], dtype=np.bool_)[
        inverse
    ]
