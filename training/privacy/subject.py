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
from callsieve.training.log.audit_log import payloads

from .expiry import FOLLOWED, follow
from .rewriting import rewrite

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

COLUMNS = ("caller", "callee", "number", "reporter", "network_caller")


def count_rows(
    folder: Path, token: str, rules: Retention, now: int, tell: Progress = silent
) -> dict[str, dict[str, int]]:
    """Rows of a person by file: how many, and how many of them must be kept for now."""
    tables = dict(_tables(folder, rules))
    inside = by_size(tell, tables)
    return {path.name: _count(path, [token], rule, now, inside[path]) for path, rule in tables.items()}


def delete_rows(
    folder: Path, token: str, rules: Retention, now: int, tell: Progress = silent
) -> dict[str, dict[str, Any]]:
    """Delete a person's rows, and exclude the number from every later training.

    Returns: by file: rows found, deleted and kept, and its SHA-256 before and after.
    Raises:
        ValueError: if there is a table that no rule names; nothing is deleted.
    """
    tables = dict(_tables(folder, rules))
    inside = by_size(tell, tables)
    report = {path.name: delete_from(path, [token], rule, now, inside[path]) for path, rule in tables.items()}
    for path, rule in tables.items():
        # What goes with a call, and names nobody itself.
        if rule.follows and FOLLOWED in pq.read_schema(path).names:
            gone = follow(path, folder / f"{rule.follows}.parquet")
            report[path.name] |= {"deleted": gone.rows_before - gone.rows_after, "sha256_after": gone.sha256_after}
    remove_partial_files(folder, "*.parquet")
    known = pd.Timestamp(now, unit="ms", tz="UTC")
    add_rows(folder / FILE, EXCLUSIONS, [{"number": token, "known_at": known, "why": DELETED}])
    return report


def delete_from(
    path: Path, tokens: Sequence[str], rule: RetentionRule, now: int, tell: Progress = silent
) -> dict[str, Any]:
    """Delete from one table the rows that name a person by one of its tokens; what `delete_rows` tells of a file."""
    inside = steps(tell, {"count": 1, "rewrite": 2})
    found = _count(path, tokens, rule, now, inside["count"])
    done = rewrite(path, partial(_without, tokens, rule, now), inside["rewrite"])
    return {"rows": found["rows"], "deleted": done.rows_before - done.rows_after, "kept": found["kept"],
            "sha256_before": done.sha256_before, "sha256_after": done.sha256_after}  # fmt: skip


def models_trained_on(log: Path, source: str, fingerprint: str) -> list[dict[str, str]]:
    """The models that learnt from a folder as it is, or as it was before rows were erased, deleted or keyed anew.

    Args:
        fingerprint: of the folder's calls as they are now (`evidence.fingerprint`).
        source: what a run's record says of where its calls came from.
    Returns: model, run and why: "the same calls", "the same folder", or both.
    """
    states = earlier_fingerprints(log, fingerprint)
    found = []
    for _, run in payloads(log, "run"):
        same = run["record"]["tag"].get("data_sha256") in states
        place = _source(run["record"]["dataset"].get("calls", {})) == source
        why = " and ".join(name for name, holds in (("the same calls", same), ("the same folder", place)) if holds)
        if why:
            found.append({"model": run["model"], "run": run["run"], "why": why})
    return found


def earlier_fingerprints(log: Path, fingerprint: str) -> set[str]:
    """Fingerprints of a folder's calls, as they are and as they were before rows were erased, deleted or keyed anew.

    Args:
        fingerprint: as of `models_trained_on`.
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
    """Files that can name a person, with their rules."""
    for path in sorted(folder.glob("*.parquet")):
        if path.name != FILE:
            yield path, rules.of(path.stem)


def _count(path: Path, tokens: Sequence[str], kept: RetentionRule, now: int, tell: Progress) -> dict[str, int]:
    found = held = seen = 0
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches():
            table = pa.Table.from_batches([batch])
            mine = _of(table, tokens)
            found += pc.sum(mine).as_py() or 0
            held += pc.sum(pc.and_(mine, _must_stay(table, kept, now))).as_py() or 0
            seen += table.num_rows
            tell(path.name, seen / file.metadata.num_rows)
    return {"rows": found, "kept": held}


def _without(tokens: Sequence[str], kept: RetentionRule, now: int, table: pa.Table) -> pa.Table:
    return table.filter(pc.invert(pc.and_(_of(table, tokens), pc.invert(_must_stay(table, kept, now)))))


def _of(table: pa.Table, tokens: Sequence[str]) -> Any:
    """Which rows name a person in any column."""
    mine: Any = pa.array([False] * table.num_rows)
    for name in COLUMNS:
        if name in table.column_names:
            words = dictionary_decoded(table[name]).combine_chunks()
            mine = pc.or_(mine, pc.is_in(words, value_set=pa.array(tokens, pa.string())))
    return mine


def _must_stay(table: pa.Table, kept: RetentionRule, now: int) -> Any:
    """Which rows are younger than their floor; one without a moment has not even ended."""
    if not kept.floor or kept.follows:
        return pa.array([False] * table.num_rows)
    return pc.fill_null(pc.greater(row_moments(table, kept).combine_chunks(), now - kept.floor), True)
