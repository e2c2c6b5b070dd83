"""Reads files of call records into one table of calls, and writes a table to a file.

A file is read in batches: split into cells (`delimited.py` for text, Arrow for Parquet) and decoded
(`checked_cells.py`); invalid rows are written to quarantine (`quarantine.py`). Duplicate calls are detected at the end,
over the whole file.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.arrays import Bools, Int64s
from callsieve.features.files.atomic import atomic_path
from callsieve.features.files.parquet_file import is_parquet
from callsieve.features.files.pipeline import one_ahead
from callsieve.features.keys.tokens import Key
from callsieve.features.records import CALL_COLUMNS, KEYED_COLUMNS

from .checked_cells import LONG, check_types, decode, schema
from .delimited import Batch, MatchColumns, read_lines
from .layouts import Layout, matching_layouts, read_layout
from .quarantine import CONFLICTING_DUPLICATE, DUPLICATE, Faults, Quarantine, check_valid

__all__ = ["Layout", "ReadResult", "read_calls", "read_layout", "write_table"]

BATCH_ROWS = 1 << 17
DAY = 86400.0
FEWEST_TIMED = 100  # times from which their median says something about the unit
OWN_LAYOUT = "write a layout whose [columns] and `dropped` name all columns of the file"
BytesRead = Callable[[int, int], None]
"""A callback that receives the bytes read so far and the bytes in all."""


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The calls of a file in its order, and the count of quarantined rows by reason.

    `table` has the columns `CALL_COLUMNS`: start and recorded timestamp[ms, UTC], ring and talk float64 seconds, others
    dictionary<int32, string>. Dictionaries of categories are the tuples of `records`.
    """

    table: pa.Table
    quarantined: Mapping[str, int]

    @property
    def accepted(self) -> int:
        """Count of rows that are calls."""
        return int(self.table.num_rows)

    @property
    def rows(self) -> int:
        """Count of all rows of the file."""
        return self.accepted + sum(self.quarantined.values())


def read_calls(
    path: str | Path,
    layout: Layout,
    *,
    quarantine: str | Path | None = None,
    key: Key | None = None,
    strict: bool = False,
    most_invalid: float | None = None,
    progress: BytesRead | None = None,
) -> ReadResult:
    """Reads call records of a Parquet or CSV file, plain or gzip, whose format is detected by its first bytes.

    Memory: one batch and the result.
    """
    if not isinstance(layout, Layout):
        raise TypeError(f"layout must be a Layout, see read_layout(name), got {type(layout).__name__}")
    tables, positions = [schema().empty_table()], [np.empty(0, np.int64)]
    quarantine_file = None if quarantine is None else Path(quarantine)
    with Quarantine(Path(path).name, layout, quarantine_file, key, strict=strict) as invalid:
        for calls, rows in read_batches(Path(path), layout, invalid, progress=progress):
            tables.append(calls)
            positions.append(rows)
        table = pa.concat_tables(tables).combine_chunks()
        tables.clear()
        table = without_duplicates(table, np.concatenate(positions), layout, invalid)
    if most_invalid is not None:
        check_valid(table.num_rows, invalid, most_invalid)
    return ReadResult(table, dict(sorted(invalid.counts.items())))


