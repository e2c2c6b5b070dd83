"""Reads and keys the files of an operator for training: complaints with their figures, and a folder to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import check_distinct, check_present
from callsieve.features.files.dates import DAY, parse_day
from callsieve.features.files.progress import Progress, silent, steps
from callsieve.features.keys.tokens import Key
from callsieve.features.offline.keyed_file import write_keyed
from callsieve.features.reading.call_files import write_table
from callsieve.features.reading.layouts import read_layout
from callsieve.features.reading.quarantine import MOST_INVALID
from callsieve.serving.batch.call_files import key_or_temporary
from callsieve.serving.batch.keyed_rows import milliseconds
from callsieve.serving.custody.purposes import copy_declaration, current_declaration, require_purpose

from .check_files import CheckLayout, add_checks, own_or_default, read_check_file
from .complaint_files import ReadComplaints, layout_named, read_complaint_file
from .trusted_files import LISTS_FILE, TrustedLayout, add_to_lists, read_trusted_file

TRAINING = "training"


def ingest(
    path: Path,
    layout: str,
    *,
    published: str | None = None,
    key: Path | None = None,
    out: Path | None = None,
    quarantine: Path | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Reads a file of complaints in a layout of `complaint_files.toml`; writes it with the columns of `COMPLAINTS`.

    `published`: day on which the file was published (2021-07-08), in the layout's zone; nothing was known before.
    Returns: counts of rows and complaints; JSON-able, without a number.
    """
    check_distinct(path, key, out, quarantine)
    check_present(path, key)
    current_declaration(path, "ingestion")
    zone = layout_named(layout).zone
    known_from = (
        None if published is None else pd.Timestamp(parse_day(published, "--published"), tz=zone).tz_convert("UTC")
    )
    step = steps(progress, {"read": 4, "write": 1, "figures": 1})
    read = read_complaint_file(
        path,
        layout,
        key_or_temporary(key),
        published=known_from,
        quarantine=quarantine,
        strict=strict,
        progress=step["read"],
    )
    step["write"]("write", 0.0)
    if out is not None:
        write_table(arrow_table(read.table), out)
    step["figures"]("figures", 0.0)
    figures = figures_of(read, zone)
    step["figures"]("figures", 1.0)
    return figures


def arrow_table(complaints: pd.DataFrame) -> pa.Table:
    """Converts complaints to Arrow: moments in milliseconds, texts as dictionaries."""
    columns: dict[str, pa.Array] = {}
    for name in map(str, complaints.columns):
        column = complaints[name]
        if name in ("at", "known_at"):
            columns[name] = pa.array(milliseconds(column).to_numpy()).cast(pa.timestamp("ms", tz="UTC"))
        elif name == "count":
            columns[name] = pa.array(column.to_numpy())
        else:
            columns[name] = pa.array(column.astype(object), pa.string(), from_pandas=True).dictionary_encode()
    return pa.table(columns)


def figures_of(read: ReadComplaints, zone: str) -> dict[str, Any]:
    """Computes the figures of a file that was read, by local days of `zone`."""
    table = read.table
    count = table["count"].to_numpy() if "count" in table else np.ones(len(table), dtype=np.int64)
    arrived = table["at"] if "count" in table else table["known_at"]  # the day of a count is the day of the complaint
    local = arrived.dt.tz_convert(zone).dt.tz_localize(None).dt.tz_localize("UTC")
    day = milliseconds(local).to_numpy() // DAY
    words = {name: table[name].value_counts().to_dict() for name in ("category", "mode") if name in table}
    return {
        "rows": len(table) + sum(read.quarantined.values()),
        "complaints": int(count.sum()),
        "quarantined": dict(read.quarantined),
        "day_only": read.day_only,
        "resubmitted": read.resubmitted,
        "first": str(table["at"].min()) if len(table) else None,
        "last": str(table["at"].max()) if len(table) else None,
        **{name: {str(word): int(times) for word, times in counts.items()} for name, counts in words.items()},
        "a_day": mean_by_day_kind(day, count),
    }


def mean_by_day_kind(day: Array, count: Array) -> dict[str, float]:
    """Returns the mean complaints of a weekday and of a weekend day, over the days that have any."""
    days, place = np.unique(day, return_inverse=True)
    of_day = np.bincount(place, count)
    weekend = (days + 3) % 7 >= 5  # day 0, 1970-01-01, was a Thursday
    return {
        name: float(of_day[chosen].mean())
        for name, chosen in (("weekday", ~weekend), ("weekend_day", weekend))
        if chosen.any()
    }


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file of an operator, and the name or TOML file of its layout."""

    path: Path
    layout: str


def key_own_files(
    calls: OwnFile,
    key: Key,
    folder: Path,
    *,
    complaints: OwnFile | None = None,
    checks: OwnFile | None = None,
    trusted: OwnFile | None = None,
    allow_quarantine: bool = False,
    purpose: str | None = TRAINING,
    progress: Progress = silent,
) -> dict[Path, dict[str, int]]:
    """Writes the keyed tables of own files into a folder, with numbers as tokens of one key.

    These are `calls.parquet`, and `complaints.parquet`, `findings.parquet` and `lists.parquet` of the files of
    complaints, checks and trusted numbers that are given. The declaration of the calls, if any, also applies to the
    folder.

    `purpose`: what the tables are for; None for all that the declaration of the calls permits, which every reader of
    the folder checks again.
    Returns: number of quarantined rows of each file, by reason.
    """
    paths = [file.path for file in (calls, complaints, checks, trusted) if file is not None]
    check_distinct(*paths)
    check_present(*paths)
    declared = current_declaration(calls.path, purpose or "ingestion")
    every = declared.purposes if declared.limits else (TRAINING,)
    for path in paths:
        for use in every if purpose is None else (purpose,):
            require_purpose(path, use)
    read_layout(calls.layout)
    if complaints is not None:
        layout_named(complaints.layout)
    if checks is not None:
        own_or_default(checks.layout, CheckLayout, "checks")
    if trusted is not None:
        own_or_default(trusted.layout, TrustedLayout, "trusted")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # keyed calls of people
    step = steps(progress, {"trusted": 1, "checks": 1, "complaints": 1, "calls": 9})
    quarantined: dict[Path, dict[str, int]] = {}
    # The shorter files first: a fault in them is reported before the calls are read.
    if trusted is not None:
        listed = read_trusted_file(trusted.path, trusted.layout, key, progress=step["trusted"])
        add_to_lists(listed, folder / LISTS_FILE)
        quarantined[trusted.path] = dict(listed.quarantined)
    if checks is not None:
        checked = read_check_file(checks.path, checks.layout, key, progress=step["checks"])
        add_checks(checked, folder / "findings.parquet")
        quarantined[checks.path] = dict(checked.quarantined)
    if complaints is not None:
        read = read_complaint_file(complaints.path, complaints.layout, key, progress=step["complaints"])
        write_table(arrow_table(read.table), folder / "complaints.parquet")
        quarantined[complaints.path] = dict(read.quarantined)
    quarantined[calls.path] = write_keyed(
        calls.path,
        calls.layout,
        folder / "calls.parquet",
        key=key,
        quarantine=None,
        strict=False,
        most_invalid=1.0 if allow_quarantine else MOST_INVALID,
        progress=step["calls"],
    )
    copy_declaration(calls.path.parent, folder)
    return quarantined
