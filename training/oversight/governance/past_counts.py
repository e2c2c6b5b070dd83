"""Counts of earlier reports, for comparison with the period and the year before (环比, 同比), kept longer than calls.

The file has one row for each row of a report's tables: a period, a name and a rounded count that the report shows. It
has no token: operators that no register names, trunks, number blocks and groups of callers are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.keys.tokens import is_token
from callsieve.features.reading.call_files import write_table

if TYPE_CHECKING:
    from .report_page import ReportRow

LEFT_OUT = frozenset(("trunk", "unregistered_bulk", "unlicensed", "victims_in_common", "preferences", "refusals"))
_SCHEMA = pa.schema(
    {**dict.fromkeys(("period", "table", "row"), pa.string()), "records": pa.int64()}.items(),
)
_Counts = dict[tuple[str, str, str], int]
Tables = Mapping[str, Sequence["ReportRow"]]


def year_before(period: str) -> str:
    """Returns the period of the same dates one year earlier.

    >>> year_before("2028-02-29/2028-03-31")
    '2027-02-28/2027-03-31'
    """
    days = [date.fromisoformat(day) for day in period.split("/")]
    return "/".join(
        day.replace(year=day.year - 1, day=28 if (day.month, day.day) == (2, 29) else day.day).isoformat()
        for day in days
    )


def compare(tables: Tables, names: Mapping[str, str], now: str, before: str, path: Path) -> None:
    """Fills the rows of a report with the counts of earlier reports, in place; then adds its counts to the file.

    A count of the period before that the calls themselves give is not replaced.

    Args:
        names: names of operators by token.
        path: Parquet file; a new one if it does not exist.
    Raises:
        ValueError: if the file is no file of counts.
    """
    counts, earlier = _read(path), year_before(now)
    own: _Counts = {}
    for table, rows in tables.items():
        for row in rows if table not in LEFT_OUT else ():
            name = names.get(row["row"], row["row"])
            if is_token(name):
                continue
            if row["before"] is None:
                row["before"] = counts.get((before, table, name))
            row["year_before"] = counts.get((earlier, table, name))
            own[now, table, name] = row["calls"]
    rest = {key: count for key, count in counts.items() if key[0] != now}
    lines = [(*key, count) for key, count in sorted((rest | own).items())]
    write_table(pa.table([list(column) for column in zip(*lines, strict=True)], schema=_SCHEMA), path)


def _read(path: Path) -> _Counts:
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        raise ValueError(f"{path.name}: broken Parquet file") from None
    if not table.schema.equals(_SCHEMA):
        raise ValueError(f"{path.name}: expected the counts of earlier reports, as govern report --past writes them")
    return {(row["period"], row["table"], row["row"]): row["records"] for row in table.to_pylist()}
