"""The stream kernel bound to the memory of one history: compiled C where it was built, else interpreted Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from callsieve.features.catalogue import FEATURES
from callsieve.features.codegen import compiled_library
from callsieve.features.codegen.assemble import stream_declarations, stream_kernel
from callsieve.features.codegen.feature_program import KINDS
from callsieve.features.codegen.memory_layout import EVENT_LISTS, Arrays, allocate_all, sizes
from callsieve.features.kernel import windows


@dataclass(frozen=True)
class Driver:
    """Functions of the stream kernel that know their memory.

    Attributes:
        compiled: whether the functions are C.
        layouts: constants of the state's layout, by kind of history.
        memory: arrays by part and name.
        vector: writes `memory["shared"]["row"]`. Before `vector` and `store_call`, `memory["shared"]["group"]` must
            contain the call's keys of block, trunk and device.
        allocate_key, free_key, rebuild_pairs, find_key, set_token, remove_token: one function for each kind of history.
    """

    compiled: bool
    layouts: dict[str, SimpleNamespace]
    memory: Arrays
    vector: Callable[..., object]  # (at, day, caller, callee, facts)
    store_call: Callable[..., int]  # (start, known, caller, callee, facts)
    end_call: Callable[..., object]  # (place, moment, talk, known, facts)
    known_time: Callable[..., int]  # (place, kind)
    restart_call: Callable[..., object]  # (place, known, facts)
    replace_end: Callable[..., object]  # (place, moment, talk, known, facts)
    set_later_route: Callable[..., object]  # (place)
    find_call: Callable[..., int]  # (start, caller, callee)
    advance: Callable[..., object]  # (at)
    number_state: Callable[..., int]  # (key)
    oldest_call: Callable[[], int]
    drop_call: Callable[..., object]  # (place)
    rebuild_index: Callable[[], object]
    rebuild_routes: Callable[[], object]
    allocate_key: dict[str, Callable[[], int]]
    free_key: dict[str, Callable[..., object]]
    rebuild_pairs: dict[str, Callable[[], object]]
    find_key: dict[str, Callable[..., int]]  # (text, length)
    set_token: dict[str, Callable[..., int]]  # (key, text, length)
    remove_token: dict[str, Callable[..., object]]  # (key)


def driver(calls: int, numbers: int, *, compiled: bool) -> Driver:
    """Returns a driver of the whole catalogue with room for `calls` calls and `numbers` numbers.

    `compiled` requests C; without the built library the kernel is interpreted.
    """
    library = compiled_library.library() if compiled else None
    of_number, of_group = (SimpleNamespace(**constants) for constants, _ in stream_declarations().values())
    layouts = {kind.name: of_number if kind.name == "number" else of_group for kind in KINDS}
    memory = {part: allocate_all(arrays) for part, arrays in sizes(layouts, calls, numbers, len(FEATURES)).items()}
    bound = _bound if library is None else library.bound
    return Driver(library is not None, layouts, memory, **bound(memory))


def _bound(memory: Arrays) -> dict[str, Any]:
    """Binds the interpreted kernel to the memory, and clears it."""
    kernel = stream_kernel()
    of_group, of_number = kernel.of["group"], kernel.of["number"]
    stores = {name: SimpleNamespace(**memory[name]) for name in (kind.name for kind in KINDS)}
    lines = {name: SimpleNamespace(**memory[name]) for name in EVENT_LISTS}
    m = SimpleNamespace(**memory["shared"], **lines, **stores)
    kinds = {name: of_number if name == "number" else of_group for name in stores}
    for name, store in stores.items():
        kinds[name].clear_state(store.state, 0)
    m.counts[kernel.NOW] = windows.NEVER
    functions = {name: getattr(kernel, name) for name in compiled_library.STREAM_FUNCTIONS}
    return {name: _with(function, m) for name, function in functions.items()} | {
        name: {kind: _with(getattr(kinds[kind], name), store) for kind, store in stores.items()}
        for name in compiled_library.STORE_FUNCTIONS
        if name != "clear_state"
    }


def _with(function: Any, memory: Any) -> Any:
    """Returns a function that appends `memory` to the arguments."""
    return lambda *arguments: function(*arguments, memory)
