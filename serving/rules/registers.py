"""Registers in memory: what offices and people have said of numbers and trunks, as far as it was known at a moment.

`registers = Registers.read(folder)` takes the files that `callsieve registers` writes, `NAME.jsonl`: keyed tokens, no
number. `registered.py` says what they mean for a call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callsieve.features.files.strict_json import decode
from callsieve.features.keys.tokens import is_token, letters_of

from .timeline import NEVER, NO_ROW, Span, StepFunction, as_of, timelines

if TYPE_CHECKING:
    from callsieve.serving.custody.retention import Retention

SPAN = {"valid_from": "moment", "valid_to": "moment", "known_at": "moment"}
# What each column holds: the token of a "number", "block" or "trunk", a "text", a "flag", an "hour" (0-24), a "count".
SCHEMA: dict[str, dict[str, str]] = {
    "campaigns": {
        "number": "number", "block": "block", "business": "text", "principal": "text", "outsourced": "flag",
        "hour_from": "hour", "hour_to": "hour",
    },
    "trunks": {"trunk": "trunk", "number": "number", "block": "block", "declared_use": "text"},
    "number_resources": {"number": "number", "block": "block", "holder": "text"},
    "subscribers": {"number": "number", "kind": "text", "calls_per_day": "count"},
    "consents": {"callee": "number", "principal": "text"},
    "refusals": {"callee": "number", "industry": "text"},
    "preferences": {"callee": "number", "category": "text", "accepts": "flag"},
    "protected": {"number": "number", "reason": "text"},
    "recycled": {"number": "number"},
    "risk_regions": {"number": "number", "block": "block", "region": "text"},
}  # fmt: skip
# Of these a row may lack any; where a table has `block`, a row has either a number or a block.
OPTIONAL = frozenset(("valid_to", "block", "hour_from", "hour_to", "outsourced", "calls_per_day", "holder"))
NUMBER_OR_BLOCK = "number or block"
# By what a register is asked: its table, and the columns that make the key.
INDEXES: dict[str, tuple[str, tuple[str, ...]]] = {
    "campaigns": ("campaigns", (NUMBER_OR_BLOCK,)),
    "trunks": ("trunks", ("trunk",)),
    "trunk_numbers": ("trunks", ("trunk", NUMBER_OR_BLOCK)),
    "number_resources": ("number_resources", (NUMBER_OR_BLOCK,)),
    "subscribers": ("subscribers", ("number",)),
    "consents": ("consents", ("callee", "principal")),
    "refusals": ("refusals", ("callee", "industry")),
    "preferences": ("preferences", ("callee", "category")),
    "protected": ("protected", ("number",)),
    "risk_regions": ("risk_regions", (NUMBER_OR_BLOCK,)),
}
ANY = "any"  # an industry or a category that stands for all
BETWEEN = "\x1f"  # parts of a key
_LONGEST = 64


class Registers:
    """Tables of keyed rows, by the names and columns of SCHEMA; moments are Unix milliseconds.

    >>> Registers({}).tables
    ()
    """

    def __init__(self, columns: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        self.columns = columns
        self.tables = tuple(columns)

    @classmethod
    def read(cls, folder: str | Path) -> Registers:
        """The registers of a folder, `NAME.jsonl` each.

        Raises:
            ValueError: in one line, if a file is no register or the folder holds none.
        """
        found = {name: _read(Path(folder) / f"{name}.jsonl", name) for name in SCHEMA
                 if (Path(folder) / f"{name}.jsonl").is_file()}  # fmt: skip
        if not found:
            raise ValueError(f"{folder}: holds no register, expected files such as campaigns.jsonl")
        return cls(found)

    def in_time(self, rules: Retention, now: int) -> Registers:
        """The rows that may still be read.

        Args:
            now: Unix ms.
        Raises:
            ValueError: if no rule names a table.
        """
        kept: dict[str, dict[str, list[Any]]] = {}
        for table, columns in self.columns.items():
            rule = rules.of(f"register_{table}")
            left = [moment is None or moment >= now - rule.ceiling for moment in columns[rule.moment]]
            kept[table] = {name: list(compress(column, left)) for name, column in columns.items()}
        return Registers(kept)

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(len(next(iter(columns.values()))) for columns in self.columns.values())

    def has_epoch(self, epoch: str) -> bool:
        """Whether any token is of a key's epoch."""
        tokens = (
            token
            for table, columns in self.columns.items()
            for name, kind in SCHEMA[table].items()
            if kind in ("number", "block", "trunk")
            for token in columns[name]
        )
        return any(token is not None and token.startswith(f"{epoch}.") for token in tokens)

    @cached_property
    def indexes(self) -> dict[str, Mapping[str, StepFunction]]:
        """Of each index whose table is there: the steps of each key."""
        return {
            name: timelines(self._keys(table, parts), self._spans(table))
            for name, (table, parts) in INDEXES.items()
            if table in self.columns
        }

    def in_effect(self, index: str, at: int, *keys: str) -> int:
        """Place of the row in effect of the first key that has one; else `~place` of one that has ended, or NOTHING.

        Raises: KeyError: if the table of the index is not there.
        """
        known, ended = self.indexes[index], NO_ROW
        for key in keys:
            place = as_of(known.get(key), at)
            if place >= 0:
                return place
            ended = place if ended == NO_ROW else ended
        return ended

    def entry(self, table: str, place: int) -> tuple[str, str, str]:
        """A row for evidence: its name (letters, wherever the row stands), since when it holds and is known."""
        row = {name: column[place] for name, column in self.columns[table].items()}
        digest = hashlib.sha256(json.dumps([table, row], sort_keys=True, ensure_ascii=False).encode()).digest()
        return letters_of(digest[:8]), _written(row["valid_from"]), _written(row["known_at"])

    def _keys(self, table: str, parts: tuple[str, ...]) -> Iterator[str]:
        columns = self.columns[table]
        told = [_either(columns) if part == NUMBER_OR_BLOCK else columns[part] for part in parts]
        return map(BETWEEN.join, zip(*told, strict=True))

    def _spans(self, table: str) -> Iterator[Span]:
        columns = self.columns[table]
        ends = (NEVER if end is None else end for end in columns["valid_to"])
        return map(Span, columns["valid_from"], ends, columns["known_at"])


