"""Layouts of call-record files: one TOML file each that maps the columns of a file to facts of a call."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Any

from callsieve.features.files.atomic import check_present
from callsieve.features.files.dates import time_zone
from callsieve.features.files.toml_file import read_toml
from callsieve.features.records import ATTESTATIONS, CALL_COLUMNS, NUMBER_CLASSES, OUTCOMES, RELEASED_BY, ROUTES

CATEGORIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "outcome": OUTCOMES,
        "released_by": RELEASED_BY,
        "attestation": ATTESTATIONS,
        "route": ROUTES,
        "direction": ("out", "in"),
        "caller_class": NUMBER_CLASSES,
        "callee_class": NUMBER_CLASSES,
        "subscriber_class": NUMBER_CLASSES,
        "peer_class": NUMBER_CLASSES,
    }
)
OF_PARTIES = frozenset(("caller_class", "callee_class"))
OF_SIDES = frozenset(("subscriber_class", "peer_class"))
TIMES = ("start", "recorded", "end")
SECONDS = ("ring", "talk", "total")
NUMBERS = ("caller", "callee", "network_caller", "subscriber", "peer")
TEXTS = ("trunk", "operator", "device", "place", "cause")
# Roles of a file's columns: a column of the call, or a fact from which columns of the call are derived.
ROLES = frozenset((*CALL_COLUMNS, "end", "total", "subscriber", "peer", "direction", *OF_SIDES))
DEFAULT_ZONE = "Asia/Shanghai"
PANDAS_INDEX = re.compile(r"__index_level_\d+__")
"""Names that pandas gives to its row labels in a Parquet file; they are no facts of a call."""
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_SETS = ("dropped", "optional", "joined", "own_side")
_TABLES = ("clock", "columns", "constants", "values", "before_last")
# `complaints` and `checks` are layouts of such files (`complaint_files.py` and `check_files.py` in `training/data`).
_KEYS = frozenset(
    ("about", "numbers", "header", "least_columns", "hours_zone", "missed", "complaints", "checks", *_SETS, *_TABLES)
)
_CLOCK_KEYS = frozenset(("zone", "formats", "unit", "epoch", "earliest"))
_DIRECTIVES = re.compile(r"(?=.*%[Yy])(?=.*%[mbB])(?=.*%d)(?:[^%]|%[YymbBdHIMSfpz])*")
"""Forms of times with a whole date: the directives of Python's `strptime` that one can have."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one kind of file writes a call.

    `columns` maps a role (`ROLES`) to the names that its column can have in the file. For a role in `joined`, the names
    are parts that are joined. `dropped` columns are known and ignored. A role in `optional` may be absent. `header`
    names the columns of a file without a header line, which has at least the first `least_columns` of them. `own_side`
    columns describe the subscriber, so they apply only to calls that the subscriber makes.

    Times without an offset are read in `clock_zone`; numbers count `unit` seconds from `epoch` (Unix seconds). Of
    `formats`, the first that fits applies: "iso", "unix", or a form such as "%d/%m/%Y %H:%M:%S".
    `hours_zone` is the time zone of local hours and days of these calls. `missed` is the talk time that means "not
    answered". `constants` are facts of every row of the source, including a party's class if its numbers are codes.
    `before_last` maps a role of text to a character: only the part of a cell before its last occurrence counts, and a
    cell without it is empty.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    about: str = ""
    numbers: str = "written"
    header: tuple[str, ...] = ()
    least_columns: int = 0
    dropped: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    joined: frozenset[str] = frozenset()
    own_side: frozenset[str] = frozenset()
    clock_zone: str = DEFAULT_ZONE
    hours_zone: str = DEFAULT_ZONE
    formats: tuple[str, ...] = ("iso", "unix")
    unit: float = 1.0
    epoch: float = 0.0
    earliest: float = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
    missed: float | None = None
    constants: Mapping[str, str | float] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    before_last: Mapping[str, str] = field(default_factory=dict)

    def match(self, names: Sequence[str], file: str) -> dict[str, tuple[str, ...]]:
        """Maps each role to its columns in a file with these column names."""
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(f"{file}: column {_shown(repeated[0], names)} occurs twice, expected once")
        known = self.dropped.union(*self.columns.values())
        for name in names:
            if name not in known and not PANDAS_INDEX.fullmatch(name):
                raise ValueError(
                    f"{file}: unknown column {_shown(name, names)}, layout {self.name!r} has "
                    + ", ".join(sorted(known))
                )
        matched = {}
        for role, aliases in self.columns.items():
            present = tuple(name for name in aliases if name in names)
            if len(present) > 1 and role not in self.joined:
                raise ValueError(f"{file}: columns {', '.join(present)} all mean {role}, expected one of them")
            if not present and role not in self.optional:
                raise ValueError(f"{file}: no column for {role}, expected {' or '.join(aliases)}")
            if present:
                matched[role] = present
        return matched


