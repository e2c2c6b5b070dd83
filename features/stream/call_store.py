"""Layout of calls in the memory of a history. A part of the kernel.

With this file in its namespace, code that reads calls of a table reads calls of a stream. A call takes FIELDS 32-bit
integers, one cache line: start (two), duration (NONE while in progress), talk time, packed facts (two), the keys of
caller and callee, the route and that of its end (`routes.py`), the record of the pair, and a link for each of LISTS.
An event of the call at `place` is the node 4 * place + stream, as for a number in a table. Events of LISTS of the four
streams are in lists. `m` is the whole memory (`memory_layout.py`).
"""

from __future__ import annotations

from typing import Any

from callsieve.features.kernel.windows import Ints, read_wide, write_wide

Memory = Any
FIELDS = 16
START, DURATION, TALK, FACTS = 0, 2, 3, 4
CALLER_KEY, CALLEE_KEY, ROUTE, LATER_ROUTE, PAIR_RECORD, LINKS = range(6, 12)
LISTS = 3  # outgoing attempts and outcomes, incoming attempts
# Fields of `counts`: waiting events, end of all windows, stored calls, places ever used, first free place.
WAITING, NOW, STORED, PLACES, FREE = range(5)
COUNTS = 5
CALLER = 0  # the first integer of a route (`routes.py`)
ROUTE_SIZE = 10


def start_of(call: int, calls: Ints) -> int:
    """Returns when a call started; `call` is the index of its first field."""
    return read_wide(calls, call + START)


def end_of(call: int, calls: Ints) -> int:
    """Returns when a call ended, which must be over; `call` is the index of its first field."""
    return int(read_wide(calls, call + START) + calls[call + DURATION])


def talk_of(call: int, calls: Ints) -> int:
    """Returns the talk time of a call in ms; `call` is the index of its first field."""
    return int(calls[call + TALK])


def facts_of(call: int, calls: Ints) -> int:
    """Returns the packed facts of a call; `call` is the index of its first field."""
    return read_wide(calls, call + FACTS)


def set_bit(call: int, bit: int, calls: Ints) -> None:
    """Sets a bit of the packed facts of a call; `call` is the index of its first field."""
    calls[call + FACTS] |= 1 << bit


def write_call(call: int, start: int, facts: int, calls: Ints) -> None:
    """Stores a call that is in progress."""
    write_wide(calls, call + START, start)
    calls[call + DURATION] = -1
    calls[call + TALK] = 0
    write_wide(calls, call + FACTS, facts)


def links_of(m: Memory) -> Ints:
    """Returns the array that contains the links of events."""
    return m.calls


def link_index(node: int) -> int:
    """Returns the index of an event in the array of links."""
    return FIELDS * (node >> 2) + LINKS + (node & 3)


def caller_of(place: int, m: Memory) -> int:
    """Returns the caller of a stored call."""
    return int(m.calls[place * FIELDS + CALLER_KEY])


def callee_of(place: int, m: Memory) -> int:
    """Returns the callee of a stored call."""
    return int(m.calls[place * FIELDS + CALLEE_KEY])


def same_party(outgoing: int, incoming: int, m: Memory) -> bool:
    """Returns whether an outgoing and an incoming event have the same other party."""
    return bool(callee_of(outgoing >> 2, m) == caller_of(incoming >> 2, m))
