"""The kernel put together: for a kind of history and a choice of features, compiled by Numba or as it stands.

The files of the kernel are plain Python. Their functions are copied into one namespace with the constants and the
functions of the program, so that each calls the ones written for it; Numba then compiles the copies. Machine code is
kept in the user's cache folder, in a folder named after the hash of all sources: Numba alone would not notice that a
function compiled into another one has changed. A table is Numba's, unless it is of the whole catalogue: that and a
stream are C that was compiled beforehand (`native.py`). Without C a stream runs as it stands.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

from callsieve.features.catalogue import FEATURES
from callsieve.features.catalogue.feature import Feature
from callsieve.features.files.ownership import only_we_may_write
from callsieve.features.kernel import formulas, group_state, heap, number_state, table_pass, windows
from callsieve.features.stream import (
    call_index,
    call_store,
    group_lists,
    hash_chains,
    key_store,
    number_lists,
    routes,
    stream_pass,
    time_order,
    token_table,
)

from . import feature_program, memory_layout, numba_support
from .feature_program import LIVE_KINDS, Kind

SIZES = ("CLOCK", "ENDS", "LISTS", "STREAMS", "SHIFT", "READ", "SUMS", "SLOTS", "STATE", "PAIR", "NOTES")
CACHE = "callsieve"
COMPILING = threading.Lock()  # where Numba keeps its machine code is said for the whole process
# The parts of a stream's kernel, and what its driver calls of numbers and of groups.
DRIVER = (windows, heap, hash_chains, call_store, time_order, routes, call_index, stream_pass)
OF_BOOKS = (hash_chains, table_pass, call_store, token_table, key_store)
LIVE = {
    "number": (windows, number_state, formulas, *OF_BOOKS, number_lists),
    "group": (windows, group_state, formulas, *OF_BOOKS, group_lists),
}
OF_BOOK = ("pair_of_keys", "new_pair", "release_pair", "use_key", "release_key")
CALLED = {
    "number": (*OF_BOOK, "let_in", "depart", "remove", "tell", "own_part", "calls_in", "fill_record", "fetch"),
    "group": (*OF_BOOK, "add", "tell", "place_of"),
}


def kernel(kind: Kind, features: tuple[Feature, ...], *, compiled: bool) -> SimpleNamespace:
    """Functions and constants of the kernel for a kind of history and these features.

    Raises: ImportError: if it is to be compiled and Numba is not installed.
    """
    constants, source = declared(kind, features)
    # Kinds with the same program share one kernel.
    return _built(kind.module, tuple(constants.items()), source, compiled=compiled)


def declared(kind: Kind, features: tuple[Feature, ...]) -> tuple[dict[str, int], str]:
    """The constants of a kind's kernel, and the source of its written functions."""
    written = feature_program.program(kind, features)
    own = vars(kind.module)
    places = written.constants.items()
    return {name: place for name, place in places if name in SIZES or own.get(name) == windows.NONE}, written.source


def modules_of(kind: ModuleType) -> tuple[ModuleType, ...]:
    """The files that make up the kernel of a kind's table, in their order."""
    return (windows, kind, formulas, heap, table_pass)


def stream_kernel() -> SimpleNamespace:
    """The driver of a stream of the whole catalogue as it stands; `of` holds the functions of numbers and of groups."""
    of = {}
    for name, (constants, source) in live_declared().items():
        of[name] = SimpleNamespace(**_together(LIVE[name], constants, source, compiled=False))
    given: dict[str, Any] = columns(FEATURES)
    for name, functions in CALLED.items():
        given |= {f"{name}_{each}": getattr(of[name], each) for each in functions}
    return SimpleNamespace(of=of, **_together(DRIVER, given, "", compiled=False))


