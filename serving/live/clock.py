"""The time of day on a machine whose clock may jump."""

from __future__ import annotations

import time

STEP = 1.0  # seconds: smaller corrections of the clock are followed at once
SETTLED = 600.0  # seconds after which a jump is believed


class Clock:
    """The time of day, kept by the monotonic clock. A jump is believed after it has lasted for SETTLED seconds."""

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
