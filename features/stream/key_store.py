"""What a history holds for a kind of history: keys that come and go with calls, and pairs of a key with another one.

A `book` is that, as flat arrays (`books.py`). Key 0 and pair 0 stay blank: they answer for keys and pairs that nobody
has heard of. A pair has a record only where one is needed: of two numbers, if they talked more than once; of a group
and a member, if the member is in more than one such group. Compiled (`engine.py`), or run as it stands.
"""

from __future__ import annotations

from typing import Any

from callsieve.features.kernel.table_pass import clear
from callsieve.features.kernel.windows import PAIR, STATE

from .hash_chains import bucket, chain, giver, unchain
from .token_table import share_tokens

Book = Any
# What a book keeps count of: the last pair and key ever used, chains of free ones, keys that have no call (a list in
# the order in which they lost their last one).
PAIRS, FREE_PAIR, KEYS, FREE_KEY, IDLE_FIRST, IDLE_LAST = range(6)
COUNTS = 6


def pair_of_keys(one: int, other: int, book: Book) -> int:
    """The record of a pair; 0 if it has none."""
    if one <= 0 or other <= 0 or book.counts[PAIRS] == 0:
        return 0
    wanted = one << 32 | other
    pair = book.heads[bucket(wanted, book.counts[PAIRS])]
    while pair > 0 and book.pair_keys[pair] != wanted:
        pair = book.next_pair[pair]
    return int(pair)


def new_pair(one: int, other: int, book: Book) -> int:
    """A blank record for a pair that has none, and that nothing uses yet."""
    pair = book.counts[FREE_PAIR]
    if pair > 0:
        book.counts[FREE_PAIR] = book.pair_keys[pair]
    else:
        pair = book.counts[PAIRS] + 1
        book.counts[PAIRS] = pair
        share_pairs(pair, book)
    book.pair_keys[pair] = one << 32 | other
    book.pair_uses[pair] = 0
    for i in range(pair * PAIR, (pair + 1) * PAIR):
        book.pairs[i] = 0
    chain(pair, bucket(book.pair_keys[pair], book.counts[PAIRS]), book.heads, book.next_pair)
    return int(pair)


def share_pairs(buckets: int, book: Book) -> None:
    """Give the last of so many buckets the pairs that belong there now."""
    pair = book.heads[giver(buckets)]
    while pair > 0:
        after = book.next_pair[pair]
        if bucket(book.pair_keys[pair], buckets) == buckets - 1:
            unchain(pair, giver(buckets), book.heads, book.next_pair)
            chain(pair, buckets - 1, book.heads, book.next_pair)
        pair = after


def release_pair(pair: int, book: Book) -> None:
    """A record has one use less."""
    book.pair_uses[pair] -= 1
    if book.pair_uses[pair] == 0:
        unchain(pair, bucket(book.pair_keys[pair], book.counts[PAIRS]), book.heads, book.next_pair)
        book.pair_keys[pair] = book.counts[FREE_PAIR]
        book.counts[FREE_PAIR] = pair


def fill_pairs(book: Book) -> None:
    """Put every pair that is used into an empty table."""
    for pair in range(1, book.counts[PAIRS] + 1):
        if book.pair_uses[pair] > 0:
            chain(pair, bucket(book.pair_keys[pair], book.counts[PAIRS]), book.heads, book.next_pair)


def new_key(book: Book) -> int:
    """A place for a key that was not heard of; 0 if there is no room."""
    key = book.counts[FREE_KEY]
    if key > 0:
        book.counts[FREE_KEY] = book.next_key[key]
    elif book.counts[KEYS] + 1 < len(book.uses):
        key = book.counts[KEYS] + 1
        book.counts[KEYS] = key
        share_tokens(key, book)
    else:
        return 0
    clear(book.state, key * STATE)
    book.uses[key] = 0
    put_idle(key, book)
    return int(key)


def free_key(key: int, book: Book) -> None:
    """A key that has no call is heard of no more."""
    take_idle(key, book)
    book.next_key[key] = book.counts[FREE_KEY]
    book.counts[FREE_KEY] = key


def use_key(key: int, book: Book) -> None:
    """A key has one use more."""
    if book.uses[key] == 0:
        take_idle(key, book)
    book.uses[key] += 1


def release_key(key: int, book: Book) -> None:
    """A key has one use less."""
    book.uses[key] -= 1
    if book.uses[key] == 0:
        put_idle(key, book)


def put_idle(key: int, book: Book) -> None:
    """Add a key to those that have no call."""
    last = book.counts[IDLE_LAST]
    book.last_key[key] = last
    book.next_key[key] = 0
    if last > 0:
        book.next_key[last] = key
    else:
        book.counts[IDLE_FIRST] = key
    book.counts[IDLE_LAST] = key


def take_idle(key: int, book: Book) -> None:
    """Take a key from those that have no call."""
    before = book.last_key[key]
    after = book.next_key[key]
    if before > 0:
        book.next_key[before] = after
    else:
        book.counts[IDLE_FIRST] = after
    if after > 0:
        book.last_key[after] = before
    else:
        book.counts[IDLE_LAST] = before
