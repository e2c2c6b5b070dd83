"""Numbers with few stored calls, which have no state of their own. A part of the kernel.

Most numbers of a network have few calls within a week. A compact number has a list of its stored calls, and its windows
are computed from them when a vector needs them. A number with more than FEW stored calls is full: it has a state, which
every event updates, and lists of its events. A full number that is left with half of FEW calls becomes compact again
and frees its state. The values do not depend on it, because sums are whole numbers.

`compact` has one cache line a key: CHAINS lists of the calls of a compact number, or minus the index of a full number's
state; the outgoing calls of a compact number in each window, WINDOW_BITS bits each; then its days, as in a state. The
lists have views, which are 2 * place + direction, with 0 for an outgoing call, and entries, which are a view plus one.
They are linked through the links that the attempts of a full number use. There are several so that reads of calls do
not wait for each other.
"""

from __future__ import annotations

from callsieve.features.kernel.number_state import (
    CALLS,
    PAIR_ANSWERED,
    PAIR_DAYS,
    PAIR_DAYS_KEPT,
    PAIR_IN,
    PAIR_TALK_MS,
    add_gap,
    count,
    mark_pair_day,
)
from callsieve.features.kernel.table_pass import clear_state
from callsieve.features.kernel.windows import (
    ANSWERED,
    BEFORE,
    DAY,
    DAY_SHIFT,
    END_PLACES,
    ENDS,
    FIRST_MISSED,
    HOUR,
    LAST_MISSED,
    LONG_AGO,
    NONE,
    OUTCOME_BITS,
    OVER,
    PAIR,
    RETURNED_BIT,
    SLOTS,
    STARTED,
    STATE,
    SUMS,
    TAIL,
    WEEK,
    WINDOWS,
    Ints,
    prefetch,
    set_bit,
    time_of,
)

from .call_store import (
    FIELDS,
    LISTS,
    NOW,
    PAIR_RECORD,
    Memory,
    callee_of,
    caller_of,
    facts_of,
    link_index,
    same_party,
    start_of,
    talk_of,
)
from .key_store import FREE_STATE, STATES, KeyStore, release_key, use_key
from .time_order import precedes

FEW = 12  # stored calls of a compact number, at most
SCRATCH = 1  # the state in which the windows of a compact number are computed; state 0 is that of an unknown number
CHAINS = 4
WINDOW_CALLS, DAYS_FROM, FIELDS_OF_KEY = 4, 5, 5  # fields of a key; DAYS_FROM is where its days begin
WINDOW_BITS = 8
LINE = 16  # 32-bit integers in a cache line


def compact_of(key: int) -> int:
    """Returns where the integers of a key begin in `compact`."""
    return key * (SUMS - DAY + FIELDS_OF_KEY)


def days_of(key: int) -> int:
    """Returns where a state would begin whose days are those of a key in `compact`."""
    return compact_of(key) + DAYS_FROM - DAY


def chain_of(view: int, key: int) -> int:
    """Returns where the first entry is of the list that a view of a key belongs to, in `compact`."""
    return compact_of(key) + (view >> 1) % CHAINS


def clear_key(key: int, store: KeyStore) -> None:
    """Resets a key to that of an unknown number."""
    at = compact_of(key)
    for i in range(at, at + SUMS - DAY + FIELDS_OF_KEY):
        store.compact[i] = 0
    store.compact[days_of(key) + DAY] = LONG_AGO


def state_index(key: int, m: Memory) -> int:
    """Returns the index of a number's state; of the scratch state if the number is compact."""
    entry = m.number.compact[compact_of(key)]
    return -entry if entry < 0 else SCRATCH


def calls_in(window: int, key: int, m: Memory) -> int:
    """Returns how many outgoing calls of a number are in a window."""
    index = state_index(key, m)
    if index == SCRATCH:
        counts = m.number.compact[compact_of(key) + WINDOW_CALLS]
        return int(counts >> WINDOW_BITS * window & (1 << WINDOW_BITS) - 1)
    return int(m.number.state[index * STATE + SUMS + window * SLOTS + CALLS])


def add_view(view: int, key: int, m: Memory) -> None:
    """Counts one more stored call of a number."""
    use_key(key, m.number)
    if state_index(key, m) != SCRATCH:
        return
    if m.number.uses[key] > FEW:
        expand(key, m)
        return
    push_view(view, key, m)


def push_view(view: int, key: int, m: Memory) -> None:
    """Adds a view to its list."""
    chain = chain_of(view, key)
    m.calls[link_index(2 * view)] = m.number.compact[chain]
    m.number.compact[chain] = view + 1


def release_view(view: int, key: int, m: Memory) -> None:
    """Counts one stored call of a number less. No window contains it any more."""
    release_key(key, m.number)
    if state_index(key, m) != SCRATCH:
        if m.number.uses[key] <= FEW // 2:
            compress(key, m)
        return
    links = m.calls
    after = links[link_index(2 * view)]
    chain = chain_of(view, key)
    entry = m.number.compact[chain]
    if entry == view + 1:
        m.number.compact[chain] = after
        return
    while links[link_index(2 * entry - 2)] != view + 1:
        entry = links[link_index(2 * entry - 2)]
    links[link_index(2 * entry - 2)] = after


