"""Time zones by their names."""

from __future__ import annotations

from zoneinfo import ZoneInfo


def time_zone(name: str) -> ZoneInfo:
    """Returns the time zone of this name.

    Raises: ValueError: if there is no such zone.

    >>> time_zone("Asia/Shanghai")
    zoneinfo.ZoneInfo(key='Asia/Shanghai')
    """
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError) as error:  # LookupError: ZoneInfoNotFoundError
        raise ValueError(f"unknown time zone {name!r}, expected one such as 'Asia/Shanghai'") from error
