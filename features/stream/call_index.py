"""Where a held call stands: it is found by its start, caller and callee if the two have a record of their own
(`live_number.py`), else by the two alone, whoever calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsieve.features.kernel.windows import NONE

from .call_store import FIELDS, FREE, PLACES, Memory, caller_of, start_of
from .hash_chains import bucket, chain, giver, unchain

if TYPE_CHECKING:  # `engine.py` gives each kind of history its own
    from .key_store import pair_of_keys as number_pair_of_keys


def new_place(m: Memory) -> int:
    """A place for a call."""
    place = m.counts[FREE] - 1
    if place >= 0:
        m.counts[FREE] = m.route[place]
    else:
        place = m.counts[PLACES]
        m.counts[PLACES] = place + 1
        share(place + 1, m)
    return int(place)


def share(buckets: int, m: Memory) -> None:
    """Give the last of so many buckets the calls that belong there now."""
    entry = m.index[giver(buckets)]
    while entry > 0:
        later = m.next_call[entry]
        if bucket(code(entry - 1, m), buckets) == buckets - 1:
            unchain(entry, giver(buckets), m.index, m.next_call)
            chain(entry, buckets - 1, m.index, m.next_call)
        entry = later


def enter(place: int, m: Memory) -> None:
    """Have a held call found by what it is now: before that changes, it must `leave`."""
    chain(place + 1, bucket(code(place, m), m.counts[PLACES]), m.index, m.next_call)


def leave(place: int, m: Memory) -> None:
    """Have it found no more."""
    unchain(place + 1, bucket(code(place, m), m.counts[PLACES]), m.index, m.next_call)


def code(place: int, m: Memory) -> int:
    """What a held call is looked for by."""
    caller = caller_of(place, m)
    callee = m.callee[place]
    if m.pair_of[place] > 0:
        return identity(start_of(place * FIELDS, m.calls), caller, callee)
    return couple(caller, callee)


def identity(start: int, caller: int, callee: int) -> int:
    """A call's start, caller and callee in 64 bits."""
    return (caller << 32 | callee) ^ start


def couple(one: int, other: int) -> int:
    """Two numbers, whoever calls, in 64 bits."""
    return min(one, other) << 32 | max(one, other)


def find(start: int, caller: int, callee: int, m: Memory) -> int:
    """The place of a held call; NONE if it is not held."""
    wanted = couple(caller, callee)
    if number_pair_of_keys(min(caller, callee), max(caller, callee), m.number) > 0:
        wanted = identity(start, caller, callee)
    entry = m.index[bucket(wanted, m.counts[PLACES])]
    while entry > 0:
        place = entry - 1
        if m.callee[place] == callee and start_of(place * FIELDS, m.calls) == start and caller_of(place, m) == caller:
            break
        entry = m.next_call[entry]
    return int(entry) - 1


def single_of(one: int, other: int, m: Memory) -> int:
    """The place of the one held call of two numbers that have no record; NONE if there is none."""
    if one <= 0 or other <= 0:
        return NONE
    entry = m.index[bucket(couple(one, other), m.counts[PLACES])]
    while entry > 0:
        place = entry - 1
        if m.pair_of[place] == 0:
            caller = caller_of(place, m)
            callee = m.callee[place]
            if (caller == one and callee == other) or (caller == other and callee == one):
                break
        entry = m.next_call[entry]
    return int(entry) - 1


def fill_index(m: Memory) -> None:
    """Put every held call into an empty index."""
    for place in range(m.counts[PLACES]):
        if m.callee[place] > 0:
            enter(place, m)
