"""Conversion of tokens from one epoch to the next, without the numbers and without a table of pairs.

A token is AES(cover, HMAC(secret, number)). With both covers, the old encryption is removed and the new one applied.
The number is neither needed nor revealed. A called number in data that left a history is encrypted once more
(`callee_keys.py`): that layer is removed first, and applied last, with another key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .callee_keys import CalleeCipher
from .tokens import Key, cipher, from_letters, to_letters


class _EpochChange:
    """Converts tokens of one epoch to another epoch."""

    def __init__(self, old: str, new: str, convert: Callable[[bytes], bytes]) -> None:
        self.new, self._convert_bytes = new, convert
        self._text = re.compile(rf"(?<![A-Za-z0-9_-]){re.escape(old)}\.([a-p]{{32}})(?![a-z])")
        self._bytes = re.compile(self._text.pattern.encode())

    def tokens(self, texts: list[str]) -> list[str]:
        converted = list(texts)
        places = [place for place, text in enumerate(texts) if self._text.fullmatch(text)]
        letters = self._convert("".join(texts[place].rpartition(".")[2] for place in places))
        for n, place in enumerate(places):
            converted[place] = f"{self.new}.{letters[32 * n : 32 * n + 32]}"
        return converted

    def line(self, line: bytes) -> bytes:
        return self._bytes.sub(lambda match: f"{self.new}.{self._convert(match[1].decode())}".encode(), line)

    def _convert(self, letters: str) -> str:
        return to_letters(self._convert_bytes(from_letters(letters)))


class Rekeying:
    """Converts tokens of an old key to tokens of a new key.

    >>> old = Key("e1", bytes(32), bytes(range(32)))
    >>> new = old.rotated("e2")
    >>> Rekeying(old, new).token(old.token("number", "+8613800138000")) == new.token("number", "+8613800138000")
    True
    """

    def __init__(self, old: Key, new: Key, callees: tuple[Key, Key] | None = None) -> None:
        if old.secret != new.secret or old.purpose != new.purpose or new.cover is None:
            raise ValueError(
                f"key {new.epoch} is not key {old.epoch} rotated: expected the same secret and a new cover"
            )
        epochs = [key.epoch for key in (old, new, *(callees or ()))]
        if len(set(epochs)) < len(epochs):
            raise ValueError(f"epochs must all be different, got {', '.join(epochs)}")
        self.old, self.new = old.epoch, new.epoch
        uncover = bytes if old.cover is None else cipher(old.cover)[1]
        cover = cipher(new.cover)[0]
        self._changes = [_EpochChange(old.epoch, new.epoch, lambda data: cover(uncover(data)))]
        if callees is not None:
            before, after = map(CalleeCipher, callees)
            self._changes += [
                _EpochChange(
                    before.epoch, after.epoch, lambda data: after.encrypt(cover(uncover(before.decrypt(data))))
                )
            ]

    def token(self, token: str) -> str:
        """Returns the token of the new epoch; returns any text unchanged that is not a token of the old epoch."""
        return self.tokens([token])[0]

    def tokens(self, texts: Iterable[str]) -> list[str]:
        """Returns the texts with each token of the old epoch converted."""
        converted = list(texts)
        for change in self._changes:
            converted = change.tokens(converted)
        return converted

    def line(self, line: bytes) -> bytes:
        """Returns a line of text with each token of the old epoch in it converted."""
        for change in self._changes:
            line = change.line(line)
        return line
