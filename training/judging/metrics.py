"""Metrics at a threshold and over all thresholds: catch rates, ranking, calibration, slices, precision at a prior.

A call is caught (nuisance) or flagged (benign) when its raw score is at or above the threshold. A nuisance call without
a score (NaN) counts as missed. Columns have one entry per call, shape (n,): `raw` scores, `y` (1 nuisance, 0 benign),
integer codes of `caller` and `callee`. Results are plain values (`figures`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score, roc_curve

from callsieve.features.arrays import Array
from callsieve.training.model.certify import ROUNDS, caller_bootstrap, certificate, ratio_interval

from .figures import Catch, Point, Rate

PRIORS = (0.001, 0.01, 0.05, 0.2)
CURVE_POINTS = 200
SCORE_BINS = 60
NEAREST = 10  # innocent callers shown beside the threshold
KINDS = {"nuisance": True, "innocent": False}


class Ranking(TypedDict):
    """How well scores order calls, over all thresholds; None unless there are both innocent and nuisance calls."""

    calls: int
    nuisance: int
    auc: float | None
    average_precision: float | None


class Histogram(TypedDict):
    """Judged calls by raw score, relative to the threshold of the caller's number class: it is 0 for all of them."""

    edges: list[float]
    nuisance: list[int]
    innocent: list[int]


class Slice(TypedDict):
    """One kind of caller at the certified threshold.

    Nuisance: `rate` is the catch rate. Benign: `rate` is the pass rate, `low` its exact lower bound, `high` 1,
    `bound` the upper bound of the error. `certified` is None for nuisance.
    """

    slice: str
    nuisance: bool
    calls: int
    callers: int
    flagged: int
    rate: float
    low: float
    high: float
    bound: float | None
    certified: bool | None


class NearCaller(TypedDict):
    """An innocent caller by its code in `judged.parquet`: its kind, its calls, and how many of them are flagged.

    highest: its highest score less the threshold of its number class, in log-odds; from 0 on a call is flagged.
    """

    caller: int
    slice: str
    calls: int
    flagged: int
    highest: float


class Bin(TypedDict):
    """Calls of like probability, from `low` to `high`: mean predicted probability, and observed share of nuisance."""

    calls: int
    low: float
    high: float
    predicted: float
    observed: float


class Reliability(TypedDict):
    """Predicted against observed; `ece` is the mean gap of the bins, weighted by their calls. None without scores."""

    bins: list[Bin]
    ece: float | None
    log_loss: float | None


class PrecisionAtPrior(TypedDict):
    """Share of flagged calls that are nuisance if `prior` of all calls are."""

    prior: float
    precision: float | None


def catch(raw: Array, threshold: float, caller: Array, callee: Array, *, seed: int, rounds: int = ROUNDS) -> Catch:
    """Returns the catch rate of nuisance calls, weighted by call, caller and callee, each with a bootstrap over
    callers.

    By caller, it is the share of callers with at least one call caught. By callee, a call weighs one part in all calls
    to that person. These weights stay fixed while callers are resampled.
    """
    require_aligned("nuisance call", raw=raw, caller=caller, callee=callee)
    hit = np.asarray(raw, dtype=np.float64) >= threshold
    owner, person = (np.unique(codes, return_inverse=True)[1] for codes in (caller, callee))
    calls, hits = np.bincount(owner), np.bincount(owner, weights=hit)
    weight = 1.0 / np.bincount(person)[person]

    def rate(top: Array, bottom: Array) -> Rate:
        low, high = ratio_interval(top, bottom, seed=seed, rounds=rounds)
        return {"rate": float(top.sum() / bottom.sum()), "low": low, "high": high}

    return {
        "call": rate(hits, calls),
        "caller": rate((hits > 0).astype(float), np.ones(len(calls))),
        "callee": rate(np.bincount(owner, weights=weight * hit), np.bincount(owner, weights=weight)),
    }


