"""Erasure and deletion in files of verdicts, and in folders of registers.

The rules are those of `retention.toml`: "verdicts" for every file that `callsieve score --out` wrote, under any
name, and "register_NAME" for the lines of NAME.jsonl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.atomic import remove_partial_files, sha256, write_atomic
from callsieve.features.files.progress import silent
from callsieve.features.keys.callee_keys import EPHEMERAL, CalleeCipher
from callsieve.serving.batch.output_keys import output_tokens
from callsieve.serving.batch.register_files import Row, as_lines, rows_of
from callsieve.serving.custody.expiry import all_moments_expired
from callsieve.serving.custody.retention import Retention, RetentionRule
from callsieve.serving.rules.registers import Registers

from . import subject
from .erasure import Erasure, plan_expiry, rows_summary
from .rewriting import Rewritten, create_new_version, sync

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

VERDICTS, REGISTER = "verdicts", "register_"


def plan_verdicts(path: Path, rules: Retention, now: int, progress: Progress = silent) -> Erasure:
    """Plans the erasure of expired rows of a verdict file; rows of invalid calls expire with its last call."""
    rule = rules.of(VERDICTS)
    invalid_too = all_moments_expired(path, rule, now)
    return plan_expiry(str(path), path, rule, now, progress, without_moment=invalid_too)


def delete_from_verdicts(
    path: Path, token: str, callees: CalleeCipher | None, rules: Retention, now: int, progress: Progress = silent
) -> dict[str, Any]:
    """Deletes calls from and to a person in a verdict file; returns the counts and hashes of `subject.delete_from`.

    Raises:
        ValueError: if the file has called numbers under another key than `callees`; nothing is deleted.
    """
    words = pc.unique(pq.read_table(path, columns=["callee"])["callee"].cast(pa.string())).to_pylist()
    epochs = {EPHEMERAL, *(output_token.partition(".")[0] for output_token in output_tokens(token, callees))}
    unknown_epochs = sorted({word.partition(".")[0] for word in words if word} - epochs)
    if unknown_epochs:
        raise ValueError(
            f"{path.name}: called numbers are under key {unknown_epochs[0]}: pass that key as --callees-key"
        )
    remove_partial_files(path.parent, escape(path.name))
    return subject.delete_from(path, output_tokens(token, callees), rules.of(VERDICTS), now, progress)


def plan_registers(folder: Path, rules: Retention, now: int) -> Iterator[Erasure]:
    """Plans the erasure of expired rows of each register of a folder."""
    for path, rows, moments, rule in _registers(folder, rules):
        left = [row for row, moment in zip(rows, moments, strict=True) if not _is_due(moment, rule, now)]
        yield _plan_register(folder, path, rows, left, partial(_count_due, path, rule, now))


def delete_from_registers(folder: Path, token: str, rules: Retention, now: int) -> dict[str, dict[str, Any]]:
    """Deletes a person's rows in each register, except rows below their retention floor.

    Returns:
        By file: rows of the person, deleted and kept rows, and SHA-256 before and after.
    """
    remove_partial_files(folder, "*.jsonl")
    report = {}
    for path, rows, moments, rule in _registers(folder, rules):
        before = sha256(path)
        is_person = [token in (row.get("number"), row.get("callee")) for row in rows]
        left = [
            row
            for row, moment, names_person in zip(rows, moments, is_person, strict=True)
            if not names_person or _must_stay(moment, rule, now)
        ]
        _write(path, left, len(rows))
        count, deleted = sum(is_person), len(rows) - len(left)
        report[path.name] = {"rows": count, "deleted": deleted, "kept": count - deleted,
                             "sha256_before": before, "sha256_after": sha256(path)}  # fmt: skip
    return report


def _registers(folder: Path, rules: Retention) -> list[tuple[Path, list[Row], list[int | None], RetentionRule]]:
    """Reads each register of a folder: its path, its rows with the moments of their retention, and its rule.

    Raises:
        ValueError: if a file is not a register, or no rule names it; nothing is changed.
    """
    registers = Registers.read(folder)
    by_table = {name: rules.of(REGISTER + name) for name in registers.tables}
    return [
        (folder / f"{name}.jsonl", rows_of(registers, name), registers.moments(name, rule.moment), rule)
        for name, rule in by_table.items()
    ]


def _plan_register(
    folder: Path, path: Path, rows: list[Row], left: list[Row], count_left: Callable[[], int]
) -> Erasure:
    name, before, new = f"{folder.name}/{path.name}", sha256(path), None
    if len(left) < len(rows):
        new = create_new_version(path)
        new.write_bytes(as_lines(left))
        sync(new)
    done = Rewritten(len(rows), len(left), before, sha256(new) if new else before)
    return Erasure(name, path, rows_summary(done), new, count_left=count_left)


def _count_due(path: Path, rule: RetentionRule, now: int) -> int:
    moments = Registers.read(path.parent).moments(path.stem, rule.moment)
    return sum(_is_due(moment, rule, now) for moment in moments)


def _write(path: Path, rows: list[Row], before: int) -> None:
    """Writes a register that lost rows. An empty one remains: it states that nothing is registered."""
    if len(rows) < before:
        write_atomic(path, as_lines(rows), path.stat().st_mode & 0o777)


def _is_due(moment: int | None, rule: RetentionRule, now: int) -> bool:
    return moment is not None and moment < now - rule.ceiling


def _must_stay(moment: int | None, rule: RetentionRule, now: int) -> bool:
    return bool(rule.floor) and (moment is None or moment > now - rule.floor)
