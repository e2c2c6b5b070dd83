"""Tables of keyed calls: reading a file, checking the columns, and iterating over the rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.parquet_file import parquet_errors
from callsieve.features.keys.tokens import TOKEN, Use
from callsieve.features.records import KEYED_CATEGORIES, KEYED_COLUMNS, UNKNOWN, KeyedCall

from .text_columns import unified

BATCH_ROWS = 1 << 17
TEXTS: tuple[Use, ...] = ("trunk", "operator", "device", "place")
KEYED_TOKENS = ("caller", "callee", "caller_block", *TEXTS)
_TOKEN = f"^{TOKEN.pattern}$"  # like `tokens.is_token`, for a whole column at once
# Facts that may be missing: UNKNOWN in a call, null in a table.
KEYED_OPTIONAL = frozenset(
    ["ring", "talk", "recorded", *TEXTS, "same_region", "shared_prefix", "step", "presented_differs"]
)


def read_keyed(path: str | Path) -> pa.Table:
    """Reads a Parquet file of keyed calls: columns `KEYED_COLUMNS` and, if the file has it, `call` ids.

    Returns: tokens and categories as dictionary<int32, string>, other columns in the width that they have in the file.
    """
    path = Path(path)
    with parquet_errors(path):
        names = pq.read_schema(path).names
        check_columns(names, path.name)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read([*KEYED_COLUMNS, *({"call"} & set(names))])
        table.validate(full=True)
    return unified(checked_columns(table, path.name))


def check_table(calls: object) -> None:
    """Raises TypeError if the argument is not an Arrow table; a pandas table has no nullable integers by default."""
    if not isinstance(calls, pa.Table):
        raise TypeError(f"calls must be a pyarrow.Table, got {type(calls).__name__}")


def check_columns(names: Collection[str], file: str) -> None:
    """Raises ValueError if these are not the columns of keyed calls."""
    wrong = sorted(set(KEYED_COLUMNS) ^ (set(names) - {"call"}))
    if wrong:
        fault = "missing" if wrong[0] in KEYED_COLUMNS else "unknown"
        raise ValueError(f"{file}: column {wrong[0]!r} is {fault}, expected the columns of keyed calls")


def keyed_calls(calls: pa.Table) -> Iterator[KeyedCall]:
    """Yields the rows of a table of keyed calls in order."""
    unknown = {"same_region", "shared_prefix", "presented_differs"}  # null in the table is UNKNOWN in the call
    for batch in calls.select(KEYED_COLUMNS).to_batches(max_chunksize=BATCH_ROWS):
        columns = [batch.column(i).to_pylist() for i in range(len(KEYED_COLUMNS))]
        for i, name in enumerate(KEYED_COLUMNS):
            if name in KEYED_CATEGORIES:
                columns[i] = _codes(columns[i], name)
            elif name in unknown:
                columns[i] = [UNKNOWN if value is None else value for value in columns[i]]
        yield from map(KeyedCall, *columns)


def _codes(words: list[str | None], name: str) -> list[int]:
    codes: dict[str | None, int] = {word: code for code, word in enumerate(KEYED_CATEGORIES[name])}
    if name in KEYED_OPTIONAL:
        codes[None] = UNKNOWN
    try:
        return [codes[word] for word in words]
    except KeyError as error:
        raise ValueError(f"column {name!r}: expected one of {', '.join(KEYED_CATEGORIES[name])}, got {error}") from None


def checked_columns(calls: pa.Table, file: str) -> pa.Table:
    """Returns the table with tokens and categories as dictionary<int32, string>, which the engines need.

    listed, or a column of tokens has another text.
    """
    for i, name in enumerate(calls.column_names):
        if name not in KEYED_COLUMNS:
            continue
        column = calls.column(name)
        if column.null_count and name not in KEYED_OPTIONAL:
            raise ValueError(f"{file}: column {name!r} has {column.null_count} nulls, expected none")
        calls = calls.set_column(i, name, _checked(column, name, file))
    return calls


def _checked(column: pa.ChunkedArray, name: str, file: str) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if name not in KEYED_TOKENS and name not in KEYED_CATEGORIES:
        if not pa.types.is_integer(column.type):
            raise ValueError(f"{file}: column {name!r} holds {kind}, expected whole numbers")
        return column
    if not pa.types.is_string(kind):
        raise ValueError(f"{file}: column {name!r} holds {kind}, expected text")
    column = column.cast(pa.dictionary(pa.int32(), pa.string()))
    words = pa.chunked_array([chunk.dictionary for chunk in column.chunks], pa.string())
    if name in KEYED_CATEGORIES:
        listed = pa.array(KEYED_CATEGORIES[name])
        valid, expected = pc.is_in(words, value_set=listed), "one of " + ", ".join(KEYED_CATEGORIES[name])
    else:
        valid, expected = pc.match_substring_regex(words, _TOKEN), "keyed tokens only"
    if not pc.all(valid, min_count=0).as_py():
        raise ValueError(f"{file}: column {name!r} has an invalid value, expected {expected}")
    return column
