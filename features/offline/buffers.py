"""Large arrays that tasks reuse: the first use of a page of memory costs more than filling it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from callsieve.features.arrays import Array

EMPTY = np.empty(0)


class Buffers:
    """Lends arrays of float64. A task that ends leaves its arrays to the next one."""

    def __init__(self) -> None:
        self._free: defaultdict[str, list[Array]] = defaultdict(list)  # threads share it: append and pop are atomic

    @contextmanager
    def lend(self, use: str, rows: int, columns: int) -> Iterator[Array]:
        """Lends an array (rows, columns) of undefined values until the end of the block.

        Args:
            use: name of a purpose whose arrays are of about the same size.
        """
        size = rows * columns
        try:
            buffer = self._free[use].pop()
        except IndexError:
            buffer = EMPTY
        if len(buffer) < size:
            buffer = np.empty(size + size // 2)  # the unused end takes no memory
        yield buffer[:size].reshape(rows, columns)
        self._free[use].append(buffer)

    def clear(self) -> None:
        """Frees all arrays that are not lent."""
        self._free.clear()
