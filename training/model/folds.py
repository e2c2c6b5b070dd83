"""Assigns the calls of a training to folds: training rows, calls to choose thresholds on, calls to certify on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from callsieve.features.arrays import Array
from callsieve.features.intake.text_columns import factorize
from callsieve.features.online.feeds import COMPLETE, SECOND_MODEL
from callsieve.training.data.dataset import Dataset, campaigns_of
from callsieve.training.data.exclusions import labels_to_learn
from callsieve.training.data.feeds import recorded_calls
from callsieve.training.data.judging_labels import JudgingLabels, judging_labels

from . import call_choice
from .call_choice import certified_calls, fold_rows, threshold_calls
from .matrix import LabelledRows, labelled_rows, rows_with_truth
from .settings import Settings
from .split import FOLDS, Plan, caller_classes, fold_of_group, fold_plan, groups

if TYPE_CHECKING:
    import pyarrow as pa

    from callsieve.training.data.sources import Role


ROWS_IN_ALL = 800_000  # training rows of a model, so that time and memory stay bounded with many folders
BUSY_CALLS = 300  # a caller with more calls in a folder is busy


@dataclass(frozen=True, slots=True)
class CallFolds:
    """The fold of each call of a folder, with its time, parties, group and judging label; arrays of shape (calls,)."""

    role: Role
    plan: Plan
    start: Array
    caller: Array
    callee: Array
    group: Array
    caller_class: Array  # as from `split.caller_classes`
    fold: Array
    judged: JudgingLabels

    def at(self, rows: Array) -> CallFolds:
        """Returns the folds of some calls."""
        names = ("start", "caller", "callee", "group", "caller_class", "fold")
        return replace(self, judged=self.judged.at(rows), **{name: getattr(self, name)[rows] for name in names})

    def choose(self, seed: int, folders: int = 1) -> Array:
        """Returns the calls that thresholds are chosen on; bool. Args: as of `threshold_calls`."""
        return threshold_calls(self.plan, self.fold, self.start, seed, folders) & self.judged.known

    def certify(self, seed: int, folders: int = 1) -> Array:
        """Returns the calls that certificates are computed on; bool. Args: as of `certified_calls`."""
        return certified_calls(self.plan, self.fold, self.start, seed, folders) & self.judged.known

    def new_callers(self) -> Array:
        """Returns the nuisance calls of numbers that began after the labels were made; bool."""
        return call_choice.calls_of_new_callers(self.plan.label_cutoff, self.judged, self.caller, self.start)

    def needed(self, calls: pa.Table, choose: Array, certify: Array, in_training: Array, *, last: bool) -> Array:
        """Returns the calls that need a vector beside the training rows: to choose, certify, judge and monitor; bool.

        Args:
            choose, certify: as from the methods of that name.
            in_training: whether any call of the call's group is a training row; bool.
            last: whether the folder is the last of the training, whose days are monitored.
        """
        start, plan, judged = self.start, self.plan, self.judged
        needed = choose | certify
        if self.role != "learn":
            needed |= in_training & (start >= plan.certify[0]) & judged.known & judged.nuisance
            needed |= self.new_callers()
        if last:
            needed[call_choice.last_day_rows(start)] = True
            needed[call_choice.recomputed_rows(start)] = True
            for day, rows in call_choice.whole_days(calls).items():
                needed[call_choice.day_sample(day, rows)] = True
        return np.asarray(needed)


def assign_folds(dataset: Dataset, settings: Settings, role: Role = "both") -> CallFolds:
    """Deals the groups of a folder's callers into folds: all into one, unless the folder has both roles."""
    calls = dataset.calls
    (caller, _), (callee, _) = factorize(calls["caller"]), factorize(calls["callee"])
    group, caller_class = groups(calls, campaigns_of(dataset)), caller_classes(calls)
    with_truth = settings.learn_from == "truth"
    return CallFolds(
        role=role,
        plan=fold_plan(calls, settings.label_delay_days, role, with_truth=with_truth),
        start=calls["start"].to_numpy(),
        caller=caller,
        callee=callee,
        group=group,
        caller_class=caller_class,
        fold=fold_of_group(group, caller_class, settings.judging_seed)
        if role == "both"
        else np.full(len(group), FOLDS.index("train" if role == "learn" else "certify")),
        judged=judging_labels(dataset, caller, settings.label_policy),
    )


def training_rows_by_feed(
    dataset: Dataset, settings: Settings, folds: CallFolds, folders: int = 1
) -> dict[str, LabelledRows]:
    """Returns the training rows and their labels, by the name of the feed.

    Args:
        folders: how many folders the training learns from; together they give a model at most about ROWS_IN_ALL rows.
    Raises:
        ValueError: if there is no label, or no truth where it is to be learnt from.
    """
    labels = None if settings.learn_from == "truth" else training_labels(dataset, settings, folds.plan)
    most = dict.fromkeys((COMPLETE,), ROWS_IN_ALL // folders)
    if settings.poorer_feeds:
        most |= dict.fromkeys(SECOND_MODEL, ROWS_IN_ALL // (folders * len(SECOND_MODEL)))
    by_feed = {}
    for name in most:
        recorded, _ = recorded_calls(dataset.calls, name)
        rows, row_labels = training_rows(dataset, labels, settings, recorded, folds)
        chosen = thinned(row_labels["nuisance"].to_numpy(dtype=bool), folds.caller, rows, most[name], settings.seed)
        by_feed[name] = rows[chosen], row_labels[chosen]
    return by_feed


def thinned(nuisance: Array, caller: Array, rows: Array, most: int, seed: int) -> Array:
    """Returns which training rows stay: all of nuisance and of busy callers, and others at random up to `most`; bool.

    Busy innocent callers, such as surveys and couriers, are few and hard to tell from nuisance. Other innocent callers
    are many and alike.

    Args:
        nuisance: bool, of each row.
        caller: code of each call's caller, of all calls of the folder.
        rows: place of each row among these calls.
    """
    first = nuisance | (np.bincount(caller)[caller[rows]] > BUSY_CALLS)
    others = np.flatnonzero(~first)
    stay = first.copy()
    stay[np.random.default_rng(seed).permutation(others)[: max(most - int(first.sum()), 0)]] = True
    return stay


def training_labels(dataset: Dataset, settings: Settings, plan: Plan) -> pd.DataFrame:
    """Returns the labels of numbers as known at the label cutoff, without excluded numbers."""
    cutoff = pd.Timestamp(plan.label_cutoff, unit="ms", tz="UTC")
    return labels_to_learn(dataset, cutoff, settings.label_policy)


def training_rows(
    dataset: Dataset, labels: pd.DataFrame | None, settings: Settings, recorded: Array, folds: CallFolds
) -> LabelledRows:
    """Returns the training rows of a feed and their labels.

    Args:
        labels: as from `training_labels`; None to learn from the truth.
        recorded: places of the calls that the feed records.
    """
    plan = folds.plan
    rows = recorded[fold_rows("train", plan.train, folds.fold[recorded], folds.start[recorded])]
    if labels is None:
        return rows_with_truth(
            dataset, folds.caller, rows, calls_per_number=settings.calls_per_number, seed=settings.seed
        )
    return labelled_rows(
        dataset.calls,
        folds.caller,
        rows,
        labels,
        cutoff=pd.Timestamp(plan.label_cutoff, unit="ms", tz="UTC"),
        calls_per_number=settings.calls_per_number,
        seed=settings.seed,
    )
