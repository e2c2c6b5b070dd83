"""The kernel: the history of one key, advanced event by event.

A call is two events, its attempt and its outcome. It belongs to several keys: its caller (outgoing), its callee
(incoming), and the caller's number block, trunk and device. Each stream of events of a key is a linked list of the
events *known so far*, in order of their own time. A window is a suffix of that list, `[at - window, at)`.
`insert_event` inserts an event at its place, however late it became known. `expire_events` removes what has left
each window. The content of a window is a row of integer sums, so the order of arrival cannot change it.

This file maintains the lists. `number_state.py` (a number's own calls) and `group_state.py` (calls of a block, trunk or
device) define the amounts that an event adds to a window, with one generated function per stream
(`feature_program.py`). `assemble.py` puts the parts together. They run interpreted, or translated to C
(`c_source.py`): so everything here is written in the subset that translates, flat integer arrays and no objects.

Layout:
    calls: FIELDS integers a call. `node = STREAMS * call + stream` identifies an event.
    links: one integer a node, previous node XOR next node. Traversal from either side recovers the other neighbour.
    state: STATE 32-bit integers a key, from `base` on. A time or a sum of times takes two of them (`read_wide`).
    pairs: PAIR integers for each (key, other party).
    pair_of: the pair of an event, at `node >> 1`.
A function that needs several of these arrays takes the memory `m` that has them.
"""

from __future__ import annotations

from typing import Any

# Facts of a call are packed into one integer: FACT_BITS bits each, value plus one, so that 0 means unknown.
FACT_BITS = 6

HOUR = 3_600_000
DAY_MS = 24 * HOUR
WEEK = 7 * DAY_MS
WINDOWS = (HOUR, DAY_MS, WEEK)
WINDOW_NAMES = ("1h", "24h", "7d")

NONE = -1
NEVER = -(1 << 62)

# Fields of a call. An outcome's stream is odd: START + (stream & 1) is the field of an event's own time.
FIELDS = 4
START, END, TALK, FACTS = range(FIELDS)

# FACTS: bits that the events of a call add, computed once when the call is packed. The local day takes the top bits.
# EXPIRED marks an attempt that became known when its start had left the widest window. It counts nowhere: a stream does
# not remember its calls longer, so it could not know whether it has counted the call before. For the same reason an
# outcome that becomes known that late counts nowhere.
OUTCOME_BITS = 15
HOUR_SHIFT, HOUR_BITS = 4, 31
NIGHT, NEAR, LOCAL, LOCAL_KNOWN, ONE_RING, HUNG_UP, HUNG_KNOWN, STARTED, OVER, RETURNED_BIT, EXPIRED = range(9, 20)
LATE_START, LATE_END = 20, 21  # the event became known later than its own time
START_OF_END = 22  # the attempt is that of a record with an end
DAY_SHIFT = 23

# The facts known at the start of a call; a later end record does not change them.
ATTEMPT_FACTS = ~(OUTCOME_BITS | 1 << ONE_RING | 1 << HUNG_UP | 1 << HUNG_KNOWN | 1 << LATE_END)

ONE_RING_MS = 4_000
NIGHT_ENDS, NIGHT_BEGINS = 8, 21  # local hours
ANSWERED, FIRST_MISSED, LAST_MISSED = 0, 1, 3  # indices in records.OUTCOMES; missed calls are between the last two

# The state of a key begins with its clock and the ends of its lists. For each list: the first event of each of the
# three windows, the last event (TAIL), and the predecessors of those three first events (BEFORE). The rest is laid out
# by `feature_program.py`: offsets of sums and regions, NONE for those that no feature needs.
CLOCK, CLOCK_PLACES = 0, 2
ENDS = CLOCK_PLACES
TAIL, BEFORE, END_PLACES = 3, 4, 7
STREAMS, SHIFT = 4, 2
LISTS = STREAMS
READ = 4  # streams that features read: without features of incoming calls, those streams are skipped
SUMS = SLOTS = STATE = PAIR = NOTES = 0
DAY = NONE  # offset of the local day up to which the day bits have moved on
LONG_AGO = -(1 << 30)  # earlier than any day
LOW_HALF, SIGN = (1 << 32) - 1, 1 << 31

Ints = Any  # a flat array of integers: NumPy, array.array, memoryview or list
Memory = Any  # the arrays above by name: of one key in a table (`table_pass.py`), of all keys in a stream


def pack(outcome: int, released_by: int, hour: int, day: int, step: int, same_region: int, ring: int) -> int:
    """Packs the facts that a call's events add into one integer, from the codes of `records.py`.

    `ring` is in ms, `day` in days since 1970.
    """
    by_caller = released_by == 0
    return (
        outcome
        + (hour << HOUR_SHIFT)
        + (((hour < NIGHT_ENDS) | (hour >= NIGHT_BEGINS)) * (1 << NIGHT))
        + (((step == 1) | (step == 2)) * (1 << NEAR))
        + ((same_region == 1) * (1 << LOCAL))
        + ((same_region >= 0) * (1 << LOCAL_KNOWN))
        + (((outcome != ANSWERED) & by_caller & (ring <= ONE_RING_MS)) * (1 << ONE_RING))
        + (by_caller * (1 << HUNG_UP))
        + ((by_caller | (released_by == 1)) * (1 << HUNG_KNOWN))
        + (day << DAY_SHIFT)
    )


def prefetch(array: Ints, index: int) -> None:
    """Prefetches an element that will be read or written soon; interpreted, it does nothing."""


def read_wide(state: Ints, at: int) -> int:
    """Returns a 64-bit integer that is stored in two elements."""
    return int(state[at + 1] << 32 | state[at] & LOW_HALF)


