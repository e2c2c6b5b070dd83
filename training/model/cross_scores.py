"""Scores by those members of a model that learnt nothing of a caller's group.

A threshold must hold for callers that nobody learnt from, and of those that make it high, a survey or an alarm line,
each world has few. Were some groups set apart to choose thresholds on, they would be missed both here and in learning.
So every group is learnt from by most members, and where thresholds are chosen the mean of the others speaks of it:
cross-conformal prediction (Vovk 2015), as CV+ of Barber, Candes, Ramdas and Tibshirani (2021). What is certified later
is the mean of all members, on groups that none has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NO_CV_FOLD = -1  # the part of a group that no member learnt from


def cv_fold_of_calls(learnt: Array, part: Array, group: Array) -> Array:
    """The part of each call's group, UNSEEN where none of its calls was learnt from. Shape (all calls,).

    Args:
        learnt, part: group and part of each row that was learnt from, as from `fit.cv_folds`.
        group: of each call.

    >>> part_of_calls(np.array([4, 4, 2]), np.array([1, 1, 0]), np.array([0, 2, 4, 4])).tolist()
    [-1, 0, 1, 1]
    """
    parts = np.full(int(group.max(initial=-1)) + 1, NO_CV_FOLD)
    parts[learnt] = part
    return np.asarray(parts[group])


def out_of_fold_scores(
    raw: Array, by_member: Sequence[Array], missed: Sequence[tuple[int, ...]], part: Array, choose: Array
) -> Array:
    """The scores, those of calls to choose thresholds on by the members that learnt nothing of their groups.

    One member alone learnt from all groups; nothing is changed then.

    Args:
        raw: by all members together, over all calls.
        by_member: scores by each, over all calls, at least where `choose` and a part that it missed are.
        missed: the parts that each missed.
        part: as from `cv_fold_of_calls`.
        choose: bool, of each call.
    """
    if len(by_member) == 1:
        return raw.copy()
    found, speakers = np.zeros(len(raw)), np.zeros(len(raw))
    for scores, parts in zip(by_member, missed, strict=True):
        own = choose & np.isin(part, parts)
        found[own] += scores[own]
        speakers[own] += 1
    return np.where(speakers > 0, found / np.maximum(speakers, 1), raw)
