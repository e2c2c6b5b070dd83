"""Files of call records -> one table of calls, and of keyed calls; and a table -> a file.

A call record is read in batches: split into cells (`lines.py` for text, Arrow for Parquet), decoded
(`cells.py`), and its bad rows set apart (`quarantine.py`). Repeated calls are found at the end, over the
whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .cells import check_types, decode, schema
from .layouts import Layout, layout
from .lines import Batch, Find, read_lines
from .pseudonyms import is_token
from .quarantine import CONFLICTING_DUPLICATE, DUPLICATE, Faults, Quarantine
from .records import (
    ATTESTATIONS,
    CALL_COLUMNS,
    KEYED_COLUMNS,
    NUMBER_CLASSES,
    OUTCOMES,
    RELEASED_BY,
    ROUTES,
    STEPS,
    UNKNOWN,
    KeyedCall,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from .pseudonyms import Key

__all__ = ["Layout", "ReadResult", "keyed_calls", "layout", "read_calls", "read_keyed", "write_table"]

BATCH_ROWS = 1 << 17
DAY = 86400.0
_TEXTS = ("trunk", "operator", "device", "place")
KEYED_TOKENS = ("caller", "callee", "caller_block", *_TEXTS)
KEYED_CATEGORIES = {
    "outcome": OUTCOMES,
    "released_by": RELEASED_BY,
    "caller_class": NUMBER_CLASSES,
    "callee_class": NUMBER_CLASSES,
    "step": STEPS,
    "attestation": ATTESTATIONS,
    "route": ROUTES,
}
# What need not be known of a call; UNKNOWN is null in a table.
KEYED_OPTIONAL = frozenset(
    ["ring", "talk", "recorded", *_TEXTS, "same_region", "shared_prefix", "step", "presented_differs"]
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The calls of a file in its order, and how many of its rows were quarantined, by reason.

    `table` has the columns `CALL_COLUMNS`: start and recorded timestamp[ms, UTC], ring and talk float64
    seconds, others dictionary<int32, string>. Dictionaries of categories are the tuples of `records`, in
    their order.
    """

    table: pa.Table
    quarantined: Mapping[str, int]

    @property
    def accepted(self) -> int:
        """Rows that are calls."""
        return int(self.table.num_rows)

    @property
    def rows(self) -> int:
        """All rows of the file."""
        return self.accepted + sum(self.quarantined.values())


