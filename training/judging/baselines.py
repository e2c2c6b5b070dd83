"""Baselines that the model has to beat: simpler models on the same rows and labels, a list, and counters.

A regression has few parameters, so it is fitted on a random sample of at most MAX_TRAINING_ROWS rows. As for the
ensemble, a regression is also fitted without each part of the groups. These fits score that part when thresholds are
chosen.

The reputation list is not trained. It counts the complaints against a caller that were known in the 28 days before the
call. The five counters are not trained either. They follow `fraud_detection` of OpenSIPS, but count calls by the hour
instead of the minute. Each counter has its own threshold, and a call is flagged if it reaches any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.files.dates import DAY
from callsieve.serving.batch.complaint_rows import milliseconds
from callsieve.training.data.dataset import Dataset, campaigns_of
from callsieve.training.data.feeds import Feed
from callsieve.training.model.call_choice import threshold_calls
from callsieve.training.model.cross_scores import NO_CV_FOLD, out_of_fold_scores
from callsieve.training.model.fit import FitRows
from callsieve.training.model.folds import training_labels, training_rows
from callsieve.training.model.matrix import build_matrix, training_vectors
from callsieve.training.model.split import groups
from callsieve.training.model.train import Trained, feature_columns

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

MAX_TRAINING_ROWS = 400_000
NUMBER_CLASS = "call_caller_class"
LIST_WINDOW = 28 * DAY  # ms that a complaint keeps a number on the list
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
    log-odds. "five counters" gives the highest rank among innocent calls over the counters, "reputation list" the
    number of complaints.
    """
    side = regression_rows(t)
    rows = t.feed.rows
    choose = threshold_calls(t.plan, t.fold, t.start, t.settings.seed)
    judged = (t.start >= t.plan.label_cutoff) & (t.cv_fold == NO_CV_FOLD)
    unseen = rows[(choose | judged)[rows]]
    regressions = {"logistic regression": t.settings.features, "number class": (NUMBER_CLASS,)}
    raw = {name: regression_scores(t, side, features, choose, unseen) for name, features in regressions.items()}
    ranks, listed = np.full((2, len(t.start)), np.nan)
    columns = {name: sign * t.feed.column(NAMES.index(name), len(t.start)) for name, sign in COUNTERS.items()}
    innocent = choose & ~t.judged.nuisance & t.judged.known
    ranks[unseen] = highest_rank(columns, innocent, unseen)
    listed[unseen] = recent_complaints(t.dataset, t.caller, unseen)
    return raw | {"five counters": ranks, "reputation list": listed}


def highest_rank(columns: Mapping[str, Array], innocent: Array, rows: Array) -> Array:
    """Returns the share of innocent calls below a call, in the counter in which this share is largest.

    So one threshold on the rank is a threshold for each counter that equally many innocent calls reach.

    Args:
        columns: the counters of all calls; NaN, for unknown, ranks lowest.
        innocent: bool, of each call.
        rows: indices of the calls to rank.

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


def regression_scores(
    t: Trained, side: tuple[FitRows, Array], features: Sequence[str], choose: Array, unseen: Array
) -> Array:
    """Returns log-odds of the `unseen` calls; calls for thresholds are scored by a fit without their part of groups.

    Args:
        side: as from `regression_rows`.
        choose: bool, of each call: whether thresholds are chosen on it.
        unseen: indices of the calls to score.
    """
    learn, part = side

    def fit_and_score(train_on: Array, score: Array) -> Array:
        some = learn
        if not train_on.all():
            weight = None if learn.weight is None else learn.weight[train_on]
            some = FitRows(learn.X[train_on], learn.y[train_on], weight)
        return log_odds(logistic(some, features), t.feed, unseen[score[unseen]], len(t.start))

    parts = range(t.fitted["parts"]) if t.fitted["parts"] > 1 else ()
    by_part = [fit_and_score(part != number, choose & (t.cv_fold == number)) for number in parts]
    whole = fit_and_score(part >= 0, np.ones(len(t.start), dtype=bool))
    return out_of_fold_scores(whole, by_part, [(number,) for number in parts], t.cv_fold, choose) if by_part else whole


def recent_complaints(dataset: Dataset, caller: Array, rows: Array) -> Array:
    """Returns how many complaints against the caller were known in the LIST_WINDOW before each of these calls.

    Args:
        caller: code of each call's caller, in order of first appearance.
        rows: indices of the calls.
    """
    complaints = dataset.complaints
    names = pc.unique(pc.dictionary_decode(dataset.calls["caller"].combine_chunks()))
    code = pd.Index(names.to_pylist()).get_indexer(complaints["number"].astype(str))
    known_at = milliseconds(complaints["known_at"]).to_numpy()[code >= 0]
    start = dataset.calls["start"].to_numpy()
    first = min(int(start.min()), int(known_at.min(initial=start.min()))) - LIST_WINDOW
    span = int(max(start.max(), known_at.max(initial=0))) - first + 1
    # One sorted key for caller and moment, so that two look-ups count the complaints of a window.
    keys = np.sort(code[code >= 0] * span + (known_at - first))
    at = caller[rows] * span + (start[rows] - first)
    return np.asarray(np.searchsorted(keys, at) - np.searchsorted(keys, at - LIST_WINDOW), dtype=float)


def regression_rows(t: Trained) -> tuple[FitRows, Array]:
    """Returns the labelled calls that the model was fitted on, from the complete feed, and the part of each call's
    group.
    """
    calls = t.dataset.calls
    labels = training_labels(t.dataset, t.settings, t.plan)
    rows, labelled = training_rows(calls, labels, t.settings, t.feed.recorded, t.caller, t.fold, t.plan)
    sample = np.sort(np.random.default_rng(t.settings.seed).permutation(len(rows))[:MAX_TRAINING_ROWS])
    labelled_rows = (rows[sample], labelled.iloc[sample])
    X = training_vectors(t.dataset, t.settings.features, t.settings.threads, {t.feed.name: labelled_rows})  # noqa: N806
    side = build_matrix(X, [labelled_rows], calls, groups(calls, campaigns_of(t.dataset)), t.caller)
    return FitRows(side.X, side.y, side.weight), t.cv_fold[labelled_rows[0]]


def logistic(learn: FitRows, features: Sequence[str]) -> Pipeline:
    """Fits a logistic regression on logarithms, with an indicator of missing values and one-hot categories."""
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
    model = make_pipeline(columns, LogisticRegression(solver="newton-cholesky"))
    return model.fit(learn.X, learn.y, logisticregression__sample_weight=learn.weight)


def log_odds(model: Pipeline, feed: Feed, rows: Array, count: int) -> Array:
    """Returns scores of `count` calls, NaN except in `rows`; rounded, so that the number of threads cannot matter."""
    raw = np.full(count, np.nan)
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        raw[some] = np.round(model.decision_function(feed.at(some)), 6)
    return raw


def _logarithm(values: Array) -> Array:
    sizes = np.abs(values)
    np.log1p(sizes, out=sizes)
    return np.copysign(sizes, values, out=sizes)
