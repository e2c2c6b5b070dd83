"""What a bundle tells of a flagged call beside its score, held against the truth: content and mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from callsieve.serving.bundle.booster import Booster
from callsieve.training.model.certify import caller_bootstrap
from callsieve.training.model.train import Trained, feature_columns, select_columns

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]

KINDS = ("content", "mode")
SURE = 0.8  # the share that the shipped policy asks for


def kind_figures(t: Trained, flagged: Array) -> list[dict[str, Any]]:
    """One row for content and for mode, if the bundle tells it, the truth knows it and a nuisance call is flagged.

    `right` is the share of calls of which the class told is the true one, callers resampled for its interval; a class
    that the model never learnt is always wrong. `commonest` is the same if one class were told of all. `sure` is the
    share of calls of which one class has at least SURE: so sure must be who goes by a called person's wish.

    Args:
        flagged: bool, of each call: those judged that reached the certified band.
    """
    truth = t.dataset.truth
    if truth is None:
        return []
    kinds = [kind for kind in KINDS if kind in t.models and kind in truth.column_names]
    return [row for kind in kinds if (row := of_kind(t, truth, kind, flagged & t.judged.nuisance))]


def of_kind(t: Trained, truth: pa.Table, kind: str, bad: Array) -> dict[str, Any] | None:
    """The figures of one kind; None where the truth names none of these calls."""
    told = zip(np.flatnonzero(bad), truth[kind].filter(bad).to_pylist(), strict=True)
    named = {int(row): word for row, word in told if word is not None}
    if not named:
        return None
    rows, true = np.array(list(named)), np.array(list(named.values()))
    vectors = np.ascontiguousarray(select_columns(t.feed.at(rows), feature_columns(t.settings.features)))
    shares = softmax(Booster(t.models[kind]).predict_raw(vectors), axis=1)
    words = np.array(t.card.classes[kind])
    right, sure = words[shares.argmax(axis=1)] == true, shares.max(axis=1) >= SURE
    low, high = caller_bootstrap(right, t.caller[rows], seed=t.settings.seed)
    return {
        "kind": kind,
        "classes": len(words),
        "calls": len(rows),
        "callers": len(np.unique(t.caller[rows])),
        "right": float(right.mean()),
        "low": low,
        "high": high,
        "commonest": float(np.unique(true, return_counts=True)[1].max() / len(rows)),
        "sure": float(sure.mean()),
        "right_if_sure": float(right[sure].mean()) if sure.any() else None,
    }
