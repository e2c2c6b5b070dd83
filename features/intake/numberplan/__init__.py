"""The dated tables of the Chinese number plan, and the plan as it stood on a day.

Each CSV row holds for `[valid_from, valid_to)`; an empty date leaves that end open (`valid_from` also
where the day of assignment is not known). `source` says where the row is from. Between two changes of the
tables the plan stays as it is, so a day is known by its *period*: the count of changes up to that day.

A row that does not hold on a day still shapes the number: it turns the class into "irregular", never the
canonical form. Otherwise one number would get two tokens, one from each side of a change.
"""

from __future__ import annotations

import csv
import datetime
from bisect import bisect_right
from functools import cache
from itertools import product
from pathlib import Path

from callsieve.features.dataclass import dataclass
from callsieve.features.records import NUMBER_CLASSES

EPOCH = datetime.date(1970, 1, 1)
Kind = tuple[str, str]
"""Class (one of NUMBER_CLASSES) and range holder ("" if not known)."""
NOT_ASSIGNED: Kind = ("irregular", "")


@dataclass(frozen=True, slots=True)
class Service:
    """A service code: its lengths, class and holder.

    `scope`: "nation" is one number in the whole country, "area" is another one behind each area code,
    "alone" never follows an area code.
    """

    shortest: int
    longest: int
    kind: str
    holder: str
    scope: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan in one period.

    `networks`: every five leading digits of an 11-digit 1[3-9] number. `machines`: four leading digits of a
    13-digit one. `areas`: area code without the 0 -> length of the local number -> class.
    `services`: leading digits -> codes. `carriers`: prefix of an IP or carrier prefix -> its length.
    """

    networks: dict[str, Kind]
    machines: dict[str, Kind]
    areas: dict[str, dict[int, str]]
    services: dict[str, tuple[Service, ...]]
    carriers: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Row:
    cells: dict[str, str]
    since: int  # days since 1970-01-01
    until: int

    def holds(self, day: int) -> bool:
        return self.since <= day < self.until


@cache
def _day(text: str, default: datetime.date) -> int:
    return ((datetime.date.fromisoformat(text) if text else default) - EPOCH).days


@cache
def _table(name: str) -> tuple[_Row, ...]:
    rows = []
    with Path(__file__).with_name(name).open(encoding="utf-8") as file:
        lines = csv.reader(file)
        names = next(lines)
        for line, values in enumerate(lines, start=2):
            cells = dict(zip(names, values, strict=True))
            try:
                since = _day(cells["valid_from"], datetime.date.min)
                until = _day(cells["valid_to"], datetime.date.max)
            except ValueError as error:
                raise ValueError(f"{name} line {line}: valid_from and valid_to must be YYYY-MM-DD") from error
            if cells.get("kind", "fixed") not in NUMBER_CLASSES:
                raise ValueError(f"{name} line {line}: kind must be a number class, got {cells['kind']!r}")
            rows.append(_Row(cells, since, until))
    return tuple(rows)


@cache
def changes() -> tuple[int, ...]:
    """Days (since 1970-01-01) on which a table changes, in order."""
    tables = map(_table, ("networks.csv", "machines.csv", "areas.csv", "services.csv"))
    days = {day for table in tables for row in table for day in (row.since, row.until)}
    return tuple(sorted(days - {_day("", datetime.date.min), _day("", datetime.date.max)}))


def period(on: datetime.date) -> int:
    """The period that a day falls in."""
    return bisect_right(changes(), (on - EPOCH).days)


@cache
def plan(period: int) -> Plan:
    """The plan in a period."""
    day = changes()[period - 1] if period else _day("", datetime.date.min)
    lines = [leading + tail for leading in ("13", "14", "15", "16", "17", "18", "19") for tail in _tails(3)]
    return Plan(
        networks=dict.fromkeys(lines, NOT_ASSIGNED) | _by_prefix("networks.csv", 5, day),
        machines=_by_prefix("machines.csv", 4, day),
        areas=_areas(day),
        services=_services(day),
        carriers={row.cells["prefix"]: int(row.cells["length"]) for row in _table("carriers.csv")},
    )


def _by_prefix(name: str, digits: int, day: int) -> dict[str, Kind]:
    """Class and holder by exactly so many leading digits."""
    found: dict[str, Kind] = {}
    for row in _table(name):
        prefix, missing = row.cells["prefix"], digits - len(row.cells["prefix"])
        kind, holds = (row.cells["kind"], row.cells["holder"]), row.holds(day)
        leading = [prefix + tail for tail in _tails(missing)]
        if holds:
            found |= dict.fromkeys(leading, kind)
        else:
            found |= {digits: NOT_ASSIGNED for digits in leading if digits not in found}
    return found


@cache
def _tails(digits: int) -> tuple[str, ...]:
    """All there are of so many digits."""
    return tuple(map("".join, product("0123456789", repeat=digits)))


def _areas(day: int) -> dict[str, dict[int, str]]:
    areas: dict[str, dict[int, str]] = {}
    for row in _table("areas.csv"):
        lengths = areas.setdefault(row.cells["code"], {})
        for length in map(int, row.cells["local_lengths"].split()):
            if row.holds(day):
                lengths[length] = "fixed"
            else:
                lengths.setdefault(length, "irregular")
    return areas


def _services(day: int) -> dict[str, tuple[Service, ...]]:
    found: dict[tuple[str, int, int], Service] = {}
    for row in _table("services.csv"):
        cells = row.cells
        key = (cells["prefix"], int(cells["min_length"]), int(cells["max_length"]))
        if row.holds(day):
            found[key] = Service(key[1], key[2], cells["kind"], cells["holder"], cells["scope"])
        else:
            found.setdefault(key, Service(key[1], key[2], *NOT_ASSIGNED, cells["scope"]))
    services: dict[str, tuple[Service, ...]] = {}
    for (prefix, *_), service in found.items():
        services[prefix] = (*services.get(prefix, ()), service)
    return services
