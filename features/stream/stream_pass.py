"""The moment's driver of the kernel: calls as they come, and the vector of a call at ring time.

Each held call has a place (`index.py`). An event waits in a heap until it is known. Then it stands among all attempts
or outcomes in order of their time (`order.py`): as the end of all windows moves on, the first ones leave.

`m` is all of the memory (`books.py`). The functions of numbers and groups stand here under their kind's name;
`engine.py` puts them in: blocks, trunks and devices are three books of one kind.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from callsieve.features.kernel.heap import pop, push
from callsieve.features.kernel.windows import BEGUN, NONE, OF_ATTEMPT, OVER, WEEK, WINDOWS, pack, prefetch, put

from .call_index import enter, leave, new_place, single_of
from .call_store import (
    CALLER,
    DURATION,
    FACTS,
    FIELDS,
    FREE,
    HELD,
    NOW,
    ROUTE_SIZE,
    TALK,
    WAITING,
    Memory,
    caller_of,
    end_of,
    facts_of,
    start_of,
    write_call,
)
from .key_store import Book
from .routes import GROUPS, KEYS_OF, MEMBERS_OF, SPLIT, hold_route, release_route
from .time_order import Line, after_cursor, at_cursor, insert, pass_by, remove, when

if TYPE_CHECKING:  # `engine.py` gives each kind of history its own
    from .group_lists import add as group_add
    from .group_lists import place_of as group_place_of
    from .group_lists import tell as group_tell
    from .key_store import new_pair as number_new_pair
    from .key_store import pair_of_keys as group_pair_of_keys
    from .key_store import pair_of_keys as number_pair_of_keys
    from .key_store import release_key as number_release_key
    from .key_store import release_pair as number_release_pair
    from .key_store import use_key as number_use_key
    from .number_lists import calls_in as number_calls_in
    from .number_lists import depart as number_depart
    from .number_lists import fetch as number_fetch
    from .number_lists import fill_record as number_fill_record
    from .number_lists import let_in as number_let_in
    from .number_lists import own_part as number_own_part
    from .number_lists import remove as number_remove
    from .number_lists import tell as number_tell

STEP = 4  # events: how far ahead something is fetched, in each of three steps
# Where the features of each role begin in a vector.
CALLER_COLUMN = CALLEE_COLUMN = BLOCK_COLUMN = TRUNK_COLUMN = DEVICE_COLUMN = NONE
WIDTH = 0


def advance(at: int, m: Memory) -> None:
    """Move the end of all windows on to `at`, and let in every event that became known before."""
    if at > m.counts[NOW]:
        m.counts[NOW] = at
        for window in range(3):
            attempts_leave(window, at - WINDOWS[window], m)
            outcomes_leave(window, at - WINDOWS[window], m)
    size = m.counts[WAITING]
    while size > 0 and m.times[0] < at:
        node = m.nodes[0]
        size = pop(m.times, m.nodes, size)
        let_in(node >> 1, node & 1, m)
    m.counts[WAITING] = size


def attempts_leave(window: int, edge: int, m: Memory) -> None:
    """What began before an edge is in a window no more."""
    place = at_cursor(window, m.attempts)
    while place >= 0 and start_of(place * FIELDS, m.calls) < edge:
        fetch_ahead(window, m.attempts, m)
        pass_by(window, m.attempts)
        attempt_departs(place, window, m)
        if window == 2:
            attempt_is_past(place, m)
        place = at_cursor(window, m.attempts)


def fetch_ahead(window: int, line: Line, m: Memory) -> None:
    """Have fetched, in three steps, what the events that leave a window next will need: it lies anywhere.

    Many may have to leave at once: the first call after a silence waits for them.
    """
    far = after_cursor(window, 3 * STEP, line)
    if far >= 0:
        prefetch(m.calls, far * FIELDS)
        prefetch(m.route, far)
        prefetch(m.callee, far)
        prefetch(m.pair_of, far)
    middle = after_cursor(window, 2 * STEP, line)
    if middle >= 0:
        prefetch(m.routes, m.route[middle] * ROUTE_SIZE)
    near = after_cursor(window, STEP, line)
    if near >= 0:
        number_fetch(window, caller_of(near, m), m)
        number_fetch(window, m.callee[near], m)


def attempt_departs(place: int, window: int, m: Memory) -> None:
    """A call's attempt, the first one of all, leaves a window of all keys of the call."""
    number_depart(4 * place, window, caller_of(place, m), m)
    number_depart(4 * place + 2, window, m.callee[place], m)
    count_in_groups(0, place, window, -1, m)


