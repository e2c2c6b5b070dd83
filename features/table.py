"""Offline: the vectors of every call of a table at once.

The three files of the kernel are plain Python; `compiled` makes Numba versions of their functions. Each is copied with
a namespace in which the names of the others mean the compiled ones, so that one source serves both drivers. The
cache of machine code lives in a folder named after the hash of the three sources: Numba alone would not notice that a
function compiled into another one has changed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import replay, values, windows
from .catalogue import CALL_FACTS, FEATURES, program
from .records import (
    ATTESTATIONS,
    KEYED_COLUMNS,
    NUMBER_CLASSES,
    OUTCOMES,
    RELEASED_BY,
    ROUTES,
    STEPS,
    UNKNOWN,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]

KERNEL: tuple[ModuleType, ...] = (windows, values, replay)
CATEGORIES = {
    "outcome": OUTCOMES,
    "released_by": RELEASED_BY,
    "caller_class": NUMBER_CLASSES,
    "callee_class": NUMBER_CLASSES,
    "attestation": ATTESTATIONS,
    "route": ROUTES,
    "step": STEPS,
}


@cache
def compiled() -> dict[str, Any]:
    """The kernel's functions, compiled by Numba on first use; they release the interpreter's lock."""
    try:
        import numba
    except ImportError as error:
        raise ImportError("features of whole tables need Numba: pip install 'callsieve[train]'") from error
    source = b"".join(Path(str(module.__file__)).read_bytes() for module in KERNEL)
    folder = f"callsieve-{os.getuid()}-{hashlib.sha256(source).hexdigest()[:16]}"
    namespace: dict[str, Any] = {"__name__": __name__}
    for module in KERNEL:
        namespace |= {name: value for name, value in vars(module).items() if not name.startswith("__")}
    kept, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(Path(tempfile.gettempdir()) / folder)
    try:
        for name, function in list(namespace.items()):
            if isinstance(function, FunctionType):
                copy = FunctionType(function.__code__, namespace, name)
                copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
                namespace[name] = numba.njit(cache=True, nogil=True, _nrt=False)(copy)
    finally:
        numba.config.CACHE_DIR = kept
    return namespace


def codes(column: pa.ChunkedArray, words: tuple[str, ...]) -> Array:
    """Index of each value among `words`; UNKNOWN for null. Raises ValueError on any other word."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = column.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    found = pc.index_in(encoded.dictionary, value_set=pa.array(words))
    if found.null_count:
        value = encoded.dictionary.filter(pc.is_null(found))[0].as_py()
        raise ValueError(f"unknown word {value!r}: expected one of {', '.join(words)}")
    lookup = np.append(np.asarray(found, dtype=np.int64), UNKNOWN)
    return np.asarray(lookup[np.asarray(encoded.indices.fill_null(len(found)))])


def integers(column: pa.ChunkedArray) -> Array:
    """A column of integers, UNKNOWN for null."""
    return np.asarray(column.fill_null(UNKNOWN).to_numpy(), dtype=np.int64)


def party_codes(calls: pa.Table) -> tuple[Array, int]:
    """Caller and callee of each call as dense integers, shape (n, 2), and how many numbers there are."""
    import pyarrow as pa

    both = [chunk for name in ("caller", "callee") for chunk in calls[name].chunks]
    text = [chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode() for chunk in both]
    column = pa.chunked_array(text, type=pa.dictionary(pa.int32(), pa.string())).unify_dictionaries().combine_chunks()
    indices = np.asarray(column.indices, dtype=np.int64)
    return np.ascontiguousarray(indices.reshape(2, -1).T), len(column.dictionary)


def group_by_number(parties: Array, order: Array, numbers: int) -> tuple[Array, Array]:
    """Views (2 * call + direction) grouped by number, each group in the given order of calls; and group offsets."""
    views = (2 * order[:, None] + np.arange(2)).ravel()
    owners = parties.ravel()[views]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=numbers))])
    return views[np.argsort(owners, kind="stable")], offsets


