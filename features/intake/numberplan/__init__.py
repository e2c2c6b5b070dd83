"""The Chinese number plan: dated CSV tables, and the plan of a given day.

Each CSV row is valid for `[valid_from, valid_to)`; an empty date leaves that end open, and `valid_from` is also empty
if the day of assignment is unknown. `source` names the source of the row. The plan is constant between two changes of
the tables, so a day is identified by its *period*: the count of changes up to that day.

A row that is not valid on a day still affects its numbers: they get the class "irregular", service codes the class
"unknown", but the same canonical form.
Otherwise one number would have two tokens, one before and one after a change.
"""

from __future__ import annotations

import csv
import datetime
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from callsieve.features.files.dates import EPOCH
from callsieve.features.records import NUMBER_CLASSES

RangeEntry = tuple[str, str]
"""Class (one of NUMBER_CLASSES) and range holder ("" if unknown)."""
NOT_ASSIGNED: RangeEntry = ("irregular", "")
UNKNOWN_CODE: RangeEntry = ("unknown", "")


@dataclass(frozen=True, slots=True)
class Service:
    """A service code: its lengths, class and holder.

    `scope` is "nation" for one number in the whole country, "area" for a different number behind each area code, and
    "alone" for a code that never follows an area code.
    """

    shortest: int
    longest: int
    kind: str
    holder: str
    scope: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan in one period.

    `networks` maps the first five digits of an 11-digit 1[3-9] number to its range. `machines` maps the first five
    digits of a 13-digit number to its range. `areas` maps an area code without the 0 to classes by length of the local
    number. `services` maps leading digits to service codes. `carriers` maps the start of an IP or carrier prefix to the
    prefix's length.
    """

    networks: dict[str, RangeEntry]
    machines: dict[str, RangeEntry]
    areas: dict[str, dict[int, str]]
    services: dict[str, tuple[Service, ...]]
    carriers: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Row:
    cells: dict[str, str]
    since: int  # days since 1970-01-01
    until: int

    def is_valid(self, day: int) -> bool:
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
    """Returns the days on which a table changes, in ascending order, as days since 1970-01-01."""
    tables = map(_table, ("networks.csv", "machines.csv", "areas.csv", "services.csv"))
    days = {day for table in tables for row in table for day in (row.since, row.until)}
    return tuple(sorted(days - {_day("", datetime.date.min), _day("", datetime.date.max)}))


def period(on: datetime.date) -> int:
    """Returns the period of a day."""
    return bisect_right(changes(), (on - EPOCH).days)


@cache
def plan(period: int) -> Plan:
    """Returns the plan of a period."""
    day = changes()[period - 1] if period else _day("", datetime.date.min)
    lines = [leading + tail for leading in ("13", "14", "15", "16", "17", "18", "19") for tail in _tails(3)]
    return Plan(
        networks=dict.fromkeys(lines, NOT_ASSIGNED) | _by_prefix("networks.csv", 5, day),
        machines=_by_prefix("machines.csv", 5, day),
        areas=_areas(day),
        services=_services(day),
        carriers={row.cells["prefix"]: int(row.cells["length"]) for row in _table("carriers.csv")},
    )


def _by_prefix(name: str, digits: int, day: int) -> dict[str, RangeEntry]:
    """Returns the range entries by their leading digits; a shorter prefix in the table is extended to all of this
    length.
    """
    entries: dict[str, RangeEntry] = {}
    for row in _table(name):
        prefix, missing = row.cells["prefix"], digits - len(row.cells["prefix"])
        entry, valid = (row.cells["kind"], row.cells["holder"]), row.is_valid(day)
        leading = [prefix + tail for tail in _tails(missing)]
        if valid:
            entries |= dict.fromkeys(leading, entry)
        else:
            entries |= {digits: NOT_ASSIGNED for digits in leading if digits not in entries}
    return entries


@cache
def _tails(digits: int) -> tuple[str, ...]:
    return tuple(map("".join, product("0123456789", repeat=digits)))


def _areas(day: int) -> dict[str, dict[int, str]]:
    areas: dict[str, dict[int, str]] = {}
    for row in _table("areas.csv"):
        lengths = areas.setdefault(row.cells["code"], {})
        for length in map(int, row.cells["local_lengths"].split()):
            if row.is_valid(day):
                lengths[length] = "fixed"
            else:
                lengths.setdefault(length, "irregular")
    return areas


def _services(day: int) -> dict[str, tuple[Service, ...]]:
    codes: dict[tuple[str, int, int], Service] = {}
    for row in _table("services.csv"):
        cells = row.cells
        key = (cells["prefix"], int(cells["min_length"]), int(cells["max_length"]))
        if row.is_valid(day):
            codes[key] = Service(key[1], key[2], cells["kind"], cells["holder"], cells["scope"])
        else:
            codes.setdefault(key, Service(key[1], key[2], *UNKNOWN_CODE, cells["scope"]))
    services: dict[str, tuple[Service, ...]] = {}
    for (prefix, *_), service in codes.items():
        services[prefix] = (*services.get(prefix, ()), service)
    return services
