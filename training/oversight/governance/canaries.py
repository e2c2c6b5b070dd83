"""Canary numbers: unassigned numbers, planted in a copy of calls, that identify the source of a leaked list.

Canaries have number codes that the number plan never assigned. A key decides which of these numbers are the canaries of
a data set: HMAC-SHA-256(key, "canary" NUL data set NUL i). No list of canaries is stored. They cannot be recognised
without the key, and each exported copy can have its own canaries.

Planted calls go from canary to canary, so the history of real numbers does not change. Plant canaries in exported
copies, never in training data.
"""

from __future__ import annotations

import gzip
import hmac
import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import to_builtins

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.decode import Record, json_as
from callsieve.features.intake.intake import Intake
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.numberplan import NOT_ASSIGNED, changes, plan
from callsieve.features.intake.text_columns import unified
from callsieve.features.keys.tokens import TOKEN, Key
from callsieve.features.reading.call_files import write_table
from callsieve.serving.custody.purposes import require_purpose

_LENGTH = 11
_DATASET = re.compile(r"(?!.*[0-9]{7})[A-Za-z0-9_.-]{1,64}")
_SEPARATED = re.compile(r"(?<=\d)[\s.()\-]+(?=\d)")
_MAX_LINES = 20  # line numbers that a search returns for a data set


class Canaries(Record, frozen=True):
    """The canaries of a data set: its name and their number."""

    dataset: str
    count: int


class _State(Record, frozen=True):
    """The file that lists the data sets with canaries."""

    kind: Literal["callsieve canaries"]
    format: Literal[1]
    planted: tuple[Canaries, ...]


@cache
def unassigned_codes() -> tuple[str, ...]:
    """Returns the three-digit codes that the number plan assigned in no period, neither to phones nor to data cards.

    >>> unassigned_codes()
    ('140', '142', '143', '154', '160', '163', '164', '168', '169', '179', '194')
    """
    plans = [plan(period) for period in range(len(changes()) + 1)]
    codes = [(prefix[:3], kind) for period in plans for prefix, kind in period.networks.items()]
    assigned = {code for code, kind in codes if kind != NOT_ASSIGNED}
    machines = {prefix[:3] for period in plans for prefix in period.machines}
    return tuple(sorted({code for code, _ in codes} - assigned - machines))


def canary_numbers(key: Key, canaries: Canaries) -> list[str]:
    """Returns the canary numbers of a data set, in national digits."""
    if not _DATASET.fullmatch(canaries.dataset):
        raise ValueError("dataset: expected 1-64 of A-Z a-z 0-9 _ . -, without seven digits in a row")
    codes, numbers = unassigned_codes(), dict[str, None]()
    for i in range(2 * canaries.count + 10):  # spare draws, because two draws may give the same number
        text = f"canary\0{canaries.dataset}\0{i}".encode()
        draw = int.from_bytes(hmac.digest(key.secret, text, "sha256")[:16], "big")
        rest, code = divmod(draw, len(codes))
        numbers[f"{codes[code]}{rest % 10**8:08d}"] = None
    return list(numbers)[: canaries.count]


def plant(calls: Path, out: Path, key: Key, store: Key, canaries: Canaries, state: Path) -> int:
    """Writes a copy of keyed calls with one planted call for each canary; returns its number of rows.

    Export the copy like any other data set, with `callsieve privacy export`.
    """
    if out.exists():
        raise FileExistsError(f"{out}: exists already; nothing is overwritten")
    require_purpose(calls.parent, "export")
    table = read_keyed(calls)
    if not table.num_rows:
        raise ValueError(f"{calls}: expected at least one call")
    start = pc.min_max(table["start"])
    planted = Intake(store).table(_calls(key, canaries, start["min"].as_py(), start["max"].as_py()))
    if "call" in table.column_names:
        ids = pa.array(range(table.num_rows, table.num_rows + planted.num_rows), table["call"].type)
        planted = planted.append_column("call", ids)
    planted = planted.select(table.column_names).cast(table.schema)
    copy = unified(pa.concat_tables([table, planted])).sort_by("start")
    # Write the state first: canaries that the state does not list could never be recognised.
    add_to_state(state, canaries)
    write_table(copy, out)
    return int(copy.num_rows)


