"""The stream driver of the kernel: calls one by one, and the vector of a call at ring time.

Each stored call has a place, found through `call_index.py`. An event waits in a heap until it is known. Then it enters
the list of all attempts or all outcomes, in order of their time (`time_order.py`). As the end of all windows moves on,
the first events of those lists expire.

`m` is the whole memory (`memory_layout.py`). The functions of numbers and groups carry their kind's name as a prefix
here; `assemble.py` supplies them. Blocks, trunks and devices are three key stores with the same functions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from callsieve.features.kernel.heap import pop
from callsieve.features.kernel.windows import NONE, OVER, WEEK, WINDOWS, prefetch

from .call_index import only_call_of, unindex_call
from .call_store import (
    CALLEE_KEY,
    CALLER,
    DURATION,
    FIELDS,
    FREE,
    LATER_ROUTE,
    NOW,
    PAIR_RECORD,
    ROUTE,
    ROUTE_SIZE,
    STORED,
    WAITING,
    Memory,
    callee_of,
    caller_of,
    end_of,
    facts_of,
    start_of,
)
from .key_store import KeyStore
from .routes import GROUPS, KEYS_OF, MEMBERS_OF, SPLIT, acquire_route, release_route
from .time_order import EventList, advance_cursor, event_time, first_in_window, insert, peek_after, remove

if TYPE_CHECKING:  # `assemble.py` supplies them for each kind of history
    from .compact_numbers import calls_in as number_calls_in
    from .compact_numbers import prefetch_sums as number_prefetch_sums
    from .compact_numbers import refresh as number_refresh
    from .compact_numbers import release_view as number_release_view
    from .group_lists import count_event as group_count_event
    from .group_lists import emit_values as group_emit_values
    from .group_lists import pair_offset as group_pair_offset
    from .key_store import find_pair as group_find_pair
    from .key_store import release_pair as number_release_pair
    from .number_lists import apply_event as number_apply_event
    from .number_lists import copy_member as number_copy_member
    from .number_lists import emit_values as number_emit_values
    from .number_lists import expire_event as number_expire_event
    from .number_lists import prefetch_key as number_prefetch_key
    from .number_lists import prefetch_state as number_prefetch_state
    from .number_lists import remove_outcome as number_remove_outcome

STEP = 4  # prefetch distance in events, of each of three stages
# First column of each role in a vector.
CALLER_COLUMN = CALLEE_COLUMN = BLOCK_COLUMN = TRUNK_COLUMN = DEVICE_COLUMN = NONE
WIDTH = 0


def advance(at: int, m: Memory) -> None:
    """Moves the end of all windows to `at`, and applies every event that became known before."""
    if at > m.counts[NOW]:
        m.counts[NOW] = at
        for window in range(3):
            expire_attempts(window, at - WINDOWS[window], m)
            expire_outcomes(window, at - WINDOWS[window], m)
    size = m.counts[WAITING]
    while size > 0 and m.times[0] < at:
        node = m.nodes[0]
        size = pop(m.times, m.nodes, size)
        apply_event(node >> 1, node & 1, m)
    m.counts[WAITING] = size


def expire_attempts(window: int, edge: int, m: Memory) -> None:
    """Removes the attempts before `edge` from a window."""
    place = first_in_window(window, m.attempts)
    while place >= 0 and start_of(place * FIELDS, m.calls) < edge:
        prefetch_ahead(window, m.attempts, m)
        advance_cursor(window, m.attempts)
        expire_attempt(place, window, m)
        if window == 2:
            retire_attempt(place, m)
        place = first_in_window(window, m.attempts)


def prefetch_ahead(window: int, events: EventList, m: Memory) -> None:
    """Prefetches, in three stages, what the next events to expire will need; it is scattered in memory.

    Many events may expire at once: the first call after a silence waits for all of them.
    """
    far = peek_after(window, 3 * STEP, events)
    if far >= 0:
        prefetch(m.calls, far * FIELDS)
    middle = peek_after(window, 2 * STEP, events)
    if middle >= 0:
        prefetch(m.routes, m.calls[middle * FIELDS + ROUTE] * ROUTE_SIZE)
        number_prefetch_key(caller_of(middle, m), m)
        number_prefetch_key(callee_of(middle, m), m)
    near = peek_after(window, STEP, events)
    if near >= 0:
        number_prefetch_state(window, caller_of(near, m), m)
        number_prefetch_state(window, callee_of(near, m), m)


def expire_attempt(place: int, window: int, m: Memory) -> None:
    """Removes the oldest attempt from a window of all keys of the call."""
    number_expire_event(4 * place, window, caller_of(place, m), m)
    number_expire_event(4 * place + 2, window, callee_of(place, m), m)
    count_in_groups(0, place, window, -1, m)


def retire_attempt(place: int, m: Memory) -> None:
    """Frees a call without an end: an end that becomes known from now on counts nowhere."""
    if m.calls[place * FIELDS + DURATION] < 0:
        free_call(place, m)


def expire_outcomes(window: int, edge: int, m: Memory) -> None:
    """Removes the outcomes before `edge` from a window."""
    place = first_in_window(window, m.outcomes)
    while place >= 0 and end_of(place * FIELDS, m.calls) < edge:
        prefetch_ahead(window, m.outcomes, m)
        advance_cursor(window, m.outcomes)
        number_expire_event(4 * place + 1, window, caller_of(place, m), m)
        number_expire_event(4 * place + 3, window, callee_of(place, m), m)
        count_in_groups(1, place, window, -1, m)
        if window == 2:
            free_call(place, m)
        place = first_in_window(window, m.outcomes)


def count_in_groups(kind: int, place: int, window: int, sign: int, m: Memory) -> None:
    """Adds an attempt (`kind` 0) or an outcome (1) to a window of its groups (`sign` 1) or removes it (-1).

    The caller's own window must be updated before.
    """
    own = m.calls[place * FIELDS + ROUTE] * ROUTE_SIZE
    left = number_calls_in(window, m.routes[own + CALLER], m)
    block = m.routes[own + KEYS_OF]
    trunk = m.routes[own + KEYS_OF + 1]
    device = m.routes[own + KEYS_OF + 2]
    if block > 0:
        group_count_event(kind, place, window, sign, block, m.routes[own + MEMBERS_OF], left, m, m.block)
    if trunk > 0:
        group_count_event(kind, place, window, sign, trunk, m.routes[own + MEMBERS_OF + 1], left, m, m.trunk)
    if device > 0:
        group_count_event(kind, place, window, sign, device, m.routes[own + MEMBERS_OF + 2], left, m, m.device)


def apply_event(place: int, kind: int, m: Memory) -> None:
    """Applies an attempt (`kind` 0) or an outcome (1) that became known to all keys of the call."""
    if kind == 1 and m.calls[place * FIELDS + LATER_ROUTE] > 0:
        take_later_route(place, m)
    number_apply_event(4 * place + kind, caller_of(place, m), m)
    number_apply_event(4 * place + 2 + kind, callee_of(place, m), m)
    clock = m.counts[NOW]
    time = event_time(place, kind, m.calls)
    for window in range(3):
        if time >= clock - WINDOWS[window]:
            count_in_groups(kind, place, window, 1, m)
    if time >= clock - WEEK:
        if kind == 0:
            insert(place, kind, clock, m.attempts, m.calls)
        else:
            insert(place, kind, clock, m.outcomes, m.calls)
    elif kind == 0:
        retire_attempt(place, m)
    else:
        free_call(place, m)


def number_state(key: int, m: Memory) -> int:
    """Returns the index of a number's state, complete until the state of another number is wanted."""
    return number_refresh(key, m)


