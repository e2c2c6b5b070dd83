"""The kernel: one key's history, advanced event by event.

A call is two events, its attempt and its outcome, of every key it belongs to: of its caller (going out), of its
callee (coming in), of the caller's number block, trunk and device. Each kind of event of a key is a list of the events
*known so far* in order of their own time; a window is a suffix of that list, `[at - window, at)`. `enter` puts an event
where it belongs, however late it became known; `leave` drops what has fallen out of each window. What a window holds
is a row of integer sums, so that the order in which events arrive cannot show.

This file keeps the lists. What an event adds to a window is said by `number.py` (a number's own calls) and by
`group.py` (calls of a block, a trunk, a device), with one function for each list that `program.py` writes from the
catalogue. `engine.py` puts them together: compiled by Numba, as C (`as_c.py`), or as they stand.
So all of it is written in the subset that all three understand: flat integer arrays, no objects.

Layout. `calls` holds FIELDS integers a call; `node = STREAMS * call + stream` names an event; `links` holds its two
neighbours as one number, the one before it XOR the one after it: whoever comes from the one finds the other. `state`
holds STATE integers of 32 bits a key, from `base` on, of which a time or a sum of times takes two (`wide`); `pairs`
holds PAIR integers for each (key, other party), and `pair_of[node >> 1]` says which of them an event belongs to.
"""

from __future__ import annotations

from typing import Any

# They travel as one integer: FACT_BITS bits each, one more than the value, so that 0 is unknown.
FACT_BITS = 6

HOUR = 3_600_000
DAY_MS = 24 * HOUR
WEEK = 7 * DAY_MS
WINDOWS = (HOUR, DAY_MS, WEEK)
WINDOW_NAMES = ("1h", "24h", "7d")

NONE = -1
NEVER = -(1 << 62)

# A call: FIELDS integers. START and END stand where `stream & 1` finds an event's own time.
FIELDS = 4
START, END, TALK, FACTS = range(FIELDS)

# FACTS: what the events of a call add, decided once when the call is packed; the local day stands on top.
OUTCOME_BITS = 15
HOUR_SHIFT, HOUR_BITS = 4, 31
NIGHT, NEAR, LOCAL, LOCAL_KNOWN, ONE_RING, HUNG_UP, HUNG_KNOWN, BEGUN, OVER, RETURNED_BIT = range(9, 19)
DAY_SHIFT = 20

# What is known of a call at its start: an end that is told later does not change it.
OF_ATTEMPT = ~(OUTCOME_BITS | 1 << ONE_RING | 1 << HUNG_UP | 1 << HUNG_KNOWN)

ONE_RING_MS = 4_000
ANSWERED = 0  # index in records.OUTCOMES

# The state of a key begins with its clock and the ends of its lists: of each the first event of the three windows, the
# last event, and what stands before those three. What comes after them is the layout of a program: places of sums and
# of other things kept, NONE if no feature needs them.
CLOCK, CLOCK_PLACES = 0, 2
ENDS = CLOCK_PLACES
TAIL, BEFORE, END_PLACES = 3, 4, 7
STREAMS, SHIFT = 4, 2
LISTS = STREAMS
READ = 4  # of these the first ones, which features read: calls that come in are not laid out where none asks for them
SUMS = SLOTS = STATE = PAIR = NOTES = 0
DAY = NONE  # the local day to which a number's memory of days has moved on
LONG_AGO = -(1 << 30)  # a day before all others
LOW_HALF, SIGN = (1 << 32) - 1, 1 << 31

Ints = Any  # a flat array of integers: NumPy under Numba, array.array or list without it
Parties = Any  # what says who an event's other party is: `pair_of` in a table


def pack(outcome: Any, released_by: Any, hour: Any, day: Any, step: Any, same_region: Any, ring: Any) -> Any:
    """Facts of a call in one integer, from the codes of `records.py`; works on integers and on integer arrays alike."""
    by_caller = released_by == 0
    return (
        outcome
        + (hour << HOUR_SHIFT)
        + (((hour < 8) | (hour >= 21)) * (1 << NIGHT))
        + (((step == 1) | (step == 2)) * (1 << NEAR))
        + ((same_region == 1) * (1 << LOCAL))
        + ((same_region >= 0) * (1 << LOCAL_KNOWN))
        + (((outcome != ANSWERED) & by_caller & (ring <= ONE_RING_MS)) * (1 << ONE_RING))
        + (by_caller * (1 << HUNG_UP))
        + ((by_caller | (released_by == 1)) * (1 << HUNG_KNOWN))
        + (day << DAY_SHIFT)
    )


def prefetch(array: Ints, place: int) -> None:
    """Have a place fetched that will be read or written soon; as it stands, this does nothing."""


def wide(state: Ints, at: int) -> int:
    """The integer of 64 bits that takes two places."""
    return int(state[at + 1] << 32 | state[at] & LOW_HALF)


