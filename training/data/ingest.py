"""A file of reports, read, keyed and written for training; and what can be said of it as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.files.atomic import check_distinct
from callsieve.features.files.dates import DAY, parse_day
from callsieve.features.files.progress import silent, steps
from callsieve.features.reading.call_files import write_table
from callsieve.serving.batch.call_files import key_or_temporary
from callsieve.serving.batch.complaint_rows import milliseconds
from callsieve.serving.custody.purposes import require_purpose

from .complaint_files import ReadComplaints, layout_named, read_complaint_file
from .list_reach import list_reach, weekdays

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress


def ingest(
    path: Path,
    layout: str,
    *,
    published: str | None = None,
    key: Path | None = None,
    out: Path | None = None,
    quarantine: Path | None = None,
    strict: bool = False,
    tell: Progress = silent,
) -> dict[str, Any]:
    """Reads a file of complaints in a layout of `complaint_files.toml`; writes it with the columns of `COMPLAINTS`.

    Its folder must be declared for statistics (`purposes.py`).

    Args:
        published: the day on which the file came out (2021-07-08), in the layout's zone.
    Returns: rows, what became of them, and `list_reach`: JSON-able, without a number.
    Raises:
        ValueError: in one line, if the file, the layout or the day is none, or it is not for statistics.
    """
    check_distinct(path, key, out, quarantine)
    require_purpose(path, "statistics")
    zone = layout_named(layout).zone
    when = None if published is None else pd.Timestamp(parse_day(published, "--published"), tz=zone).tz_convert("UTC")
    inside = steps(tell, {"read": 4, "write": 1, "figures": 1})
    read = read_complaint_file(
        path, layout, key_or_temporary(key), published=when, quarantine=quarantine, strict=strict, tell=inside["read"]
    )
    inside["write"]("write", 0.0)
    if out is not None:
        write_table(as_written(read.table), out)
    inside["figures"]("figures", 0.0)
    told = facts(read, zone)
    inside["figures"]("figures", 1.0)
    return told


def as_written(reports: pd.DataFrame) -> pa.Table:
    """Reports as Arrow: moments in milliseconds, texts as dictionaries."""
    columns: dict[str, pa.Array] = {}
    for name in map(str, reports.columns):
        if name in ("at", "known_at"):
            columns[name] = pa.array(milliseconds(reports[name]).to_numpy()).cast(pa.timestamp("ms", tz="UTC"))
        elif name == "count":
            columns[name] = pa.array(reports[name].to_numpy())
        else:
            columns[name] = pa.array(reports[name].astype(object), pa.string(), from_pandas=True).dictionary_encode()
    return pa.table(columns)


def facts(read: ReadComplaints, zone: str) -> dict[str, Any]:
    """Figures of reports that were read; days are local ones of `zone`."""
    table = read.table
    count = table["count"].to_numpy() if "count" in table else np.ones(len(table), dtype=np.int64)
    told = table["at"] if "count" in table else table["known_at"]  # a count's day is the day of the report
    local = told.dt.tz_convert(zone).dt.tz_localize(None).dt.tz_localize("UTC")
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
        **{name: {str(word): int(times) for word, times in found.items()} for name, found in words.items()},
        "a_day": weekdays(day, count),
        "churn": list_reach(table["number"], day, count),
    }
