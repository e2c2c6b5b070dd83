"""Erasure and deletion in files of verdicts, and in folders of registers.

The rules are those of `retention.toml`: "verdicts" for every file that `callsieve score --out` wrote, whatever its
name, and "register_NAME" for the lines of NAME.jsonl.
"""

from __future__ import annotations

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
from callsieve.serving.custody.expiry import count_expired, unexpired_rows
from callsieve.serving.custody.retention import Retention, RetentionRule
from callsieve.serving.rules.registers import Registers

from . import expiry, subject
from .rewriting import Rewritten, rewrite

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

VERDICTS, REGISTER = "verdicts", "register_"


def erase_verdicts(path: Path, rules: Retention, now: int, tell: Progress = silent) -> dict[str, Any]:
    """Take out of a file of verdicts what is past its time; as a file's part of `expiry.erase_tables`."""
    kept = rules.of(VERDICTS)
    done = rewrite(path, partial(unexpired_rows, kept, now), tell)
    return expiry.erasure_summary(done, count_expired(path, kept, now))


def delete_from_verdicts(
    path: Path, token: str, callees: CalleeCipher | None, rules: Retention, now: int, tell: Progress = silent
) -> dict[str, Any]:
    """Take a person's calls, and calls for it, out of a file of verdicts; as a file's part of `subject.delete_rows`.

    Raises:
        ValueError: if the file's called people stand under another key than `callees`; nothing is deleted.
    """
    words = pc.unique(pq.read_table(path, columns=["callee"])["callee"].cast(pa.string())).to_pylist()
    known = {EPHEMERAL, *(one.partition(".")[0] for one in output_tokens(token, callees))}
    strange = sorted({word.partition(".")[0] for word in words if word} - known)
    if strange:
        raise ValueError(f"{path.name}: called people stand under key {strange[0]}: expected --callees-key with it")
    remove_partial_files(path.parent, escape(path.name))
    return subject.delete_from(path, output_tokens(token, callees), rules.of(VERDICTS), now, tell)


def erase_registers(folder: Path, rules: Retention, now: int) -> dict[str, dict[str, Any]]:
    """Take out of each register what is past its time, by file as `expiry.erase_tables`."""
    report = {}
    for path, rows, kept in _registers(folder, rules):
        before = sha256(path)
        left = [row for row in rows if not _is_due(row, kept, now)]
        _write(path, left, len(rows))
        due = sum(_is_due(row, kept, now) for row in rows_of(Registers.read(folder), path.stem))
        report[path.name] = expiry.erasure_summary(Rewritten(len(rows), len(left), before, sha256(path)), due)
    return report


def delete_from_registers(folder: Path, token: str, rules: Retention, now: int) -> dict[str, dict[str, Any]]:
    """Take a person's entries out of each register, but what must be kept for now; by file as `subject.delete_rows`."""
    remove_partial_files(folder, "*.jsonl")
    report = {}
    for path, rows, kept in _registers(folder, rules):
        before = sha256(path)
        mine = [token in (row.get("number"), row.get("callee")) for row in rows]
        left = [row for row, own in zip(rows, mine, strict=True) if not own or _must_stay(row, kept, now)]
        _write(path, left, len(rows))
        count, deleted = sum(mine), len(rows) - len(left)
        report[path.name] = {"rows": count, "deleted": deleted, "kept": count - deleted,
                             "sha256_before": before, "sha256_after": sha256(path)}  # fmt: skip
    return report


def _registers(folder: Path, rules: Retention) -> list[tuple[Path, list[Row], RetentionRule]]:
    """Raises ValueError: if a file is no register, or no rule names one; nothing is changed."""
    read = Registers.read(folder)
    return [(folder / f"{name}.jsonl", rows_of(read, name), rules.of(REGISTER + name)) for name in read.tables]


def _write(path: Path, rows: list[Row], before: int) -> None:
    """A register that loses all its rows stays, empty: it is known that nothing is registered."""
    if len(rows) < before:
        write_atomic(path, as_lines(rows), path.stat().st_mode & 0o777)


def _is_due(row: Row, kept: RetentionRule, now: int) -> bool:
    moment = row[kept.moment]
    return moment is not None and moment < now - kept.ceiling


def _must_stay(row: Row, kept: RetentionRule, now: int) -> bool:
    return bool(kept.floor) and (row[kept.moment] is None or row[kept.moment] > now - kept.floor)
