"""Calls until a nuisance caller is detected, which reputation lists and rates per call do not measure.

A caller is detected by its first call whose raw score is at or above the threshold. Columns have one entry per call,
as in `metrics`. Intervals of quantiles are exact, by order statistics (Thompson, Annals of Mathematical Statistics 7,
1936).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binom, binomtest

from callsieve.features.arrays import Array

from .figures import Detection, Quantiles
from .metrics import finite, require_aligned

SOON = 10  # calls
CONFIDENCE = 0.95
QUANTILES = {"median": 0.5, "p90": 0.9}
NO_QUANTILES: Quantiles = {
    "median": None, "median_floor": None, "median_low": None, "median_high": None,
    "p90": None, "p90_floor": None, "p90_low": None, "p90_high": None,
}  # fmt: skip


def detecting_calls(raw: Array, threshold: float, caller: Array, start: Array) -> tuple[Array, Array]:
    """Returns for each caller, in order of code, the number of its first caught call and its number of calls.

    Calls are numbered from 1; infinite if no call is caught. Calls of one moment keep their order in the table.

    >>> detecting_calls(np.array([0.1, 0.9, 0.2]), 0.5, np.array([7, 7, 8]), np.array([1, 2, 1]))
    (array([ 2., inf]), array([2, 1]))
    """
    require_aligned("nuisance call", raw=raw, caller=caller, start=start)
    order = np.lexsort((start, caller))
    owners = np.asarray(caller)[order]
    hit = np.asarray(raw, dtype=np.float64)[order] >= threshold
    first = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
    made = np.diff(first, append=len(owners))
    number = np.arange(len(owners)) - np.repeat(first, made) + 1
    return np.minimum.reduceat(np.where(hit, number, np.inf), first), made


def calls_to_detection(raw: Array, threshold: float, caller: Array, start: Array) -> Detection:
    """Returns the calls until detection over callers; an undetected caller counts as infinite.

    `soon_low` and `soon_high` are exact (Clopper and Pearson 1934), with callers as independent.
    """
    detected, made = detecting_calls(raw, threshold, caller, start)
    soon = int((detected <= SOON).sum())
    interval = binomtest(soon, len(made)).proportion_ci(CONFIDENCE, method="exact")
    return {
        "callers": len(made),
        "calls": len(raw),
        "detected_share": float(np.isfinite(detected).mean()),
        "soon_share": soon / len(made),
        "soon_low": float(interval.low),
        "soon_high": float(interval.high),
        **quantiles(detected, made),
        "stopped_share": float(np.maximum(made - detected + 1, 0).sum() / len(raw)),
    }


def quantiles(detected: Array, made: Array) -> Quantiles:
    """Returns quantiles of calls until detection with their floors and intervals; None where infinite.

    The low end of an interval counts undetected callers by the calls that they made, the high end as never detected.
    """
    floor = np.minimum(detected, made)
    half, nine = QUANTILES["median"], QUANTILES["p90"]
    return {
        "median": finite(_quantile(detected, half)),
        "median_floor": int(_quantile(floor, half)),
        "median_low": int(quantile_interval(floor, half)[0]),
        "median_high": finite(quantile_interval(detected, half)[1]),
        "p90": finite(_quantile(detected, nine)),
        "p90_floor": int(_quantile(floor, nine)),
        "p90_low": int(quantile_interval(floor, nine)[0]),
        "p90_high": finite(quantile_interval(detected, nine)[1]),
    }


def _quantile(values: Array, share: float) -> float:
    return float(np.quantile(values, share, method="inverted_cdf"))


def quantile_interval(values: Array, share: float) -> tuple[float, float]:
    """Returns the interval of a quantile, exact for any distribution; infinite where the values do not bound it.

    >>> quantile_interval(np.arange(1, 101), 0.5), quantile_interval(np.array([3.0, 4.0]), 0.5)
    ((40.0, 61.0), (1.0, inf))
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    tail = (1 - CONFIDENCE) / 2
    low, high = (int(binom.ppf(q, len(ordered), share)) for q in (tail, 1 - tail))
    least = ordered[low - 1] if low >= 1 else 1.0  # no detection comes before the first call
    most = ordered[high] if high < len(ordered) else np.inf
    return float(least), float(most)
