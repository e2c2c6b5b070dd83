"""The kernel: one number's history, advanced event by event.

A call is two events of the caller (its attempt goes out, its outcome is known) and two of the callee (an attempt
comes in, its outcome is known). Each of these four streams is a list of the events *known so far* in order of
their own time; a window is a suffix of that list, `[at - window, at)`. `enter` puts an event where it belongs, however
late it became known; `leave` drops what has fallen out of each window. What a window holds is a row of integer
sums, so that the order in which events arrive cannot show. `values.py` turns the sums into feature values.

One source serves two drivers: `table.py` compiles it with Numba for whole tables, `history.py` runs it as it
stands, over `array.array`. So it is written in the subset that both understand: flat integer arrays, no objects.

Layout. `calls` holds FIELDS integers a call; `node = 4 * call + 2 * direction + kind` names an event; `links` holds its
neighbours (previous, next); `pairs` holds PAIR counts for each (number, other number); `pair_of[2 * call + direction]`
says which. `state` holds STATE integers a number, from `base` on.
"""

from __future__ import annotations

from typing import Any

HOUR = 3_600_000
DAY = 24 * HOUR
WEEK = 7 * DAY
WINDOWS = (HOUR, DAY, WEEK)
WINDOW_NAMES = ("1h", "24h", "7d")

NONE = -1
NEVER = -(1 << 62)

# A call: FIELDS integers.
FIELDS = 4
START, END, TALK, FACTS = range(FIELDS)  # START and END stand where `kind` finds an event's own time

# FACTS: bits. What an attempt or an outcome adds, decided once when the call is packed.
OUTCOME_BITS = 15
HOUR_SHIFT, DAY_SHIFT = 4, 9
HOUR_BITS, DAY_BITS = 31, 7
NIGHT, NEAR, LOCAL, LOCAL_KNOWN, ONE_RING, HUNG_UP, HUNG_KNOWN, OVER = (1 << n for n in range(12, 20))

ONE_RING_MS = 4_000
SHORT_GAP_MS = 10_000
ANSWERED = 0  # index in records.OUTCOMES

# A pair (number, other number): calls out and in, for each window.
PAIR = 6

# The state of a number: the clock, the ends of its four lists (three window heads and the tail each), unwindowed
# facts, two histograms over the last 7 days, then SLOTS sums for each window.
CLOCK = 0
ENDS = 1
FIRST_SEEN = 17
LAST_CALL = 18
IN_AIR = 19
HOURS = 20
DAYS = 44
SUMS = 52

SLOTS = 36
(
    CALLS,
    CALLEES,  # distinct
    RETURNING,  # callees of this window who were also called in the last 7 days before it
    MUTUAL,  # callees who called the number in the same window
    PAIR_SQ,  # sum over callees of (calls to the callee) squared
    GAP_SUM,
    GAP_SQ,
    GAP_SHORT,
    NIGHT_CALLS,
    NEAR_CALLS,
    LOCAL_CALLS,
    LOCAL_KNOWN_CALLS,
    ENDED,
    OUTCOMES,  # nine sums, in the order of records.OUTCOMES
) = range(14)
TALK_SUM, TALK_TENTHS, TALK_SQ, TALK_10, TALK_30, RING_SUM, ONE_RINGS, HUNG_UPS, HUNG_KNOWNS = range(22, 31)
IN_CALLS, IN_CALLERS, IN_ENDED, IN_ANSWERED, IN_TALK_SUM = range(31, 36)

STATE = SUMS + 3 * SLOTS

Ints = Any  # a flat array of integers: NumPy under Numba, array.array or list without it


def pack(outcome: Any, released_by: Any, hour: Any, day: Any, step: Any, same_region: Any, ring: Any) -> Any:
    """Facts of a call in one integer, from the codes of `records.py`; works on integers and on integer arrays alike."""
    by_caller = released_by == 0
    return (
        outcome
        + (hour << HOUR_SHIFT)
        + ((day & DAY_BITS) << DAY_SHIFT)
        + ((hour < 8) | (hour >= 21)) * NIGHT
        + ((step == 1) | (step == 2)) * NEAR
        + (same_region == 1) * LOCAL
        + (same_region >= 0) * LOCAL_KNOWN
        + ((outcome != ANSWERED) & by_caller & (ring <= ONE_RING_MS)) * ONE_RING
        + by_caller * HUNG_UP
        + (by_caller | (released_by == 1)) * HUNG_KNOWN
    )


