"""The number that each caller of the tables dialled last, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from callsieve.features.records import UNKNOWN

Ints = npt.NDArray[np.signedinteger[Any]]


class LastDialled:
    """Ids of last dialled numbers, by the codes of their callers' tokens.

    `new_callers` counts callers that have no last dialled number in `NumberMemory`.
    """

    def __init__(self) -> None:
        self.new_callers = 0
        self._callee = np.empty(0, dtype=np.int32)
        self._time = np.empty(0, dtype=np.int64)  # of the record, as a counter
        self._clock = 0

    def get(self, callers: Ints) -> Ints:
        """Returns the last dialled number of each caller, UNKNOWN if none is recorded; makes room for the callers."""
        more = int(callers.max(initial=-1)) + 1 - len(self._callee)
        if more > 0:
            self._callee = np.concatenate((self._callee, np.full(more, UNKNOWN, dtype=np.int32)))
            self._time = np.concatenate((self._time, np.zeros(more, dtype=np.int64)))
        return self._callee[callers]

    def put(self, callers: Ints, callees: Ints, new_callers: int) -> None:
        """Records the last dialled number of callers that were passed to `get`, in order of time."""
        self.new_callers += new_callers
        self._callee[callers] = callees
        self._time[callers] = np.arange(self._clock, self._clock + len(callers))
        self._clock += len(callers)

    def take_all(self) -> tuple[Ints, Ints]:
        """Returns callers and their last dialled numbers, oldest record first, and removes them."""
        callers = np.flatnonzero(self._callee != UNKNOWN)
        callers = callers[np.argsort(self._time[callers])]
        callees = self._callee[callers]
        self._callee[:], self.new_callers = UNKNOWN, 0
        return callers, callees
