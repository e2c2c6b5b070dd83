"""Text columns of Arrow tables, with or without a dictionary."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array


def dictionary_decoded(column: Any) -> Any:
    """Returns the column without a dictionary.

    >>> dictionary_decoded(pa.array(["a", "b", "a"]).dictionary_encode()).type, dictionary_decoded(pa.array([1])).type
    (DataType(string), DataType(int64))
    """
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def dictionary_column(
    codes: Array, words: Collection[str] | pa.Array, width: npt.DTypeLike = np.int32
) -> pa.DictionaryArray:
    """Returns a column of words by their codes; a negative code is null, and the index under it is 0.

    Any number may be under a null, but Arrow's `unify_dictionaries` looks up every index, and so reads outside its map.

    >>> dictionary_column(np.array([1, -1]), ["a", "b"]).to_pylist()
    ['b', None]
    """
    indices = pa.array(np.maximum(codes, 0).astype(width), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))


def unified(table: pa.Table) -> pa.Table:
    """Returns the table with each dictionary column in one chunk, which has one dictionary.

    Unlike Arrow's `unify_dictionaries`, it looks up no index under a null. Other columns keep their chunks.

    >>> parts = [pa.table({"x": pa.array(words).dictionary_encode()}) for words in (["a"], ["b", None])]
    >>> unified(pa.concat_tables(parts))["x"].chunks[0].dictionary.to_pylist()
    ['a', 'b']
    """
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and table.column(i).num_chunks > 1:
            table = table.set_column(i, field, table.column(i).combine_chunks())
    return table


def dictionary_encoded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """Returns the column as one array with a dictionary.

    >>> dictionary_encoded(pa.chunked_array([["a", "b"], ["a"]])).indices.to_pylist()
    [0, 1, 0]
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column if pa.types.is_dictionary(column.type) else column.cast(pa.string()).dictionary_encode()


def drop_unused_words(table: pa.Table) -> pa.Table:
    """Removes dictionary words that no row uses: a file would otherwise hold the texts of removed rows.

    >>> column = pa.array(["a", "b"]).dictionary_encode()
    >>> drop_unused_words(pa.table({"x": column}).slice(1))["x"].chunk(0).dictionary.to_pylist()
    ['b']
    """
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field, dictionary_decoded(table.column(i)).dictionary_encode().cast(field.type))
    return table


def to_strings(column: pa.ChunkedArray) -> npt.NDArray[np.str_]:
    """Returns the column as a NumPy array of texts, "" for null.

    >>> to_strings(pa.chunked_array([["a", None]])).tolist()
    ['a', '']
    """
    return np.asarray(pc.fill_null(column.cast(pa.string()), "").to_numpy(zero_copy_only=False)).astype(str)


def factorize(column: pa.ChunkedArray) -> tuple[Array, int]:
    """Returns integer codes of a text column and the number of distinct texts.

    Codes count from 0 in order of first appearance; -1 is null.
    """
    # An existing dictionary is dropped: that of a part of a table may have the words of the whole.
    encoded = dictionary_decoded(column.combine_chunks()).dictionary_encode()
    return np.asarray(encoded.indices.fill_null(-1).to_numpy(), dtype=np.int64), len(encoded.dictionary)
