"""Called numbers in what leaves a history: tokens of tokens, under a key of their own.

A history has one token for a number, whether it calls or is called: that somebody calls back is a feature. What is
written from a history for others (files of verdicts, exports) needs to say whose call it was, and of called people only
whether two calls were to the same one. So their tokens are enciphered there once more (AES-256), under a key of the
purpose "callees": such a file shows no call back, and is joined on who was called with no history and no register, not
even by who holds the key of records. Evidence of cases, notices and reports name no called person at all.

What stays: moment and caller. Who has the history of the same calls, too, links the two by these.

The key is not rotated. A new one is made, and `rekeying` turns the tokens of both keys at once; with the key destroyed,
called people are erased from every copy of such a file, and histories go on.
"""

from __future__ import annotations

from collections.abc import Iterable

from .tokens import Key, bytes_of, cipher, is_token, letters_of

ONCE = "once"
"""Epoch of keys that are made for one run and written nowhere: what they key is linked to nobody, ever."""


class Callees:
    """How called numbers are written for others.

    Raises: ValueError: for a key of another purpose.

    >>> callees = Callees(Key("c1", bytes(32), purpose="callees"))
    >>> token = Key("e1", bytes(32)).token("number", "+8613800138000")
    >>> token, callees.token(token)
    ('e1.fnmkcfekdmjenjkjgnbhhbjdeicmmpnp', 'c1.egghgodgfnnkdbakoiiibegkolfmpapk')
    """

    def __init__(self, key: Key) -> None:
        if key.purpose != "callees":
            raise ValueError(f"called numbers need a key for callees, got one for {key.purpose}")
        self.epoch = key.epoch
        self.hide, self.show = cipher(key.secret)

    def token(self, token: str) -> str:
        """The token that stands for a number's token."""
        return self.tokens([token])[0]

    def tokens(self, tokens: Iterable[str]) -> list[str]:
        """As `token`, of many.

        Raises: ValueError: if one is no token.
        """
        given = list(tokens)
        if not all(map(is_token, given)):
            raise ValueError("called numbers: expected keyed tokens")
        letters = letters_of(self.hide(bytes_of("".join(token.rpartition(".")[2] for token in given))))
        return [f"{self.epoch}.{letters[32 * n : 32 * n + 32]}" for n in range(len(given))]
