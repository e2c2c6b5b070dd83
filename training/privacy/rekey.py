"""The tokens of everything that is kept, from one epoch to the next: a folder of calls, a store of cases, live state.

Whatever stops the job, it can be run again: what is keyed anew already has no token of the old epoch, and stays.
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
from callsieve.training.log.audit_log import append

from .deletion import calls_fingerprint
from .rewriting import rewrite

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress


def rekey_everything(
    keys: Rekeying, folders: Sequence[Path], state: Path | None, store: str | None, log: Path, key: Ed25519PrivateKey,
    tell: Progress = silent,
) -> dict[str, Any]:  # fmt: skip
    """Key everything anew that is named, and enter in the log that it was done; what, and the log's entry.

    Raises:
        ValueError: if a scorer is running on the live state; nothing is changed.
    """
    keyed: dict[str, int] = {}
    changes: list[dict[str, str]] = []
    held = None if state is None else lock_folder(state)  # before anything is changed: no scorer may run on it
    try:
        for folder, told in by_size(tell, folders).items():
            calls = size_of(folder / "calls.parquet")
            inside = steps(told, {"before": calls, "tables": size_of(folder), "after": calls})
            before = calls_fingerprint(folder, inside["before"])
            counts = rekey_folder(folder, keys, inside["tables"])
            keyed |= {f"{folder.name}/{name}": rows for name, rows in counts.items()}
            changes.append({"calls_before": before, "calls_after": calls_fingerprint(folder, inside["after"])})
        if store is not None:
            keyed |= rekey_cases(store, state, keys)
        if state is not None:
            keyed |= {f"{state.name}/{name}": lines for name, lines in _rekey_state(state, keys).items()}
    finally:
        unlock_folder(held)
    facts = {"what": "keyed anew", "from": keys.old, "to": keys.new, "keyed": keyed}
    entry = append(log, "key", facts, key)
    for change in changes:
        # One entry a folder: the trail by which the models of a folder are found.
        append(log, "key", {"what": "calls keyed anew"} | change, key)
    return facts | {"entry": entry}


def rekey_folder(folder: Path, keys: Rekeying, tell: Progress = silent) -> dict[str, int]:
    """Key the tables of a folder anew, and registers as `serving.registers` reads them; how many rows each has."""
    counts = {}
    for where, told in by_size(tell, [*sorted(folder.glob("*.parquet")), *sorted(folder.glob("*.jsonl"))]).items():
        if where.suffix == ".parquet":
            counts[where.name] = rewrite(where, partial(_turned, keys), told).rows_after
            continue
        lines = where.read_bytes().splitlines(keepends=True)
        write_atomic(where, b"".join(map(keys.line, lines)))
        counts[where.name] = len(lines)
        told(where.name, 1.0)
    return counts


def rekey_cases(url: str, state: Path | None, keys: Rekeying) -> dict[str, int]:
    """Key a store of cases anew, in one transaction; how many tokens each column has. Scorers are to be told again.

    Args:
        state: of a scorer whose evidence is taken in before its files change.
    """
    import sqlalchemy as sa

    from callsieve.serving.cases.feed import import_verdicts
    from callsieve.serving.cases.store import CaseStore
    from callsieve.serving.cases.tables import appeals, cases, clearances, store

    columns = {cases: ("caller", "block", "trunk", "device"), appeals: ("caller",), clearances: ("caller",)}
    kept, counts = CaseStore(url), {}
    try:
        if state is not None:
            import_verdicts(kept, state)
        with kept.erasing() as connection:
            for table, names in columns.items():
                for name in names:
                    column, changed = table.c[name], 0
                    known = [row[0] for row in connection.execute(sa.select(column).distinct()) if row[0]]
                    for old, new in zip(known, keys.tokens(known), strict=True):
                        if old != new:
                            connection.execute(table.update().where(column == old).values({name: new}))
                            changed += 1
                    counts[f"{table.name}.{name}"] = changed
            connection.execute(store.update().values(generation=store.c.generation + 1))
    finally:
        kept.close()
    return counts


def _rekey_state(state: Path, keys: Rekeying) -> dict[str, int]:
    """Key the files of a scorer's live state anew; how many lines each has."""
    for number in snapshot_numbers(state):
        replace_tokens(snapshot_path(state, number), keys.tokens)
    for request in pending_requests(state):
        request_forgetting(state, keys.token(request.token))
        if keys.token(request.token) != request.token:
            remove_requests([request])
    files = [
        file_path(state, kind, number) for kind in (CALLS, COMPLAINTS, VERDICTS) for number in file_numbers(state, kind)
    ]
    return {where.name: _rewrite_lines(where, keys) for where in files}


def left_of(folder: Path, epoch: str) -> int:
    """Files of a folder, of whatever kind, in which a token of an epoch stands."""
    token = re.compile(rf"{re.escape(epoch)}\.[a-p]{{32}}".encode())
    found = 0
    for where in (each for each in sorted(folder.rglob("*")) if each.is_file()):
        if where.suffix == ".parquet":
            table = pq.read_table(where)
            found += any(_has(column, token.pattern.decode()) for column in table.columns)
        else:
            found += token.search(where.read_bytes()) is not None
    return found


def destroy(key_file: Path, key: Key) -> None:
    """Overwrite a key file and delete it. Copies of it, and what a disk keeps of old blocks, its keeper must find.

    Raises:
        ValueError: if it is a key of records without a cover: its secret would live on in every later key.
    """
    if key.purpose == "records" and key.cover is None:
        raise ValueError(f"key {key.epoch} has no cover: destroying it erases nothing; rotate, then key anew, first")
    with key_file.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(secrets.token_bytes(size))
        file.flush()
        os.fsync(file.fileno())
    key_file.unlink()


def _turned(keys: Rekeying, table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string(kind):
            held = dictionary_encoded(table[field.name].combine_chunks())
            words = pa.array(keys.tokens(held.dictionary.to_pylist()), pa.string())
            column: Any = pa.DictionaryArray.from_arrays(held.indices, words)
            table = table.set_column(place, field, column.cast(field.type) if kind is field.type else column)
    return table


def _rewrite_lines(where: Path, keys: Rekeying) -> int:
    with where.open("rb") as file:
        turned = [keys.line(line) for line in read_lines(file, ReadCounts())]
    write_atomic(where, b"".join(map(seal, turned)), OWNER_ONLY)
    return len(turned)


def _has(column: pa.ChunkedArray, pattern: str) -> bool:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not pa.types.is_string(kind):
        return False
    words = pc.unique(column).cast(pa.string())
    return bool(pc.any(pc.match_substring_regex(words, pattern)).as_py())
