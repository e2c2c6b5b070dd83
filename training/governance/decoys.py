"""Canary numbers: numbers that nobody has, seeded in data, so that a list on which they turn up tells where it is from.

They lie in codes that the number plan never assigned. Which of these numbers are canaries of a data set, a key
decides: HMAC-SHA-256(key, "canary" NUL data set NUL i). So no list of them is kept, nobody can pick them out without
the key, and each copy that is handed out can have its own.

Planted calls go from canary to canary, so that no real number's history changes. They are for what is handed out, not
for what is trained on.
"""

from __future__ import annotations

import gzip
import hmac
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.folders import write_whole
from callsieve.features.intake.intake import Intake
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.numberplan import NOT_ASSIGNED, changes, plan
from callsieve.features.keys.tokens import TOKEN, Key
from callsieve.features.reading.call_files import write_table
from callsieve.serving.custody.purposes import require_purpose

KIND, FORMAT = "callsieve canaries", 1
_LENGTH = 11
_DATASET = re.compile(r"(?!.*[0-9]{7})[A-Za-z0-9_.-]{1,64}")
_SEPARATED = re.compile(r"(?<=\d)[\s.()\-]+(?=\d)")


@dataclass(frozen=True, slots=True)
class Planted:
    """A data set that has canaries, and how many."""

    dataset: str
    count: int


@cache
def free_codes() -> tuple[str, ...]:
    """The three-digit codes of which the plan never assigned a part, nor to data cards.

    >>> free_codes()
    ('140', '142', '143', '154', '160', '163', '164', '168', '169', '179', '194')
    """
    periods = [plan(period) for period in range(len(changes()) + 1)]
    known = [(prefix[:3], kind) for one in periods for prefix, kind in one.networks.items()]
    taken = {code for code, kind in known if kind != NOT_ASSIGNED}
    return tuple(
        sorted({code for code, _ in known} - taken - {prefix[:3] for one in periods for prefix in one.machines})
    )


def canaries(key: Key, planted: Planted) -> list[str]:
    """The canary numbers of a data set, in national digits.

    Raises:
        ValueError: if the data set's name is none, or has seven digits in a row.
    """
    if not _DATASET.fullmatch(planted.dataset):
        raise ValueError("dataset: expected 1-64 of A-Z a-z 0-9 _ . -, without seven digits in a row")
    codes, found = free_codes(), dict[str, None]()
    for i in range(2 * planted.count + 10):  # two may be the same
        text = f"canary\0{planted.dataset}\0{i}".encode()
        drawn = int.from_bytes(hmac.digest(key.secret, text, "sha256")[:16], "big")
        rest, code = divmod(drawn, len(codes))
        found[f"{codes[code]}{rest % 10**8:08d}"] = None
    return list(found)[: planted.count]


def plant(calls: Path, out: Path, key: Key, store: Key, planted: Planted, state: Path) -> int:
    """Write a copy of keyed calls with as many calls more as there are canaries; returns how many rows it has.

    It is a copy to be handed out, and leaves the house as any other: by `callsieve export-calls`.

    Args:
        store: the key of the tokens in the calls.
        state: file that knows what was planted where; it holds no number.
    Raises:
        ValueError: if these are no keyed calls, their folder is not declared for export, or this data set has canaries.
        FileExistsError: if the copy exists.
    """
    if out.exists():
        raise FileExistsError(f"{out}: exists already; nothing is overwritten")
    require_purpose(calls.parent, "export")
    table = read_keyed(calls)
    if not table.num_rows:
        raise ValueError(f"{calls}: expected at least one call")
    start = pc.min_max(table["start"])
    more = Intake(store).table(_calls(key, planted, start["min"].as_py(), start["max"].as_py()))
    if "call" in table.column_names:
        ids = pa.array(range(table.num_rows, table.num_rows + more.num_rows), table["call"].type)
        more = more.append_column("call", ids)
    more = more.select(table.column_names).cast(table.schema)
    whole = pa.concat_tables([table, more]).unify_dictionaries().sort_by("start")
    # First the state: a copy that nobody knows of could never be recognised.
    remember(state, planted)
    write_table(whole, out)
    return int(whole.num_rows)