def read_batches(
    path: Path, layout: Layout, invalid: Quarantine, *, progress: BytesRead | None = None
) -> Iterator[tuple[pa.Table, Int64s]]:
    """Yields the valid calls of a file in its order, batch by batch, with their row numbers; repeats are among them.

    While a batch is decoded, the next one is split into cells.
    """
    size, columns = path.stat().st_size, dict[str, tuple[str, ...]]()
    latest = time.time() + DAY  # of a valid call, in Unix seconds
    timed, longer = Counter[str](), Counter[str]()

    def match(names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        try:
            columns.update(layout.match(names, path.name))
        except ValueError as error:
            if set(KEYED_COLUMNS) <= set(names):
                raise ValueError(f"{path.name}: looks like keyed calls; expected --layout keyed") from None
            others = [name for name in matching_layouts(names) if name != layout.name]
            fits = f"layout {' or '.join(others)} fits" if others else OWN_LAYOUT
            raise ValueError(f"{error}; {fits}") from None
        return columns

    def decoded(batch: Batch) -> tuple[Batch, pa.Table, Faults]:
        return batch, *decode(batch.cells, columns, layout, latest)

    for (cells, rows, broken, done), calls, faults in one_ahead(decoded, _batches(path, layout, match)):
        roles = {name: role for role, names in reversed(columns.items()) for name in names}
        invalid.add(rows, faults, cells, roles, broken=broken)
        for name, longest in LONG.items():
            seconds = calls[name].to_numpy()
            timed[name] += int(np.count_nonzero(seconds > 0))
            longer[name] += int(np.count_nonzero(seconds > longest))
        valid = faults.which == 0
        yield (calls, rows) if valid.all() else (calls.filter(pa.array(valid)), rows[valid])
        if progress is not None:
            progress(done, size)
    for name, count in timed.items():
        if count >= FEWEST_TIMED and 2 * longer[name] > count:
            raise ValueError(
                f"{path.name}: half of the calls with a {name} time have one of more than {LONG[name]:,.0f} s: {name} "
                "is in seconds, so divide milliseconds by 1000"
            )


def without_duplicates(calls: pa.Table, rows: Int64s, layout: Layout, invalid: Quarantine) -> pa.Table:
    """Returns the calls without rows that repeat the caller, callee and start of another row.

    Of the rows of a call, the first one with an end stays, or the first one if none has an end.

    `rows`: number of each call's row in the file, shape (calls,). Negative numbers are those of an earlier file: its
    rows stay only for calls without a row of this file.
    """
    faults, first = _duplicates(calls, rows < 0, two_sided="subscriber" in layout.columns)
    invalid.add(rows, faults, calls, {name: name for name in CALL_COLUMNS}, first=rows[first])
    return calls.filter(pa.array(faults.which == 0)).combine_chunks() if faults.which.any() else calls


def _batches(path: Path, layout: Layout, match: MatchColumns) -> Iterator[Batch]:
    return _parquet_batches(path, match) if is_parquet(path) else read_lines(path, match, layout)


def _parquet_batches(path: Path, match: MatchColumns) -> Iterator[Batch]:
    try:
        types = pq.read_schema(path)
        columns = match(types.names)
        check_types(types, columns, path.name)
        wanted = sorted({name for names in columns.values() for name in names})
        texts = [name for name in wanted if pa.types.is_string(types.field(name).type)]
        size, done = path.stat().st_size, 0
        with pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
                batch.validate(full=True)
                rows = np.arange(done + 1, done + 1 + batch.num_rows)
                done += batch.num_rows
                yield Batch(pa.Table.from_batches([batch]), rows, [], size * done // file.metadata.num_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        # Arrow's own message can have many lines, and can quote the data.
        raise ValueError(f"{path.name}: broken Parquet file, expected a footer, whole pages and UTF-8 text") from None


def _duplicates(table: pa.Table, earlier: Bools, *, two_sided: bool) -> tuple[Faults, Int64s]:
    """Marks rows that repeat a call (caller, callee and start) of another row.

    Returns: the faults, and for each row the row of its call that stays.
    """
    faults, first = Faults(table.num_rows), np.arange(table.num_rows)
    start, caller, callee = (_comparable(table.column(name)) for name in ("start", "caller", "callee"))
    # Few calls repeat: a cheap hash selects candidates, and only these are sorted exactly.
    times, callers, callees = (column.view(np.uint64) for column in (start, caller, callee))
    mixed = (times * np.uint64(0x9E3779B97F4A7C15)) ^ (callers << np.uint64(32))
    mixed = (mixed + callees) * np.uint64(0xD6E8FEB86659FD93)
    ordered = np.sort(mixed)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not twice.size:
        return faults, first
    at = np.flatnonzero(twice[np.minimum(np.searchsorted(twice, mixed), len(twice) - 1)] == mixed)
    without_end = np.asarray(pc.or_(pc.is_null(table["ring"]), pc.is_null(table["talk"])))
    at = at[np.lexsort((at, without_end[at], earlier[at], start[at], callee[at], caller[at]))]
    same = np.zeros(len(at), dtype=bool)
    same[1:] = np.all([column[at[1:]] == column[at[:-1]] for column in (start, caller, callee)], axis=0)
    heads = np.maximum.accumulate(np.where(same, 0, np.arange(len(at))))
    first[at] = at[heads]
    again = np.flatnonzero(first != np.arange(len(first)))
    compared = table.select(("talk",) if two_sided else CALL_COLUMNS)
    repeats, originals = (
        [_comparable(column) for column in compared.take(rows).columns] for rows in (again, first[again])
    )
    equal = np.all([left == right for left, right in zip(repeats, originals, strict=True)], axis=0)
    equal |= without_end[again] & ~without_end[first[again]]  # the start of a call whose end stays
    for rows, reason, expected in (
        (again[equal], DUPLICATE, "each call once"),
        (again[~equal], CONFLICTING_DUPLICATE, "one record of a caller, callee and start"),
    ):
        bad = np.zeros(table.num_rows, dtype=bool)
        bad[rows] = True
        faults.mark(bad, reason, "", expected)
    return faults, first


def _comparable(column: pa.ChunkedArray) -> Int64s:
    array = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.indices
    elif pa.types.is_floating(array.type):
        floats = array.to_numpy(zero_copy_only=False) + 0.0  # -0.0 is 0.0
        return np.asarray(floats.view(np.int64))
    return np.asarray(array.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False))


def write_table(table: pa.Table, path: str | Path) -> None:
    """Writes a Parquet file atomically: no reader ever sees a partial file."""
    with atomic_path(Path(path)) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)