def attempt_is_past(place: int, m: Memory) -> None:
    """One that has not ended is held for a day more: then it counts as over, and nothing of it is in any window."""
    if m.calls[place * FIELDS + DURATION] >= 0:
        return
    if end_of(place * FIELDS, m.calls) >= m.counts[NOW] - WEEK:
        insert(place, 1, m.counts[NOW], m.outcomes, m.calls)
    else:
        forget(place, m)


def outcomes_leave(window: int, edge: int, m: Memory) -> None:
    """What ended before an edge is in a window no more."""
    place = at_cursor(window, m.outcomes)
    while place >= 0 and end_of(place * FIELDS, m.calls) < edge:
        fetch_ahead(window, m.outcomes, m)
        pass_by(window, m.outcomes)
        if m.calls[place * FIELDS + DURATION] >= 0:
            number_depart(4 * place + 1, window, caller_of(place, m), m)
            number_depart(4 * place + 3, window, m.callee[place], m)
            count_in_groups(1, place, window, -1, m)
        if window == 2:
            forget(place, m)
        place = at_cursor(window, m.outcomes)


def count_in_groups(kind: int, place: int, window: int, sign: int, m: Memory) -> None:
    """Let an attempt (`kind` 0) or an outcome (1) into a window of its groups (`sign` 1), or out of it (-1).

    The window of its caller holds it already, or no more.
    """
    own = m.route[place] * ROUTE_SIZE
    left = number_calls_in(window, m.routes[own + CALLER], m)
    block = m.routes[own + KEYS_OF]
    trunk = m.routes[own + KEYS_OF + 1]
    device = m.routes[own + KEYS_OF + 2]
    if block > 0:
        group_add(kind, place, window, sign, block, m.routes[own + MEMBERS_OF], left, m, m.block)
    if trunk > 0:
        group_add(kind, place, window, sign, trunk, m.routes[own + MEMBERS_OF + 1], left, m, m.trunk)
    if device > 0:
        group_add(kind, place, window, sign, device, m.routes[own + MEMBERS_OF + 2], left, m, m.device)


def let_in(place: int, kind: int, m: Memory) -> None:
    """An attempt (`kind` 0) or an outcome (1) became known: tell every key of the call."""
    number_let_in(4 * place + kind, caller_of(place, m), m)
    number_let_in(4 * place + 2 + kind, m.callee[place], m)
    clock = m.counts[NOW]
    time = when(place, kind, m.calls)
    for window in range(3):
        if time >= clock - WINDOWS[window]:
            count_in_groups(kind, place, window, 1, m)
    if time >= clock - WEEK:
        if kind == 0:
            insert(place, kind, clock, m.attempts, m.calls)
        else:
            insert(place, kind, clock, m.outcomes, m.calls)
    elif kind == 0:
        attempt_is_past(place, m)
    else:
        forget(place, m)


def oldest(m: Memory) -> int:
    """The place of the held call that began first; NONE if there is none, or it must wait until it is known."""
    place = at_cursor(2, m.outcomes)
    if place < 0 or start_of(place * FIELDS, m.calls) >= m.counts[NOW] - WEEK:
        place = at_cursor(2, m.attempts)
    if place < 0:
        return NONE
    waits = m.calls[place * FIELDS + DURATION] >= 0 and not facts_of(place * FIELDS, m.calls) >> OVER & 1
    return NONE if waits else int(place)


def drop(place: int, m: Memory) -> None:
    """Forget the oldest call before its time, to make room."""
    call = place * FIELDS
    clock = m.counts[NOW]
    begun = start_of(call, m.calls)
    if begun >= clock - WEEK:
        for window in range(3):
            if at_cursor(window, m.attempts) == place:
                pass_by(window, m.attempts)
                attempt_departs(place, window, m)
    else:
        remove(place, 1, m.outcomes, m.calls)
    if facts_of(call, m.calls) >> OVER & 1:
        number_remove(4 * place + 1, caller_of(place, m), m)
        number_remove(4 * place + 3, m.callee[place], m)
        for window in range(3):
            if end_of(call, m.calls) >= clock - WINDOWS[window]:
                count_in_groups(1, place, window, -1, m)
        if begun >= clock - WEEK:
            remove(place, 1, m.outcomes, m.calls)
    forget(place, m)