def write_wide(state: Ints, at: int, value: int) -> None:
    """Stores a 64-bit integer in two elements."""
    state[at] = (value & LOW_HALF ^ SIGN) - SIGN
    state[at + 1] = value >> 32


def add_wide(state: Ints, at: int, by: int) -> None:
    """Adds to a 64-bit integer that is stored in two elements."""
    write_wide(state, at, read_wide(state, at) + by)


def start_of(call: int, calls: Ints) -> int:
    """Returns when a call started; `call` is the index of its first field."""
    return int(calls[call + START])


def end_of(call: int, calls: Ints) -> int:
    """Returns when a call ended; `call` is the index of its first field."""
    return int(calls[call + END])


def talk_of(call: int, calls: Ints) -> int:
    """Returns the talk time of a call in ms; `call` is the index of its first field."""
    return int(calls[call + TALK])


def facts_of(call: int, calls: Ints) -> int:
    """Returns the packed facts of a call; `call` is the index of its first field."""
    return int(calls[call + FACTS])


def set_bit(call: int, bit: int, calls: Ints) -> None:
    """Sets a bit of the packed facts of a call; `call` is the index of its first field."""
    calls[call + FACTS] |= 1 << bit


def time_of(node: int, calls: Ints) -> int:
    """Returns an event's own time: the start for an attempt, the end for an outcome."""
    call = (node >> SHIFT) * FIELDS
    return end_of(call, calls) if node & 1 else start_of(call, calls)


def state_of(m: Memory) -> Ints:
    """Returns the states of keys."""
    return m.state


def links_of(m: Memory) -> Ints:
    """Returns the array that contains the links of events."""
    return m.links


def link_index(node: int) -> int:
    """Returns the index of an event in the array of links."""
    return node


def insert_event(node: int, clock: int, base: int, m: Memory) -> None:
    """Inserts an event that became known into its list and into every window that still contains its time."""
    state = state_of(m)
    calls = m.calls
    links = links_of(m)
    call = (node >> SHIFT) * FIELDS
    stream = node & (STREAMS - 1)
    time = time_of(node, calls)
    hook_event(stream, call, clock, state, base, calls)
    if time < clock - WEEK:
        return
    ends = base + ENDS + END_PLACES * stream
    before = state[ends + TAIL]
    after = NONE
    while before >= 0 and time_of(before, calls) > time:
        earlier = links[link_index(before)] ^ after
        after = before
        before = earlier
    links[link_index(node)] = before ^ after
    if before >= 0:
        links[link_index(before)] ^= after ^ node
    if after >= 0:
        links[link_index(after)] ^= before ^ node
    else:
        state[ends + TAIL] = node
    for window in range(3):
        edge = clock - WINDOWS[window]
        if state[ends + window] == after:
            state[ends + window] = node if time >= edge else after
            state[ends + BEFORE + window] = before if time >= edge else node
        if time >= edge:
            hook_add(node, window, 1, base, m)
            if stream == 0:
                hook_insert(time, before, after, edge, window, base, m)
    hook_returns(node, clock, base, m)


def expire_events(at: int, day: int, base: int, m: Memory) -> None:
    """Moves the key's clock forward to `at` and removes expired events from each window; the clock never goes back."""
    state = state_of(m)
    calls = m.calls
    links = links_of(m)
    hook_day(day, state, base)
    if at <= read_wide(state, base + CLOCK):
        return
    write_wide(state, base + CLOCK, at)
    for stream in range(STREAMS):
        if stream >= READ:
            continue
        ends = base + ENDS + END_PLACES * stream
        for window in range(3):
            first = state[ends + window]
            node = first
            before = state[ends + BEFORE + window]
            edge = at - WINDOWS[window]
            while node >= 0 and time_of(node, calls) < edge:
                hook_add(node, window, -1, base, m)
                following = links[link_index(node)] ^ before
                if stream == 0 and following >= 0:
                    hook_expire(node, following, window, state, base, calls)
                before = node
                node = following
            if node != first:
                state[ends + window] = node
                state[ends + BEFORE + window] = before
                if window == 2:
                    drop_expired(ends, state, links)


def drop_expired(ends: int, state: Ints, links: Ints) -> None:
    """Cuts off the part of a list before the widest window."""
    first = state[ends + 2]
    if first >= 0:
        links[link_index(first)] ^= state[ends + BEFORE + 2] ^ NONE
    else:
        state[ends + TAIL] = NONE
    for window in range(3):
        if state[ends + window] == first:
            state[ends + BEFORE + window] = NONE


# Hooks: `assemble.py` puts the version of a kind of history in their place. `number_state.py` defines all of them,
# `group_state.py` only `hook_add`: groups have neither gaps nor returned calls nor days.


def hook_add(node: int, window: int, sign: int, base: int, m: Memory) -> None:
    """Adds one event to a window (`sign` 1) or removes it (-1)."""


def hook_event(stream: int, call: int, clock: int, state: Ints, base: int, calls: Ints) -> None:
    """Updates what does not depend on a window when an event becomes known."""


def hook_insert(time: int, before: int, after: int, edge: int, window: int, base: int, m: Memory) -> None:
    """Updates gaps when an attempt is inserted between two neighbours in a window."""


def hook_expire(node: int, following: int, window: int, state: Ints, base: int, calls: Ints) -> None:
    """Updates gaps when an attempt leaves a window before its successor."""


def hook_returns(node: int, clock: int, base: int, m: Memory) -> None:
    """Matches an inserted event with missed calls that it may have returned."""


def hook_day(day: int, state: Ints, base: int) -> None:
    """Moves the day bits on to a new local day."""
