"""What calls that come one by one do to the histories of the numbers they join.

The same functions as in a table, over calls as `held.py` lays them out. Nobody's clock moves on by itself: all windows
have the same end, so an event leaves those of both numbers at once.

The one record of two numbers that talked more than once is that of the lower key: the other one reads it the other way
round. Two that talked once have none: what it would hold follows from the call.
"""

from __future__ import annotations

from typing import Any

from callsieve.features.kernel.number_state import CALLS, PAIR_ANSWERED, PAIR_IN, count, turn
from callsieve.features.kernel.table_pass import emit_in, emit_out
from callsieve.features.kernel.windows import (
    ANSWERED,
    BEFORE,
    BEGUN,
    END_PLACES,
    ENDS,
    NONE,
    OUTCOME_BITS,
    OVER,
    PAIR,
    SLOTS,
    STATE,
    SUMS,
    TAIL,
    WEEK,
    WINDOWS,
    Ints,
    cut,
    enter,
    part,
    prefetch,
    time_of,
)

from .call_store import FIELDS, LISTS, NOW, Memory, caller_of, end_of, facts_of, linked, start_of
from .key_store import pair_of_keys

LINE = 16  # integers in one line of the processor's cache


def copy_own(state: Ints, base: int, own: Ints, at: int) -> None:
    """Write the record of a number that is in one group alone: written by `program.py`."""


def own_part(key: int, own: Ints, at: int, m: Memory) -> None:
    """The same of a key."""
    copy_own(m.number.state, key * STATE, own, at)


def calls_in(window: int, key: int, m: Memory) -> int:
    """How many calls that went out from a number a window holds."""
    return int(m.number.state[key * STATE + SUMS + window * SLOTS + CALLS])


def fetch(window: int, key: int, m: Memory) -> None:
    """Have what a number holds of a window fetched, and the ends of its lists."""
    base = key * STATE
    slot = base + SUMS + window * SLOTS
    prefetch(m.number.state, base)
    prefetch(m.number.state, base + LINE)
    for i in range(3):
        prefetch(m.number.state, slot + i * LINE)


def let_in(node: int, key: int, m: Memory) -> None:
    """An event became known."""
    state = m.number.state
    calls = m.calls
    pairs = m.number.pairs
    clock = m.counts[NOW]
    if node & 3 < LISTS:
        enter(node, clock, state, key * STATE, calls, m.links, pairs, m)
        return
    for window in range(3):
        if time_of(node, calls) >= clock - WINDOWS[window]:
            add(node, window, 1, state, key * STATE, calls, pairs, m)


def depart(node: int, window: int, key: int, m: Memory) -> None:
    """The first event of a list, or an outcome of a call that came in, leaves a window."""
    state = m.number.state
    calls = m.calls
    links = m.links
    base = key * STATE
    stream = node & 3
    add(node, window, -1, state, base, calls, m.number.pairs, m)
    if stream >= LISTS:
        return
    ends = base + ENDS + END_PLACES * stream
    following = links[linked(node)] ^ state[ends + BEFORE + window]
    if stream == 0 and following >= 0:
        part(node, following, window, state, base, calls)
    state[ends + window] = following
    state[ends + BEFORE + window] = node
    if window == 2:
        cut(ends, state, links)


def add(node: int, window: int, sign: int, state: Ints, base: int, calls: Ints, pairs: Ints, parties: Memory) -> None:
    """Let one event into a window (`sign` 1) or out of it (-1)."""
    place = node >> 2
    stream = node & 3
    record = parties.pair_of[place]
    if record == 0:
        one = parties.one
        one[window] = sign < 0 and stream == 0
        one[PAIR_IN + window] = sign < 0 and stream == 2
        count(stream, place * FIELDS, window, sign, state, base, calls, one, 0)
        one[window] = 0
        one[PAIR_IN + window] = 0
        one[PAIR_ANSWERED] = 0
        return
    caller = caller_of(place, parties)
    callee = parties.callee[place]
    pair = record * PAIR ^ (PAIR_IN if caller > callee else 0)
    if stream == 2 and caller != callee:
        pairs[pair ^ window] -= sign  # its caller has counted it
        pair ^= PAIR_IN
    count(stream, place * FIELDS, window, sign, state, base, calls, pairs, pair)


def fill_pair(place: int, pairs: Ints, pair: int, m: Memory) -> None:
    """Write into a blank record of its two parties what one call says."""
    call = place * FIELDS
    facts = facts_of(call, m.calls)
    clock = m.counts[NOW]
    out = pair ^ (PAIR_IN if caller_of(place, m) > m.callee[place] else 0)
    if facts >> BEGUN & 1:
        for window in range(3):
            pairs[out ^ window] += start_of(call, m.calls) >= clock - WINDOWS[window]
    if facts >> OVER & 1 and facts & OUTCOME_BITS == ANSWERED:
        pairs[out ^ PAIR_ANSWERED] += end_of(call, m.calls) >= clock - WEEK


def fill_record(place: int, record: int, m: Memory) -> None:
    """The same for a record of a book."""
    fill_pair(place, m.number.pairs, record * PAIR, m)


def tell(
    at: int, day: int, key: int, other: int, single: int, direction: int, facts: int, out: Any, row: int, m: Memory
) -> None:
    """Write what a number tells of a call, from `row` on; `single` is the one held call of the two, or NONE."""
    base = key * STATE
    one = m.one
    if key > 0:
        turn(day, m.number.state, base)
    if direction == 1:
        emit_in(at, m.number.state, base, m.calls, one, 0, facts, out, row)
        return
    flipped = PAIR_IN if key > other else 0
    pair = pair_of_keys(min(key, other), max(key, other), m.number) * PAIR
    if pair > 0 or single == NONE:
        emit_out(at, m.number.state, base, m.calls, m.number.pairs, pair ^ flipped, facts, out, row)
        return
    fill_pair(single, one, 0, m)
    emit_out(at, m.number.state, base, m.calls, one, flipped, facts, out, row)
    for i in range(PAIR):
        one[i] = 0


def remove(node: int, key: int, m: Memory) -> None:
    """Take an outcome out of its list and of every window that holds it, before its time."""
    state = m.number.state
    calls = m.calls
    links = m.links
    base = key * STATE
    clock = m.counts[NOW]
    for window in range(3):
        if time_of(node, calls) >= clock - WINDOWS[window]:
            add(node, window, -1, state, base, calls, m.number.pairs, m)
    if node & 3 >= LISTS:
        return
    ends = base + ENDS + END_PLACES * (node & 3)
    before = NONE
    found = state[ends + 2]
    while found != node:
        following = links[linked(found)] ^ before
        before = found
        found = following
    after = links[linked(node)] ^ before
    for window in range(3):
        if state[ends + window] == node:
            state[ends + window] = after
        if state[ends + BEFORE + window] == node:
            state[ends + BEFORE + window] = before
    if before >= 0:
        links[linked(before)] ^= node ^ after
    if after >= 0:
        links[linked(after)] ^= node ^ before
    if state[ends + TAIL] == node:
        state[ends + TAIL] = before
