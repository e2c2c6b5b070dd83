"""What a model is worth at a threshold: catch rates, calls until detection, ranking, calibration, slices, priors.

A call is caught (or, if benign, flagged) when its raw score is at or above the threshold. A nuisance call without a
score (NaN) is one that got through, and is counted so. Columns have one entry per call, shape (n,): `raw` scores, `y`
(1 nuisance, 0 benign), integer codes of `caller` and `callee`. `metadata_to_json` tells the results in JSON's terms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from callsieve.training.model.certify import ROUNDS, caller_bootstrap, certificate, ratio_interval

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

PRIORS = (0.001, 0.01, 0.05, 0.2)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its interval, callers resampled."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Catch:
    """Share of nuisance calls caught: one dialler outweighs a town by call, not by caller or callee.

    `by_call`: of all calls. `by_caller`: of callers, those with at least one call caught. `by_caller_mean` and
    `by_callee`: the share of their calls caught, averaged over callers and over the people called.
    """

    calls: int
    callers: int
    callees: int
    by_call: Rate
    by_caller: Rate
    by_caller_mean: Rate
    by_callee: Rate


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well scores order calls, over all thresholds."""

    calls: int
    nuisance: int
    auc: float
    average_precision: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Calls of like probability, from `low` to `high`: the mean told, and the share that was nuisance."""

    calls: int
    low: float
    high: float
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Probabilities against what came true; `ece` is the mean gap of the bins, weighted by their calls."""

    bins: tuple[Bin, ...]
    ece: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class SliceResult:
    """One slice at the threshold.

    Nuisance: `rate` is the catch rate, from `low` to `high` with callers resampled, and `certified` is `None`.
    Benign: `rate` is the pass rate, `low` its exact lower bound and `high` 1; `certified` says that the bound
    reaches the target.
    """

    slice: str
    nuisance: bool
    calls: int
    callers: int
    flagged_calls: int
    rate: float
    low: float
    high: float
    certified: bool | None


@dataclass(frozen=True, slots=True)
class AtPrior:
    """Share of flagged calls that are nuisance, if `prior` of all calls are; NaN where nothing is flagged."""

    prior: float
    precision: float


def catch(
    raw: Array,
    threshold: float,
    caller: Array,
    callee: Array,
    *,
    seed: int,
    rounds: int = ROUNDS,
    confidence: float = 0.95,
) -> Catch:
    """Catch rate of nuisance calls, weighted by call, caller and callee, each with a bootstrap over callers.

    The interval by callee holds each call's weight (one part in all calls to that person) while callers are
    resampled.

    Args:
        raw: of nuisance calls.
    Raises:
        ValueError: if there is no call, or the columns differ in length.
    """
    aligned("nuisance call", raw=raw, caller=caller, callee=callee)
    hit = np.asarray(raw, dtype=np.float64) >= threshold
    owner, person = (np.unique(codes, return_inverse=True)[1] for codes in (caller, callee))
    calls, received = np.bincount(owner), np.bincount(person)
    hits = np.bincount(owner, weights=hit)
    part = 1.0 / received[person]

    def rate(top: Array, bottom: Array) -> Rate:
        interval = ratio_interval(top, bottom, seed=seed, rounds=rounds, confidence=confidence)
        return Rate(float(top.sum() / bottom.sum()), *interval)

    each = np.ones(len(calls))
    return Catch(
        calls=len(hit),
        callers=len(calls),
        callees=len(received),
        by_call=rate(hits, calls),
        by_caller=rate((hits > 0).astype(float), each),
        by_caller_mean=rate(hits / calls, each),
        by_callee=rate(np.bincount(owner, weights=part * hit), np.bincount(owner, weights=part)),
    )


def at_target(benign: Array, target: float) -> float:
    """The lowest threshold that flags no more than this share of innocent calls; infinite without any.

    Told by the calls that it is held against: it compares how scores order calls, and is no threshold to work with.

    >>> at_target(np.arange(10.0), 0.1)
    8.000000000000002
    """
    scores = np.sort(benign[~np.isnan(benign)])
    if not len(scores):
        return float("inf")
    return float(np.nextafter(scores[len(scores) - 1 - int(target * len(scores))], np.inf))


def ranking(raw: Array, y: Array) -> Ranking:
    """Area under the ROC curve and average precision; calls without a score rank last.

    Raises:
        ValueError: if the calls are of one kind only.
    """
    aligned("call", raw=raw, y=y)
    truth = np.asarray(y, dtype=bool)
    if truth.all() or not truth.any():
        raise ValueError(f"y: expected benign and nuisance calls, got {len(truth)} calls of one kind")
    order = np.unique(raw, return_inverse=True, equal_nan=True)[1]  # NaN sorts last
    scores = np.where(np.isnan(raw), -1, order)
    return Ranking(
        calls=len(truth),
        nuisance=int(truth.sum()),
        auc=float(roc_auc_score(truth, scores)),
        average_precision=float(average_precision_score(truth, scores)),
    )


