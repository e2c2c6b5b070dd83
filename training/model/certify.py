"""Chooses thresholds for a stated false positive rate on one fold, and certifies them on a later one by an exact bound.

A call is flagged when its raw score is at or above the threshold. A benign call without a score (NaN) is never
flagged. A certificate does not count such calls: they show nothing about the model.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from scipy.special import betaincinv

from callsieve.features.arrays import Array
from callsieve.serving.bundle.metadata import Certificate

ROUNDS, CONFIDENCE = 2000, 0.95
_CELLS = 1 << 22  # of one table of draws: 32 MiB


@dataclass(frozen=True, slots=True)
class FeedScores:
    """Raw scores of all calls on one feed, NaN where a call was not scored, and their strata as places among STRATA."""

    raw: Array
    stratum: Array


class FalseCalls(TypedDict):
    """Innocent calls judged and flagged, and the bound of the rate of flagged ones (exact, calls as independent)."""

    benign_calls: int
    false_calls: int
    bound: float


class CertificateFigures(FalseCalls):
    """A certificate on a fold that the threshold was not chosen on."""

    fold: str
    confidence: float
    target: float
    certified: bool


def upper_bound(false: int, calls: int, confidence: float = CONFIDENCE) -> float:
    """Returns the exact one-sided upper bound of a rate, from `false` in `calls` (Clopper and Pearson 1934).

    The bound is 1 without calls.

    >>> [upper_bound(k, n) <= 1e-4 for k, n in ((0, 30_000), (1, 50_000), (4, 100_000), (20, 300_000), (83, 10**6))]
    [True, True, True, True, True]
    >>> [upper_bound(k, n) <= 1e-4 for k, n in ((1, 30_000), (2, 50_000), (5, 100_000), (21, 300_000), (84, 10**6))]
    [False, False, False, False, False]
    """
    if not 0 <= false <= calls:
        raise ValueError(f"false must be from 0 to calls, got {false} of {calls}")
    _between("confidence", confidence)
    return 1.0 if false == calls else float(betaincinv(false + 1, calls - false, confidence))


def choose_threshold(benign_raw: Array, target: float, *, margin: float) -> float:
    """Returns the lowest threshold whose bound on this fold is at most `margin * target`.

    It lies just above a score, so all calls with that score are below it. If the calls are too few for such a bound, it
    lies just above the highest score.

    `benign_raw`: raw scores of benign calls, shape (n,).

    >>> choose_threshold(np.repeat([0.0, 1.0, 2.0], [99_900, 97, 3]), 1e-4, margin=1.0)
    1.0000000000000002
    """
    _between("target", target)
    if not 0 < margin <= 1:
        raise ValueError(f"margin must be above 0 and at most 1, got {margin}")
    scores = _scored(benign_raw)
    if not len(scores):
        raise ValueError("benign_raw: expected at least one benign call with a score, got none")
    calls = len(scores)
    allowed = bisect_right(range(calls), margin * target, key=lambda k: upper_bound(k, calls)) - 1
    rank = calls - 1 - max(allowed, 0)
    return float(np.nextafter(np.partition(scores, rank)[rank], np.inf))


def certificate(fold: str, benign_raw: Array, threshold: float, target: float) -> Certificate:
    """Certifies a threshold on benign calls that it was not chosen on."""
    # No score is at or above NaN, so such a threshold would be certified without a false positive.
    if np.isnan(threshold):
        raise ValueError("threshold must be a number, got NaN")
    scores = _scored(benign_raw)
    return certificate_of(fold, int((scores >= threshold).sum()), len(scores), target)


def certificate_of(fold: str, false: int, calls: int, target: float) -> Certificate:
    """Certifies what flags `false` of these benign calls."""
    _between("target", target)
    bound = upper_bound(false, calls)
    return Certificate(fold, calls, false, bound, CONFIDENCE, float(target), bool(bound <= target))


def certificate_figures(proof: Certificate) -> CertificateFigures:
    """Returns a certificate as plain values."""
    return {
        "fold": proof.fold,
        "benign_calls": proof.benign_calls,
        "false_calls": proof.false_calls,
        "bound": proof.bound,
        "confidence": proof.confidence,
        "target": proof.target,
        "certified": proof.certified,
    }


def strata(fold: str, benign_raw: Array, threshold: float, target: float, names: Array) -> dict[str, Certificate]:
    """Returns a certificate for each distinct name, sorted; a stratum with too few calls is not certified.

    Each bound holds with CONFIDENCE on its own, not all of them jointly.

    `names`: stratum of each call, shape (n,).
    """
    scores = np.asarray(benign_raw, dtype=np.float64)
    if len(names) != len(scores):
        raise ValueError(f"names must have one entry per score, got {len(names)} for {len(scores)}")
    distinct, stratum = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    calls = np.bincount(stratum[~np.isnan(scores)], minlength=len(distinct))
    false = np.bincount(stratum[scores >= threshold], minlength=len(distinct))
    return {
        str(name): certificate_of(fold, int(k), int(n), target)
        for name, k, n in zip(distinct, false, calls, strict=True)
    }


def caller_bootstrap(
    hits: Array, callers: Array, *, seed: int, rounds: int = ROUNDS, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Returns an interval for the rate of `hits` with callers resampled: calls of one caller are not independent.

    `hits`: bool, shape (n,). `callers`: code of each call's caller, shape (n,).
    """
    if len(hits) != len(callers):
        raise ValueError(f"callers must have one entry per hit, got {len(callers)} for {len(hits)}")
    caller = np.unique(callers, return_inverse=True)[1]
    top = np.bincount(caller, weights=hits)
    return ratio_interval(top, np.bincount(caller), seed=seed, rounds=rounds, confidence=confidence)


