"""Baselines that the model has to beat: simpler models on the same rows and labels, a list, and counters.

A regression has few parameters, so it is fitted on a random sample of the training rows (`Trained.learnt`). As for the
ensemble, a regression is also fitted without each part of the groups. These fits score that part when thresholds are
chosen.

The reputation list is not trained. It counts the complaints against a caller that were known in the 28 days before the
call. The five counters are not trained either. They follow `fraud_detection` of OpenSIPS, but count calls by the hour
instead of the minute. Each counter has its own threshold, and a call is flagged if it reaches any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from callsieve.features.arrays import Array
from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.files.dates import DAY
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.scores import out_of_fold_scores
from callsieve.training.model.train import Trained

NUMBER_CLASS = "call_caller_class"
LIST_WINDOW = 28 * DAY  # ms that a complaint keeps a number on the list
# Largest gradient at the end of a fit. With that of scikit-learn, 1e-4, log-odds of calls still move by 0.5.
CONVERGED = 1e-8
BATCH = 50_000  # calls scored at a time, so that memory stays bounded
# Calls of the day, of the hour, in progress, and to neighbouring numbers; and the mean talk time, suspicious if short.
COUNTERS = {
    "out_calls_count_24h": 1,
    "out_calls_count_1h": 1,
    "out_in_air_count": 1,
    "out_near_calls_share_1h": 1,
    "out_talk_mean_24h": -1,
}
CATEGORICAL = {feature.name for feature in FEATURES if feature.levels}


def baseline_scores(t: Trained) -> dict[str, Array]:
    """Returns the scores of all calls by each baseline; NaN outside the calls for thresholds and for judging.

    "logistic regression" has the model's features, "number class" the class of the caller's number alone; both give
    log-odds. An adaptation has neither: its probable labels follow the scores of the base. "five counters" gives the
    highest rank among innocent calls over the counters, "reputation list" the number of complaints.
    """
    pool = t.pool
    unseen = np.flatnonzero(pool.choose | (pool.scored & ~pool.trained))
    labelled: dict[str, Sequence[str]] = {"logistic regression": t.settings.features, "number class": (NUMBER_CLASS,)}
    regressions = {} if t.settings.base else labelled
    raw = {name: regression_scores(t, features, unseen) for name, features in regressions.items()}
    ranks, listed = np.full((2, len(pool.start)), np.nan)
    columns = {name: sign * np.asarray(t.X[:, NAMES.index(name)]) for name, sign in COUNTERS.items()}
    innocent = pool.choose & ~pool.judged.nuisance & pool.judged.known
    ranks[unseen] = highest_rank(columns, innocent, unseen)
    listed[unseen] = pool.complaints[unseen]
    return raw | {"five counters": ranks, "reputation list": listed}


def highest_rank(columns: Mapping[str, Array], innocent: Array, rows: Array) -> Array:
    """Returns the share of innocent calls below a call, in the counter in which this share is largest.

    So one threshold on the rank is a threshold for each counter that equally many innocent calls reach.

    `innocent`: bool, of each call.

    >>> talk = np.array([5.0, 60.0, np.nan, 1.0, 5.0])
    >>> highest_rank({"talk": -talk}, np.array([True, True, False, False, False]), np.arange(5)).tolist()
    [0.5, 0.0, 0.0, 1.0, 0.5]
    """
    ranks = np.zeros(len(rows))
    for values in columns.values():
        reference = np.sort(values[innocent & ~np.isnan(values)])
        below = np.searchsorted(reference, values[rows]) / max(len(reference), 1)
        ranks = np.maximum(ranks, np.where(np.isnan(values[rows]), 0.0, below))
    return ranks


def regression_scores(t: Trained, features: Sequence[str], unseen: Array) -> Array:
    """Returns log-odds of the `unseen` calls; calls for thresholds are scored by a fit without their part of groups."""
    learn, part, choose = t.learnt, t.learnt_fold, t.pool.choose
    model = logistic(features)
    table = model[:-1].fit_transform(learn.X)

    def fit_and_score(train_on: Array, score: Array) -> Array:
        weight = None if learn.weight is None else learn.weight[train_on]
        model[-1].fit(table if train_on.all() else table[train_on], learn.y[train_on], weight)
        return log_odds(model, t.X, unseen[score[unseen]])

    parts = range(t.fitted.parts) if t.fitted.parts > 1 else ()
    whole = fit_and_score(part >= 0, np.ones(len(choose), dtype=bool))
    by_part = [fit_and_score(part != number, choose & (t.cv_fold == number)) for number in parts]
    return out_of_fold_scores(whole, by_part, [(number,) for number in parts], t.cv_fold, choose) if by_part else whole


def logistic(features: Sequence[str]) -> Pipeline:
    """Returns a logistic regression on logarithms, with an indicator of missing values and one-hot categories.

    A second fit begins with the coefficients of the first.
    """
    at = dict(zip(features, feature_columns(tuple(features)), strict=True))
    numbers = make_pipeline(  # each step works in place, since the training rows are large
        FunctionTransformer(_logarithm),
        SimpleImputer(add_indicator=True, keep_empty_features=True, copy=False),
        StandardScaler(copy=False),
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, [place for name, place in at.items() if name not in CATEGORICAL]),
            ("levels", OneHotEncoder(handle_unknown="ignore"), [at[name] for name in features if name in CATEGORICAL]),
        ],
        sparse_threshold=0.0,
    )
    return make_pipeline(columns, LogisticRegression(solver="newton-cholesky", tol=CONVERGED, warm_start=True))


def log_odds(model: Pipeline, X: Array, rows: Array) -> Array:
    """Returns scores of all calls, NaN except at `rows`; rounded, so that the number of threads cannot matter."""
    raw = np.full(len(X), np.nan)
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        raw[some] = np.round(model.decision_function(X[some]), 6)
    return raw


def _logarithm(values: Array) -> Array:
    sizes = np.abs(values)
    np.log1p(sizes, out=sizes)
    return np.copysign(sizes, values, out=sizes)