def raw_lines(key: Key, canaries: Canaries, start: float, end: float) -> Iterator[str]:
    """Yields planted calls as CSV lines of the project's own layout, for records that are not keyed yet."""
    yield "start,caller,callee,ring,talk,outcome"
    table = _calls(key, canaries, int(start * 1000), int(end * 1000))
    for row in table.to_pylist():
        yield f"{row['start'].isoformat()},{row['caller']},{row['callee']},{row['ring']},{row['talk']},{row['outcome']}"


def search(path: Path, key: Key, state: Path, store: Key | None = None) -> dict[str, Any]:
    """Searches an external list for canaries.

    Returns: `lines`: lines read. `datasets`: for each data set the canaries `planted` and `found`, and the first
    `lines` with a canary.
    """
    datasets: dict[str, str] = {}
    sets = read_state(state)
    for canaries in sets:
        for number in canary_numbers(key, canaries):
            datasets[number] = canaries.dataset
            if store is not None:
                datasets[store.token("number", f"+86{number}")] = canaries.dataset
    hits: dict[str, dict[str, int]] = {canaries.dataset: {} for canaries in sets}
    lines = 0
    for lines, line in enumerate(_lines(path), 1):
        for word in _words(line):
            if word in datasets:
                hits[datasets[word]].setdefault(word, lines)
    rows = [
        {
            "dataset": canaries.dataset,
            "planted": canaries.count,
            "found": len(hits[canaries.dataset]),
            "lines": sorted(set(hits[canaries.dataset].values()))[:_MAX_LINES],
        }
        for canaries in sets
    ]
    return {"lines": lines, "datasets": rows}


def read_state(path: Path) -> tuple[Canaries, ...]:
    """Returns the data sets with canaries; empty if the file does not exist."""
    if not path.exists():
        return ()
    return json_as(_State, path.read_bytes(), f"{path}, which `incident canaries plant` writes").planted


def add_to_state(path: Path, canaries: Canaries) -> None:
    """Adds a data set to the state, before its canaries are planted."""
    sets = read_state(path)
    if any(other.dataset == canaries.dataset for other in sets):
        raise ValueError(f"{path}: {canaries.dataset} has canaries already; expected another name for another copy")
    state = _State("callsieve canaries", 1, (*sets, canaries))
    write_atomic(path, (json.dumps(to_builtins(state)) + "\n").encode())


def _calls(key: Key, canaries: Canaries, start: int, end: int) -> pa.Table:
    """Returns answered calls from each canary to the next, spread over the period (Unix ms)."""
    numbers = canary_numbers(key, canaries)
    draws = [sha256(b"call\0" + key.secret + number.encode()).digest() for number in numbers]
    at = [start + int.from_bytes(draw[:8], "big") % max(end - start, 1) for draw in draws]
    columns = {
        "start": pa.array(at, pa.timestamp("ms", "UTC")),
        "caller": numbers,
        "callee": [*numbers[1:], *numbers[:1]],
        "ring": [2.0 + draw[8] % 20 for draw in draws],
        "talk": [5.0 + draw[9] for draw in draws],
        "outcome": ["answered"] * len(numbers),
        "released_by": ["caller"] * len(numbers),
        "route": ["domestic"] * len(numbers),
    }
    return pa.table(columns)


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"PAR1":
        with pq.ParquetFile(path, pre_buffer=False) as table:
            for batch in table.iter_batches():
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield " ; ".join(map(str, row))
        return
    with path.open("rb") as file, gzip.open(file) if magic[:2] == b"\x1f\x8b" else file as text:
        for line in text:
            yield line.decode("utf-8", "replace")


def _words(line: str) -> Iterator[str]:
    plain = unicodedata.normalize("NFKC", line)
    yield from TOKEN.findall(plain)
    for text in {plain, _SEPARATED.sub("", plain)}:
        for digits in re.findall(rf"\d{{{_LENGTH},}}", text):
            yield from (digits[i : i + _LENGTH] for i in range(len(digits) - _LENGTH + 1))
