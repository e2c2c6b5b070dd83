"""Feeds: what the call records of a system lack.

A threshold holds on the feed that it was certified on. Without records of incoming calls, no caller seems to be called
back. Without records of unanswered calls, no caller seems to be rejected. So the scorer recognises the feed from the
records themselves, and applies the bands of that feed or none.

Where one operator of many records the calls, callers seem to call less than they do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

from callsieve.features.codegen.memory_layout import Arrays
from callsieve.features.kernel.windows import ANSWERED, DAY_MS, END_PLACES, ENDS, HOUR, NEVER, OUTCOME_BITS, OVER, WEEK
from callsieve.features.stream.call_store import (
    CALLER,
    DURATION,
    FACTS,
    FIELDS,
    NOW,
    ROUTE_SIZE,
    STORED,
    TALK,
    start_of,
)
from callsieve.features.stream.routes import KEYS_OF
from callsieve.features.stream.time_order import BEYOND, CURSOR, OFFSET, SIZE

from .driver import Driver

if TYPE_CHECKING:
    import pyarrow as pa

ANSWERED_ONLY, OUTGOING_ONLY = "answered only", "outgoing only"
NO_ROUTES, NO_RING_TIME = "no routes", "no ring time"
SPARSE = "sparse"
LACKS = (ANSWERED_ONLY, OUTGOING_ONLY, NO_ROUTES, NO_RING_TIME, SPARSE)
"""What records may lack.

