"""Tokens and keys of one kind of history, in both directions.

A token of the usual form takes 16 bytes in the kernel's memory. Any other text is kept in a dictionary.
"""

from __future__ import annotations

import sys
from array import array

from callsieve.features.keys.tokens import to_letters
from callsieve.features.stream.token_table import LETTERS, TOKEN_WORDS

from .driver import Driver


class TokenBook:
    """A two-way map of tokens and keys; key 0 belongs to no token."""

    def __init__(self, driver: Driver, kind: str) -> None:
        """Wraps the arrays of a kind of history, and the functions of `stream/token_table.py` bound to them."""
        self._store, self._find_key = driver.memory[kind], driver.find_key[kind]
        self._set_token, self._remove_token = driver.set_token[kind], driver.remove_token[kind]
        self._irregular: dict[str, int] = {}
        self._irregular_texts: dict[int, str] = {}
        self._regular_count = 0

    def key(self, token: str) -> int:
        """Returns the key of a token, or 0 if it has none."""
        text = token.encode("utf-8", "surrogatepass")
        key = self._find_key(text, len(text))
        return key if key >= 0 else self._irregular.get(token, 0)

    def add(self, token: str, key: int) -> None:
        """Gives a free key to a token."""
        text = token.encode("utf-8", "surrogatepass")
        if self._set_token(key, text, len(text)):
            self._regular_count += 1
        else:
            self._irregular[token] = key
            self._irregular_texts[key] = token

    def remove(self, key: int) -> None:
        """Removes the token of a key, if it has one."""
        self._regular_count -= self._store["named"][key]
        self._remove_token(key)
        if token := self._irregular_texts.pop(key, ""):
            del self._irregular[token]

    def text(self, key: int) -> str:
        """Returns the token of a key; "" without one."""
        return self._texts(key, key + 1)[0]

    def texts(self, keys: int) -> list[str]:
        """Returns the tokens of the keys 0 to `keys` - 1; "" for a key without a token."""
        return self._texts(0, keys)

    def _texts(self, first: int, end: int) -> list[str]:
        prefix = bytes(self._store["prefix"][1 : 1 + self._store["prefix"][0]].tolist()).decode(
            "utf-8", "surrogatepass"
        )
        words = array("i", self._store["tokens"][TOKEN_WORDS * first : TOKEN_WORDS * end])
        if sys.byteorder == "little":
            words.byteswap()
        letters, named = to_letters(words.tobytes()), self._store["named"]
        return [
            prefix + letters[i * LETTERS : (i + 1) * LETTERS] if named[key] else self._irregular_texts.get(key, "")
            for i, key in enumerate(range(first, end))
        ]

    def __len__(self) -> int:
        return self._regular_count + len(self._irregular)
