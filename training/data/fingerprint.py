"""One hash for all rows of a table: by it a record says which calls a model is of."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.intake.text_columns import dictionary_decoded

_ROWS_HASHED = 1 << 20  # at a time


def fingerprint(table: pa.Table) -> str:
    """SHA-256 over the whole table: every row, unlike a digest of the first ten thousand.

    Equal values give equal hashes, however they are held: chunks, dictionaries and what lies under a null do not count.
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
    """Which values are null, and all values, with one and the same in place of every null."""
    values = dictionary_decoded(column.combine_chunks())
    if values.null_count:
        filler = "" if pa.types.is_string(values.type) else pa.scalar(0).cast(values.type)
        return pc.is_null(values), values.fill_null(filler)
    return pc.is_null(values), values


class _Hash:
    """A file that keeps only the hash of what is written."""

    def __init__(self, digest: hashlib._Hash) -> None:
        self.digest = digest
        self.closed = False

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)
