"""Calibrates raw scores to probabilities of nuisance, on scores of members that did not train on the call's group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold

from callsieve.features.arrays import Array
from callsieve.features.online.feeds import COMPLETE, SECOND_MODEL
from callsieve.serving.bundle.metadata import Calibration

if TYPE_CHECKING:
    from .certify import FeedScores
    from .pool import Pool

FOLDS = 5  # for comparing the two calibrations
LEAST_SLOPE = 0.01


@dataclass(frozen=True, slots=True)
class Calibrations:
    """The calibration of the first risk model, the name of its method, and the calibration of the second, if any."""

    first: Calibration
    method: str
    second: Calibration | None


def calibrate_models(by_feed: Mapping[str, FeedScores], pool: Pool, *, second: bool) -> Calibrations:
    """Calibrates the risk models on the calls that thresholds are chosen on.

    `second`: whether there is a second model; it is calibrated on its scores on the feeds that it learnt from.
    """
    first, method = calibrate_on((by_feed[COMPLETE],), pool)
    of_second = calibrate_on([by_feed[name] for name in SECOND_MODEL], pool)[0] if second else None
    return Calibrations(first, method, of_second)


def calibrate_on(feeds: Sequence[FeedScores], pool: Pool) -> tuple[Calibration, str]:
    """Calibrates a model on its scores on some feeds; returns the calibration and the name of its method."""
    places = [np.flatnonzero(pool.choose & ~np.isnan(feed.raw)) for feed in feeds]
    raw = np.concatenate([feed.raw[rows] for feed, rows in zip(feeds, places, strict=True)])
    rows = np.concatenate(places)
    return calibrate(raw, pool.judged.nuisance[rows], pool.group[rows])


def calibrate(raw: Array, y: Array, group: Array) -> tuple[Calibration, str]:
    """Calibrates raw scores to probabilities: logistic or isotonic, whichever has the lower log-loss across groups.

    With too few groups for a comparison, it is logistic. With calls of one kind only, the method is "none": the model's
    own log-odds.

    Returns: the calibration and the name of its method.
    """
    if len(np.unique(y)) < 2:
        return _as_fitted(raw), "none"
    splits = list(GroupKFold(FOLDS).split(raw, groups=group)) if len(np.unique(group)) >= FOLDS else []
    if not splits or any(len(np.unique(y[inside])) < 2 for inside, _ in splits):
        return _logistic(raw, y), "logistic"
    scores: dict[str, float] = {}
    for name, make in (("logistic", _logistic), ("isotonic", _isotonic)):
        out_of_fold = np.empty(len(raw))
        for train_rows, valid_rows in splits:
            calibration = make(raw[train_rows], y[train_rows])
            out_of_fold[valid_rows] = calibration.probabilities(raw[valid_rows])
        scores[name] = float(log_loss(y, np.clip(out_of_fold, 1e-9, 1 - 1e-9), labels=[0, 1]))
    best = min(scores, key=lambda name: scores[name])
    return (_logistic if best == "logistic" else _isotonic)(raw, y), best


def calibrate_probable(raw: Array, nuisance: Array) -> Calibration:
    """Calibrates raw scores of calls whose callers are nuisance with known probabilities: a logistic map."""
    x, y = np.concatenate([raw, raw]), np.repeat([1, 0], len(raw))
    return _logistic(x, y, np.concatenate([nuisance, 1 - nuisance]))


def _as_fitted(raw: Array) -> Calibration:
    x = np.linspace(min(raw.min(initial=0.0), -20.0), max(raw.max(initial=0.0), 20.0), 200)
    return _knots(x, expit(x))


def _logistic(raw: Array, y: Array, weight: Array | None = None) -> Calibration:
    x = np.linspace(raw.min() - 1.0, raw.max() + 1.0, 200)
    return _knots(x, _platt(raw, y, weight).predict_proba(x[:, None])[:, 1])


def _platt(raw: Array, y: Array, weight: Array | None = None) -> LogisticRegression:
    return LogisticRegression(C=1e6).fit(raw[:, None], y, sample_weight=weight)


def _isotonic(raw: Array, y: Array) -> Calibration:
    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, y)
    x, p = model.X_thresholds_, model.y_thresholds_
    chosen = np.unique(np.linspace(0, len(x) - 1, 200).astype(int))
    return _knots(x[chosen], p[chosen])


def _knots(x: Array, p: Array) -> Calibration:
    if len(x) == 1:  # all calls have one score, and a map needs two knots
        x, p = np.array([x[0], x[0] + 1.0]), np.repeat(p, 2)
    rising = np.concatenate([[True], np.diff(x) > 0])
    steady = np.maximum.accumulate(np.clip(p[rising], 0.0, 1.0))
    return Calibration(tuple(float(v) for v in x[rising]), tuple(float(v) for v in steady))


def calibration_line(raw: Array, y: Array, weight: Array | None) -> tuple[float, float]:
    """Returns slope and intercept of Platt's scaling (1999) of raw scores to log-odds.

    Isotonic regression gives many rows one probability; then `decision_function` would not order like the model. If
    higher scores do not mean the second class more often, the slope is LEAST_SLOPE, which keeps the order only.

    Args:
        raw: out-of-fold scores, shape (rows,).
        y: 0 or 1, shape (rows,).
        weight: shape (rows,), or None.
    """
    model = _platt(raw, y, weight)
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope > LEAST_SLOPE:
        return slope, intercept
    share = np.clip(np.average(y, weights=weight), 1e-9, 1 - 1e-9)
    return LEAST_SLOPE, float(logit(share) - LEAST_SLOPE * np.average(raw, weights=weight))
