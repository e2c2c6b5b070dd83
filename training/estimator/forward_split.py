"""A scikit-learn splitter: tests later than training, after a gap, on groups that training has not seen.

Out-of-fold probabilities of any splitter are beside it; `cross_val_predict` needs one that tests every row once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from sklearn.model_selection import BaseCrossValidator, cross_validate
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import column_or_1d

from callsieve.features.arrays import Array
from callsieve.features.frame.frame_columns import LATEST
from callsieve.training.model.split import fold_of_group

from .word_columns import as_frame


class ForwardGroupSplit(BaseCrossValidator):  # type: ignore[misc]  # scikit-learn has no types
    """Splits rows forward in time with a gap, and no group in both training and test set.

    The groups are dealt into `n_splits` folds, each with its share of the classes. The time after the first training
    span and the gap is cut into `n_splits` equal spans. The test set of a split is one fold of groups in one span; its
    training set is the rows of all other groups that start at least `gap` before that span.

    >>> import numpy as np
    >>> from callsieve.training import ForwardGroupSplit
    >>> day, caller = np.repeat(np.arange(30), 20), np.tile(np.arange(20), 30)
    >>> start = 1_772_500_000 + day * 86_400.0
    >>> for train, test in ForwardGroupSplit(start, n_splits=2).split(start, groups=caller):
    ...     print(day[train].max(), day[test].min(), day[test].max(), set(caller[train]) & set(caller[test]))
    6 17 22 set()
    12 23 29 set()

    Args:
        start: the time of each row, shape (rows,): datetimes, or Unix seconds. Or the name of the column of X that has
            it, for X whose rows another splitter selects. That column stays in X: a classifier learns from it unless
            the first step of its pipeline drops it.
        n_splits: number of splits, 2 or more.
        gap: time between training and test, as pandas reads it. The default is 7 days, the longest window, and 3 days
            until labels are known.
        random_state: seed that decides which groups are in which fold.
    """

    # scikit-learn's metadata routing hands the groups on.
    __metadata_request__split = {"groups": True}  # noqa: RUF012

    def __init__(self, start: Any, *, n_splits: int = 3, gap: Any = "10D", random_state: int = 0) -> None:
        self.start = start
        self.n_splits = n_splits
        self.gap = gap
        self.random_state = random_state

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Array, Array]]:
        """Yields the places of the training rows and of the test rows of each split.

        Args:
            X: shape (rows, columns).
            y: classes, shape (rows,); each fold of groups gets its share of them.
            groups: the caller of each row, or a wider group; shape (rows,).
        Raises:
            ValueError: in one line, if an argument is invalid, the rows cover no more time than the gap, or a split
                would have an empty set.
        """
        if groups is None:
            raise ValueError("ForwardGroupSplit: expected groups=..., the caller of each row")
        if not isinstance(self.n_splits, (int, np.integer)) or self.n_splits < 2:
            raise ValueError(f"ForwardGroupSplit: n_splits must be 2 or more, got {self.n_splits!r}")
        if not isinstance(self.random_state, (int, np.integer)) or self.random_state < 0:
            raise ValueError(f"ForwardGroupSplit: random_state must be 0 or more, got {self.random_state!r:.40}")
        gap = gap_seconds(self.gap)
        start, rows = self._seconds(X), len(X)
        group = group_codes(groups)
        for name, values in (("start", start), ("groups", group), ("y", group if y is None else np.asarray(y))):
            if len(values) != rows:
                raise ValueError(f"ForwardGroupSplit: expected one entry of {name} a row, {rows}, got {len(values)}")
        fold = fold_of_group(group, class_of_groups(group, y), self.random_state, (1 / self.n_splits,) * self.n_splits)
        span = (start.max() - start.min() - gap) / (self.n_splits + 1)
        if span <= 0:
            days = (start.max() - start.min()) / 86_400
            raise ValueError(
                f"ForwardGroupSplit: expected rows of more time than the gap {self.gap}, got {days:g} days"
            )
        for place in range(self.n_splits):
            end = start.min() + (place + 1) * span
            later = start >= end + gap
            if place < self.n_splits - 1:
                later &= start < end + gap + span
            train, test = (
                np.flatnonzero(chosen) for chosen in ((start < end) & (fold != place), later & (fold == place))
            )
            if not len(train) or not len(test):
                raise ValueError(
                    f"ForwardGroupSplit: split {place} has {len(train)} training and {len(test)} test rows; expected "
                    "some of each: use fewer splits, or a shorter gap"
                )
            yield train, test

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: ARG002
        """Returns the number of splits."""
        return self.n_splits

    def _seconds(self, X: Any) -> Array:
        """Returns the start of each row in Unix seconds."""
        frame = as_frame(X)
        if isinstance(self.start, str) and (not isinstance(frame, pd.DataFrame) or self.start not in frame):
            raise ValueError(f"ForwardGroupSplit: start: X has no column {self.start!r}")
        try:
            values = pd.Series(frame[self.start] if isinstance(self.start, str) else np.asarray(self.start))
            if not pd.api.types.is_numeric_dtype(values):
                moments = pd.to_datetime(values, utc=True)
                values = (moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(1, "s")
        except (TypeError, ValueError):
            raise ValueError(
                "ForwardGroupSplit: start: expected datetimes, ISO text or Unix seconds, which pandas.to_datetime gives"
            ) from None
        if values.isna().any():
            raise ValueError(f"ForwardGroupSplit: start: expected a time in each row, {values.isna().sum()} have none")
        if values.max() >= LATEST:
            raise ValueError(
                "ForwardGroupSplit: start: out of range, expected Unix seconds; divide milliseconds by 1000"
            )
        return values.to_numpy(dtype=float)


def gap_seconds(gap: Any) -> float:
    """Returns a gap in seconds. Raises ValueError unless it is a time with its unit, 0 or more."""
    try:
        # pandas reads a bare number as nanoseconds.
        seconds = np.nan if isinstance(gap, (int, float)) else pd.Timedelta(gap).total_seconds()
    except (TypeError, ValueError):
        seconds = np.nan
    if not seconds >= 0:
        raise ValueError(f"ForwardGroupSplit: gap: expected a time of 0 or more with its unit, '10D', got {gap!r:.40}")
    return float(seconds)


def class_of_groups(group: Array, y: Any) -> Array:
    """Returns the highest class of each row's group, as a place among the classes; 0 without y. Shape (rows,)."""
    if y is None:
        return np.zeros(len(group), dtype=np.int64)
    code = np.unique(np.asarray(y), return_inverse=True)[1]
    highest = np.zeros(int(group.max(initial=0)) + 1, dtype=np.int64)
    np.maximum.at(highest, group, code)
    return np.asarray(highest[group])