def oldest_call(m: Memory) -> int:
    """Returns the place of the stored call that started first.

    NONE if there is no call, or if its outcome still waits to be known.
    """
    place = first_in_window(2, m.outcomes)
    if place < 0 or start_of(place * FIELDS, m.calls) >= m.counts[NOW] - WEEK:
        place = first_in_window(2, m.attempts)
    if place < 0:
        return NONE
    waits = m.calls[place * FIELDS + DURATION] >= 0 and not facts_of(place * FIELDS, m.calls) >> OVER & 1
    return NONE if waits else int(place)


def drop_call(place: int, m: Memory) -> None:
    """Drops the oldest call before it expires, to make room."""
    call = place * FIELDS
    clock = m.counts[NOW]
    start = start_of(call, m.calls)
    if start >= clock - WEEK:
        for window in range(3):
            if first_in_window(window, m.attempts) == place:
                advance_cursor(window, m.attempts)
                expire_attempt(place, window, m)
    else:
        remove(place, 1, m.outcomes, m.calls)
    if facts_of(call, m.calls) >> OVER & 1:
        number_remove_outcome(4 * place + 1, caller_of(place, m), m)
        number_remove_outcome(4 * place + 3, callee_of(place, m), m)
        for window in range(3):
            if end_of(call, m.calls) >= clock - WINDOWS[window]:
                count_in_groups(1, place, window, -1, m)
        if start >= clock - WEEK:
            remove(place, 1, m.outcomes, m.calls)
    free_call(place, m)