"answered only": no unanswered call is recorded. "outgoing only": no call to a caller is recorded. "no routes": neither
trunk nor device is recorded. "no ring time": the ring time is always 0 or missing. "sparse": most calls of the same
people are missing, as in the records of one operator of several.
"""
COMPLETE, UNKNOWN_FEED = "complete", "unknown"
FEEDS = (
    COMPLETE,
    *chain.from_iterable(map(", ".join, combinations(LACKS, count)) for count in range(1, len(LACKS) + 1)),
)
"""The feeds that a bundle may have bands for: "complete", each of LACKS, and their combinations ("no routes, no ring
time"). Records that lack something in part are on the feed UNKNOWN_FEED, which has no bands."""

SECOND_MODEL = (ANSWERED_ONLY, OUTGOING_ONLY)
"""What the second model of a bundle learns from. To the first model "every call was answered" is a sign of an innocent
caller, and "no call comes in" a sign of nuisance."""

# Rows in which the measured value may occur although a system does not record it, such as test calls.
LACKING = 0.01
# Shares from which a system records something. On 5 simulated worlds, by week: ring times 0.96, routes 0.88, called
# callers 0.97 (0.88 among the records of one operator of three, 0.87 among answered calls of three days). On real calls
# the least were routes 0.38, and called callers 0.33 in the busiest week of a fraud number.
PRESENT = 0.2
# The same for unanswered calls: simulated worlds have 0.17 to 0.48, students of Copenhagen 0.09 to 0.12.
PRESENT_UNANSWERED = 0.05
# A call is rare if its caller makes at most this many in seven days. The share of rare calls is 0.06 in simulated
# worlds, 0.07 among their answered calls, 0.08 among the calls that one operator of three takes part in, 0.10 to 0.12
# among those between its own numbers, 0.21 between the numbers of one of ten; 0.38 among students of Copenhagen.
RARE_CALLS = 3
FEWEST_DAYS = 7  # with calls, in a week whose calls are counted; with fewer, every caller seems to make few
SPARSE_FROM, TOO_SPARSE_FROM = 0.1, 0.2
# Fewer calls show too little: the feed "complete" is assumed.
FEWEST_CALLS = 1_000
SAMPLE_CALLS = 2_000
"""Calls from which shares are measured: a share of LACKING has a standard deviation of 0.2 %."""
COLUMNS = ("start", "caller", "callee", "trunk", "device", "outcome", "ring", "talk")
"""The columns of keyed calls that `feed_of_batches` reads."""


def lacks_of(feed: str) -> tuple[str, ...]:
    """Returns what records on a feed lack, in the order of LACKS; nothing for COMPLETE and for UNKNOWN_FEED.

    >>> lacks_of("no routes, no ring time"), lacks_of("complete")
    (('no routes', 'no ring time'), ())
    """
    words = feed.split(", ")
    return tuple(lack for lack in LACKS if lack in words)


def feed_lacking(lacks: Collection[str]) -> str:
    """Returns the feed of records that lack these of LACKS; the inverse of `lacks_of`.

    >>> feed_lacking({"no ring time", "no routes"}), feed_lacking(())
    ('no routes, no ring time', 'complete')
    """
    return ", ".join(lack for lack in LACKS if lack in lacks) or COMPLETE


def with_lacks(feed: str, more: str) -> str:
    """Returns the feed of records that lack what both feeds lack.

    >>> with_lacks("no routes", "answered only"), with_lacks("complete", "complete"), with_lacks("unknown", "no routes")
    ('answered only, no routes', 'complete', 'unknown')
    """
    if UNKNOWN_FEED in (feed, more):
        return UNKNOWN_FEED
    return feed_lacking(lacks_of(feed) + lacks_of(more))


def needs_second_model(feed: str, own: str) -> bool:
    """Returns whether the second model of a bundle scores records on this feed, if the bundle has one.

    Records on the bundle's own feed are like the complete records of its training: its first model scores them.

    Args:
        feed: the feed of the records.
        own: the feed that the bundle was trained on.

    >>> [needs_second_model(feed, "complete") for feed in ("complete", "no routes", "answered only, no routes")]
    [False, False, True]
    >>> needs_second_model("answered only", own="answered only")
    False
    """
    return feed != own and not set(SECOND_MODEL).isdisjoint(lacks_of(feed))


def feed_of_shares(unanswered: float, called: float, routes: float, ring: float, rare: float = 0.0) -> str:
    """Returns the feed of records by five shares.

    Args:
        unanswered: share of the calls that are over and were not answered.
        called: share of the calls whose caller has received a call in the same records.
        routes: share of the calls with trunk or device.
        ring: share of the calls that are over and have a ring time above 0.
        rare: share of the calls whose caller made at most RARE_CALLS in seven days.

    >>> feed_of_shares(0.2, 0.97, 0.9, 0.96), feed_of_shares(0.0, 0.97, 0.9, 0.0), feed_of_shares(0.2, 0.97, 0.1, 0.96)
    ('complete', 'answered only, no ring time', 'unknown')
    >>> feed_of_shares(0.2, 0.97, 0.9, 0.96, rare=0.12), feed_of_shares(0.2, 0.97, 0.9, 0.96, rare=0.38)
    ('sparse', 'unknown')
    """
    present = (PRESENT_UNANSWERED, PRESENT, PRESENT, PRESENT)
    shares = (unanswered, called, routes, ring)
    if rare >= TOO_SPARSE_FROM or any(LACKING < share < limit for share, limit in zip(shares, present, strict=True)):
        return UNKNOWN_FEED
    lacking = (*(share <= LACKING for share in shares), rare >= SPARSE_FROM)
    return feed_lacking([lack for lack, lacks in zip(LACKS, lacking, strict=True) if lacks])


def feed_of_counts(
    calls: int, over: int, unanswered: int, called: int, routes: int, ring: int, rare: tuple[int, int] = (0, 0)
) -> str:
    """Returns the feed of records by counts among a sample of their calls.

    Args:
        calls: calls of the sample.
        over: calls that are over.
        unanswered, called, routes, ring: calls as for `feed_of_shares`.
        rare: rare calls, and the calls that are known to be rare or not.
    """
    if calls < FEWEST_CALLS:
        return COMPLETE
    ends = max(over, 1)  # without any end, nothing shows unanswered calls or ring times
    shares = unanswered / ends, called / calls, routes / calls, ring / ends
    return feed_of_shares(*shares, rare=rare[0] / rare[1] if rare[1] >= FEWEST_CALLS // 2 else 0.0)


def feed_of_table(calls: pa.Table) -> str:
    """Returns the feed of a table of keyed calls."""
    return feed_of_batches(lambda: [calls], calls.num_rows)


def feed_of_batches(read: Callable[[], Iterable[pa.Table | pa.RecordBatch]], count: int) -> str:
    """Returns the feed of keyed calls that are read in batches; in memory are a batch and a sample of the calls.

    Args:
        read: returns the batches, with at least the columns COLUMNS. It is called twice.
        count: calls of all batches.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    step, begin, parts, ends = max(-(-count // SAMPLE_CALLS), 1), 0, [], []
    for batch in read():
        rows = pa.array(range(-begin % step, batch.num_rows, step), pa.int64())
        parts.append(pa.table({name: _texts_or_numbers(batch[name].take(rows)) for name in COLUMNS}))
        begin += batch.num_rows
        ends += [pc.min(batch["start"]).as_py(), pc.max(batch["start"]).as_py()] if batch.num_rows else []
    if count < FEWEST_CALLS:
        return COMPLETE
    sample = pa.concat_tables(parts)
    is_called = pc.is_in(sample["caller"], value_set=pa.array([], pa.string()))
    weeks = _CallsByWeek(sample, min(ends), max(ends))
    for batch in read():
        callees = _texts_or_numbers(batch["callee"].unique())
        is_called = pc.or_(is_called, pc.is_in(sample["caller"], value_set=callees))
        weeks.count(batch)
    over = pc.and_(pc.is_valid(sample["ring"]), pc.is_valid(sample["talk"]))
    unanswered = pc.and_(over, pc.not_equal(sample["outcome"], "answered"))
    routes = pc.or_(pc.is_valid(sample["trunk"]), pc.is_valid(sample["device"]))
    ring = pc.and_(over, pc.fill_null(pc.greater(sample["ring"], 0), False))
    flags = (over, unanswered, is_called, routes, ring)
    ended, missed, received, routed, rings = (pc.sum(flag).as_py() or 0 for flag in flags)
    return feed_of_counts(sample.num_rows, ended, missed, received, routed, rings, weeks.rare())


class _CallsByWeek:
    """How many calls the callers of a sample made in each week of the records, to find the rare calls of the sample."""

    def __init__(self, sample: pa.Table, first: int, last: int) -> None:
        import numpy as np

        self._sample, self._first = sample, first
        # The last week counts only if it is whole; records end with their last call, so an hour may be missing.
        self._weeks = (last - first + HOUR) // WEEK
        self._callers = sample["caller"].unique()
        self._made = np.zeros(len(self._callers) * self._weeks, dtype=np.int64)
        self._days: set[int] = set()  # with calls, from the first call on

    def count(self, calls: pa.Table | pa.RecordBatch) -> None:
        """Counts more calls."""
        import numpy as np

        np.add.at(self._made, self._places(calls), 1)
        self._days.update(np.unique((calls["start"].to_numpy() - self._first) // DAY_MS).tolist())

    def rare(self) -> tuple[int, int]:
        """Returns the rare calls of the sample, and its calls in weeks with calls on each day."""
        import numpy as np

        made, places = self._made, self._places(self._sample)
        known = np.isin(places % max(self._weeks, 1), whole_weeks(self._days))
        return int((made[places[known]] <= RARE_CALLS).sum()), int(known.sum())

    def _places(self, calls: pa.Table | pa.RecordBatch) -> Any:
        """Returns the place among the counts of each call of a known caller in a whole week."""
        import numpy as np
        import pyarrow.compute as pc

        caller = pc.index_in(_texts_or_numbers(calls["caller"]), value_set=self._callers)
        known, week = np.asarray(caller.is_valid()), (calls["start"].to_numpy() - self._first) // WEEK
        return (np.asarray(caller.fill_null(0)) * self._weeks + week)[known & (week < self._weeks)]


def whole_weeks(days: Iterable[int]) -> list[int]:
    """Returns the weeks with calls on each of their days; in others every caller seems to make few calls.

    Args:
        days: days with calls, counted from the first call on.

    >>> whole_weeks([0, 1, 2, 3, 4, 5, 6, 7, 9])
    [0]
    """
    counts = Counter(day // FEWEST_DAYS for day in set(days))
    return sorted(week for week, count in counts.items() if count == FEWEST_DAYS)


def _texts_or_numbers(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


WIDEST = 2  # the window of seven days
RECEIVED = ENDS + 2 * END_PLACES + WIDEST  # of a number: its first incoming attempt in that window


class MemoryFeed:
    """The feed of a history's calls of the last seven days, measured at most once a day on a sample of them."""

    def __init__(self, driver: Driver) -> None:
        self._memory, self._number = driver.memory, driver.layouts["number"]
        self._day, self._feed = NEVER, COMPLETE

    def latest(self) -> str:
        """Returns the feed, one of `feeds.FEEDS` or UNKNOWN_FEED. The first answer of a day takes milliseconds."""
        counts = self._memory["shared"]["counts"]
        if counts[STORED] < FEWEST_CALLS:
            return COMPLETE
        day = int(counts[NOW]) // DAY_MS
        if day > self._day:
            self._day, self._feed = day, self._measure()
        return self._feed

    def _measure(self) -> str:
        shared, state = self._memory["shared"], self._memory["number"]["state"]
        calls, routes = shared["calls"], shared["routes"]
        sampled = over = unanswered = called = routed = rings = rare = known = 0
        number, now = self._number, int(shared["counts"][NOW])
        made = number.SUMS + WIDEST * number.SLOTS + number.CALLS  # calls of a number in that window
        days = set()
        for place in sampled_attempts(self._memory):
            call, route = place * FIELDS, shared["route"][place] * ROUTE_SIZE
            later = shared["later_route"][place] * ROUTE_SIZE
            keys = (routes[of + KEYS_OF + kind] for of in (route, later) if of > 0 for kind in (1, 2))
            sampled += 1
            routed += any(key > 0 for key in keys)  # trunk or device
            caller = routes[route + CALLER] * number.STATE
            called += state[caller + RECEIVED] >= 0
            start = start_of(call, calls)
            if start >= now - WEEK:
                known += 1
                rare += int(state[caller + made]) <= RARE_CALLS
                days.add(start // DAY_MS)
            facts = calls[call + FACTS]
            if facts >> OVER & 1:
                over += 1
                unanswered += facts & OUTCOME_BITS != ANSWERED
                rings += calls[call + DURATION] > calls[call + TALK]
        if len(days) < FEWEST_DAYS:
            rare = known = 0
        return feed_of_counts(sampled, over, unanswered, called, routed, rings, (rare, known))


def sampled_attempts(memory: Arrays) -> Iterator[int]:
    """Yields the places of at most SAMPLE_CALLS attempts of the last seven days, evenly over their order in time."""
    events = memory["attempts"]
    runs, sizes, marks = events["runs"], events["sizes"], events["marks"]
    order = [int(runs[at]) for at in range(marks[CURSOR + WIDEST], marks[BEYOND])]
    offset = int(marks[OFFSET + WIDEST])
    step = max(-(-(sum(sizes[run] for run in order) - offset) // SAMPLE_CALLS), 1)
    for run in order:
        while offset < sizes[run]:
            yield int(events["places"][run * SIZE + offset])
            offset += step
        offset -= sizes[run]
