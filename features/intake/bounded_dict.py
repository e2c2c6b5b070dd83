"""A dictionary of bounded size, split into shards so that no operation takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

SHARD_ENTRIES = 1 << 11
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class BoundedDict(Generic[_Key, _Value]):
    """A dictionary with a maximum of entries: a new key in a full one replaces the oldest entry of its shard."""

    def __init__(self, limit: int, shard_of: Callable[[_Key], int]) -> None:
        self._limit, self._shard_of, self._count = limit, shard_of, 0
        self._shards: list[dict[_Key, _Value]] = [{} for _ in range(max(1, limit // SHARD_ENTRIES))]

    def get(self, key: _Key) -> _Value | None:
        """Returns the value of a key, or None."""
        return self._shards[self._shard_of(key) % len(self._shards)].get(key)

    def put(self, key: _Key, value: _Value) -> _Value | None:
        """Sets the value of a key; returns its previous value, or None."""
        shard = self._shards[self._shard_of(key) % len(self._shards)]
        previous = shard.pop(key, None)
        shard[key] = value
        if previous is None:
            if self._count == self._limit:
                del shard[next(iter(shard))]
            else:
                self._count += 1
        return previous

    def drop(self, key: _Key) -> None:
        """Removes a key, if present."""
        if self._shards[self._shard_of(key) % len(self._shards)].pop(key, None) is not None:
            self._count -= 1

    def removing(self, predicate: Callable[[_Value], bool]) -> Iterator[bool]:
        """Removes every value that matches `predicate`, and yields True after each shard."""
        for shard in self._shards:
            for key in [key for key, value in shard.items() if predicate(value)]:
                self.drop(key)
            yield True

    def values(self) -> Iterator[_Value]:
        """Yields all values; nothing may change meanwhile."""
        for shard in self._shards:
            yield from shard.values()

    def __len__(self) -> int:
        return self._count