def out_of_fold_probabilities(estimator: Any, X: Any, y: Any, *, groups: Any, cv: BaseCrossValidator) -> Array:
    """Returns the probability of the second class for each row, from the model that did not train on its group.

    >>> import numpy as np
    >>> from callsieve.training import ForwardGroupSplit, NuisanceClassifier, out_of_fold_probabilities
    >>> day, caller = np.repeat(np.arange(30), 100), np.tile(np.arange(100), 30)
    >>> X = np.random.default_rng(0).normal(size=(3000, 2))
    >>> model = NuisanceClassifier(parameters={"rounds": 20, "min_data_in_leaf": 5})
    >>> split = ForwardGroupSplit(86_400.0 * day, n_splits=2)
    >>> p = out_of_fold_probabilities(model, X, X[:, 0] > 1, groups=caller, cv=split)
    >>> bool(np.isnan(p[day < 17]).all()), bool(np.nanmean(p[X[:, 0] > 1]) > np.nanmean(p[X[:, 0] < 1]))
    (True, True)

    Args:
        estimator: a classifier with `predict_proba`, or a pipeline that ends with one.
        X: shape (rows, columns).
        y: two classes, shape (rows,).
        groups: the caller of each row, shape (rows,); splitter and classifier get it.
        cv: a splitter such as `ForwardGroupSplit`, whose test sets have no row in common.
    Returns: shape (rows,); NaN for a row that no split tests.
    """
    with sklearn.config_context(enable_metadata_routing=True):
        fitted = cross_validate(
            estimator, X, y, params={"groups": groups}, cv=cv, scoring=lambda *_: 0.0, error_score="raise",
            return_estimator=True, return_indices=True,
        )  # fmt: skip
    probabilities = np.full(len(y), np.nan)
    for model, test in zip(fitted["estimator"], fitted["indices"]["test"], strict=True):
        probabilities[test] = model.predict_proba(_safe_indexing(X, test))[:, 1]
    return probabilities


def group_codes(groups: Any) -> Array:
    """Returns the code of each row's group, shape (rows,)."""
    try:
        values = column_or_1d(groups)
    except ValueError:
        shape = np.shape(groups)
        raise ValueError(f"groups: expected the caller of each row, got an array of shape {shape}") from None
    missing = int(pd.isna(values).sum())
    if missing:
        raise ValueError(f"groups: expected the caller of each row, {missing} of {len(values)} rows have none")
    try:
        return np.asarray(np.unique(values, return_inverse=True)[1])
    except TypeError:
        raise ValueError("groups: expected all text or all numbers, got a mixture") from None