def list_views(key: int, m: Memory) -> int:
    """Writes the views of a compact number into `views`; returns how many there are."""
    size = 0
    for chain in range(CHAINS):
        entry = m.number.compact[compact_of(key) + chain]
        while entry > 0:
            m.views[size] = entry - 1
            size += 1
            entry = m.calls[link_index(2 * entry - 2)]
    return size


def prefetch_sums(key: int, m: Memory) -> None:
    """Prefetches what `refresh` reads."""
    index = state_index(key, m)
    if index == SCRATCH:
        for chain in range(CHAINS):
            entry = m.number.compact[compact_of(key) + chain]
            if entry > 0:
                prefetch(m.calls, (entry - 1 >> 1) * FIELDS)
        return
    for i in range(STATE // LINE + 1):
        prefetch(m.number.state, index * STATE + i * LINE)


def refresh(key: int, m: Memory) -> int:
    """Makes the state of `state_index` complete, with the number's windows and days; returns its index."""
    index = state_index(key, m)
    if index == SCRATCH:
        size = list_views(key, m)
        mark_ends(0, compute_state(size, SCRATCH * STATE, m), SCRATCH * STATE, m)
        mark_ends(2, sort_events(2, size, m), SCRATCH * STATE, m)
    days = days_of(key)
    for i in range(DAY, SUMS):
        m.number.state[index * STATE + i] = m.number.compact[days + i]
    return index


def compute_state(size: int, base: int, m: Memory) -> int:
    """Computes the windows of the first `size` calls of `views`, without days and lists, in the state at `base`.

    Returns: the number of outgoing attempts, which are in `view_nodes`.
    """
    state = m.number.state
    calls = m.calls
    views = m.views
    others = m.others
    pairs = m.view_pairs
    clock = m.counts[NOW]
    clear_state(state, base)
    for i in range(size * PAIR):
        pairs[i] = 0
    for i in range(size):
        place = views[i] >> 1
        node = 2 * views[i]
        others[i] = caller_of(place, m) if views[i] & 1 else callee_of(place, m)
        pair = 0
        while others[pair] != others[i]:
            pair += 1
        facts = facts_of(place * FIELDS, calls)
        if facts >> STARTED & 1:
            for window in range(3):
                if time_of(node, calls) >= clock - WINDOWS[window]:
                    count(node, window, 1, base, m, pairs, pair * PAIR)
        if facts >> OVER & 1:
            for window in range(3):
                if time_of(node + 1, calls) >= clock - WINDOWS[window]:
                    count(node + 1, window, 1, base, m, pairs, pair * PAIR)
    attempts = sort_events(0, size, m)
    for i in range(1, attempts):
        earlier = time_of(m.view_nodes[i - 1], calls)
        for window in range(3):
            if earlier >= clock - WINDOWS[window]:
                add_gap(time_of(m.view_nodes[i], calls) - earlier, window, 1, state, base)
    return attempts


def sort_events(stream: int, size: int, m: Memory) -> int:
    """Writes the known events of a stream within the widest window into `view_nodes`, in order; returns their number.

    The order is that of all events (`time_order.py`), since they leave the windows in that order.
    """
    calls = m.calls
    nodes = m.view_nodes
    kind = stream & 1
    events = 0
    for i in range(size):
        node = 2 * m.views[i] + kind
        known = facts_of((node >> 2) * FIELDS, calls) >> (OVER if kind else STARTED) & 1
        if node & 3 == stream and known and time_of(node, calls) >= m.counts[NOW] - WEEK:
            at = events
            while at > 0 and follows(nodes[at - 1], node, m):
                nodes[at] = nodes[at - 1]
                at -= 1
            nodes[at] = node
            events += 1
    return events


def follows(node: int, other: int, m: Memory) -> bool:
    """Returns whether an event comes after another one of the same stream."""
    time = time_of(node, m.calls)
    if time != time_of(other, m.calls):
        return bool(time > time_of(other, m.calls))
    if node & 1:
        return precedes(other >> 2, node >> 2, 1, m.outcomes, m.calls)
    return precedes(other >> 2, node >> 2, 0, m.attempts, m.calls)


def mark_ends(stream: int, events: int, base: int, m: Memory) -> None:
    """Writes the first and the last of the events in `view_nodes` into a state without lists."""
    if events > 0:
        m.number.state[base + ENDS + END_PLACES * stream + 2] = m.view_nodes[0]
        m.number.state[base + ENDS + END_PLACES * stream + TAIL] = m.view_nodes[events - 1]


def expand(key: int, m: Memory) -> None:
    """Gives a compact number a state and lists of its events."""
    state = m.number.state
    index = m.number.counts[FREE_STATE]
    if index > 0:
        m.number.counts[FREE_STATE] = state[index * STATE]
    else:
        m.number.counts[STATES] += 1
        index = m.number.counts[STATES] + SCRATCH
    size = list_views(key, m)
    link_events(0, compute_state(size, index * STATE, m), index * STATE, m)
    for stream in range(1, LISTS):
        link_events(stream, sort_events(stream, size, m), index * STATE, m)
    for chain in range(CHAINS):
        m.number.compact[compact_of(key) + chain] = 0
    m.number.compact[compact_of(key)] = -index


def link_events(stream: int, events: int, base: int, m: Memory) -> None:
    """Links the events in `view_nodes` as a list of the state at `base`."""
    state = m.number.state
    links = m.calls
    ends = base + ENDS + END_PLACES * stream
    before = NONE
    for i in range(events):
        node = m.view_nodes[i]
        links[link_index(node)] = before ^ NONE
        if before >= 0:
            links[link_index(before)] ^= NONE ^ node
        for window in range(3):
            if time_of(node, m.calls) < m.counts[NOW] - WINDOWS[window]:
                state[ends + BEFORE + window] = node
            elif state[ends + window] < 0:
                state[ends + window] = node
        before = node
    state[ends + TAIL] = before


def compress(key: int, m: Memory) -> None:
    """Makes a full number compact if its lists show all of its calls.

    They lack a call that is not known yet, and a received call whose attempt has left the widest window.
    """
    state = m.number.state
    links = m.calls
    views = m.views
    index = state_index(key, m)
    ends = index * STATE + ENDS
    size = 0
    for stream in range(LISTS):
        before = NONE
        node = state[ends + END_PLACES * stream + 2]
        while node >= 0:
            i = 0
            while i < size and views[i] != node >> 1:
                i += 1
            if i == size:
                views[size] = node >> 1
                size += 1
            following = links[link_index(node)] ^ before
            before = node
            node = following
    if size != m.number.uses[key]:
        return
    counts = 0
    for window in range(3):
        counts |= calls_in(window, key, m) << WINDOW_BITS * window
    m.number.compact[compact_of(key)] = 0
    for i in range(size):
        push_view(views[i], key, m)
    m.number.compact[compact_of(key) + WINDOW_CALLS] = counts
    state[index * STATE] = m.number.counts[FREE_STATE]
    m.number.counts[FREE_STATE] = index


def count_compact(node: int, window: int, sign: int, key: int, m: Memory) -> None:
    """Adds an event of a compact number to its calls of a window and to its pair (`sign` 1), or removes it (-1)."""
    if node & 3 == 0:
        m.number.compact[compact_of(key) + WINDOW_CALLS] += sign << WINDOW_BITS * window
    place = node >> 2
    record = m.calls[place * FIELDS + PAIR_RECORD]
    caller = caller_of(place, m)
    callee = callee_of(place, m)
    if record == 0 or (node & 2 and caller != callee):  # an event of the caller counts for both parties
        return
    pairs = m.number.pairs
    pair = record * PAIR ^ (PAIR_IN if caller > callee else 0) ^ (PAIR_IN if node & 2 else 0)
    facts = facts_of(place * FIELDS, m.calls)
    if node & 1 == 0:
        pairs[pair ^ window] += sign
        if window == 2 and sign > 0:
            mark_pair_day(facts >> DAY_SHIFT, 1, pairs, pair ^ PAIR_DAYS)
    elif window == 2 and facts & OUTCOME_BITS == ANSWERED:
        if node & 2 == 0:
            pairs[pair ^ PAIR_ANSWERED] += sign
        if sign > 0 and talk_of(place * FIELDS, m.calls) >= PAIR_TALK_MS:
            mark_pair_day(facts >> DAY_SHIFT, 1 << PAIR_DAYS_KEPT, pairs, pair ^ PAIR_DAYS)


def match_returns(node: int, key: int, m: Memory) -> None:
    """Marks missed calls of a compact number that their callee returned within an hour, after one of both is known."""
    calls = m.calls
    size = list_views(key, m)
    for i in range(size):
        other = 2 * m.views[i]
        if node & 3 == 1 and other & 2:
            mark_returned(node, other, calls, m)
        if node & 3 == 2 and other & 2 == 0:
            mark_returned(other + 1, node, calls, m)


def mark_returned(missed: int, call: int, calls: Ints, m: Memory) -> None:
    """Marks an outgoing outcome as returned if it was missed and the received call followed within an hour."""
    facts = facts_of((missed >> 2) * FIELDS, calls)
    started = facts_of((call >> 2) * FIELDS, calls) >> STARTED & 1
    if facts >> OVER & 1 and started and FIRST_MISSED <= facts & OUTCOME_BITS <= LAST_MISSED:
        after = start_of((call >> 2) * FIELDS, calls) - time_of(missed, calls)
        if 0 < after <= HOUR and same_party(missed, call, m):
            set_bit((missed >> 2) * FIELDS, RETURNED_BIT, calls)
