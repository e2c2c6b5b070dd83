"""Which rows of a table are past their time, so that no reader gives them.

A row's time is over when its moment lies more than the ceiling before now. A row without a moment has no end yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.dates import unix_now

from .purposes import Declaration
from .retention import RetentionRule, read_retention


def is_expired(table: pa.Table, kept: RetentionRule, now: int) -> pa.ChunkedArray:
    """Which rows are past their time.

    Args:
        now: Unix ms.
    """
    return pc.fill_null(pc.less(row_moments(table, kept), now - kept.ceiling), False)


def row_moments(table: pa.Table, kept: RetentionRule) -> pa.ChunkedArray:
    """The moment of each row in Unix ms; null where there is none.

    Raises:
        ValueError: if the table has no such column.
    """
    if kept.moment not in table.column_names:
        if kept.moment == "valid_to":  # a register that knows no end
            return pa.chunked_array([pa.nulls(table.num_rows, pa.int64())])
        raise ValueError(f"retention: expected a column {kept.moment!r}, got {', '.join(table.column_names)[:200]}")
    moment = table[kept.moment]
    if pa.types.is_timestamp(moment.type):
        moment = moment.cast(pa.timestamp("ms", moment.type.tz), safe=False).cast(pa.int64())
    return moment


def expiry_filter(told: Declaration) -> Callable[[pa.Table, str], pa.Table]:
    """What lets through the rows of a table (and its name) that may still be read; of a simulated world, all.

    It raises `ValueError` where no call is left.
    """
    if told.simulated:
        return lambda table, _name: table
    rules, now = read_retention(), unix_now()

    def kept(table: pa.Table, name: str) -> pa.Table:
        left = unexpired_rows(rules.of(name), now, table)
        if table.num_rows and not left.num_rows and name == "calls":
            raise ValueError(f"calls: all {table.num_rows} rows are past their time by retention {rules.version}")
        return left

    return kept


def unexpired_rows(kept: RetentionRule, now: int, table: pa.Table) -> pa.Table:
    """The rows that a rule still keeps."""
    return table.filter(pc.invert(is_expired(table, kept, now)))


def count_expired(path: Path, kept: RetentionRule, now: int) -> int:
    """How many rows of a file are past their time."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        tables = (pa.Table.from_batches([batch]) for batch in file.iter_batches(columns=_moments(file, kept)))
        return sum(pc.sum(is_expired(table, kept, now)).as_py() or 0 for table in tables)


def _moments(file: pq.ParquetFile, kept: RetentionRule) -> Sequence[str]:
    return [kept.moment] if kept.moment in file.schema_arrow.names else file.schema_arrow.names[:1]
