"""The input of a training: keyed calls, complaints and findings, and the truth of each call if it is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.files.parquet_file import read_parquet
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.serving.batch.keyed_rows import TIMESTAMP, checked_frame
from callsieve.serving.batch.own_column_join import OWN_FILE, read_own_columns
from callsieve.serving.custody.expiry import expiry_filter
from callsieve.serving.custody.purposes import UNDECLARED, require_purpose

from .fingerprint import fingerprint

COMPLAINTS = pa.schema(
    [
        pa.field("reporter", pa.string(), nullable=False),
        pa.field("number", pa.string(), nullable=False),
        pa.field("at", TIMESTAMP, nullable=False),
        pa.field("known_at", TIMESTAMP, nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("mode", pa.string()),
        pa.field("channel", pa.string()),
    ]
)
FINDINGS = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False),
        pa.field("nuisance", pa.bool_(), nullable=False),
        pa.field("known_at", TIMESTAMP, nullable=False),
    ]
)
RECYCLED = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False),
        pa.field("valid_from", TIMESTAMP, nullable=False),  # the moment when another person got it
        pa.field("known_at", TIMESTAMP, nullable=False),
    ]
)
LISTS = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False),
        pa.field("list", pa.string(), nullable=False),  # its name in the label policy
        pa.field("valid_from", TIMESTAMP, nullable=False),
        pa.field("valid_to", TIMESTAMP),
        pa.field("known_at", TIMESTAMP, nullable=False),
    ]
)
CAMPAIGNS = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False),
        pa.field("principal", pa.string(), nullable=False),  # who it calls for, by the outbound register
    ]
)
EXCLUSIONS = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False),
        pa.field("known_at", TIMESTAMP, nullable=False),
        pa.field("why", pa.string(), nullable=False),  # cleared, or deleted
    ]
)
TRUTH_COLUMNS = ("call", "nuisance", "slice")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Keyed calls in order of start, tables about numbers, and the truth of each call if it is known.

    `purpose` is what the data are used for by their declaration, or "undeclared". `own` has own columns, as from
    `read_own_columns`. `folder` is where the calls are; None for calls in memory.

    >>> from pathlib import Path
    >>> from callsieve.training import read_dataset
    >>> read_dataset(Path("world")).complaints.columns[:3].tolist()
    ['reporter', 'number', 'at']
    """

    calls: pa.Table
    complaints: pd.DataFrame
    findings: pd.DataFrame
    recycled: pd.DataFrame
    lists: pd.DataFrame
    campaigns: pd.DataFrame
    exclusions: pd.DataFrame
    truth: pa.Table | None
    fingerprint: str
    purpose: str = UNDECLARED
    own: pd.DataFrame | None = None
    folder: Path | None = None


def make_dataset(
    calls: pa.Table,
    complaints: pd.DataFrame,
    findings: pd.DataFrame | None = None,
    truth: pa.Table | None = None,
    *,
    recycled: pd.DataFrame | None = None,
    lists: pd.DataFrame | None = None,
    campaigns: pd.DataFrame | None = None,
    exclusions: pd.DataFrame | None = None,
    own: pd.DataFrame | None = None,
) -> Dataset:
    """Combines tables into a data set.

    `findings`, `recycled`, `lists`, `campaigns`, `exclusions`: columns of FINDINGS, RECYCLED, LISTS, CAMPAIGNS,
    EXCLUSIONS; empty by default.
    """
    start = calls["start"].to_numpy()
    if len(start) and (np.diff(start) < 0).any():
        raise ValueError("calls: expected rows in order of start")
    if truth is not None and truth.num_rows != calls.num_rows:
        raise ValueError(f"truth: expected one row a call, {calls.num_rows} in all, got {truth.num_rows}")

    def or_empty(frame: pd.DataFrame | None, schema: pa.Schema) -> pd.DataFrame:
        return checked_frame(schema.empty_table(), schema, "register") if frame is None else frame

    return Dataset(
        calls=calls,
        complaints=complaints,
        findings=or_empty(findings, FINDINGS),
        recycled=or_empty(recycled, RECYCLED),
        lists=or_empty(lists, LISTS),
        campaigns=or_empty(campaigns, CAMPAIGNS),
        exclusions=or_empty(exclusions, EXCLUSIONS),
        truth=truth,
        fingerprint=fingerprint(calls),
        own=own,
    )


