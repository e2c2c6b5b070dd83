"""Registers in memory: what authorities and people have stated about numbers and trunks, as known at a moment.

`Registers.read(folder)` reads the files that `callsieve ingest registers` writes, `NAME.jsonl`. They contain keyed
tokens and no phone number. `register_lookup.py` turns the rows into facts of a call.

A row is in effect from `valid_from` until just before `valid_to`. It counts only after `known_at`. Several rows of one
key may have the same `valid_from`: the row that became known last replaces the others. This is how a row is corrected
or ended. If several rows of a key are in effect, the row with the latest `valid_from` counts.

A look-up always asks for "now, as known now". So the rows of a key reduce to a step function of one time, which
`step_function` builds. A look-up online is a bisection; an as-of join offline is a `merge_asof`.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from heapq import heappop, heappush
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from callsieve.features.files.strict_json import decode
from callsieve.features.keys.tokens import is_token, to_letters
from callsieve.serving.custody.command_hint import command

if TYPE_CHECKING:
    from callsieve.serving.custody.retention import Retention

NEVER = 1 << 62
NO_ROW = -NEVER
"""The value before any row of the key is known."""


class Span(NamedTuple):
    """When a row is in effect, and since when it is known: Unix ms. `valid_to` is NEVER without a known end."""

    valid_from: int
    valid_to: int
    known_at: int


StepFunction = tuple[tuple[int, ...], tuple[int, ...]]
"""The moments (Unix ms) at which the answer changes, and the answer from each moment on."""


def step_function(rows: Iterable[tuple[int, Span]]) -> StepFunction:
    """Builds the step function of one key.

    An answer is the index of the row in effect. If no row is in effect but one was, the answer is `~index` of the row
    with the latest `valid_from`. Before any row is known, the answer is NO_ROW.

    >>> step_function([(7, Span(10, 20, 5))])
    ((10, 20), (7, -8))
    """
    rows = list(rows)
    if len(rows) == 1:
        return _single_row(*rows[0])
    pending = sorted((max(span.known_at + 1, span.valid_from), span.known_at, index, span) for index, span in rows)
    moments = sorted({moment for entry in pending for moment in (entry[0], entry[3].valid_to) if moment < NEVER})
    newest: dict[int, tuple[int, Span]] = {}  # by valid_from: the row that became known last
    in_effect: list[int] = []  # heap of negative `valid_from`; may still contain rows that have ended
    steps: list[tuple[int, int]] = []
    latest, taken = -NEVER, 0
    for moment in moments:
        while taken < len(pending) and pending[taken][0] <= moment:
            _, _, index, span = pending[taken]
            taken += 1
            newest[span.valid_from] = index, span  # rows with equal `valid_from` come in the order of `known_at`
            heappush(in_effect, -span.valid_from)
            latest = max(latest, span.valid_from)
        while in_effect and newest[-in_effect[0]][1].valid_to <= moment:
            heappop(in_effect)
        answer = newest[-in_effect[0]][0] if in_effect else ~newest[latest][0] if taken else NO_ROW
        if answer != (steps[-1][1] if steps else NO_ROW):
            steps.append((moment, answer))
    return tuple(moment for moment, _ in steps), tuple(answer for _, answer in steps)


def as_of(steps: StepFunction | None, at: int) -> int:
    """Returns the answer of a step function at a moment (Unix ms); NO_ROW for a key without rows."""
    if steps is None:
        return NO_ROW
    moments, answers = steps
    index = bisect_right(moments, at) - 1
    return answers[index] if index >= 0 else NO_ROW


def timelines(keys: Iterable[str], spans: Iterable[Span]) -> Mapping[str, StepFunction]:
    """Returns the step function of each key."""
    grouped: dict[str, list[tuple[int, Span]]] = {}
    for index, (key, span) in enumerate(zip(keys, spans, strict=True)):
        grouped.setdefault(key, []).append((index, span))
    return {key: step_function(rows) for key, rows in grouped.items()}


def _single_row(index: int, span: Span) -> StepFunction:
    begin = max(span.valid_from, span.known_at + 1)
    if span.valid_to <= begin:
        return (begin,), (~index,)
    return ((begin, span.valid_to), (index, ~index)) if span.valid_to < NEVER else ((begin,), (index,))


SPAN = {"valid_from": "moment", "valid_to": "moment", "known_at": "moment"}
# The kind of each column: the token of a "number", "block", "trunk" or "operator", a "text", a "licence" (a text), a
# "flag", an "hour" (0-24), a "count".
SCHEMA: dict[str, dict[str, str]] = {
    "campaigns": {
        "number": "number", "block": "block", "business": "text", "principal": "text", "outsourced": "flag",
        "agent": "text", "business_name": "text", "qualification": "licence", "hour_from": "hour", "hour_to": "hour",
    },
    "trunks": {
        "trunk": "trunk", "number": "number", "block": "block", "declared_use": "text", "subject": "text",
        "access_point": "text",
    },
    "number_resources": {
        "number": "number", "block": "block", "holder": "text", "licence": "licence", "area": "text",
    },
    "subscribers": {"number": "number", "kind": "text", "calls_per_day": "count"},
    "consents": {"callee": "number", "principal": "text"},
    "refusals": {"callee": "number", "industry": "text"},
    "preferences": {"callee": "number", "category": "text", "accepts": "flag"},
    "protected": {"number": "number", "reason": "text"},
    "trusted": {"number": "number", "kind": "text"},
    "recycled": {"number": "number"},
    "risk_regions": {"number": "number", "block": "block", "region": "text"},
    "discredited": {"party": "text", "role": "text", "reason": "text"},
    "operators": {"operator": "operator", "name": "text"},
    "licences": {"licence_number": "licence", "holder": "text"},
}  # fmt: skip
# Columns that may be null. In a table with `block`, a row has either a number or a block.
OPTIONAL = frozenset(
    (
        "valid_to", "block", "hour_from", "hour_to", "outsourced", "calls_per_day", "holder", "agent", "business_name",
        "qualification", "subject", "access_point", "licence", "area",
    )
)  # fmt: skip
TOKENS = ("number", "block", "trunk", "operator")  # kinds of columns
NUMBER_OR_BLOCK = "number or block"
# The table and the key columns of each index.
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
    "trusted": ("trusted", ("number",)),
    "risk_regions": ("risk_regions", (NUMBER_OR_BLOCK,)),
    "discredited": ("discredited", ("role", "party")),
    "operators": ("operators", ("operator",)),
    "licences": ("licences", ("licence_number",)),
}
KEYS = {"recycled": ("number",), **dict(INDEXES.values())}  # the key columns of each table; of two indexes, the later
ROLES = ("principal", "agent")  # roles of a discredited firm: who orders calls, and who makes them for others
ANY = "any"  # an industry or a category that stands for all
BETWEEN = "\x1f"  # separates the parts of a key
_MAX_TEXT = 64  # characters


class RowInEffect(NamedTuple):
    """Result of a look-up: the index of the row in effect; without one, the index of a row that has ended."""

    row: int | None = None
    ended: int | None = None


class Registers:
    """Tables of keyed rows, with the names and columns of SCHEMA. Moments are Unix ms.

    Attributes:
        columns: the columns of each table, by name; all columns of a table have equal length.
        tables: names of the tables.

    >>> Registers({}).tables
    ()
    """

    def __init__(self, columns: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        self.columns = columns
        self.tables = tuple(columns)

    @classmethod
    def read(cls, folder: str | Path) -> Registers:
        """Reads the registers of a folder, one file `NAME.jsonl` for each table.

        Raises:
            ValueError: in one line, if a file is not a valid register or the folder has none.
        """
        paths = {name: Path(folder) / f"{name}.jsonl" for name in SCHEMA}
        columns = {name: _read(path, name) for name, path in paths.items() if path.is_file()}
        if not columns:
            raise ValueError(
                f"{folder}: has no register, expected files such as campaigns.jsonl; see {command('ingest registers')}"
            )
        return cls(columns)

    def in_time(self, rules: Retention, now: int) -> Registers:
        """Returns the registers without rows that are past their retention time.

        Args:
            rules: how long rows are kept.
            now: Unix ms.

        Raises:
            ValueError: if a table has no retention rule.
        """
        current: dict[str, dict[str, list[Any]]] = {}
        for table, columns in self.columns.items():
            rule = rules.of(f"register_{table}")
            moments = self.moments(table, rule.moment)
            in_time = [moment is None or moment >= now - rule.ceiling for moment in moments]
            current[table] = {name: list(compress(column, in_time)) for name, column in columns.items()}
        return Registers(current)

    def moments(self, table: str, column: str) -> list[int | None]:
        """Returns for each row the moment from which its retention counts: the one of the row that replaces it.

        The row of a key and a `valid_from` that became known last replaces the others. All of them
        expire at once: without the row that ends it, a replaced row would be in effect again.

        Args:
            column: the column of moments that the retention rule names.
        """
        columns = self.columns[table]
        keys = list(zip(self._keys(table, KEYS[table]), columns["valid_from"], strict=True))
        order = sorted(range(len(keys)), key=columns["known_at"].__getitem__)
        last = {keys[row]: row for row in order}
        return [columns[column][last[key]] for key in keys]

    @property
    def rows(self) -> int:
        """Number of rows in all tables."""
        return sum(len(next(iter(columns.values()))) for columns in self.columns.values())

    def has_epoch(self, epoch: str) -> bool:
        """Returns whether any token belongs to the key epoch."""
        tokens = (
            token
            for table, columns in self.columns.items()
            for name, kind in SCHEMA[table].items()
            if kind in TOKENS
            for token in columns[name]
        )
        return any(token is not None and token.startswith(f"{epoch}.") for token in tokens)

    @cached_property
    def indexes(self) -> dict[str, Mapping[str, StepFunction]]:
        """The step function of each key, for each index whose table is present."""
        return {
            name: timelines(self._keys(table, parts), self._spans(table))
            for name, (table, parts) in INDEXES.items()
            if table in self.columns
        }

    def in_effect(self, index: str, at: int, *keys: str) -> RowInEffect:
        """Returns the row in effect of the first key that has one, or a row that has ended.

        Args:
            index: name of an index of INDEXES.
            at: Unix ms.
            keys: the keys to look up, in order of precedence.

        Raises:
            KeyError: if the table of the index is missing.
        """
        steps, ended = self.indexes[index], None
        for key in keys:
            row = as_of(steps.get(key), at)
            if row >= 0:
                return RowInEffect(row)
            if ended is None and row != NO_ROW:
                ended = ~row
        return RowInEffect(None, ended)

    def entry(self, table: str, index: int) -> tuple[str, str, str]:
        """Returns a row's name, the start of its validity, and the moment since when it is known (both UTC).

        The name is a digest of the row in letters, so it does not depend on the row's position.
        """
        row = {name: column[index] for name, column in self.columns[table].items()}
        digest = hashlib.sha256(json.dumps([table, row], sort_keys=True, ensure_ascii=False).encode()).digest()
        return to_letters(digest[:8]), _utc_text(row["valid_from"]), _utc_text(row["known_at"])

    def _keys(self, table: str, parts: tuple[str, ...]) -> Iterator[str]:
        columns = self.columns[table]
        key_columns = [_number_or_block(columns) if part == NUMBER_OR_BLOCK else columns[part] for part in parts]
        return map(BETWEEN.join, zip(*key_columns, strict=True))

    def _spans(self, table: str) -> Iterator[Span]:
        columns = self.columns[table]
        ends = (NEVER if end is None else end for end in columns["valid_to"])
        return map(Span, columns["valid_from"], ends, columns["known_at"])


def _number_or_block(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    numbers, blocks = columns["number"], columns.get("block") or [None] * len(columns["number"])
    return [number if number is not None else block for number, block in zip(numbers, blocks, strict=True)]


def _utc_text(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def columns_of(table: str) -> dict[str, str]:
    """Returns the columns of a table with their kinds, columns of time included."""
    return SCHEMA[table] | SPAN


def row_to_line(row: Mapping[str, Any]) -> str:
    """Returns a keyed row as one line of JSON.

    Moments are written as dates, so that no run of digits looks like a phone number.
    """
    plain = {name: _iso(value) if name in SPAN and value is not None else value for name, value in row.items()}
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def as_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Returns keyed rows as the bytes of a JSON Lines file."""
    return "".join(f"{row_to_line(row)}\n" for row in rows).encode()