def known_times(start: Array, end: Array, recorded: Array, ended: Array) -> tuple[Array, Array]:
    """When attempt and outcome became known: at start and end, or both when a late record came in."""
    late = ended & (recorded > end)
    return np.where(late, recorded, start), np.where(ended, np.where(late, recorded, end), windows.NONE)


def call_facts(calls: pa.Table) -> Array:
    """Facts of each call in the order of CALL_FACTS, int64 of shape (n, len(CALL_FACTS))."""
    facts = np.empty((calls.num_rows, len(CALL_FACTS)), dtype=np.int64)
    for i, (name, levels) in enumerate(CALL_FACTS.items()):
        if name == "weekday":
            facts[:, i] = (integers(calls["day"]) + 3) % 7  # 1970-01-01 was a Thursday
        else:
            facts[:, i] = codes(calls[name], levels) if levels else integers(calls[name])
    return facts


def scratch(largest: int) -> tuple[Array, ...]:
    """Working memory of `replay` for a number with `largest` calls."""
    table = 1 << (2 * largest).bit_length()
    sizes = (
        windows.STATE,
        largest * windows.FIELDS,
        largest,
        largest,
        8 * largest,
        largest * windows.PAIR,
        2 * largest,
        largest,
        table,
        2 * largest + 1,
        2 * largest + 1,
    )
    return tuple(np.empty(size, dtype=np.int64) for size in sizes)


def vectors(calls: pa.Table, *, threads: int | None = None) -> Array:
    """Feature vectors of every call as of its start, from all calls of the table that were known before.

    Args:
        calls: keyed calls, columns `records.KEYED_COLUMNS`, in any order.
        threads: how many cores; all by default. The result does not depend on it.
    Returns: float64 (calls, len(FEATURES)), rows in the order of `calls`; NaN where a value is unknown.
    Raises: ValueError: if a column is missing or holds an unknown word.
    """
    import joblib

    missing = [name for name in KEYED_COLUMNS if name not in calls.column_names]
    if missing:
        raise ValueError(f"calls: expected the columns of a keyed table, {', '.join(missing)} missing")
    out = np.empty((calls.num_rows, len(FEATURES)))
    if calls.num_rows == 0:
        return out
    start, ring, talk = (integers(calls[name]) for name in ("start", "ring", "talk"))
    recorded = integers(calls["recorded"])
    ended = (ring >= 0) & (talk >= 0)
    end = np.where(ended, start + ring + talk, start)
    attempts_known, outcomes_known = known_times(start, end, recorded, ended)
    outcome, released_by, step = (codes(calls[n], CATEGORIES[n]) for n in ("outcome", "released_by", "step"))
    hour, day, same_region = (integers(calls[n]) for n in ("hour", "day", "same_region"))
    packed = windows.pack(outcome, released_by, hour, day, step, same_region, ring)
    parties, numbers = party_codes(calls)
    # A record that was known earlier counts where two tell of the same call.
    views, offsets = group_by_number(parties, np.lexsort((attempts_known, start)), numbers)
    workers = threads or os.cpu_count() or 1
    bounds = np.searchsorted(offsets, np.linspace(0, 2 * calls.num_rows, 8 * workers + 1))
    facts = call_facts(calls).ravel()
    steps = np.array(program(), dtype=np.int64)
    run = compiled()["replay"]

    def part(first: int, last: int) -> None:
        largest = int(np.diff(offsets[first : last + 1]).max(initial=1))
        run(
            first, last, offsets, views, start, end, np.maximum(talk, 0), packed, attempts_known, outcomes_known,
            parties.ravel(), facts, len(CALL_FACTS), steps, len(FEATURES), scratch(largest), out.reshape(-1),
        )  # fmt: skip

    # Threads suffice: the compiled kernel lets go of the interpreter's lock.
    joblib.Parallel(workers, require="sharedmem")(
        joblib.delayed(part)(first, last) for first, last in pairwise(bounds.tolist())
    )
    return out
