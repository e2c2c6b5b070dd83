"""Rows past their time: no reader gives them, and a run erases them and proves it.

A row's time is over when its moment lies more than the ceiling before now. A row without a moment has no end yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..serving.accesslog import ACCESSES, CASE_ACCESSES
from ..serving.caselog import CASES
from ..serving.events import REPORTS
from ..serving.journal import numbers
from ..serving.journal import path as journal_path
from ..serving.purposes import Declared
from ..serving.retention import Kept, Retention, read_retention
from .moments import unix_now
from .rewrite import Rewritten, rewrite, sha256
from .steps import by_size, silent
from .texts import plain

if TYPE_CHECKING:
    from .console import Tell

FOLLOWED = "call"  # the column by which rows go with their call
NUMBERS = "number"
JOURNALS = {CASES: "journals", REPORTS: "journals", ACCESSES: "accesses", CASE_ACCESSES: "accesses"}
"""Kinds of files in a scorer's state, and the rule of each."""


def is_due(table: pa.Table, kept: Kept, now: int) -> pa.ChunkedArray:
    """Which rows are past their time.

    Args:
        now: Unix ms.
    """
    return pc.fill_null(pc.less(moments(table, kept), now - kept.ceiling), False)


def moments(table: pa.Table, kept: Kept) -> pa.ChunkedArray:
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


def still_kept(told: Declared) -> Callable[[pa.Table, str], pa.Table]:
    """What lets through the rows of a table (and its name) that may still be read; of a simulated world, all.

    It raises `ValueError` where no call is left.
    """
    if told.simulated:
        return lambda table, _name: table
    rules, now = read_retention(), unix_now()

    def kept(table: pa.Table, name: str) -> pa.Table:
        left = still(rules.of(name), now, table)
        if table.num_rows and not left.num_rows and name == "calls":
            raise ValueError(f"calls: all {table.num_rows} rows are past their time by retention {rules.version}")
        return left

    return kept


def still(kept: Kept, now: int, table: pa.Table) -> pa.Table:
    """The rows that a rule still keeps."""
    return table.filter(pc.invert(is_due(table, kept, now)))


def run(folder: Path, rules: Retention, now: int, tell: Tell = silent) -> dict[str, Any]:
    """Erase what is past its time from the tables of a folder.

    Returns: by file: rows before and after, how many are past their time now (0, counted anew in the file as it then
        was), and its SHA-256 before and after.
    Raises:
        ValueError: if there is a table that no rule names; nothing is erased.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.parquet"))}
    kept = {name: rules.of(name) for name in paths}
    # Those that follow others come after them.
    order = sorted(paths, key=lambda name: bool(kept[name].follows))
    inside = by_size(tell, [paths[name] for name in order])
    report: dict[str, Any] = {}
    for name in order:
        path, rule = paths[name], kept[name]
        if not rule.follows:
            report[path.name] = erased(rewrite(path, partial(still, rule, now), inside[path]), due_in(path, rule, now))
        elif rule.follows in paths:
            report[path.name] = erased(follow(path, paths[rule.follows], inside[path]), 0)
    return report


def erased(done: Rewritten, left: int) -> dict[str, Any]:
    """What is told of a file, of whose rows so many are `left` past their time."""
    return {
        "rows_before": done.rows_before, "rows_after": done.rows_after, "erased": done.rows_before - done.rows_after,
        "past_their_time": left, "sha256_before": done.sha256_before, "sha256_after": done.sha256_after,
    }  # fmt: skip


def due_in(path: Path, kept: Kept, now: int) -> int:
    """How many rows of a file are past their time."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        tables = (pa.Table.from_batches([batch]) for batch in file.iter_batches(columns=_moments(file, kept)))
        return sum(pc.sum(is_due(table, kept, now)).as_py() or 0 for table in tables)


def follow(path: Path, leading: Path, tell: Tell = silent) -> Rewritten:
    """Take out of a table the rows whose call, or whose number, no row of the leading one has any more."""
    names = pq.read_schema(path).names
    if FOLLOWED in names and FOLLOWED in pq.read_schema(leading).names:
        column, there = FOLLOWED, set(_values(leading, FOLLOWED))
    elif NUMBERS in names:
        column, there = NUMBERS, {one for name in ("caller", "callee") for one in _values(leading, name)}
    else:
        raise ValueError(
            f"{path.name}: expected a column {FOLLOWED!r} or {NUMBERS!r}, by which rows go with their call"
        )
    wanted = pa.array(sorted(there))
    return rewrite(path, lambda table: table.filter(pc.is_in(plain(table[column]), value_set=wanted)), tell)


def journals(state: Path, rules: Retention, now: int) -> dict[str, Any]:
    """Delete files of a scorer's state that are past their time; the newest of each kind may still be written."""
    report: dict[str, Any] = {}
    for kind, table in JOURNALS.items():
        for number in numbers(state, kind)[:-1]:
            where = journal_path(state, kind, number)
            if where.stat().st_mtime * 1000 < now - rules.of(table).ceiling:
                report[where.name] = {"bytes": where.stat().st_size, "sha256_before": sha256(where)}
                where.unlink()
    return report


def totals(report: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Rows erased, and rows left past their time, over all files."""
    return {
        name: sum(one.get(key, 0) for one in report.values())
        for name, key in (("erased", "erased"), ("left", "past_their_time"))
    }


def _moments(file: pq.ParquetFile, kept: Kept) -> Sequence[str]:
    return [kept.moment] if kept.moment in file.schema_arrow.names else file.schema_arrow.names[:1]


def _values(path: Path, name: str) -> Iterator[Any]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(columns=[name]):
            yield from pc.unique(plain(batch.column(0))).to_pylist()
