"""Erases expired rows from the tables of a folder and expired files of a scorer's state, with hashes as proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.atomic import sha256
from callsieve.features.files.progress import by_size, silent
from callsieve.features.intake.text_columns import dictionary_decoded
from callsieve.serving.custody.expiry import count_expired, unexpired_rows
from callsieve.serving.custody.retention import Retention
from callsieve.serving.http.access_log import ACCESSES, CASE_ACCESSES
from callsieve.serving.live.events import COMPLAINTS
from callsieve.serving.live.journal import file_numbers
from callsieve.serving.live.journal import file_path as journal_path
from callsieve.serving.live.verdict_log import VERDICTS

from .rewriting import Rewritten, rewrite

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

FOLLOWED = "call"  # the column by which rows go with their call
NUMBERS = "number"
JOURNALS = {VERDICTS: "journals", COMPLAINTS: "journals", ACCESSES: "accesses", CASE_ACCESSES: "accesses"}
"""Kinds of files in a scorer's state, and the rule of each."""


def erase_tables(folder: Path, rules: Retention, now: int, tell: Progress = silent) -> dict[str, Any]:
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
            report[path.name] = erasure_summary(
                rewrite(path, partial(unexpired_rows, rule, now), inside[path]), count_expired(path, rule, now)
            )
        elif rule.follows in paths:
            report[path.name] = erasure_summary(follow(path, paths[rule.follows], inside[path]), 0)
    return report


def erasure_summary(done: Rewritten, left: int) -> dict[str, Any]:
    """Returns the summary of a file, of which `left` expired rows remain."""
    return {
        "rows_before": done.rows_before, "rows_after": done.rows_after, "erased": done.rows_before - done.rows_after,
        "past_their_time": left, "sha256_before": done.sha256_before, "sha256_after": done.sha256_after,
    }  # fmt: skip


def follow(path: Path, leading: Path, tell: Progress = silent) -> Rewritten:
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
    return rewrite(
        path, lambda table: table.filter(pc.is_in(dictionary_decoded(table[column]), value_set=wanted)), tell
    )


def erase_journals(state: Path, rules: Retention, now: int) -> dict[str, Any]:
    """Delete files of a scorer's state that are past their time; the newest of each kind may still be written."""
    report: dict[str, Any] = {}
    for kind, table in JOURNALS.items():
        for number in file_numbers(state, kind)[:-1]:
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


def _values(path: Path, name: str) -> Iterator[Any]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(columns=[name]):
            yield from pc.unique(dictionary_decoded(batch.column(0))).to_pylist()