def raw_rows(key: Key, planted: Planted, start: float, end: float) -> Iterator[str]:
    """Lines of calls in the project's own layout, for whoever seeds records before they are keyed."""
    yield "start,caller,callee,ring,talk,outcome"
    table = _calls(key, planted, int(start * 1000), int(end * 1000))
    for row in table.to_pylist():
        yield f"{row['start'].isoformat()},{row['caller']},{row['callee']},{row['ring']},{row['talk']},{row['outcome']}"


def search(path: Path, key: Key, state: Path, store: Key | None = None) -> dict[str, Any]:
    """Look for canaries in a list from outside: text, plain or gzip, or Parquet; numbers as written, or tokens.

    Returns: lines read, and for each data set how many canaries it has, how many were found, and in which lines first.
    """
    wanted: dict[str, str] = {}
    sets = read_state(state)
    for one in sets:
        for number in canaries(key, one):
            wanted[number] = one.dataset
            if store is not None:
                wanted[store.token("number", f"+86{number}")] = one.dataset
    hits: dict[str, dict[str, int]] = {one.dataset: {} for one in sets}
    lines = 0
    for lines, line in enumerate(_lines(path), 1):
        for word in _words(line):
            if word in wanted:
                hits[wanted[word]].setdefault(word, lines)
    found = [
        {"dataset": one.dataset, "planted": one.count, "found": len(hits[one.dataset]),
         "lines": sorted(set(hits[one.dataset].values()))[:20]}
        for one in sets
    ]  # fmt: skip
    return {"lines": lines, "datasets": found}


def read_state(path: Path) -> list[Planted]:
    """What was planted so far; nothing if there is no file."""
    if not path.exists():
        return []
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["kind"] != KIND or said["format"] != FORMAT:
            raise ValueError
        return [Planted(str(one["dataset"]), int(one["count"])) for one in said["planted"]]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: expected the file that `incident canaries plant` keeps") from None


def remember(path: Path, planted: Planted) -> None:
    """Keep what is about to be planted.

    Raises:
        ValueError: if this data set has canaries already.
    """
    known = read_state(path)
    if any(one.dataset == planted.dataset for one in known):
        raise ValueError(f"{path}: {planted.dataset} has canaries already; expected another name for another copy")
    rows = [{"dataset": one.dataset, "count": one.count} for one in [*known, planted]]
    write_whole(path, (json.dumps({"kind": KIND, "format": FORMAT, "planted": rows}) + "\n").encode())


def _calls(key: Key, planted: Planted, start: int, end: int) -> pa.Table:
    """Answered calls from canary to canary, spread over the time of the others."""
    numbers = canaries(key, planted)
    drawn = [sha256(b"call\0" + key.secret + number.encode()).digest() for number in numbers]
    at = [start + int.from_bytes(one[:8], "big") % max(end - start, 1) for one in drawn]
    columns = {
        "start": pa.array(at, pa.timestamp("ms", "UTC")),
        "caller": numbers,
        "callee": [*numbers[1:], *numbers[:1]],
        "ring": [2.0 + one[8] % 20 for one in drawn],
        "talk": [5.0 + one[9] for one in drawn],
        "outcome": ["answered"] * len(numbers),
        "released_by": ["caller"] * len(numbers),
        "route": ["domestic"] * len(numbers),
    }
    return pa.table(columns)


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        begin = file.read(4)
    if begin == b"PAR1":
        with pq.ParquetFile(path, pre_buffer=False) as table:
            for batch in table.iter_batches():
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield " ; ".join(map(str, row))
        return
    with path.open("rb") as file, gzip.open(file) if begin[:2] == b"\x1f\x8b" else file as text:
        for line in text:
            yield line.decode("utf-8", "replace")


def _words(line: str) -> Iterator[str]:
    """All that may be a mobile number or a token."""
    plain = unicodedata.normalize("NFKC", line)
    yield from TOKEN.findall(plain)
    for text in {plain, _SEPARATED.sub("", plain)}:
        for run in re.findall(rf"\d{{{_LENGTH},}}", text):
            yield from (run[i : i + _LENGTH] for i in range(len(run) - _LENGTH + 1))
