"""Calls as written, on disk for the length of one process, by shard: readable by this process alone.

Numbers as written must not be read by anybody from a disk. So the rows are encrypted under a random key that is only
in memory, in a file without a name, which vanishes with the process.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from callsieve.features.arrays import Array
from callsieve.features.intake.text_columns import dictionary_decoded


class SealedShards:
    """Rows of tables by shard, encrypted on disk.

    Args:
        folder: its file system holds the rows.
        shards: number of shards.
        columns: schema of the rows.
        texts: columns whose dictionaries are large: they are stored without a dictionary.
    """

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
        """Adds rows to their shards; the rows of a shard stay in order.

        Args:
            to: the shard of each row, uint16.
        """
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
        rows = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        for name in self._texts:
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, name, rows.column(place).dictionary_encode().combine_chunks())
        return rows


def _nonce(offset: int) -> bytes:
    """Returns 12 bytes that occur once under a key: at an offset, data begin once."""
    return offset.to_bytes(12, "little")
