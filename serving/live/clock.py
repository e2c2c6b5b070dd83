"""The time of day, where it may jump."""

from __future__ import annotations

import time

STEP = 1.0  # seconds: a clock that is set right in small steps is followed
SETTLED = 600.0  # seconds


class Clock:
    """The time of day by a clock that does not jump. A jump is believed when it has lasted for SETTLED seconds."""

    def __init__(self) -> None:
        self._wall, self._steady, self._odd_since = time.time(), time.monotonic(), 0.0

    def now(self) -> float:
        """Unix seconds."""
        wall, steady = time.time(), time.monotonic()
        expected = self._wall + steady - self._steady
        if abs(wall - expected) > STEP:
            self._odd_since = self._odd_since or steady
            if steady - self._odd_since < SETTLED:
                return expected
        self._wall, self._steady, self._odd_since = wall, steady, 0.0
        return wall
