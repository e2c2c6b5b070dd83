"""The arrays in which a `History` holds what it knows: sizes, names, and memory that is used only as it is written."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from . import live, stream, windows

BYTES = {"q": 8, "i": 4, "d": 8}
LARGE = 8 << 20  # bytes
Sizes = dict[str, tuple[str, int]]


def held_sizes(calls: int) -> Sizes:
    """What is held of calls, whatever their keys."""
    return {
        "calls": ("q", calls * windows.FIELDS),
        "after": ("i", calls),
        "times": ("q", 2 * calls),
        "nodes": ("i", 2 * calls),
        "counts": ("q", stream.COUNTS),
        "index": ("i", calls),
        "next_call": ("i", calls + 1),
    }


def book_sizes(kernel: SimpleNamespace, calls: int, keys: int) -> Sizes:
    """What is held for a kind of history; a call has a pair in each of its directions at most."""
    directions = kernel.STREAMS // 2
    pairs = calls * directions
    return {
        "state": ("i", (keys + 1) * kernel.STATE),
        "links": ("i", kernel.STREAMS * calls),
        "pair_of": ("i", directions * calls),
        "pairs": ("i", (pairs + 1) * kernel.PAIR),
        "pair_keys": ("q", pairs + 1),
        "pair_uses": ("i", pairs + 1),
        "heads": ("i", pairs),
        "next_pair": ("i", pairs + 1),
        "counts": ("q", live.COUNTS),
        "uses": ("i", keys + 1),
        "next_key": ("i", keys + 1),
        "last_key": ("i", keys + 1),
    }


def held_used(counts: Any) -> Sizes:
    """As much of it as was ever used, but for the index: that can be made."""
    waiting = int(counts[stream.WAITING])
    used = held_sizes(int(counts[stream.PLACES])) | {"times": ("q", waiting), "nodes": ("i", waiting)}
    del used["index"], used["next_call"]
    return used


def book_used(kernel: SimpleNamespace, calls: int, counts: Any) -> Sizes:
    """As much of a book as was ever used by the first so many places of calls, but for the table: that can be made."""
    pairs = int(counts[live.PAIRS])
    used = book_sizes(kernel, calls, int(counts[live.KEYS])) | {
        "pairs": ("i", (pairs + 1) * kernel.PAIR),
        "pair_keys": ("q", pairs + 1),
        "pair_uses": ("i", pairs + 1),
    }
    del used["heads"], used["next_pair"]
    return used


def rooms(sizes: Sizes) -> dict[str, Any]:
    """Arrays of zeros that take memory only where they are written."""
    return {name: room(code, size) for name, (code, size) in sizes.items()}


def room(code: str, size: int) -> Any:
    """One such array."""
    pages = mmap.mmap(-1, max(size, 1) * BYTES[code], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return memoryview(pages).cast(code)  # type: ignore[call-overload]


def ask_for_large_pages(arrays: Iterable[Any]) -> None:
    """Have large arrays take the memory that is still to come in large pages, where the system has them.

    They are read all over, and copied with their process. As long as little of them is in use, it would only be more
    memory.
    """
    for array in arrays:
        if array.nbytes >= LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel that has none
                array.obj.madvise(mmap.MADV_HUGEPAGE)
