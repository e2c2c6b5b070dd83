"""Attributes of complaints for counts: class of the plan, regulator, and the call that a complaint is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from callsieve.features.reading.layouts import DEFAULT_ZONE
from callsieve.serving.rules.plan_classes import plan_class

from .parties import UNCLASSIFIED, ReportData, regulators

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NO_REGULATOR = "no regulator named"


def regulator_of(category: object) -> str:
    """Returns the regulator of the trade that a complaint names.

    >>> regulator_of("loans"), regulator_of("fraud"), regulator_of("other")
    ('finance', 'police', 'no regulator named')
    """
    table = regulators()
    return str(table["complaints"].get(category) or table["industries"].get(category) or NO_REGULATOR)


def class_of(category: str | None, mode: str | None) -> str:
    """Returns the class of a complaint in the plan of thirteen ministries, or "unclassified"."""
    return plan_class(category, (), mode) or UNCLASSIFIED


def known_within(complaints: pd.DataFrame, period: str) -> Array:
    """Returns which complaints became known in a period of local days, as a report counts them; shape (complaints,)."""
    first, last = (pd.Timestamp(day, tz=DEFAULT_ZONE) for day in period.split("/"))
    known = pd.to_datetime(complaints["known_at"], utc=True)
    return np.asarray((known >= first) & (known < last))


def calls_of_complaints(source: ReportData, period: str | None = None) -> Array:
    """Returns for each complaint of a period the index of its call, or -1: the caller's last call before `at`.

    Args:
        period: only complaints that became known in it; by default all of them.
    """
    complaints = source.complaints
    if period is not None:
        complaints = complaints[known_within(complaints, period)]
    calls = pd.DataFrame(
        {
            "moment": pd.to_datetime(source.calls["start"].to_numpy(), unit="ms", utc=True),
            "number": source.calls["caller"].to_pandas().astype(object),
            "call": np.arange(source.calls.num_rows),
        }
    )
    asked = pd.DataFrame(
        {
            "moment": pd.to_datetime(complaints["at"], utc=True).astype(calls["moment"].dtype),
            "number": complaints["number"].astype(object),
            "row": np.arange(len(complaints)),
        }
    ).sort_values("moment", kind="stable")
    joined = pd.merge_asof(
        asked, calls.sort_values("moment", kind="stable"), on="moment", by="number", tolerance=pd.Timedelta(days=60)
    )
    result = np.full(len(complaints), -1, dtype=np.int64)
    result[joined["row"]] = joined["call"].fillna(-1).astype(np.int64)
    return result
