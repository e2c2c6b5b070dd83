"""Moves stored tokens from one key epoch to the next: folders of calls, the case store and live state.

An interrupted job can be run again: rekeyed data have no token of the old epoch and do not change.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.ownership import OWNER_ONLY
from callsieve.features.files.progress import by_size, silent, size_of, steps
from callsieve.features.intake.text_columns import dictionary_encoded
from callsieve.features.keys.rotation import Rekeying
from callsieve.features.keys.tokens import Key
from callsieve.features.online.snapshot import replace_tokens
from callsieve.serving.live.events import CALLS, COMPLAINTS
from callsieve.serving.live.forgetting import pending_requests, remove_requests, request_forgetting
from callsieve.serving.live.journal import ReadCounts, file_numbers, file_path, read_lines, seal
from callsieve.serving.live.snapshots import lock_folder, snapshot_numbers, snapshot_path, unlock_folder
from callsieve.serving.live.verdict_log import VERDICTS
from callsieve.training.oversight.log.audit_log import append

from .rewriting import rewrite
from .states import calls_fingerprint

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress


def rekey_everything(
    keys: Rekeying, folders: Sequence[Path], state: Path | None, store: str | None, log: Path, key: Ed25519PrivateKey,
    progress: Progress = silent,
) -> dict[str, Any]:  # fmt: skip
    """Rekeys the folders, the case store and the live state, and enters the rekeying in the log.

    Returns:
        Old and new epoch, rows by file as `keyed`, and the index of the log's `entry`.
    Raises:
        ValueError: if a scorer is running on the live state; nothing is changed.
    """
    rekeyed: dict[str, int] = {}
    changes: list[dict[str, str]] = []
    state_lock = None if state is None else lock_folder(state)  # before any change, because no scorer may run on it
    try:
        for folder, folder_progress in by_size(progress, folders).items():
            calls = size_of(folder / "calls.parquet")
            step_progress = steps(folder_progress, {"before": calls, "tables": size_of(folder), "after": calls})
            before = calls_fingerprint(folder, step_progress["before"])
            counts = rekey_folder(folder, keys, step_progress["tables"])
            rekeyed |= {f"{folder.name}/{name}": rows for name, rows in counts.items()}
            changes.append({"calls_before": before, "calls_after": calls_fingerprint(folder, step_progress["after"])})
        if store is not None:
            rekeyed |= rekey_cases(store, state, keys)
        if state is not None:
            rekeyed |= {f"{state.name}/{name}": lines for name, lines in _rekey_state(state, keys).items()}
    finally:
        unlock_folder(state_lock)
    facts = {"what": "keyed anew", "from": keys.old, "to": keys.new, "keyed": rekeyed}
    entry = append(log, "key", facts, key)
    for change in changes:
        # One entry a folder: `subject.models_trained_on` follows these fingerprints.
        append(log, "key", {"what": "calls keyed anew"} | change, key)
    return facts | {"entry": entry}


def rekey_folder(folder: Path, keys: Rekeying, progress: Progress = silent) -> dict[str, int]:
    """Rekeys the tables and registers of a folder; returns the number of rows by file."""
    counts = {}
    for path, file_progress in by_size(
        progress, [*sorted(folder.glob("*.parquet")), *sorted(folder.glob("*.jsonl"))]
    ).items():
        if path.suffix == ".parquet":
            counts[path.name] = rewrite(path, partial(_rekeyed, keys), file_progress).rows_after
            continue
        lines = path.read_bytes().splitlines(keepends=True)
        write_atomic(path, b"".join(map(keys.line, lines)))
        counts[path.name] = len(lines)
        file_progress(path.name, 1.0)
    return counts


def rekey_cases(url: str, state: Path | None, keys: Rekeying) -> dict[str, int]:
    """Rekeys a case store in one transaction; returns the number of changed tokens by column.

    The generation of the store increases, so that scorers read the cleared callers again.

    Args:
        state: live state of a scorer; its verdicts are imported before its files change.
    """
    import sqlalchemy as sa

    from callsieve.serving.cases.feed import import_verdicts
    from callsieve.serving.cases.store import CaseStore
    from callsieve.serving.cases.tables import appeals, cases, clearances, store

    columns = {cases: ("caller", "block", "trunk", "device"), appeals: ("caller",), clearances: ("caller",)}
    cases_store, counts = CaseStore(url), {}
    try:
        if state is not None:
            import_verdicts(cases_store, state)
        with cases_store.erasing() as connection:
            for table, names in columns.items():
                for name in names:
                    column, changed = table.c[name], 0
                    tokens = [row[0] for row in connection.execute(sa.select(column).distinct()) if row[0]]
                    for old, new in zip(tokens, keys.tokens(tokens), strict=True):
                        if old != new:
                            connection.execute(table.update().where(column == old).values({name: new}))
                            changed += 1
                    counts[f"{table.name}.{name}"] = changed
            connection.execute(store.update().values(generation=store.c.generation + 1))
    finally:
        cases_store.close()
    return counts


def _rekey_state(state: Path, keys: Rekeying) -> dict[str, int]:
    """Rekeys the files of a scorer's live state; returns the number of lines by file."""
    for number in snapshot_numbers(state):
        replace_tokens(snapshot_path(state, number), keys.tokens)
    for request in pending_requests(state):
        request_forgetting(state, keys.token(request.token))
        if keys.token(request.token) != request.token:
            remove_requests([request])
    files = [
        file_path(state, kind, number) for kind in (CALLS, COMPLAINTS, VERDICTS) for number in file_numbers(state, kind)
    ]
    return {path.name: _rewrite_lines(path, keys) for path in files}


def left_of(folder: Path, epoch: str) -> int:
    """Returns the number of files in a folder, of any kind, that contain a token of an epoch."""
    token = re.compile(rf"{re.escape(epoch)}\.[a-p]{{32}}".encode())
    count = 0
    for path in (path for path in sorted(folder.rglob("*")) if path.is_file()):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            count += any(_has(column, token.pattern.decode()) for column in table.columns)
        else:
            count += token.search(path.read_bytes()) is not None
    return count


def destroy(key_file: Path, key: Key) -> None:
    """Overwrites a key file and deletes it. The operator must remove copies and old blocks of the disk.

    Raises:
        ValueError: if it is a records key without a cover, whose secret would remain in every later key.
    """
    if key.purpose == "records" and key.cover is None:
        raise ValueError(
            f"key {key.epoch} has no cover: destroying it erases nothing; rotate it and rekey the data first"
        )
    with key_file.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(secrets.token_bytes(size))
        file.flush()
        os.fsync(file.fileno())
    key_file.unlink()


def _rekeyed(keys: Rekeying, table: pa.Table) -> pa.Table:
    for position, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string(kind):
            encoded = dictionary_encoded(table[field.name].combine_chunks())
            tokens = pa.array(keys.tokens(encoded.dictionary.to_pylist()), pa.string())
            column: Any = pa.DictionaryArray.from_arrays(encoded.indices, tokens)
            table = table.set_column(position, field, column.cast(field.type) if kind is field.type else column)
    return table


def _rewrite_lines(path: Path, keys: Rekeying) -> int:
    with path.open("rb") as file:
        lines = [keys.line(line) for line in read_lines(file, ReadCounts())]
    write_atomic(path, b"".join(map(seal, lines)), OWNER_ONLY)
    return len(lines)


def _has(column: pa.ChunkedArray, pattern: str) -> bool:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not pa.types.is_string(kind):
        return False
    words = pc.unique(column).cast(pa.string())
    return bool(pc.any(pc.match_substring_regex(words, pattern)).as_py())
