"""Assigns the calls of a training to folds: training rows, calls to choose thresholds on, calls to certify on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from callsieve.features.intake.text_columns import factorize
from callsieve.training.data.dataset import Dataset, campaigns_of
from callsieve.training.data.exclusions import labels_to_learn
from callsieve.training.data.feeds import answered_rows
from callsieve.training.data.judging_labels import JudgingLabels, judging_labels

from . import call_choice
from .call_choice import fold_rows, threshold_calls
from .matrix import LabelledRows, labelled_rows
from .settings import Settings
from .split import Plan, caller_classes, fold_of_group, fold_plan, groups

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CallFolds:
    """The fold of each call, with its time, parties, group and judging label; arrays of shape (calls,)."""

    plan: Plan
    start: Array
    caller: Array
    callee: Array
    group: Array
    caller_class: Array  # as from `split.caller_classes`
    fold: Array
    judged: JudgingLabels

    def choose(self, seed: int) -> Array:
        """Returns the calls that thresholds are chosen on; bool."""
        return threshold_calls(self.plan, self.fold, self.start, seed) & self.judged.known

    def certify(self) -> Array:
        """Returns the calls that certificates are computed on; bool."""
        return fold_rows("certify", self.plan.certify, self.fold, self.start) & self.judged.known

    def needed(self, calls: pa.Table, choose: Array, in_training: Array) -> Array:
        """Returns the calls that need a vector beside the training rows: to choose, certify, judge and monitor; bool.

        Args:
            choose: as from `choose`.
            in_training: whether any call of the call's group is a training row; bool.
        """
        start, plan, judged = self.start, self.plan, self.judged
        needed = choose | fold_rows("certify", plan.certify, self.fold, start)
        needed |= call_choice.calls_of_seen_groups(plan, in_training, start, judged) & judged.nuisance
        needed |= call_choice.calls_of_new_callers(plan.label_cutoff, judged, self.caller, start)
        needed[call_choice.last_day_rows(start)] = True
        needed[call_choice.recomputed_rows(start, plan)] = True
        for day, rows in call_choice.whole_days(calls).items():
            needed[call_choice.day_sample(day, rows)] = True
        return needed


def assign_folds(dataset: Dataset, settings: Settings) -> CallFolds:
    """Deals the groups of a data set's callers into folds."""
    calls = dataset.calls
    (caller, _), (callee, _) = factorize(calls["caller"]), factorize(calls["callee"])
    group, caller_class = groups(calls, campaigns_of(dataset)), caller_classes(calls)
    return CallFolds(
        plan=fold_plan(calls, settings.label_delay_days),
        start=calls["start"].to_numpy(),
        caller=caller,
        callee=callee,
        group=group,
        caller_class=caller_class,
        fold=fold_of_group(group, caller_class, settings.seed),
        judged=judging_labels(dataset, caller, settings.label_policy),
    )


def training_rows_by_feed(
    dataset: Dataset, settings: Settings, caller: Array, fold: Array, plan: Plan
) -> dict[str, LabelledRows]:
    """Returns the training rows and their labels, by the name of the feed."""
    labels = training_labels(dataset, settings, plan)
    feeds = {"complete": np.arange(len(caller)), "answered only": answered_rows(dataset.calls)}
    return {
        name: training_rows(dataset.calls, labels, settings, recorded, caller, fold, plan)
        for name, recorded in feeds.items()
    }


def training_labels(dataset: Dataset, settings: Settings, plan: Plan) -> pd.DataFrame:
    """Returns the labels of numbers as known at the label cutoff, without excluded numbers."""
    cutoff = pd.Timestamp(plan.label_cutoff, unit="ms", tz="UTC")
    return labels_to_learn(dataset, cutoff, settings.label_policy)


def training_rows(
    calls: pa.Table,
    labels: pd.DataFrame,
    settings: Settings,
    recorded: Array,
    caller: Array,
    fold: Array,
    plan: Plan,
) -> LabelledRows:
    """Returns the training rows of a feed and their labels.

    Args:
        recorded: places of the calls that the feed records.
    """
    start = calls["start"].to_numpy()[recorded]
    return labelled_rows(
        calls,
        caller,
        recorded[fold_rows("train", plan.train, fold[recorded], start)],
        labels,
        cutoff=pd.Timestamp(plan.label_cutoff, unit="ms", tz="UTC"),
        calls_per_number=settings.calls_per_number,
        seed=settings.seed,
    )
