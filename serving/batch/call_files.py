"""Reads a file of call records in any layout and keys it, for a purpose that the folder's declaration permits."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.arrays import Int64s
from callsieve.features.files.atomic import sha256
from callsieve.features.files.dates import now_ms
from callsieve.features.files.progress import Progress
from callsieve.features.intake.keyed_table import BATCH_ROWS, read_keyed
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.keys.callee_keys import EPHEMERAL
from callsieve.features.keys.tokens import KEY_VARIABLE, Key, key_from_environment, read_key
from callsieve.features.offline.keyed_file import intake_of, write_groups, write_keyed
from callsieve.features.offline.shards import count_rows, read_manifest, write_manifest
from callsieve.features.reading.call_files import read_calls
from callsieve.features.reading.layouts import read_layout
from callsieve.features.records import KEYED_COLUMNS
from callsieve.serving.custody.expiry import all_expired, count_expired, expiry_filter, unexpired_rows
from callsieve.serving.custody.purposes import Declaration, require_purpose
from callsieve.serving.custody.retention import read_retention


@dataclass(frozen=True, slots=True)
class KeyedFile:
    """Keyed calls in order of start, and the number of quarantined rows by reason."""

    calls: pa.Table
    quarantined: dict[str, int]


def key_or_temporary(key: Path | Key | None) -> Key:
    """Returns a key, that of a file, or that of the environment; else a temporary key that ends with the process."""
    if key is not None:
        return key if isinstance(key, Key) else read_key(key)
    return key_from_environment() if KEY_VARIABLE in os.environ else Key.generate(EPHEMERAL)


def read_keyed_file(
    path: Path,
    layout_name: str,
    purpose: str,
    *,
    key: Path | Key | None = None,
    quarantine: Path | None = None,
    strict: bool = False,
    zone: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> KeyedFile:
    """Reads the calls of a file in any layout; layout "keyed" is a table that the intake wrote.

    Expired rows of a keyed table are left out. Unkeyed records of other systems do not expire here: their declaration
    ends on its day `until`.

    Args:
        purpose: what the calls are used for; a declaration must permit it (`serving/custody/purposes.py`).
        zone: time zone of the exchange; by default the layout's.
    Raises:
        ValueError: in one line, for faults of the file, or if all of its rows are invalid.
    """
    declaration = require_purpose(path, purpose)
    if layout_name == "keyed":
        return KeyedFile(expiry_filter(declaration, path)(read_keyed(path).sort_by("start"), "calls"), {})
    file_layout = read_layout(layout_name, zone)
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
    history: Path | None = None,
    refused: Path | None = None,
    zone: str | None = None,
    progress: Progress,
) -> tuple[Path, dict[str, int]]:
    """Writes the keyed calls of a file of call records into a folder, unless an earlier run did.

    Memory does not grow with the file.

    Args:
        folder: locked: two processes with temporary keys would overwrite each other's tokens.
        inputs: what the result follows from (`intake_inputs`); an earlier run with other inputs is refused.
        history, refused, zone: as for `write_keyed`.
    Returns: the Parquet file, and the number of quarantined rows by reason.
    """
    calls, notes = folder / "_calls.parquet", folder / "_intake.json"
    inputs = inputs | {"quarantine": str(quarantine), "strict": strict}
    manifest = read_manifest(notes, inputs)
    if manifest is None:
        options: dict[str, Any] = {"key": key_or_temporary(key), "quarantine": quarantine, "strict": strict}
        options |= {"history": history, "refused": refused, "zone": zone}
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


def call_days(calls: Path) -> set[int]:
    """Returns the days since 1970 with calls of a Parquet file of keyed calls."""
    days: set[int] = set()
    with pq.ParquetFile(calls, pre_buffer=False) as file:
        for batch in file.iter_batches(columns=["start"]):
            days.update(np.unique(batch["start"].to_numpy() // DAY_MS).tolist())
    return days


def row_numbers(calls: Path, *, keyed: bool) -> Int64s | None:
    """Returns the number of each keyed call's row in the input; None if the keyed calls are the input."""
    return None if keyed else np.asarray(pq.read_table(calls, columns=["call"])["call"].to_numpy())


def keyed_with_history(path: Path, history: Path, folder: Path) -> Path:
    """Writes keyed calls and those of a history into one Parquet file with the row numbers as `call`; returns it.

    Calls of the history have negative numbers. A call that is in both files counts once, as a call of the first.
    """
    out, identity, tables = folder / "_with_history.parquet", ("start", "caller", "callee"), list[pa.Table]()
    for file, sign in ((path, 1), (history, -1)):
        table = read_keyed(file).select(KEYED_COLUMNS)
        tables.append(table.append_column("call", pa.array(sign * np.arange(1, table.num_rows + 1))))
    calls = pa.concat_tables(tables).unify_dictionaries()
    pairs = pa.table({name: calls[name].cast(pa.string()) for name in identity}).to_pandas()
    again = pairs.duplicated().to_numpy() & (calls["call"].to_numpy() < 0)
    write_groups(iter([calls.filter(pa.array(~again))]), out)
    return out


def intake_inputs(path: Path, layout_name: str, key: Path | None, zone: str | None) -> dict[str, Any]:
    """Returns everything that decides the keyed calls of a file: the file, its layout and zone, a token of the key."""
    # A temporary key is not compared: a resumed run reuses the tokens that the first process wrote.
    lasting = key is not None or KEY_VARIABLE in os.environ
    return {
        # The whole file is hashed: unlike a Parquet footer, the end of a text file does not identify its content.
        "size": path.stat().st_size,
        "text": sha256(path),
        "layout": sha256(Path(layout_name)) if layout_name.endswith(".toml") else layout_name,
        "zone": zone,
        "key": key_or_temporary(key).token("number", "callsieve") if lasting else None,
    }
