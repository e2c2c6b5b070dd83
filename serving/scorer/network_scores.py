"""A sample of the raw scores of a network's calls of the last seven days, from which its score level follows."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from threading import Lock
from typing import TYPE_CHECKING

from callsieve.features.kernel.windows import WEEK
from callsieve.serving.bundle.level import level_of

if TYPE_CHECKING:
    from callsieve.features.arrays import Array
    from callsieve.serving.bundle.metadata import Level

MOST_CALLS = 20_000
MEASURED_EVERY = 200  # sampled calls; a measurement takes about a millisecond


def sampled(calls: Array) -> Array:
    """Returns every n-th of an array, so that at most MOST_CALLS are left."""
    return calls[:: -(-len(calls) // MOST_CALLS) or 1]


class NetworkScores:
    """Every n-th score, with n such that a week has at most MOST_CALLS. Threads may share it.

    Attributes:
        shift: the shift by the latest measurement.

    >>> from callsieve.serving.bundle.metadata import Level
    >>> scores = NetworkScores(Level(5.0, 8.0))
    >>> for call in range(4000):
    ...     scores.add(call, 6.0 if call % 20 == 0 else -6.0)
    >>> scores.shift.amount
    -2.0
    """

    def __init__(self, level: Level) -> None:
        self._level, self._lock = level, Lock()
        self._start, self._raw = array("q"), array("d")
        self._step, self._seen = 1, 0
        self.shift = level.shift(None)

    def to_bytes(self) -> bytes:
        """Returns the sample, which `restore` takes again on the same kind of machine."""
        with self._lock:
            head = array("q", [self._step, self._seen, len(self._raw)])
            return head.tobytes() + self._start.tobytes() + self._raw.tobytes()

    def restore(self, data: bytes) -> None:
        """Replaces the sample by one of `to_bytes`. Raises ValueError for other bytes."""
        values = array("q", data[: len(data) // 8 * 8])
        step, seen, count = (*values[:3], 0, -1, -1)[:3]
        if 8 * (3 + 2 * count) != len(data) or step < 1 or seen < count:
            raise ValueError("scores of a network: expected the bytes of a sample")
        with self._lock:
            self._step, self._seen = step, seen
            self._start, self._raw = values[3 : 3 + count], array("d", values[3 + count :].tobytes())
            self.shift = self._level.shift(level_of(self._raw))

    def add(self, start: int, raw: float) -> None:
        """Adds the raw score of a call that starts at `start`, Unix ms."""
        with self._lock:
            self._seen += 1
            if self._seen % self._step:
                return
            self._start.append(start)
            self._raw.append(raw)
            if len(self._raw) >= MOST_CALLS:
                self._shrink(start)
            if self._seen // self._step % MEASURED_EVERY == 0:
                self.shift = self._level.shift(level_of(self._raw))

    def _shrink(self, now: int) -> None:
        old = bisect_left(self._start, now - WEEK)
        if old > MOST_CALLS // 2:
            self._start, self._raw = self._start[old:], self._raw[old:]
            self._step = max(self._step // 2, 1)
            return
        self._start, self._raw = self._start[old::2], self._raw[old::2]
        self._step *= 2
