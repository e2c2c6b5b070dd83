"""What a history holds for calls in memory: keys and pairs that come and go with them.

A `book` is what is held for a kind of history, as flat arrays; `History` makes them. Key 0 and pair 0 stay blank: they
answer for keys and pairs that nobody has heard of. Compiled (`engine.py`), or run as it stands.
"""

from __future__ import annotations

from typing import Any

from .chains import bucket, chain, giver, unchain
from .replay import clear, emit_in, emit_out
from .windows import (
    BEFORE,
    CLOCK,
    END_PLACES,
    ENDS,
    FIELDS,
    NONE,
    PAIR,
    SHIFT,
    STATE,
    STREAMS,
    TAIL,
    WINDOWS,
    Ints,
    add,
    enter,
    join,
    leave,
    part,
    wide,
)

Book = Any
# What a book keeps count of: the last pair and key ever used, chains of free ones, keys that have no call (a list in
# the order in which they lost their last one).
PAIRS, FREE_PAIR, KEYS, FREE_KEY, IDLE_FIRST, IDLE_LAST = range(6)
COUNTS = 6


def find(key: int, other: int, book: Book) -> int:
    """The pair of a key with another number; 0 if no call is held of it."""
    _, _, _, _, pair_keys, _, heads, next_pair, counts, _, _, _ = book
    if key <= 0 or other <= 0 or counts[PAIRS] == 0:
        return 0
    wanted = key << 32 | other
    pair = heads[bucket(wanted, counts[PAIRS])]
    while pair > 0 and pair_keys[pair] != wanted:
        pair = next_pair[pair]
    return int(pair)


def new_pair(key: int, other: int, book: Book) -> int:
    """A place for a pair of which no call is held."""
    _, _, _, pairs, pair_keys, pair_uses, heads, next_pair, counts, _, _, _ = book
    pair = counts[FREE_PAIR]
    if pair > 0:
        counts[FREE_PAIR] = pair_keys[pair]
    else:
        pair = counts[PAIRS] + 1
        counts[PAIRS] = pair
        share(pair, pair_keys, heads, next_pair)
    pair_keys[pair] = key << 32 | other
    pair_uses[pair] = 0
    for i in range(pair * PAIR, (pair + 1) * PAIR):
        pairs[i] = 0
    chain(pair, bucket(pair_keys[pair], counts[PAIRS]), heads, next_pair)
    return int(pair)


def share(buckets: int, pair_keys: Ints, heads: Ints, next_pair: Ints) -> None:
    """Give the last of so many buckets the pairs that belong there now."""
    pair = heads[giver(buckets)]
    while pair > 0:
        after = next_pair[pair]
        if bucket(pair_keys[pair], buckets) == buckets - 1:
            unchain(pair, giver(buckets), heads, next_pair)
            chain(pair, buckets - 1, heads, next_pair)
        pair = after


def new_key(book: Book) -> int:
    """A place for a key that was not heard of; 0 if there is no room."""
    state, _, _, _, _, _, _, _, counts, uses, next_key, _ = book
    key = counts[FREE_KEY]
    if key > 0:
        counts[FREE_KEY] = next_key[key]
    elif counts[KEYS] + 1 < len(uses):
        key = counts[KEYS] + 1
        counts[KEYS] = key
    else:
        return 0
    clear(state, key * STATE)
    uses[key] = 0
    put_idle(key, book)
    return int(key)


def free_key(key: int, book: Book) -> None:
    """A key that has no call is heard of no more."""
    _, _, _, _, _, _, _, _, counts, _, next_key, _ = book
    take_idle(key, book)
    next_key[key] = counts[FREE_KEY]
    counts[FREE_KEY] = key


def put_idle(key: int, book: Book) -> None:
    """Add a key to those that have no call."""
    _, _, _, _, _, _, _, _, counts, _, next_key, last_key = book
    last = counts[IDLE_LAST]
    last_key[key] = last
    next_key[key] = 0
    if last > 0:
        next_key[last] = key
    else:
        counts[IDLE_FIRST] = key
    counts[IDLE_LAST] = key


def take_idle(key: int, book: Book) -> None:
    """Take a key from those that have no call."""
    _, _, _, _, _, _, _, _, counts, _, next_key, last_key = book
    before = last_key[key]
    after = next_key[key]
    if before > 0:
        next_key[before] = after
    else:
        counts[IDLE_FIRST] = after
    if after > 0:
        last_key[after] = before
    else:
        counts[IDLE_LAST] = before


