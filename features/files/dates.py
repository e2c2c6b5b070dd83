"""Moments: now, and days and times as a person writes them."""

from __future__ import annotations

import time
from datetime import date, datetime

from .masking import masked

HOUR, DAY = 3_600_000, 86_400_000  # milliseconds

EPOCH = date(1970, 1, 1)
MOST_DAYS = 36_500


def unix_now() -> int:
    """Unix milliseconds."""
    return round(time.time() * 1000)


def days_ahead(days: float) -> float:
    """How many days something is good for, as a person writes it.

    Raises:
        ValueError: in one line, if it would never be, or for longer than anybody can mean.
    """
    if not 0 < days <= MOST_DAYS:
        raise ValueError(f"--valid-days: expected more than 0 and at most {MOST_DAYS:,}, got {days:g}")
    return days


def day_in(text: str, what: str) -> date:
    """A day; `what` names it.

    Raises:
        ValueError: in one line, if it is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{what}: expected a day such as 2026-03-01, got {masked(text)[:40]!r}") from None


def moment_in(text: str, what: str) -> datetime:
    """A moment with its zone: without one it would be another on another machine; `what` names it.

    Raises:
        ValueError: in one line, if it is none.
    """
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{what}: expected a moment with its zone such as 2026-03-01T00:00:00Z, got {masked(text)[:40]!r}"
        ) from None
    return found
