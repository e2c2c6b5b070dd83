"""The feed of a history, measured on the calls of its last seven days. `feeds.py` says what a feed is."""

from __future__ import annotations

from collections.abc import Iterator

from callsieve.features.codegen.memory_layout import Arrays
from callsieve.features.kernel.number_state import PAIR_IN
from callsieve.features.kernel.windows import ANSWERED, DAY_MS, END_PLACES, NEVER, OUTCOME_BITS, OVER, WEEK
from callsieve.features.stream.call_store import (
    CALLEE_KEY,
    CALLER_KEY,
    DURATION,
    FACTS,
    FIELDS,
    LATER_ROUTE,
    NOW,
    PAIR_RECORD,
    ROUTE,
    ROUTE_SIZE,
    STORED,
    TALK,
    start_of,
)
from callsieve.features.stream.routes import KEYS_OF
from callsieve.features.stream.time_order import BEYOND, CURSOR, OFFSET, SIZE

from .driver import Driver
from .feeds import (
    COMPLETE,
    FEWEST_CALLS,
    FEWEST_DAYS,
    FEWEST_OF_SITE,
    SAMPLE_CALLS,
    SITE_FROM,
    FeedShares,
    SampledCall,
    balance_of,
    shares_of_sample,
)

WIDEST = 2  # the window of seven days
INCOMING = 2  # the stream of a number's incoming attempts


class MemoryFeed:
    """The feed of a history's calls of the last seven days, measured at most once a day on a sample of them.

    A change is logged once, with its figures.

    Attributes:
        name: the latest feed; COMPLETE before the first measurement.
        shares: the shares of the latest measurement; None before the first.
        changes: how often a measurement gave another feed than the one before.
    """

    def __init__(self, driver: Driver) -> None:
        self.name, self.changes = COMPLETE, 0
        self.shares: FeedShares | None = None
        self._driver, self._memory = driver, driver.memory
        self._measured = NEVER  # twice the day of the latest measurement, and 1 more if there were FEWEST_CALLS

    def latest(self) -> str:
        """Returns the feed, one of `feeds.FEEDS` or UNKNOWN_FEED. The first answer of a day takes milliseconds."""
        counts = self._memory["shared"]["counts"]
        stored = counts[STORED]
        if stored < FEWEST_OF_SITE:
            return COMPLETE
        enough = stored >= FEWEST_CALLS
        now = int(counts[NOW]) // DAY_MS * 2 + enough
        if now > self._measured:
            self._measured = now
            self._measure()
        return self.name if enough or (self.shares is not None and self.shares.site >= SITE_FROM) else COMPLETE

    def _measure(self) -> None:
        before = self.name, self.shares
        self.shares = shares_of_sample(self._sample())
        self.name = COMPLETE if self.shares is None else self.shares.feed
        if before[1] is None or before[0] == self.name:
            return
        import logging  # only here: importing it takes longer than a verdict

        self.changes += 1
        logging.getLogger("callsieve.features").warning(
            "the feed of the last seven days changed from %r (%s) to %r (%s): the thresholds of the new feed apply, or "
            "none; check the source of the records, or pin the feed",
            *before,
            self.name,
            self.shares,
        )

    def _sample(self) -> list[SampledCall]:
        shared = self._memory["shared"]
        calls, routes, now = shared["calls"], shared["routes"], int(shared["counts"][NOW])
        sample, days = [], set()
        for place in sampled_attempts(self._memory):
            call = place * FIELDS
            route, later = (calls[call + field] * ROUTE_SIZE for field in (ROUTE, LATER_ROUTE))
            keys = (routes[of + KEYS_OF + kind] for of in (route, later) if of > 0 for kind in (1, 2))
            caller, callee = int(calls[call + CALLER_KEY]), int(calls[call + CALLEE_KEY])
            made, called, partners = self._week_of(caller)
            other = self._week_of(callee)[2]  # the partners of the callee
            start, facts = start_of(call, calls), calls[call + FACTS]
            over = bool(facts >> OVER & 1)
            in_week = start >= now - WEEK
            if in_week:
                days.add(start // DAY_MS)
            sample.append(
                SampledCall(
                    over=over,
                    unanswered=over and facts & OUTCOME_BITS != ANSWERED,
                    called=called,
                    routed=any(key > 0 for key in keys),  # trunk or device
                    rang=over and calls[call + DURATION] > calls[call + TALK],
                    made=made if in_week else 0,
                    lone=(partners == 1) != (other == 1),
                    balance=balance_of(partners, other)
                    if in_week and self._is_mutual(calls[call + PAIR_RECORD], caller, callee)
                    else 0.0,
                    caller=caller,
                    callee=callee,
                )
            )
        return sample if len(days) >= FEWEST_DAYS else [call._replace(made=0) for call in sample]

    def _is_mutual(self, record: int, caller: int, callee: int) -> bool:
        start = record * self._driver.layouts["number"].PAIR
        opposite = start ^ (0 if caller > callee else PAIR_IN) ^ WIDEST
        return bool(record and self._memory["number"]["pairs"][opposite] > 0)

    def _week_of(self, key: int) -> tuple[int, bool, int]:
        state, layout = self._memory["number"]["state"], self._driver.layouts["number"]
        base = self._driver.number_state(key) * layout.STATE
        sums = base + layout.SUMS + WIDEST * layout.SLOTS
        first_received = state[base + layout.ENDS + INCOMING * END_PLACES + WIDEST]
        others = state[sums + layout.CALLEES] + state[sums + layout.IN_CALLERS] - state[sums + layout.MUTUAL_CALLEES]
        return int(state[sums + layout.CALLS]), bool(first_received >= 0), int(others)


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
