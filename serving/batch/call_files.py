"""Reads a file of call records in any layout and keys it, for a purpose that the folder's declaration permits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.arrays import Int64s
from callsieve.features.files.atomic import check_distinct, check_present, sha256, write_atomic
from callsieve.features.files.dates import now_ms
from callsieve.features.files.parquet_file import write_groups
from callsieve.features.files.progress import Progress
from callsieve.features.intake.intake import Intake
from callsieve.features.intake.keyed_table import BATCH_ROWS, read_keyed
from callsieve.features.intake.text_columns import unified
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.keys.callee_keys import EPHEMERAL
from callsieve.features.keys.tokens import KEY_VARIABLE, Key, key_from_environment, read_key
from callsieve.features.offline.keyed_file import intake_of, write_keyed
from callsieve.features.offline.shards import count_rows, read_manifest, write_manifest
from callsieve.features.reading.call_files import read_calls
from callsieve.features.reading.layouts import Layout, read_layout
from callsieve.features.reading.quarantine import MOST_INVALID
from callsieve.features.records import KEYED_COLUMNS
from callsieve.serving.custody.expiry import all_expired, count_expired, expiry_filter, unexpired_rows
from callsieve.serving.custody.purposes import Declaration, require_purpose
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.scorer.listed import Listed

ON_LISTS = "_on_lists.json"
NOTHING_REFUSED = pa.table({"row": pa.array([], pa.int64()), "reason": pa.array([], pa.string())})


@dataclass(frozen=True, kw_only=True, slots=True)
class CallFile:
    """A file of call records, and how its rows are read and keyed.

    Attributes:
        layout: name or TOML file of a layout; "keyed" for a table that the intake wrote.
        key: key file; by default the key of the environment, else a temporary key that ends with the process.
        quarantine: file for the invalid rows; None only counts them.
        strict: whether an invalid row is an error.
        allow_quarantine: whether more than MOST_INVALID of the rows may be invalid.
        zone: time zone of the exchange; by default the layout's.
        allow_group_read: whether the group of the key file may read it.
    """

    path: Path
    layout: str
    key: Path | None = None
    quarantine: Path | None = None
    strict: bool = False
    allow_quarantine: bool = False
    zone: str | None = None
    allow_group_read: bool = False

    @property
    def keyed(self) -> bool:
        """Whether the file is a table of keyed calls."""
        return self.layout == "keyed"

    @property
    def most_invalid(self) -> float:
        """Largest share of the rows that may be invalid."""
        return 1.0 if self.allow_quarantine else MOST_INVALID

    def check(self) -> None:
        """Raises ValueError if the file or the key is missing, or the quarantine would replace one of them."""
        check_distinct(self.path, self.key, self.quarantine)
        check_present(self.path, self.key)

    def number_key(self) -> Key:
        """Returns the key of the calls."""
        return key_or_temporary(self.key, allow_group_read=self.allow_group_read)


@dataclass(frozen=True, slots=True)
class KeyedCalls:
    """Keyed calls in order of start, and the number of quarantined rows by reason."""

    calls: pa.Table
    quarantined: dict[str, int]


@dataclass(frozen=True, slots=True)
class KeyedInput:
    """A file of call records as a Parquet file of keyed calls.

    Attributes:
        path: the keyed calls.
        source, layout: the file with the columns of the input, and its layout; None if it is a table of keyed calls.
        numbers: for each keyed call the number of its row in the input, not positive for a call of the history; None
            if the keyed calls are the input.
        refused: `row` and `reason` of the rows that are no calls, in order of row.
        quarantined: number of rows that are no calls, by reason.
        on_lists: token on lists of each listed caller, by its token.
    """

    path: Path
    source: Path
    layout: Layout | None
    numbers: Int64s | None
    refused: pa.Table
    quarantined: dict[str, int]
    on_lists: Mapping[str, int] = field(default_factory=dict)

    def count(self) -> int:
        """Returns the number of calls without those of the history."""
        return count_rows(self.path) if self.numbers is None else int((self.numbers > 0).sum())

    def last_row(self) -> int:
        """Returns the number of the last row of the input."""
        last = count_rows(self.path) if self.numbers is None else int(self.numbers.max())
        return max(last, pc.max(self.refused["row"]).as_py() or 0)


def key_or_temporary(key: Path | None, *, allow_group_read: bool = False) -> Key:
    """Returns the key of a file, or that of the environment; else a temporary key that ends with the process."""
    if key is not None:
        return read_key(key, allow_group_read=allow_group_read)
    return key_from_environment() if KEY_VARIABLE in os.environ else Key.generate(EPHEMERAL)


def read_keyed_file(file: CallFile, purpose: str, *, progress: Callable[[int, int], None] | None = None) -> KeyedCalls:
    """Reads the calls of a file into memory.

    Expired rows of a keyed table are left out. Unkeyed records of other systems do not expire here: their declaration
    ends on its day `until`.
    """
    declaration = require_purpose(file.path, purpose)
    if file.keyed:
        unexpired = expiry_filter(declaration, file.path)
        return KeyedCalls(unexpired(read_keyed(file.path).sort_by("start"), "calls"), {})
    layout, key = read_layout(file.layout, file.zone), file.number_key()
    read = read_calls(
        file.path,
        layout,
        quarantine=file.quarantine,
        key=key,
        strict=file.strict,
        most_invalid=file.most_invalid,
        progress=progress,
    )
    return KeyedCalls(intake_of(layout, key).table(read.table.sort_by("start")), dict(read.quarantined))


def keyed_input(
    file: CallFile,
    history: Path | None,
    folder: Path,
    declaration: Declaration,
    *,
    resumable: bool,
    listed: Listed | None = None,
    progress: Progress,
) -> KeyedInput:
    """Writes the keyed calls of a file into a folder; a table of keyed calls is used as it is if that is possible.

    `history`: file of the same layout with the days before. `listed`: lists that callers are looked up in.
    """
    if file.keyed:
        source = unexpired_file(file.path, folder, declaration)
        if history is None:
            return KeyedInput(source, source, None, None, NOTHING_REFUSED, {})
        calls = keyed_with_history(source, history, folder)
        return KeyedInput(calls, source, None, row_numbers(calls), NOTHING_REFUSED, {})
    layout, refused = read_layout(file.layout), folder / "_refused.parquet"
    inputs = intake_inputs(file) | {"history": digest(history)} if resumable else {}
    if listed is not None:
        if layout.numbers == "codes":
            raise ValueError(f"--lists: the numbers of layout {file.layout} are codes, which no list has")
        inputs |= {"lists": listed.digest}
    calls, quarantined = key_file(
        file, folder, inputs=inputs, history=history, refused=refused, listed=listed, progress=progress
    )
    invalid = pq.read_table(refused) if refused.exists() else NOTHING_REFUSED
    on_lists = {} if listed is None else json.loads((folder / ON_LISTS).read_bytes())
    return KeyedInput(calls, file.path, layout, row_numbers(calls), invalid, quarantined, on_lists)


def key_file(
    file: CallFile,
    folder: Path,
    *,
    inputs: Mapping[str, object],
    history: Path | None = None,
    refused: Path | None = None,
    listed: Listed | None = None,
    progress: Progress,
) -> tuple[Path, dict[str, int]]:
    """Writes the keyed calls of a file of call records into a folder, unless an earlier run did.

    Memory does not grow with the file. Beside the calls, ON_LISTS gets the callers that `listed` has.

    Returns: the Parquet file, and the number of quarantined rows by reason.
    """
    calls, notes = folder / "_calls.parquet", folder / "_intake.json"
    all_inputs = {**inputs, "quarantine": str(file.quarantine), "strict": file.strict}
    manifest = read_manifest(notes, all_inputs)
    if manifest is not None:
        return calls, manifest["quarantined"]
    key, on_lists = file.number_key(), dict[str, int]()
    quarantined = write_keyed(
        file.path,
        file.layout,
        calls,
        key=key,
        quarantine=file.quarantine,
        strict=file.strict,
        most_invalid=file.most_invalid,
        history=history,
        refused=refused,
        zone=file.zone,
        note_callers=None if listed is None else partial(note_listed, listed, Intake(key), on_lists),
        progress=progress,
    )
    if listed is not None:
        write_atomic(folder / ON_LISTS, json.dumps(on_lists).encode())
    write_manifest(notes, all_inputs | {"quarantined": quarantined})
    return calls, quarantined


def note_listed(listed: Listed, intake: Intake, on_lists: dict[str, int], callers: list[str | None]) -> None:
    """Adds the callers that are on a list to `on_lists`: their token on lists, by their token."""
    for text in callers:
        if text and (shared := listed.token(text)) and shared in listed.table:
            on_lists[str(intake.token("number", text))] = shared


def unexpired_file(path: Path, folder: Path, declaration: Declaration) -> Path:
    """Returns a Parquet file of keyed calls without expired rows: the file itself, or a copy in the folder."""
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


def days_of_file(calls: Path) -> set[int]:
    """Returns the days since 1970 with calls of a Parquet file of keyed calls."""
    days: set[int] = set()
    with pq.ParquetFile(calls, pre_buffer=False) as file:
        for batch in file.iter_batches(columns=["start"]):
            days.update(np.unique(batch["start"].to_numpy() // DAY_MS).tolist())
    return days


def row_numbers(calls: Path) -> Int64s:
    """Returns the number of each keyed call's row in the input, as `write_keyed` notes it."""
    return np.asarray(pq.read_table(calls, columns=["call"])["call"].to_numpy())