def free_call(place: int, m: Memory) -> None:
    """Frees the place of a call that is in no window."""
    unindex_call(place, m)
    if m.calls[place * FIELDS + PAIR_RECORD] > 0:
        number_release_pair(m.calls[place * FIELDS + PAIR_RECORD], m.number)
    number_release_view(2 * place, caller_of(place, m), m)
    number_release_view(2 * place + 1, callee_of(place, m), m)
    release_route(m.calls[place * FIELDS + ROUTE], m)
    if m.calls[place * FIELDS + LATER_ROUTE] > 0:
        release_route(m.calls[place * FIELDS + LATER_ROUTE], m)
        m.calls[place * FIELDS + LATER_ROUTE] = 0
    m.counts[STORED] -= 1
    m.calls[place * FIELDS + CALLEE_KEY] = 0
    m.calls[place * FIELDS + ROUTE] = m.counts[FREE]
    m.counts[FREE] = place + 1


def take_later_route(place: int, m: Memory) -> None:
    """Gives a call the keys that came with its end and that its attempt lacks, and counts the attempt there."""
    before = m.calls[place * FIELDS + ROUTE]
    later = m.calls[place * FIELDS + LATER_ROUTE]
    for kind in range(GROUPS):
        key = m.routes[before * ROUTE_SIZE + KEYS_OF + kind]
        m.merged[kind] = key if key > 0 else m.routes[later * ROUTE_SIZE + KEYS_OF + kind]
    m.calls[place * FIELDS + ROUTE] = acquire_route(caller_of(place, m), m.merged, m)
    m.calls[place * FIELDS + LATER_ROUTE] = 0
    for window in range(3):
        if start_of(place * FIELDS, m.calls) >= m.counts[NOW] - WINDOWS[window]:
            count_in_new_groups(place, before * ROUTE_SIZE, window, m)
    release_route(later, m)
    release_route(before, m)


def count_in_new_groups(place: int, before: int, window: int, m: Memory) -> None:
    """Adds an attempt to a window of the groups that its former route, which begins at `before`, did not have."""
    own = m.calls[place * FIELDS + ROUTE] * ROUTE_SIZE
    left = number_calls_in(window, m.routes[own + CALLER], m)
    block = m.routes[own + KEYS_OF]
    trunk = m.routes[own + KEYS_OF + 1]
    device = m.routes[own + KEYS_OF + 2]
    if block > 0 and m.routes[before + KEYS_OF] <= 0:
        group_count_event(0, place, window, 1, block, m.routes[own + MEMBERS_OF], left, m, m.block)
    if trunk > 0 and m.routes[before + KEYS_OF + 1] <= 0:
        group_count_event(0, place, window, 1, trunk, m.routes[own + MEMBERS_OF + 1], left, m, m.trunk)
    if device > 0 and m.routes[before + KEYS_OF + 2] <= 0:
        group_count_event(0, place, window, 1, device, m.routes[own + MEMBERS_OF + 2], left, m, m.device)


def vector(at: int, day: int, caller: int, callee: int, facts: int, m: Memory) -> None:
    """Writes the vector of a call that starts at `at` into `row`.

    Unknown keys are 0. `group` contains NONE where the call has no block, trunk or device; those values are NaN.
    """
    advance(at, m)
    for i in range(WIDTH):
        m.row[i] = math.nan
    moment = max(at, m.counts[NOW])
    number_prefetch_sums(caller, m)
    number_prefetch_sums(callee, m)
    single = only_call_of(caller, callee, m)
    number_emit_values(moment, day, caller, callee, single, 0, facts, CALLER_COLUMN, m)
    emit_group(0, moment, caller, facts, BLOCK_COLUMN, m, m.block)
    emit_group(1, moment, caller, facts, TRUNK_COLUMN, m, m.trunk)
    emit_group(2, moment, caller, facts, DEVICE_COLUMN, m, m.device)
    # The groups read the caller's state, and compact numbers share one state.
    number_emit_values(moment, day, callee, caller, single, 1, facts, CALLEE_COLUMN, m)


def emit_group(kind: int, at: int, caller: int, facts: int, column: int, m: Memory, store: KeyStore) -> None:
    """Writes the values of a block (`kind` 0), a trunk (1) or a device (2), without the caller's own calls."""
    key = m.group[kind]
    if key < 0:
        return
    home = caller * GROUPS + kind
    alone = caller > 0 and m.first_route[caller] > 0 and m.homes[home] == key
    if alone and key > 0:
        number_copy_member(caller, m.member, 0, m)
        group_emit_values(at, key, m.member, 0, facts, column, m, store)
        return
    pair = 0
    if caller > 0 and m.first_route[caller] > 0 and m.homes[home] == SPLIT:
        pair = group_pair_offset(group_find_pair(key, caller, store))
    group_emit_values(at, key, store.pairs, pair, facts, column, m, store)
