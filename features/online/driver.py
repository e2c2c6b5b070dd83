"""The stream kernel bound to the memory of one history: compiled C where it was built, else interpreted Python.

A token of the usual form takes 16 bytes in the kernel's memory. `TokenBook` keeps any other text in a dictionary.
"""

from __future__ import annotations

import sys
from array import array
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
from callsieve.features.keys.tokens import to_letters
from callsieve.features.stream.token_table import LETTERS, TOKEN_WORDS


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
    return lambda *arguments: function(*arguments, memory)


class TokenBook:
    """A two-way map of tokens and keys; key 0 belongs to no token."""

    def __init__(self, driver: Driver, kind: str) -> None:
        """Wraps the arrays of a kind of history, and the functions of `stream/token_table.py` bound to them."""
        self._store, self._find_key = driver.memory[kind], driver.find_key[kind]
        self._set_token, self._remove_token = driver.set_token[kind], driver.remove_token[kind]
        self._irregular: dict[str, int] = {}
        self._irregular_texts: dict[int, str] = {}
        self._regular_count = 0

    def key(self, token: str) -> int:
        """Returns the key of a token, or 0 if it has none."""
        text = token.encode("utf-8", "surrogatepass")
        key = self._find_key(text, len(text))
        return key if key >= 0 else self._irregular.get(token, 0)

    def add(self, token: str, key: int) -> None:
        """Gives a free key to a token."""
        text = token.encode("utf-8", "surrogatepass")
        if self._set_token(key, text, len(text)):
            self._regular_count += 1
        else:
            self._irregular[token] = key
            self._irregular_texts[key] = token

    def remove(self, key: int) -> None:
        """Removes the token of a key, if it has one."""
        self._regular_count -= self._store["named"][key]
        self._remove_token(key)
        if token := self._irregular_texts.pop(key, ""):
            del self._irregular[token]

    def text(self, key: int) -> str:
        """Returns the token of a key; "" without one."""
        return self._texts(key, key + 1)[0]

    def texts(self, keys: int) -> list[str]:
        """Returns the tokens of the keys 0 to `keys` - 1; "" for a key without a token."""
        return self._texts(0, keys)

    def _texts(self, first: int, end: int) -> list[str]:
        prefix = bytes(self._store["prefix"][1 : 1 + self._store["prefix"][0]].tolist()).decode(
            "utf-8", "surrogatepass"
        )
        words = array("i", self._store["tokens"][TOKEN_WORDS * first : TOKEN_WORDS * end])
        if sys.byteorder == "little":
            words.byteswap()
        letters, named = to_letters(words.tobytes()), self._store["named"]
        return [
            prefix + letters[i * LETTERS : (i + 1) * LETTERS] if named[key] else self._irregular_texts.get(key, "")
            for i, key in enumerate(range(first, end))
        ]

    def __len__(self) -> int:
        return self._regular_count + len(self._irregular)
