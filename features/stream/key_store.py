"""Keys and pairs of one kind of history, which come and go with calls. A part of the kernel.

A `store` has them as flat arrays (`memory_layout.py`). Key 0 and pair 0 stay blank and stand for unknown keys and
pairs. A pair has a record only where it is needed: for two numbers, if they have more than one call; for a group and a
member, if the member is in more than one such group.
"""

from __future__ import annotations

from typing import Any

from callsieve.features.kernel.table_pass import clear_state
from callsieve.features.kernel.windows import PAIR, STATE

from .hash_chains import bucket, bucket_to_split, insert_entry, remove_entry
from .token_table import fill_new_token_bucket

KeyStore = Any
# Fields of `counts`: last pair ever used and first free pair, last key ever used and first free key, the ends of the
# list of idle keys (without calls), in the order in which they became idle, and for numbers the states ever used and
# the first free state (`compact_numbers.py`).
PAIRS, FREE_PAIR, KEYS, FREE_KEY, IDLE_FIRST, IDLE_LAST, STATES, FREE_STATE = range(8)
COUNTS = 8


def find_pair(first: int, other: int, store: KeyStore) -> int:
    """Returns the record of a pair; 0 if it has none."""
    if first <= 0 or other <= 0 or store.counts[PAIRS] == 0:
        return 0
    keys = first << 32 | other
    pair = store.heads[bucket(keys, store.counts[PAIRS])]
    while pair > 0 and store.pair_keys[pair] != keys:
        pair = store.next_pair[pair]
    return int(pair)


def allocate_pair(first: int, other: int, store: KeyStore) -> int:
    """Returns a blank record, not in use yet, for a pair that has none."""
    pair = store.counts[FREE_PAIR]
    if pair > 0:
        store.counts[FREE_PAIR] = store.pair_keys[pair]
    else:
        pair = store.counts[PAIRS] + 1
        store.counts[PAIRS] = pair
        fill_new_pair_bucket(pair, store)
    store.pair_keys[pair] = first << 32 | other
    store.pair_uses[pair] = 0
    for i in range(pair * PAIR, (pair + 1) * PAIR):
        store.pairs[i] = 0
    insert_entry(pair, bucket(store.pair_keys[pair], store.counts[PAIRS]), store.heads, store.next_pair)
    return int(pair)


def fill_new_pair_bucket(buckets: int, store: KeyStore) -> None:
    """Moves the pairs that belong into the newest bucket there."""
    pair = store.heads[bucket_to_split(buckets)]
    while pair > 0:
        after = store.next_pair[pair]
        if bucket(store.pair_keys[pair], buckets) == buckets - 1:
            remove_entry(pair, bucket_to_split(buckets), store.heads, store.next_pair)
            insert_entry(pair, buckets - 1, store.heads, store.next_pair)
        pair = after


def release_pair(pair: int, store: KeyStore) -> None:
    """Counts one use less of a pair record, and frees it with its last use."""
    store.pair_uses[pair] -= 1
    if store.pair_uses[pair] == 0:
        remove_entry(pair, bucket(store.pair_keys[pair], store.counts[PAIRS]), store.heads, store.next_pair)
        store.pair_keys[pair] = store.counts[FREE_PAIR]
        store.counts[FREE_PAIR] = pair


def rebuild_pairs(store: KeyStore) -> None:
    """Adds every pair in use to an empty table."""
    for pair in range(1, store.counts[PAIRS] + 1):
        if store.pair_uses[pair] > 0:
            insert_entry(pair, bucket(store.pair_keys[pair], store.counts[PAIRS]), store.heads, store.next_pair)


def allocate_key(store: KeyStore) -> int:
    """Returns a new, idle key; 0 if there is no room."""
    key = store.counts[FREE_KEY]
    if key > 0:
        store.counts[FREE_KEY] = store.next_key[key]
    elif store.counts[KEYS] + 1 < len(store.uses):
        key = store.counts[KEYS] + 1
        store.counts[KEYS] = key
        fill_new_token_bucket(key, store)
    else:
        return 0
    clear_key(key, store)
    store.uses[key] = 0
    append_idle(key, store)
    return int(key)


def clear_key(key: int, store: KeyStore) -> None:
    """Resets a key to an unknown one; `compact_numbers.py` has the version of numbers."""
    clear_state(store.state, key * STATE)


def free_key(key: int, store: KeyStore) -> None:
    """Frees an idle key."""
    remove_idle(key, store)
    store.next_key[key] = store.counts[FREE_KEY]
    store.counts[FREE_KEY] = key


def use_key(key: int, store: KeyStore) -> None:
    """Counts one use more of a key; the first use ends its idleness."""
    if store.uses[key] == 0:
        remove_idle(key, store)
    store.uses[key] += 1


def release_key(key: int, store: KeyStore) -> None:
    """Counts one use less of a key; without a use it is idle."""
    store.uses[key] -= 1
    if store.uses[key] == 0:
        append_idle(key, store)


def append_idle(key: int, store: KeyStore) -> None:
    """Appends a key to the list of idle keys."""
    last = store.counts[IDLE_LAST]
    store.last_key[key] = last
    store.next_key[key] = 0
    if last > 0:
        store.next_key[last] = key
    else:
        store.counts[IDLE_FIRST] = key
    store.counts[IDLE_LAST] = key


def remove_idle(key: int, store: KeyStore) -> None:
    """Removes a key from the list of idle keys."""
    before = store.last_key[key]
    after = store.next_key[key]
    if before > 0:
        store.next_key[before] = after
    else:
        store.counts[IDLE_FIRST] = after
    if after > 0:
        store.last_key[after] = before
    else:
        store.counts[IDLE_LAST] = before
