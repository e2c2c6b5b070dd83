"""The predicted content and mode of flagged calls, compared with the truth."""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np
from scipy.special import softmax

from callsieve.features.arrays import Array
from callsieve.training.model.certify import caller_bootstrap
from callsieve.training.model.matrix import feature_columns, select_columns
from callsieve.training.model.train import Trained
from callsieve.training.model.trees import read_forest

CLASS_MODELS: tuple[Literal["content"], Literal["mode"]] = ("content", "mode")
SURE = 0.8  # probability that the shipped policy asks for


class ClassFigures(TypedDict):
    """How often the predicted class of a flagged nuisance call, its content or its mode, is right.

    `right` (with its interval): share of calls with the true class. `commonest`: the share if
    the most common class were predicted for every call. `sure`: share of calls whose class has a probability of at
    least 80 %.
    """

    kind: Literal["content", "mode"]
    classes: int
    calls: int
    callers: int
    right: float
    low: float
    high: float
    commonest: float
    sure: float
    right_if_sure: float | None


def class_figures(t: Trained, flagged: Array) -> list[ClassFigures]:
    """Returns one row for content and one for mode.

    A row needs a class model in the bundle, a column in the truth and a flagged nuisance call with a true class. A true
    class that the model was not trained on always counts as wrong. A called person's preferences act on classes with a
    probability of at least SURE, hence `sure`.

    `flagged`: bool, of each call: whether it is judged and reaches the certified band.
    """
    rows = flagged & t.pool.judged.nuisance
    return [row for name in CLASS_MODELS if name in t.models and (row := figures_of(t, name, rows))]


def figures_of(t: Trained, model: Literal["content", "mode"], rows: Array) -> ClassFigures | None:
    """Returns the figures of one class model on these calls (bool); None if the truth gives none of them a class."""
    truth, caller = getattr(t.pool, model), t.pool.caller
    index = np.flatnonzero(rows & np.array([word is not None for word in truth], dtype=bool))
    if not len(index):
        return None
    true = truth[index].astype(str)
    vectors = np.ascontiguousarray(select_columns(t.X[index], feature_columns(t.settings.features)))
    probabilities = softmax(read_forest(t.models[model]).predict_raw(vectors), axis=1)
    words = np.array(t.card.classes[model])
    right, sure = words[probabilities.argmax(axis=1)] == true, probabilities.max(axis=1) >= SURE
    low, high = caller_bootstrap(right, caller[index], seed=t.settings.judging_seed)
    return {
        "kind": model,
        "classes": len(words),
        "calls": len(index),
        "callers": len(np.unique(caller[index])),
        "right": float(right.mean()),
        "low": low,
        "high": high,
        "commonest": float(np.unique(true, return_counts=True)[1].max() / len(index)),
        "sure": float(sure.mean()),
        "right_if_sure": float(right[sure].mean()) if sure.any() else None,
    }
