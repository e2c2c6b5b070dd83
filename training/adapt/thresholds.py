"""Thresholds for a stated rate of innocent calls flagged, from checked callers and others that evidence calls innocent.

Each checked caller stands for others: its calls count with the inverse of the probability with which it was drawn
(Horvitz and Thompson 1952). One caller alone never decides a threshold, because one answer may be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from callsieve.features.arrays import Array
from callsieve.training.model.certify import CONFIDENCE

MARGIN = 0.5  # share of the allowed calls that the estimate may use
ONE_CALLER = 1 / 3  # share of the allowed calls that one caller counts for at most: two reach the margin, one does not


@dataclass(frozen=True, slots=True)
class Scored:
    """Scored calls: the caller of each as a place among the callers, and its raw score; shape (calls,)."""

    caller: Array
    raw: Array

    def above(self, threshold: float, callers: int) -> Array:
        """Returns how many calls of each caller reach a threshold, shape (callers,)."""
        return np.bincount(self.caller[self.raw >= threshold], minlength=callers)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Innocent calls flagged among all, as estimated from checked callers, with the upper bound at CONFIDENCE."""

    flagged: float
    bound: float


def threshold_for(scored: Scored, weight: Array, allowed: float) -> float:
    """Returns the lowest threshold at which the weighted innocent calls are at most MARGIN of the allowed ones.

    Without any innocent call it is the lowest score.

    Args:
        weight: how many innocent callers each caller stands for, 0 for others; shape (callers,).

    >>> scored = Scored(np.array([0, 0, 1, 1, 2, 2]), np.array([5.0, 4.0, 3.0, 1.0, 2.0, 0.5]))
    >>> [threshold_for(scored, np.array(weight), 6.0) for weight in ((1, 0, 0), (1, 1, 0), (1, 1, 1))]
    [0.5, 1.0000000000000002, 2.0000000000000004]
    """
    rows = np.flatnonzero(weight[scored.caller] > 0)
    if not len(rows):
        return float(scored.raw.min())
    rows = rows[np.argsort(-scored.raw[rows], kind="stable")]
    raw, caller = scored.raw[rows], scored.caller[rows]
    counted = weight[caller] * (1 + places_within(caller))
    most = ONE_CALLER * allowed
    added = np.minimum(counted, most) - np.minimum(counted - weight[caller], most)
    first = int(np.searchsorted(np.cumsum(added) - 1e-9, MARGIN * allowed, side="right"))
    return float(scored.raw.min()) if first == len(raw) else float(np.nextafter(raw[first], np.inf))


def counted_above(scored: Scored, weight: Array, threshold: float, allowed: float) -> float:
    """Returns the weighted innocent calls at or above a threshold; one caller counts for at most ONE_CALLER.

    >>> scored = Scored(np.array([0, 0, 1, 2]), np.array([5.0, 4.0, 3.0, 2.0]))
    >>> counted_above(scored, np.array([3.0, 1.0, 0.0]), 2.0, 6.0)
    3.0
    """
    counted = weight * scored.above(threshold, len(weight))
    return float(np.minimum(counted, ONE_CALLER * allowed).sum())


def places_within(group: Array) -> Array:
    """Returns for each entry how many earlier entries have its value.

    >>> places_within(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    order = np.argsort(group, kind="stable")
    ranked = group[order]
    begin = np.concatenate([[True], ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, dtype=bool)
    first = np.maximum.accumulate(np.where(begin, np.arange(len(ranked)), 0))
    places = np.empty(len(group), dtype=np.int64)
    places[order] = np.arange(len(ranked)) - first
    return places


def estimate(calls: Array, innocent: Array, probability: Array) -> Estimate:
    """Estimates the innocent calls that callers of a draw stand for, with an upper bound.

    Callers drawn with probability 1 are counted. For the others the bound is that of Stringer (1963), as auditors use
    it for sums of money: the largest value that one draw can stand for, times the bound of a Poisson count that grows
    with each innocent caller drawn.

    Args:
        calls: flagged calls of each checked caller, shape (checked,).
        innocent: whether the answer was "innocent"; bool.

    >>> sums = estimate(np.array([10, 10, 4]), np.array([False, False, True]), np.array([0.5, 0.5, 1.0]))
    >>> sums.flagged, round(sums.bound, 1)
    (4.0, 63.9)
    >>> estimate(np.array([0, 0]), np.array([True, False]), np.array([0.5, 0.5]))
    Estimate(flagged=0.0, bound=inf)
    """
    value = calls / probability
    flagged = float(value[innocent].sum())
    drawn = probability < 1
    counted = float(calls[innocent & ~drawn].sum())
    if not drawn.any():
        return Estimate(flagged, counted)
    if not value[drawn].any():  # no checked caller reaches the threshold, so checks show nothing of those who do
        return Estimate(flagged, float("inf"))
    largest = float(value[drawn].max())
    shares = np.sort(value[drawn & innocent] / largest)[::-1]
    limits = np.asarray(chi2.ppf(CONFIDENCE, 2 * (np.arange(len(shares) + 1) + 1)) / 2)
    return Estimate(flagged, counted + largest * float(limits[0] + (np.diff(limits) * shares).sum()))