def put(state: Ints, at: int, value: int) -> None:
    """Write such an integer."""
    state[at] = (value & LOW_HALF ^ SIGN) - SIGN
    state[at + 1] = value >> 32


def grow(state: Ints, at: int, by: int) -> None:
    """Add to such an integer."""
    put(state, at, wide(state, at) + by)


def start_of(call: int, calls: Ints) -> int:
    """When a call began; `call` is where its integers begin, as in the next ones."""
    return int(calls[call + START])


def end_of(call: int, calls: Ints) -> int:
    """When it ended."""
    return int(calls[call + END])


def talk_of(call: int, calls: Ints) -> int:
    """How long was talked."""
    return int(calls[call + TALK])


def facts_of(call: int, calls: Ints) -> int:
    """What its events add."""
    return int(calls[call + FACTS])


def mark(call: int, bit: int, calls: Ints) -> None:
    """Set a bit of its facts."""
    calls[call + FACTS] |= 1 << bit


def time_of(node: int, calls: Ints) -> int:
    """An event's own time."""
    call = (node >> SHIFT) * FIELDS
    return end_of(call, calls) if node & 1 else start_of(call, calls)


def linked(node: int) -> int:
    """Where the neighbours of an event stand in `links`."""
    return node


def enter(
    node: int, clock: int, state: Ints, base: int, calls: Ints, links: Ints, pairs: Ints, parties: Parties
) -> None:
    """An event became known: put it into its list and into every window that still reaches it."""
    call = (node >> SHIFT) * FIELDS
    stream = node & (STREAMS - 1)
    time = time_of(node, calls)
    notice(stream, call, clock, state, base, calls)
    if time < clock - WEEK:
        return
    ends = base + ENDS + END_PLACES * stream
    before = state[ends + TAIL]
    after = NONE
    while before >= 0 and time_of(before, calls) > time:
        earlier = links[linked(before)] ^ after
        after = before
        before = earlier
    links[linked(node)] = before ^ after
    if before >= 0:
        links[linked(before)] ^= after ^ node
    if after >= 0:
        links[linked(after)] ^= before ^ node
    else:
        state[ends + TAIL] = node
    for window in range(3):
        edge = clock - WINDOWS[window]
        if state[ends + window] == after:
            state[ends + window] = node if time >= edge else after
            state[ends + BEFORE + window] = before if time >= edge else node
        if time >= edge:
            add(node, window, 1, state, base, calls, pairs, parties)
            if stream == 0:
                join(time, before, after, edge, window, state, base, calls)
    settle(node, time, clock, state, base, calls, links, parties)


def leave(at: int, day: int, state: Ints, base: int, calls: Ints, links: Ints, pairs: Ints, parties: Parties) -> None:
    """Move the key's clock to `at`: drop what fell out of each window. The clock never goes back."""
    turn(day, state, base)
    if at <= wide(state, base + CLOCK):
        return
    put(state, base + CLOCK, at)
    for stream in range(READ):
        ends = base + ENDS + END_PLACES * stream
        for window in range(3):
            first = state[ends + window]
            node = first
            before = state[ends + BEFORE + window]
            edge = at - WINDOWS[window]
            while node >= 0 and time_of(node, calls) < edge:
                add(node, window, -1, state, base, calls, pairs, parties)
                following = links[linked(node)] ^ before
                if stream == 0 and following >= 0:
                    part(node, following, window, state, base, calls)
                before = node
                node = following
            if node != first:
                state[ends + window] = node
                state[ends + BEFORE + window] = before
                if window == 2:
                    cut(ends, state, links)


def cut(ends: int, state: Ints, links: Ints) -> None:
    """What stands before the widest window of a list is gone for good."""
    first = state[ends + 2]
    if first >= 0:
        links[linked(first)] ^= state[ends + BEFORE + 2] ^ NONE
    else:
        state[ends + TAIL] = NONE
    for window in range(3):
        if state[ends + window] == first:
            state[ends + BEFORE + window] = NONE


# What `number.py` and `group.py` say in their own way.


def add(node: int, window: int, sign: int, state: Ints, base: int, calls: Ints, pairs: Ints, parties: Parties) -> None:
    """Let one event into a window (`sign` 1) or out of it (-1)."""


def notice(stream: int, call: int, clock: int, state: Ints, base: int, calls: Ints) -> None:
    """Note what does not depend on a window of an event that became known."""


def join(time: int, before: int, after: int, edge: int, window: int, state: Ints, base: int, calls: Ints) -> None:
    """An attempt came between two neighbours in a window."""


def part(node: int, following: int, window: int, state: Ints, base: int, calls: Ints) -> None:
    """An attempt left a window before its neighbour."""


def settle(
    node: int, time: int, clock: int, state: Ints, base: int, calls: Ints, links: Ints, parties: Parties
) -> None:
    """Note what an event that has entered means for others."""


def turn(day: int, state: Ints, base: int) -> None:
    """A local day has begun."""
