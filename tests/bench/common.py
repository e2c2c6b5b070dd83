"""The 21 features that every engine of the bench computes, and the check that they agree.

All are of a caller's own calls: attempts count from their start on, outcomes from their end on, a window is
[at - window, at).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]
HOUR = 3_600_000
WINDOWS = {"1h": HOUR, "24h": 24 * HOUR, "7d": 7 * 24 * HOUR}
COLUMNS = ("start", "caller", "callee", "ring", "talk", "outcome")
"""What of a keyed table the 21 need: no engine is made to read more."""

ATTEMPTS = ("calls", "callees")
OUTCOMES = ("ended", "answered", "talk", "under_10s", "under_30s", "no_answer")
"""What is summed: over attempts, and over calls that ended; a blocked one has no outcome of its own."""


@dataclass(frozen=True)
class Common:
    """A feature by its name in the catalogue: `part` alone, or `part` over `whole`, sums of one window."""

    name: str
    how: str
    part: str
    whole: str = ""


def over(measure: str, how: str, part: str, whole: str = "", windows: Sequence[str] = tuple(WINDOWS)) -> list[Common]:
    return [Common(f"out_{measure}_{w}", how, f"{part}_{w}", whole and f"{whole}_{w}") for w in windows]


COMMON = (
    *over("calls_count", "count", "calls"),
    *over("callees_count", "count", "callees"),
    *over("callees_share", "share", "callees", "calls"),
    *over("answered_share", "share", "answered", "ended"),
    *over("talk_mean", "seconds", "talk", "answered"),
    *over("talk_under_10s_share", "share", "under_10s", "answered"),
    *over("talk_under_30s_share", "share", "under_30s", "answered", ("24h", "7d")),
    *over("no_answer_share", "share", "no_answer", "ended", ("7d",)),
)
NAMES = tuple(feature.name for feature in COMMON)


def outcome_sums(window: str) -> tuple[str, ...]:
    """Which sums over outcomes the features of a window need."""
    needed = {sum_ for feature in COMMON for sum_ in (feature.part, feature.whole)}
    return tuple(what for what in OUTCOMES if f"{what}_{window}" in needed)


def keyed(calls: pa.Table) -> tuple[Integers, Integers, Integers]:
    """One integer for (caller, start), and the numbers of caller and callee.

    Keys of neighbouring callers are so far apart that no window reaches from one to the other: a table sorted by key
    needs no grouping.
    """
    caller, callee = (calls[name].combine_chunks().indices.to_numpy().astype(np.int64) for name in ("caller", "callee"))
    start = calls["start"].to_numpy()
    span = int(np.ptp(start)) + 4 * WINDOWS["7d"]
    return caller * span + start - start.min() + WINDOWS["7d"] + 1, caller, callee


def check(engine: str, expected: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> None:
    """Counts equal, the rest to 1e-9 relative; both of shape (len(NAMES), calls), NaN where unknown.

    Raises: ValueError: naming the first difference.
    """
    if found.shape != expected.shape:
        raise ValueError(f"{engine}: expected an array of shape {expected.shape}, got {found.shape}")
    for feature, a, b in zip(COMMON, expected, found, strict=True):
        tolerance = 0.0 if feature.how == "count" else 1e-9
        wrong = np.flatnonzero(~np.isclose(b, a, rtol=tolerance, atol=0, equal_nan=True))
        if len(wrong):
            i = wrong[0]
            raise ValueError(f"{engine}: {feature.name} of row {i}: expected {a[i]}, got {b[i]} ({len(wrong)} rows)")
