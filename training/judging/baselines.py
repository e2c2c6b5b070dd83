"""What the model has to be better than: simpler ones, fitted on the same rows and labels, and a list.

A regression has few parameters: of more than LEARNT_AT_MOST rows that many will do, by lot. As the model, each is
fitted once without each part of the groups, to speak of these where thresholds are chosen.

The reputation list learns nothing: it counts the reports of a caller that were known in the 28 days before the call.
Neither do the five counters, after those of OpenSIPS's `fraud_detection` (which counts calls by the minute, where this
catalogue begins with the hour): each has a threshold of its own, and a call that reaches any of them is flagged.
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

LEARNT_AT_MOST = 400_000
CLASS = "call_caller_class"
LISTED = 28 * DAY  # that a report keeps a number on the list, in ms
PART = 50_000  # calls scored at a time, so that memory stays bounded
# Calls of the day and of the hour, at once, and in sequence; length of calls, of which the short ones are suspicious.
COUNTERS = {
    "out_calls_count_24h": 1,
    "out_calls_count_1h": 1,
    "out_in_air_count": 1,
    "out_near_calls_share_1h": 1,
    "out_talk_mean_24h": -1,
}
LEVELLED = {feature.name for feature in FEATURES if feature.levels}


def baseline_scores(t: Trained) -> dict[str, Array]:
    """Scores by each baseline's name, over all calls: NaN where neither thresholds are chosen nor anything is judged.

    "logistic regression" has the model's features, "number class" the class of the caller's number alone; both give
    log-odds. "five counters" gives the part of innocent calls that lie below in the farthest one, "reputation list"
    reports.
    """
    side = learning_side(t)
    rows = t.feed.rows
    choose = threshold_calls(t.plan, t.fold, t.start, t.settings.seed)
    judged = (t.start >= t.plan.label_cutoff) & (t.part == NO_CV_FOLD)
    unseen = rows[(choose | judged)[rows]]
    fitted = {"logistic regression": t.settings.features, "number class": (CLASS,)}
    raw = {name: of_regression(t, side, features, choose, unseen) for name, features in fitted.items()}
    counted, listed = np.full((2, len(t.start)), np.nan)
    columns = {name: sign * t.feed.column(NAMES.index(name), len(t.start)) for name, sign in COUNTERS.items()}
    innocent = choose & ~t.judged.nuisance & t.judged.known
    counted[unseen] = farthest(columns, innocent, unseen)
    listed[unseen] = reported_before(t.dataset, t.caller, unseen)
    return raw | {"five counters": counted, "reputation list": listed}


def farthest(columns: Mapping[str, Array], innocent: Array, rows: Array) -> Array:
    """The part of innocent calls that lie below a call, in that counter in which it is largest: so a threshold of it is
    one for each counter, which as many innocent calls reach as in the others.

    Args:
        columns: the counters of all calls, NaN where unknown: nothing lies below that.
        innocent: bool, of each call.
        rows: which calls are asked for.

    >>> talk = np.array([5.0, 60.0, np.nan, 1.0, 5.0])
    >>> farthest({"talk": -talk}, np.array([True, True, False, False, False]), np.arange(5)).tolist()
    [0.5, 0.0, 0.0, 1.0, 0.5]
    """
    found = np.zeros(len(rows))
    for values in columns.values():
        known = np.sort(values[innocent & ~np.isnan(values)])
        below = np.searchsorted(known, values[rows]) / max(len(known), 1)
        found = np.maximum(found, np.where(np.isnan(values[rows]), 0.0, below))
    return found


def of_regression(
    t: Trained, side: tuple[FitRows, Array], features: Sequence[str], choose: Array, unseen: Array
) -> Array:
    """Log-odds of the `unseen` calls: of those to choose thresholds on by a fit without their part of the groups.

    Args:
        side: as from `learning_side`.
    """
    learn, part = side

    def told(kept: Array, asked: Array) -> Array:
        some = (
            learn
            if kept.all()
            else FitRows(learn.X[kept], learn.y[kept], None if learn.weight is None else learn.weight[kept])
        )
        return log_odds(logistic(some, features), t.feed, unseen[asked[unseen]], len(t.start))

    parts = range(t.fitted["parts"]) if t.fitted["parts"] > 1 else ()
    by_part = [told(part != one, choose & (t.part == one)) for one in parts]
    every = told(part >= 0, np.ones(len(t.start), dtype=bool))
    return out_of_fold_scores(every, by_part, [(one,) for one in parts], t.part, choose) if by_part else every


def reported_before(dataset: Dataset, caller: Array, rows: Array) -> Array:
    """How many reports of their caller were known in the LISTED days before each of these calls.

    Args:
        caller: code of each call's caller, in order of first appearance.
    """
    told = dataset.complaints
    names = pc.unique(pc.dictionary_decode(dataset.calls["caller"].combine_chunks()))
    code = pd.Index(names.to_pylist()).get_indexer(told["number"].astype(str))
    known = milliseconds(told["known_at"]).to_numpy()[code >= 0]
    start = dataset.calls["start"].to_numpy()
    first = min(int(start.min()), int(known.min(initial=start.min()))) - LISTED
    span = int(max(start.max(), known.max(initial=0))) - first + 1
    keys = np.sort(code[code >= 0] * span + (known - first))
    at = caller[rows] * span + (start[rows] - first)
    return np.asarray(np.searchsorted(keys, at) - np.searchsorted(keys, at - LISTED), dtype=float)


def learning_side(t: Trained) -> tuple[FitRows, Array]:
    """The labelled calls that the model was fitted on, of the complete feed, and the part of each call's group."""
    calls = t.dataset.calls
    labels = training_labels(t.dataset, t.settings, t.plan)
    rows, told = training_rows(calls, labels, t.settings, t.feed.told, t.caller, t.fold, t.plan)
    some = np.sort(np.random.default_rng(t.settings.seed).permutation(len(rows))[:LEARNT_AT_MOST])
    learnt = (rows[some], told.iloc[some])
    X = training_vectors(t.dataset, t.settings.features, t.settings.threads, {t.feed.name: learnt})  # noqa: N806
    side = build_matrix(X, [learnt], calls, groups(calls, campaigns_of(t.dataset)), t.caller)
    return FitRows(side.X, side.y, side.weight), t.part[learnt[0]]