def bound_by_organisation(hits: Array, groups: Array) -> float:
    """Returns the upper bound of the rate of `hits` for a call of an unseen organisation; all count alike.

    Calls of one organisation are alike, so a bound over calls does not apply to unseen organisations. Here one call of
    each is drawn, and `upper_bound` applies to these (Dunn, Wasserman and Ramdas 2023). The expected number of hits
    among the drawn calls takes the place of a single draw's.

    `hits`: bool, shape (n,). `groups`: code of the organisation of each call, shape (n,).

    >>> hits, calls = np.arange(1000) < 5, np.arange(1000)
    >>> [round(bound_by_organisation(hits, groups), 4) for groups in (calls, calls % 10)]
    [0.0105, 0.2665]
    """
    if len(hits) != len(groups):
        raise ValueError(f"groups must have one entry per hit, got {len(groups)} for {len(hits)}")
    code = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(code)
    expected = float((np.bincount(code, weights=hits) / sizes).sum()) if len(sizes) else 0.0
    return 1.0 if expected >= len(sizes) else float(betaincinv(expected + 1, len(sizes) - expected, CONFIDENCE))


def ratio_interval(
    top: Array, bottom: Array, *, seed: int, rounds: int = ROUNDS, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Returns the percentile interval (Efron 1979) of the rate sum(top) / sum(bottom), with whole callers resampled.

    Resampling cannot leave a rate of 0 or 1, and cannot learn from a single caller how callers differ. If no caller or
    every caller is hit throughout, the interval is the exact one with callers as trials; for one caller it is 0 to 1.

    `top`, `bottom`: the sums of each caller, shape (callers,); 0 <= top <= bottom, bottom above 0.
    """
    _between("confidence", confidence)
    callers = len(top)
    if not callers:
        raise ValueError("expected at least one caller, got none")
    if callers == 1:
        return 0.0, 1.0
    unseen = upper_bound(0, callers, (1 + confidence) / 2)
    if not np.any(top):
        return 0.0, unseen
    if np.array_equal(top, bottom):
        return 1.0 - unseen, 1.0
    # Callers with equal sums are interchangeable: drawing the count of each kind is the same bootstrap, but cheaper.
    kinds, counts = np.unique(np.column_stack([top, bottom]), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // len(kinds))
    sums = np.concatenate(
        [
            rng.multinomial(callers, counts / callers, size=min(step, rounds - begin)) @ kinds
            for begin in range(0, rounds, step)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [tail, 1 - tail])
    return float(low), float(high)


def difference_interval(
    flagged: Array, baseline: Array, caller: Array, *, seed: int, rounds: int = ROUNDS, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Returns an interval for the difference of two flag rates, `flagged` less `baseline`, with callers resampled.

    `flagged`, `baseline`: bool, of the same calls, shape (n,).
    """
    code = np.unique(caller, return_inverse=True)[1]
    calls = np.bincount(code)
    difference = np.bincount(code, weights=flagged.astype(float) - baseline)
    # A difference d of two rates maps to a rate, (1 + d) / 2, whose interval is known.
    low, high = ratio_interval((calls + difference) / 2, calls, seed=seed, rounds=rounds, confidence=confidence)
    return 2 * low - 1, 2 * high - 1


def _scored(raw: Array) -> Array:
    scores = np.asarray(raw, dtype=np.float64)
    if np.isinf(scores).any():
        raise ValueError(f"raw scores must be finite or NaN, got {int(np.isinf(scores).sum())} infinite ones")
    return scores[~np.isnan(scores)]


def _between(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")
