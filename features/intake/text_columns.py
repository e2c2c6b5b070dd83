"""Columns of text in Arrow tables: with a dictionary or without one, however whoever wrote them held them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


def plain(column: Any) -> Any:
    """The same values without a dictionary.

    >>> plain(pa.array(["a", "b", "a"]).dictionary_encode()).type, plain(pa.array([1])).type
    (DataType(string), DataType(int64))
    """
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def coded(column: Any) -> Any:
    """The same values with a dictionary.

    >>> coded(pa.array(["a", "b", "a"])).indices.to_pylist()
    [0, 1, 0]
    """
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def only_used(table: pa.Table) -> pa.Table:
    """The same rows with no word in a dictionary that no row has: a file would hold the words of rows taken out.

    >>> column = pa.array(["a", "b"]).dictionary_encode()
    >>> only_used(pa.table({"x": column}).slice(1))["x"].chunk(0).dictionary.to_pylist()
    ['b']
    """
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field, plain(table.column(place)).dictionary_encode().cast(field.type))
    return table


def words(column: pa.ChunkedArray) -> npt.NDArray[np.str_]:
    """The same as an array of texts, "" where there is none.

    >>> words(pa.chunked_array([["a", None]])).tolist()
    ['a', '']
    """
    return np.asarray(pc.fill_null(column.cast(pa.string()), "").to_numpy(zero_copy_only=False)).astype(str)


def codes(column: pa.ChunkedArray) -> tuple[Array, int]:
    """A text column as integers from 0 in order of first appearance, -1 for null; and how many there are."""
    encoded = plain(column.combine_chunks()).dictionary_encode()  # anew: one of a part may hold words of the whole
    return np.asarray(encoded.indices.fill_null(-1).to_numpy(), dtype=np.int64), len(encoded.dictionary)
