"""Out-of-fold probabilities of any splitter; scikit-learn's `cross_val_predict` needs one that tests every row once."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn
from sklearn.model_selection import BaseCrossValidator, cross_validate
from sklearn.utils import _safe_indexing

from callsieve.features.arrays import Array


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
