"""The feed of the calls in the memory of a history."""

from __future__ import annotations

from collections.abc import Iterator

from callsieve.features.codegen.memory_layout import Arrays
from callsieve.features.kernel.windows import ANSWERED, DAY_MS, END_PLACES, ENDS, NEVER, OUTCOME_BITS, OVER, WEEK
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
from .feeds import COMPLETE, FEWEST_CALLS, FEWEST_DAYS, RARE_CALLS, SAMPLE_CALLS, feed_of_counts

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