def calibration_table(probability: Array, y: Array, bins: int = 10) -> Reliability:
    """Probabilities in bins of equal mass (Nguyen and O'Connor 2015); equal ones stay together, empty bins go."""
    aligned("call", probability=probability, y=y)
    p, truth = np.asarray(probability, dtype=np.float64), np.asarray(y, dtype=bool)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probability must lie in 0..1, got one that does not")
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}")
    edges = np.quantile(p, np.arange(1, bins) / bins)
    place = np.unique(np.searchsorted(edges, p), return_inverse=True)[1]
    calls = np.bincount(place)
    predicted, observed = (np.bincount(place, weights=x) / calls for x in (p, truth))
    order = np.argsort(place, kind="stable")
    begin = np.cumsum(calls) - calls
    low, high = (how.reduceat(p[order], begin) for how in (np.minimum, np.maximum))
    return Reliability(
        bins=tuple(
            Bin(int(n), *(float(x) for x in row)) for n, *row in zip(calls, low, high, predicted, observed, strict=True)
        ),
        ece=float(np.abs(predicted - observed) @ calls / len(p)),
        log_loss=float(log_loss(truth, p, labels=[False, True])),
    )


def slices(
    raw: Array,
    threshold: float,
    y: Array,
    slice_names: Array,
    caller: Array,
    *,
    target: float,
    seed: int,
    rounds: int = ROUNDS,
    confidence: float = 0.95,
) -> list[SliceResult]:
    """Pass rate of each benign slice and catch rate of each nuisance one, by name; benign first.

    A name that both kinds of call bear gives two results.

    Args:
        slice_names: slice of each call.
        target: the highest rate of false calls that a benign slice may have to be certified.
    """
    aligned("call", raw=raw, y=y, slice_names=slice_names, caller=caller)
    scores, truth, owner = np.asarray(raw, dtype=np.float64), np.asarray(y, dtype=bool), np.asarray(caller)
    names, place = np.unique(np.asarray(slice_names, dtype=str), return_inverse=True)
    results = []
    for kind in (False, True):
        for i in np.unique(place[truth == kind]):
            rows = np.flatnonzero((place == i) & (truth == kind))
            hit = scores[rows] >= threshold
            certified = None
            if kind:
                calls, rate = len(rows), float(hit.mean())
                low, high = caller_bootstrap(hit, owner[rows], seed=seed, rounds=rounds, confidence=confidence)
            else:
                proof = certificate(str(names[i]), scores[rows], threshold, target, confidence)
                calls, certified = proof.benign_calls, proof.certified
                rate, low, high = 1.0 - proof.false_calls / max(calls, 1), 1.0 - proof.bound, 1.0
            callers = len(np.unique(owner[rows]))
            results.append(SliceResult(str(names[i]), kind, calls, callers, int(hit.sum()), rate, low, high, certified))
    return results


def prior_sweep(tpr: float, fpr: float, priors: Sequence[float] = PRIORS) -> tuple[AtPrior, ...]:
    """Precision where another share of calls is nuisance: a test set's own mix flatters.

    >>> [round(100 * at.precision) for at in prior_sweep(0.5, 1e-3)]
    [33, 83, 96, 99]
    """
    for name, value in (("tpr", tpr), ("fpr", fpr), *(("prior", prior) for prior in priors)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in 0..1, got {value}")
    points = []
    for prior in priors:
        right, wrong = tpr * prior, fpr * (1 - prior)
        points.append(AtPrior(float(prior), right / (right + wrong) if right + wrong else math.nan))
    return tuple(points)


def to_json(result: Any) -> Any:
    """A result, or any nest of them, as plain values; what is not finite becomes `None`.

    >>> to_json(Rate(0.5, 0.25, math.inf))
    {'value': 0.5, 'low': 0.25, 'high': None}
    """
    if is_dataclass(result):
        return {field.name: to_json(getattr(result, field.name)) for field in fields(result)}
    if isinstance(result, Mapping):
        return {str(key): to_json(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [to_json(value) for value in result]
    if isinstance(result, float) and not math.isfinite(result):
        return None
    return result


def aligned(what: str, **columns: Array) -> None:
    """Raise `ValueError` unless columns are of one length, and not empty. `what`: what a row of them is."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns must be of one length, got {lengths}")
    if not next(iter(lengths.values())):
        raise ValueError(f"expected at least one {what}, got none")
