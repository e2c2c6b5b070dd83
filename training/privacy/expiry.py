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

FOLLOWED = "call"  # column that links a row to its call
NUMBERS = "number"
JOURNALS = {VERDICTS: "journals", COMPLAINTS: "journals", ACCESSES: "accesses", CASE_ACCESSES: "accesses"}
"""Retention rule of each kind of file in a scorer's state."""


def erase_tables(folder: Path, rules: Retention, now: int, progress: Progress = silent) -> dict[str, Any]:
    """Erases expired rows from the tables of a folder.

    Returns:
        By file: rows before and after, expired rows that remain (0, counted in the new file), and SHA-256 before and
        after.
    Raises:
        ValueError: if no rule names one of the tables; nothing is erased.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.parquet"))}
    rule_of = {name: rules.of(name) for name in paths}
    # Tables that follow another table come after it.
    order = sorted(paths, key=lambda name: bool(rule_of[name].follows))
    step_progress = by_size(progress, [paths[name] for name in order])
    report: dict[str, Any] = {}
    for name in order:
        path, rule = paths[name], rule_of[name]
        if not rule.follows:
            report[path.name] = erasure_summary(
                rewrite(path, partial(unexpired_rows, rule, now), step_progress[path]), count_expired(path, rule, now)
            )
        elif rule.follows in paths:
            report[path.name] = erasure_summary(follow(path, paths[rule.follows], step_progress[path]), 0)
    return report


def erasure_summary(done: Rewritten, left: int) -> dict[str, Any]:
    """Returns the summary of a file, of which `left` expired rows remain."""
    return {
        "rows_before": done.rows_before, "rows_after": done.rows_after, "erased": done.rows_before - done.rows_after,
        "past_their_time": left, "sha256_before": done.sha256_before, "sha256_after": done.sha256_after,
    }  # fmt: skip


def follow(path: Path, leading: Path, progress: Progress = silent) -> Rewritten:
    """Removes the rows of a table whose call or number no longer occurs in the leading table."""
    names = pq.read_schema(path).names
    if FOLLOWED in names and FOLLOWED in pq.read_schema(leading).names:
        column, remaining = FOLLOWED, set(_values(leading, FOLLOWED))
    elif NUMBERS in names:
        column, remaining = NUMBERS, {value for name in ("caller", "callee") for value in _values(leading, name)}
    else:
        raise ValueError(f"{path.name}: expected a column {FOLLOWED!r} or {NUMBERS!r} that links a row to its call")
    remaining_values = pa.array(sorted(remaining))
    return rewrite(
        path,
        lambda table: table.filter(pc.is_in(dictionary_decoded(table[column]), value_set=remaining_values)),
        progress,
    )


def erase_journals(state: Path, rules: Retention, now: int) -> dict[str, Any]:
    """Deletes expired files of a scorer's state, except the newest of each kind, which may still be in use."""
    report: dict[str, Any] = {}
    for kind, table in JOURNALS.items():
        for number in file_numbers(state, kind)[:-1]:
            path = journal_path(state, kind, number)
            if path.stat().st_mtime * 1000 < now - rules.of(table).ceiling:
                report[path.name] = {"bytes": path.stat().st_size, "sha256_before": sha256(path)}
                path.unlink()
    return report


def totals(report: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Returns the erased rows and the expired rows that remain, over all files."""
    return {
        name: sum(summary.get(key, 0) for summary in report.values())
        for name, key in (("erased", "erased"), ("left", "past_their_time"))
    }


def _values(path: Path, name: str) -> Iterator[Any]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(columns=[name]):
            yield from pc.unique(dictionary_decoded(batch.column(0))).to_pylist()
