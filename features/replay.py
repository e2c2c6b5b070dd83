"""A number's whole life in one pass: the batch driver of the kernel.

The calls of a number come in order of their start. At each outgoing call the events known by then enter, what fell
out of the windows leaves, and a vector is written; then the call's own events wait until they are known.
This file is compiled by `table.py` together with `windows.py` and `values.py`.
"""

from __future__ import annotations

from typing import Any

from .values import emit
from .windows import (
    END,
    FACTS,
    FIELDS,
    NONE,
    PAIR,
    START,
    TALK,
    Ints,
    clear,
    enter,
    leave,
)


def push(times: Ints, nodes: Ints, size: int, time: int, node: int) -> int:
    """Add an event that becomes known at `time` to a binary heap; its new size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if times[parent] < time or (times[parent] == time and nodes[parent] < node):
            break
        times[place] = times[parent]
        nodes[place] = nodes[parent]
        place = parent
    times[place] = time
    nodes[place] = node
    return size + 1


def pop(times: Ints, nodes: Ints, size: int) -> int:
    """Take the earliest event off the heap; its new size. Ties leave in order of the node."""
    size -= 1
    time = times[size]
    node = nodes[size]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            times[right] < times[child] or (times[right] == times[child] and nodes[right] < nodes[child])
        ):
            child = right
        if time < times[child] or (time == times[child] and node < nodes[child]):
            break
        times[place] = times[child]
        nodes[place] = nodes[child]
        place = child
    times[place] = time
    nodes[place] = node
    return size


def number_pairs(count: int, others: Ints, slots: Ints, pair_of: Ints, directions: Ints, pairs: Ints) -> None:
    """Give each other party of a number its place among the pairs (open addressing), and clear it."""
    mask = 1
    while mask < 2 * count:
        mask <<= 1
    for i in range(mask):
        slots[i] = NONE
    mask -= 1
    used = 0
    for i in range(count):
        place = (others[i] * 0x9E3779B1) & mask
        while slots[place] >= 0 and others[slots[place]] != others[i]:
            place = (place + 1) & mask
        if slots[place] < 0:
            slots[place] = i
            pair = used
            used += 1
            for k in range(PAIR):
                pairs[pair * PAIR + k] = 0
        else:
            first = slots[place]
            pair = pair_of[2 * first + directions[first]] // PAIR
        pair_of[2 * i + directions[i]] = pair * PAIR


def first_record(i: int, calls: Ints, others: Ints, directions: Ints) -> int:
    """The first row that tells of the same call as row `i`: same start, parties and direction."""
    found = i
    j = i - 1
    while j >= 0 and calls[j * FIELDS] == calls[i * FIELDS]:
        if others[j] == others[i] and directions[j] == directions[i]:
            found = j
        j -= 1
    return found


def replay(
    first: int,
    last: int,
    offsets: Ints,
    views: Ints,
    starts: Ints,
    ends: Ints,
    talks: Ints,
    packed: Ints,
    attempts_known: Ints,
    outcomes_known: Ints,
    parties: Ints,
    facts: Ints,
    facts_width: int,
    program: Ints,
    width: int,
    scratch: Any,
    out: Any,
) -> None:
    """Write the vectors of every outgoing call of the numbers `first` to `last`.

    `views` names calls as 2 * call + direction, grouped by number (`offsets`) and in order of start within each.
    `parties` holds caller and callee of each call. `outcomes_known` is NONE for a call that never ended.
    """
    state, calls, others, directions, links, pairs, pair_of, over, slots, times, nodes = scratch
    for number in range(first, last):
        origin = offsets[number]
        count = offsets[number + 1] - origin
        for i in range(count):
            view = views[origin + i]
            call = view >> 1
            direction = view & 1
            calls[i * FIELDS + START] = starts[call]
            calls[i * FIELDS + END] = ends[call]
            calls[i * FIELDS + TALK] = talks[call]
            calls[i * FIELDS + FACTS] = packed[call]
            directions[i] = direction
            others[i] = parties[2 * call + 1 - direction]
        number_pairs(count, others, slots, pair_of, directions, pairs)
        clear(state, 0)
        waiting = 0
        for i in range(count):
            call = views[origin + i] >> 1
            at = starts[call]
            direction = directions[i]
            if direction == 0:
                # Leave first: an event that is let in now enters only the windows that still reach it.
                leave(at, state, 0, calls, links, pairs, pair_of)
                while waiting > 0 and times[0] < at:
                    node = nodes[0]
                    waiting = pop(times, nodes, waiting)
                    enter(node, state, 0, calls, links, pairs, pair_of)
                pair = pair_of[2 * i]
                emit(at, program, state, 0, pairs, pair, facts, call * facts_width, out, call * width)
            place = first_record(i, calls, others, directions)
            node = 4 * place + 2 * direction
            if place == i:
                waiting = push(times, nodes, waiting, attempts_known[call], node)
                over[i] = 0
            # A call told at its start and again at its end is one call; any other repeat tells nothing.
            if outcomes_known[call] != NONE and over[place] == 0:
                over[place] = 1
                for field in range(FIELDS):
                    calls[place * FIELDS + field] = calls[i * FIELDS + field]
                waiting = push(times, nodes, waiting, outcomes_known[call], node + 1)
