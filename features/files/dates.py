"""The current time, and days, times and time zones as a person writes them."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from .masking import masked

HOUR, DAY = 3_600_000, 86_400_000  # milliseconds

EPOCH = date(1970, 1, 1)
MAX_DAYS = 36_500


def now_ms() -> int:
    """Returns the current time in Unix milliseconds."""
    return round(time.time() * 1000)


def utc_text(milliseconds: float | None = None) -> str:
    """Returns a time in Unix milliseconds, by default the current one, as text in UTC with whole seconds.

    >>> utc_text(1741536000999)
    '2025-03-09T16:00:00Z'
    """
    seconds = time.time() if milliseconds is None else milliseconds / 1000
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def checked_days(days: float) -> float:
    """Returns the value of an option `--valid-days` unchanged."""
    if not 0 < days <= MAX_DAYS:
        raise ValueError(f"--valid-days: expected more than 0 and at most {MAX_DAYS:,}, got {days:g}")
    return days


def parse_day(text: str, what: str) -> date:
    """Parses a day such as 2026-03-01."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{what}: expected a day such as 2026-03-01, got {masked(text)[:40]!r}") from None


def parse_time(text: str, what: str) -> datetime:
    """Parses a date and time with its zone: without a zone, the result would depend on the machine."""
    try:
        parsed = datetime.fromisoformat(text)
        if parsed.tzinfo is None:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{what}: expected a time with its zone such as 2026-03-01T00:00:00Z, got {masked(text)[:40]!r}"
        ) from None
    return parsed


def time_zone(name: str) -> ZoneInfo:
    """Returns the time zone of this name.

    >>> time_zone("Asia/Shanghai")
    zoneinfo.ZoneInfo(key='Asia/Shanghai')
    """
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError, TypeError) as error:  # LookupError: ZoneInfoNotFoundError
        raise ValueError(f"unknown time zone {name!r}, expected one such as 'Asia/Shanghai'") from error
