"""Parquet files: recognised by their first bytes, and refused in one line if they are broken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def is_parquet(path: Path) -> bool:
    """Returns whether a file begins as Parquet files do."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


@contextmanager
def parquet_errors(path: Path, rows: str = "keyed calls") -> Iterator[None]:
    """Raises ValueError with a one-line message if the file does not exist, or reading it in this block fails.

    Args:
        rows: what the rows of the file are, for the message.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected a Parquet file of {rows}")
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        # Arrow's own message can have many lines, and can quote the data.
        raise ValueError(f"{path.name}: broken Parquet file, expected a table of {rows}") from None


def read_parquet(path: Path) -> pa.Table:
    """Reads a Parquet file. Raises ValueError, in one line, if the file is missing or not Parquet."""
    with parquet_errors(path, path.stem):
        return pq.read_table(path)
