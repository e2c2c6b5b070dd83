"""Feeds: what the call records of a system lack.

A threshold holds on the feed that it was certified on. Without records of incoming calls, no caller seems to be called
back. Without records of unanswered calls, no caller seems to be rejected. So the scorer recognises the feed from the
records themselves, and applies the bands of that feed or none.

Where one operator of many records the calls, callers seem to call less than they do.

A stranger can forge any number of callers. So only calls of callers with several calls in a week count: numbers that
call once change nothing, whatever their share of the calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from callsieve.features.dataclass import dataclass
from callsieve.features.kernel.windows import DAY_MS, HOUR, WEEK

if TYPE_CHECKING:
    import pyarrow as pa

    from callsieve.features.arrays import Int64s

ANSWERED_ONLY, OUTGOING_ONLY = "answered only", "outgoing only"
NO_ROUTES, NO_RING_TIME = "no routes", "no ring time"
SPARSE = "sparse"
LACKS = (ANSWERED_ONLY, OUTGOING_ONLY, NO_ROUTES, NO_RING_TIME, SPARSE)
"""What records may lack.

"answered only": no unanswered call is recorded. "outgoing only": no call to a caller is recorded. "no routes": neither
trunk nor device is recorded, or for few calls. "no ring time": the ring time is always 0 or missing. "sparse": most
calls of the same people are missing, as in the records of one operator of several.
"""
COMPLETE, UNKNOWN_FEED = "complete", "unknown"
FEEDS = (
    COMPLETE,
    *chain.from_iterable(map(", ".join, combinations(LACKS, count)) for count in range(1, len(LACKS) + 1)),
)
"""The feeds that a bundle may have bands for: "complete", each of LACKS, and their combinations ("no routes, no ring
time"). Records that lack something else than routes in part are on the feed UNKNOWN_FEED, which has no bands."""

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
# A caller counts with at least COUNTED_CALLS in seven days. A call is rare if its caller counts and makes at most
# RARE_CALLS. The share of rare calls is 0.05 in simulated worlds, 0.07 among their answered calls, 0.08 among the calls
# that one operator of three takes part in, 0.11 among those between its own numbers, 0.22 between the numbers of one of
# ten; 0.15 among callers of the Reality Mining Study, 0.33 among students of Copenhagen. If every caller counted and
# calls of up to three were rare, the shares would be 0.06, 0.07, 0.08, 0.12, 0.24, 0.21 and 0.29: nearly the same. But
# then forged numbers with one call each would change the feed from a share of 0.05 of the calls.
COUNTED_CALLS, RARE_CALLS = 2, 4
FEWEST_DAYS = 7  # with calls, in a week whose calls are counted; with fewer, every caller seems to make few
SPARSE_FROM, TOO_SPARSE_FROM = 0.1, 0.18
# With fewer calls of callers who count, nothing is known of the records. Simulated worlds have 0.98.
FEWEST_COUNTED = 0.1
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


class SampledCall(NamedTuple):
    """The facts of a sampled call that show what the records hold.

    Attributes:
        over: whether it is over.
        unanswered: whether it is over and was not answered.
        called: whether its caller has received a call in the same records.
        routed: whether it has a trunk or a device.
        rang: whether it is over and has a ring time above 0.
        made: calls of its caller in the same seven days; 0 if the records lack a day of them.
    """

    over: bool
    unanswered: bool
    called: bool
    routed: bool
    rang: bool
    made: int


@dataclass(frozen=True, slots=True)
class FeedShares:
    """Shares among the calls of records, from which their feed follows.

    Attributes:
        unanswered: share of the calls that are over and were not answered.
        called: share of the calls whose caller has received a call in the same records.
        routes: share of the calls with trunk or device.
        ring: share of the calls that are over and have a ring time above 0.
        rare: share of the calls whose caller made at most RARE_CALLS in seven days.
        counted: share of the calls whose caller made at least COUNTED_CALLS in seven days; the other shares are among
            these.

    >>> print(FeedShares(0.2, 0.97, 0.9, 0.96, rare=0.054, counted=0.98))
    unanswered 0.200, called 0.970, routes 0.900, ring 0.960, rare 0.054, counted 0.980
    """

    unanswered: float
    called: float
    routes: float
    ring: float
    rare: float = 0.0
    counted: float = 1.0

    @property
    def feed(self) -> str:
        """The feed, one of FEEDS or UNKNOWN_FEED.

        A share between lacking and present makes the feed unknown, except for routes: without them a call can be scored
        as if the records had none.

        >>> FeedShares(0.2, 0.97, 0.9, 0.96).feed, FeedShares(0.0, 0.97, 0.9, 0.0).feed
        ('complete', 'answered only, no ring time')
        >>> FeedShares(0.2, 0.97, 0.1, 0.96).feed, FeedShares(0.2, 0.97, 0.9, 0.1).feed
        ('no routes', 'unknown')
        >>> FeedShares(0.2, 0.97, 0.9, 0.96, rare=0.11).feed, FeedShares(0.2, 0.97, 0.9, 0.96, rare=0.37).feed
        ('sparse', 'unknown')
        """
        limits = ((self.unanswered, PRESENT_UNANSWERED), (self.called, PRESENT), (self.ring, PRESENT))
        in_part = any(LACKING < share < limit for share, limit in limits)
        if in_part or self.rare >= TOO_SPARSE_FROM or self.counted < FEWEST_COUNTED:
            return UNKNOWN_FEED
        lacking = {
            ANSWERED_ONLY: self.unanswered <= LACKING,
            OUTGOING_ONLY: self.called <= LACKING,
            NO_ROUTES: self.routes < PRESENT,
            NO_RING_TIME: self.ring <= LACKING,
            SPARSE: self.rare >= SPARSE_FROM,
        }
        return feed_lacking([lack for lack in LACKS if lacking[lack]])

    def __str__(self) -> str:
        names = ("unanswered", "called", "routes", "ring", "rare", "counted")
        return ", ".join(f"{name} {getattr(self, name):.3f}" for name in names)


def shares_of_sample(sample: Collection[SampledCall]) -> FeedShares | None:
    """Returns the shares of records by a sample of their calls; None with fewer than FEWEST_CALLS.

    Before a whole week is known every caller seems to make few calls. Then all callers count, and no call is rare.
    """
    if len(sample) < FEWEST_CALLS:
        return None
    known, rare, counted = [call for call in sample if call.made], 0.0, 1.0
    calls = sample
    if len(known) >= FEWEST_CALLS // 2:
        calls = [call for call in known if call.made >= COUNTED_CALLS]
        rare = sum(call.made <= RARE_CALLS for call in calls) / max(len(calls), 1)
        counted = len(calls) / len(known)
    count = max(len(calls), 1)
    ends = max(sum(call.over for call in calls), 1)  # without any end, nothing shows unanswered calls or ring times
    return FeedShares(
        unanswered=sum(call.unanswered for call in calls) / ends,
        called=sum(call.called for call in calls) / count,
        routes=sum(call.routed for call in calls) / count,
        ring=sum(call.rang for call in calls) / ends,
        rare=rare,
        counted=counted,
    )


def feed_of_sample(sample: Collection[SampledCall]) -> str:
    """Returns the feed of records by a sample of their calls; COMPLETE with fewer than FEWEST_CALLS."""
    shares = shares_of_sample(sample)
    return COMPLETE if shares is None else shares.feed


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
    rang = pc.and_(over, pc.fill_null(pc.greater(sample["ring"], 0), False))
    flags = (pc.fill_null(flag, False).to_pylist() for flag in (over, unanswered, is_called, routes, rang))
    return feed_of_sample([*map(SampledCall, *flags, weeks.made().tolist())])


class _CallsByWeek:
    """How many calls the callers of a sample made in each week of the records."""

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

        np.add.at(self._made, self._places(calls)[1], 1)
        self._days.update(np.unique((calls["start"].to_numpy() - self._first) // DAY_MS).tolist())

    def made(self) -> Int64s:
        """Returns the calls of the caller of each sampled call in its week; 0 for a week without calls on each day."""
        import numpy as np

        rows, places = self._places(self._sample)
        known = np.isin(places % max(self._weeks, 1), whole_weeks(self._days))
        made = np.zeros(len(rows), dtype=np.int64)
        made[rows] = np.where(known, self._made[places], 0)
        return made

    def _places(self, calls: pa.Table | pa.RecordBatch) -> tuple[Any, Any]:
        """Returns which calls are of a known caller in a whole week, and the places of these among the counts."""
        import numpy as np
        import pyarrow.compute as pc

        caller = pc.index_in(_texts_or_numbers(calls["caller"]), value_set=self._callers)
        known, week = np.asarray(caller.is_valid()), (calls["start"].to_numpy() - self._first) // WEEK
        rows = known & (week < self._weeks)
        return rows, (np.asarray(caller.fill_null(0)) * self._weeks + week)[rows]


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