def read_calls(
    path: str | Path,
    layout: Layout,
    *,
    quarantine: str | Path | None = None,
    key: Key | None = None,
    strict: bool = False,
    latest: float | None = None,
    progress: Progress | None = None,
) -> ReadResult:
    """Call records of a Parquet or CSV file, plain or gzip, told by its first bytes.

    `quarantine` is a file for the bad rows (JSON lines, numbers as tokens of `key`); without it they are only
    counted. `latest` is the last Unix second believed, by default a day from now. `progress` takes bytes done
    and bytes in all. Memory: one batch and the result.
    Raises: ValueError: if the file as a whole cannot be read, or `strict` and a row is bad.
    """
    import pyarrow as pa

    path = Path(path)
    size = path.stat().st_size
    latest = time.time() + DAY if latest is None else latest
    found: dict[str, tuple[str, ...]] = {}

    def find(names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        found.update(layout.find(names, path.name))
        return found

    tables, places = [schema().empty_table()], [np.empty(0, np.int64)]
    kept_file = None if quarantine is None else Path(quarantine)
    with Quarantine(path.name, layout, kept_file, key, strict=strict) as apart:
        for cells, rows, broken, done in _batches(path, layout, find):
            calls, faults = decode(cells, found, layout, latest)
            roles = {name: role for role, names in reversed(found.items()) for name in names}
            apart.add(rows, faults, cells, roles, broken=broken)
            sound = faults.which == 0
            tables.append(calls if sound.all() else calls.filter(pa.array(sound)))
            places.append(rows[sound])
            if progress is not None:
                progress(done, size)
        table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        tables.clear()
        rows = np.concatenate(places)
        faults, first = _repeated(table, "subscriber" in found)
        apart.add(rows, faults, table, {name: name for name in CALL_COLUMNS}, first=rows[first])
    if faults.which.any():
        table = table.filter(pa.array(faults.which == 0)).combine_chunks()
    return ReadResult(table, dict(sorted(apart.counts.items())))


def _batches(path: Path, layout: Layout, find: Find) -> Iterator[Batch]:
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    return _parquet_batches(path, find) if parquet else read_lines(path, layout, find)


def _parquet_batches(path: Path, find: Find) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(path)
        found = find(columns.names)
        check_types(columns, found, path.name)
        wanted = sorted({name for names in found.values() for name in names})
        texts = [name for name in wanted if pa.types.is_string(columns.field(name).type)]
        size, done = path.stat().st_size, 0
        with pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
                batch.validate(full=True)
                rows = np.arange(done + 1, done + 1 + batch.num_rows)
                done += batch.num_rows
                yield Batch(pa.Table.from_batches([batch]), rows, [], size * done // file.metadata.num_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        # Arrow's own message may run over many lines, and quote the data.
        raise ValueError(f"{path.name}: broken Parquet file, expected a footer, whole pages and UTF-8 text") from None


def _repeated(table: pa.Table, sides: bool) -> tuple[Faults, npt.NDArray[np.int64]]:
    """Faults of calls that stand in the table already, and for each row the first of its call.

    One caller calls one callee once at a moment. Two `sides` of a call agree in talk, not in what else
    they know.
    """
    faults, first = Faults(table.num_rows), np.arange(table.num_rows)
    start, caller, callee = (_comparable(table.column(name)) for name in ("start", "caller", "callee"))
    # Few calls repeat, so a cheap mixed hash finds the few rows that may, and only these are sorted exactly.
    moment, one, other = (column.view(np.uint64) for column in (start, caller, callee))
    mixed = (moment * np.uint64(0x9E3779B97F4A7C15)) ^ (one << np.uint64(32))
    mixed = (mixed + other) * np.uint64(0xD6E8FEB86659FD93)
    ordered = np.sort(mixed)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    at = np.flatnonzero(np.isin(mixed, twice))
    if not at.size:
        return faults, first
    at = at[np.lexsort((at, start[at], callee[at], caller[at]))]
    same = np.zeros(len(at), dtype=bool)
    same[1:] = np.all([column[at[1:]] == column[at[:-1]] for column in (start, caller, callee)], axis=0)
    heads = np.maximum.accumulate(np.where(same, 0, np.arange(len(at))))
    first[at] = at[heads]
    again = first != np.arange(len(first))
    compared = ("talk",) if sides else CALL_COLUMNS
    columns = [_comparable(table.column(name)) for name in compared]
    alike = np.all([column == column[first] for column in columns], axis=0)
    faults.mark(again & alike, DUPLICATE, "", "each call once")
    faults.mark(again & ~alike, CONFLICTING_DUPLICATE, "", "one record of a caller, callee and start")
    return faults, first


def _comparable(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Whole numbers that are equal where the values are, null included."""
    import pyarrow as pa

    array = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.indices
    elif pa.types.is_floating(array.type):
        floats = array.to_numpy(zero_copy_only=False) + 0.0  # -0.0 is 0.0
        return np.asarray(floats.view(np.int64))
    return np.asarray(array.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False))


def read_keyed(path: str | Path) -> pa.Table:
    """A Parquet file of keyed calls: columns `KEYED_COLUMNS` and, if there, the `call` ids.

    Tokens and categories come as dictionary<int32, string>, all else in the width that was written.
    Raises: ValueError: if the file is not such a table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected a Parquet file of keyed calls")
    try:
        names = pq.read_schema(path).names
        wrong = sorted(set(KEYED_COLUMNS) ^ (set(names) - {"call"}))
        if wrong:
            raise ValueError(f"{path.name}: columns of keyed calls expected, {wrong[0]!r} is missing or unknown")
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read([*KEYED_COLUMNS, *({"call"} & set(names))])
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise ValueError(f"{path.name}: broken Parquet file, expected a table of keyed calls") from None
    for i, name in enumerate(KEYED_COLUMNS):
        column = table.column(name)
        if column.null_count and name not in KEYED_OPTIONAL:
            raise ValueError(f"{path.name}: column {name!r} has {column.null_count} nulls, expected none")
        table = table.set_column(i, name, _keyed_column(column, name, path.name))
    return table.unify_dictionaries()


def keyed_calls(calls: pa.Table) -> Iterator[KeyedCall]:
    """The rows of a table of keyed calls, one by one, as a `History` takes them.

    Raises: ValueError: if a category holds a word that is not one of `records.py`.
    """
    unknown = {"same_region", "shared_prefix", "presented_differs"}  # numbers that are UNKNOWN where the table has null
    for batch in calls.select(KEYED_COLUMNS).to_batches(max_chunksize=BATCH_ROWS):
        columns = [batch.column(i).to_pylist() for i in range(len(KEYED_COLUMNS))]
        for i, name in enumerate(KEYED_COLUMNS):
            if name in KEYED_CATEGORIES:
                columns[i] = _codes(columns[i], name)
            elif name in unknown:
                columns[i] = [UNKNOWN if value is None else value for value in columns[i]]
        yield from map(KeyedCall, *columns)


def _codes(words: list[str | None], name: str) -> list[int]:
    codes: dict[str | None, int] = {word: code for code, word in enumerate(KEYED_CATEGORIES[name])}
    if name in KEYED_OPTIONAL:
        codes[None] = UNKNOWN
    try:
        return [codes[word] for word in words]
    except KeyError as error:
        raise ValueError(f"column {name!r}: expected one of {', '.join(KEYED_CATEGORIES[name])}, got {error}") from None


def _keyed_column(column: pa.ChunkedArray, name: str, file: str) -> pa.ChunkedArray:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if name not in KEYED_TOKENS and name not in KEYED_CATEGORIES:
        if not pa.types.is_integer(column.type):
            raise ValueError(f"{file}: column {name!r} holds {kind}, expected whole numbers")
        return column
    if not pa.types.is_string(kind):
        raise ValueError(f"{file}: column {name!r} holds {kind}, expected text")
    column = column.cast(pa.dictionary(pa.int32(), pa.string()))
    words = {word for chunk in column.chunks for word in chunk.dictionary.to_pylist()}
    if name in KEYED_CATEGORIES:
        sound, wanted = words <= set(KEYED_CATEGORIES[name]), "one of " + ", ".join(KEYED_CATEGORIES[name])
    else:
        sound, wanted = all(is_token(word) for word in words), "keyed tokens only"
    if not sound:
        raise ValueError(f"{file}: column {name!r} holds another text, expected {wanted}")
    return column


def write_table(table: pa.Table, path: str | Path) -> None:
    """Write a Parquet file whole or not at all: no reader ever sees half of one."""
    import pyarrow.parquet as pq

    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