def threshold_at_rate(benign: Array, target: float) -> float:
    """Returns the lowest threshold that flags at most this share of these innocent calls; infinite without any.

    The threshold is fitted to the calls that it is measured on. It serves to compare how well scores
    rank calls, not to flag calls.

    >>> threshold_at_rate(np.arange(10.0), 0.1)
    8.000000000000002
    """
    scores = np.sort(benign[~np.isnan(benign)])
    if not len(scores):
        return float("inf")
    return float(np.nextafter(scores[len(scores) - 1 - int(target * len(scores))], np.inf))


def ranking(raw: Array, y: Array) -> Ranking:
    """Returns the area under the ROC curve and average precision; calls without a score rank last."""
    require_aligned("call", raw=raw, y=y)
    truth = np.asarray(y, dtype=bool)
    if truth.all() or not truth.any():
        raise ValueError(f"y: expected benign and nuisance calls, got {len(truth)} calls of one kind")
    order = np.unique(raw, return_inverse=True, equal_nan=True)[1]  # NaN sorts last
    scores = np.where(np.isnan(raw), -1, order)
    return {
        "calls": len(truth),
        "nuisance": int(truth.sum()),
        "auc": float(roc_auc_score(truth, scores)),
        "average_precision": float(average_precision_score(truth, scores)),
    }


def calibration_table(probability: Array, y: Array, bins: int = 10) -> Reliability:
    """Returns predicted against observed in bins of equal mass (Nguyen and O'Connor 2015).

    Equal probabilities share a bin; empty bins are left out.
    """
    require_aligned("call", probability=probability, y=y)
    p, truth = np.asarray(probability, dtype=np.float64), np.asarray(y, dtype=bool)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probability must lie in 0..1, got a value outside")
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}")
    edges = np.quantile(p, np.arange(1, bins) / bins)
    place = np.unique(np.searchsorted(edges, p), return_inverse=True)[1]
    calls = np.bincount(place)
    predicted, observed = (np.bincount(place, weights=x) / calls for x in (p, truth))
    order = np.argsort(place, kind="stable")
    begin = np.cumsum(calls) - calls
    low, high = (how.reduceat(p[order], begin) for how in (np.minimum, np.maximum))
    columns = (calls.tolist(), low.tolist(), high.tolist(), predicted.tolist(), observed.tolist())
    rows: list[Bin] = [
        {"calls": n, "low": least, "high": most, "predicted": mean, "observed": share}
        for n, least, most, mean, share in zip(*columns, strict=True)
    ]
    return {
        "bins": rows,
        "ece": float(np.abs(predicted - observed) @ calls / len(p)),
        "log_loss": float(log_loss(truth, p, labels=[False, True])),
    }


def slices(
    raw: Array, threshold: float, y: Array, slice_names: Array, caller: Array, *, target: float, seed: int
) -> list[Slice]:
    """Pass rate of each benign slice and catch rate of each nuisance slice, by name; benign slices first.

    A name with both benign and nuisance calls gives two results.
    """
    require_aligned("call", raw=raw, y=y, slice_names=slice_names, caller=caller)
    scores, truth, owner = np.asarray(raw, dtype=np.float64), np.asarray(y, dtype=bool), np.asarray(caller)
    names, place = np.unique(np.asarray(slice_names, dtype=str), return_inverse=True)
    results: list[Slice] = []
    for nuisance in (False, True):
        for i in np.unique(place[truth == nuisance]):
            rows = np.flatnonzero((place == i) & (truth == nuisance))
            hit = scores[rows] >= threshold
            calls, rate, high, bound, certified = len(rows), float(hit.mean()), 1.0, None, None
            if nuisance:
                low, high = caller_bootstrap(hit, owner[rows], seed=seed)
            else:
                proof = certificate(str(names[i]), scores[rows], threshold, target)
                calls, certified = proof.benign_calls, proof.certified
                rate, low = 1.0 - proof.false_calls / max(calls, 1), 1.0 - proof.bound
                bound = 1.0 - low
            results.append(
                {
                    "slice": str(names[i]),
                    "nuisance": nuisance,
                    "calls": calls,
                    "callers": len(np.unique(owner[rows])),
                    "flagged": int(hit.sum()),
                    "rate": rate,
                    "low": low,
                    "high": high,
                    "bound": bound,
                    "certified": certified,
                }
            )
    return results


