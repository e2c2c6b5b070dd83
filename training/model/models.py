"""Fits all models of a training: risk models from ensemble members, and models of content and of mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from callsieve.features.arrays import Array
from callsieve.features.catalogue import FEATURES
from callsieve.serving.bundle.metadata import SECOND
from callsieve.training.model.trees import read_forest

from .allocators import give_back
from .fit import CV_FOLDS, FitOptions, FitRows, cv_fold_of_calls, cv_folds, fit, fit_members, held_out_folds, mean_model
from .matrix import Matrix, feature_columns, select_columns
from .settings import Settings

CLASS_MODELS: tuple[Literal["content"], Literal["mode"]] = ("content", "mode")
MIN_CLASS_ROWS = 200


@dataclass(frozen=True, slots=True)
class Fitted:
    """The models of a training.

    models: the risk model "model", the risk model SECOND if there are poorer records, and models of content and mode.
    members: the ensemble members of each risk model. classes: the classes of each model of content or mode.
    row_fold: cross-validation fold of each training row. by_folder: whether folders, not groups, were dealt into these
    folds. curves: the loss of each member of "model" on its held-out folds after each tree.
    """

    models: dict[str, str]
    members: dict[str, list[str]]
    classes: dict[str, tuple[str, ...]]
    row_fold: Array
    by_folder: bool
    curves: list[list[float]]

    @property
    def folds(self) -> int:
        """The number of cross-validation folds."""
        return int(self.row_fold.max(initial=0)) + 1

    @property
    def held_out(self) -> list[tuple[int, ...]]:
        """The folds that each member did not train on."""
        return held_out_folds(self.folds)

    @property
    def unit(self) -> Literal["folder", "group"]:
        """The unit that was dealt into the folds: the name of the column of the matrix and of the pool."""
        return "folder" if self.by_folder else "group"


def fit_all(matrix: Matrix, settings: Settings, report: Callable[[float], None], release: Callable[[], None]) -> Fitted:
    """Fits all models, cross-validated by folder if there are enough folders, else by group."""
    by_folder = len(np.unique(matrix.folder)) >= CV_FOLDS
    unit, first = matrix.folder if by_folder else matrix.group, matrix.complete
    fold = cv_folds(unit[first], matrix.y[first], settings.seed)
    row_fold = np.maximum(cv_fold_of_calls(unit[first], fold, unit), 0)  # both models hold out the same units
    columns = feature_columns(settings.features)
    members: dict[str, list[str]] = {}
    curves: list[list[float]] = []
    for place, (name, chosen) in enumerate({"model": matrix.complete, SECOND: ~matrix.complete}.items()):
        if chosen.any():
            own = np.flatnonzero(chosen)
            rows = FitRows(select_columns(matrix.X[own], columns), matrix.y[own], matrix.weight[own])
            release()
            grown = fit_members(
                rows, row_fold[own], settings.features, progress=_half(report, place), **fit_options(settings)
            )
            members[name] = [member.text for member in grown]
            curves = [member.losses for member in grown] if name == "model" else curves
            del rows
            give_back()
    models = {name: mean_model(parts) for name, parts in members.items()}
    classes: dict[str, tuple[str, ...]] = {}
    for kind in CLASS_MODELS:
        labels = getattr(matrix, kind)
        words = class_words(labels[row_fold != 0], labels[row_fold == 0])
        if len(words) > 1:
            learn, check = (class_rows(matrix, rows, columns, labels, words) for rows in (row_fold != 0, row_fold == 0))
            release()
            model = fit(learn, check, settings.features, classes=len(words), **fit_options(settings))
            if beats_commonest_class(model, check):
                models[kind], classes[kind] = model, words
    give_back()
    return Fitted(models, members, classes, row_fold, by_folder, curves)


def fit_options(settings: Settings) -> FitOptions:
    """Returns the arguments that all fits of a training share."""
    return {
        "categorical": [feature.name for feature in FEATURES if feature.levels and feature.name in settings.features],
        "seed": settings.seed,
        "threads": settings.threads,
        "parameters": settings.parameters,
    }


def _half(report: Callable[[float], None], place: int) -> Callable[[float], None]:
    return lambda share: report(0.4 * (place + share))


def class_words(train_labels: Array, valid_labels: Array) -> tuple[str, ...]:
    """Returns the classes with at least MIN_CLASS_ROWS training rows and one validation row."""
    counts = pd.Series(train_labels).value_counts()
    in_valid = set(pd.Series(valid_labels).dropna())
    return tuple(sorted(str(word) for word in counts[counts >= MIN_CLASS_ROWS].index if word in in_valid))


def class_rows(matrix: Matrix, rows: Array, columns: list[int], labels: Array, words: tuple[str, ...]) -> FitRows:
    """Returns those of the rows (bool) whose class is one of `words`, with the class's place as label."""
    code = pd.Index(words).get_indexer(pd.Index(labels))
    chosen = rows & (code >= 0)
    return FitRows(matrix.X[chosen][:, columns], code[chosen].astype(np.int64), matrix.weight[chosen])


def beats_commonest_class(model: str, rows: FitRows) -> bool:
    """Returns whether a class model is right more often on held-out rows than their commonest class would be."""
    right = read_forest(model).predict_raw(np.ascontiguousarray(rows.X, dtype=np.float64)).argmax(axis=1) == rows.y
    return bool(right.mean() > np.bincount(rows.y).max() / len(rows.y))