def keyed_with_history(path: Path, history: Path, folder: Path) -> Path:
    """Writes keyed calls and those of a history into one Parquet file with the row numbers as `call`; returns it.

    Calls of the history have negative numbers. A call that is in both files counts once, as a call of the first.
    """
    out, identity, tables = folder / "_with_history.parquet", ("start", "caller", "callee"), list[pa.Table]()
    for file, sign in ((path, 1), (history, -1)):
        table = read_keyed(file).select(KEYED_COLUMNS)
        tables.append(table.append_column("call", pa.array(sign * np.arange(1, table.num_rows + 1))))
    calls = unified(pa.concat_tables(tables))
    pairs = pa.table({name: calls[name].cast(pa.string()) for name in identity}).to_pandas()
    again = pairs.duplicated().to_numpy() & (calls["call"].to_numpy() < 0)
    write_groups(iter([calls.filter(pa.array(~again))]), out)
    return out


def intake_inputs(file: CallFile) -> dict[str, object]:
    """Returns everything that decides the keyed calls of a file: the file, its layout and zone, a token of the key."""
    # A temporary key is not compared: a resumed run reuses the tokens that the first process wrote.
    lasting = file.key is not None or KEY_VARIABLE in os.environ
    return {
        # The whole file is hashed: unlike a Parquet footer, the end of a text file does not identify its content.
        "size": file.path.stat().st_size,
        "text": sha256(file.path),
        "layout": sha256(Path(file.layout)) if file.layout.endswith(".toml") else file.layout,
        "zone": file.zone,
        "key": file.number_key().token("number", "callsieve") if lasting else None,
    }


def digest(path: Path | None) -> str:
    """Returns the SHA-256 of a file, or of the files of a folder with their names; "" for None."""
    if path is None or not path.is_dir():
        return "" if path is None else sha256(path)
    return json.dumps({file.name: sha256(file) for file in sorted(path.iterdir()) if file.is_file()})
