"""The memory of a `History`: its arrays, by part and name, and how much of them is in use.

`held` is what is known of calls and their routes, `attempts` and `outcomes` are those in order, and each kind of
history has a book. Arrays are made once, as large as they may ever get, and take memory only as they are written.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from callsieve.features.stream import call_store, key_store, routes, time_order, token_table

BYTES = {"q": 8, "i": 4, "d": 8}
LARGE = 8 << 20  # bytes
# Of a book: tables, and tokens, which a snapshot tells as texts.
MADE_ANEW = ("heads", "next_pair", "tokens", "named", "prefix", "token_heads", "next_token")
LINES = ("attempts", "outcomes")
Sizes = dict[str, tuple[str, int]]
Arrays = dict[str, dict[str, Any]]


def sizes(layouts: dict[str, SimpleNamespace], calls: int, keys: int, width: int) -> dict[str, Sizes]:
    """Code and length of all arrays, for so many calls and as many keys of each kind; a vector has `width` values."""
    runs = 4 * calls // time_order.SIZE + 4
    line: Sizes = {
        "places": ("i", runs * time_order.SIZE),
        "runs": ("i", 2 * runs),
        "sizes": ("i", runs),
        "marks": ("q", time_order.MARKS),
    }
    of_calls: Sizes = {
        "calls": ("i", calls * call_store.FIELDS),
        "route": ("i", calls),
        "callee": ("i", calls),
        "pair_of": ("i", calls),
        "links": ("i", calls * call_store.LISTS),
        "times": ("q", 2 * calls),
        "nodes": ("i", 2 * calls),
        "counts": ("q", call_store.COUNTS),
        "index": ("i", calls),
        "next_call": ("i", calls + 1),
        "routes": ("i", (calls + 1) * call_store.ROUTE_SIZE),
        "route_heads": ("i", calls),
        "next_route": ("i", calls + 1),
        "route_counts": ("q", routes.ROUTE_COUNTS),
        "first_route": ("i", keys + 1),
        "homes": ("i", (keys + 1) * routes.GROUPS),
        "one": ("i", layouts["number"].PAIR),
        "own": ("i", layouts["block"].PAIR),
        "group": ("i", routes.GROUPS),
        "row": ("d", width),
    }
    books = {name: book_sizes(layout, calls, keys) for name, layout in layouts.items()}
    return {"held": of_calls} | dict.fromkeys(LINES, line) | books


def book_sizes(layout: SimpleNamespace, calls: int, keys: int) -> Sizes:
    """What is held for a kind of history; a call has use for one pair at most."""
    return {
        "state": ("i", (keys + 1) * layout.STATE),
        "pairs": ("i", (calls + 1) * layout.PAIR),
        "pair_keys": ("q", calls + 1),
        "pair_uses": ("i", calls + 1),
        "heads": ("i", calls),
        "next_pair": ("i", calls + 1),
        "counts": ("q", key_store.COUNTS),
        "uses": ("i", keys + 1),
        "next_key": ("i", keys + 1),
        "last_key": ("i", keys + 1),
        "tokens": ("i", (keys + 1) * token_table.TOKEN_WORDS),
        "named": ("i", keys + 1),
        "prefix": ("i", 1 + token_table.LONGEST_PREFIX),
        "token_heads": ("i", keys),
        "next_token": ("i", keys + 1),
    }


def used_sizes(layouts: dict[str, SimpleNamespace], memory: Arrays) -> dict[str, Sizes]:
    """As much of it as was ever used, but for tables that can be made anew and for what is written at each call."""
    counts = memory["held"]["counts"]
    keys = int(memory["number"]["counts"][key_store.KEYS])
    found = sizes(layouts, int(counts[call_store.PLACES]), keys, 0)
    waiting, known = int(counts[call_store.WAITING]), int(memory["held"]["route_counts"][routes.LAST_ROUTE])
    found["held"] |= {
        "times": ("q", waiting),
        "nodes": ("i", waiting),
        "routes": ("i", (known + 1) * call_store.ROUTE_SIZE),
    }
    for name in ("index", "next_call", "route_heads", "next_route", "one", "own", "group", "row"):
        del found["held"][name]
    for name in LINES:
        found[name] = _line_used(memory[name]["marks"])
    for name, layout in layouts.items():
        found[name] = _book_used(layout, memory[name]["counts"])
    return found


def _line_used(marks: Any) -> Sizes:
    runs = int(marks[time_order.USED])
    return {
        "places": ("i", runs * time_order.SIZE),
        "runs": ("i", int(marks[time_order.BEYOND])),
        "sizes": ("i", runs),
        "marks": ("q", time_order.MARKS),
    }


def _book_used(layout: SimpleNamespace, counts: Any) -> Sizes:
    found = book_sizes(layout, int(counts[key_store.PAIRS]), int(counts[key_store.KEYS]))
    return {name: size for name, size in found.items() if name not in MADE_ANEW}


def rooms(told: Sizes) -> dict[str, Any]:
    """Arrays of zeros that take memory only where they are written."""
    return {name: room(code, size) for name, (code, size) in told.items()}


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
