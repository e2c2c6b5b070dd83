"""Feeds: what the call records of a system lack.

A threshold holds on the feed that it was certified on. Where no incoming call is ever recorded, every caller looks like
one that nobody calls back; where only answered calls are recorded, nobody rejects a caller. So the scorer recognises
the feed from the records themselves, and applies the bands of that feed or none.

The share of calls that one operator records cannot be recognised: such records are on the feed "complete".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

ANSWERED_ONLY, OUTGOING_ONLY = "answered only", "outgoing only"
NO_ROUTES, NO_RING_TIME = "no routes", "no ring time"
LACKS = (ANSWERED_ONLY, OUTGOING_ONLY, NO_ROUTES, NO_RING_TIME)
"""What records may lack.

"answered only": no unanswered call is recorded. "outgoing only": no call to a caller is recorded. "no routes": neither
trunk nor device is recorded. "no ring time": the ring time is always 0 or missing.
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
# Fewer calls show too little: the feed "complete" is assumed.
FEWEST_CALLS = 1_000
SAMPLE_CALLS = 2_000
"""Calls from which shares are measured: a share of LACKING has a standard deviation of 0.2 %."""
COLUMNS = ("caller", "callee", "trunk", "device", "outcome", "ring", "talk")
"""The columns of keyed calls that `feed_of_batches` reads."""


def with_lacks(feed: str, more: str) -> str:
    """Returns the feed of records that lack what both feeds lack.

    >>> with_lacks("no routes", "answered only"), with_lacks("complete", "complete"), with_lacks("unknown", "no routes")
    ('answered only, no routes', 'complete', 'unknown')
    """
    if UNKNOWN_FEED in (feed, more):
        return UNKNOWN_FEED
    lacks = {*feed.split(", "), *more.split(", ")}
    return ", ".join(lack for lack in LACKS if lack in lacks) or COMPLETE


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
    return feed != own and not set(SECOND_MODEL).isdisjoint(feed.split(", "))


def feed_of_shares(unanswered: float, called: float, routes: float, ring: float) -> str:
    """Returns the feed of records by four shares.

    Args:
        unanswered: share of the calls that are over and were not answered.
        called: share of the calls whose caller has received a call in the same records.
        routes: share of the calls with trunk or device.
        ring: share of the calls that are over and have a ring time above 0.

    >>> feed_of_shares(0.2, 0.97, 0.9, 0.96), feed_of_shares(0.0, 0.97, 0.9, 0.0), feed_of_shares(0.2, 0.97, 0.1, 0.96)
    ('complete', 'answered only, no ring time', 'unknown')
    """
    present = (PRESENT_UNANSWERED, PRESENT, PRESENT, PRESENT)
    shares = (unanswered, called, routes, ring)
    if any(LACKING < share < limit for share, limit in zip(shares, present, strict=True)):
        return UNKNOWN_FEED
    return ", ".join(lack for lack, share in zip(LACKS, shares, strict=True) if share <= LACKING) or COMPLETE


def feed_of_counts(calls: int, over: int, unanswered: int, called: int, routes: int, ring: int) -> str:
    """Returns the feed of records by counts among a sample of their calls.

    Args:
        calls: calls of the sample.
        over: calls that are over.
        unanswered, called, routes, ring: calls as for `feed_of_shares`.
    """
    if calls < FEWEST_CALLS:
        return COMPLETE
    ends = max(over, 1)  # without any end, nothing shows unanswered calls or ring times
    return feed_of_shares(unanswered / ends, called / calls, routes / calls, ring / ends)


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

    step, begin, parts = max(-(-count // SAMPLE_CALLS), 1), 0, []
    for batch in read():
        rows = pa.array(range(-begin % step, batch.num_rows, step), pa.int64())
        parts.append(pa.table({name: _texts_or_numbers(batch[name].take(rows)) for name in COLUMNS}))
        begin += batch.num_rows
    if count < FEWEST_CALLS:
        return COMPLETE
    sample = pa.concat_tables(parts)
    is_called = pc.is_in(sample["caller"], value_set=pa.array([], pa.string()))
    for batch in read():
        callees = _texts_or_numbers(batch["callee"].unique())
        is_called = pc.or_(is_called, pc.is_in(sample["caller"], value_set=callees))
    over = pc.and_(pc.is_valid(sample["ring"]), pc.is_valid(sample["talk"]))
    unanswered = pc.and_(over, pc.not_equal(sample["outcome"], "answered"))
    routes = pc.or_(pc.is_valid(sample["trunk"]), pc.is_valid(sample["device"]))
    ring = pc.and_(over, pc.fill_null(pc.greater(sample["ring"], 0), False))
    counts = (pc.sum(flags).as_py() or 0 for flags in (over, unanswered, is_called, routes, ring))
    return feed_of_counts(sample.num_rows, *counts)


def _texts_or_numbers(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
