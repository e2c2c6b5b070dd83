"""Layouts of call-record files: which column of a file is which fact of a call, one small TOML file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Any

from callsieve.features.files.toml_file import read_toml
from callsieve.features.files.zones import time_zone
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
# What a column of a file may stand for: a column of the call, or a fact that columns of the call follow from.
ROLES = frozenset((*CALL_COLUMNS, "end", "total", "subscriber", "peer", "direction", *OF_SIDES))
DEFAULT_ZONE = "Asia/Shanghai"
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_SETS = ("dropped", "optional", "joined", "own_side")
_TABLES = ("clock", "columns", "constants", "values")
_KEYS = frozenset(("about", "numbers", "header", "least_columns", "hours_zone", "missed", *_SETS, *_TABLES))
_CLOCK_KEYS = frozenset(("zone", "formats", "unit", "epoch", "earliest"))


@dataclass(frozen=True, slots=True)
class Layout:
    """How one kind of file writes a call.

    `columns` maps a role (`ROLES`) to the names its column may have in the file; for a role in `joined` the
    names are parts that are put together. `dropped` columns are known and left out on purpose. A role in
    `optional` may be absent. `header` names the columns of a file that has no header line, at least the first
    `least_columns` of them. `own_side` columns tell about the subscriber, so they are kept where he calls.

    Times without an offset are read in `clock_zone`; numbers count `unit` seconds from `epoch` (Unix
    seconds). `hours_zone` is the zone in which local hours and days of these calls are taken. `missed` is the
    talk time that says "nobody answered". `constants` are facts that hold for every row of the source; so may be the
    class of a party's number, where numbers are codes.
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

    def find(self, names: Sequence[str], file: str) -> dict[str, tuple[str, ...]]:
        """Role -> columns of a file with these names.

        Raises: ValueError: if a column is unknown, ambiguous, given twice, or a needed one is missing.
        """
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{file}: column {_shown(twice[0], names)} stands there twice, expected once")
        known = self.dropped.union(*self.columns.values())
        for name in names:
            if name not in known:
                raise ValueError(
                    f"{file}: unknown column {_shown(name, names)}, layout {self.name!r} has "
                    + ", ".join(sorted(known))
                )
        found = {}
        for role, aliases in self.columns.items():
            present = tuple(name for name in aliases if name in names)
            if len(present) > 1 and role not in self.joined:
                raise ValueError(f"{file}: columns {', '.join(present)} all stand for {role}, expected one of them")
            if not present and role not in self.optional:
                raise ValueError(f"{file}: no column for {role}, expected {' or '.join(aliases)}")
            if present:
                found[role] = present
        return found


def fitting(names: Sequence[str]) -> list[str]:
    """The shipped layouts that know a file with these columns.

    >>> fitting(["caller", "callee", "start", "duration"])
    ['plain', 'reality']
    """
    found = []
    for name in shipped():
        with suppress(ValueError):
            layout(name).find(names, "")
            found.append(name)
    return found


def shipped() -> list[str]:
    """Names of the layouts that come with the package."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.toml"))


def layout(name_or_path: str | Path) -> Layout:
    """The shipped layout of that name, or the one in that TOML file.

    Raises: ValueError: if there is none, or the file does not describe a layout.

    >>> layout("plain").columns["start"]
    ('start', 'timestamp')
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in shipped():
            known = ", ".join(shipped())
            raise ValueError(f"layout must be one of {known} or a .toml file, got {str(name_or_path)!r}")
        path = Path(__file__).parent / f"{name_or_path}.toml"
    declared = read_toml(path, f"layout {path.name}")
    try:
        return _checked(_layout(path.stem, declared))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"layout {path.name}: {error}") from error


def _layout(name: str, declared: Mapping[str, Any]) -> Layout:
    clock = declared.get("clock", {})
    unknown = (declared.keys() - _KEYS) | (clock.keys() - _CLOCK_KEYS)
    if unknown:
        raise ValueError(f"unknown key {min(unknown)!r}")
    optional_keys: dict[str, Any] = {key: declared[key] for key in ("about", "numbers", "missed") if key in declared}
    for key in _SETS:
        optional_keys[key] = frozenset(declared.get(key, ()))
    for key in ("epoch", "earliest"):
        if key in clock:
            optional_keys[key] = _unix_seconds(clock[key])
    header = tuple(declared.get("header", ()))
    return Layout(
        name=name,
        columns={role: tuple(names) for role, names in declared["columns"].items()},
        header=header,
        least_columns=declared.get("least_columns", len(header)),
        clock_zone=clock.get("zone", DEFAULT_ZONE),
        hours_zone=declared.get("hours_zone", DEFAULT_ZONE),
        formats=tuple(clock.get("formats", ("iso", "unix"))),
        unit=_UNITS[clock.get("unit", "s")],
        constants=declared.get("constants", {}),
        values=declared.get("values", {}),
        **optional_keys,
    )


def _checked(layout: Layout) -> Layout:
    roles = {*layout.columns, *layout.constants, *layout.optional, *layout.joined, *layout.own_side}
    _listed("role", roles, ROLES)
    _listed("numbers", [layout.numbers], ("written", "codes"))
    _listed("format of times", layout.formats, ("iso", "unix"))
    _listed("role with values", layout.values, CATEGORIES)
    for role, meaning in layout.values.items():
        _listed(f"value of {role}", meaning.values(), CATEGORIES[role])
    for role, value in layout.constants.items():
        if role in CATEGORIES:
            _listed(f"constant {role}", [value], CATEGORIES[role])
    of_sides = "subscriber" in layout.columns
    sides = ("subscriber", "peer", "direction") if of_sides else ("caller", "callee")
    _listed("class", roles & (OF_PARTIES | OF_SIDES), OF_SIDES if of_sides else OF_PARTIES)
    for role in ("start", *sides):
        if role not in layout.columns or role in layout.optional:
            raise ValueError(f"a layout must have a column for {role}")
    for zone in (layout.clock_zone, layout.hours_zone):
        time_zone(zone)
    return layout


def _listed(what: str, values: Any, allowed: Any) -> None:
    for value in values:
        if value not in allowed:
            raise ValueError(f"{what} must be one of {', '.join(sorted(allowed))}, got {value!r}")


def _unix_seconds(day: date) -> float:
    return datetime.combine(day, time(), UTC).timestamp()


def _shown(name: str, names: Sequence[str]) -> str:
    # A file without its header line shows a row of numbers as "names": these are never repeated.
    if sum(letter.isdigit() for letter in name) >= 5:
        return f"{names.index(name) + 1} (its name is full of digits: is the header line missing?)"
    return repr(name)
