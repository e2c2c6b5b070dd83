"""A key's whole life in one pass: the batch driver of the kernel.

The calls of a key come in order of their start. At each call whose vector the key has a part in, the events known by
then enter, what fell out of the windows leaves, and that part of the vector is written; then the call's own events wait
until they are known. Compiled by `engine.py` together with the other files of the kernel.
"""

from __future__ import annotations

from typing import Any

from .heap import pop, push
from .windows import (
    CLOCK,
    DAY,
    DAY_SHIFT,
    END,
    END_PLACES,
    ENDS,
    FACT_BITS,
    FACTS,
    FIELDS,
    LISTS,
    LONG_AGO,
    NEVER,
    NONE,
    NOTES,
    OF_ATTEMPT,
    PAIR,
    SHIFT,
    START,
    STATE,
    STREAMS,
    TALK,
    Ints,
    enter,
    leave,
    pack,
    prefetch,
    put,
)

# A record: RECORD integers a call, in one line of the processor's cache. LATE is when a late record came in, NEVER for
# one that was known in time; TALK is NONE while a call is not over; PARTIES holds the caller in its upper half and
# the callee in its lower one; TOLD the facts of the call itself; ROW where its vector goes,
# NONE if nobody asks for it.
RECORD = 8
LATE, PARTIES, TOLD, ROW = range(4, 8)
HALF = (1 << 32) - 1
# A key's own copy of its records is in two halves: what `windows.py` calls a call, and the REST.
REST = RECORD - FIELDS
# So many records before one is needed it is fetched: about as long as memory takes to answer.
AHEAD = 16
# What was told of a call in its place: its end; that its attempt became known later than it began, or is a repeat.
ENDED, LATER = 1, 2


def emit_out(
    at: int, state: Ints, base: int, calls: Ints, pairs: Ints, pair: int, facts: int, out: Any, row: int
) -> None:
    """Write what the key tells of a call that goes out: written by `program.py`, as the next one."""


def emit_in(
    at: int, state: Ints, base: int, calls: Ints, pairs: Ints, pair: int, facts: int, out: Any, row: int
) -> None:
    """Write what the key tells of a call that comes in."""


def note(state: Ints, base: int, pairs: Ints, pair: int, notes: Ints, place: int) -> None:
    """Note what the role of this kind that is not the caller tells, as whole numbers: written by `program.py`, too."""


def spell(notes: Ints, place: int, out: Any, row: int) -> None:
    """Write the values that follow from such a note; NaN where its first number is NONE."""


def fill_records(
    first: int, last: int, start: Ints, ring: Ints, talk: Ints, recorded: Ints, day: Ints, parties: Ints, events: Ints,
    told: Ints, records: Ints,
) -> None:  # fmt: skip
    """Write a record for each of the calls `first` to `last`.

    `events` holds outcome, released_by, hour, step and same_region of all calls, `told` the facts of the calls
    themselves in their order, each as a row of small integers.
    """
    for i in range(first, last):
        record = i * RECORD
        over = ring[i] >= 0 and talk[i] >= 0
        end = start[i] + ring[i] + talk[i] if over else start[i]
        records[record + START] = start[i]
        records[record + END] = end
        records[record + TALK] = talk[i] if over else NONE
        records[record + FACTS] = pack(
            int(events[0, i]), int(events[1, i]), int(events[2, i]), int(day[i]), int(events[3, i]),
            int(events[4, i]), ring[i],
        )  # fmt: skip
        records[record + LATE] = recorded[i] if recorded[i] > end else NEVER
        records[record + PARTIES] = int(parties[2 * i]) << 32 | int(parties[2 * i + 1])
        facts = 0
        for j in range(len(told)):
            facts |= int(told[j, i]) + 1 << FACT_BITS * j
        records[record + TOLD] = facts
        records[record + ROW] = i


def clear(state: Ints, base: int) -> None:
    """The state of a key that nobody has heard of."""
    for i in range(base, base + STATE):
        state[i] = 0
    if CLOCK >= 0:
        put(state, base + CLOCK, NEVER)
    if DAY >= 0:
        state[base + DAY] = LONG_AGO
    for i in range(base + ENDS, base + ENDS + END_PLACES * LISTS):
        state[i] = NONE