def _either(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    numbers, blocks = columns["number"], columns.get("block") or [None] * len(columns["number"])
    return [number if number is not None else block for number, block in zip(numbers, blocks, strict=True)]


def _written(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def columns_of(table: str) -> dict[str, str]:
    """Columns of a table and what they hold, those of time among them."""
    return SCHEMA[table] | SPAN


def row_to_line(row: Mapping[str, Any]) -> str:
    """A keyed row as a line of a file: moments are written out, so that no run of digits looks like a number."""
    told = {name: _moment(value) if name in SPAN and value is not None else value for name, value in row.items()}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _moment(value: int) -> str:
    return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds")


def _read(path: Path, table: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in columns_of(table)}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = _row(line, tuple(columns))
                for name, kind in columns_of(table).items():
                    columns[name].append(_value(row[name], name, kind))
            except ValueError as error:
                raise ValueError(f"{path.name} line {number}: expected {error}") from None
    return columns


def _row(line: bytes, names: Sequence[str]) -> dict[str, Any]:
    try:
        row = decode(line)
    except ValueError:
        row = None  # what the decoder says could quote the line
    if not isinstance(row, dict) or row.keys() != set(names):
        raise ValueError(f"a JSON object with the keys {', '.join(names)}")
    return row


def _value(value: Any, name: str, kind: str) -> Any:
    if value is None and (name in OPTIONAL or name == "number"):
        return None
    if kind == "moment":
        return _milliseconds(value, name)
    sound = _SOUND.get(kind, lambda value: isinstance(value, str) and is_token(value))
    if not sound(value):
        raise ValueError(f"{name} to be {'a token' if kind in ('number', 'block', 'trunk') else f'a {kind}'}")
    return value


def _milliseconds(written: Any, name: str) -> int:
    try:
        moment = datetime.fromisoformat(written)
    except (TypeError, ValueError):
        moment = None  # the error quotes what stood there
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{name} to be a moment such as 2026-03-01T00:00:00.000+00:00")
    return round(moment.timestamp() * 1000)


_SOUND: dict[str, Callable[[Any], bool]] = {
    "flag": lambda value: isinstance(value, bool),
    "hour": lambda value: type(value) is int and 0 <= value <= 24,
    "count": lambda value: type(value) is int and value >= 0,
    "text": lambda value: isinstance(value, str) and 0 < len(value) <= _LONGEST,
}
