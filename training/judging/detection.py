"""Calls until a nuisance caller is detected: the headline that lists and thresholds do not have.

A caller is detected by its first call whose raw score is at or above the threshold. Columns as in `evaluate.py`.
Intervals of quantiles are exact and by order statistics (Thompson, Annals of Mathematical Statistics 7, 1936).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binom, binomtest

from .metrics import aligned

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


SOON = 10  # calls
CONFIDENCE = 0.95
QUANTILES = {"median": 0.5, "p90": 0.9}
OF_QUANTILES = tuple(f"{name}{end}" for name in QUANTILES for end in ("", "_floor", "_low", "_high"))


@dataclass(frozen=True, slots=True)
class Detection:
    """Calls of a nuisance caller until the first one caught, that one counted; never caught counts as infinite.

    `median` and `p90` are the fewest calls by which that share of callers is detected. `median_floor` and
    `p90_floor` are the same with an undetected caller counted by the calls it made: where the figure is infinite,
    all that the calls prove is "more than the floor". `*_low` and `*_high` are the 95 % interval of either: the low
    end with undetected callers counted so, the high end with these never detected. `soon` is the share of callers
    detected within their first SOON calls, `soon_low` and `soon_high` its exact 95 % interval (Clopper and Pearson
    1934) as if no two callers were of one campaign. `stopped` is the share of all calls from the caught one on.
    """

    callers: int
    calls: int
    median: float
    median_floor: int
    median_low: int
    median_high: float
    p90: float
    p90_floor: int
    p90_low: int
    p90_high: float
    detected: float
    soon: float
    soon_low: float
    soon_high: float
    stopped: float


def detecting_calls(raw: Array, threshold: float, caller: Array, start: Array) -> tuple[Array, Array]:
    """For each caller, by code: which of its calls is caught first (from 1; infinite: none), and of how many.

    Calls of one moment keep their order in the table.

    Args:
        raw: of all calls of nuisance callers, from the first one on.
        start: moment of each call.
    Raises:
        ValueError: if there is no call, or the columns differ in length.

    >>> detecting_calls(np.array([0.1, 0.9, 0.2]), 0.5, np.array([7, 7, 8]), np.array([1, 2, 1]))
    (array([ 2., inf]), array([2, 1]))
    """
    aligned("nuisance call", raw=raw, caller=caller, start=start)
    order = np.lexsort((start, caller))
    owners = np.asarray(caller)[order]
    hit = np.asarray(raw, dtype=np.float64)[order] >= threshold
    first = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
    made = np.diff(first, append=len(owners))
    number = np.arange(len(owners)) - np.repeat(first, made) + 1
    return np.minimum.reduceat(np.where(hit, number, np.inf), first), made


def calls_to_detection(raw: Array, threshold: float, caller: Array, start: Array) -> Detection:
    """At which of its calls a nuisance caller is detected, over callers; arguments as of `detecting_calls`."""
    detected, made = detecting_calls(raw, threshold, caller, start)
    floor = np.minimum(detected, made)
    told: dict[str, Any] = {}
    for name, share in QUANTILES.items():
        told[name] = float(np.quantile(detected, share, method="inverted_cdf"))
        told[f"{name}_floor"] = int(np.quantile(floor, share, method="inverted_cdf"))
        told[f"{name}_low"] = int(quantile_interval(floor, share)[0])
        told[f"{name}_high"] = quantile_interval(detected, share)[1]
    soon = int((detected <= SOON).sum())
    interval = binomtest(soon, len(made)).proportion_ci(CONFIDENCE, method="exact")
    return Detection(
        **told,
        callers=len(made),
        calls=len(raw),
        detected=float(np.isfinite(detected).mean()),
        soon=soon / len(made),
        soon_low=float(interval.low),
        soon_high=float(interval.high),
        stopped=float(np.maximum(made - detected + 1, 0).sum() / len(raw)),
    )


def quantile_interval(values: Array, share: float) -> tuple[float, float]:
    """Interval of a quantile, exact whatever the distribution; infinite where the values do not bound it.

    >>> quantile_interval(np.arange(1, 101), 0.5), quantile_interval(np.array([3.0, 4.0]), 0.5)
    ((40.0, 61.0), (1.0, inf))
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    tail = (1 - CONFIDENCE) / 2
    low, high = (int(binom.ppf(q, len(ordered), share)) for q in (tail, 1 - tail))
    least = ordered[low - 1] if low >= 1 else 1.0  # nobody is found before the first call
    most = ordered[high] if high < len(ordered) else np.inf
    return float(least), float(most)
