"""Filters rows that are past their retention time, so that no reader returns them.

A row has expired when its moment is earlier than now minus the rule's ceiling. A row without a moment does not expire,
except in a file of verdicts: there it is an invalid call, and expires with the last call of its file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.dates import DAY, now_ms

from .command_hint import command
from .purposes import Declaration
from .retention import Retention, RetentionRule, read_retention


def is_expired(table: pa.Table, rule: RetentionRule, now: int, *, without_moment: bool = False) -> pa.ChunkedArray:
    """Returns a flag for each row: whether it has expired. `now` is in Unix ms."""
    return pc.fill_null(pc.less(row_moments(table, rule), now - rule.ceiling), without_moment)


def row_moments(table: pa.Table, rule: RetentionRule) -> pa.ChunkedArray:
    """Returns the moment of each row in Unix ms; null for a row without one."""
    if rule.moment not in table.column_names:
        if rule.moment == "valid_to":  # a register whose rows have no end
            return pa.chunked_array([pa.nulls(table.num_rows, pa.int64())])
        raise ValueError(f"retention: expected a column {rule.moment!r}, got {', '.join(table.column_names)[:200]}")
    moment = table[rule.moment]
    if pa.types.is_timestamp(moment.type):
        moment = moment.cast(pa.timestamp("ms", moment.type.tz), safe=False).cast(pa.int64())
    return moment


def expiry_filter(declaration: Declaration, path: Path) -> Callable[[pa.Table, str], pa.Table]:
    """Returns a function that removes expired rows from a table, given the table and its name.

    Rows expire only where a declaration limits their use: neither in a simulated world nor without a declaration. The
    returned function raises ValueError if all calls have expired.
    """
    calls = path / "calls.parquet" if path.is_dir() else path
    if not declaration.limits:
        return lambda table, _name: table
    rules, now = read_retention(), now_ms()

    def without_expired(table: pa.Table, name: str) -> pa.Table:
        left = unexpired_rows(rules.of(name), now, table)
        if table.num_rows and not left.num_rows and name == "calls":
            raise ValueError(all_expired(calls, table.num_rows, rules))
        return left

    return without_expired


def all_expired(calls: Path, rows: int, rules: Retention) -> str:
    """Returns the message of an error: all rows of a file of calls have expired."""
    return f"{calls}: all {rows:,} calls are {older_than('calls', rules)}; expected newer calls"


def older_than(table: str, rules: Retention) -> str:
    """Returns, for messages, how old expired rows of a table are, by which rule, and what to do."""
    days = rules.of(table).ceiling / DAY
    return (
        f"older than {days:g} days, the period of [{table}] in retention.toml {rules.version}, and their folder is "
        f"declared; erase them with {command('privacy retention')}"
    )


def unexpired_rows(rule: RetentionRule, now: int, table: pa.Table, *, without_moment: bool = False) -> pa.Table:
    """Returns the rows that have not expired. Args: as for `is_expired`."""
    return table.filter(pc.invert(is_expired(table, rule, now, without_moment=without_moment)))


def count_expired(path: Path, rule: RetentionRule, now: int, *, without_moment: bool = False) -> int:
    """Returns the number of expired rows of a Parquet file. Args: as for `is_expired`."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        tables = (pa.Table.from_batches([batch]) for batch in file.iter_batches(columns=_moment_column(file, rule)))
        flags = (is_expired(table, rule, now, without_moment=without_moment) for table in tables)
        return sum(pc.sum(flag).as_py() or 0 for flag in flags)


def all_moments_expired(path: Path, rule: RetentionRule, now: int) -> bool:
    """Returns whether each row of a Parquet file has expired or has no moment. `now` is in Unix ms."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        rows = file.metadata.num_rows
    return bool(count_expired(path, rule, now, without_moment=True) == rows)


def _moment_column(file: pq.ParquetFile, rule: RetentionRule) -> Sequence[str]:
    return [rule.moment] if rule.moment in file.schema_arrow.names else file.schema_arrow.names[:1]
