"""Counts and deletes the rows of a person in a folder, and lists the models that learnt from them.

A person is a token. Number and key stay with the operator and are written to no file. Rows below their retention floor
stay until then and are reported. One row of `exclusions.parquet` stays for good: it excludes the number from training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.atomic import remove_partial_files
from callsieve.features.files.progress import by_size, silent, steps
from callsieve.features.intake.text_columns import dictionary_decoded
from callsieve.serving.custody.expiry import row_moments
from callsieve.serving.custody.retention import Retention, RetentionRule
from callsieve.training.data.dataset import EXCLUSIONS
from callsieve.training.data.exclusions import DELETED, FILE, add_rows
from callsieve.training.oversight.log.audit_log import payloads

from .expiry import FOLLOWED, follow
from .rewriting import rewrite

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

COLUMNS = ("caller", "callee", "number", "reporter", "network_caller")


def count_rows(
    folder: Path, token: str, rules: Retention, now: int, progress: Progress = silent
) -> dict[str, dict[str, int]]:
    """Counts the rows of a person by file, and how many of them are below their retention floor."""
    tables = dict(_tables(folder, rules))
    step_progress = by_size(progress, tables)
    return {path.name: _count(path, [token], rule, now, step_progress[path]) for path, rule in tables.items()}


def delete_rows(
    folder: Path, token: str, rules: Retention, now: int, progress: Progress = silent
) -> dict[str, dict[str, Any]]:
    """Deletes a person's rows, and excludes the number from every later training.

    Returns:
        By file: rows of the person, deleted and kept rows, and SHA-256 before and after.
    Raises:
        ValueError: if no rule names one of the tables; nothing is deleted.
    """
    tables = dict(_tables(folder, rules))
    step_progress = by_size(progress, tables)
    report = {path.name: delete_from(path, [token], rule, now, step_progress[path]) for path, rule in tables.items()}
    for path, rule in tables.items():
        # Rows that belong to a deleted call and name no person themselves.
        if rule.follows and FOLLOWED in pq.read_schema(path).names:
            removed = follow(path, folder / f"{rule.follows}.parquet")
            report[path.name] |= {
                "deleted": removed.rows_before - removed.rows_after,
                "sha256_after": removed.sha256_after,
            }
    remove_partial_files(folder, "*.parquet")
    moment = pd.Timestamp(now, unit="ms", tz="UTC")
    add_rows(folder / FILE, EXCLUSIONS, [{"number": token, "known_at": moment, "why": DELETED}])
    return report


def delete_from(
    path: Path, tokens: Sequence[str], rule: RetentionRule, now: int, progress: Progress = silent
) -> dict[str, Any]:
    """Deletes the rows of one table that name a person by any of its tokens.

    Returns:
        Rows of the person, deleted and kept rows, and SHA-256 before and after.
    """
    step_progress = steps(progress, {"count": 1, "rewrite": 2})
    counts = _count(path, tokens, rule, now, step_progress["count"])
    done = rewrite(path, partial(_without, tokens, rule, now), step_progress["rewrite"])
    return {"rows": counts["rows"], "deleted": done.rows_before - done.rows_after, "kept": counts["kept"],
            "sha256_before": done.sha256_before, "sha256_after": done.sha256_after}  # fmt: skip


def models_trained_on(log: Path, source: str, fingerprint: str) -> list[dict[str, str]]:
    """Returns the models that were trained on a folder, in its current or an earlier state.

    Earlier states precede an erasure, a deletion or a rekeying.

    Args:
        source: source of the calls, as a run's record names it.
        fingerprint: fingerprint of the folder's current calls.
    Returns:
        Model, run and reason of each: "the same calls", "the same folder", or both.
    """
    states = earlier_fingerprints(log, fingerprint)
    models = []
    for _, run in payloads(log, "run"):
        same_calls = run["record"]["tag"].get("data_sha256") in states
        same_folder = _source(run["record"]["dataset"].get("calls", {})) == source
        why = " and ".join(
            name for name, holds in (("the same calls", same_calls), ("the same folder", same_folder)) if holds
        )
        if why:
            models.append({"model": run["model"], "run": run["run"], "why": why})
    return models


def earlier_fingerprints(log: Path, fingerprint: str) -> set[str]:
    """Returns the fingerprints of a folder's calls now and before each erasure, deletion or rekeying.

    Args:
        fingerprint: fingerprint of the current calls.
    """
    states = {fingerprint}
    for change in reversed([payload for _, payload in payloads(log, "retention", "deletion", "key")]):
        if change.get("calls_after") in states and change.get("calls_before"):
            states.add(change["calls_before"])
    return states


def _source(dataset: Mapping[str, Any]) -> str:
    try:
        return str(json.loads(dataset["source"])["tags"]["source"])
    except (KeyError, TypeError, ValueError):
        return ""


def _tables(folder: Path, rules: Retention) -> Iterator[tuple[Path, RetentionRule]]:
    """Yields the files that can name a person, with their retention rules."""
    for path in sorted(folder.glob("*.parquet")):
        if path.name != FILE:
            yield path, rules.of(path.stem)


def _count(path: Path, tokens: Sequence[str], rule: RetentionRule, now: int, progress: Progress) -> dict[str, int]:
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
    """Returns a mask of the rows that name a person in any column."""
    mine: Any = pa.array([False] * table.num_rows)
    for name in COLUMNS:
        if name in table.column_names:
            words = dictionary_decoded(table[name]).combine_chunks()
            mine = pc.or_(mine, pc.is_in(words, value_set=pa.array(tokens, pa.string())))
    return mine


def _must_stay(table: pa.Table, rule: RetentionRule, now: int) -> Any:
    """Returns a mask of the rows below their retention floor; a row without a moment has not ended yet."""
    if not rule.floor or rule.follows:
        return pa.array([False] * table.num_rows)
    return pc.fill_null(pc.greater(row_moments(table, rule).combine_chunks(), now - rule.floor), True)
