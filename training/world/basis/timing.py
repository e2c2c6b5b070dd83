"""Time in the world: the calendar, and clocks with the density of calls over the hours."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np

from callsieve.features.arrays import Bools, Floats, Int64s

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True)
class Calendar:
    """The days of a world. Times are Unix milliseconds (UTC); `start` is local midnight of day 0."""

    start: int
    days: int
    offset: int  # local minus UTC, ms
    weekend: Bools  # per day: Saturday, Sunday or holiday
    work: Floats  # per day: factor on the share of a trade that works on weekends
    shock: Bools  # per day: from the day on which the rules change

    @property
    def end(self) -> int:
        """The first millisecond after the world."""
        return self.start + self.days * DAY

    def hour(self, times: Int64s) -> Int64s:
        """Returns the local hour of day, 0..23."""
        return (times - self.start) // HOUR % 24


def calendar(table: dict[str, Any], days: int) -> Calendar:
    """Makes the calendar of a scenario's table `calendar`."""
    offset = int(table["utc_offset_h"] * HOUR)
    first: dt.date = table["start"]
    midnight = int(dt.datetime(first.year, first.month, first.day, tzinfo=dt.UTC).timestamp()) * SECOND
    dates = [first + dt.timedelta(days=day) for day in range(days)]
    holiday = np.array([date in table["holidays"] for date in dates])
    weekend = np.array([date.weekday() >= 5 for date in dates]) | holiday
    work = np.where(holiday, table["holiday_work"], 1.0)
    shocked = np.full(days, table["shock_day"] > 0) & (np.arange(days) >= table["shock_day"])
    return Calendar(start=midnight - offset, days=days, offset=offset, weekend=weekend, work=work, shock=shocked)


@dataclass(frozen=True)
class Clock:
    """A density over the hours of the world, as its cumulative sum."""

    edges: Floats
    cumulative: Floats

    def draw(self, rng: np.random.Generator, low: Int64s, high: Int64s) -> Int64s:
        """Draws one time in each half-open interval [low, high)."""
        least = np.interp(low, self.edges, self.cumulative)
        most = np.interp(high, self.edges, self.cumulative)
        drawn = np.interp(least + rng.random(len(low)) * (most - least), self.cumulative, self.edges)
        return np.clip(drawn.astype(np.int64), low, np.maximum(high - 1, low))


def clock(days: Calendar, table: dict[str, list[float]]) -> Clock:
    """Makes a clock from 24 weights for weekdays and 24 for weekend days."""
    weights = np.where(days.weekend[:, None], table["weekend"], table["weekday"]).ravel()
    # An hour of weight 0 would make a flat step, where the inverse is not defined.
    cumulative = np.concatenate(([0.0], np.cumsum(weights + 1e-9)))
    edges = days.start + HOUR * np.arange(len(weights) + 1, dtype=np.float64)
    return Clock(edges, cumulative / cumulative[-1])
