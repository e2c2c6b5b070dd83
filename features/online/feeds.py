"""Feeds: what the call records of a system lack.

A threshold holds on the feed that it was certified on. Without records of incoming calls, no caller seems to be called
back. Without records of unanswered calls, no caller seems to be rejected. So the scorer recognises the feed from the
records themselves, and applies the bands of that feed or none.

Where one operator of many records the calls, callers seem to call less than they do. The records of one site show of
other numbers only the calls with the site's own lines: a stranger who calls a whole city seems to call twice.

A stranger can forge any number of callers. So only calls of callers with several calls in a week count: numbers that
call once change nothing, whatever their share of the calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from callsieve.features.kernel.windows import DAY_MS, HOUR, WEEK

if TYPE_CHECKING:
    import pyarrow as pa

    from callsieve.features.arrays import Bools, Floats, Int64s

ANSWERED_ONLY, OUTGOING_ONLY = "answered only", "outgoing only"
NO_ROUTES, NO_RING_TIME = "no routes", "no ring time"
SPARSE, ONE_SITE, NO_ORGANISATIONS = "sparse", "one site", "no calls to organisations"
LACKS = (ANSWERED_ONLY, OUTGOING_ONLY, NO_ROUTES, NO_RING_TIME, SPARSE, ONE_SITE, NO_ORGANISATIONS)
"""What records may lack.

