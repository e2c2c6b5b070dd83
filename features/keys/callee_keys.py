"""Tokens of called numbers in data that leaves a history, encrypted with a separate key.

A history has one token per number, whether it calls or is called, because a call back is a feature. Files for
others (verdict files, exports) need the caller. Of the called numbers, they need only which calls went to the same
number. So these files encrypt the called numbers' tokens once more (AES-256) under a key of the purpose
"callees". Such a file shows no call back. Not even the holder of the key for records can join it by called number
with a history or register. Evidence of cases, notices and governance reports hold no called numbers at all.

Limit: time and caller remain. A holder of the history of the same calls can link both by these.

This key is not rotated in place. A new one is made, and `rotation` turns the tokens of both keys at once. Once the key
is destroyed, called numbers are erased from every copy of such a file, and histories are unaffected.
"""

from __future__ import annotations

from collections.abc import Iterable

from .tokens import Key, cipher, from_letters, is_token, to_letters

EPHEMERAL = "once"
"""Epoch of a key that exists for one run only: its tokens can never be linked with others."""


class CalleeCipher:
    """Turns tokens of called numbers into tokens for data that leaves the history.

    >>> callees = CalleeCipher(Key("c1", bytes(32), purpose="callees"))
    >>> token = Key("e1", bytes(32)).token("number", "+8613800138000")
    >>> token, callees.token(token)
    ('e1.fnmkcfekdmjenjkjgnbhhbjdeicmmpnp', 'c1.egghgodgfnnkdbakoiiibegkolfmpapk')
    """

    def __init__(self, key: Key) -> None:
        if key.purpose != "callees":
            raise ValueError(f"called numbers need a key for callees, got one for {key.purpose}")
        self.epoch = key.epoch
        self.encrypt, self.decrypt = cipher(key.secret)

    def token(self, token: str) -> str:
        """Returns the outgoing token for a number's token."""
        return self.tokens([token])[0]

    def tokens(self, tokens: Iterable[str]) -> list[str]:
        """Returns the outgoing tokens for many tokens of numbers."""
        tokens = list(tokens)
        if not all(map(is_token, tokens)):
            raise ValueError("called numbers: expected keyed tokens")
        letters = to_letters(self.encrypt(from_letters("".join(token.rpartition(".")[2] for token in tokens))))
        return [f"{self.epoch}.{letters[32 * n : 32 * n + 32]}" for n in range(len(tokens))]
