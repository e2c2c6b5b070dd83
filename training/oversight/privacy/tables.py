"""Personal data in keyed Parquet tables: those of a folder, and files of verdicts. Finding, deletion, expiry, rekeying.

A person is a token. Number and key stay with the operator and are written to no file. Rows below their retention floor
stay until then and are reported. One row of `exclusions.parquet` stays for good: it excludes the number from training.
`callsieve score --out` writes files of verdicts under any name. The rule "verdicts" of `retention.toml` is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.atomic import sha256, write_atomic
from callsieve.features.files.progress import Progress, by_size, silent, steps
from callsieve.features.intake.text_columns import dictionary_decoded, dictionary_encoded
from callsieve.features.keys.callee_keys import EPHEMERAL
from callsieve.features.keys.rotation import Rekeying
from callsieve.serving.batch.output_keys import output_tokens
from callsieve.serving.custody.expiry import all_moments_expired, count_expired, row_moments, unexpired_rows
from callsieve.serving.custody.retention import Retention, RetentionRule
from callsieve.training.data.dataset import EXCLUSIONS
from callsieve.training.data.exclusions import DELETED, FILE, add_rows

from .places import Person
from .rewriting import Deleted, Erasure, Expired, Rewritten, rewrite, write_new_version

COLUMNS = ("caller", "callee", "number", "reporter", "network_caller")
FOLLOWED = "call"  # column that links a row to its call
NUMBERS = "number"
VERDICTS = "verdicts"


def find(folder: Path, token: str, rules: Retention, now: int, progress: Progress = silent) -> dict[str, Deleted]:
    """Counts the rows of a person by file, and how many of them are below their retention floor."""
    tables = dict(_tables(folder, rules))
    step_progress = by_size(progress, tables)
    return {path.name: _count(path, [token], rule, now, step_progress[path]) for path, rule in tables.items()}


def check_epoch(calls: Path, token: str) -> None:
    """Raises ValueError if a file of calls has tokens of another key epoch than `token`, which then matches no row."""
    if not calls.exists():
        return
    with pq.ParquetFile(calls) as file:
        first = next(file.iter_batches(1, columns=["caller"]), None)
    callers = [] if first is None else first.column(0).to_pylist()
    epochs = {caller.partition(".")[0] for caller in callers if caller} - {token.partition(".")[0]}
    for epoch in epochs:
        raise ValueError(f"{calls.name}: tokens are of key {epoch}, got key {token.partition('.')[0]} as --key")


def plan_deletion(
    folder: Path, token: str, rules: Retention, now: int, progress: Progress = silent
) -> Iterator[Erasure[Deleted]]:
    """Plans the deletion of a person's rows in the tables of a folder, except rows below their retention floor.

    Rows of a deleted call go too, where a table names the call and no person. Such a table comes after its calls.
    """
    tables = dict(_tables(folder, rules))
    order = sorted(tables, key=lambda path: bool(tables[path].follows))
    step_progress = by_size(progress, order)
    current: dict[str, Path] = {}  # the tables as they will be
    for path in order:
        rule, linked = tables[path], None
        if rule.follows in current and FOLLOWED in pq.read_schema(path).names:
            linked = _linked_rows(path, current[rule.follows])
        erasure = _plan_without([token], path, rule, now, step_progress[path], linked)
        current[path.stem] = erasure.new or path
        yield erasure


def exclude(folder: Path, token: str, now: int) -> None:
    """Excludes a deleted person from every later training."""
    moment = pd.Timestamp(now, unit="ms", tz="UTC")
    add_rows(folder / FILE, EXCLUSIONS, [{"number": token, "known_at": moment, "why": DELETED}])


def _plan_without(
    tokens: Sequence[str],
    path: Path,
    rule: RetentionRule,
    now: int,
    progress: Progress,
    linked: Callable[[pa.Table], pa.Table] | None = None,
) -> Erasure[Deleted]:
    """Plans the deletion of a person from one table, by any of its tokens; `linked` removes rows beside these."""
    step_progress = steps(progress, {"count": 1, "rewrite": 2})
    count = _count(path, tokens, rule, now, step_progress["count"])

    def without(table: pa.Table) -> pa.Table:
        left = _without(tokens, rule, now, table)
        return left if linked is None else linked(left)

    new, done = write_new_version(path, without, step_progress["rewrite"])
    return Erasure(path.name, path, done.deleted(count["rows"], count["kept"]), new)


def plan_expiry(folder: Path, rules: Retention, now: int, progress: Progress = silent) -> Iterator[Erasure[Expired]]:
    """Plans the erasure of expired rows of the tables of a folder, in the order in which they must be replaced.

    A table that follows another one comes after it. A table whose leading table is missing stays as it is.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.parquet"))}
    rule_of = {name: rules.of(name) for name in paths}
    order = sorted(paths, key=lambda name: bool(rule_of[name].follows))
    step_progress = by_size(progress, [paths[name] for name in order])
    current: dict[str, Path] = {}  # the tables as they will be
    for name in order:
        path, rule = paths[name], rule_of[name]
        if not rule.follows:
            erasure = plan_rows(path.name, path, rule, now, step_progress[path])
        elif rule.follows in current:
            new, done = write_new_version(path, _linked_rows(path, current[rule.follows]), step_progress[path])
            erasure = Erasure(path.name, path, done.expired(), new)
        else:
            erasure = _unlinked(path, rule.follows)
        current[name] = erasure.new or path
        yield erasure


