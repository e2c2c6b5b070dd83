"""Calls until a nuisance caller is detected: the headline that lists and thresholds do not have.

A caller is detected by its first call whose raw score is at or above the threshold. Columns as in `evaluate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binomtest

from .evaluate import aligned

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


SOON = 10  # calls


@dataclass(frozen=True, slots=True)
class Detection:
    """Calls of a nuisance caller until the first one caught, that one counted; never caught counts as infinite.

    `median` and `p90` are the fewest calls by which that share of callers is detected. `median_floor` and
    `p90_floor` are the same with an undetected caller counted by the calls it made: where the figure is infinite,
    all that the calls prove is "more than the floor". `soon` is the share of callers detected within their first SOON
    calls, `soon_low` and `soon_high` its exact 95 % interval (Clopper and Pearson 1934) as if no two callers were of
    one campaign. `stopped` is the share of all calls from the caught one on.
    """

    callers: int
    calls: int
    median: float
    median_floor: int
    p90: float
    p90_floor: int
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
    median, p90 = np.quantile(detected, [0.5, 0.9], method="inverted_cdf")
    median_floor, p90_floor = np.quantile(floor, [0.5, 0.9], method="inverted_cdf")
    soon = int((detected <= SOON).sum())
    interval = binomtest(soon, len(made)).proportion_ci(0.95, method="exact")
    return Detection(
        callers=len(made),
        calls=len(raw),
        median=float(median),
        median_floor=int(median_floor),
        p90=float(p90),
        p90_floor=int(p90_floor),
        detected=float(np.isfinite(detected).mean()),
        soon=soon / len(made),
        soon_low=float(interval.low),
        soon_high=float(interval.high),
        stopped=float(np.maximum(made - detected + 1, 0).sum() / len(raw)),
    )
