"""Parquet files: recognised by their first bytes, refused in one line if they are broken, and written atomically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .atomic import atomic_path

GROUP_ROWS = 1 << 17  # rows of a row group of `write_groups`


def is_parquet(path: Path) -> bool:
    """Returns whether a file begins as Parquet files do."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


@contextmanager
def parquet_errors(path: Path, rows: str = "keyed calls") -> Iterator[None]:
    """Raises ValueError with a one-line message if the file does not exist, or reading it in this block fails."""
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected a Parquet file of {rows}")
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        # Arrow's own message can have many lines, and can quote the data.
        raise ValueError(f"{path.name}: broken Parquet file, expected a table of {rows}") from None


def write_groups(tables: Iterator[pa.Table], out: Path, *, compression: str = "lz4") -> None:
    """Writes tables, at least one, to one Parquet file, atomically.

    Two options halve the time of keyed calls: whole numbers have no dictionaries, which Parquet would start and give
    up; and the least and greatest words of a dictionary are not looked for, because they are useless.
    """
    first = next(tables)
    options = {
        "use_dictionary": [field.name for field in first.schema if not pa.types.is_integer(field.type)],
        "write_statistics": [field.name for field in first.schema if not pa.types.is_dictionary(field.type)],
    }
    with (
        atomic_path(out) as part,
        pq.ParquetWriter(part, first.schema, compression=compression, write_page_checksum=True, **options) as file,
    ):
        for table in chain([first], tables):
            file.write_table(table, row_group_size=GROUP_ROWS)


def read_parquet(path: Path) -> pa.Table:
    """Reads a Parquet file. Raises ValueError, in one line, if the file is missing or not Parquet."""
    with parquet_errors(path, path.stem):
        return pq.read_table(path)
