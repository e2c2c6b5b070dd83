"""Plans the erasure of expired rows of the tables of a folder and of expired files of a scorer's state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.atomic import sha256
from callsieve.features.files.progress import by_size, silent
from callsieve.features.intake.text_columns import dictionary_decoded
from callsieve.serving.custody.retention import Retention
from callsieve.serving.http.access_log import ACCESSES, CASE_ACCESSES
from callsieve.serving.live.events import COMPLAINTS
from callsieve.serving.live.journal import file_numbers
from callsieve.serving.live.journal import file_path as journal_path
from callsieve.serving.live.verdict_log import VERDICTS

from .erasure import ERASED, Erasure, plan_expiry, rows_summary
from .rewriting import Rewritten, rewrite, write_new_version

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

FOLLOWED = "call"  # column that links a row to its call
NUMBERS = "number"
JOURNALS = {VERDICTS: "journals", COMPLAINTS: "journals", ACCESSES: "accesses", CASE_ACCESSES: "accesses"}
"""Retention rule of each kind of file in a scorer's state."""


def plan_tables(folder: Path, rules: Retention, now: int, progress: Progress = silent) -> Iterator[Erasure]:
    """Plans the erasure of expired rows of the tables of a folder, in the order in which they must be replaced.

    A table that follows another one comes after it. A table whose leading table is missing stays as it is.

    Raises:
        ValueError: if no rule names one of the tables, or a table cannot follow its leading table.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.parquet"))}
    rule_of = {name: rules.of(name) for name in paths}
    order = sorted(paths, key=lambda name: bool(rule_of[name].follows))
    step_progress = by_size(progress, [paths[name] for name in order])
    current: dict[str, Path] = {}  # the tables as they will be
    for name in order:
        path, rule = paths[name], rule_of[name]
        if not rule.follows:
            erasure = plan_expiry(path.name, path, rule, now, step_progress[path])
        elif rule.follows in current:
            new, done = write_new_version(path, _linked_rows(path, current[rule.follows]), step_progress[path])
            erasure = Erasure(path.name, path, rows_summary(done), new)
        else:
            erasure = _unlinked(path, rule.follows)
        current[name] = erasure.new or path
        yield erasure


def follow(path: Path, leading: Path) -> Rewritten:
    """Removes the rows of a table whose call or number no longer occurs in the leading table."""
    return rewrite(path, _linked_rows(path, leading))


def plan_journals(state: Path, rules: Retention, now: int) -> Iterator[Erasure]:
    """Plans the deletion of expired files of a scorer's state, except the newest of each kind, which may be in use."""
    for kind, table in JOURNALS.items():
        for number in file_numbers(state, kind)[:-1]:
            path = journal_path(state, kind, number)
            if path.stat().st_mtime * 1000 < now - rules.of(table).ceiling:
                summary = {"outcome": ERASED, "bytes": path.stat().st_size}
                hashes = {"sha256_before": sha256(path), "sha256_after": ""}
                yield Erasure(path.name, path, summary | hashes, deletes=True)


def _unlinked(path: Path, leading: str) -> Erasure:
    rows, digest = pq.read_metadata(path).num_rows, sha256(path)
    return Erasure(
        path.name, path, rows_summary(Rewritten(rows, rows, digest, digest)) | {"outcome": f"no table {leading}"}
    )


def _linked_rows(path: Path, leading: Path) -> Callable[[pa.Table], pa.Table]:
    """Returns a function that keeps the rows of a table whose call or number occurs in the leading table.

    Raises:
        ValueError: if the table has no column that links a row to its call.
    """
    names = pq.read_schema(path).names
    if FOLLOWED in names and FOLLOWED in pq.read_schema(leading).names:
        column, remaining = FOLLOWED, set(_values(leading, FOLLOWED))
    elif NUMBERS in names:
        column, remaining = NUMBERS, {value for name in ("caller", "callee") for value in _values(leading, name)}
    else:
        raise ValueError(f"{path.name}: expected a column {FOLLOWED!r} or {NUMBERS!r} that links a row to its call")

    def linked(table: pa.Table) -> pa.Table:
        values = dictionary_decoded(table[column])
        # Without the type, an empty array has the type null, and texts cannot be looked up in it.
        return table.filter(pc.is_in(values, value_set=pa.array(sorted(remaining - {None}), values.type)))

    return linked


def _values(path: Path, name: str) -> Iterator[Any]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(columns=[name]):
            yield from pc.unique(dictionary_decoded(batch.column(0))).to_pylist()
