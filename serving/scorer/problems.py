"""Verdicts without a score: why a history does not fit a scorer, and counts and log lines of wrong input and faults."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from .status import Status

MAKE_HISTORY = "make it as History(scorer.history_features)"
REPEAT = 60.0  # seconds between two log lines of one status
_LOGGED: tuple[Status, ...] = ("wrong_input", "fault")
_PLACES = 8  # of an exception in the code


class ProblemLog:
    """Counts verdicts that a wrong input or a fault prevented, and logs each of the two at most once a minute.

    Attributes:
        counts: verdicts by status.
    """

    def __init__(self) -> None:
        self.counts: dict[Status, int] = dict.fromkeys(_LOGGED, 0)
        self._next = dict.fromkeys(_LOGGED, 0.0)

    def note(self, status: Status, message: str, case: str = "") -> None:
        """Counts a verdict, and logs its message if the last line of this status is a minute old.

        During the handling of an exception, the line of a fault has its places in the code.
        """
        self.counts[status] += 1
        now = time.monotonic()
        if now >= self._next[status]:
            self._next[status] = now + REPEAT
            import logging  # a first verdict needs none, and the import takes as long as several verdicts

            where = places(sys.exc_info()[2]) if status == "fault" else ""
            message = f"{message} at {where}" if where else message
            line = "%s: %s; calls with this status so far: %d"
            logging.getLogger("callsieve.serving").warning(
                line, status, message, self.counts[status], extra={"case": case}
            )


def places(trace: TracebackType | None) -> str:
    """Returns the innermost places in the code of an exception, the innermost first; "" without one.

    Log lines have them in place of the exception's text, which could contain a number.
    """
    import traceback

    frames = reversed(traceback.extract_tb(trace)[-_PLACES:])
    return " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)


def misfit(history: object, features: Sequence[str], lacking: Sequence[str]) -> str:
    """Returns why a history does not fit a scorer; "" if it does."""
    names = getattr(history, "features", None)
    if names == features:
        own = ", ".join(lacking)
        return f"columns: the model has own columns: {own}; load it with Scorer.load(columns=...)" if own else ""
    if names is None:
        return f"history: expected a History, got {kind(history)}; {MAKE_HISTORY}"
    if sorted(names) == sorted(features):
        return f"history: its features are in another order than the model's; {MAKE_HISTORY}"
    return f"history: it was made for other features; {MAKE_HISTORY}"


def kind(value: object) -> str:
    """Returns the name of a value's type, which shows nothing of the value."""
    return type(value).__name__
