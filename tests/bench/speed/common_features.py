"""Defines the 21 features that every engine computes, and checks that values agree.

All features are about a caller's own calls. Attempts count from their start, outcomes from their end; a window is
[at - window, at).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HOUR = 3_600_000
WINDOWS = {"1h": HOUR, "24h": 24 * HOUR, "7d": 7 * 24 * HOUR}
COLUMNS = ("start", "caller", "callee", "ring", "talk", "outcome")
"""Columns of a keyed table that the 21 features need; engines read no others."""

OUTCOMES = ("ended", "answered", "talk", "under_10s", "under_30s", "no_answer")
"""Sums over attempts, and over ended calls; a blocked call has no outcome."""


@dataclass(frozen=True)
class Common:
    """A feature with its name in the catalogue: the sum `part`, or `part` over `whole`, of one window."""

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
    """Returns the sums over outcomes that the features of a window need."""
    needed = {sum_ for feature in COMMON for sum_ in (feature.part, feature.whole)}
    return tuple(name for name in OUTCOMES if f"{name}_{window}" in needed)


def check(engine: str, expected: npt.NDArray[np.float64], actual: npt.NDArray[np.float64]) -> None:
    """Checks that counts are equal and other values equal to 1e-9 relative, NaN where unknown.

    Both arrays have the shape (len(NAMES), calls).

    Raises:
        ValueError: it names the first difference.
    """
    if actual.shape != expected.shape:
        raise ValueError(f"{engine}: expected an array of shape {expected.shape}, got {actual.shape}")
    for feature, a, b in zip(COMMON, expected, actual, strict=True):
        tolerance = 0.0 if feature.how == "count" else 1e-9
        wrong = np.flatnonzero(~np.isclose(b, a, rtol=tolerance, atol=0, equal_nan=True))
        if len(wrong):
            i = wrong[0]
            raise ValueError(f"{engine}: {feature.name} of row {i}: expected {a[i]}, got {b[i]} ({len(wrong)} rows)")
