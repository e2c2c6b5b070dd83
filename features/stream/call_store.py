"""How a history holds calls: with this part of the kernel, functions that read a table's calls read those of a stream.

A call takes FIELDS integers of 32 bits: its start in two, how long it took (NONE while it is not over), how long was
talked, its facts in two. An event of the call at `place` is the node 4 * place + stream, as for a number in a table;
events of LISTS of the four streams stand in lists. `parties` is the whole memory (`books.py`).
"""

from __future__ import annotations

from typing import Any

from callsieve.features.kernel.windows import DAY_MS, Ints, put, wide

Memory = Any
FIELDS = 6
START, DURATION, TALK, FACTS = 0, 2, 3, 4
LISTS = 3  # attempts and outcomes of calls that go out, attempts of calls that come in
# What is counted: events that wait, the end of all windows, held calls, the last place ever used, free places.
WAITING, NOW, HELD, PLACES, FREE = range(5)
COUNTS = 5
CALLER = 0  # the first integer of a route (`routes.py`)
ROUTE_SIZE = 10


def start_of(call: int, calls: Ints) -> int:
    """When a call began."""
    return wide(calls, call + START)


def end_of(call: int, calls: Ints) -> int:
    """When it ended; a day after its start, if that is not known."""
    lasted = calls[call + DURATION]
    return wide(calls, call + START) + (lasted if lasted >= 0 else DAY_MS)


def talk_of(call: int, calls: Ints) -> int:
    """How long was talked."""
    return int(calls[call + TALK])


def facts_of(call: int, calls: Ints) -> int:
    """What its events add."""
    return wide(calls, call + FACTS)


def mark(call: int, bit: int, calls: Ints) -> None:
    """Set a bit of its facts."""
    calls[call + FACTS] |= 1 << bit


def write_call(call: int, start: int, facts: int, calls: Ints) -> None:
    """Write a call that has begun."""
    put(calls, call + START, start)
    calls[call + DURATION] = -1
    calls[call + TALK] = 0
    put(calls, call + FACTS, facts)


def linked(node: int) -> int:
    """Where the neighbours of an event stand in `links`."""
    return LISTS * (node >> 2) + (node & 3)


def caller_of(place: int, m: Memory) -> int:
    """Whose call it is."""
    return int(m.routes[m.route[place] * ROUTE_SIZE + CALLER])


def same_party(outgoing: int, incoming: int, parties: Memory) -> bool:
    """Whether an event of a call that went out and one of a call that came in have the same other party."""
    return bool(parties.callee[outgoing >> 2] == caller_of(incoming >> 2, parties))
