"""Records of calls enter the memory of a stream: a new call, its end, and earlier records. A part of the kernel.

The facts of a record are an integer of `windows.pack`.
Events of a call wait in a heap until they are known; `stream_pass.py` applies them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsieve.features.kernel.heap import push
from callsieve.features.kernel.windows import ATTEMPT_FACTS, EXPIRED, LATE_END, LATE_START, WEEK, write_wide

from .call_index import allocate_place, index_call, only_call_of, unindex_call
from .call_store import (
    CALLEE_KEY,
    CALLER_KEY,
    DURATION,
    FACTS,
    FIELDS,
    LATER_ROUTE,
    NOW,
    PAIR_RECORD,
    ROUTE,
    STORED,
    TALK,
    WAITING,
    Memory,
    caller_of,
    facts_of,
    start_of,
    write_call,
)
from .routes import acquire_route, release_route

if TYPE_CHECKING:  # `assemble.py` supplies them for each kind of history
    from .compact_numbers import add_view as number_add_view
    from .key_store import allocate_pair as number_allocate_pair
    from .key_store import find_pair as number_find_pair
    from .number_lists import fill_pair_record as number_fill_pair_record


def store_call(start: int, known_at: int, caller: int, callee: int, facts: int, m: Memory) -> int:
    """Stores a new call, for which there must be room, and returns its place. Its attempt waits until it is known."""
    place = allocate_place(m)
    write_call(place * FIELDS, start, facts | late_bits(start, known_at, m), m.calls)
    m.calls[place * FIELDS + CALLER_KEY] = caller
    m.calls[place * FIELDS + ROUTE] = acquire_route(caller, m.group, m)
    m.calls[place * FIELDS + CALLEE_KEY] = callee
    m.calls[place * FIELDS + PAIR_RECORD] = acquire_pair(caller, callee, m)
    number_add_view(2 * place, caller, m)
    number_add_view(2 * place + 1, callee, m)
    index_call(place, m)
    m.counts[STORED] += 1
    m.counts[WAITING] = push(m.times, m.nodes, m.counts[WAITING], known_at, 2 * place)
    return place


def late_bits(start: int, known_at: int, m: Memory) -> int:
    """Returns the facts that follow from when an attempt becomes known."""
    bits = 0
    if known_at > start:
        bits |= 1 << LATE_START
    if max(known_at, m.counts[NOW]) - start >= WEEK:
        bits |= 1 << EXPIRED
    return bits


def waiting_index(node: int, m: Memory) -> int:
    """Returns the index of an event in the heap of waiting events; their number if it does not wait."""
    i = 0
    while i < m.counts[WAITING] and m.nodes[i] != node:
        i += 1
    return i


def known_time(place: int, kind: int, m: Memory) -> int:
    """Returns when the attempt (`kind` 0) or the outcome (1) of a stored call becomes known; it must wait for that."""
    return int(m.times[waiting_index(2 * place + kind, m)])


def move_earlier(node: int, known_at: int, m: Memory) -> None:
    """Lets a waiting event become known at `known_at`, which is not after the present time."""
    push(m.times, m.nodes, waiting_index(node, m), known_at, node)  # moves it up from its place


def restart_call(place: int, known_at: int, facts: int, m: Memory) -> None:
    """Replaces the attempt of a stored call that waits to be known by an earlier one, with the keys in `group`."""
    move_earlier(2 * place, known_at, m)
    call = place * FIELDS
    facts = facts & ATTEMPT_FACTS | late_bits(start_of(call, m.calls), known_at, m)
    write_wide(m.calls, call + FACTS, facts | facts_of(call, m.calls) & ~ATTEMPT_FACTS)
    before = m.calls[place * FIELDS + ROUTE]
    m.calls[place * FIELDS + ROUTE] = acquire_route(caller_of(place, m), m.group, m)
    release_route(before, m)


def set_later_route(place: int, m: Memory) -> None:
    """Sets the keys in `group` as those that came with the end of a call."""
    before = m.calls[place * FIELDS + LATER_ROUTE]
    route = acquire_route(caller_of(place, m), m.group, m)
    if route == m.calls[place * FIELDS + ROUTE]:
        release_route(route, m)
        route = 0
    m.calls[place * FIELDS + LATER_ROUTE] = route
    if before > 0:
        release_route(before, m)


def acquire_pair(caller: int, callee: int, m: Memory) -> int:
    """Returns the pair record of the parties of a new call; 0 if this is their only call and needs none."""
    low = min(caller, callee)
    high = max(caller, callee)
    record = number_find_pair(low, high, m.number)
    if record == 0:
        other = only_call_of(caller, callee, m)
        if other < 0 and caller != callee:
            return 0
        record = number_allocate_pair(low, high, m.number)
        if other >= 0:
            unindex_call(other, m)
            number_fill_pair_record(other, record, m)
            m.calls[other * FIELDS + PAIR_RECORD] = record
            m.number.pair_uses[record] += 1
            index_call(other, m)
    m.number.pair_uses[record] += 1
    return record


def end_call(place: int, moment: int, talk: int, known_at: int, facts: int, m: Memory) -> None:
    """Records the end of a stored call: its outcome waits until it is known."""
    write_end(place, moment, talk, known_at, facts, m)
    m.counts[WAITING] = push(m.times, m.nodes, m.counts[WAITING], known_at, 2 * place + 1)


def replace_end(place: int, moment: int, talk: int, known_at: int, facts: int, m: Memory) -> None:
    """Replaces the end of a call, whose outcome waits to be known, by one that becomes known earlier or with it."""
    move_earlier(2 * place + 1, known_at, m)
    write_end(place, moment, talk, known_at, facts, m)


def write_end(place: int, moment: int, talk: int, known_at: int, facts: int, m: Memory) -> None:
    """Stores the end of a call."""
    call = place * FIELDS
    m.calls[call + DURATION] = moment - start_of(call, m.calls)
    m.calls[call + TALK] = talk
    facts &= ~ATTEMPT_FACTS
    if known_at > moment:
        facts |= 1 << LATE_END
    write_wide(m.calls, call + FACTS, facts_of(call, m.calls) & ATTEMPT_FACTS | facts)
