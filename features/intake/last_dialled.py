"""`Dials` of the callers of tables, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from callsieve.features.arrays import Ints
from callsieve.features.records import UNKNOWN

from .dials import Dial, Dials
from .keyed_number import KeyedNumber


class LastDialled:
    """`Dials` of the callers of tables as arrays, by the codes of the callers' tokens.

    `new_callers` counts callers that `NumberMemory` does not remember.
    """

    def __init__(self) -> None:
        self.new_callers = 0
        # Row 0 is the fresh call, row 1 the settled one. A callee is an id of `NumberCache`, UNKNOWN for none.
        self._callee = np.empty((2, 0), dtype=np.int32)
        self._times = np.empty((2, 2, 0), dtype=np.int64)  # start and known
        self._step = np.empty((2, 0), dtype=np.int8)
        self._put = np.empty(0, dtype=np.int64)  # when it was last put, as a counter
        self._clock = 0

    def get(self, callers: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Returns callee, start, known and step of both calls of each caller, shape (2, callers); makes room for them.

        A callee is UNKNOWN where no call is remembered.
        """
        more = int(callers.max(initial=-1)) + 1 - self._callee.shape[1]
        if more > 0:
            self._callee = np.pad(self._callee, ((0, 0), (0, more)), constant_values=UNKNOWN)
            self._times = np.pad(self._times, ((0, 0), (0, 0), (0, more)))
            self._step = np.pad(self._step, ((0, 0), (0, more)))
            self._put = np.pad(self._put, (0, more))
        return self._callee[:, callers], self._times[0][:, callers], self._times[1][:, callers], self._step[:, callers]

    def put(self, callers: Ints, callee: Ints, start: Ints, known: Ints, step: Ints) -> None:
        """Remembers both calls of callers that were passed to `get`; the last caller is the one that called last."""
        self._callee[:, callers], self._step[:, callers] = callee, step
        self._times[0][:, callers], self._times[1][:, callers] = start, known
        self._put[callers] = np.arange(self._clock, self._clock + len(callers))
        self._clock += len(callers)

    def take_all(self, numbers: list[KeyedNumber]) -> tuple[Ints, Iterable[Dials]]:
        """Returns callers and their calls, the one that called first first, and forgets them."""
        callers = np.flatnonzero(self._callee[0] != UNKNOWN)
        callers = callers[np.argsort(self._put[callers])]
        values = [part.T.tolist() for part in self.get(callers)]
        self._callee[:], self.new_callers = UNKNOWN, 0
        return callers, (_as_dials(numbers, *row) for row in zip(*values, strict=True))


def _as_dials(numbers: list[KeyedNumber], *parts: list[int]) -> Dials:
    fresh, settled = (
        None if callee == UNKNOWN else Dial(start, known, numbers[callee], step)
        for callee, start, known, step in zip(*parts, strict=True)
    )
    assert fresh is not None  # noqa: S101 - only such callers are taken
    return Dials(fresh, settled)


def as_columns(dials: Iterable[Dials | None], ids: Callable[[Iterable[KeyedNumber | None]], list[int]]) -> list[Ints]:
    """Returns callee, start, known and step of both calls of each caller, shape (2, callers), as `LastDialled.get`."""
    pairs = [(None, None) if last is None else (last.fresh, last.settled) for last in dials]
    columns: list[list[list[int]]] = [[], [], [], []]
    for calls in zip(*pairs, strict=True) if pairs else ((), ()):
        columns[0].append(ids(call and call.callee for call in calls))
        columns[1].append([call.start if call else 0 for call in calls])
        columns[2].append([call.known if call else 0 for call in calls])
        columns[3].append([call.step if call else UNKNOWN for call in calls])
    return [np.array(column, dtype=np.int64).reshape(2, -1) for column in columns]
