"""What is remembered for a while, in many dictionaries: none takes long to grow, to empty or to look through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

EACH = 1 << 11  # entries of one dictionary
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Kept(Generic[_Key, _Value]):
    """At most so many values. When there is no room, the one of the same dictionary that was put longest ago goes."""

    def __init__(self, most: int, place: Callable[[_Key], int]) -> None:
        """Args: place: a whole number for a key, by which its dictionary is chosen."""
        self._most, self._place, self._count = most, place, 0
        self._parts: list[dict[_Key, _Value]] = [{} for _ in range(max(1, most // EACH))]

    def get(self, key: _Key) -> _Value | None:
        """The value of a key; None if it has none."""
        return self._parts[self._place(key) % len(self._parts)].get(key)

    def put(self, key: _Key, value: _Value) -> _Value | None:
        """Give a key a value; returns the one that it had."""
        part = self._parts[self._place(key) % len(self._parts)]
        before = part.pop(key, None)
        part[key] = value
        if before is None:
            if self._count == self._most:
                del part[next(iter(part))]
            else:
                self._count += 1
        return before

    def drop(self, key: _Key) -> None:
        """A key has no value any more."""
        if self._parts[self._place(key) % len(self._parts)].pop(key, None) is not None:
            self._count -= 1

    def without(self, is_one: Callable[[_Value], bool]) -> Iterator[bool]:
        """Drop all values that are some of those, in short steps, one for each dictionary."""
        for part in self._parts:
            for key in [key for key, value in part.items() if is_one(value)]:
                self.drop(key)
            yield True

    def __len__(self) -> int:
        return self._count
