"""Which key of a book has which token: 16 bytes a token, and a table to find them. A part of the kernel.

Tokens of one key file begin alike and go on with 32 letters a-p, two a byte (`pseudonyms.py`). The first one that is
named says how; any other text is for `tokens.py` to keep. A text comes as bytes, with how many of them there are.
"""

from __future__ import annotations

from typing import Any

from callsieve.features.kernel.windows import LOW_HALF, NONE, SIGN

from .hash_chains import bucket, chain, giver, unchain

Book = Any
A, P, POINT = (ord(letter) for letter in "ap.")
LETTERS, TOKEN_WORDS = 32, 4
LONGEST_PREFIX = 40
KEYS = 2  # in a book's counts, as in `live.py`


def key_of_token(text: Any, length: int, book: Book) -> int:
    """The key of a token; 0 if none has it, NONE if the text is no such token."""
    if not is_alike(text, length, book):
        return NONE
    if book.counts[KEYS] == 0:
        return 0
    at = length - LETTERS
    key = book.token_heads[bucket(mixed_text(text, at), book.counts[KEYS])]
    while key > 0 and not has_token(key, text, at, book):
        key = book.next_token[key]
    return int(key)


def name_key(key: int, text: Any, length: int, book: Book) -> int:
    """Give a key a token that no other one has; 0 if the text is no such token."""
    if book.prefix[0] == 0 and length <= LETTERS + LONGEST_PREFIX and has_letters(text, length):
        book.prefix[0] = length - LETTERS
        for i in range(length - LETTERS):
            book.prefix[1 + i] = text[i]
    if not is_alike(text, length, book):
        return 0
    for i in range(TOKEN_WORDS):
        book.tokens[TOKEN_WORDS * key + i] = quarter(text, length - LETTERS + 8 * i)
    book.named[key] = 1
    chain(key, bucket(mixed_token(key, book), book.counts[KEYS]), book.token_heads, book.next_token)
    return 1


def unname_key(key: int, book: Book) -> None:
    """A key has no token any more, if it had one."""
    if book.named[key]:
        unchain(key, bucket(mixed_token(key, book), book.counts[KEYS]), book.token_heads, book.next_token)
        book.named[key] = 0


def share_tokens(buckets: int, book: Book) -> None:
    """Give the last of so many buckets the keys that belong there now."""
    key = book.token_heads[giver(buckets)]
    while key > 0:
        after = book.next_token[key]
        if bucket(mixed_token(key, book), buckets) == buckets - 1:
            unchain(key, giver(buckets), book.token_heads, book.next_token)
            chain(key, buckets - 1, book.token_heads, book.next_token)
        key = after


def is_alike(text: Any, length: int, book: Book) -> bool:
    """Whether a text begins as tokens of this book do, and goes on with as many letters."""
    if length != book.prefix[0] + LETTERS or not has_letters(text, length):
        return False
    for i in range(length - LETTERS):  # noqa: SIM110 - the subset has no all()
        if book.prefix[1 + i] != text[i]:
            return False
    return True


def has_letters(text: Any, length: int) -> bool:
    """Whether a text ends with a point and the letters of 16 bytes."""
    if length <= LETTERS or text[length - LETTERS - 1] != POINT:
        return False
    for i in range(length - LETTERS, length):  # noqa: SIM110
        if text[i] < A or text[i] > P:
            return False
    return True


def has_token(key: int, text: Any, at: int, book: Book) -> bool:
    """Whether a key has the token whose letters begin there."""
    for i in range(TOKEN_WORDS):  # noqa: SIM110
        if book.tokens[TOKEN_WORDS * key + i] != quarter(text, at + 8 * i):
            return False
    return True


def quarter(text: Any, at: int) -> int:
    """Four bytes from their letters, as an integer with a sign."""
    value = 0
    for i in range(8):
        value = value << 4 | text[at + i] - A
    return (value & LOW_HALF ^ SIGN) - SIGN


def mixed_text(text: Any, at: int) -> int:
    """What a token is looked for by: as it is as good as random, some of it will do."""
    return quarter(text, at) << 20 ^ quarter(text, at + 8)


def mixed_token(key: int, book: Book) -> int:
    """The same of a key's token."""
    return int(book.tokens[TOKEN_WORDS * key] << 20 ^ book.tokens[TOKEN_WORDS * key + 1])
