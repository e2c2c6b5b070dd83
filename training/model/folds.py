"""Assigns the calls of a training to folds, and chooses those that need vectors.

There are training rows, and calls to choose thresholds on, to certify, to judge and to monitor. Most calls only fill
the history of others, so their own vectors are never computed: in a town one call in five needs one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.files.dates import DAY, EPOCH
from callsieve.features.intake.text_columns import factorize
from callsieve.features.online.feeds import COMPLETE, SECOND_MODEL
from callsieve.training.data.dataset import Dataset, campaigns_of
from callsieve.training.data.exclusions import labels_to_learn
from callsieve.training.data.feeds import recorded_calls
from callsieve.training.data.sources import Role
from callsieve.training.evidence.funnel import Covered, funnel
from callsieve.training.evidence.judging_labels import JudgingLabels, judging_labels

from .matrix import LabelledRows, labelled_rows, rows_with_truth
from .settings import Settings
from .split import FOLDS, WINDOW_DAYS, Plan, caller_classes, fold_of_group, fold_plan, fold_rows, groups

ROWS_IN_ALL = 800_000  # training rows of a model, so that time and memory stay bounded with many folders
BUSY_CALLS = 300  # a caller with more calls in a folder is busy
LAST_HOUR = 23
SAMPLE = 10_000  # calls of a day that the drift histograms use; marks of records count all calls
# More calls of the same callers add little, and their vectors take memory.
MAX_CHOSEN_ON, CHOSEN_IN_ALL = 250_000, 1_500_000
MAX_CERTIFIED_ON = 2_000_000  # of all folders together
POORER_IN_ALL = 600_000  # calls of a poorer feed that thresholds are chosen or certified on
RECOMPUTED = 500  # calls of a day whose vectors `judging/leak_probes.py` computes again


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
        """Returns the calls that thresholds are chosen on: random later calls of training groups; bool.

        No innocent call is among them if these are not representative.
        """
        rows = fold_rows("train", self.plan.choose, self.fold, self.start)
        if not self.judged.representative:
            rows &= self.judged.nuisance
        most = min(MAX_CHOSEN_ON, CHOSEN_IN_ALL // folders)
        return random_rows(np.flatnonzero(rows), most, len(rows), seed) & self.judged.known

    def certify(self, seed: int, folders: int = 1) -> Array:
        """Returns the calls that certificates are computed on: of random callers of the certifying fold; bool."""
        rows = np.flatnonzero(fold_rows("certify", self.plan.certify, self.fold, self.start))
        return rows_of_callers(self.caller, rows, MAX_CERTIFIED_ON // folders, seed) & self.judged.known

    def poorer(self, rows: Array, seed: int, folders: int) -> Array:
        """Returns the places of the calls whose vectors are also computed from a poorer feed: some of `rows`.

        In a folder that certifies they are all those of random callers, as a certificate of flags needs them.
        """
        most = POORER_IN_ALL // folders
        if self.role == "learn":
            return np.flatnonzero(random_rows(rows, most, len(self.start), seed))
        return np.flatnonzero(rows_of_callers(self.caller, rows, most, seed))

    def funnel(self) -> dict[str, Covered]:
        """Returns callers and calls from all to those that judge; {} if the truth is known."""
        begin, end = self.plan.certify
        in_days = (self.start >= begin) & (self.start < end)
        return funnel(self.judged, self.caller, in_days, in_days & (self.fold == FOLDS.index("certify")))

    def new_callers(self) -> Array:
        """Returns the nuisance calls of numbers that began after the labels were made; bool."""
        return calls_of_new_callers(self.plan.label_cutoff, self.judged, self.caller, self.start)

    def needed(self, calls: pa.Table, choose: Array, certify: Array, in_training: Array, *, last: bool) -> Array:
        """Returns the calls that need a vector beside the training rows: to choose, certify, judge and monitor; bool.

        Args:
            in_training: whether any call of the call's group is a training row; bool.
            last: whether the folder is the last of the training, whose days are monitored.
        """
        start, plan, judged = self.start, self.plan, self.judged
        needed = choose | certify
        if self.role != "learn":
            needed |= in_training & (start >= plan.certify[0]) & judged.known & judged.nuisance
            needed |= self.new_callers()
        if last:
            needed[last_day_rows(start)] = True
            needed[recomputed_rows(start)] = True
            for day, rows in whole_days(calls).items():
                needed[day_sample(day, rows)] = True
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
    """Returns the training rows and their labels, by the name of the feed."""
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
    """Returns the training rows of a feed and their labels."""
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


def random_rows(rows: Array, most: int, count: int, seed: int) -> Array:
    """Returns which of `count` calls are among at most `most` random ones of `rows`; bool."""
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(rows)[:most]] = True
    return chosen


def rows_of_callers(caller: Array, rows: Array, most: int, seed: int) -> Array:
    """Returns which calls are those at `rows` of random callers, until they are `most`; bool, of the shape of `caller`.

    >>> rows_of_callers(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 2, 3]), 1, seed=1).tolist()
    [True, True, False, False, False]
    """
    owners, calls = np.unique(caller[rows], return_counts=True)
    order = np.random.default_rng(seed).permutation(len(owners))
    chosen = np.zeros(len(caller), dtype=bool)
    chosen[rows] = np.isin(caller[rows], owners[order[np.cumsum(calls[order]) - calls[order] < most]])
    return chosen


def nth_call(caller: Array, start: Array) -> Array:
    """Returns the number of each call among its caller's calls, from 1, in order of start; ties keep their order in the
    table.

    >>> nth_call(np.array([5, 3, 5, 5]), np.array([10, 20, 30, 20]))
    array([1, 1, 3, 2])
    """
    order = np.lexsort((start, caller))
    owners = caller[order]
    begin = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]])) if len(order) else np.zeros(0, int)
    place = np.arange(len(order)) - np.repeat(begin, np.diff(np.append(begin, len(order))))
    nth = np.empty(len(order), dtype=np.int64)
    nth[order] = place + 1
    return nth


def calls_of_new_callers(moment: int, judged: JudgingLabels, caller: Array, start: Array) -> Array:
    """Returns the calls of nuisance numbers whose first call came at or after `moment` (Unix ms); bool."""
    first = np.full(int(caller.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, caller, start)
    return np.asarray(judged.known & judged.nuisance & (first[caller] >= moment))


def last_day_rows(start: Array) -> Array:
    """Returns the places of the calls of the last 24 hours."""
    return np.flatnonzero(start >= start.max() - DAY)


def recomputed_rows(start: Array) -> Array:
    """Returns places of calls of the first day with full windows, for the probe that computes their vectors again."""
    begin = int(start.min()) + WINDOW_DAYS * DAY
    rows = np.flatnonzero((start >= begin) & (start < begin + DAY))
    return rows[:: max(1, len(rows) // RECOMPUTED)]


def whole_days(calls: pa.Table) -> dict[date, slice]:
    """Returns the days with a full window before them; the last day only if it has calls in its last hour."""
    days = day_slices(calls)
    first = min(days)
    whole = {day: rows for day, rows in days.items() if (day - first).days >= WINDOW_DAYS}
    if whole and calls["hour"][-1].as_py() < LAST_HOUR:
        whole.pop(max(whole))
    return whole


def day_sample(day: date, rows: slice) -> Array:
    """Returns the rows of a day that its histograms use; the day alone decides which."""
    size = rows.stop - rows.start
    if size <= SAMPLE:
        return np.arange(rows.start, rows.stop)
    drawn = np.random.default_rng(day.toordinal()).choice(size, SAMPLE, replace=False)
    return np.asarray(np.sort(drawn) + rows.start)


def day_slices(calls: pa.Table) -> dict[date, slice]:
    """Returns the rows of each local day."""
    days = calls["day"].to_numpy()
    if not len(days):
        raise ValueError("calls: expected some, got none")
    values, begin = np.unique(days, return_index=True)
    ends = [*begin[1:], len(days)]
    return {
        EPOCH + timedelta(days=int(day)): slice(int(first), int(end))
        for day, first, end in zip(values, begin, ends, strict=True)
    }
