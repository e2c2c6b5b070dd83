"""Reads complaints and matches each to the call that it is about, as the complaint features need them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.complaints import COMPLAINT_COLUMNS

TIMESTAMP = pa.timestamp("ms", tz="UTC")

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

_CALL_COLUMNS = {"block": "caller_block", "trunk": "trunk", "device": "device"}


def complaint_table(calls: pa.Table, complaints: pd.DataFrame) -> pa.Table:
    """Returns the columns `features.complaints.COMPLAINT_COLUMNS`, in order of the moment each complaint became known.

    A complaint is about the last call from its number to its reporter up to the moment that it names. Block, trunk and
    device are null if no call matches. The matched call precedes the complaint, so no later fact enters.

    Args:
        calls: keyed calls, sorted by `start`.
        complaints: columns of COMPLAINTS.
    """
    selected = calls.select(["start", "caller", "callee", *_CALL_COLUMNS.values()])
    texts = [selected[name].cast(pa.string()) for name in selected.column_names[1:]]
    names = ["start", "number", "reporter", *_CALL_COLUMNS]
    call_frame = pa.table([selected["start"], *texts], names=names).to_pandas()
    complaint_frame = pd.DataFrame(
        {
            "number": complaints["number"].astype("str"),
            "reporter": complaints["reporter"].astype("str"),
            "at": milliseconds(complaints["at"]),
            "known": milliseconds(complaints["known_at"]),
        }
    ).sort_values("at", kind="stable")
    matched = pd.merge_asof(complaint_frame, call_frame, left_on="at", right_on="start", by=["number", "reporter"])
    matched = matched.sort_values("known", kind="stable")
    return pa.Table.from_pandas(matched[list(COMPLAINT_COLUMNS)], preserve_index=False).replace_schema_metadata()


def milliseconds(moments: pd.Series[pd.Timestamp]) -> pd.Series[int]:
    """Returns moments as Unix milliseconds."""
    return moments.dt.tz_convert("UTC").dt.as_unit("ms").astype("int64")


def read_complaints(path: Path) -> pd.DataFrame:
    """Reads the complaints of a Parquet file. Raises ValueError, in one line, if a column breaks its rule."""
    return checked_frame(read_parquet(path), COMPLAINTS, path.name)


def read_parquet(path: Path) -> pa.Table:
    """Reads a Parquet file. Raises ValueError, in one line, if the file is missing or not Parquet."""
    if not path.exists():
        raise ValueError(f"{path}: not found; expected a Parquet table")
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: expected a Parquet table, {error}") from error


def checked_frame(table: pa.Table, schema: pa.Schema, where: str) -> pd.DataFrame:
    """Checks an Arrow table against a schema and returns it as pandas, with text as plain objects.

    Columns outside the schema are dropped. A nullable column may be missing.

    Args:
        where: name of the table in error messages.
    Raises:
        ValueError: in one line that names the column and the broken rule; no value is shown.
    """
    columns = {}
    for field in schema:
        if field.name not in table.column_names:
            if not field.nullable:
                raise ValueError(f"{where}: column {field.name}: expected {field.type}, it is missing")
            continue
        try:
            columns[field.name] = table[field.name].cast(field.type, safe=not pa.types.is_timestamp(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            got = table[field.name].type
            raise ValueError(f"{where}: column {field.name}: expected {field.type}, got {got}") from None
        if columns[field.name].null_count and not field.nullable:
            raise ValueError(f"{where}: column {field.name}: expected no missing value")
    frame: pd.DataFrame = pa.table(columns).to_pandas()
    if "at" in frame and (frame["known_at"] < frame["at"]).any():
        raise ValueError(f"{where}: column known_at: expected no moment before `at`")
    return frame
