"""The columns of the published March table of the Sichuan set, computed from call records.

Only columns whose definition is certain are here: each was recomputed on the rows themselves (sums and ratios) or
on the raw records of a subscriber who is in the table. Left out are `call_interval_*` (wraps at 24 hours),
`voc_user_min_cnt` (cannot be reproduced), forwarded calls, and columns that need a device or a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

OUT, IN = 1, 2
COLUMNS = (
    "voc_cnt", "user_cnt", "voc_cnt_per_user", "voc_user_max_cnt", "voc_user_median_cnt", "voc_user_std_cnt",
    "max_cnt_inner_day", "min_cnt_inner_day", "user_max_cnt_inner_day", "user_min_cnt_inner_day", "active_days",
    "initiative_call_active_days", "passive_call_active_days", "call_activate_days_diff", "call_type_1_cnt",
    "call_type_2_cnt", "call_type_1_ratio", "call_type_2_ratio", "daily_call_type_1_cnt", "daily_call_type_2_cnt",
    "call_dur", "initial_call_dur", "passive_call_dur", "initial_call_dur_ratio", "passive_call_dur_ratio",
    "initial_call_daily_dur", "passive_call_daily_dur", "interactive_call_user_cnt", "interactive_call_user_ratio",
    "duration_days_min", "duration_days_max", "duration_days_mean", "duration_days_median", "duration_days_std",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Records:
    """Answered calls of a month as each subject's own records, one array a column.

    `kind` is OUT or IN, `day` a local day, `talk` in seconds. A call between two subjects is a record of either.
    """

    subject: NDArray[Any]
    peer: NDArray[Any]
    kind: NDArray[Any]
    day: NDArray[Any]
    talk: NDArray[Any]


def march_columns(records: Records) -> pd.DataFrame:
    """Returns a table with the columns COLUMNS and one row for each subject, indexed by subject.

    >>> subject = np.ones(2, dtype=int)
    >>> records = Records(subject, np.array([5, 5]), np.array([OUT, IN]), np.array([0, 3]), np.array([10, 30]))
    >>> march_columns(records).loc[1, ["voc_cnt", "interactive_call_user_ratio", "duration_days_max"]].tolist()
    [2.0, 1.0, 4.0]
    """
    rows = pd.DataFrame({name: getattr(records, name) for name in Records.__slots__})
    rows["out"] = rows["kind"] == OUT
    table = pd.DataFrame(index=pd.Index(np.unique(records.subject), name="subject"))
    _counts(table, rows)
    _by_peer(table, rows)
    _by_day(table, rows)
    _talk(table, rows)
    return table[list(COLUMNS)].astype(float)


def _counts(table: pd.DataFrame, rows: pd.DataFrame) -> None:
    by = rows.groupby("subject")
    table["voc_cnt"] = by.size()
    table["call_type_1_cnt"] = by["out"].sum()
    table["call_type_2_cnt"] = table["voc_cnt"] - table["call_type_1_cnt"]
    for code in (1, 2):
        table[f"call_type_{code}_ratio"] = table[f"call_type_{code}_cnt"] / table["voc_cnt"]


def _by_peer(table: pd.DataFrame, rows: pd.DataFrame) -> None:
    pairs = rows.groupby(["subject", "peer"], as_index=False).agg(
        calls=("out", "size"), out=("out", "sum"), first=("day", "min"), last=("day", "max")
    )
    pairs["both"] = (pairs["out"] > 0) & (pairs["out"] < pairs["calls"])
    pairs["span"] = pairs["last"] - pairs["first"] + 1
    by = pairs.groupby("subject")
    pairs["most"] = pairs["calls"] == by["calls"].transform("max")
    table["user_cnt"] = by.size()
    table["voc_cnt_per_user"] = table["voc_cnt"] / table["user_cnt"]
    table["voc_user_max_cnt"] = by["most"].sum()
    table["voc_user_median_cnt"] = by["calls"].median()
    table["voc_user_std_cnt"] = by["calls"].std().fillna(0.0)
    table["interactive_call_user_cnt"] = by["both"].sum()
    table["interactive_call_user_ratio"] = table["interactive_call_user_cnt"] / table["user_cnt"]
    for how in ("min", "max", "mean", "median", "std"):
        table[f"duration_days_{how}"] = by["span"].agg(how).fillna(0.0)


def _by_day(table: pd.DataFrame, rows: pd.DataFrame) -> None:
    days = rows.groupby(["subject", "day"], as_index=False).agg(
        calls=("out", "size"), out=("out", "sum"), peers=("peer", "nunique")
    )
    days["active_out"], days["active_in"] = days["out"] > 0, days["out"] < days["calls"]
    by = days.groupby("subject")
    table["active_days"] = by.size()
    table["initiative_call_active_days"] = by["active_out"].sum()
    table["passive_call_active_days"] = by["active_in"].sum()
    table["call_activate_days_diff"] = table["initiative_call_active_days"] - table["passive_call_active_days"]
    for how in ("max", "min"):
        table[f"{how}_cnt_inner_day"] = by["calls"].agg(how)
        table[f"user_{how}_cnt_inner_day"] = by["peers"].agg(how)
    for code in (1, 2):
        table[f"daily_call_type_{code}_cnt"] = table[f"call_type_{code}_cnt"] / table["active_days"]


def _talk(table: pd.DataFrame, rows: pd.DataFrame) -> None:
    table["call_dur"] = rows.groupby("subject")["talk"].sum()
    outgoing = rows["talk"].where(rows["out"], 0.0)
    table["initial_call_dur"] = outgoing.groupby(rows["subject"]).sum()
    table["passive_call_dur"] = table["call_dur"] - table["initial_call_dur"]
    for side in ("initial", "passive"):
        table[f"{side}_call_dur_ratio"] = table[f"{side}_call_dur"] / table["call_dur"]
        table[f"{side}_call_daily_dur"] = table[f"{side}_call_dur"] / table["active_days"]
