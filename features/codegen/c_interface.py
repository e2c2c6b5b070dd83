"""Shared by the libraries of kernel and forest: the address of an array, and the warning that a library is missing."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def address(array: Any) -> int:
    """Returns the address of an array; 0 for an empty one."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array)) if len(array) else 0


@cache
def warn_of_slow_python() -> None:
    """Logs once a process that a compiled library is missing."""
    import logging  # takes longer to import than the library to load

    logging.getLogger("callsieve.features").warning(
        "callsieve computes in interpreted Python, many times slower: a compiled library is missing, or is not built "
        "from these sources. Install again where a C compiler or the package index is at hand: "
        "pip install --force-reinstall --no-deps callsieve (in a clone: pip install -e .)"
    )
