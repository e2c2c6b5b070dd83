"""The memory of a `History`: its arrays by part and name, and how much of them is in use.

`shared` has calls and routes, `attempts` and `outcomes` are the events in time order, and each kind of history has a
key store. Arrays are allocated once at their largest size; pages take memory only when they are written.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from callsieve.features.stream import call_store, compact_numbers, key_store, routes, time_order, token_table

BYTES = {"q": 8, "i": 4, "d": 8}
LARGE = 8 << 20  # bytes
# Arrays of a key store that a snapshot omits: hash tables, and tokens, which it has as texts.
NOT_SAVED = ("heads", "next_pair", "tokens", "named", "prefix", "token_heads", "next_token")
SHARED_NOT_SAVED = (
    "index", "next_call", "route_heads", "next_route", "single_pair", "member", "group", "merged", "views", "others",
    "view_nodes", "view_pairs", "row",
)  # fmt: skip
EVENT_LISTS = ("attempts", "outcomes")
Sizes = dict[str, tuple[str, int]]
Arrays = dict[str, dict[str, Any]]


def sizes(layouts: dict[str, SimpleNamespace], calls: int, keys: int, width: int) -> dict[str, Sizes]:
    """Returns type code and length of all arrays."""
    runs = 4 * calls // time_order.SIZE + 4
    event_list: Sizes = {
        "places": ("i", runs * time_order.SIZE),
        "runs": ("i", 2 * runs),
        "sizes": ("i", runs),
        "marks": ("q", time_order.MARKS),
    }
    of_calls: Sizes = {
        "calls": ("i", calls * call_store.FIELDS),
        "times": ("q", 2 * calls),
        "nodes": ("i", 2 * calls),
        "counts": ("q", call_store.COUNTS),
        "index": ("i", calls),
        "next_call": ("i", calls + 1),
        "routes": ("i", (2 * calls + 2) * call_store.ROUTE_SIZE),
        "route_heads": ("i", 2 * calls + 1),
        "next_route": ("i", 2 * calls + 2),
        "route_counts": ("q", routes.ROUTE_COUNTS),
        "first_route": ("i", keys + 1),
        "homes": ("i", (keys + 1) * routes.GROUPS),
        "single_pair": ("i", layouts["number"].PAIR),
        "member": ("i", layouts["block"].PAIR),
        "group": ("i", routes.GROUPS),
        "merged": ("i", routes.GROUPS),
        "views": ("i", compact_numbers.FEW + 1),
        "others": ("i", compact_numbers.FEW + 1),
        "view_nodes": ("i", compact_numbers.FEW + 1),
        "view_pairs": ("i", (compact_numbers.FEW + 1) * layouts["number"].PAIR),
        "row": ("d", width),
    }
    stores = {name: store_sizes(layout, calls, keys, keys) for name, layout in layouts.items()}
    return {"shared": of_calls} | dict.fromkeys(EVENT_LISTS, event_list) | stores


def store_sizes(layout: SimpleNamespace, calls: int, keys: int, states: int) -> Sizes:
    """Returns type code and length of the arrays of a key store; a call uses at most one pair."""
    return {
        "state": ("i", (states + 1 + compact_numbers.SCRATCH) * layout.STATE),
        "compact": ("i", (keys + 1) * compact_size(layout)),
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


def compact_size(layout: SimpleNamespace) -> int:
    """Returns the integers of a key in `compact`; 0 for groups, whose keys all have a state."""
    return layout.SUMS - layout.DAY + compact_numbers.FIELDS_OF_KEY if layout.LISTS else 0


def used_sizes(layouts: dict[str, SimpleNamespace], memory: Arrays) -> dict[str, Sizes]:
    """Returns type code and used length of the arrays that a snapshot saves."""
    counts = memory["shared"]["counts"]
    keys = int(memory["number"]["counts"][key_store.KEYS])
    result = sizes(layouts, int(counts[call_store.PLACES]), keys, 0)
    waiting, last_route = int(counts[call_store.WAITING]), int(memory["shared"]["route_counts"][routes.LAST_ROUTE])
    result["shared"] |= {
        "times": ("q", waiting),
        "nodes": ("i", waiting),
        "routes": ("i", (last_route + 1) * call_store.ROUTE_SIZE),
    }
    for name in SHARED_NOT_SAVED:
        del result["shared"][name]
    for name in EVENT_LISTS:
        result[name] = _used_list_sizes(memory[name]["marks"])
    for name, layout in layouts.items():
        result[name] = _used_store_sizes(layout, memory[name]["counts"])
    return result


def copy_content(layouts: dict[str, SimpleNamespace], source: Arrays, target: Arrays) -> None:
    """Copies the content of a memory, without tokens, into another one with the same capacity.

    The rest of the target may be anything: the kernel writes an element before it reads it.
    """
    used, counts = used_sizes(layouts, source), source["shared"]["counts"]
    places, last_route = int(counts[call_store.PLACES]), int(source["shared"]["route_counts"][routes.LAST_ROUTE])
    used["shared"] |= {
        "index": ("i", places),
        "next_call": ("i", places + 1),
        "route_heads": ("i", last_route),
        "next_route": ("i", last_route + 1),
        "group": ("i", routes.GROUPS),
    }
    for name in layouts:
        pairs = int(source[name]["counts"][key_store.PAIRS])
        used[name] |= {"heads": ("i", pairs), "next_pair": ("i", pairs + 1)}
    for part, arrays in used.items():
        for name, (_, size) in arrays.items():
            target[part][name][:size] = source[part][name][:size]


def _used_list_sizes(marks: Any) -> Sizes:
    runs = int(marks[time_order.USED])
    return {
        "places": ("i", runs * time_order.SIZE),
        "runs": ("i", int(marks[time_order.BEYOND])),
        "sizes": ("i", runs),
        "marks": ("q", time_order.MARKS),
    }


def _used_store_sizes(layout: SimpleNamespace, counts: Any) -> Sizes:
    keys = int(counts[key_store.KEYS])
    states = int(counts[key_store.STATES]) if compact_size(layout) else keys
    arrays = store_sizes(layout, int(counts[key_store.PAIRS]), keys, states)
    return {name: size for name, size in arrays.items() if name not in NOT_SAVED}


def allocate_all(arrays: Sizes) -> dict[str, Any]:
    """Returns arrays of zeros that take memory only where they are written."""
    return {name: allocate(code, size) for name, (code, size) in arrays.items()}


def allocate(code: str, size: int) -> Any:
    """Returns an array of zeros that takes memory only where it is written."""
    pages = mmap.mmap(-1, max(size, 1) * BYTES[code], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return memoryview(pages).cast(code)  # type: ignore[call-overload]


def ask_for_large_pages(arrays: Iterable[Any]) -> None:
    """Requests large pages for large arrays, if the system has them.

    Reads are scattered over these arrays, and a fork copies their page tables, so fewer pages save time. A history with
    little content would take more memory.
    """
    for array in arrays:
        if array.nbytes >= LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a system without large pages
                array.obj.madvise(mmap.MADV_HUGEPAGE)