def matching_layouts(names: Sequence[str]) -> list[str]:
    """Returns the names of the shipped layouts that match a file with these columns.

    >>> matching_layouts(["caller", "callee", "start", "duration"])
    ['plain', 'reality']
    """
    matching = []
    for name in shipped_layouts():
        with suppress(ValueError):
            read_layout(name).match(names, "")
            matching.append(name)
    return matching


def shipped_layouts() -> list[str]:
    """Returns the names of the layouts in the package."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.toml"))


def read_layout(name_or_path: str | Path, zone: str | None = None) -> Layout:
    """Reads a shipped layout by name, or a layout from a TOML file.

    `zone`: time zone of the exchange, in place of the zones of clock and hours in the layout.

    >>> read_layout("plain").columns["start"]
    ('start', 'timestamp')
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in shipped_layouts():
            known = ", ".join(shipped_layouts())
            raise ValueError(f"layout must be one of {known} or a .toml file, got {str(name_or_path)!r}")
        path = Path(__file__).parent / f"{name_or_path}.toml"
    check_present(path)
    declared = read_toml(path, f"layout {path.name}")
    try:
        layout = _layout(path.stem, declared)
        return _checked(layout if zone is None else replace(layout, clock_zone=zone, hours_zone=zone))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"layout {path.name}: {error}") from error


def _layout(name: str, declared: Mapping[str, Any]) -> Layout:
    clock = declared.get("clock", {})
    unknown = (declared.keys() - _KEYS) | (clock.keys() - _CLOCK_KEYS)
    if unknown:
        raise ValueError(f"unknown key {min(unknown)!r}")
    optional_keys: dict[str, Any] = {key: declared[key] for key in ("about", "numbers", "missed") if key in declared}
    for key in _SETS:
        optional_keys[key] = frozenset(_names(declared.get(key, ()), key))
    for key in ("epoch", "earliest"):
        if key in clock:
            optional_keys[key] = _unix_seconds(clock[key])
    header = _names(declared.get("header", ()), "header")
    return Layout(
        name=name,
        columns={role: _names(names, f"columns: {role}") for role, names in declared["columns"].items()},
        header=header,
        least_columns=declared.get("least_columns", len(header)),
        clock_zone=clock.get("zone", DEFAULT_ZONE),
        hours_zone=declared.get("hours_zone", DEFAULT_ZONE),
        formats=_names(clock.get("formats", ("iso", "unix")), "formats"),
        unit=_UNITS[clock.get("unit", "s")],
        constants=declared.get("constants", {}),
        values=declared.get("values", {}),
        before_last=declared.get("before_last", {}),
        **optional_keys,
    )


def _names(declared: Any, key: str) -> tuple[str, ...]:
    if isinstance(declared, str):
        raise ValueError(f"{key}: expected a list, such as [{declared!r}], got a text")
    return tuple(declared)


def _checked(layout: Layout) -> Layout:
    roles = {*layout.columns, *layout.constants, *layout.optional, *layout.joined, *layout.own_side}
    _check_listed("role", roles, ROLES)
    _check_listed("numbers", [layout.numbers], ("written", "codes"))
    for form in layout.formats:
        if form not in ("iso", "unix") and not _DIRECTIVES.fullmatch(form):
            raise ValueError(f"formats: expected iso, unix, or a date and time such as %d/%m/%Y %H:%M, got {form!r}")
    _check_listed("role with values", layout.values, CATEGORIES)
    _check_listed("role with before_last", layout.before_last, TEXTS)
    for role, mark in layout.before_last.items():
        if not isinstance(mark, str) or len(mark) != 1:
            raise ValueError(f"before_last of {role} must be one character, got {mark!r}")
    for role, meaning in layout.values.items():
        _check_listed(f"value of {role}", meaning.values(), CATEGORIES[role])
    for role, value in layout.constants.items():
        if role in CATEGORIES:
            _check_listed(f"constant {role}", [value], CATEGORIES[role])
    of_sides = "subscriber" in layout.columns
    sides = ("subscriber", "peer", "direction") if of_sides else ("caller", "callee")
    _check_listed("class", roles & (OF_PARTIES | OF_SIDES), OF_SIDES if of_sides else OF_PARTIES)
    for role in ("start", *sides):
        if role not in layout.columns or role in layout.optional:
            raise ValueError(f"a layout must have a column for {role}")
    for zone in (layout.clock_zone, layout.hours_zone):
        time_zone(zone)
    return layout


def _check_listed(what: str, values: Any, allowed: Any) -> None:
    for value in values:
        if value not in allowed:
            raise ValueError(f"{what} must be one of {', '.join(sorted(allowed))}, got {value!r}")


def _unix_seconds(day: date) -> float:
    return datetime.combine(day, time(), UTC).timestamp()


def _shown(name: str, names: Sequence[str]) -> str:
    # Without a header line, the "names" are a row of data with numbers, which no message may show.
    if sum(letter.isdigit() for letter in name) >= 5:
        return f"{names.index(name) + 1} (its name is mostly digits: is the header line missing?)"
    return repr(name)
