"""The calls of a network that an adaptation learns from: their vectors, their scores by the base, their callers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from callsieve.features.arrays import Array
from callsieve.features.files.dates import DAY
from callsieve.features.online.feeds import COMPLETE
from callsieve.serving.rules.strata import strata_of
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.feeds import Feed, vectors_on
from callsieve.training.evidence.callers import Callers, by_score, callers_of
from callsieve.training.model.folds import MAX_CERTIFIED_ON, CallFolds, assign_folds, rows_of_callers
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.scores import score_rows
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import WINDOW_DAYS, Plan

from .base import Base
from .thresholds import Scored


@dataclass(frozen=True, slots=True)
class Network:
    """The calls of a network that count for an adaptation: in the judged span, with vectors and scores of the base.

    rows: their places in the table of calls. group: of each caller.
    """

    dataset: Dataset
    folds: CallFolds
    feed: Feed
    rows: Array
    X: Array
    caller: Array
    raw: Array
    stratum: Array
    group: Array
    callers: Callers
    highest: Array

    def scored(self, raw: Array) -> Scored:
        """Returns these calls with other scores."""
        return Scored(self.caller, raw)

    def with_evidence(self, dataset: Dataset, settings: Settings) -> Network:
        """Returns the network with what a data set of the same calls says of its callers."""
        plan = replace(self.folds.plan, label_cutoff=known_until(dataset, self.folds.plan.train[1]))
        callers = callers_of(dataset, plan.train[0], plan.label_cutoff, settings.label_policy, *by_score(self.highest))
        return replace(self, dataset=dataset, folds=replace(self.folds, plan=plan), callers=callers)


def score_network(
    dataset: Dataset, settings: Settings, base: Base, recorded: str, most: int = MAX_CERTIFIED_ON
) -> Network:
    """Computes vectors and base scores of the calls in the judged span: of random callers, until they are `most`."""
    folds = network_folds(dataset, settings)
    in_span = np.flatnonzero(folds.start >= folds.plan.train[0])
    some = rows_of_callers(folds.caller, in_span, most, settings.judging_seed)
    nothing = np.zeros(len(some), dtype=bool)
    needed = np.flatnonzero(folds.needed(dataset.calls, some, some, nothing, last=True))
    feed = vectors_on(COMPLETE, dataset, settings.features, settings.threads, needed)
    X, rows = feed.X, feed.rows
    columns = feature_columns(settings.features)
    every = np.arange(len(rows))
    raw = score_rows(base.forest(recorded), X, every, np.ones(len(rows), bool), columns, settings.threads)
    caller = folds.caller[rows]
    count = int(folds.caller.max()) + 1
    highest = np.full(count, -np.inf)
    np.maximum.at(highest, caller, raw)
    group = np.zeros(count, dtype=np.int64)
    group[folds.caller] = folds.group
    plan, policy = folds.plan, settings.label_policy
    callers = callers_of(dataset, plan.train[0], plan.label_cutoff, policy, *by_score(highest))
    return Network(dataset, folds, feed, rows, X, caller, raw, strata_of(X), group, callers, highest)


def network_folds(dataset: Dataset, settings: Settings) -> CallFolds:
    """Returns all calls after the days that fill the windows as one fold: labels are known when the records end."""
    start = dataset.calls["start"].to_numpy()
    if not len(start):
        raise ValueError("calls: expected some, got none")
    first, last = int(start.min()) + WINDOW_DAYS * DAY, int(start.max()) + 1
    if last - first < DAY:
        days = int((last - int(start.min())) // DAY + 1)
        raise ValueError(
            f"calls: expected at least {WINDOW_DAYS + 2} days, of which {WINDOW_DAYS} fill the windows, got {days}"
        )
    folds = assign_folds(dataset, settings, "certify")
    span = (first, last)
    return replace(folds, plan=Plan(train=span, choose=span, certify=span, label_cutoff=known_until(dataset, last)))


def known_until(dataset: Dataset, last: int) -> int:
    """Returns the moment up to which labels are known, Unix ms: checks and complaints come after the calls."""
    moments = [table["known_at"].max() for table in (dataset.findings, dataset.complaints) if len(table)]
    return max(last, *(int(moment.timestamp() * 1000) + 1 for moment in moments), last)


def allowed_calls(network: Network, nuisance: Array, target: float) -> float:
    """Returns how many innocent calls a threshold may flag."""
    return target * float((1 - nuisance)[network.caller].sum())
