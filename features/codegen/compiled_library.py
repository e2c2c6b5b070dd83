"""The kernel as C, if it was built: a library without Python in it, beside this file (`setup.py` builds it).

Streams run it, and tables of the whole catalogue; other choices of features are Numba's. It is of one version of the
sources: a library of any other one is left alone.
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

SAID = ("outcome", "released_by", "hour", "day", "step", "same_region", "ring")
# What the library offers: functions of a stream, by the arguments that are not memory, and of each kind of history.
OF_STREAM: dict[str, tuple[str, ...]] = {
    "vector": ("at", "day", "caller", "callee", "facts"),
    "keep": ("start", "known", "caller", "callee", *SAID),
    "end": ("place", "moment", "talk", "known", *SAID),
    "find": ("start", "caller", "callee"),
    "advance": ("at",),
    "oldest": (),
    "drop": ("place",),
    "fill_index": (),
    "fill_routes": (),
}
OF_BOOK: dict[str, tuple[str, ...]] = {
    "new_key": (),
    "free_key": ("key",),
    "fill_pairs": (),
    "clear": (),
    "key_of_token": ("text", "length"),
    "name_key": ("key", "text", "length"),
    "unname_key": ("key",),
}
# What it offers of a table: arrays by their codes, those of `scratch`, and the functions of each kind of history.
TASK = {"offsets": "q", "views": "q", "records": "q", "notes": "i", "out": "d", "owners": "i"}
SCRATCH = ("i", "q", "q", "q", "q", "i", "i", "i", "i", "i", "q", "i")
OF_TABLE: dict[str, tuple[str, ...]] = {
    "replay": ("first", "last", "width", "out_column", "in_column"),
    "spell_rows": ("first", "last", "width", "column"),
    "follow_first": (),
}
GIVES = {"keep", "find", "oldest", "new_key", "key_of_token", "name_key"}  # an integer; the others give nothing
HERE = Path(__file__)
FOLDER = HERE.parent
NOTHING: tuple[()] = ()


class Library:
    """The library."""

    def __init__(self, path: Path) -> None:
        """Raises: OSError, ValueError: if it is none."""
        # Not CDLL: to let go of the interpreter's lock for some microseconds would hand it to another thread each time.
        self._library = ctypes.PyDLL(str(path))
        self._count = self._library.callsieve_count_numbers
        self._count.argtypes, self._count.restype = (ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64), ctypes.c_int64
        self.version = (ctypes.c_char * 64).in_dll(self._library, "callsieve_version").value.decode()

    def count_numbers(self, text: bytes, form: int) -> int:
        """As `digits.count_numbers`."""
        return self._count(text, len(text), form)  # type: ignore[no-any-return]

    def table(self, kind: str) -> dict[str, Any]:
        """The functions of a table for a kind of history; the interpreter's lock is let go of while they run."""
        free = ctypes.CDLL(self._library._name)
        named = {name: getattr(free, f"callsieve_{kind}_{name}") for name in OF_TABLE}
        for name, function in named.items():
            function.restype, function.argtypes = None, [ctypes.c_void_p, *[ctypes.c_int64] * len(OF_TABLE[name])]

        def replay(
            first: int, last: int, offsets: Any, views: Any, records: Any, scratch: Any, notes: Any, out: Any,
            width: int, out_column: int, in_column: int,
        ) -> None:  # fmt: skip
            task = addresses((offsets, views, records, notes, out, NOTHING, *scratch))
            named["replay"](ctypes.addressof(task), first, last, width, out_column, in_column)

        def spell_rows(first: int, last: int, notes: Any, out: Any, width: int, column: int) -> None:
            task = addresses((NOTHING, NOTHING, NOTHING, notes, out, NOTHING, *[NOTHING] * len(SCRATCH)))
            named["spell_rows"](ctypes.addressof(task), first, last, width, column)

        def follow_first(offsets: Any, views: Any, records: Any, owners: Any) -> None:
            task = addresses((offsets, views, records, NOTHING, NOTHING, owners, *[NOTHING] * len(SCRATCH)))
            named["follow_first"](ctypes.addressof(task))

        return {"replay": replay, "spell_rows": spell_rows, "follow_first": follow_first}

    def bound(self, memory: Arrays) -> dict[str, Any]:
        """The functions, knowing this memory (memoryviews, which must outlive them)."""
        told = addresses(array for part in memory.values() for array in part.values())
        books = [kind.name for kind in KINDS]
        for name in books:
            self._function(f"{name}_clear", "clear", (), told)()
        memory["held"]["counts"][call_store.NOW] = windows.NEVER
        found = {name: self._function(name, name, given, told) for name, given in OF_STREAM.items()}
        for name, given in OF_BOOK.items():
            found[name] = {kind: self._function(f"{kind}_{name}", name, given, told) for kind in books}
        del found["clear"]
        return found

    def _function(self, label: str, name: str, given: tuple[str, ...], memory: Any) -> Any:
        types = (ctypes.c_char_p if each == "text" else ctypes.c_int64 for each in given)
        kind = ctypes.PYFUNCTYPE(ctypes.c_int64 if name in GIVES else None, ctypes.c_void_p, *types)
        function = kind((f"callsieve_{label}", self._library))
        found = partial(function, ctypes.addressof(memory))
        found.memory = memory  # type: ignore[attr-defined] # kept for as long as the function
        return found


def addresses(arrays: Iterable[Any]) -> Any:
    """Where arrays lie, and how long they are, as the library takes them; they must outlive it."""
    told = [word for array in arrays for word in (address(array), len(array))]
    return (ctypes.c_int64 * len(told))(*told)


def address(array: Any) -> int:
    """Where an array lies; 0 for an empty one."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array)) if len(array) else 0


@cache
def library() -> Library | None:
    """The library; None if it was not built, or of other sources."""
    try:
        found = Library(FOLDER / "kernel.library")
    except (OSError, ValueError, AttributeError):
        return None
    return found if found.version == fingerprint() else None


@cache
def declared() -> tuple[tuple[dict[str, int], str], ...]:
    """What `engine.declared` says of each kind of history, for all features."""
    return tuple(assemble.declared(kind, FEATURES) for kind in KINDS)


def fingerprint() -> str:
    """Hash of all that the library is made of."""
    written = [repr(each) for each in (declared(), assemble.live_declared(), assemble.columns(FEATURES))]
    sources = (HERE.with_name("c_source.py"), Path(str(number_scan.__file__)), HERE)
    texts = [path.read_text(encoding="utf-8") for path in sources]
    told = [assemble.version(), *texts, *written]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()