def logistic(learn: FitRows, features: Sequence[str]) -> Pipeline:
    """Logistic regression on logarithms, with a column for "not known" and one for each level of a category."""
    at = dict(zip(features, feature_columns(tuple(features)), strict=True))
    numbers = make_pipeline(  # each step works in place: the learning side is large
        FunctionTransformer(_logarithm),
        SimpleImputer(add_indicator=True, keep_empty_features=True, copy=False),
        StandardScaler(copy=False),
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, [place for name, place in at.items() if name not in LEVELLED]),
            ("levels", OneHotEncoder(handle_unknown="ignore"), [at[name] for name in features if name in LEVELLED]),
        ],
        sparse_threshold=0.0,
    )
    model = make_pipeline(columns, LogisticRegression(solver="newton-cholesky"))
    return model.fit(learn.X, learn.y, logisticregression__sample_weight=learn.weight)


def log_odds(model: Pipeline, feed: Feed, rows: Array, count: int) -> Array:
    """Scores of some of all `count` calls, NaN for the others; rounded: they do not depend on the number of threads."""
    raw = np.full(count, np.nan)
    for first in range(0, len(rows), PART):
        some = rows[first : first + PART]
        raw[some] = np.round(model.decision_function(feed.at(some)), 6)
    return raw


def _logarithm(values: Array) -> Array:
    sizes = np.abs(values)
    np.log1p(sizes, out=sizes)
    return np.copysign(sizes, values, out=sizes)
