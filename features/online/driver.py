"""The stream kernel bound to the memory of one history: compiled C where it was built, else interpreted Python."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from callsieve.features.catalogue import FEATURES
from callsieve.features.codegen import compiled_library
from callsieve.features.codegen.assemble import live_declared, stream_kernel
from callsieve.features.codegen.feature_program import KINDS
from callsieve.features.codegen.memory_layout import LINES, Arrays, rooms, sizes
from callsieve.features.dataclass import dataclass
from callsieve.features.kernel import windows


@dataclass(frozen=True)
class Driver:
    """Functions of the stream kernel that know their memory.

    Attributes:
        compiled: whether the functions are C.
        layouts: constants of the state's layout, by kind of history.
        memory: arrays by part and name.
        vector: writes `memory["held"]["row"]`. Before `vector` and `keep`, `memory["held"]["group"]` must contain the
            call's keys of block, trunk and device.
        new_key, free_key, fill_pairs, key_of_token, name_key, unname_key: one function for each kind of history.
    """

    compiled: bool
    layouts: dict[str, SimpleNamespace]
    memory: Arrays
    vector: Callable[..., object]  # (at, day, caller, callee, facts)
    keep: Callable[..., int]  # (start, known, caller, callee, *arguments of windows.pack)
    end: Callable[..., object]  # (place, moment, talk, known, *arguments of windows.pack)
    find: Callable[..., int]  # (start, caller, callee)
    advance: Callable[..., object]  # (at)
    oldest: Callable[[], int]
    drop: Callable[..., object]  # (place)
    fill_index: Callable[[], object]
    fill_routes: Callable[[], object]
    new_key: dict[str, Callable[[], int]]
    free_key: dict[str, Callable[..., object]]
    fill_pairs: dict[str, Callable[[], object]]
    key_of_token: dict[str, Callable[..., int]]  # (text, length)
    name_key: dict[str, Callable[..., int]]  # (key, text, length)
    unname_key: dict[str, Callable[..., object]]  # (key)


def driver(calls: int, numbers: int, *, compiled: bool) -> Driver:
    """Returns a driver of the whole catalogue with room for `calls` calls and `numbers` numbers.

    `compiled` requests C; without the built library the kernel is interpreted.
    """
    library = compiled_library.library() if compiled else None
    of_number, of_group = (SimpleNamespace(**constants) for constants, _ in live_declared().values())
    layouts = {kind.name: of_number if kind.name == "number" else of_group for kind in KINDS}
    memory = {part: rooms(arrays) for part, arrays in sizes(layouts, calls, numbers, len(FEATURES)).items()}
    bound = _bound if library is None else library.bound
    return Driver(library is not None, layouts, memory, **bound(memory))


def _bound(memory: Arrays) -> dict[str, Any]:
    """Binds the interpreted kernel to the memory, and clears it."""
    kernel = stream_kernel()
    of_group, of_number = kernel.of["group"], kernel.of["number"]
    books = {name: SimpleNamespace(**memory[name]) for name in (kind.name for kind in KINDS)}
    lines = {name: SimpleNamespace(**memory[name]) for name in LINES}
    m = SimpleNamespace(**memory["held"], **lines, **books)
    kinds = {name: of_number if name == "number" else of_group for name in books}
    for name, book in books.items():
        kinds[name].clear(book.state, 0)
    m.counts[kernel.NOW] = windows.NEVER
    functions = {name: getattr(kernel, name) for name in compiled_library.OF_STREAM}
    return {name: _with(function, m) for name, function in functions.items()} | {
        name: {kind: _with(getattr(kinds[kind], name), book) for kind, book in books.items()}
        for name in compiled_library.OF_BOOK
        if name != "clear"
    }


def _with(function: Any, memory: Any) -> Any:
    """Returns a function that appends `memory` to the arguments."""
    return lambda *arguments: function(*arguments, memory)
