"""Keys by token: tables of many dictionaries, so that none takes long to grow."""

from __future__ import annotations

PARTS = 512
_EMPTY: dict[str, int] = {}  # that of every part which has none of its own yet


class Tokens:
    """Which key a token has, and which token a key; key 0 is nobody's.

    One dictionary of a million tokens would be copied whole when it grows: a pause of some 100 ms.
    """

    def __init__(self, tokens: list[str] | None = None) -> None:
        """`tokens` by key, "" where there is none."""
        self.tokens = tokens or [""]
        self._parts: list[dict[str, int]] = [_EMPTY] * PARTS
        for key, token in enumerate(self.tokens):
            if token:
                self._put(token, key)

    def key(self, token: str | None) -> int:
        """The key of a token; 0 if it has none."""
        return self._parts[hash(token) % PARTS].get(token, 0)  # type: ignore[arg-type]

    def add(self, token: str, key: int) -> None:
        """Give a token a key that is free."""
        self.tokens += [""] * (key + 1 - len(self.tokens))
        self.tokens[key] = token
        self._put(token, key)

    def remove(self, key: int) -> None:
        """A key has no token any more, if it had one."""
        if token := self.tokens[key]:
            del self._parts[hash(token) % PARTS][token]
            self.tokens[key] = ""

    def _put(self, token: str, key: int) -> None:
        part = hash(token) % PARTS
        if self._parts[part] is _EMPTY:
            self._parts[part] = {}
        self._parts[part][token] = key

    def __len__(self) -> int:
        return sum(map(len, self._parts))