def clear(state: Ints, base: int) -> None:
    """The state of a number that nobody has heard of."""
    for i in range(base, base + STATE):
        state[i] = 0
    state[base + CLOCK] = NEVER
    state[base + FIRST_SEEN] = NEVER
    state[base + LAST_CALL] = NEVER
    for i in range(base + ENDS, base + FIRST_SEEN):
        state[i] = NONE


def returning(pairs: Ints, pair: int, window: int) -> int:
    """1 if the callee was called both in the window and in the 7 days before it began."""
    return 1 if 0 < pairs[pair + window] < pairs[pair + 2] else 0


def count_out(window: int, sign: int, state: Ints, base: int, pairs: Ints, pair: int) -> None:
    """One call more (or less) to this callee in this window."""
    # The widest window holds the narrower ones, so a change of it moves what counts as returning in both.
    first = 0 if window == 2 else window
    last = 1 if window == 2 else window
    for w in range(first, last + 1):
        state[base + SUMS + w * SLOTS + RETURNING] -= returning(pairs, pair, w)
    before = pairs[pair + window]
    pairs[pair + window] = before + sign
    slot = base + SUMS + window * SLOTS
    state[slot + PAIR_SQ] += 2 * before * sign + 1
    if before == 0 or before + sign == 0:
        state[slot + CALLEES] += sign
        if pairs[pair + 3 + window] > 0:
            state[slot + MUTUAL] += sign
    for w in range(first, last + 1):
        state[base + SUMS + w * SLOTS + RETURNING] += returning(pairs, pair, w)


def count_in(window: int, sign: int, state: Ints, base: int, pairs: Ints, pair: int) -> None:
    """One call more (or less) from this caller in this window."""
    before = pairs[pair + 3 + window]
    pairs[pair + 3 + window] = before + sign
    if before == 0 or before + sign == 0:
        slot = base + SUMS + window * SLOTS
        state[slot + IN_CALLERS] += sign
        if pairs[pair + window] > 0:
            state[slot + MUTUAL] += sign


def add_attempt(facts: int, window: int, sign: int, state: Ints, base: int) -> None:
    """What one call going out adds to a window."""
    slot = base + SUMS + window * SLOTS
    state[slot + CALLS] += sign
    if facts & NIGHT:
        state[slot + NIGHT_CALLS] += sign
    if facts & NEAR:
        state[slot + NEAR_CALLS] += sign
    if facts & LOCAL_KNOWN:
        state[slot + LOCAL_KNOWN_CALLS] += sign
        if facts & LOCAL:
            state[slot + LOCAL_CALLS] += sign
    if window == 2:
        state[base + HOURS + ((facts >> HOUR_SHIFT) & HOUR_BITS)] += sign
        state[base + DAYS + ((facts >> DAY_SHIFT) & DAY_BITS)] += sign


def add_outcome(facts: int, ring: int, talk: int, window: int, sign: int, state: Ints, base: int) -> None:
    """What the outcome of one outgoing call adds to a window."""
    slot = base + SUMS + window * SLOTS
    outcome = facts & OUTCOME_BITS
    state[slot + ENDED] += sign
    state[slot + OUTCOMES + outcome] += sign
    state[slot + RING_SUM] += sign * ring
    if outcome == ANSWERED:
        state[slot + TALK_SUM] += sign * talk
        tenths = talk // 100
        state[slot + TALK_TENTHS] += sign * tenths
        state[slot + TALK_SQ] += sign * tenths * tenths
        if talk < 30_000:
            state[slot + TALK_30] += sign
            if talk < 10_000:
                state[slot + TALK_10] += sign
        if facts & HUNG_KNOWN:
            state[slot + HUNG_KNOWNS] += sign
            if facts & HUNG_UP:
                state[slot + HUNG_UPS] += sign
    elif facts & ONE_RING:
        state[slot + ONE_RINGS] += sign


def add_gap(gap: int, window: int, sign: int, state: Ints, base: int) -> None:
    """The time between two neighbouring outgoing calls that are both in the window."""
    slot = base + SUMS + window * SLOTS
    state[slot + GAP_SUM] += sign * gap
    state[slot + GAP_SQ] += sign * gap * gap
    if gap < SHORT_GAP_MS:
        state[slot + GAP_SHORT] += sign


