"""A scikit-learn classifier that fits like `model.train`: members over folds of groups, their mean, a calibration."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import lightgbm as lgb
import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from callsieve.features.arrays import Array
from callsieve.features.catalogue import BY_NAME
from callsieve.training.model.calibration import calibration_line
from callsieve.training.model.fit import CV_FOLDS, FitRows, cv_folds, fit_members, held_out_folds, mean_model
from callsieve.training.model.scores import out_of_fold_scores
from callsieve.training.model.settings import Parameter, checked
from callsieve.training.model.trees import read_forest

from .forward_split import group_codes
from .word_columns import as_codes, word_columns

NESTED = "parameters__"
NO_GROUPS = (
    "NuisanceClassifier: no groups, so early stopping and calibration may see the callers that the trees see: pass "
    "groups, the caller of each row. Cross-validation and searches hand them on after "
    "sklearn.set_config(enable_metadata_routing=True), with params={'groups': ...}"
)


class NuisanceClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classifies feature vectors, such as those of `callsieve.features.call_features`, into two classes.

    The groups of `fit` are dealt into folds. Each ensemble member holds out some of them for early stopping. The model
    is the mean of the members, calibrated on out-of-fold scores. Columns that are named like catalogue features get
    their categories and constraints; other columns may stand beside them. Text and categories of a table are learnt as
    categories, and a word that `fit` has not seen is an unknown value.

    >>> import numpy as np
    >>> from callsieve.training import NuisanceClassifier
    >>> rng = np.random.default_rng(0)
    >>> X, caller = rng.normal(size=(2000, 3)), np.arange(2000) % 200
    >>> model = NuisanceClassifier(parameters={"rounds": 20}).fit(X, X[:, 0] > 1, groups=caller)
    >>> model.predict([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]]).tolist()
    [True, False]

    Args:
        parameters: LightGBM's parameters, and `rounds` and `patience`, as in a file of `callsieve train --parameters`.
            A search sets them one by one, as `parameters__learning_rate`.
        random_state: seed. Equal data, parameters and seed give an equal model, on any number of threads.
        threads: number of cores; 0 for all.

    Attributes:
        classes_: the two classes; the second one has the positive scores.
        model_: LightGBM's text of the model.
        slope_, intercept_: the calibration, from the mean score of the members to log-odds.
        categories_: the words of each column of text or categories, by its name.
    """

    # scikit-learn's metadata routing hands the groups on, to `fit` as to the splitter.
    __metadata_request__fit = {"groups": True}  # noqa: RUF012

    def __init__(
        self, *, parameters: Mapping[str, Parameter] | None = None, random_state: int = 0, threads: int = 0
    ) -> None:
        self.parameters = parameters
        self.random_state = random_state
        self.threads = threads

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Fits the members and the calibration.

        Args:
            X: shape (rows, columns), numbers, or a table with columns of numbers, text or categories; NaN is an unknown
                value.
            y: shape (rows,), two classes.
            groups: shape (rows,), the caller of each row, or a wider group. Without it each row is a group of its own:
                early stopping and calibration then see the same callers as the trees. `cross_val_score` and searches
                hand it on after `sklearn.set_config(enable_metadata_routing=True)`, with `params={"groups": groups}`;
                the argument `groups` of `cross_val_score` is for the splitter alone.
            sample_weight: shape (rows,), such as the confidence of each label.
        Raises:
            ValueError: if X or a parameter is invalid, or y does not have two classes.
        Warns:
            UserWarning: without groups, if a class has too few groups for all folds, or if the trees have no split.
        """
        X, self.categories_ = word_columns(X)
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_all_finite="allow-nan", ensure_min_samples=2)
        try:
            check_classification_targets(y)
        except TypeError:
            raise ValueError("y: expected all text or all numbers, got a mixture") from None
        if not isinstance(self.random_state, (int, np.integer)) or self.random_state < 0:
            raise ValueError(f"random_state: expected a whole number, 0 or more, got {self.random_state!r:.40}")
        if not isinstance(self.threads, (int, np.integer)) or self.threads < 0:
            raise ValueError(f"threads: expected a number of cores, or 0 for all, got {self.threads!r:.40}")
        if type_of_target(y) != "binary":
            raise ValueError(
                "Only binary classification is supported. "
                f"The type of the target is {type_of_target(y)}."  # scikit-learn's words, which its checks expect
            )
        self.classes_, code = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("y: expected two classes, got one class")
        group = np.arange(len(code)) if groups is None else group_codes(groups)
        if len(group) != len(code):
            raise ValueError(f"groups: expected one a row, {len(code)} in all, got {len(group)}")
        if groups is None:
            warnings.warn(NO_GROUPS, stacklevel=2)
        few = [len(np.unique(group[code == place])) for place in (0, 1)]
        if min(few) < CV_FOLDS:
            warnings.warn(
                f"NuisanceClassifier: the classes have rows of {few[0]} and {few[1]} groups, expected {CV_FOLDS} or "
                "more of each: early stopping and calibration depend on few callers, or see those that the trees see",
                stacklevel=2,
            )
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        names = self._names()
        fold = cv_folds(group, code, self.random_state)
        with _unlogged():
            grown = fit_members(
                FitRows(X, code, weight),
                fold,
                names,
                categorical=self._categorical(names),
                seed=self.random_state,
                threads=self.threads,
                parameters=checked(self.parameters or {}, "parameters"),
            )
        members = [member.text for member in grown]
        self.model_ = mean_model(members)
        self._forest = read_forest(self.model_)
        if not self._gains().any():
            warnings.warn(
                f"NuisanceClassifier: no tree has a split, so all rows get the same score: {len(code):,} rows are too "
                "few, or no column tells the classes apart; a smaller min_data_in_leaf in `parameters` permits splits",
                stacklevel=2,
            )
        values = np.ascontiguousarray(X, dtype=np.float64)
        by_member = [read_forest(text).predict_raw(values, threads=self.threads) for text in members]
        held_out = held_out_folds(int(fold.max(initial=0)) + 1)
        raw = out_of_fold_scores(self._raw(values), by_member, held_out, fold, np.ones(len(code), dtype=bool))
        with _unlogged():
            self.slope_, self.intercept_ = calibration_line(raw, code, weight)
        return self

    def decision_function(self, X: Any) -> Array:
        """Returns calibrated log-odds of the second class, shape (rows,). Raises NotFittedError before `fit`."""
        check_is_fitted(self, "model_")
        X = as_codes(X, self.categories_)
        values = validate_data(self, X, dtype=np.float64, order="C", ensure_all_finite="allow-nan", reset=False)
        return np.asarray(self.slope_ * self._raw(values) + self.intercept_)

    def predict_proba(self, X: Any) -> Array:
        """Returns the probabilities of both classes, shape (rows, 2). Raises NotFittedError before `fit`."""
        second = expit(self.decision_function(X))
        return np.column_stack([1 - second, second])

    def predict(self, X: Any) -> Array:
        """Returns the more probable class of each row, shape (rows,). Raises NotFittedError before `fit`."""
        second = self.decision_function(X) > 0
        return np.asarray(self.classes_[second.astype(int)])

    @property
    def feature_importances_(self) -> Array:
        """The share of each column of X in the gain of all splits, shape (columns,). NotFittedError before `fit`."""
        check_is_fitted(self, "model_")
        gains = self._gains()
        return np.asarray(gains / max(gains.sum(), np.finfo(float).tiny))

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Returns the parameters by name; with `deep`, LightGBM's also by `parameters__` and their name."""
        params: dict[str, object] = super().get_params(deep=deep)
        nested = self.parameters if deep and isinstance(self.parameters, Mapping) else {}
        return params | {NESTED + name: value for name, value in nested.items()}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters by the names of `get_params`; LightGBM's need no value before."""
        nested = {name.removeprefix(NESTED): params.pop(name) for name in list(params) if name.startswith(NESTED)}
        super().set_params(**params)
        if nested:
            self.parameters = {**(self.parameters or {}), **nested}
        return self

    def __getstate__(self) -> dict[str, object]:
        """Returns the attributes without the compiled model, which is made again from its text."""
        return {name: value for name, value in super().__getstate__().items() if name != "_forest"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Sets the attributes."""
        super().__setstate__(state)
        if "model_" in state:
            self._forest = read_forest(self.model_)

    def __sklearn_tags__(self) -> Any:
        """Returns scikit-learn's tags: two classes only, NaN is allowed."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags

    def _names(self) -> list[str]:
        known_names = getattr(self, "feature_names_in_", [None] * self.n_features_in_)
        return [name if name in BY_NAME else f"column_{place}" for place, name in enumerate(known_names)]

    def _categorical(self, names: list[str]) -> list[str]:
        known_names = getattr(self, "feature_names_in_", [None] * self.n_features_in_)
        return [
            name
            for name, known in zip(names, known_names, strict=True)
            if known in self.categories_ or (name in BY_NAME and BY_NAME[name].levels)
        ]

    def _gains(self) -> Array:
        return np.asarray(lgb.Booster(model_str=self.model_).feature_importance("gain"))

    def _raw(self, values: Array) -> Array:
        return np.asarray(self._forest.predict_raw(values, threads=self.threads))


def _unlogged() -> AbstractContextManager[None]:
    autologging = sys.modules.get("mlflow.utils.autologging_utils")
    if autologging is None:
        return nullcontext()
    without: AbstractContextManager[None] = autologging.disable_autologging()
    return without
