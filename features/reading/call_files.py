"""Files of call records -> one table of calls; and a table -> a file.

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

from callsieve.features.files.atomic import whole
from callsieve.features.records import CALL_COLUMNS, KEYED_COLUMNS

from .cells import check_types, decode, schema
from .delimited import Batch, Find, read_lines
from .layouts import Layout, fitting, layout
from .quarantine import CONFLICTING_DUPLICATE, DUPLICATE, Faults, Quarantine

if TYPE_CHECKING:
    import pyarrow as pa

    from callsieve.features.keys.tokens import Key

__all__ = ["Layout", "ReadResult", "layout", "read_calls", "write_table"]

BATCH_ROWS = 1 << 17
DAY = 86400.0
RowProgress = Callable[[int, int], None]


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
    progress: RowProgress | None = None,
) -> ReadResult:
    """Call records of a Parquet or CSV file, plain or gzip, told by its first bytes.

    `quarantine` is a file for the bad rows (JSON lines, numbers as tokens of `key`); without it they are only
    counted. `latest` is the last Unix second believed, by default a day from now. `progress` takes bytes done
    and bytes in all. Memory: one batch and the result.
    Raises: ValueError: if the file as a whole cannot be read, or `strict` and a row is bad. TypeError: if `layout` is
    the name of one.
    """
    import pyarrow as pa

    if not isinstance(layout, Layout):
        raise TypeError(f"layout must be a Layout, as readers.layout(name) gives it, got {type(layout).__name__}")
    path = Path(path)
    size = path.stat().st_size
    latest = time.time() + DAY if latest is None else latest
    found: dict[str, tuple[str, ...]] = {}

    def find(names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        try:
            found.update(layout.find(names, path.name))
        except ValueError as error:
            if set(KEYED_COLUMNS) <= set(names):
                raise ValueError(f"{path.name}: looks like keyed calls; expected --layout keyed") from None
            others = [name for name in fitting(names) if name != layout.name]
            raise ValueError(f"{error}; fits layout {' or '.join(others)}" if others else str(error)) from None
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
        with pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True, pre_buffer=False) as file:
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


def write_table(table: pa.Table, path: str | Path) -> None:
    """Write a Parquet file whole or not at all: no reader ever sees half of one."""
    import pyarrow.parquet as pq

    with whole(Path(path)) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)
