"""Which calls are of groups that a bundle may have learnt from: that is told by its card, and by the calls themselves.

A bundle holds no number, so it cannot be asked whom it learnt from. Its card tells the data, the seed and the stretch
of time of its training: of the same data the folds can be made again, and of calls that reach as far back, a group that
did not call in that stretch cannot have been learnt from. Of calls that begin later nothing can be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from callsieve.training.data.dataset import Dataset, campaigns_of
from callsieve.training.model.split import FOLDS, caller_classes, fold_of_group, groups

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.serving.bundle.metadata import BundleMetadata

    Array = npt.NDArray[Any]

BY_FOLDS = "the folds of its training, made again: these are the calls that it was trained on"
BY_TIME = "whether the caller's group called in the stretch of time that the model learnt from"
NOT_KNOWN = "not known: the bundle holds no number, and the calls begin after the first that the model learnt from"


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """Whether the model may have learnt from each call's group (None: not known), and by what that is told.

    A number that first called at `labels_made` (Unix ms) or later was itself not learnt from, whatever its group.
    """

    seen: Array | None
    told_by: str
    labels_made: int = 0


def acquaintance(dataset: Dataset, card: BundleMetadata) -> Acquaintance:
    """Which calls are of groups that the model of this card may have learnt from, shape (calls,)."""
    told, start = card.training, dataset.calls["start"].to_numpy()
    if "folds" not in told or not len(start):
        return Acquaintance(None, NOT_KNOWN)
    # The card tells whole seconds: those that it names may have gone on for one more.
    group, made = groups(dataset.calls, campaigns_of(dataset)), _milliseconds(told["label_cutoff"]) + 1000
    # Groups come of campaigns too, which may be told here and were not there: then the folds were others.
    if dataset.fingerprint == told["data"] and len(np.unique(group)) == told["fitted"]["groups"]:
        fold = fold_of_group(group, caller_classes(dataset.calls), told["seed"])
        return Acquaintance(fold == FOLDS.index("train"), BY_FOLDS, made)
    begin, end = (_milliseconds(moment) for moment in told["folds"]["train"])
    if start.min() > begin or start.max() < end:
        return Acquaintance(None, NOT_KNOWN)
    return Acquaintance(np.isin(group, group[(start >= begin) & (start < end + 1000)]), BY_TIME, made)


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
