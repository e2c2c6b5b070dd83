"""Loads `forest.c` as a shared library without Python in it, if it was built (`setup.py`)."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from ctypes import c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from callsieve.features.codegen.c_interface import warn_of_slow_python

HERE = Path(__file__)
FOLDER = HERE.parent
DONE, NO_MEMORY = -1, -2
"""Results of the functions below; another one is the index of the first row with an infinite value."""

LAYOUT = ("node", "tree", "leaf", "bound", "number", "missing", "category", "source")
PATHS = ("share", "before", "point", "above", "rule")
INDEX = ("cut", "span", "set", "order")
_COUNTS = ("width", "classes", "trees", "numbers", "categories", "columns", "numeric", "most_nodes", "sets")


class Arrays(ctypes.Structure):
    """`Forest` of `forest.c`: counts, then addresses of the arrays of a `Layout`, of `Paths` and of the index."""

    _fields_ = (*((name, c_int64) for name in _COUNTS), *((name, c_void_p) for name in (*LAYOUT, *PATHS, *INDEX)))


class Functions(NamedTuple):
    """The functions that evaluate a forest, compiled or in NumPy.

    Attributes:
        scores, explain: take the addresses of a forest and of rows, their number, and the address of their results.
        score: takes the addresses of a forest, of one row and of its result.
    """

    scores: Callable[[int, int, int, int], int]
    score: Callable[[int, int, int], int]
    explain: Callable[[int, int, int, int], int]


class Library(NamedTuple):
    """The functions of `forest.c`: `of` to evaluate, `check` for a file, `paths` to explain, `cuts` for an index."""

    of: Functions
    check: Callable[..., Any]
    paths: Callable[..., Any]
    cuts: Callable[..., Any]


# Results and arguments: p is an address, i an integer.
_TYPES = {
    "scores": (c_int64, "ppip"),
    "score": (c_int64, "ppp"),
    "explain": (c_int64, "ppip"),
    "check": (c_int64, "pp"),
    "paths": (c_int64, "pppppp"),
    "cuts": (c_int64, "pppppp"),
}


@cache
def library() -> Library | None:
    """Returns the compiled functions; None, with a warning, if they were not built, or from another source."""
    path = FOLDER / "forest.library"
    try:
        # One row is scored with the GIL: releasing it for some microseconds would hand it to another thread each time.
        keeping, releasing = ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
        version = ctypes.c_uint64.in_dll(keeping, "callsieve_forest_version").value
    except (OSError, ValueError):
        version = None
    if version != fingerprint():
        warn_of_slow_python()
        return None
    functions = {}
    for name, (result, arguments) in _TYPES.items():
        functions[name] = getattr(keeping if name == "score" else releasing, f"callsieve_forest_{name}")
        functions[name].restype = result
        functions[name].argtypes = [c_void_p if kind == "p" else c_int64 for kind in arguments]
    return Library(Functions(*(functions.pop(name) for name in Functions._fields)), **functions)


def fingerprint() -> int:
    """Returns the first 64 bits of the SHA-256 of the source, which the compiled library contains."""
    return int(hashlib.sha256(HERE.with_name("forest.c").read_bytes()).hexdigest()[:16], 16)
