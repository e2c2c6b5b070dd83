"""From the tokens of one epoch to those of the next: each is worked out, none looked up, and nothing is written down.

A token is AES(cover, HMAC(secret, number)); with both covers the old one is taken off and the new one put on. The
number is not needed and not learnt. A called number in what left a history is enciphered once more (`callees.py`):
that layer is taken off first, and put on last, with another key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .callee_keys import Callees
from .tokens import Key, bytes_of, cipher, letters_of


class _Turn:
    """Tokens of one epoch into those of another."""

    def __init__(self, old: str, new: str, turn: Callable[[bytes], bytes]) -> None:
        self.new, self._turn = new, turn
        self._text = re.compile(rf"(?<![A-Za-z0-9_-]){re.escape(old)}\.([a-p]{{32}})(?![a-z])")
        self._bytes = re.compile(self._text.pattern.encode())

    def tokens(self, texts: list[str]) -> list[str]:
        found = list(texts)
        places = [place for place, text in enumerate(found) if self._text.fullmatch(text)]
        turned = self._turned("".join(found[place].rpartition(".")[2] for place in places))
        for n, place in enumerate(places):
            found[place] = f"{self.new}.{turned[32 * n : 32 * n + 32]}"
        return found

    def line(self, line: bytes) -> bytes:
        return self._bytes.sub(lambda found: f"{self.new}.{self._turned(found[1].decode())}".encode(), line)

    def _turned(self, letters: str) -> str:
        return letters_of(self._turn(bytes_of(letters)))


class Rekeying:
    """Turns tokens of an old key into those of a new one.

    Args:
        callees: the old and the new key of called numbers in what left the history.
    Raises: ValueError: if the keys are not of one secret: then only who has the numbers can key anew; or if two of them
        are of one epoch: a token would not say whether it was turned.

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
        self._turns = [_Turn(old.epoch, new.epoch, lambda data: cover(uncover(data)))]
        if callees is not None:
            before, after = map(Callees, callees)
            self._turns += [
                _Turn(before.epoch, after.epoch, lambda data: after.hide(cover(uncover(before.show(data)))))
            ]

    def token(self, token: str) -> str:
        """The token of the new epoch; a text that is no token of the old epoch is given back."""
        return self.tokens([token])[0]

    def tokens(self, texts: Iterable[str]) -> list[str]:
        """As `token`, of many."""
        found = list(texts)
        for turn in self._turns:
            found = turn.tokens(found)
        return found

    def line(self, line: bytes) -> bytes:
        """A line of text, with every token of the old epoch in it turned."""
        for turn in self._turns:
            line = turn.line(line)
        return line
