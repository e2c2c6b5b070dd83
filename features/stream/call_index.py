"""The index of stored calls. A part of the kernel.

A call is found by start, caller and callee if the two parties have a pair record, else by its two parties alone, in
either direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsieve.features.kernel.windows import NONE

from .call_store import FIELDS, FREE, PAIR_RECORD, PLACES, ROUTE, Memory, callee_of, caller_of, start_of
from .hash_chains import bucket, bucket_to_split, insert_entry, remove_entry

if TYPE_CHECKING:  # `assemble.py` supplies it for each kind of history
    from .key_store import find_pair as number_find_pair


def allocate_place(m: Memory) -> int:
    """Returns a free place for a call."""
    place = m.counts[FREE] - 1
    if place >= 0:
        m.counts[FREE] = m.calls[place * FIELDS + ROUTE]
    else:
        place = m.counts[PLACES]
        m.counts[PLACES] = place + 1
        fill_new_bucket(place + 1, m)
    return int(place)


def fill_new_bucket(buckets: int, m: Memory) -> None:
    """Moves the calls that belong into the newest bucket there."""
    entry = m.index[bucket_to_split(buckets)]
    while entry > 0:
        later = m.next_call[entry]
        if bucket(hash_key(entry - 1, m), buckets) == buckets - 1:
            remove_entry(entry, bucket_to_split(buckets), m.index, m.next_call)
            insert_entry(entry, buckets - 1, m.index, m.next_call)
        entry = later


def index_call(place: int, m: Memory) -> None:
    """Adds a stored call to the index; `unindex_call` must run before its hash key changes."""
    insert_entry(place + 1, bucket(hash_key(place, m), m.counts[PLACES]), m.index, m.next_call)


def unindex_call(place: int, m: Memory) -> None:
    """Removes a call from the index."""
    remove_entry(place + 1, bucket(hash_key(place, m), m.counts[PLACES]), m.index, m.next_call)


def hash_key(place: int, m: Memory) -> int:
    """Returns the hash key of a stored call."""
    caller = caller_of(place, m)
    callee = callee_of(place, m)
    if m.calls[place * FIELDS + PAIR_RECORD] > 0:
        return call_key(start_of(place * FIELDS, m.calls), caller, callee)
    return pair_key(caller, callee)


def call_key(start: int, caller: int, callee: int) -> int:
    """Returns a 64-bit hash key of start, caller and callee."""
    return (caller << 32 | callee) ^ start


def pair_key(number: int, other: int) -> int:
    """Returns a 64-bit hash key of two numbers, the same in either direction."""
    return min(number, other) << 32 | max(number, other)


def find_call(start: int, caller: int, callee: int, m: Memory) -> int:
    """Returns the place of a stored call, or NONE."""
    wanted = pair_key(caller, callee)
    if number_find_pair(min(caller, callee), max(caller, callee), m.number) > 0:
        wanted = call_key(start, caller, callee)
    entry = m.index[bucket(wanted, m.counts[PLACES])]
    while entry > 0:
        place = entry - 1
        if (
            callee_of(place, m) == callee
            and start_of(place * FIELDS, m.calls) == start
            and caller_of(place, m) == caller
        ):
            break
        entry = m.next_call[entry]
    return int(entry) - 1


def only_call_of(number: int, other: int, m: Memory) -> int:
    """Returns the place of the only stored call of two numbers without a pair record, or NONE."""
    if number <= 0 or other <= 0:
        return NONE
    entry = m.index[bucket(pair_key(number, other), m.counts[PLACES])]
    while entry > 0:
        place = entry - 1
        if m.calls[place * FIELDS + PAIR_RECORD] == 0:
            caller = caller_of(place, m)
            callee = callee_of(place, m)
            if (caller == number and callee == other) or (caller == other and callee == number):
                break
        entry = m.next_call[entry]
    return int(entry) - 1


def rebuild_index(m: Memory) -> None:
    """Adds every stored call to an empty index."""
    for place in range(m.counts[PLACES]):
        if callee_of(place, m) > 0:
            index_call(place, m)
