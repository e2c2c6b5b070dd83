"""The time of day, robust to jumps of the machine's clock."""

from __future__ import annotations

import time

STEP = 1.0  # seconds; smaller corrections of the clock are accepted at once
SETTLED = 600.0  # seconds after which a jump is accepted


class Clock:
    """The time of day by the monotonic clock. A jump of the machine's clock is accepted after SETTLED seconds."""

    def __init__(self) -> None:
        self._wall, self._steady, self._odd_since = time.time(), time.monotonic(), 0.0

    def now(self) -> float:
        """Returns Unix seconds."""
        wall, steady = time.time(), time.monotonic()
        expected = self._wall + steady - self._steady
        if abs(wall - expected) > STEP:
            self._odd_since = self._odd_since or steady
            if steady - self._odd_since < SETTLED:
                return expected
        self._wall, self._steady, self._odd_since = wall, steady, 0.0
        return wall
