"""Who looked at what, and which of it is out of the usual: refusals, nights, a first time, far more than before.

Accesses come from the audit log (exports, re-identification, and what of them was refused) and from what services wrote
down (`serving/http/access_log.py`). The baseline of a person is what the same person did of the same kind before; so
whoever takes a little more each week is not found by it, and the first access of each kind is listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from callsieve.features.files.strict_json import as_fields, as_list, as_mapping, as_number, as_text, as_whole
from callsieve.features.files.toml_file import read_toml
from callsieve.features.files.zones import time_zone
from callsieve.serving.http.access_log import read_accesses
from callsieve.training.log.audit_log import payloads
from callsieve.training.log.tickets import EXPORT, MOST_WITHOUT

REFUSED, ALWAYS, OFF_HOURS, FIRST, VOLUME, NEARLY = (
    "refused",
    "always told",
    "off hours",
    "first",
    "volume",
    "many small",
)
_TURNED_AWAY = {401: "no known key", 403: "the key lacks the scope", 429: "too many requests"}


@dataclass(frozen=True, slots=True)
class Access:
    """One access, or the equal ones of a few seconds: `rows` records or requests, `refused` why it was not given.

    `who` is "" for somebody who showed no known key.
    """

    at: datetime
    who: str
    what: str
    purpose: str
    rows: int
    refused: str = ""
    ticket: bool = False


@dataclass(frozen=True, slots=True)
class Unusual:
    """A local day's accesses of one kind by one person that are out of the usual, and `why`; `usual` rows a day."""

    day: str
    who: str
    what: str
    why: str
    rows: int
    usual: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Usual:
    """The rules of `accesses.toml`."""

    version: str
    zone: ZoneInfo
    always: frozenset[str]
    machines: frozenset[str]
    begin: int
    end: int
    weekdays: frozenset[int]
    baseline_days: int
    times: float
    least: int
    nearly: float

    def off(self, at: datetime) -> bool:
        """Whether a moment lies outside of working hours."""
        local = at.astimezone(self.zone)
        return local.isoweekday() not in self.weekdays or not self.begin <= local.hour < self.end


def read_usual(path: Path | None = None) -> Usual:
    """Read a file of rules; the one that comes with the package if no path is given.

    Raises:
        ValueError: in one line, if it is none.
    """
    read = read_toml(path or files(__package__).joinpath("accesses.toml"), path or "accesses.toml")
    try:
        told = as_fields(read, "rules", ("version", "zone", "always", "machines", "hours", "baseline", "export"))
        hours = as_fields(told["hours"], "hours", ("from", "to", "days"))
        base = as_fields(told["baseline"], "baseline", ("days", "times", "least"))
        always, machines = (
            frozenset(as_text(word, name) for word in as_list(told[name], name, 0, 100))
            for name in ("always", "machines")
        )
        return Usual(
            as_text(told["version"], "version"), time_zone(as_text(told["zone"], "zone")), always, machines,
            as_whole(hours["from"], "hours.from"), as_whole(hours["to"], "hours.to"),
            frozenset(as_whole(day, "hours.days") for day in as_list(hours["days"], "hours.days", 0, 7)),
            as_whole(base["days"], "baseline.days"), as_number(base["times"], "baseline.times", 1, 1e6),
            as_whole(base["least"], "baseline.least"),
            as_number(as_mapping(told["export"], "export").get("nearly"), "export.nearly", 0, 1),
        )  # fmt: skip
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path or 'accesses.toml'}: {' '.join(str(error).split())}") from None


def of_log(log: Path) -> Iterator[Access]:
    """Accesses that an audit log has: those with a person."""
    for entry, told in payloads(log, "access"):
        if "person" in told:
            at = datetime.fromisoformat(entry.at)
            yield Access(at, told["person"], told["act"], told["purpose"], told["count"], told.get("refused", ""),
                         bool(told["tickets"]))  # fmt: skip


def of_service(state: Path, zone: ZoneInfo) -> Iterator[Access]:
    """Accesses that a service wrote down."""
    for one in read_accesses(state):
        refused = _TURNED_AWAY.get(one.code, "")
        yield Access(datetime.fromtimestamp(one.at / 1000, zone), one.who, one.what, "", one.count, refused)


def unusual(accesses: Iterable[Access], rules: Usual, since: date, until: date) -> list[Unusual]:
    """What is out of the usual in the local days from `since` to `until`, both included, in order.

    Args:
        accesses: in any order; those of the baseline before `since` among them.
    """
    days: dict[tuple[str, str], dict[date, list[Access]]] = defaultdict(lambda: defaultdict(list))
    for one in accesses:
        days[(one.who, one.what)][one.at.astimezone(rules.zone).date()].append(one)
    found = []
    for (who, what), of_day in days.items():
        for day, some in of_day.items():
            if since <= day <= until:
                usual = _usual(of_day, day, rules)
                rows = _rows(some)
                found += [Unusual(day.isoformat(), who, what, why, count, usual, detail)
                          for why, count, detail in _reasons(what, some, rows, usual, rules)]  # fmt: skip
    return sorted(found, key=lambda one: (one.day, one.who, one.what, one.why))


def _usual(of_day: dict[date, list[Access]], day: date, rules: Usual) -> float | None:
    """The median of a person's days of the baseline on which he did this at all; None if there is none."""
    before = [_rows(of_day[other]) for other in of_day if timedelta() < day - other <= timedelta(rules.baseline_days)]
    before = [rows for rows in before if rows]
    return float(median(before)) if before else None


def _rows(some: Sequence[Access]) -> int:
    return sum(one.rows for one in some if not one.refused)


def _reasons(
    what: str, some: Sequence[Access], rows: int, usual: float | None, rules: Usual
) -> Iterator[tuple[str, int, str]]:
    refused = [one for one in some if one.refused]
    given = [one for one in some if not one.refused]
    for why in sorted({one.refused for one in refused}):
        of_why = [one for one in refused if one.refused == why]
        purposes = ", ".join(sorted({one.purpose for one in of_why if one.purpose}))
        yield REFUSED, sum(max(one.rows, 1) for one in of_why), f"{why}; for: {purposes}" if purposes else why
    if not given:
        return
    purposes = ", ".join(sorted({one.purpose for one in given if one.purpose}))
    if what in rules.always:
        yield ALWAYS, rows, purposes
    off = [] if what in rules.machines else [one for one in given if rules.off(one.at)]
    if off:
        times = ", ".join(f"{one.at.astimezone(rules.zone):%H:%M}" for one in off[:3])
        yield OFF_HOURS, _rows(off), f"at {times}"
    if usual is None:
        yield FIRST, rows, purposes
    elif rows > max(rules.least, rules.times * usual):
        yield VOLUME, rows, purposes
    small = [one for one in given if what == EXPORT and not one.ticket]
    if len(small) > 1 and _rows(small) >= rules.nearly * MOST_WITHOUT:
        yield NEARLY, _rows(small), f"{len(small)} exports without a ticket"


def totals(accesses: Iterable[Access], zone: ZoneInfo, since: date, until: date) -> list[dict[str, Any]]:
    """Who did what how often in these local days: `rows` that were given, `refused` times."""
    counted: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for one in accesses:
        if since <= one.at.astimezone(zone).date() <= until:
            if one.refused:
                counted[(one.who, one.what)][1] += max(one.rows, 1)
            else:
                counted[(one.who, one.what)][0] += one.rows
    return [{"who": who, "what": what, "rows": rows, "refused": refused}
            for (who, what), (rows, refused) in sorted(counted.items())]  # fmt: skip
