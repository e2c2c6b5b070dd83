"""Which calls stand on which side of a training: those learnt from, those to choose thresholds on, those to certify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from callsieve.features.intake.text_columns import factorize
from callsieve.training.data.dataset import Dataset, JudgingLabels, campaigns_of, judging_labels
from callsieve.training.data.exclusions import labels_to_learn
from callsieve.training.data.feeds import answered_rows

from .call_choice import fold_rows, threshold_calls
from .matrix import LabelledRows, labelled_rows
from .split import Plan, caller_classes, fold_of_group, fold_plan, groups

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from .train import Settings

    Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CallFolds:
    """Who made each call, when, and on which side of a training it stands: arrays over all calls."""

    plan: Plan
    start: Array
    caller: Array
    callee: Array
    group: Array
    kind: Array  # class of the caller, as `split.caller_classes`
    fold: Array
    judged: JudgingLabels

    def choose(self, seed: int) -> Array:
        """Calls that thresholds are chosen on."""
        return threshold_calls(self.plan, self.fold, self.start, seed) & self.judged.known

    def certify(self) -> Array:
        """Calls that certificates are of."""
        return fold_rows("certify", self.plan.certify, self.fold, self.start) & self.judged.known


def assign_folds(dataset: Dataset, settings: Settings) -> CallFolds:
    """The calls of a training, dealt into folds."""
    calls = dataset.calls
    start = calls["start"].to_numpy()
    (caller, _), (callee, _) = factorize(calls["caller"]), factorize(calls["callee"])
    folds = fold_plan(calls, settings.label_delay_days)
    group, kind = groups(calls, campaigns_of(dataset)), caller_classes(calls)
    fold = fold_of_group(group, kind, settings.seed)
    known = judging_labels(dataset, caller, settings.label_policy)
    return CallFolds(folds, start, caller, callee, group, kind, fold, known)


def training_rows_by_feed(
    dataset: Dataset, settings: Settings, caller: Array, fold: Array, folds: Plan
) -> dict[str, LabelledRows]:
    """Calls that are learnt from and their labels, as each feed tells of them."""
    labels = training_labels(dataset, settings, folds)
    feeds = {"complete": np.arange(len(caller)), "answered only": answered_rows(dataset.calls)}
    return {
        name: training_rows(dataset.calls, labels, settings, told, caller, fold, folds) for name, told in feeds.items()
    }


def training_labels(dataset: Dataset, settings: Settings, folds: Plan) -> pd.DataFrame:
    """What each number was held to be when the labels were made."""
    cutoff = pd.Timestamp(folds.label_cutoff, unit="ms", tz="UTC")
    return labels_to_learn(dataset, cutoff, settings.label_policy)


def training_rows(
    calls: pa.Table, labels: pd.DataFrame, settings: Settings, told: Array, caller: Array, fold: Array, folds: Plan
) -> tuple[Array, pd.DataFrame]:
    """Calls that are learnt from, of a feed, and their labels.

    Args:
        told: places of the calls that the feed tells of.
    """
    start = calls["start"].to_numpy()[told]
    cutoff = pd.Timestamp(folds.label_cutoff, unit="ms", tz="UTC")
    return labelled_rows(
        calls, caller, told[fold_rows("train", folds.train, fold[told], start)], labels,
        cutoff=cutoff, calls_per_number=settings.calls_per_number, seed=settings.seed,
    )  # fmt: skip