def read_dataset(folder: str | Path, purpose: str = "training", *, labels: bool = True) -> Dataset:
    """Reads a data set from a folder of Parquet files.

    `calls` must exist, and `complaints` or `findings`. `lists`, `truth`, `exclusions`, `register_recycled`,
    `register_campaigns` and `columns`, the own columns, may. Expired rows of a declared folder are not read, by the
    shipped retention rules.

    >>> from pathlib import Path
    >>> dataset = read_dataset(Path("world"))  # of `callsieve simulate --size tiny --out world`
    >>> isinstance(dataset.calls["start"][0].as_py(), int), dataset.truth.num_rows == dataset.calls.num_rows
    (True, True)

    Args:
        purpose: what the data are used for; a declaration must permit it (`serving/custody/purposes.py`).
        labels: whether a folder without complaints and findings is refused. An adaptation can begin without both.
    Raises:
        ValueError: in one line, if a file or a column is missing, or the folder is declared for other purposes.
    """
    folder = Path(folder)
    check_folder(folder, labels=labels)
    all_calls = read_keyed(folder / "calls.parquet").sort_by("start")
    declaration = require_purpose(folder, purpose)
    unexpired = expiry_filter(declaration, folder)
    calls, truth = unexpired(all_calls, "calls"), folder / "truth.parquet"

    def read(name: str, schema: pa.Schema) -> pd.DataFrame:
        path = folder / f"{name}.parquet"
        return checked_frame(unexpired(read_parquet(path), name), schema, path.name)

    def read_optional(name: str, schema: pa.Schema) -> pd.DataFrame | None:
        return read(name, schema) if (folder / f"{name}.parquet").exists() else None

    complaints = read_optional("complaints", COMPLAINTS)
    dataset = make_dataset(
        calls,
        checked_frame(COMPLAINTS.empty_table(), COMPLAINTS, "complaints") if complaints is None else complaints,
        read_optional("findings", FINDINGS),
        truth_of_calls(read_parquet(truth), calls) if truth.exists() else None,
        recycled=read_optional("register_recycled", RECYCLED),
        lists=read_optional("lists", LISTS),
        campaigns=read_optional("register_campaigns", CAMPAIGNS),
        exclusions=read_optional("exclusions", EXCLUSIONS),
        own=read_own_columns(folder / OWN_FILE) if (folder / OWN_FILE).exists() else None,
    )
    return replace(dataset, purpose=declaration.in_record(purpose), folder=folder)


def check_folder(folder: Path, *, labels: bool = True) -> None:
    """Checks that a folder holds the files that a training needs, before any of them is read."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: not found; expected a folder of keyed calls, complaints and findings (Parquet)")
    for names in (("calls.parquet",), ("complaints.parquet", "findings.parquet"))[: 1 + labels]:
        if not any((folder / name).is_file() for name in names):
            raise ValueError(
                f"{folder / names[0]}: not found; expected keyed calls, and complaints or findings, in this folder"
            )


def truth_of_calls(truth: pa.Table, calls: pa.Table) -> pa.Table:
    """Returns the truth in the order of the calls, matched by the column `call`."""
    missing = [name for name in TRUTH_COLUMNS if name not in truth.column_names]
    if missing or "call" not in calls.column_names:
        raise ValueError(f"truth: expected the columns {', '.join(TRUTH_COLUMNS)}, and `call` also in the calls")
    places = pc.index_in(calls["call"], value_set=truth["call"].combine_chunks())
    if places.null_count:
        raise ValueError(f"truth: expected a row for every call, {places.null_count} calls have none")
    return truth.take(places)


def count_numbers(calls: pa.Table) -> int:
    """Returns how many distinct numbers call or are called."""
    parts = [pc.unique(pc.dictionary_decode(chunk)) for name in ("caller", "callee") for chunk in calls[name].chunks]
    return len(pc.unique(pa.chunked_array(parts)))


def as_known(dataset: Dataset, when: pd.Timestamp) -> Dataset:
    """Returns the data set with only those rows of the tables about numbers that were known at `when`."""
    frames = {name: getattr(dataset, name) for name in ("complaints", "findings", "recycled", "lists")}
    frames |= {} if dataset.own is None else {"own": dataset.own}
    filtered: dict[str, Any] = {name: frame[frame["known_at"] <= when] for name, frame in frames.items()}
    return replace(dataset, **filtered)


def campaigns_of(dataset: Dataset) -> tuple[pa.ChunkedArray, ...]:
    """Returns columns that name what each call is part of: its principal by the register, its campaign by the truth.

    Only the split reads them: calls of one campaign or principal are alike, so all of them go into one fold.
    """
    campaigns = dataset.campaigns.drop_duplicates("number", keep="last")
    positions = pc.index_in(
        dataset.calls["caller"].cast(pa.string()), value_set=pa.array(campaigns["number"], pa.string())
    )
    principal = pa.array(campaigns["principal"], pa.string()).take(positions.combine_chunks())
    truth = dataset.truth
    campaign = (truth["campaign"],) if truth is not None and "campaign" in truth.column_names else ()
    return (pa.chunked_array([principal]), *campaign)
