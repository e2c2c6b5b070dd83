"""From the tokens of one epoch to those of the next: each is worked out, none looked up, and nothing is written down.

A token is AES(cover, HMAC(secret, number)); with both covers the old one is taken off and the new one put on. The
number is not needed and not learnt.
"""

from __future__ import annotations

import re
from binascii import hexlify, unhexlify
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import snapshot
from .pseudonyms import Key, cipher

_TO_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")
_TO_HEX = bytes.maketrans(b"abcdefghijklmnop", b"0123456789abcdef")


class Rekeying:
    """Turns tokens of an old key into those of a new one.

    Raises: ValueError: if the keys are not of one secret, or of one epoch: then only who has the numbers can key anew.

    >>> old = Key("e1", bytes(32), bytes(range(32)))
    >>> new = old.rotated("e2")
    >>> Rekeying(old, new).token(old.token("number", "+8613800138000")) == new.token("number", "+8613800138000")
    True
    """

    def __init__(self, old: Key, new: Key) -> None:
        if old.secret != new.secret or old.purpose != new.purpose or new.cover is None:
            raise ValueError(
                f"key {new.epoch} is not key {old.epoch} rotated: expected the same secret and a new cover"
            )
        if old.epoch == new.epoch:
            raise ValueError(f"epoch must be another one than {old.epoch}")
        self.old, self.new = old.epoch, new.epoch
        self._uncover = bytes if old.cover is None else cipher(old.cover)[1]
        self._cover = cipher(new.cover)[0]
        self._text = re.compile(rf"(?<![A-Za-z0-9_-]){re.escape(old.epoch)}\.([a-p]{{32}})(?![a-z])")
        self._bytes = re.compile(self._text.pattern.encode())

    def token(self, token: str) -> str:
        """The token of the new epoch; a text that is no token of the old epoch is given back."""
        return self.tokens([token])[0]

    def tokens(self, texts: Iterable[str]) -> list[str]:
        """As `token`, of many."""
        found = list(texts)
        places = [place for place, text in enumerate(found) if self._text.fullmatch(text)]
        letters = "".join(found[place].rpartition(".")[2] for place in places).encode()
        turned = self._turned(letters).decode()
        for n, place in enumerate(places):
            found[place] = f"{self.new}.{turned[32 * n : 32 * n + 32]}"
        return found

    def line(self, line: bytes) -> bytes:
        """A line of text, with every token of the old epoch in it turned."""
        return self._bytes.sub(lambda found: self.new.encode() + b"." + self._turned(found[1]), line)

    def snapshot(self, path: Path) -> None:
        """The tokens of a history on disk (`History.save`), whole or not at all."""
        file, facts, tokens = snapshot.opened(path)
        with file:
            arrays = file.read()[: -snapshot.DIGEST]
        turned: dict[str, Any] = {name: self.tokens(texts) for name, texts in tokens.items()}
        snapshot.write(path, facts, turned, [arrays])

    def _turned(self, letters: bytes) -> bytes:
        data = unhexlify(letters.translate(_TO_HEX))
        return hexlify(self._cover(self._uncover(data))).translate(_TO_LETTERS)
