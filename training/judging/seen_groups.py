"""Determines which calls belong to groups that a bundle may have been trained on, from its metadata and the calls.

A bundle contains no number. Its metadata name the data, the seed and the time span of its training. On the same data,
the folds can be computed again. On other calls that cover the training span, a group that did not call in that span was
not trained on. The groups are unknown for calls that begin later. After a training on several folders, they are known
for the calls of these folders only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from callsieve.features.arrays import Array
from callsieve.training.data.dataset import Dataset, campaigns_of
from callsieve.training.model.split import FOLDS, caller_classes, fold_of_group, groups

if TYPE_CHECKING:
    from callsieve.serving.bundle.metadata import BundleMetadata


BY_FOLDS = "the folds of its training, computed again on the same calls"
BY_TIME = "whether the caller's group called in the time span that the model was trained on"
NOT_KNOWN = "not known: the bundle contains no number, and the calls begin after the first call of its training"


@dataclass(frozen=True, slots=True)
class SeenGroups:
    """Whether the model may have been trained on each call's group, and how that is known.

    A number whose first call is at `labels_made` (Unix ms) or later was not trained on, even if its group was.
    """

    seen: Array | None  # bool, of each call; None: not known
    basis: str
    labels_made: int = 0


def seen_groups(dataset: Dataset, card: BundleMetadata) -> SeenGroups:
    """Returns which calls belong to groups that the model with these metadata may have been trained on."""
    training, start = card.training, dataset.calls["start"].to_numpy()
    folders = training.get("folders", ())
    same = [folder for folder in folders if folder["data"] == dataset.fingerprint]
    if not len(start) or not (same or len(folders) == 1):
        return SeenGroups(None, NOT_KNOWN)
    folder = (same or folders)[0]
    # The metadata round moments down to whole seconds, so a span may end up to a second later than stated.
    group, made = groups(dataset.calls, campaigns_of(dataset)), _milliseconds(folder["label_cutoff"]) + 1000
    # Campaigns join groups, so with other known campaigns than in training the folds differ.
    if same and len(np.unique(group)) == folder["groups"]:
        if folder["role"] != "both":
            return SeenGroups(np.full(len(start), folder["role"] == "learn"), BY_FOLDS, made)
        seed = training["settings"].get("judge_seed", training["seed"])
        fold = fold_of_group(group, caller_classes(dataset.calls), seed)
        return SeenGroups(fold == FOLDS.index("train"), BY_FOLDS, made)
    begin, end = (_milliseconds(moment) for moment in folder["folds"]["train"])
    if start.min() > begin or start.max() < end:
        return SeenGroups(None, NOT_KNOWN)
    return SeenGroups(np.isin(group, group[(start >= begin) & (start < end + 1000)]), BY_TIME, made)


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
