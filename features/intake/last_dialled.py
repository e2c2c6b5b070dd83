"""Whom the callers of tables dialled last, as arrays: a table has many callers, and most come again in the next one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from callsieve.features.records import UNKNOWN

Ints = npt.NDArray[np.signedinteger[Any]]


class Dialled:
    """Ids of numbers, by the places of their callers' tokens. `fresh` of the callers are noted nowhere else."""

    def __init__(self) -> None:
        self.fresh = 0
        self._callee = np.empty(0, dtype=np.int32)
        self._moment = np.empty(0, dtype=np.int64)
        self._moments = 0

    def last(self, callers: Ints) -> Ints:
        """Whom callers dialled last; UNKNOWN where none is noted."""
        more = int(callers.max(initial=-1)) + 1 - len(self._callee)
        if more > 0:
            self._callee = np.concatenate((self._callee, np.full(more, UNKNOWN, dtype=np.int32)))
            self._moment = np.concatenate((self._moment, np.zeros(more, dtype=np.int64)))
        return self._callee[callers]

    def note(self, callers: Ints, callees: Ints, fresh: int) -> None:
        """Note whom each of these callers dialled last, who dialled longest ago first; `last` was asked of them."""
        self.fresh += fresh
        self._callee[callers] = callees
        self._moment[callers] = np.arange(self._moments, self._moments + len(callers))
        self._moments += len(callers)

    def taken(self) -> tuple[Ints, Ints]:
        """Callers and whom they dialled last, who dialled longest ago first; nothing is noted any more."""
        callers = np.flatnonzero(self._callee != UNKNOWN)
        callers = callers[np.argsort(self._moment[callers])]
        callees = self._callee[callers]
        self._callee[:], self.fresh = UNKNOWN, 0
        return callers, callees
