"""The kernel as C, if it was built: a shared library without Python, next to this file (`setup.py` builds it).

It runs streams of the whole catalogue, and tables of any choice of features. It contains the fingerprint
of its sources; a library of other sources is ignored.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Iterable
from functools import cache, lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from callsieve.features.catalogue import FEATURES
from callsieve.features.catalogue.feature import Feature
from callsieve.features.kernel import table_pass, windows
from callsieve.features.stream import call_store

from . import assemble
from .c_interface import address, warn_of_slow_python
from .feature_program import KINDS, Kind, first_column, is_whole, layout
from .memory_layout import Arrays

# Exported functions of a stream with their arguments apart from memory, and those of each kind of history.
STREAM_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "vector": ("at", "day", "caller", "callee", "facts"),
    "store_call": ("start", "known_at", "caller", "callee", "facts"),
    "end_call": ("place", "moment", "talk", "known_at", "facts"),
    "known_time": ("place", "kind"),
    "restart_call": ("place", "known_at", "facts"),
    "replace_end": ("place", "moment", "talk", "known_at", "facts"),
    "set_later_route": ("place",),
    "find_call": ("start", "caller", "callee"),
    "advance": ("at",),
    "number_state": ("key",),
    "oldest_call": (),
    "drop_call": ("place",),
    "rebuild_index": (),
    "rebuild_routes": (),
}
STORE_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "allocate_key": (),
    "free_key": ("key",),
    "rebuild_pairs": (),
    "clear_state": (),
    "find_key": ("text", "length"),
    "set_token": ("key", "text", "length"),
    "remove_token": ("key",),
}
# Exports of a table: functions that all kinds share, functions of each kind, and the type codes of their arrays.
SHARED_FUNCTIONS = ("fill_records", "find_ties", "group_views")
TABLE_FUNCTIONS = ("replay", "emit_notes")
TASK = {
    **dict.fromkeys(("start", "ring", "talk", "recorded", "day"), "q"),
    **dict.fromkeys(("order", "offsets", "views", "records"), "q"),
    **dict.fromkeys(("parties", "owners", "notes"), "i"),
    **dict.fromkeys(("events", "call_facts"), "b"),
    "out": "d",
    "layout": "q",
    # Working memory for the history of one key.
    **dict.fromkeys(("calls", "rest", "others", "directions", "times"), "q"),
    **dict.fromkeys(("state", "links", "pairs", "pair_of", "flags", "slots", "nodes"), "i"),
}
RETURNING = {
    "known_time",
    "store_call",
    "find_call",
    "number_state",
    "oldest_call",
    "allocate_key",
    "find_key",
    "set_token",
}  # these return an integer, the others nothing
HERE = Path(__file__)
FOLDER = HERE.parent
ELEMENTS = {"q": "i8", "i": "i4", "d": "f8", "b": "i1"}  # as `__array_interface__` names them
EMPTY: tuple[()] = ()


class Library:
    """The loaded library."""

    def __init__(self, path: Path) -> None:
        """Loads the library."""
        # Not CDLL: releasing the GIL for some microseconds would hand it to another thread at each call.
        self._library = ctypes.PyDLL(str(path))
        self.version = (ctypes.c_char * 64).in_dll(self._library, "callsieve_version").value.decode()

    def table_function(self, label: str, name: str) -> Callable[..., None]:
        """Returns a function of `table_pass.py`, exported under a label; it releases the GIL.

        Its arguments are the integers, in order, and the NumPy arrays of the task by name.
        """
        function = getattr(ctypes.CDLL(self._library._name), f"callsieve_{label}")
        function.restype = None
        function.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * len(integer_arguments(name))]

        def run(*integers: int, **arrays: Any) -> None:
            words = []
            for array, code in TASK.items():
                values = arrays.get(array, EMPTY)
                words += [table_address(values, code), len(values)]
            task = (ctypes.c_int64 * len(words))(*words)
            function(ctypes.addressof(task), *integers)

        return run

    def bound(self, memory: Arrays) -> dict[str, Any]:
        """Returns the functions bound to this memory (memoryviews, which must outlive them)."""
        table = addresses(array for part in memory.values() for array in part.values())
        stores = [kind.name for kind in KINDS]
        for name in stores:
            self._function(f"{name}_clear_state", "clear_state", (), table)()
        memory["shared"]["counts"][call_store.NOW] = windows.NEVER
        functions = {name: self._function(name, name, arguments, table) for name, arguments in STREAM_FUNCTIONS.items()}
        for name, arguments in STORE_FUNCTIONS.items():
            functions[name] = {kind: self._function(f"{kind}_{name}", name, arguments, table) for kind in stores}
        del functions["clear_state"]
        return functions

    def _function(self, label: str, name: str, arguments: tuple[str, ...], memory: Any) -> Any:
        types = (ctypes.c_char_p if argument == "text" else ctypes.c_int64 for argument in arguments)
        kind = ctypes.PYFUNCTYPE(ctypes.c_int64 if name in RETURNING else None, ctypes.c_void_p, *types)
        function = kind((f"callsieve_{label}", self._library))
        bound = partial(function, ctypes.addressof(memory))
        bound.memory = memory  # type: ignore[attr-defined] # keeps the address table alive
        return bound


def addresses(arrays: Iterable[Any]) -> Any:
    """Returns addresses and lengths of arrays as the library takes them; the arrays must outlive it."""
    words = [word for array in arrays for word in (address(array), len(array))]
    return (ctypes.c_int64 * len(words))(*words)


def table_address(array: Any, code: str) -> int:
    """Returns the address of a flat NumPy array; 0 for an empty one."""
    if not len(array):
        return 0
    interface = array.__array_interface__
    if (len(interface["shape"]), interface["strides"], interface["typestr"][1:]) != (1, None, ELEMENTS[code]):
        raise ValueError(f"array: expected contiguous {ELEMENTS[code]}, got {array.dtype} of shape {array.shape}")
    return int(interface["data"][0])


def integer_arguments(name: str) -> tuple[str, ...]:
    """Returns the arguments of a function of `table_pass.py`, without the last one, the arrays of a task."""
    code = getattr(table_pass, name).__code__
    return tuple(code.co_varnames[: code.co_argcount - 1])


@cache
def library() -> Library | None:
    """Returns the library; None, with a warning, if it was not built, or from other sources."""
    try:
        loaded = Library(FOLDER / "kernel.library")
    except (OSError, ValueError, AttributeError):
        loaded = None
    if loaded is None or loaded.version != fingerprint():
        warn_of_slow_python()
        return None
    return loaded


def laid_out(kind: Kind) -> tuple[str, ...]:
    """Returns the constants of a kind's kernel that depend on the choice of features, in order."""
    whole, least = layout(kind, FEATURES), layout(kind, ())
    return tuple(name for name, value in whole.items() if value != least[name])


