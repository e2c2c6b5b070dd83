"""Writes the keyed calls of a file of any length to a Parquet file: memory does not grow with the file.

Repeated rows and dialling distances are looked for among the calls of one caller. So the calls as written are first
sent to shards by caller (`SealedShards`), and then keyed shard by shard. Numbers as written must not be read by anybody
from a disk. So the rows are encrypted under a random key that is only in memory, in a file without a name, which
vanishes with the process. The calls of a file that fills only one shard stay in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import atomic_path
from callsieve.features.files.parquet_file import write_groups
from callsieve.features.files.pipeline import one_ahead
from callsieve.features.files.progress import Progress
from callsieve.features.intake.intake import Intake
from callsieve.features.intake.text_columns import dictionary_decoded, unified
from callsieve.features.keys.tokens import Key
from callsieve.features.reading.call_files import read_batches, without_duplicates
from callsieve.features.reading.checked_cells import schema
from callsieve.features.reading.layouts import Layout, read_layout
from callsieve.features.reading.quarantine import MOST_INVALID, Quarantine, check_valid
from callsieve.features.records import CALL_COLUMNS

from .shuffle import shard_of, token_keys

SHARD_BYTES, MOST_SHARDS = 64 << 20, 1 << 10  # text of a shard; number of shards
PACKED = 8  # bytes of text for a byte of a gzip or Parquet file, about
CHUNK_ROWS = 1 << 18  # rows that are sent to shards at once
ROW, CALL = "row", "call"
COLUMNS = schema().append(pa.field(ROW, pa.int64()))
TEXTS = ("caller", "callee", "network_caller", "trunk", "operator", "device", "place", "cause")
READING = 0.6  # part of the time


def write_keyed(
    path: Path,
    layout_name: str,
    out: Path,
    *,
    key: Key,
    quarantine: Path | None,
    strict: bool,
    most_invalid: float = MOST_INVALID,
    history: Path | None = None,
    refused: Path | None = None,
    zone: str | None = None,
    note_callers: Callable[[list[str | None]], None] | None = None,
    progress: Progress,
) -> dict[str, int]:
    """Writes the keyed calls of a file of call records: shard by shard, and in order of start within a shard.

    Shards follow from the files alone, so equal files with equal keys give equal bytes.

    `zone`: time zone of the exchange; by default the layout's. `note_callers`: gets the different callers of each
    shard, as written.
    Returns: the number of quarantined rows by reason.
    """
    layout = read_layout(layout_name, zone)
    intake, count = intake_of(layout, key), count_shards(path)
    with (
        Quarantine(path.name, layout, quarantine, key, strict=strict) as invalid,
        SealedShards(out.parent, count, COLUMNS, TEXTS) as sealed,
    ):
        share = READING if history is None else READING / 2
        read = read_batches(path, layout, invalid, progress=lambda done, size: progress("read", share * done / size))
        parts = chain(chunks(read), chunks(() if history is None else earlier_calls(history, layout, most_invalid)))
        if count == 1:
            shards: Iterable[pa.Table] = [concatenated([COLUMNS.empty_table(), *parts])]
        else:
            for calls in parts:
                sealed.add(calls, caller_shards(intake, calls["caller"], count))
            shards = one_ahead(sealed.read, range(count))
        if note_callers is not None:
            shards = noting(shards, note_callers)
        write_groups(keyed_shards(shards, count, layout, invalid, intake, progress), out)
        if refused is not None:
            write_refused(invalid, refused)
    check_valid(int(np.count_nonzero(pq.read_table(out, columns=[CALL])[CALL].to_numpy() > 0)), invalid, most_invalid)
    return dict(sorted(invalid.counts.items()))


def noting(shards: Iterable[pa.Table], note_callers: Callable[[list[str | None]], None]) -> Iterator[pa.Table]:
    """Yields shards of calls as written, after `note_callers` got their different callers."""
    for calls in shards:
        note_callers(calls["caller"].unique().to_pylist())
        yield calls


def earlier_calls(path: Path, layout: Layout, most_invalid: float) -> Iterator[tuple[pa.Table, Array]]:
    """Yields the valid calls of a file with earlier calls, with negative row numbers; invalid rows are left out."""
    valid = 0
    with Quarantine(path.name, layout, None, None, strict=False) as invalid:
        for calls, rows in read_batches(path, layout, invalid):
            valid += len(rows)
            yield calls, -rows
    check_valid(valid, invalid, most_invalid)


def write_refused(invalid: Quarantine, path: Path) -> None:
    """Writes the number and the reason of each invalid row, in order of the rows."""
    rows = [np.concatenate(parts) for parts in invalid.refused.values()]
    counts = [len(part) for part in rows]
    reasons = np.repeat(np.array(list(invalid.refused), dtype=object), counts)
    table = pa.table({"row": np.concatenate([*rows, np.empty(0, np.int64)]), "reason": pa.array(reasons, pa.string())})
    with atomic_path(path) as part:
        pq.write_table(table.sort_by("row"), part)


def intake_of(layout: Layout, key: Key) -> Intake:
    """Returns an intake that keys the calls of a layout: in its hour zone, with its kind of numbers."""
    return Intake(key, zone=layout.hours_zone, numbers="codes" if layout.numbers == "codes" else "written")


def count_shards(path: Path) -> int:
    """Returns the number of shards for a file of call records, from its size."""
    with path.open("rb") as file:
        packed = file.read(4).startswith((b"\x1f\x8b", b"PAR1"))
    return min(1 + path.stat().st_size * (PACKED if packed else 1) // SHARD_BYTES, MOST_SHARDS)


def chunks(batches: Iterable[tuple[pa.Table, Array]]) -> Iterator[pa.Table]:
    """Yields batches of calls in chunks, with the number of each row in its file as column `row`."""
    waiting: list[pa.Table] = []
    for calls, rows in batches:
        waiting.append(calls.append_column(ROW, pa.array(rows)))
        if sum(table.num_rows for table in waiting) >= CHUNK_ROWS:
            yield unified(pa.concat_tables(waiting))
            waiting = []
    if waiting:
        yield unified(pa.concat_tables(waiting))


def caller_shards(intake: Intake, callers: pa.ChunkedArray, shards: int) -> Array:
    """Returns the shard of each caller: equal for all spellings of a number, and 0 for a caller without a number."""
    keys, _ = token_keys(intake.keyed("number", callers))
    return np.where(np.asarray(keys.is_valid()), shard_of(keys, shards), 0).astype(np.uint16)


def keyed_shards(
    shards: Iterable[pa.Table], count: int, layout: Layout, invalid: Quarantine, intake: Intake, progress: Progress
) -> Iterator[pa.Table]:
    """Yields the keyed calls of each of `count` shards in order of start."""
    for shard, rows in enumerate(shards):
        calls = rows.rename_columns([*CALL_COLUMNS, CALL])
        own = pc.greater(calls[CALL], 0)
        earlier, calls = calls.filter(pc.invert(own)), calls.filter(own)
        calls = without_duplicates(calls, calls[CALL].to_numpy(), layout, invalid)
        if earlier.num_rows:
            calls = concatenated([calls, earlier])
            again = Quarantine("", layout, None, None, strict=False)  # calls of both files are no fault
            calls = without_duplicates(calls, calls[CALL].to_numpy(), layout, again)
        intake.forget_calls()  # no caller of this shard has called before
        yield intake.table(calls.sort_by("start"))
        progress("key", READING + (1 - READING) * (shard + 1) / count)


def concatenated(tables: list[pa.Table]) -> pa.Table:
    """Returns the rows of tables in one chunk, with one dictionary a column."""
    return pa.concat_tables(tables).combine_chunks()


class SealedShards:
    """Rows of tables by shard, encrypted on disk."""

    def __init__(self, folder: Path, shards: int, columns: pa.Schema, texts: tuple[str, ...]) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in __exit__
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(shards)]
        self._columns, self._texts = columns, texts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def add(self, rows: pa.Table, to: Array) -> None:
        """Adds rows to their shards (`to`, uint16, for each row); the rows of a shard stay in order."""
        for name in self._texts:
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, name, dictionary_decoded(rows.column(place)))
        rows = rows.take(pa.array(np.argsort(to, kind="stable"))).combine_chunks()
        bounds = np.concatenate([[0], np.cumsum(np.bincount(to, minlength=len(self)))]).tolist()
        for places, (begin, end) in zip(self._places, pairwise(bounds), strict=True):
            if end > begin:
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, rows.schema) as stream:
                    stream.write_table(rows.slice(begin, end - begin))
                offset = self._file.seek(0, 2)
                data = self._cipher.encrypt(_nonce(offset), memoryview(sink.getvalue()).cast("B"), None)
                places.append((offset, self._file.write(data)))

    def read(self, shard: int) -> pa.Table:
        """Returns the rows of a shard in the order of `add`, texts with dictionaries."""
        tables = []
        for offset, size in self._places[shard]:
            self._file.seek(offset)
            data = self._cipher.decrypt(_nonce(offset), self._file.read(size), None)
            tables.append(pa.ipc.open_stream(data).read_all())
        if not tables:
            return self._columns.empty_table()
        rows = concatenated(tables)
        for name in self._texts:
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, name, rows.column(place).dictionary_encode().combine_chunks())
        return rows


def _nonce(offset: int) -> bytes:
    return offset.to_bytes(12, "little")
