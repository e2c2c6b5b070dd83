"""Reads a file of call records in any layout and keys it, for a purpose that the folder's declaration permits."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.atomic import sha256
from callsieve.features.files.dates import now_ms
from callsieve.features.files.progress import Progress
from callsieve.features.intake.keyed_table import BATCH_ROWS, read_keyed
from callsieve.features.keys.callee_keys import EPHEMERAL
from callsieve.features.keys.tokens import KEY_VARIABLE, Key, key_from_environment, read_key
from callsieve.features.offline.keyed_file import intake_of, write_groups, write_keyed
from callsieve.features.offline.shards import count_rows, read_manifest, write_manifest
from callsieve.features.reading.call_files import read_calls
from callsieve.features.reading.layouts import read_layout
from callsieve.serving.custody.expiry import all_expired, count_expired, expiry_filter, unexpired_rows
from callsieve.serving.custody.purposes import Declaration, require_purpose
from callsieve.serving.custody.retention import read_retention


@dataclass(frozen=True, slots=True)
class KeyedFile:
    """Keyed calls in order of start, and the number of quarantined rows by reason."""

    calls: pa.Table
    quarantined: dict[str, int]


def key_or_temporary(path: Path | None) -> Key:
    """Reads the key of a file, else of the environment; else makes a temporary key that ends with the process."""
    if path is not None:
        return read_key(path)
    return key_from_environment() if KEY_VARIABLE in os.environ else Key.generate(EPHEMERAL)


def read_keyed_file(
    path: Path,
    layout_name: str,
    purpose: str,
    *,
    key: Path | None = None,
    quarantine: Path | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> KeyedFile:
    """Reads the calls of a file in any layout; layout "keyed" is a table that the intake wrote.

    Expired rows of a keyed table are left out. Unkeyed records of other systems do not expire here: their declaration
    ends on its day `until`.

    Args:
        purpose: what the calls are used for; a declaration must permit it (`serving/custody/purposes.py`).
    Raises:
        ValueError: in one line, for faults of the file, or if all of its rows are invalid.
    """
    declaration = require_purpose(path, purpose)
    if layout_name == "keyed":
        return KeyedFile(expiry_filter(declaration, path)(read_keyed(path).sort_by("start"), "calls"), {})
    file_layout = read_layout(layout_name)
    number_key = key_or_temporary(key)
    read = read_calls(
        path, file_layout, quarantine=quarantine, key=number_key, strict=strict, nonempty=True, progress=progress
    )
    keyed = intake_of(file_layout, number_key).table(read.table.sort_by("start"))
    return KeyedFile(keyed, dict(read.quarantined))


def key_file(
    path: Path,
    layout_name: str,
    folder: Path,
    *,
    inputs: dict[str, Any],
    key: Path | None,
    quarantine: Path | None,
    strict: bool,
    progress: Progress,
) -> tuple[Path, dict[str, int]]:
    """Writes the keyed calls of a file of call records into a folder, unless an earlier run did.

    Memory does not grow with the file.

    Args:
        folder: locked: two processes with temporary keys would overwrite each other's tokens.
        inputs: what the result follows from (`intake_inputs`); an earlier run with other inputs is refused.
    Returns: the Parquet file, and the number of quarantined rows by reason.
    """
    calls, notes = folder / "_calls.parquet", folder / "_intake.json"
    inputs = inputs | {"quarantine": str(quarantine), "strict": strict}
    manifest = read_manifest(notes, inputs)
    if manifest is None:
        options: dict[str, Any] = {"key": key_or_temporary(key), "quarantine": quarantine, "strict": strict}
        manifest = inputs | {"quarantined": write_keyed(path, layout_name, calls, progress=progress, **options)}
        write_manifest(notes, manifest)
    return calls, manifest["quarantined"]


def unexpired_file(path: Path, folder: Path, declaration: Declaration) -> Path:
    """Returns a Parquet file of keyed calls without expired rows: the file itself, or a copy in the folder.

    Raises:
        ValueError: if the file is no table of keyed calls, or all of its calls have expired.
    """
    rows, rules, copy = count_rows(path), read_retention(), folder / "_unexpired.parquet"
    now, rule = now_ms(), rules.of("calls")
    expired = 0 if not declaration.limits or copy.exists() else count_expired(path, rule, now)
    if expired == rows > 0:
        raise ValueError(all_expired(path, rows, rules))
    if expired:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            batches = (pa.Table.from_batches([batch]) for batch in file.iter_batches(BATCH_ROWS))
            write_groups((unexpired_rows(rule, now, table) for table in batches), copy)
    return copy if copy.exists() else path


def intake_inputs(path: Path, layout_name: str, key: Path | None) -> dict[str, Any]:
    """Returns everything that decides the tokens of a file's calls: the file, its layout, and a token of the key."""
    # A temporary key is not compared: a resumed run reuses the tokens that the first process wrote.
    lasting = key is not None or KEY_VARIABLE in os.environ
    return {
        # The whole file is hashed: unlike a Parquet footer, the end of a text file does not identify its content.
        "size": path.stat().st_size,
        "text": sha256(path),
        "layout": sha256(Path(layout_name)) if layout_name.endswith(".toml") else layout_name,
        "key": key_or_temporary(key).token("number", "callsieve") if lasting else None,
    }