def fingerprint() -> str:
    """Returns the hash of all sources that the library is built from, and of what generates its programs."""
    folders = (HERE.parents[1] / name for name in ("catalogue", "codegen", "kernel", "stream"))
    files = (path for folder in folders for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


Functions = dict[str, Callable[..., None]]


def shared_functions() -> Functions:
    """Returns the functions that all kinds of history share, by name; see `Library.table_function`."""
    return _shared_functions(library())


def table_engine(kind: Kind, features: tuple[Feature, ...]) -> SimpleNamespace:
    """Returns constants and functions that write the features of a kind of history.

    The whole of a kind has a compiled program of its own. Another one serves all other choices: it reads the constants
    that depend on the choice from the array `layout`.
    """
    return _table_engine(library(), kind.name, features)


@cache
def _shared_functions(library: Library | None) -> Functions:
    if library is None:
        return {name: _on_views(getattr(table_pass, name)) for name in SHARED_FUNCTIONS}
    return {name: library.table_function(name, name) for name in SHARED_FUNCTIONS}


@lru_cache(maxsize=64)
def _table_engine(library: Library | None, name: str, features: tuple[Feature, ...]) -> SimpleNamespace:
    kind = next(own for own in KINDS if own.name == name)
    constants, _ = assemble.declarations(kind, features)
    whole = is_whole(kind, features)
    if library is None:
        functions = vars(assemble.kernel(kind, features))
        own = {function: _on_views(functions[function]) for function in TABLE_FUNCTIONS}
    else:
        label = f"{'whole' if whole else 'chosen'}_{name}"
        own = {function: library.table_function(f"{label}_{function}", function) for function in TABLE_FUNCTIONS}
    firsts = [first_column(role, features) for role in kind.roles]
    if not whole:  # offsets of columns are from the first one of the table
        firsts = [min(first, 0) for first in firsts]
    offsets = [] if whole else [constants[constant] for constant in laid_out(kind)]
    return SimpleNamespace(**constants, **own, layout=offsets, first_columns=firsts)


def _on_views(function: Callable[..., object]) -> Callable[..., None]:

    def run(*integers: int, **arrays: Any) -> None:
        views = {name: memoryview(arrays[name]) if name in arrays else EMPTY for name in TASK}
        function(*integers, SimpleNamespace(**views))

    return run
