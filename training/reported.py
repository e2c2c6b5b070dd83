"""Reports as the features of reports take them: with the block, trunk and device of the call that each is about."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from ..features.reports import REPORT_COLUMNS

_TEXTS = {"block": "caller_block", "trunk": "trunk", "device": "device"}


def report_table(calls: pa.Table, reports: pd.DataFrame) -> pa.Table:
    """Columns `features.reports.REPORT_COLUMNS`, in order of when the reports became known.

    A report is about the last call from the number to its reporter up to the moment that it names; of one that fits no
    call, block, trunk and device are null. That call rang before it was reported, so nothing of it is the future.

    Args:
        calls: keyed calls, sorted by `start`.
        reports: columns of `evidence.REPORTS`.
    """
    told = calls.select(["start", "caller", "callee", *_TEXTS.values()])
    texts = [told[name].cast(pa.string()) for name in told.column_names[1:]]
    frame = pa.table([told["start"], *texts], names=["start", "number", "reporter", *_TEXTS]).to_pandas()
    asked = pd.DataFrame(
        {
            "number": reports["number"].astype("str"),
            "reporter": reports["reporter"].astype("str"),
            "at": milliseconds(reports["at"]),
            "known": milliseconds(reports["known_at"]),
        }
    ).sort_values("at", kind="stable")
    found = pd.merge_asof(asked, frame, left_on="at", right_on="start", by=["number", "reporter"])
    found = found.sort_values("known", kind="stable")
    return pa.Table.from_pandas(found[list(REPORT_COLUMNS)], preserve_index=False).replace_schema_metadata()


def milliseconds(moments: pd.Series[pd.Timestamp]) -> pd.Series[int]:
    """Unix milliseconds of moments."""
    return moments.dt.tz_convert("UTC").dt.as_unit("ms").astype("int64")
