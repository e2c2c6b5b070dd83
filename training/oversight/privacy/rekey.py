"""Moves stored tokens from one key epoch to the next: folders of calls, the case store and live state.

An interrupted job can be run again: rekeyed data have no token of the old epoch and do not change.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.files.progress import Progress, by_size, silent, size_of, steps
from callsieve.features.keys.rotation import Rekeying
from callsieve.features.keys.tokens import Key
from callsieve.serving.live.snapshots import lock_folder, unlock_folder
from callsieve.training.oversight.log.audit_log import SignedLog

from . import service_state, tables
from .states import CALLS, calls_fingerprint

Rekeyed = TypedDict("Rekeyed", {"what": str, "from": str, "to": str, "keyed": dict[str, int], "entry": int})
"""The result of a rekeying: old and new epoch, rows by file, and the index of the log's entry."""


def rekey_everything(
    keys: Rekeying,
    folders: Sequence[Path],
    state: Path | None,
    store: str | None,
    log: SignedLog,
    progress: Progress = silent,
) -> Rekeyed:
    """Rekeys the folders, the case store and the live state, and enters the rekeying in the log."""
    rekeyed: dict[str, int] = {}
    changes: list[dict[str, str]] = []
    state_lock = None if state is None else lock_folder(state)  # before any change, because no scorer may run on it
    try:
        for folder, folder_progress in by_size(progress, folders).items():
            calls = size_of(folder / CALLS)
            step_progress = steps(folder_progress, {"before": calls, "tables": size_of(folder), "after": calls})
            before = calls_fingerprint(folder, step_progress["before"])
            counts = tables.rekey(folder, keys, step_progress["tables"])
            rekeyed |= {f"{folder.name}/{name}": rows for name, rows in counts.items()}
            changes.append({"calls_before": before, "calls_after": calls_fingerprint(folder, step_progress["after"])})
        if store is not None:
            from . import case_store

            rekeyed |= case_store.rekey(store, state, keys)
        if state is not None:
            rekeyed |= {f"{state.name}/{name}": lines for name, lines in service_state.rekey(state, keys).items()}
    finally:
        unlock_folder(state_lock)
    what = "keyed anew"
    entry = log.append("key", {"what": what, "from": keys.old, "to": keys.new, "keyed": rekeyed})
    for change in changes:
        # One entry a folder: `states.models_trained_on` follows these fingerprints.
        log.append("key", {"what": "calls keyed anew"} | change)
    return {"what": what, "from": keys.old, "to": keys.new, "keyed": rekeyed, "entry": entry}


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
    """Overwrites a key file and deletes it. The operator must remove copies and old blocks of the disk."""
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


def _has(column: pa.ChunkedArray, pattern: str) -> bool:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not pa.types.is_string(kind):
        return False
    words = pc.unique(column).cast(pa.string())
    return bool(pc.any(pc.match_substring_regex(words, pattern)).as_py())