def number_pairs(count: int, others: Ints, directions: Ints, slots: Ints, pair_of: Ints, pairs: Ints) -> None:
    """Give each other party of a key its place among the pairs (open addressing), and clear it."""
    mask = 1
    while mask < 2 * count:
        mask <<= 1
    for i in range(mask):
        slots[i] = NONE
    mask -= 1
    used = 0
    for i in range(count):
        place = (others[i] * 0x9E3779B1) >> 7 & mask
        while slots[place] >= 0 and others[slots[place] >> SHIFT - 1] != others[i]:
            place = (place + 1) & mask
        view = (STREAMS >> 1) * i + directions[i]
        if slots[place] < 0:
            slots[place] = view
            pair_of[view] = used * PAIR
            for k in range(used * PAIR, (used + 1) * PAIR):
                pairs[k] = 0
            used += 1
        else:
            pair_of[view] = pair_of[slots[place]]


def group_views(order: Ints, owners: Ints, width: int, offsets: Ints, views: Ints) -> None:
    """Group views (2 * call + direction) by key, each group in the given order of calls, by counting.

    `owners` holds `width` keys a call (NONE for none), `offsets` zeros, one more than there are keys.
    """
    keys = len(offsets) - 1
    for i in range(len(owners)):
        if owners[i] >= 0:
            offsets[owners[i]] += 1
    total = 0
    for key in range(keys):
        count = offsets[key]
        offsets[key] = total
        total += count
    for i in range(len(order)):
        call = order[i]
        for direction in range(width):
            key = owners[width * call + direction]
            if key >= 0:
                views[offsets[key]] = 2 * call + direction
                offsets[key] += 1
    for key in range(keys, 0, -1):
        offsets[key] = offsets[key - 1]
    offsets[0] = 0


def first_record(view: int, origin: int, views: Ints, records: Ints) -> int:
    """The first view from `origin` on that tells of the same call as this one: same start, parties and direction."""
    found = view
    record = (views[view] >> 1) * RECORD
    j = view - 1
    while j >= origin:
        earlier = (views[j] >> 1) * RECORD
        if records[earlier + START] != records[record + START]:
            break
        if records[earlier + PARTIES] == records[record + PARTIES] and (views[j] ^ views[view]) & 1 == 0:
            found = j
        j -= 1
    return found


def first_of(i: int, calls: Ints, rest: Ints, directions: Ints) -> int:
    """The same of the calls of one key as `take_out` lays them out."""
    found = i
    j = i - 1
    while j >= 0 and calls[j * FIELDS + START] == calls[i * FIELDS + START]:
        if rest[j * REST + PARTIES - FIELDS] == rest[i * REST + PARTIES - FIELDS] and directions[j] == directions[i]:
            found = j
        j -= 1
    return found


def follow_first(offsets: Ints, views: Ints, records: Ints, owners: Ints) -> None:
    """Give every repeated record the block, trunk or device (`owners`) of the first; views are those of numbers."""
    for key in range(len(offsets) - 1):
        for view in range(offsets[key], offsets[key + 1]):
            if view + AHEAD < len(views):
                prefetch(records, (views[view + AHEAD] >> 1) * RECORD)
            if views[view] & 1 == 0:
                first = first_record(view, offsets[key], views, records)
                if first != view:
                    owners[views[view] >> 1] = owners[views[first] >> 1]


def has_others(begin: int, end: int, views: Ints, records: Ints) -> bool:
    """Whether these views have more than one caller."""
    caller = records[(views[begin] >> 1) * RECORD + PARTIES] >> 32
    for view in range(begin + 1, end):  # noqa: SIM110 - Numba has no any()
        if records[(views[view] >> 1) * RECORD + PARTIES] >> 32 != caller:
            return True
    return False


def tell_nothing(
    origin: int,
    count: int,
    views: Ints,
    records: Ints,
    state: Ints,
    calls: Ints,
    pairs: Ints,
    notes: Ints,
    out: Any,
    width: int,
    column: int,
) -> None:
    """Tell of a caller alone in its group: nobody else is there to be told of, whatever its history."""
    clear(state, 0)
    for i in range(PAIR):
        pairs[i] = 0
    for i in range(count):
        record = (views[origin + i] >> 1) * RECORD
        row = records[record + ROW]
        if row >= 0:
            if len(notes) > 0:
                note(state, 0, pairs, 0, notes, row * NOTES)
            else:
                facts = records[record + TOLD]
                emit_out(records[record + START], state, 0, calls, pairs, 0, facts, out, row * width + column)


