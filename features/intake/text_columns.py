"""Text columns of Arrow tables, with or without a dictionary."""

from __future__ import annotations

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


def dictionary_encoded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """Returns the column as one array with a dictionary.

    >>> dictionary_encoded(pa.chunked_array([["a", "b"], ["a"]])).indices.to_pylist()
    [0, 1, 0]
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
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
