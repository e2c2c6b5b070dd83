"""Counts and log lines of verdicts without a score, so that a wrongly wired scorer is noticed."""

from __future__ import annotations

import time

from .status import Status

REPEAT = 60.0  # seconds between two log lines of one status
_LOGGED: tuple[Status, ...] = ("wrong_input", "fault")


class ProblemLog:
    """Counts verdicts that a wrong input or a fault prevented, and logs each of the two at most once a minute.

    Attributes:
        counts: verdicts by status.
    """

    def __init__(self) -> None:
        self.counts: dict[Status, int] = dict.fromkeys(_LOGGED, 0)
        self._next = dict.fromkeys(_LOGGED, 0.0)

    def note(self, status: Status, message: str) -> None:
        """Counts a verdict, and logs its message if the last line of this status is a minute old.

        Args:
            message: without any value of the call, which could be a number.
        """
        self.counts[status] += 1
        now = time.monotonic()
        if now >= self._next[status]:
            self._next[status] = now + REPEAT
            import logging  # a first verdict needs none, and the import takes as long as several verdicts

            line = "%s: %s; calls with this status so far: %d"
            logging.getLogger("callsieve.serving").warning(line, status, message, self.counts[status])
