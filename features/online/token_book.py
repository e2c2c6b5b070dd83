"""The tokens of the keys of a book: most of them in the kernel's memory, as 16 bytes each, other texts as they are."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from typing import Any

from callsieve.features.keys.tokens import letters_of
from callsieve.features.stream.token_table import LETTERS, TOKEN_WORDS

Function = Callable[..., Any]


class Tokens:
    """Which key a token has, and which token a key; key 0 is nobody's."""

    def __init__(self, book: dict[str, Any], key_of_token: Function, name_key: Function, unname_key: Function) -> None:
        """`book` holds the arrays that the functions of `token_table.py` know."""
        self._book = book
        self._key_of_token, self._name_key, self._unname_key = key_of_token, name_key, unname_key
        self._odd: dict[str, int] = {}
        self._odd_texts: dict[int, str] = {}
        self._named = 0

    def key(self, token: str) -> int:
        """The key of a token; 0 if it has none."""
        text = token.encode("utf-8", "surrogatepass")
        key = self._key_of_token(text, len(text))
        return key if key >= 0 else self._odd.get(token, 0)

    def add(self, token: str, key: int) -> None:
        """Give a token a key that is free."""
        text = token.encode("utf-8", "surrogatepass")
        if self._name_key(key, text, len(text)):
            self._named += 1
        else:
            self._odd[token] = key
            self._odd_texts[key] = token

    def remove(self, key: int) -> None:
        """A key has no token any more, if it had one."""
        self._named -= self._book["named"][key]
        self._unname_key(key)
        if token := self._odd_texts.pop(key, ""):
            del self._odd[token]

    def texts(self, keys: int) -> list[str]:
        """The token of each of so many keys, from 0 on, "" where there is none."""
        prefix = bytes(self._book["prefix"][1 : 1 + self._book["prefix"][0]].tolist()).decode("utf-8", "surrogatepass")
        held = array("i", self._book["tokens"][: TOKEN_WORDS * keys])
        if sys.byteorder == "little":
            held.byteswap()
        letters, named = letters_of(held.tobytes()), self._book["named"]
        return [
            prefix + letters[key * LETTERS : (key + 1) * LETTERS] if named[key] else self._odd_texts.get(key, "")
            for key in range(keys)
        ]

    def __len__(self) -> int:
        return self._named + len(self._odd)