def nearest_callers(above: Array, slice_names: Array, caller: Array) -> list[NearCaller]:
    """Returns the innocent callers with the highest scores, highest first; callers without a score are left out.

    `above`: score of each innocent call, less the threshold, shape (calls,); NaN without a score.
    """
    scored = np.isfinite(above)
    codes, first, place = np.unique(caller[scored], return_index=True, return_inverse=True)
    highest = np.full(len(codes), -np.inf)
    np.maximum.at(highest, place, above[scored])
    calls, flagged = np.bincount(place), np.bincount(place, weights=above[scored] >= 0).astype(int)
    return [
        {
            "caller": int(codes[i]),
            "slice": str(slice_names[scored][first[i]]),
            "calls": int(calls[i]),
            "flagged": int(flagged[i]),
            "highest": float(highest[i]),
        }
        for i in np.argsort(-highest, kind="stable")[:NEAREST].tolist()
    ]


def precision_at_priors(tpr: float, fpr: float, priors: Sequence[float] = PRIORS) -> list[PrecisionAtPrior]:
    """Returns the precision at other shares of nuisance than the test set's; None where nothing is flagged.

    >>> [round(100 * point["precision"]) for point in precision_at_priors(0.5, 1e-3)]
    [33, 83, 96, 99]
    """
    for name, value in (("tpr", tpr), ("fpr", fpr), *(("prior", prior) for prior in priors)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in 0..1, got {value}")
    points: list[PrecisionAtPrior] = []
    for prior in priors:
        right, wrong = tpr * prior, fpr * (1 - prior)
        points.append({"prior": float(prior), "precision": right / (right + wrong) if right + wrong else None})
    return points


def finite(value: float) -> float | None:
    """Returns a value that JSON can hold: None for NaN and infinity."""
    return value if math.isfinite(value) else None


def require_aligned(row: str, **columns: Array) -> None:
    """Raises `ValueError` unless all columns have the same length, and at least one `row`."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns must be of one length, got {lengths}")
    if not next(iter(lengths.values())):
        raise ValueError(f"expected at least one {row}, got none")


def curve(raw: Array, nuisance: Array, rows: Array) -> list[Point]:
    """Returns the ROC curve, thinned to points evenly spaced on a logarithmic axis of the false positive rate."""
    fpr, tpr, _ = roc_curve(nuisance[rows], raw[rows])
    wanted = np.concatenate([[0.0], np.geomspace(1e-6, 1.0, CURVE_POINTS)])
    index = np.unique(np.searchsorted(fpr, wanted, side="right") - 1)
    return [[float(fpr[i]), float(tpr[i])] for i in index]


def score_histogram(above: Array, nuisance: Array) -> Histogram:
    """Returns counts of calls by score, for each class of `nuisance`; calls without a finite score are left out.

    `above`: scores relative to the threshold, shape (n,). `nuisance`: whether each call is nuisance, shape (n,).

    >>> score_histogram(np.array([-1.0, 1.0, np.nan]), np.array([False, True, True]))["nuisance"][-1]
    1
    """
    known = np.isfinite(above)
    edges = np.histogram_bin_edges(above[known], SCORE_BINS)
    counts = {kind: np.histogram(above[known & (nuisance == flag)], edges)[0].tolist() for kind, flag in KINDS.items()}
    return {"edges": edges.tolist(), "nuisance": counts["nuisance"], "innocent": counts["innocent"]}