@cache
def live_declared() -> dict[str, tuple[dict[str, int], str]]:
    """What `declared` says of numbers and of groups for the whole catalogue: blocks, trunks and devices are alike."""
    of_number, *of_groups = (declared(kind, FEATURES) for kind in LIVE_KINDS)
    if any(each != of_groups[0] for each in of_groups):
        raise ValueError("blocks, trunks and devices have the same features, or a stream needs a kernel for each")
    return {"number": of_number, "group": of_groups[0]}


def columns(features: tuple[Feature, ...]) -> dict[str, int]:
    """How wide a vector is, and where the features of each role begin in it."""
    first = {f"{feature.role.upper()}_COLUMN": i for i, feature in reversed(list(enumerate(features)))}
    return {"WIDTH": len(features)} | first


@cache
def version() -> str:
    """Hash of all sources of the kernel and of its memory: what another version laid out means something else."""
    parts = (*dict.fromkeys((*LIVE["number"], *LIVE["group"], *DRIVER)), feature_program, memory_layout)
    return hashlib.sha256(b"\0".join(Path(str(part.__file__)).read_bytes() for part in parts)).hexdigest()


@cache
def _built(
    module: ModuleType, constants: tuple[tuple[str, int], ...], source: str, *, compiled: bool
) -> SimpleNamespace:
    return SimpleNamespace(**_together(modules_of(module), dict(constants), source, compiled=compiled))


def _together(modules: tuple[ModuleType, ...], given: dict[str, Any], source: str, *, compiled: bool) -> dict[str, Any]:
    """The functions of the modules in one namespace with what is given and what the source writes."""
    namespace: dict[str, Any] = {"__name__": __name__, "nan": math.nan}
    for part in modules:
        namespace |= {name: value for name, value in vars(part).items() if _belongs(name, value, part)}
    namespace |= given
    # Written functions stand under the name of a real file: Numba keeps machine code of such functions only.
    exec(compile(source, str(feature_program.__file__), "exec"), namespace)  # noqa: S102 - our own text, from the catalogue
    names = [name for name, value in namespace.items() if isinstance(value, FunctionType) and name not in given]
    for name in names:
        namespace[name] = FunctionType(namespace[name].__code__, namespace, name)
        namespace[name].__module__ = __name__
    if compiled:
        _compile(namespace, names, b"".join(Path(str(part.__file__)).read_bytes() for part in modules), source)
    return {name: value for name, value in namespace.items() if not name.startswith("__")}


def _belongs(name: str, value: Any, module: ModuleType) -> bool:
    """Whether a module brings a name in: a function only where it is written, for `number.py` has its own of some."""
    if isinstance(value, FunctionType):
        return value.__module__ == module.__name__
    return not name.startswith("__")


def _compile(namespace: dict[str, Any], names: list[str], sources: bytes, written: str) -> None:
    try:
        import numba
    except ImportError as error:
        raise ImportError("a compiled kernel needs Numba: pip install 'callsieve[train]'") from error
    sources += Path(__file__).read_bytes() + Path(numba_support.__file__).read_bytes()
    constants = repr(sorted((name, value) for name, value in namespace.items() if type(value) in (int, tuple)))
    key = hashlib.sha256(b"\0".join((sources, written.encode(), constants.encode()))).hexdigest()[:16]
    folder = _cache_folder(key)
    with COMPILING:
        kept, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder or "")
        try:
            namespace["prefetch"] = numba_support.prefetch()
            for name in (name for name in names if name != "prefetch"):
                # Machine code of one process is linked by name, and code that was kept keeps its names.
                namespace[name].__qualname__ = f"{name}_{key}"
                # The kernel allocates nothing, so counting references would only cost time.
                options = {"cache": folder is not None, "nogil": True, "error_model": "numpy", "_nrt": False}
                namespace[name] = numba.njit(**options)(namespace[name])
        finally:
            numba.config.CACHE_DIR = kept


def _cache_folder(key: str) -> Path | None:
    """Where machine code of this kernel is kept: only the user's own folder will do, for it is run without a check."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / CACHE / key
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat()
    except (OSError, RuntimeError):
        return None
    return folder if only_we_may_write(owner) else None
