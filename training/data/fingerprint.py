"""Hashes all rows of a table: a record names the calls of its model by this hash."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.intake.text_columns import dictionary_decoded

_ROWS_HASHED = 1 << 20  # at a time


def fingerprint(table: pa.Table) -> str:
    """Returns the SHA-256 of a table, over every row.

    Equal values give equal hashes in any memory layout: chunks, dictionaries and bytes under a null do not count.
    """
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table[name]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        digest.update(f"{name} {kind} {len(column)}\n".encode())
        for begin in range(0, len(column), _ROWS_HASHED):
            for part in plain_values(column.slice(begin, _ROWS_HASHED)):
                with pa.ipc.new_stream(pa.PythonFile(_Hash(digest), mode="w"), pa.schema([("", part.type)])) as writer:
                    writer.write_batch(pa.record_batch([part], names=[""]))
    return digest.hexdigest()


def plain_values(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Returns which values are null, and all values with one filler in place of every null."""
    values = dictionary_decoded(column.combine_chunks())
    if values.null_count:
        filler = "" if pa.types.is_string(values.type) else pa.scalar(0).cast(values.type)
        return pc.is_null(values), values.fill_null(filler)
    return pc.is_null(values), values


class _Hash:
    """A write-only file that hashes its bytes and stores none."""

    def __init__(self, digest: hashlib._Hash) -> None:
        self.digest = digest
        self.closed = False

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)