def _iso(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")


def _read(path: Path, table: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in columns_of(table)}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = _row(line, tuple(columns))
                for name, kind in columns_of(table).items():
                    columns[name].append(_value(row.get(name), name, kind))
            except ValueError as error:
                raise ValueError(f"{path.name} line {number}: expected {error}") from None
    return columns


def _row(line: bytes, names: Sequence[str]) -> dict[str, Any]:
    try:
        row = decode(line)
    except ValueError:
        row = None  # the decoder's message may quote the line, and with it a phone number
    if not isinstance(row, dict) or not set(names) - OPTIONAL <= row.keys() <= set(names):
        raise ValueError(f"a JSON object with the keys {', '.join(names)}")
    return row


def _value(value: Any, name: str, kind: str) -> Any:
    if value is None and (name in OPTIONAL or name == "number"):
        return None
    if kind == "moment":
        return _milliseconds(value, name)
    is_valid = _IS_VALID.get(kind, lambda value: isinstance(value, str) and is_token(value))
    if not is_valid(value):
        raise ValueError(f"{name} to be {'a token' if kind in TOKENS else f'a {kind}'}")
    return value


def _milliseconds(text: Any, name: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        moment = None  # the parser's message quotes the text
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{name} to be a moment such as 2026-03-01T00:00:00.000+00:00")
    return round(moment.timestamp() * 1000)


_IS_VALID: dict[str, Callable[[Any], bool]] = {
    "flag": lambda value: isinstance(value, bool),
    "hour": lambda value: type(value) is int and 0 <= value <= 24,
    "count": lambda value: type(value) is int and value >= 0,
    "text": lambda value: isinstance(value, str) and 0 < len(value) <= _MAX_TEXT,
    "licence": lambda value: isinstance(value, str) and 0 < len(value) <= _MAX_TEXT,
}