def take_out(
    origin: int, count: int, views: Ints, records: Ints, calls: Ints, rest: Ints, others: Ints, directions: Ints,
    notes: Ints,
) -> None:  # fmt: skip
    """Lay the records of a key out one after the other, and who the other party is (in a group: the caller).

    Records lie anywhere, as do notes: here, where none has to wait for the one before, is the only place where records
    are read, and notes are fetched, to be written soon.
    """
    for i in range(count):
        if origin + i + AHEAD < len(views):
            prefetch(records, (views[origin + i + AHEAD] >> 1) * RECORD)
        direction = views[origin + i] & 1
        record = (views[origin + i] >> 1) * RECORD
        for k in range(FIELDS):
            calls[i * FIELDS + k] = records[record + k]
        for k in range(REST):
            rest[i * REST + k] = records[record + FIELDS + k]
        directions[i] = direction
        row = rest[i * REST + ROW - FIELDS]
        if len(notes) > 0 and row >= 0 and (STREAMS == 2 or direction == 1):
            prefetch(notes, row * NOTES)
        parties = rest[i * REST + PARTIES - FIELDS]
        others[i] = parties & HALF if STREAMS == 4 and direction == 0 else parties >> 32


def replay(
    first: int,
    last: int,
    offsets: Ints,
    views: Ints,
    records: Ints,
    scratch: Any,
    notes: Ints,
    out: Any,
    width: int,
    out_column: int,
    in_column: int,
) -> None:
    """Write the parts of the vectors that the keys `first` to `last` have to tell.

    `views` names calls as 2 * call + direction, grouped by key (`offsets`) and in order of start within each. What the
    key tells of a call going out begins at `out_column` of the call's row, of one coming in at `in_column`; NONE
    for nothing to tell. With `notes`, NOTES of them a row, only what a caller tells is written, the rest noted there:
    the rows that callees and groups have to tell of lie anywhere, and a note is one line of the processor's cache.
    """
    state, calls, rest, others, directions, links, pairs, pair_of, told, slots, times, nodes = scratch
    for key in range(first, last):
        origin = offsets[key]
        count = offsets[key + 1] - origin
        if STREAMS == 2 and count > 0 and not has_others(origin, origin + count, views, records):
            tell_nothing(origin, count, views, records, state, calls, pairs, notes, out, width, out_column)
            continue
        take_out(origin, count, views, records, calls, rest, others, directions, notes)
        number_pairs(count, others, directions, slots, pair_of, pairs)
        clear(state, 0)
        waiting = 0
        begun = 0
        for i in range(count):
            at = calls[i * FIELDS + START]
            own = i * REST - FIELDS
            direction = directions[i]
            column = out_column if direction == 0 else in_column
            if column >= 0 and rest[own + ROW] >= 0:
                # Leave first: an event that is let in now enters only the windows that still reach it.
                leave(at, calls[i * FIELDS + FACTS] >> DAY_SHIFT, state, 0, calls, links, pairs, pair_of)
                # An attempt that is known at its start needs not wait in the heap: its place in the order will do.
                while begun < i and calls[begun * FIELDS + START] < at:
                    if told[begun] & LATER == 0:
                        enter(STREAMS * begun + 2 * directions[begun], at, state, 0, calls, links, pairs, pair_of)
                    begun += 1
                while waiting > 0 and times[0] < at:
                    node = nodes[0]
                    waiting = pop(times, nodes, waiting)
                    enter(node, at, state, 0, calls, links, pairs, pair_of)
                row = rest[own + ROW] * width + column
                facts = rest[own + TOLD]
                pair = pair_of[(STREAMS >> 1) * i + direction]
                if len(notes) > 0 and (STREAMS == 2 or direction == 1):
                    note(state, 0, pairs, pair, notes, rest[own + ROW] * NOTES)
                elif direction == 0:
                    emit_out(at, state, 0, calls, pairs, pair, facts, out, row)
                else:
                    emit_in(at, state, 0, calls, pairs, pair, facts, out, row)
            place = first_of(i, calls, rest, directions)
            node = STREAMS * place + 2 * direction
            late = rest[own + LATE]
            told[i] = 0 if place == i and late == NEVER else LATER
            if place == i and late != NEVER:
                waiting = push(times, nodes, waiting, late, node)
            talk = calls[i * FIELDS + TALK]
            # A call told at its start and again at its end is one call; any other repeat tells nothing.
            if talk >= 0 and told[place] & ENDED == 0:
                told[place] |= ENDED
                ended = place * FIELDS
                end = calls[i * FIELDS + END]
                calls[ended + END] = end
                calls[ended + TALK] = talk
                calls[ended + FACTS] = calls[ended + FACTS] & OF_ATTEMPT | calls[i * FIELDS + FACTS] & ~OF_ATTEMPT
                waiting = push(times, nodes, waiting, late if late != NEVER else end, node + 1)


def spell_rows(first: int, last: int, notes: Ints, out: Any, width: int, column: int) -> None:
    """Write what the notes of these rows say, from `column` on."""
    for row in range(first, last):
        spell(notes, row * NOTES, out, row * width + column)
