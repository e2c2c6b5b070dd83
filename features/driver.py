"""The kernel of a stream bound to the memory of one history: as C where that was built, or as it stands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from . import native
from .books import book_sizes, held_sizes, room, rooms
from .catalogue import FEATURES
from .dataclass import dataclass
from .engine import stream_kernel
from .program import KINDS


@dataclass(frozen=True)
class Driver:
    """Functions of `stream.py` and `live.py` that know their arrays, and the arrays.

    Those of a kind of history stand under its name. `group` takes a call's keys of block, trunk and device before
    `vector` and `keep`, `row` is what `vector` writes.
    """

    compiled: bool
    layouts: dict[str, SimpleNamespace]
    held: dict[str, Any]
    books: dict[str, dict[str, Any]]
    group: Any
    row: Any
    vector: Callable[..., object]  # at, day, caller, callee, facts
    keep: Callable[..., int]  # start, known, caller, callee, and what `windows.pack` takes
    end: Callable[..., object]  # place, moment, talk, known, and the same
    find: Callable[..., int]  # start, caller, callee
    advance: Callable[..., object]  # at
    drop_oldest: Callable[[], int]
    fill_index: Callable[[], object]
    new_key: dict[str, Callable[[], int]]
    free_key: dict[str, Callable[..., object]]
    fill_table: dict[str, Callable[[], object]]


def driver(calls: int, numbers: int, *, compiled: bool) -> Driver:
    """A driver of the whole catalogue with room for so many calls and numbers; as C if that shall be and was built."""
    library = native.library() if compiled else None
    layouts = {kind.name: SimpleNamespace(**each[0]) for kind, each in zip(KINDS, native.declared(), strict=True)}
    held = rooms(held_sizes(calls))
    books = {name: rooms(book_sizes(layout, calls, numbers)) for name, layout in layouts.items()}
    group, row = room("i", len(KINDS) - 1), room("d", len(FEATURES))
    bound = _bound if library is None else library.bound
    return Driver(library is not None, layouts, held, books, group, row, **bound(held, books, group, row))


def _bound(held: Any, books: Any, group: Any, row: Any) -> dict[str, Any]:
    kernel = stream_kernel(FEATURES)
    calls, after, times, nodes, counts, index, next_call = held.values()
    of_kind = {name: tuple(book.values()) for name, book in books.items()}
    everything = (*held.values(), *of_kind.values())
    kinds = kernel.kernels
    for name, book in of_kind.items():
        kinds[name].clear(book[0], 0)
    return {
        "vector": lambda *given: kernel.vector(*given, group, row, *everything),
        "keep": lambda *given: kernel.keep(*given, group, *everything),
        "end": lambda *given: kernel.end(*given, calls, times, nodes, counts),
        "find": lambda *given: kernel.find(*given, calls, counts, index, next_call, of_kind["number"]),
        "advance": lambda at: kernel.advance(at, *everything),
        "drop_oldest": lambda: kernel.drop_oldest(calls, after, counts, index, next_call, *of_kind.values()),
        "fill_index": lambda: kernel.fill_index(calls, after, counts, index, next_call, of_kind["number"]),
        "new_key": {name: partial(kinds[name].new_key, book) for name, book in of_kind.items()},
        "free_key": {name: partial(_free_key, kinds[name], book) for name, book in of_kind.items()},
        "fill_table": {name: partial(kinds[name].fill_table, book) for name, book in of_kind.items()},
    }


def _free_key(kernel: Any, book: Any, key: int) -> None:
    kernel.free_key(key, book)