def hold(place: int, direction: int, key: int, other: int, book: Book) -> None:
    """A call at `place` belongs to this key, and there to its pair with the other party; to none if the key is 0."""
    _, _, pair_of, _, _, pair_uses, _, _, _, uses, _, _ = book
    own = (STREAMS >> 1) * place + direction
    pair_of[own] = 0
    if key <= 0:
        return
    pair = find(key, other, book)
    if pair == 0:
        pair = new_pair(key, other, book)
    pair_uses[pair] += 1
    pair_of[own] = pair * PAIR
    if uses[key] == 0:
        take_idle(key, book)
    uses[key] += 1


def fill_table(book: Book) -> None:
    """Put every pair that has a call into an empty table."""
    _, _, _, _, pair_keys, pair_uses, heads, next_pair, counts, _, _, _ = book
    for pair in range(1, counts[PAIRS] + 1):
        if pair_uses[pair] > 0:
            chain(pair, bucket(pair_keys[pair], counts[PAIRS]), heads, next_pair)


def release(place: int, direction: int, book: Book) -> None:
    """A call at `place` is forgotten."""
    _, _, pair_of, _, pair_keys, pair_uses, heads, next_pair, counts, uses, _, _ = book
    pair = pair_of[(STREAMS >> 1) * place + direction] // PAIR
    if pair == 0:
        return
    key = pair_keys[pair] >> 32
    pair_uses[pair] -= 1
    if pair_uses[pair] == 0:
        unchain(pair, bucket(pair_keys[pair], counts[PAIRS]), heads, next_pair)
        pair_keys[pair] = counts[FREE_PAIR]
        counts[FREE_PAIR] = pair
    uses[key] -= 1
    if uses[key] == 0:
        put_idle(key, book)


def pair_key(place: int, direction: int, book: Book) -> int:
    """Whose a call at `place` is, in the upper half, and who the other party is; 0 of a call without such a key."""
    _, _, pair_of, _, pair_keys, _, _, _, _, _, _, _ = book
    return int(pair_keys[pair_of[(STREAMS >> 1) * place + direction] // PAIR])


def let_in(node: int, calls: Ints, book: Book) -> None:
    """An event became known."""
    state, links, pair_of, pairs, pair_keys, _, _, _, _, _, _, _ = book
    key = pair_keys[pair_of[node >> 1] // PAIR] >> 32
    if key > 0:
        enter(node, state, key * STATE, calls, links, pairs, pair_of)


def move_on(at: int, day: int, key: int, calls: Ints, book: Book) -> None:
    """Move a key's clock on; 0 is nobody's."""
    state, links, pair_of, pairs, _, _, _, _, _, _, _, _ = book
    if key > 0:
        leave(at, day, state, key * STATE, calls, links, pairs, pair_of)


def tell(
    at: int, key: int, other: int, direction: int, calls: Ints, facts: int, out: Any, row: int, book: Book
) -> None:
    """Write what a key tells of a call, from `row` on; the key's clock has been moved on."""
    state, _, _, pairs, _, _, _, _, _, _, _, _ = book
    pair = find(key, other, book) * PAIR
    moment = max(at, wide(state, key * STATE + CLOCK))
    if direction == 0:
        emit_out(moment, state, key * STATE, calls, pairs, pair, facts, out, row)
    else:
        emit_in(moment, state, key * STATE, calls, pairs, pair, facts, out, row)


def remove(node: int, calls: Ints, book: Book) -> None:
    """Take an event out of its list and of every window that holds it, before its time."""
    state, links, pair_of, pairs, pair_keys, _, _, _, _, _, _, _ = book
    key = pair_keys[pair_of[node >> 1] // PAIR] >> 32
    if key == 0:
        return
    base = key * STATE
    stream = node & (STREAMS - 1)
    ends = base + ENDS + END_PLACES * stream
    clock = wide(state, base + CLOCK)
    time = calls[(node >> SHIFT) * FIELDS + (stream & 1)]
    if time < clock - WINDOWS[2]:
        return  # it has left already
    before = NONE
    found = state[ends + 2]
    while found != node:
        following = links[found] ^ before
        before = found
        found = following
    after = links[node] ^ before
    for window in range(3):
        edge = clock - WINDOWS[window]
        if time >= edge:
            add(node, window, -1, state, base, calls, pairs, pair_of)
            if stream == 0:
                if after >= 0:
                    part(node, after, window, state, base, calls)
                if before >= 0 and calls[(before >> SHIFT) * FIELDS] >= edge:
                    part(before, node, window, state, base, calls)
                    if after >= 0:
                        join(calls[(after >> SHIFT) * FIELDS], before, NONE, edge, window, state, base, calls)
            if state[ends + window] == node:
                state[ends + window] = after
        if state[ends + BEFORE + window] == node:
            state[ends + BEFORE + window] = before
    if before >= 0:
        links[before] ^= node ^ after
    if after >= 0:
        links[after] ^= node ^ before
    if state[ends + TAIL] == node:
        state[ends + TAIL] = before