def add(node: int, window: int, sign: int, state: Ints, base: int, calls: Ints, pairs: Ints, pair_of: Ints) -> None:
    """Let one event into a window (`sign` 1) or out of it (-1)."""
    call = (node >> 2) * FIELDS
    stream = node & 3
    facts = calls[call + FACTS]
    if stream == 0:
        add_attempt(facts, window, sign, state, base)
        count_out(window, sign, state, base, pairs, pair_of[node >> 1])
        if window == 1 and not facts & OVER:
            state[base + IN_AIR] += sign
    elif stream == 1:
        talk = calls[call + TALK]
        add_outcome(facts, calls[call + END] - calls[call + START] - talk, talk, window, sign, state, base)
    elif stream == 2:
        state[base + SUMS + window * SLOTS + IN_CALLS] += sign
        count_in(window, sign, state, base, pairs, pair_of[node >> 1])
    else:
        slot = base + SUMS + window * SLOTS
        state[slot + IN_ENDED] += sign
        if facts & OUTCOME_BITS == ANSWERED:
            state[slot + IN_ANSWERED] += sign
            state[slot + IN_TALK_SUM] += sign * calls[call + TALK]


def enter(node: int, state: Ints, base: int, calls: Ints, links: Ints, pairs: Ints, pair_of: Ints) -> None:
    """An event became known: put it into its list and into every window that still reaches it."""
    call = (node >> 2) * FIELDS
    stream = node & 3
    kind = stream & 1
    time = calls[call + kind]
    clock = state[base + CLOCK]
    if kind == 0:
        if state[base + FIRST_SEEN] == NEVER or time < state[base + FIRST_SEEN]:
            state[base + FIRST_SEEN] = time
        if stream == 0 and time > state[base + LAST_CALL]:
            state[base + LAST_CALL] = time
    elif stream == 1:
        calls[call + FACTS] |= OVER
        if calls[call + START] >= clock - DAY:
            state[base + IN_AIR] -= 1
    if time < clock - WEEK:
        return
    ends = base + ENDS + 4 * stream
    before = state[ends + 3]
    after = NONE
    while before >= 0 and calls[(before >> 2) * FIELDS + kind] > time:
        after = before
        before = links[2 * before]
    links[2 * node] = before
    links[2 * node + 1] = after
    if before >= 0:
        links[2 * before + 1] = node
    if after >= 0:
        links[2 * after] = node
    else:
        state[ends + 3] = node
    for window in range(3):
        edge = clock - WINDOWS[window]
        if time >= edge:
            if state[ends + window] == after:
                state[ends + window] = node
            add(node, window, 1, state, base, calls, pairs, pair_of)
            if stream == 0:
                part_gap(time, before, after, edge, window, state, base, calls)


def part_gap(time: int, before: int, after: int, edge: int, window: int, state: Ints, base: int, calls: Ints) -> None:
    """A call came between two neighbours: one gap becomes two."""
    if before >= 0 and calls[(before >> 2) * FIELDS] >= edge:
        earlier = calls[(before >> 2) * FIELDS]
        add_gap(time - earlier, window, 1, state, base)
        if after >= 0:
            add_gap(calls[(after >> 2) * FIELDS] - earlier, window, -1, state, base)
    if after >= 0:
        add_gap(calls[(after >> 2) * FIELDS] - time, window, 1, state, base)


def leave(at: int, state: Ints, base: int, calls: Ints, links: Ints, pairs: Ints, pair_of: Ints) -> None:
    """Move the number's clock to `at`: drop what fell out of each window. The clock never goes back."""
    if at <= state[base + CLOCK]:
        return
    state[base + CLOCK] = at
    for stream in range(4):
        ends = base + ENDS + 4 * stream
        kind = stream & 1
        for window in range(3):
            node = state[ends + window]
            edge = at - WINDOWS[window]
            while node >= 0 and calls[(node >> 2) * FIELDS + kind] < edge:
                add(node, window, -1, state, base, calls, pairs, pair_of)
                following = links[2 * node + 1]
                if stream == 0 and following >= 0:
                    gap = calls[(following >> 2) * FIELDS] - calls[(node >> 2) * FIELDS]
                    add_gap(gap, window, -1, state, base)
                if window == 2:  # the widest window: the event is gone for good
                    if following >= 0:
                        links[2 * following] = NONE
                    else:
                        state[ends + 3] = NONE
                node = following
            state[ends + window] = node
