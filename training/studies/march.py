"""The third-party March table of the Sichuan set: its columns, built anew from call records.

Only columns whose definition is certain are here: each was recomputed on the rows themselves (sums and ratios) or
on the raw records of a subscriber who is in the table. Left out are `call_interval_*` (wraps at 24 hours),
`voc_user_min_cnt` (does not come out the same), forwarded calls, and what needs a device or a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

OUT, IN = 1, 2
COLUMNS = (
    "voc_cnt",
    "user_cnt",
    "voc_cnt_per_user",
    "voc_user_max_cnt",
    "voc_user_median_cnt",
    "voc_user_std_cnt",
    "max_cnt_inner_day",
    "min_cnt_inner_day",
    "user_max_cnt_inner_day",
    "user_min_cnt_inner_day",
    "active_days",
    "initiative_call_active_days",
    "passive_call_active_days",
    "call_activate_days_diff",
    "call_type_1_cnt",
    "call_type_2_cnt",
    "call_type_1_ratio",
    "call_type_2_ratio",
    "daily_call_type_1_cnt",
    "daily_call_type_2_cnt",
    "call_dur",
    "initial_call_dur",
    "passive_call_dur",
    "initial_call_dur_ratio",
    "passive_call_dur_ratio",
    "initial_call_daily_dur",
    "passive_call_daily_dur",
    "interactive_call_user_cnt",
    "interactive_call_user_ratio",
    "duration_days_min",
    "duration_days_max",
    "duration_days_mean",
    "duration_days_median",
    "duration_days_std",
)


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
    """The columns COLUMNS, one row a subject, indexed by it.

    >>> one = np.ones(2, dtype=int)
    >>> records = Records(one, np.array([5, 5]), np.array([OUT, IN]), np.array([0, 3]), np.array([10, 30]))
    >>> march_columns(records).loc[1, ["voc_cnt", "interactive_call_user_ratio", "duration_days_max"]].tolist()
    [2.0, 1.0, 4.0]
    """
    rows = pd.DataFrame({name: getattr(records, name) for name in Records.__slots__})
    rows["out"] = rows["kind"] == OUT
    found = pd.DataFrame(index=pd.Index(np.unique(records.subject), name="subject"))
    _counts(found, rows)
    _by_peer(found, rows)
    _by_day(found, rows)
    _talk(found, rows)
    return found[list(COLUMNS)].astype(float)


def _counts(found: pd.DataFrame, rows: pd.DataFrame) -> None:
    by = rows.groupby("subject")
    found["voc_cnt"] = by.size()
    found["call_type_1_cnt"] = by["out"].sum()
    found["call_type_2_cnt"] = found["voc_cnt"] - found["call_type_1_cnt"]
    for code in (1, 2):
        found[f"call_type_{code}_ratio"] = found[f"call_type_{code}_cnt"] / found["voc_cnt"]


def _by_peer(found: pd.DataFrame, rows: pd.DataFrame) -> None:
    pairs = rows.groupby(["subject", "peer"], as_index=False).agg(
        calls=("out", "size"), out=("out", "sum"), first=("day", "min"), last=("day", "max")
    )
    pairs["both"] = (pairs["out"] > 0) & (pairs["out"] < pairs["calls"])
    pairs["span"] = pairs["last"] - pairs["first"] + 1
    by = pairs.groupby("subject")
    pairs["most"] = pairs["calls"] == by["calls"].transform("max")
    found["user_cnt"] = by.size()
    found["voc_cnt_per_user"] = found["voc_cnt"] / found["user_cnt"]
    found["voc_user_max_cnt"] = by["most"].sum()
    found["voc_user_median_cnt"] = by["calls"].median()
    found["voc_user_std_cnt"] = by["calls"].std().fillna(0.0)
    found["interactive_call_user_cnt"] = by["both"].sum()
    found["interactive_call_user_ratio"] = found["interactive_call_user_cnt"] / found["user_cnt"]
    for how in ("min", "max", "mean", "median", "std"):
        found[f"duration_days_{how}"] = by["span"].agg(how).fillna(0.0)


def _by_day(found: pd.DataFrame, rows: pd.DataFrame) -> None:
    days = rows.groupby(["subject", "day"], as_index=False).agg(
        calls=("out", "size"), out=("out", "sum"), peers=("peer", "nunique")
    )
    days["active_out"], days["active_in"] = days["out"] > 0, days["out"] < days["calls"]
    by = days.groupby("subject")
    found["active_days"] = by.size()
    found["initiative_call_active_days"] = by["active_out"].sum()
    found["passive_call_active_days"] = by["active_in"].sum()
    found["call_activate_days_diff"] = found["initiative_call_active_days"] - found["passive_call_active_days"]
    for how in ("max", "min"):
        found[f"{how}_cnt_inner_day"] = by["calls"].agg(how)
        found[f"user_{how}_cnt_inner_day"] = by["peers"].agg(how)
    for code in (1, 2):
        found[f"daily_call_type_{code}_cnt"] = found[f"call_type_{code}_cnt"] / found["active_days"]


def _talk(found: pd.DataFrame, rows: pd.DataFrame) -> None:
    found["call_dur"] = rows.groupby("subject")["talk"].sum()
    outgoing = rows["talk"].where(rows["out"], 0.0)
    found["initial_call_dur"] = outgoing.groupby(rows["subject"]).sum()
    found["passive_call_dur"] = found["call_dur"] - found["initial_call_dur"]
    for side in ("initial", "passive"):
        found[f"{side}_call_dur_ratio"] = found[f"{side}_call_dur"] / found["call_dur"]
        found[f"{side}_call_daily_dur"] = found[f"{side}_call_dur"] / found["active_days"]