"answered only": no unanswered call is recorded. "outgoing only": no call to a caller is recorded. "no routes": neither
trunk nor device is recorded, or for few calls. "no ring time": the ring time is always 0 or missing. "sparse": most
calls of the same people are missing, as in the records of one operator of several. "one site": all calls have one of
few lines as a party, as in the records of a company or household. "no calls to organisations": numbers that call much
are not called, because such calls are billed elsewhere or because customers do not call back.
"""
COMPLETE, UNKNOWN_FEED = "complete", "unknown"
# What another lack implies, or makes impossible to measure.
IMPLIED = {OUTGOING_ONLY: {NO_ORGANISATIONS}, ONE_SITE: {SPARSE, NO_ORGANISATIONS}}

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
# Two parties are balanced as far as the one with fewer partners in seven days reaches the other: the ratio of the two
# numbers of partners. Records that have all calls of some numbers and few of the others lack balance, as an operator's,
# which has the calls that a number of its own takes part in. "balance" is the median over the calls of callers who
# count, whose parties call each other, and who have at most MOST_PARTNERS, so that organisations do not count. It is
# 0.23 to 0.36 in simulated worlds of 300 to 40,000 people, 0.18 to 0.28 in the records of one such operator of three to
# five, and 0.13 to 0.19 of one of ten, whose share of rare calls is above 0.1. In the other simulator it is 0.8, 0.23
# to 0.29 of one of five, 0.11 to 0.13 of one of ten, whose share of rare calls is only 0.06. It chose no limit.
BALANCED_FROM, MOST_PARTNERS, FEWEST_BALANCED = 0.19, 60, 100
# A call of a caller who counts is lone if one of its parties deals with a single number in the same seven days and the
# other one does not. The centre of a call is the party that the sample has more often; "site" is the share of lone
# calls divided by the share of centres among the numbers. Simulated worlds have 0.1 to 0.2, the calls of one operator
# of three 0.3 to 0.7, those of one of ten 0.7 to 0.9 (1.3 to 1.7 between its own numbers), students of Copenhagen 0.7
# to 0.9; the other simulator and its operators 0.0 to 0.1. The calls of 20 to 600 lines of worlds with 9,000
# subscribers have 2.3 to 38; of 2,000 lines 1.3 to 1.4, because they are a good part of these worlds. Of the other
# simulator's 6,000 people, 20 lines have 10 to 15, 60 lines 5 to 8, and 200 lines, a thirtieth of all, 1.3 to 1.6. Some
# hundred lines of the Reality Mining Study have 5.7 to 6.9, four single Sichuan subscribers 7 to 248. Forged numbers of
# one call do not count, and move these figures of sites by a third at most.
SITE_FROM = 2.0
# Calls of callers who count, from which records of less than FEWEST_CALLS are recognised as those of one site.
FEWEST_OF_SITE = 100
# A caller is busy with at least BUSY_CALLS in seven days. In simulated worlds 0.93 to 1.00 of the busy callers are also
# called, 0.84 to 1.00 in the records of one operator, 0.97 in the other simulator. Where its customers return no call
# it is 0.65 (0.39 to 0.59 in the records of one operator); without calls to organisations it is 0.08 to 0.17 there, and
# 0.58 to 0.68 in own worlds, where couriers and shop owners are called by their friends.
BUSY_CALLS, FEWEST_BUSY = 100, 30
PRESENT_BUSY = 0.75
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
    implied = set().union(*(IMPLIED.get(lack, ()) for lack in lacks))
    return ", ".join(lack for lack in LACKS if lack in lacks and lack not in implied) or COMPLETE


FEEDS = (
    COMPLETE,
    *dict.fromkeys(map(feed_lacking, chain.from_iterable(combinations(LACKS, n + 1) for n in range(len(LACKS))))),
)
"""The feeds that a bundle may have bands for: "complete", each of LACKS, and their combinations ("no routes, no ring
time") without what another lack implies. Records that lack something else than routes in part are on the feed
UNKNOWN_FEED, which has no bands."""


def with_lacks(feed: str, more: str) -> str:
    """Returns the feed of records that lack what both feeds lack.

    >>> with_lacks("no routes", "answered only"), with_lacks("complete", "complete"), with_lacks("unknown", "no routes")
    ('answered only, no routes', 'complete', 'unknown')
    """
    if UNKNOWN_FEED in (feed, more):
        return UNKNOWN_FEED
    return feed_lacking(lacks_of(feed) + lacks_of(more))


def without_lack(feed: str, lack: str) -> str:
    """Returns the feed of records that lack what this feed lacks, but not one of LACKS.

    >>> without_lack("no routes, no ring time", "no routes"), without_lack("unknown", "no routes")
    ('no ring time', 'unknown')
    """
    return feed if feed == UNKNOWN_FEED else feed_lacking([other for other in lacks_of(feed) if other != lack])


def needs_second_model(feed: str, own: str) -> bool:
    """Returns whether the second model of a bundle scores records on this feed, if the bundle has one.

    Records on the bundle's own feed are like the complete records of its training: its first model scores them.

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
        lone: whether exactly one of its parties deals with a single number in the same seven days.
        balance: the ratio of its parties' numbers of partners in the same seven days, as `balance_of` has it; 0 unless
            its callee calls its caller in these days, too.
        caller, callee: its parties, in any form that can be compared.
    """

    over: bool
    unanswered: bool
    called: bool
    routed: bool
    rang: bool
    made: int
    lone: bool = False
    balance: float = 0.0
    caller: object = None
    callee: object = None


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
        site: share of lone calls, divided by the share of centres among the numbers; see SITE_FROM.
        busy: share of the callers with at least BUSY_CALLS in seven days that have received a call; 1 if they are few.
        balance: median ratio of the parties' numbers of partners, among the calls of parties that call each other; see
            BALANCED_FROM; 1 if they are few.

    >>> str(FeedShares(0.2, 0.97, 0.9, 0.96, rare=0.054, counted=0.98, site=0.15)).split(", ")[4:]
    ['rare 0.054', 'counted 0.980', 'site 0.150', 'busy 1.000', 'balance 1.000']
    """

    unanswered: float
    called: float
    routes: float
    ring: float
    rare: float = 0.0
    counted: float = 1.0
    site: float = 0.0
    busy: float = 1.0
    balance: float = 1.0

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
        >>> FeedShares(0.2, 0.97, 0.9, 0.96, balance=0.12).feed
        'sparse'
        >>> FeedShares(0.2, 0.97, 0.9, 0.96, rare=0.37, site=5.0).feed, FeedShares(0.2, 0.97, 0.9, 0.96, busy=0.6).feed
        ('one site', 'no calls to organisations')
        """
        limits = ((self.unanswered, PRESENT_UNANSWERED), (self.called, PRESENT), (self.ring, PRESENT))
        in_part = any(LACKING < share < limit for share, limit in limits)
        too_sparse = self.rare >= TOO_SPARSE_FROM and self.site < SITE_FROM
        if in_part or too_sparse or self.counted < FEWEST_COUNTED:
            return UNKNOWN_FEED
        lacking = {
            ANSWERED_ONLY: self.unanswered <= LACKING,
            OUTGOING_ONLY: self.called <= LACKING,
            NO_ROUTES: self.routes < PRESENT,
            NO_RING_TIME: self.ring <= LACKING,
            SPARSE: self.rare >= SPARSE_FROM or self.balance < BALANCED_FROM,
            ONE_SITE: self.site >= SITE_FROM,
            NO_ORGANISATIONS: self.busy < PRESENT_BUSY,
        }
        return feed_lacking([lack for lack in LACKS if lacking[lack]])

    def __str__(self) -> str:
        names = ("unanswered", "called", "routes", "ring", "rare", "counted", "site", "busy", "balance")
        return ", ".join(f"{name} {getattr(self, name):.3f}" for name in names)


def shares_of_sample(sample: Collection[SampledCall]) -> FeedShares | None:
    """Returns the shares of records by a sample of their calls; None with fewer than FEWEST_CALLS that are of no site.

    Before a whole week is known every caller seems to make few calls. Then all callers count, and no call is rare.
    """
    few = len(sample) < FEWEST_CALLS
    known, calls = [call for call in sample if call.made], sample
    rare, counted, site, busy, balance = 0.0, 1.0, 0.0, 1.0, 1.0
    if len(known) >= (FEWEST_OF_SITE if few else FEWEST_CALLS // 2):
        calls = [call for call in known if call.made >= COUNTED_CALLS]
        rare = sum(call.made <= RARE_CALLS for call in calls) / max(len(calls), 1)
        counted = len(calls) / len(known)
        site, busy, balance = _site(calls), _busy(calls), _balance(calls)
    if few and (site < SITE_FROM or len(calls) < FEWEST_OF_SITE):
        return None
    count = max(len(calls), 1)
    ends = max(sum(call.over for call in calls), 1)  # without any end, nothing shows unanswered calls or ring times
    return FeedShares(
        unanswered=sum(call.unanswered for call in calls) / ends,
        called=sum(call.called for call in calls) / count,
        routes=sum(call.routed for call in calls) / count,
        ring=sum(call.rang for call in calls) / ends,
        rare=rare,
        counted=counted,
        site=site,
        busy=busy,
        balance=balance,
    )


def _site(calls: Collection[SampledCall]) -> float:
    seen = Counter(chain.from_iterable((call.caller, call.callee) for call in calls))
    centres = {call.caller if seen[call.caller] >= seen[call.callee] else call.callee for call in calls}
    return sum(call.lone for call in calls) / max(len(calls), 1) * len(seen) / max(len(centres), 1)


def _busy(calls: Collection[SampledCall]) -> float:
    called = {call.caller: call.called for call in calls if call.made >= BUSY_CALLS}
    return sum(called.values()) / len(called) if len(called) >= FEWEST_BUSY else 1.0


def _balance(calls: Collection[SampledCall]) -> float:
    balances = sorted(call.balance for call in calls if call.balance)
    return balances[len(balances) // 2] if len(balances) >= FEWEST_BALANCED else 1.0


def balance_of(partners: int, other: int) -> float:
    """Returns the ratio of two numbers of partners, the smaller by the larger; 0 above MOST_PARTNERS.

    >>> balance_of(12, 3), balance_of(3, 12), balance_of(3, 61)
    (0.25, 0.25, 0.0)
    """
    return min(partners, other) / max(partners, other) if max(partners, other) <= MOST_PARTNERS else 0.0


def feed_of_sample(sample: Collection[SampledCall]) -> str:
    """Returns the feed of records by a sample of their calls; COMPLETE where `shares_of_sample` has too few."""
    shares = shares_of_sample(sample)
    return COMPLETE if shares is None else shares.feed


def feed_of_table(calls: pa.Table) -> str:
    """Returns the feed of a table of keyed calls."""
    return feed_of_batches(lambda: [calls], calls.num_rows)


def feed_of_batches(read: Callable[[], Iterable[pa.Table | pa.RecordBatch]], count: int) -> str:
    """Returns the feed of keyed calls that are read in batches; in memory are a batch and a sample of the calls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    step, begin, parts, ends = max(-(-count // SAMPLE_CALLS), 1), 0, [], []
    for batch in read():
        rows = pa.array(range(-begin % step, batch.num_rows, step), pa.int64())
        parts.append(pa.table({name: _texts_or_numbers(batch[name].take(rows)) for name in COLUMNS}))
        begin += batch.num_rows
        ends += [pc.min(batch["start"]).as_py(), pc.max(batch["start"]).as_py()] if batch.num_rows else []
    if count < FEWEST_OF_SITE:
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
    parties = (sample[name].to_pylist() for name in ("caller", "callee"))
    counts = (values.tolist() for values in (weeks.made(), *weeks.partners()))
    return feed_of_sample([*map(SampledCall, *flags, *counts, *parties)])


class _CallsByWeek:
    """How many calls the numbers of a sample made, and with how many others they dealt, in each week of the records."""

    def __init__(self, sample: pa.Table, first: int, last: int) -> None:
        import numpy as np
        import pyarrow as pa

        self._sample, self._first = sample, first
        # The last week counts only if it is whole; records end with their last call, so an hour may be missing.
        self._weeks = (last - first + HOUR) // WEEK
        self._numbers = pa.chunked_array([*sample["caller"].chunks, *sample["callee"].chunks], pa.string()).unique()
        self._made = np.zeros(len(self._numbers) * self._weeks, dtype=np.int64)
        self._dealt: list[pa.Table] = []  # pairs of a place among the counts and a partner
        self._called = np.empty(0, dtype=np.int64)  # places of callers, combined with the sampled numbers they call
        self._days: set[int] = set()  # with calls, from the first call on

    def count(self, calls: pa.Table | pa.RecordBatch) -> None:
        """Counts more calls."""
        import numpy as np
        import pyarrow as pa

        caller, callee, week = self._parties(calls)
        whole = week < self._weeks
        made = (caller >= 0) & whole
        np.add.at(self._made, (caller * self._weeks + week)[made], 1)
        both = made & (callee >= 0)
        self._called = np.unique(np.append(self._called, self._calls_of(caller, callee, week)[both]))
        for own, other in ((caller, "callee"), (callee, "caller")):
            rows = np.flatnonzero((own >= 0) & whole)
            self._dealt.append(
                pa.table({"place": (own * self._weeks + week)[rows], "partner": _hashes(calls[other])[rows]})
                .group_by(["place", "partner"])
                .aggregate([])
            )
        if sum(part.num_rows for part in self._dealt) > 2 * self._dealt[0].num_rows + 1_000_000:
            self._merge()
        self._days.update(np.unique((calls["start"].to_numpy() - self._first) // DAY_MS).tolist())

    def made(self) -> Int64s:
        """Returns the calls of the caller of each sampled call in its week; 0 for a week without calls on each day."""
        import numpy as np

        caller, _, week = self._parties(self._sample)
        known = (week < self._weeks) & np.isin(week, whole_weeks(self._days))
        made = np.zeros(len(week), dtype=np.int64)
        made[known] = self._made[(caller * self._weeks + week)[known]]
        return made

    def partners(self) -> tuple[Bools, Floats]:
        """Returns `lone` and `balance` of each sampled call by the partners of its parties in its week."""
        import numpy as np

        caller, callee, week = self._parties(self._sample)
        rows = week < self._weeks
        lone, balance = np.zeros(len(week), dtype=bool), np.zeros(len(week))
        self._merge()
        partners = np.bincount(self._dealt[0]["place"].to_numpy(), minlength=len(self._made))
        own, other = (partners[(number * self._weeks + week)[rows]] for number in (caller, callee))
        lone[rows] = (own == 1) != (other == 1)
        mutual = np.isin(self._calls_of(callee, caller, week)[rows], self._called)
        balance[rows] = mutual * [*map(balance_of, own.tolist(), other.tolist())]
        return lone, balance

    def _merge(self) -> None:
        import pyarrow as pa

        self._dealt = [pa.concat_tables(self._dealt).group_by(["place", "partner"]).aggregate([])]

    def _calls_of(self, number: Int64s, other: Int64s, week: Int64s) -> Int64s:
        return (number * len(self._numbers) + other) * max(self._weeks, 1) + week

    def _parties(self, calls: pa.Table | pa.RecordBatch) -> tuple[Int64s, Int64s, Int64s]:
        """Returns the places of the callers and of the callees among the numbers of the sample, -1 for others, and the
        weeks; each of shape (calls,)."""
        import numpy as np
        import pyarrow.compute as pc

        def place(texts: pa.Array) -> Int64s:
            return np.asarray(pc.index_in(texts, value_set=self._numbers).fill_null(-1), np.int64)

        caller, callee = (_of_each_text(place, calls[name]) for name in ("caller", "callee"))
        return caller, callee, (calls["start"].to_numpy() - self._first) // WEEK


def whole_weeks(days: Iterable[int]) -> list[int]:
    """Returns the weeks with calls on each of their days; in others every caller seems to make few calls.

    `days`: days with calls, counted from the first call on.

    >>> whole_weeks([0, 1, 2, 3, 4, 5, 6, 7, 9])
    [0]
    """
    counts = Counter(day // FEWEST_DAYS for day in set(days))
    return sorted(week for week, count in counts.items() if count == FEWEST_DAYS)


def _texts_or_numbers(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _hashes(texts: Any) -> Any:
    import pandas as pd

    return _of_each_text(
        lambda distinct: pd.util.hash_array(distinct.to_numpy(zero_copy_only=False), categorize=False), texts
    )


def _of_each_text(function: Callable[[Any], Any], column: Any) -> Any:
    import pyarrow as pa

    texts = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    coded = texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode("encode")
    values = function(pa.concat_arrays([coded.dictionary, pa.nulls(1, coded.dictionary.type)]))
    return values[coded.indices.fill_null(len(coded.dictionary)).to_numpy()]  # a missing text is refused later