def plan_rows(
    name: str, path: Path, rule: RetentionRule, now: int, progress: Progress = silent, *, without_moment: bool = False
) -> Erasure[Expired]:
    """Plans the erasure of the expired rows of a Parquet file. Args: as for `custody.expiry.is_expired`."""
    keep = partial(unexpired_rows, rule, now, without_moment=without_moment)
    new, done = write_new_version(path, keep, progress)
    count_left = partial(count_expired, path, rule, now, without_moment=without_moment)
    return Erasure(name, path, done.expired(), new, count_left=count_left)


def rekey(folder: Path, keys: Rekeying, progress: Progress = silent) -> dict[str, int]:
    """Rekeys the tables and registers of a folder; returns the number of rows by file."""
    counts = {}
    files = [*sorted(folder.glob("*.parquet")), *sorted(folder.glob("*.jsonl"))]
    for path, file_progress in by_size(progress, files).items():
        if path.suffix == ".parquet":
            counts[path.name] = rewrite(path, partial(_rekeyed, keys), file_progress).rows_after
            continue
        lines = path.read_bytes().splitlines(keepends=True)
        write_atomic(path, b"".join(map(keys.line, lines)))
        counts[path.name] = len(lines)
        file_progress(path.name, 1.0)
    return counts


def _tables(folder: Path, rules: Retention) -> Iterator[tuple[Path, RetentionRule]]:
    for path in sorted(folder.glob("*.parquet")):
        if path.name != FILE:
            yield path, rules.of(path.stem)


def _count(path: Path, tokens: Sequence[str], rule: RetentionRule, now: int, progress: Progress) -> Deleted:
    rows = retained = rows_read = 0
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches():
            table = pa.Table.from_batches([batch])
            mine = _of(table, tokens)
            rows += pc.sum(mine).as_py() or 0
            retained += pc.sum(pc.and_(mine, _must_stay(table, rule, now))).as_py() or 0
            rows_read += table.num_rows
            progress(path.name, rows_read / file.metadata.num_rows)
    return {"rows": rows, "kept": retained}


def _without(tokens: Sequence[str], rule: RetentionRule, now: int, table: pa.Table) -> pa.Table:
    return table.filter(pc.invert(pc.and_(_of(table, tokens), pc.invert(_must_stay(table, rule, now)))))


def _of(table: pa.Table, tokens: Sequence[str]) -> Any:
    mine: Any = pa.array([False] * table.num_rows)
    for name in COLUMNS:
        if name in table.column_names:
            words = dictionary_decoded(table[name]).combine_chunks()
            mine = pc.or_(mine, pc.is_in(words, value_set=pa.array(tokens, pa.string())))
    return mine


def _must_stay(table: pa.Table, rule: RetentionRule, now: int) -> Any:
    if not rule.floor or rule.follows:
        return pa.array([False] * table.num_rows)
    return pc.fill_null(pc.greater(row_moments(table, rule).combine_chunks(), now - rule.floor), True)


def _unlinked(path: Path, leading: str) -> Erasure[Expired]:
    rows, digest = pq.read_metadata(path).num_rows, sha256(path)
    summary = Rewritten(rows, rows, digest, digest).expired()
    summary["outcome"] = f"no table {leading}"
    return Erasure(path.name, path, summary)


def _linked_rows(path: Path, leading: Path) -> Callable[[pa.Table], pa.Table]:
    """Returns a function that keeps the rows of a table whose call or number occurs in the leading table."""
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


def _rekeyed(keys: Rekeying, table: pa.Table) -> pa.Table:
    for position, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string(kind):
            encoded = dictionary_encoded(table[field.name])
            tokens = pa.array(keys.tokens(encoded.dictionary.to_pylist()), pa.string())
            column: Any = pa.DictionaryArray.from_arrays(encoded.indices, tokens)
            table = table.set_column(position, field, column.cast(field.type) if kind is field.type else column)
    return table


def plan_verdicts(path: Path, rules: Retention, now: int, progress: Progress = silent) -> Erasure[Expired]:
    """Plans the erasure of expired rows of a verdict file; rows of invalid calls expire with its last call."""
    rule = rules.of(VERDICTS)
    invalid_too = all_moments_expired(path, rule, now)
    return plan_rows(str(path), path, rule, now, progress, without_moment=invalid_too)


def plan_verdict_deletion(
    path: Path, person: Person, rules: Retention, now: int, progress: Progress = silent
) -> Erasure[Deleted]:
    """Plans the deletion of calls from and to a person in a verdict file."""
    tokens = output_tokens(person.token, person.callees)
    words = pc.unique(pq.read_table(path, columns=["callee"])["callee"].cast(pa.string())).to_pylist()
    epochs = {EPHEMERAL, *(token.partition(".")[0] for token in tokens)}
    unknown_epochs = sorted({word.partition(".")[0] for word in words if word} - epochs)
    if unknown_epochs:
        raise ValueError(
            f"{path.name}: called numbers are under key {unknown_epochs[0]}: pass that key as --callees-key"
        )
    return replace(_plan_without(tokens, path, rules.of(VERDICTS), now, progress), name=str(path))
