"""Working days of China, from the State Council's notices in `working_days.toml`; deadlines are counted in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from callsieve.features.files.decode import Record, toml_as

FILE = "working_days.toml"


class Notice(Record, frozen=True):
    """The notice for one year: first and last day of each holiday, and the Saturdays and Sundays that are worked."""

    year: Annotated[int, Meta(ge=1949, le=9999)]
    source: str
    off: tuple[tuple[date, date], ...]
    working: tuple[date, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        # A holiday around New Year begins in the December before, in the notice of the new year.
        days = [*self.working, *(day for pair in self.off for day in pair)]
        if any(not date(self.year - 1, 12, 1) <= day <= date(self.year, 12, 31) for day in days):
            raise ValueError(f"notice of {self.year}: expected days of {self.year}")
        if any(first > last for first, last in self.off):
            raise ValueError(f"notice of {self.year}: off: expected the first and the last day of each holiday")
        if wrong := [day for day in self.working if day.weekday() < 5 or day in self.days_off]:
            raise ValueError(
                f"notice of {self.year}: working: expected Saturdays and Sundays outside the holidays, got {wrong[0]}"
            )

    @property
    def days_off(self) -> frozenset[date]:
        """Every day of the holidays."""
        return frozenset(
            first + timedelta(days=place) for first, last in self.off for place in range((last - first).days + 1)
        )


class _Notices(Record, frozen=True):
    """The content of a calendar file."""

    notice: Annotated[tuple[Notice, ...], Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class WorkingDays:
    """The working days of the years with a notice."""

    years: frozenset[int]
    off: frozenset[date]
    working: frozenset[date]

    def due(self, begin: date, days: int) -> date:
        """Returns the last day of a period of working days; the first one is the next working day after `begin`.

        >>> read_working_days().due(date(2026, 9, 30), 3)
        datetime.date(2026, 10, 10)
        """
        day = begin
        while days:
            day += timedelta(days=1)
            if day.year not in self.years:
                raise ValueError(
                    f"a deadline that begins on {begin} reaches {day.year}, and the calendar has no holidays of "
                    f"{day.year}; name a file with the State Council's notice for {day.year} as --calendar"
                )
            days -= day in self.working or (day.weekday() < 5 and day not in self.off)
        return day


def read_working_days(more: Path | None = None) -> WorkingDays:
    """Returns the working days of the shipped notices and of another file of the same form."""
    shipped = toml_as(_Notices, files(__package__).joinpath(FILE)).notice
    notices = {notice.year: notice for notice in (*shipped, *(toml_as(_Notices, more).notice if more else ()))}
    return WorkingDays(
        years=frozenset(notices),
        off=frozenset().union(*(notice.days_off for notice in notices.values())),
        working=frozenset(day for notice in notices.values() for day in notice.working),
    )
