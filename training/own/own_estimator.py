"""An own scikit-learn classifier as the yes-no model of a training: any that has `predict_proba` and accepts NaN."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from callsieve.features.arrays import Array
from callsieve.serving.bundle.forest import Forest, read_forest

LEAST_PROBABILITY = 1e-12  # an estimator may give 0, whose log-odds are infinite


class OwnModel:
    """The mean of fitted classifiers, with the log-odds of nuisance as raw score. It cannot be signed into a bundle.

    Args:
        members: fitted classifiers.
        names: names of the columns.
    """

    def __init__(self, members: Sequence[Any], names: Sequence[str]) -> None:
        self.members, self.names = tuple(members), tuple(names)

    @property
    def split_features(self) -> set[str]:
        """The features that may change a score: all of them."""
        return set(self.names)

    def predict_raw(self, X: Array, *, threads: int = 1) -> Array:  # noqa: ARG002
        """Returns the mean log-odds of the members, shape (rows,). `threads` is the estimators' own affair."""
        frame, total = pd.DataFrame(X, columns=list(self.names)), np.zeros(len(X))
        for member in self.members:
            p = member.predict_proba(frame)[:, list(member.classes_).index(1)].astype(float)
            total += logit(np.clip(p, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
        return total / len(self.members)


RiskModel = str | OwnModel
"""A model: LightGBM's text, or fitted classifiers of an own estimator."""


def predictor(model: RiskModel) -> Forest | OwnModel:
    """Returns a model in the form that scores rows, with `predict_raw`."""
    return read_forest(model) if isinstance(model, str) else model


def estimator_name(estimator: str | Callable[[], Any]) -> str:
    """Returns the name of a class or function that makes an estimator, as "module:name", for the record of a run.

    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> estimator_name(HistGradientBoostingClassifier)
    'sklearn.ensemble._hist_gradient_boosting.gradient_boosting:HistGradientBoostingClassifier'
    >>> estimator_name("sklearn.ensemble:HistGradientBoostingClassifier")
    'sklearn.ensemble:HistGradientBoostingClassifier'

    Raises:
        TypeError: for an estimator itself. ValueError: for a function without a name of its own, such as a lambda.
    """
    if isinstance(estimator, str):
        return estimator
    if not callable(estimator):
        raise TypeError(
            "estimator: expected a class or function that makes a classifier, or its name as module:name; "
            f"got {type(estimator).__name__}"
        )
    name = f"{estimator.__module__}:{getattr(estimator, '__qualname__', '')}"
    try:
        known = _resolved(name)
    except ValueError:
        known = None
    if known is not estimator:
        raise ValueError(f"estimator: expected a class or function that its module names, got {name!r}")
    return name


def make_estimator(name: str, seed: int) -> Any:
    """Returns a new, unfitted classifier; each `random_state` that it leaves open is the seed.

    Args:
        name: "module:name" of a class or function. The module may lie in the working folder.
        seed: of the draws.
    Raises:
        ValueError: in one line, if there is no such name, or it does not make a classifier.
    """
    maker = _resolved(name)
    try:
        estimator = clone(maker())
    except (TypeError, ValueError) as error:
        raise ValueError(f"estimator {name}: expected to make a classifier, {' '.join(str(error).split())}") from error
    for part in ("fit", "predict_proba"):
        if not hasattr(estimator, part):
            raise ValueError(f"estimator {name}: expected a classifier with {part}(), got {type(estimator).__name__}")
    open_states = {
        parameter: seed
        for parameter, value in estimator.get_params().items()
        if parameter.rpartition("__")[2] == "random_state" and value is None
    }
    return estimator.set_params(**open_states)


def fit_own(
    name: str,
    X: Array,
    y: Array,
    weight: Array | None,
    names: Sequence[str],
    categorical: Sequence[str],
    seed: int,
) -> RiskModel:
    """Fits an own estimator; returns LightGBM's text for its classifier, which can be signed, else an OwnModel.

    Args:
        name: as for `make_estimator`.
        X: vectors, shape (rows, columns); NaN is an unknown value, and categories are codes.
        y: 0 or 1, shape (rows,).
        weight: of each row, for an estimator that takes weights.
        names, categorical: names of the columns, and of those that hold categories.
        seed: of the draws.
    Raises:
        ValueError: in one line, if the estimator does not accept these rows.
    """
    estimator = make_estimator(name, seed)
    options = _weights(estimator, weight)
    try:
        if type(estimator).__module__.partition(".")[0] == "lightgbm":
            estimator.fit(X, y, feature_name=list(names), categorical_feature=list(categorical) or "auto", **options)
            return _text(estimator)
        estimator.fit(pd.DataFrame(X, columns=list(names)), y, **options)
    except (TypeError, ValueError) as error:
        message = " ".join(str(error).split())[:300]
        empty = [column for column, values in zip(names, X.T, strict=True) if np.isnan(values).all()]
        if empty:  # HistGradientBoostingClassifier takes NaN, but no column of it alone, and does not name the column
            message += (
                f"; {', '.join(empty[:3])}{' and more' * (len(empty) > 3)} have no value in any row: a Pipeline with "
                "SimpleImputer(keep_empty_features=True) fills them"
            )
        raise ValueError(f"estimator {name}: fit() failed on vectors, in which NaN is unknown: {message}") from error
    return OwnModel([estimator], names)


def fit_own_members(
    name: str,
    rows: tuple[Array, Array, Array | None],
    fold: Array,
    held_out: Sequence[tuple[int, ...]],
    names: Sequence[str],
    categorical: Sequence[str],
    seed: int,
    progress: Callable[[float], None],
) -> list[RiskModel]:
    """Fits the ensemble members of an own estimator, each without its held-out folds, as LightGBM's members are.

    Args:
        name: as for `make_estimator`.
        rows: X, y and weight, as for `fit_own`.
        fold: cross-validation fold of each row.
        held_out: the folds that each member holds out; a single member learns from all rows.
        names, categorical, seed: as for `fit_own`; each member has a seed of its own.
        progress: called with the share that is done.
    """
    X, y, weight = rows
    members = []
    for member, folds in enumerate(held_out):
        chosen = ~np.isin(fold, folds) if len(held_out) > 1 else np.ones(len(y), dtype=bool)
        weights = None if weight is None else weight[chosen]
        members.append(fit_own(name, X[chosen], y[chosen], weights, names, categorical, seed + member))
        progress((member + 1) / len(held_out))
    return members


def joined(members: Sequence[OwnModel]) -> OwnModel:
    """Returns the mean of several models of the same columns."""
    return OwnModel([part for member in members for part in member.members], members[0].names)


def _text(estimator: Any) -> str:
    """Returns LightGBM's text of a fitted classifier, without the line of its number of threads."""
    lines = estimator.booster_.model_to_string().split("\n")
    return "\n".join(line for line in lines if not line.startswith("[num_threads:"))


def _weights(estimator: Any, weight: Array | None) -> dict[str, Array]:
    """Returns the argument of `fit` that weighs rows; none for an estimator that does not take weights."""
    name, last = estimator.steps[-1] if isinstance(estimator, Pipeline) else ("", estimator)
    if weight is None or not has_fit_parameter(last, "sample_weight"):
        return {}
    return {f"{name}__sample_weight" if name else "sample_weight": weight}


def _resolved(name: str) -> Any:
    """Returns the class or function of a name "module:name"."""
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise ValueError(
            f"estimator: expected module:name, such as sklearn.ensemble:HistGradientBoostingClassifier, got {name!r}"
        )
    folder = str(Path.cwd())
    sys.path.append(folder)  # a command's script does not look into the working folder
    try:
        value = importlib.import_module(module_name)
        for part in path.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"estimator {name}: cannot be imported: {error}") from error
    finally:
        sys.path.remove(folder)
    return value
