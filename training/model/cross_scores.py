"""Out-of-fold scores: scores by those ensemble members that did not train on a caller's group.

A threshold must hold for callers that no member trained on. The callers that push it up, such as surveys and alarm
lines, are few in each world: groups set apart to choose thresholds on would be missed both here and in training. So
most members train on each group, and thresholds are chosen on the mean score of the members that did not train on
that group. This is cross-conformal prediction (Vovk 2015), as CV+ of Barber, Candes, Ramdas and Tibshirani (2021).
The certificate later judges the mean of all members, on groups that no member trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NO_CV_FOLD = -1  # the cross-validation fold of a folder or group that no member trained on


def cv_fold_of_calls(row_unit: Array, row_fold: Array, unit: Array) -> Array:
    """Returns the cross-validation fold of each call's unit, NO_CV_FOLD without a training row. Shape (calls,).

    Args:
        row_unit, row_fold: folder or group of each training row, and its fold as from `fit.cv_folds`.
        unit: folder or group of each call.

    >>> cv_fold_of_calls(np.array([4, 4, 2]), np.array([1, 1, 0]), np.array([0, 2, 4, 4])).tolist()
    [-1, 0, 1, 1]
    """
    folds = np.full(int(max(unit.max(initial=-1), row_unit.max(initial=-1))) + 1, NO_CV_FOLD)
    folds[row_unit] = row_fold
    return np.asarray(folds[unit])


def out_of_fold_scores(
    raw: Array, by_member: Sequence[Array], held_out: Sequence[tuple[int, ...]], cv_fold: Array, choose: Array
) -> Array:
    """Returns the scores, with out-of-fold means for the calls that thresholds are chosen on.

    A single member trained on all groups; the scores are then returned unchanged.

    Args:
        raw: mean score of all members for each call, shape (calls,).
        by_member: scores of each member, shape (calls,), needed at least for the `choose` calls of its held-out folds.
        held_out: the folds that each member did not train on.
        cv_fold: as from `cv_fold_of_calls`.
        choose: whether thresholds are chosen on each call; bool.
    """
    if len(by_member) == 1:
        return raw.copy()
    total, members = np.zeros(len(raw)), np.zeros(len(raw))
    for scores, folds in zip(by_member, held_out, strict=True):
        rows = choose & np.isin(cv_fold, folds)
        total[rows] += scores[rows]
        members[rows] += 1
    return np.where(members > 0, total / np.maximum(members, 1), raw)
