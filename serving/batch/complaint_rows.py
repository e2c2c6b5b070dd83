"""Reads complaints and matches each to the call that it is about, as the complaint features need them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from callsieve.features.complaints import COMPLAINT_COLUMNS
from callsieve.features.files.parquet_file import read_parquet

from .keyed_rows import TIMESTAMP, checked_frame, milliseconds

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


def read_complaints(path: Path) -> pd.DataFrame:
    """Reads the complaints of a Parquet file. Raises ValueError, in one line, if a column breaks its rule."""
    return checked_frame(read_parquet(path), COMPLAINTS, path.name)