def forget(place: int, m: Memory) -> None:
    """Give back the place of a call of which no window holds anything."""
    leave(place, m)
    if m.pair_of[place] > 0:
        number_release_pair(m.pair_of[place], m.number)
    number_release_key(caller_of(place, m), m.number)
    number_release_key(m.callee[place], m.number)
    release_route(m.route[place], m)
    m.counts[HELD] -= 1
    m.callee[place] = 0
    m.route[place] = m.counts[FREE]
    m.counts[FREE] = place + 1


def keep(
    start: int, known: int, caller: int, callee: int, outcome: int, released_by: int, hour: int, day: int, step: int,
    same_region: int, ring: int, m: Memory,
) -> int:  # fmt: skip
    """Take in a new call, of which there must be room for one; its place. Its attempt waits until it is known."""
    place = new_place(m)
    facts = pack(outcome, released_by, hour, day, step, same_region, ring)
    write_call(place * FIELDS, start, facts, m.calls)
    m.route[place] = hold_route(caller, m)
    m.callee[place] = callee
    m.pair_of[place] = hold_pair(caller, callee, m)
    number_use_key(caller, m.number)
    number_use_key(callee, m.number)
    enter(place, m)
    m.counts[HELD] += 1
    m.counts[WAITING] = push(m.times, m.nodes, m.counts[WAITING], known, 2 * place)
    return place


def hold_pair(caller: int, callee: int, m: Memory) -> int:
    """The record of the two parties of a new call; 0 if it is their first one and needs none."""
    low = min(caller, callee)
    high = max(caller, callee)
    record = number_pair_of_keys(low, high, m.number)
    if record == 0:
        other = single_of(caller, callee, m)
        if other < 0 and caller != callee:
            return 0
        record = number_new_pair(low, high, m.number)
        if other >= 0:
            leave(other, m)
            number_fill_record(other, record, m)
            m.pair_of[other] = record
            m.number.pair_uses[record] += 1
            enter(other, m)
    m.number.pair_uses[record] += 1
    return record


def end(
    place: int, moment: int, talk: int, known: int, outcome: int, released_by: int, hour: int, day: int, step: int,
    same_region: int, ring: int, m: Memory,
) -> None:  # fmt: skip
    """A held call is over: its outcome waits until it is known."""
    call = place * FIELDS
    if facts_of(call, m.calls) >> BEGUN & 1 and start_of(call, m.calls) < m.counts[NOW] - WEEK:
        remove(place, 1, m.outcomes, m.calls)  # among which it stood as one that is held for a day more
    facts = pack(outcome, released_by, hour, day, step, same_region, ring)
    m.calls[call + DURATION] = moment - start_of(call, m.calls)
    m.calls[call + TALK] = talk
    put(m.calls, call + FACTS, facts_of(call, m.calls) & OF_ATTEMPT | facts & ~OF_ATTEMPT)
    m.counts[WAITING] = push(m.times, m.nodes, m.counts[WAITING], known, 2 * place + 1)


def vector(at: int, day: int, caller: int, callee: int, facts: int, m: Memory) -> None:
    """Write the vector of a call that starts at `at`. Keys that nobody has heard of are 0. `group` holds NONE for a
    call that has no such key: then nothing is known of one."""
    advance(at, m)
    for i in range(WIDTH):
        m.row[i] = math.nan
    moment = max(at, m.counts[NOW])
    single = single_of(caller, callee, m)
    number_tell(moment, day, caller, callee, single, 0, facts, m.row, CALLER_COLUMN, m)
    number_tell(moment, day, callee, caller, single, 1, facts, m.row, CALLEE_COLUMN, m)
    group_tells(0, moment, caller, facts, BLOCK_COLUMN, m, m.block)
    group_tells(1, moment, caller, facts, TRUNK_COLUMN, m, m.trunk)
    group_tells(2, moment, caller, facts, DEVICE_COLUMN, m, m.device)


def group_tells(kind: int, at: int, caller: int, facts: int, column: int, m: Memory, book: Book) -> None:
    """Write what a block (`kind` 0), a trunk (1) or a device (2) tells of a call, less what its caller has told."""
    key = m.group[kind]
    if key < 0:
        return
    home = caller * GROUPS + kind
    alone = caller > 0 and m.first_route[caller] > 0 and m.homes[home] == key
    if alone and key > 0:
        number_own_part(caller, m.own, 0, m)
        group_tell(at, key, m.own, 0, facts, m.row, column, m, book)
        return
    pair = 0
    if caller > 0 and m.first_route[caller] > 0 and m.homes[home] == SPLIT:
        pair = group_place_of(group_pair_of_keys(key, caller, book))
    group_tell(at, key, book.pairs, pair, facts, m.row, column, m, book)
