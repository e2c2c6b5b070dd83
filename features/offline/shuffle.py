"""Rows on disk, sorted by their next shard: the files between the stages of `stages.py`.

A file contains one record batch for each shard and is written atomically. Tokens are stored as the 16 bytes that their
letters stand for. Tokens come from a keyed hash, so their bytes assign a key to a shard, on every machine alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import atomic_path
from callsieve.features.intake.text_columns import unified

LETTERS, FIRST_LETTER = 32, ord("a")  # a token ends with 32 letters, half a byte each


def to_cells(rows: Array) -> pa.FixedSizeBinaryArray:
    """Returns an array (n, k) as a column of n fixed-size binary cells."""
    rows = np.ascontiguousarray(rows)
    width = rows.shape[1] * rows.itemsize
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(rows)])


def from_cells(column: pa.Array | pa.ChunkedArray, dtype: npt.DTypeLike) -> Array:
    """Returns a column of cells as an array (n, k). Rows at nulls are undefined."""
    parts = []
    for chunk in getattr(column, "chunks", [column]):
        if len(chunk):
            begin, size = (count * column.type.byte_width for count in (chunk.offset, len(chunk)))
            raw = np.frombuffer(chunk.buffers()[1], dtype=np.uint8)[begin : begin + size]
            parts.append(raw.view(dtype).reshape(len(chunk), -1))
    if len(parts) == 1:
        return parts[0]
    empty = np.empty((0, column.type.byte_width), dtype=np.uint8).view(dtype)
    return np.concatenate(parts) if parts else empty


def copied_cells(*columns: pa.ChunkedArray) -> Array:
    """Returns columns of integers in cells, one after the other, as a new int64 array (n, k)."""
    parts = [from_cells(chunk, np.int64) for column in columns for chunk in column.chunks]
    return np.concatenate([np.empty((0, columns[0].type.byte_width // 8), dtype=np.int64), *parts])


def token_keys(tokens: pa.DictionaryArray) -> tuple[pa.FixedSizeBinaryArray, pa.DictionaryArray]:
    """Returns the 16 bytes of each token, null for none, and its epoch."""
    texts = tokens.dictionary
    letters = pc.utf8_slice_codeunits(texts, start=-LETTERS)
    halves = np.frombuffer(letters.buffers()[2] or b"", dtype=np.uint8)[: LETTERS * len(texts)] - FIRST_LETTER
    keys = to_cells((halves[0::2] << 4 | halves[1::2]).reshape(-1, LETTERS // 2))
    epochs = pc.utf8_slice_codeunits(texts, start=0, stop=-LETTERS - 1).dictionary_encode()
    return keys.take(tokens.indices), epochs.take(tokens.indices)


def token_texts(keys: pa.FixedSizeBinaryArray, epochs: pa.Array) -> pa.DictionaryArray:
    """Returns tokens from their bytes and epochs. Where all are of one epoch, each distinct token is made once."""
    epoch = epochs.drop_null().unique().cast(pa.string())
    if len(epoch) > 1:
        return _token_texts(keys, epochs.cast(pa.string())).dictionary_encode()
    distinct = keys.dictionary_encode()
    words = _token_texts(distinct.dictionary, pa.array(epoch.to_pylist() * len(distinct.dictionary), pa.string()))
    return pa.DictionaryArray.from_arrays(distinct.indices, words)


def _token_texts(keys: pa.FixedSizeBinaryArray, epochs: pa.StringArray) -> pa.StringArray:
    cells = from_cells(keys, np.uint8)
    halves = np.stack([cells >> 4, cells & 15], axis=2) + np.uint8(FIRST_LETTER)
    offsets = np.arange(0, LETTERS * len(keys) + 1, LETTERS, dtype=np.int32)
    letters = pa.StringArray.from_buffers(len(keys), pa.py_buffer(offsets), pa.py_buffer(halves))
    return pc.binary_join_element_wise(epochs, letters, ".")


def shard_of(keys: pa.Array | pa.ChunkedArray, shards: int) -> Array:
    """Returns the shard of each key, from its first bytes."""
    return (from_cells(keys, np.uint64)[:, 0] % np.uint64(shards)).astype(np.uint16)


def dense_codes(*columns: pa.ChunkedArray) -> tuple[Array, pa.FixedSizeBinaryArray]:
    """Returns the keys of these columns, concatenated, as int32 codes, -1 for null; and the keys by code."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    encoded = pa.chunked_array(chunks, type=columns[0].type).dictionary_encode().combine_chunks()
    return np.array(encoded.indices.fill_null(-1), dtype=np.int32), encoded.dictionary


def write_parts(
    rows: dict[str, pa.Array],
    to: Array,
    shards: int,
    path: Path,
    *,
    compression: str | None,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Writes rows sorted by shard (`to`), otherwise in their order; and `notes`, which `read_notes` returns."""
    batch = pa.record_batch(rows, metadata=notes).take(pa.array(np.argsort(to, kind="stable")))
    bounds = np.concatenate([[0], np.cumsum(np.bincount(to, minlength=shards))]).tolist()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with atomic_path(path) as part, pa.ipc.new_file(part, batch.schema, options=options) as file:
        for begin, end in pairwise(bounds):
            file.write_batch(batch.slice(begin, end - begin))


def read_part(paths: Sequence[Path], shard: int) -> pa.Table:
    """Returns the rows of a shard from all files."""
    return unified(pa.Table.from_batches(list(read_batches(paths, shard))))


def read_batches(paths: Sequence[Path], shard: int) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a shard, file by file."""
    for path in paths:
        with pa.OSFile(str(path)) as source:
            yield pa.ipc.open_file(source).get_batch(shard)


def read_notes(path: Path) -> dict[str, str]:
    """Returns the notes of a file that `write_parts` wrote."""
    with pa.OSFile(str(path)) as source:
        notes = pa.ipc.open_file(source).schema.metadata or {}
    return {name.decode(): text.decode() for name, text in notes.items()}
