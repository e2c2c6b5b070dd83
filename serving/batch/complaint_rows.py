"""Reports as the features of reports take them: with the block, trunk and device of the call that each is about."""

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

_TEXTS = {"block": "caller_block", "trunk": "trunk", "device": "device"}


def complaint_table(calls: pa.Table, reports: pd.DataFrame) -> pa.Table:
    """Columns `features.reports.REPORT_COLUMNS`, in order of when the reports became known.

    A report is about the last call from the number to its reporter up to the moment that it names; of one that fits no
    call, block, trunk and device are null. That call rang before it was reported, so nothing of it is the future.

    Args:
        calls: keyed calls, sorted by `start`.
        reports: columns of `evidence.COMPLAINTS`.
    """
    told = calls.select(["start", "caller", "callee", *_TEXTS.values()])
    texts = [told[name].cast(pa.string()) for name in told.column_names[1:]]
    checked_frame = pa.table([told["start"], *texts], names=["start", "number", "reporter", *_TEXTS]).to_pandas()
    asked = pd.DataFrame(
        {
            "number": reports["number"].astype("str"),
            "reporter": reports["reporter"].astype("str"),
            "at": milliseconds(reports["at"]),
            "known": milliseconds(reports["known_at"]),
        }
    ).sort_values("at", kind="stable")
    found = pd.merge_asof(asked, checked_frame, left_on="at", right_on="start", by=["number", "reporter"])
    found = found.sort_values("known", kind="stable")
    return pa.Table.from_pandas(found[list(COMPLAINT_COLUMNS)], preserve_index=False).replace_schema_metadata()


def milliseconds(moments: pd.Series[pd.Timestamp]) -> pd.Series[int]:
    """Unix milliseconds of moments."""
    return moments.dt.tz_convert("UTC").dt.as_unit("ms").astype("int64")


def read_complaints(path: Path) -> pd.DataFrame:
    """Reports of a Parquet file. Raises ValueError: in one line, if it is none."""
    return checked_frame(read_parquet(path), COMPLAINTS, path.name)


def read_parquet(path: Path) -> pa.Table:
    """The table of a Parquet file. Raises ValueError: in one line, if it is none, or not there."""
    if not path.exists():
        raise ValueError(f"{path}: not found; expected a Parquet table")
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: expected a Parquet table, {error}") from error


def checked_frame(table: pa.Table, schema: pa.Schema, where: str) -> pd.DataFrame:
    """An Arrow table as pandas, checked: its text as plain objects, columns that the schema does not name left out.

    A column that may be null may also be missing.

    Raises:
        ValueError: in one line that says which column breaks which rule; no value is shown.
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
    found: pd.DataFrame = pa.table(columns).to_pandas()
    if "at" in found and (found["known_at"] < found["at"]).any():
        raise ValueError(f"{where}: column known_at: expected no moment before `at`")
    return found
