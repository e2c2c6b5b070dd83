"""Finds the key of a token: 16 bytes a token, and a hash table. A part of the kernel.

Tokens of one key file share a prefix, then have 32 letters a-p, two a byte (`keys/tokens.py`). The first token defines
the prefix; any other text is for `TokenBook` to store. A text comes as bytes with its length.
"""

from __future__ import annotations

from typing import Any

from callsieve.features.kernel.windows import LOW_HALF, NONE, SIGN

from .hash_chains import bucket, bucket_to_split, insert_entry, remove_entry

KeyStore = Any
A, P, POINT = (ord(letter) for letter in "ap.")
LETTERS, TOKEN_WORDS = 32, 4
LONGEST_PREFIX = 40
KEYS = 2  # index in `counts`, as in `key_store.py`


def find_key(text: Any, length: int, store: KeyStore) -> int:
    """Returns the key of a token; 0 if no key has it, NONE if the text has another form."""
    if not has_prefix(text, length, store):
        return NONE
    if store.counts[KEYS] == 0:
        return 0
    at = length - LETTERS
    key = store.token_heads[bucket(hash_text(text, at), store.counts[KEYS])]
    while key > 0 and not has_token(key, text, at, store):
        key = store.next_token[key]
    return int(key)


def set_token(key: int, text: Any, length: int, store: KeyStore) -> int:
    """Gives a key a token that no other key has; returns 0 if the text has another form."""
    if store.prefix[0] == 0 and length <= LETTERS + LONGEST_PREFIX and has_letters(text, length):
        store.prefix[0] = length - LETTERS
        for i in range(length - LETTERS):
            store.prefix[1 + i] = text[i]
    if not has_prefix(text, length, store):
        return 0
    for i in range(TOKEN_WORDS):
        store.tokens[TOKEN_WORDS * key + i] = word_at(text, length - LETTERS + 8 * i)
    store.named[key] = 1
    insert_entry(key, bucket(hash_token(key, store), store.counts[KEYS]), store.token_heads, store.next_token)
    return 1


def remove_token(key: int, store: KeyStore) -> None:
    """Removes the token of a key, if it has one."""
    if store.named[key]:
        remove_entry(key, bucket(hash_token(key, store), store.counts[KEYS]), store.token_heads, store.next_token)
        store.named[key] = 0


def fill_new_token_bucket(buckets: int, store: KeyStore) -> None:
    """Moves the keys that belong into the newest bucket there."""
    key = store.token_heads[bucket_to_split(buckets)]
    while key > 0:
        after = store.next_token[key]
        if bucket(hash_token(key, store), buckets) == buckets - 1:
            remove_entry(key, bucket_to_split(buckets), store.token_heads, store.next_token)
            insert_entry(key, buckets - 1, store.token_heads, store.next_token)
        key = after


def has_prefix(text: Any, length: int, store: KeyStore) -> bool:
    """Returns whether a text has the prefix of this store, followed by letters."""
    if length != store.prefix[0] + LETTERS or not has_letters(text, length):
        return False
    for i in range(length - LETTERS):  # noqa: SIM110 - the subset has no all()
        if store.prefix[1 + i] != text[i]:
            return False
    return True


def has_letters(text: Any, length: int) -> bool:
    """Returns whether a text ends with a point and the letters of 16 bytes."""
    if length <= LETTERS or text[length - LETTERS - 1] != POINT:
        return False
    for i in range(length - LETTERS, length):  # noqa: SIM110
        if text[i] < A or text[i] > P:
            return False
    return True


def has_token(key: int, text: Any, at: int, store: KeyStore) -> bool:
    """Returns whether a key has the token whose letters begin at `at`."""
    for i in range(TOKEN_WORDS):  # noqa: SIM110
        if store.tokens[TOKEN_WORDS * key + i] != word_at(text, at + 8 * i):
            return False
    return True


def word_at(text: Any, at: int) -> int:
    """Returns four bytes from their letters, as a signed integer."""
    value = 0
    for i in range(8):
        value = value << 4 | text[at + i] - A
    return (value & LOW_HALF ^ SIGN) - SIGN


def hash_text(text: Any, at: int) -> int:
    """Returns the hash key of a token: half of it, as tokens are as good as random."""
    return word_at(text, at) << 20 ^ word_at(text, at + 8)


def hash_token(key: int, store: KeyStore) -> int:
    """Returns the hash key of the token of a key."""
    return int(store.tokens[TOKEN_WORDS * key] << 20 ^ store.tokens[TOKEN_WORDS * key + 1])
