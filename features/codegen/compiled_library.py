"""The kernel as C, if it was built: a shared library without Python, next to this file (`setup.py` builds it).

It runs streams and tables of the whole catalogue; Numba runs other choices of features. It contains the fingerprint of
its sources; a library of other sources is ignored.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

from callsieve.features.catalogue import FEATURES
from callsieve.features.kernel import number_scan, windows
from callsieve.features.stream import call_store

from . import assemble
from .feature_program import KINDS
from .memory_layout import Arrays

EVENT_ARGUMENTS = ("outcome", "released_by", "hour", "day", "step", "same_region", "ring")
# Exported functions of a stream with their arguments apart from memory, and those of each kind of history.
STREAM_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "vector": ("at", "day", "caller", "callee", "facts"),
    "store_call": ("start", "known_at", "caller", "callee", *EVENT_ARGUMENTS),
    "end_call": ("place", "moment", "talk", "known_at", *EVENT_ARGUMENTS),
    "restart_call": ("place", "known_at", "least", *EVENT_ARGUMENTS),
    "replace_end": ("place", "moment", "talk", "known_at", *EVENT_ARGUMENTS),
    "set_later_route": ("place",),
    "find_call": ("start", "caller", "callee"),
    "advance": ("at",),
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
# Exports of a table: array type codes of a task and of its scratch, and the functions of each kind of history.
TASK = {"offsets": "q", "views": "q", "records": "q", "notes": "i", "out": "d", "owners": "i"}
SCRATCH = ("i", "q", "q", "q", "q", "i", "i", "i", "i", "i", "q", "i")
TABLE_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "replay": ("first", "last", "width", "out_column", "in_column"),
    "emit_notes": ("first", "last", "width", "column"),
    "copy_first_owner": (),
}
RETURNING = {
    "restart_call",
    "replace_end",
    "store_call",
    "find_call",
    "oldest_call",
    "allocate_key",
    "find_key",
    "set_token",
}  # these return an integer, the others nothing
HERE = Path(__file__)
FOLDER = HERE.parent
EMPTY: tuple[()] = ()


class Library:
    """The loaded library."""

    def __init__(self, path: Path) -> None:
        """Loads the library.

        Raises:
            OSError, ValueError: if the file is not such a library.
        """
        # Not CDLL: releasing the GIL for some microseconds would hand it to another thread at each call.
        self._library = ctypes.PyDLL(str(path))
        self._count = self._library.callsieve_count_numbers
        self._count.argtypes, self._count.restype = (ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64), ctypes.c_int64
        self.version = (ctypes.c_char * 64).in_dll(self._library, "callsieve_version").value.decode()

    def count_numbers(self, text: bytes, form: int) -> int:
        """Counts the numbers of a form in a text, see `number_scan.count_numbers`."""
        return self._count(text, len(text), form)  # type: ignore[no-any-return]

    def table(self, kind: str) -> dict[str, Any]:
        """Returns the functions of a table for a kind of history; they release the GIL while they run."""
        releasing = ctypes.CDLL(self._library._name)
        functions = {name: getattr(releasing, f"callsieve_{kind}_{name}") for name in TABLE_FUNCTIONS}
        for name, function in functions.items():
            function.restype, function.argtypes = (
                None,
                [ctypes.c_void_p, *[ctypes.c_int64] * len(TABLE_FUNCTIONS[name])],
            )

        def replay(
            first: int,
            last: int,
            offsets: Any,
            views: Any,
            records: Any,
            scratch: Any,
            notes: Any,
            out: Any,
            width: int,
            out_column: int,
            in_column: int,
        ) -> None:
            task = addresses((offsets, views, records, notes, out, EMPTY, *scratch))
            functions["replay"](ctypes.addressof(task), first, last, width, out_column, in_column)

        def emit_notes(first: int, last: int, notes: Any, out: Any, width: int, column: int) -> None:
            task = addresses((EMPTY, EMPTY, EMPTY, notes, out, EMPTY, *[EMPTY] * len(SCRATCH)))
            functions["emit_notes"](ctypes.addressof(task), first, last, width, column)

        def copy_first_owner(offsets: Any, views: Any, records: Any, owners: Any) -> None:
            task = addresses((offsets, views, records, EMPTY, EMPTY, owners, *[EMPTY] * len(SCRATCH)))
            functions["copy_first_owner"](ctypes.addressof(task))

        return {"replay": replay, "emit_notes": emit_notes, "copy_first_owner": copy_first_owner}

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


def address(array: Any) -> int:
    """Returns the address of an array; 0 for an empty one."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array)) if len(array) else 0


@cache
def library() -> Library | None:
    """Returns the library; None if it was not built, or from other sources."""
    try:
        loaded = Library(FOLDER / "kernel.library")
    except (OSError, ValueError, AttributeError):
        return None
    return loaded if loaded.version == fingerprint() else None


@cache
def table_declarations() -> tuple[tuple[dict[str, int], str], ...]:
    """Returns `assemble.declarations` of each kind of history for all features."""
    return tuple(assemble.declarations(kind, FEATURES) for kind in KINDS)


def fingerprint() -> str:
    """Returns the hash of everything that the library is built from."""
    generated = [
        repr(part) for part in (table_declarations(), assemble.stream_declarations(), assemble.columns(FEATURES))
    ]
    sources = (HERE.with_name("c_source.py"), Path(str(number_scan.__file__)), HERE)
    texts = [path.read_text(encoding="utf-8") for path in sources]
    pieces = [assemble.version(), *texts, *generated]
    return hashlib.sha256("\0".join(pieces).encode()).hexdigest()
