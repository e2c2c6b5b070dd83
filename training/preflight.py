"""Counts the labelled calls and groups of each fold before a training computes vectors, and refuses too few of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypedDict

import numpy as np

from callsieve.features.arrays import Array
from callsieve.features.files.dates import DAY
from callsieve.features.offline.odd_records import odd_table
from callsieve.features.online.feeds import COMPLETE
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.sources import Source
from callsieve.training.evidence.funnel import Covered, TooFew, fewest_calls, joined_funnel, too_few
from callsieve.training.model.certify import CONFIDENCE
from callsieve.training.model.folds import CallFolds, assign_folds, training_rows_by_feed
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import days_of_records

Kind = Literal["innocent", "nuisance"]
KINDS: tuple[Kind, ...] = ("innocent", "nuisance")
# The fewest groups of each kind. Early stopping and out-of-fold scores hold out groups of both kinds, so one group of
# a kind is not enough to train on. Thresholds are chosen and certified on innocent calls.
FEWEST: Mapping[str, Mapping[Kind, int]] = {
    "train": {"innocent": 2, "nuisance": 2},
    "choose": {"innocent": 1, "nuisance": 0},
    "certify": {"innocent": 1, "nuisance": 0},
}
# Without a truth, complaints teach. In trials on 22 days of three networks, models of 1 to 26 groups caught 0 to 8 % of
# the nuisance calls, one of 31 groups caught 24 %, and the shipped model 72 to 79 %.
NUISANCE_GROUPS = 30
# Days of records that give one more day to a fold: `split.plan` gives half to the first, a quarter to each other.
DAYS_OF_RECORDS = {"train": 2, "choose": 4, "certify": 4}
CONNECTED = 0.5  # a group with more than this share of a folder's callers is named as the likely cause


class Counts(TypedDict):
    """The calls with a label of one kind, and their groups."""

    calls: int
    groups: int


class FoldCounts(TypedDict):
    """The labelled calls of a fold, and the days on which they start."""

    days: int
    innocent: Counts
    nuisance: Counts


class Preflight(TypedDict):
    """Counts of the data that a training has, of all folders together.

    largest_group: the largest share of a folder's callers in one group. too_small: what stops the training, a sentence
    each. covered: from all calls to those that judge, by evidence; {} with a truth. too_few: what is missing for a
    certificate, which does not stop the training. odd_records: signs that records were read in a wrong way. needed:
    nuisance groups that the train fold needs.
    """

    calls: int
    days: int
    groups: int
    largest_group: float
    folds: dict[str, FoldCounts]
    too_small: list[str]
    needed: int
    covered: dict[str, Covered]
    too_few: TooFew | None
    odd_records: list[str]


def require_enough(sources: Sequence[Source], settings: Settings) -> None:
    """Raises ValueError in one line if a fold has too few groups of a kind, or as `preflight` does."""
    too_small = preflight(sources, settings)["too_small"]
    if too_small:
        raise ValueError("; ".join(too_small))


def preflight(sources: Sequence[Source], settings: Settings) -> Preflight:
    """Counts what a training on these folders would learn from, choose thresholds on and certify on.

    Reads the folders one by one, and computes no vectors.
    """
    feature_columns(settings.features)
    learning = sum(source.role != "certify" for source in sources)
    certifying = sum(source.role != "learn" for source in sources)
    folds = {name: FoldCounts(days=0, innocent=_none(), nuisance=_none()) for name in FEWEST}
    nothing = Preflight(
        calls=0,
        days=0,
        groups=0,
        largest_group=0.0,
        folds=folds,
        too_small=[],
        needed=0,
        covered={},
        too_few=None,
        odd_records=[],
    )
    result, funnels, records, by_truth = nothing, list[dict[str, Covered]](), 0.0, True
    for source in sources:
        dataset = source.read()
        of_calls = assign_folds(dataset, settings, source.role)
        result["calls"] += len(of_calls.start)
        result["days"] += _days(of_calls.start)
        result["groups"] += len(np.unique(of_calls.group))
        result["largest_group"] = max(result["largest_group"], _largest_share(of_calls))
        result["odd_records"] += odd_table(dataset.calls)
        funnels.append(of_calls.funnel())
        records += days_of_records(source.role, of_calls.plan)
        by_truth &= of_calls.judged.source == "truth"
        seed, kind = settings.judging_seed, of_calls.judged.nuisance
        if source.role != "certify":
            _add(folds["train"], of_calls, *_training(dataset, settings, of_calls, learning))
            chosen = np.flatnonzero(of_calls.choose(seed, learning))
            _add(folds["choose"], of_calls, chosen, kind[chosen])
        if source.role != "learn":
            certified = np.flatnonzero(of_calls.certify(seed, certifying))
            _add(folds["certify"], of_calls, certified, kind[certified])
    # Without a truth, bands abstain if too few callers are known to be innocent; the training goes on.
    required = folds if by_truth else {"train": folds["train"]}
    result["needed"] = FEWEST["train"]["nuisance"] if by_truth else NUISANCE_GROUPS
    result["too_small"] = too_small(required, result["largest_group"], result["needed"])
    result["covered"] = joined_funnel(funnels)
    result["too_few"] = too_few(result["covered"], fewest_calls(settings.target, CONFIDENCE), records)
    return result


def too_small(folds: Mapping[str, FoldCounts], largest_group: float, needed: int) -> list[str]:
    """Returns a sentence for each fold and kind with too few groups: the counts, and what to do."""
    sentences = []
    for fold, counts in folds.items():
        for kind, fewest in FEWEST[fold].items():
            expected = needed if (fold, kind) == ("train", "nuisance") else fewest
            groups = counts[kind]["groups"]
            if groups < expected:
                days = DAYS_OF_RECORDS[fold] * max(counts["days"], 1) * (expected - groups) / max(groups, 1)
                more = "complaints" if kind == "nuisance" else "callers"
                noun = "group" if groups == 1 else "groups"
                sentences.append(
                    f"{fold} fold: {groups} {noun} with {kind} calls, expected at least {expected}: "
                    f"give about {math.ceil(days)} more days of calls, or more {more}"
                    + (", or fit the shipped model to these calls: callsieve adapt" if expected > fewest else "")
                )
    if sentences and largest_group > CONNECTED:
        sentences.append(
            f"one group has {largest_group:.0%} of the callers: blocks, trunks or devices connect them; "
            "leave out the column that does"
        )
    return sentences


def _none() -> Counts:
    return {"calls": 0, "groups": 0}


def _days(start: Array) -> int:
    return len(np.unique(start // DAY))


def _largest_share(folds: CallFolds) -> float:
    group = folds.group[np.unique(folds.caller, return_index=True)[1]]
    return float(np.bincount(group).max() / len(group))


def _training(dataset: Dataset, settings: Settings, folds: CallFolds, learning: int) -> tuple[Array, Array]:
    rows, labels = training_rows_by_feed(dataset, replace(settings, poorer_feeds=False), folds, learning)[COMPLETE]
    return rows, labels["nuisance"].to_numpy(dtype=bool)


def _add(counts: FoldCounts, folds: CallFolds, rows: Array, nuisance: Array) -> None:
    counts["days"] += _days(folds.start[rows])
    for kind, chosen in ((counts["innocent"], rows[~nuisance]), (counts["nuisance"], rows[nuisance])):
        kind["calls"] += len(chosen)
        kind["groups"] += len(np.unique(folds.group[chosen]))
