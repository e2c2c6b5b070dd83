"""Columns of text in Arrow tables: with a dictionary or without one, however whoever wrote them held them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


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
