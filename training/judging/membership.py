"""Membership inference: do a model's scores reveal whose calls it was trained on?

The attacker has calls of the training days with their labels, and asks the model for their scores. Members are the
callers that the model was trained on. The others are callers of other folds, labelled and sampled in the same way from
the same days. Two attacks, each on innocent and on nuisance callers apart:

    loss     a member's calls have the smaller mean loss (Yeom et al. 2018)
    learned  logistic regression on a caller's mean, smallest and largest loss and their spread, fitted on one half of
             the groups and applied to the other

An AUC of 0.5 is chance. Innocent callers must stay below MOST_AUC. Nuisance callers are expected to exceed it, since a
model is meant to recognise their campaigns; the figure is for information. Intervals resample groups, not callers,
since the callers of a campaign are alike.

Limits: an attacker who trains models of his own for comparison (shadow models) may do better. The attack uses the raw
score of the risk model, which a service does not show to callers. It does not test whether a person was *called* by a
caller of the training data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from callsieve.features.arrays import Array
from callsieve.features.files.progress import Progress
from callsieve.features.online.feeds import COMPLETE
from callsieve.serving.batch.file_scoring import open_scorer
from callsieve.serving.bundle.bundle import Bundle
from callsieve.training.data.dataset import Dataset, read_dataset
from callsieve.training.data.feeds import vectors_on
from callsieve.training.data.label_policy import policy_of
from callsieve.training.model.folds import assign_folds, training_labels
from callsieve.training.model.matrix import feature_columns, labelled_rows
from callsieve.training.model.scores import score_rows
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import fold_rows

MOST_AUC = 0.55
"""The highest AUC that an attack on innocent callers may reach, at the upper end of its interval."""
ROUNDS, CONFIDENCE = 200, 0.95
MIN_CALLERS = 20  # members and others each, below which an attack is not measured
CALLER_CLASSES = ("innocent", "nuisance")


class Auc(TypedDict):
    """How well an attack separates members from others: area under the ROC curve, interval over resampled groups."""

    value: float
    low: float
    high: float


class AttackFigures(TypedDict):
    """Both attacks on the callers of one class; None where there are too few. `holds`: both stay below MOST_AUC."""

    members: int
    others: int
    loss: Auc | None
    learned: Auc | None
    holds: bool | None


class MembershipFigures(TypedDict):
    """Both attacks by caller class (`kinds`); `smallest_leaf` is the fewest training calls of a leaf."""

    model: str
    most_auc: float
    smallest_leaf: int
    kinds: dict[str, AttackFigures]


@dataclass(frozen=True, slots=True)
class Callers:
    """Callers by their losses, one row each: mean, smallest, largest, standard deviation."""

    losses: Array
    member: Array
    nuisance: Array
    group: Array


@dataclass(frozen=True, slots=True)
class AttackedCalls:
    """The calls whose scores the attacker asks for."""

    rows: Array  # indices among all calls
    labels: pd.DataFrame  # of `rows`
    member: Array  # bool, of `rows`
    caller: Array  # code, of all calls
    group: Array  # of all calls


def membership(bundle: Path, data: Path, *, trust: Path | None, threads: int, progress: Progress) -> MembershipFigures:
    """Attacks a bundle with the calls that it was trained on."""
    model = open_scorer(bundle, trust).bundle
    dataset = read_dataset(data, "evaluation")
    expected = [(folder["data"], folder["role"]) for folder in model.training["folders"]]
    if expected != [(dataset.fingerprint, "both")]:
        raise ValueError(
            f"{data}: expected the one folder that the model was trained and certified on, of fingerprint "
            f"{expected[0][0]}; it has {dataset.fingerprint}, and the training had {len(expected)} folders"
        )
    progress("calls", 0.1)
    calls = attacked_calls(dataset, model)
    progress("features", 0.2)
    feed = vectors_on(COMPLETE, dataset, model.features, threads, np.sort(calls.rows))
    every = np.ones(dataset.calls.num_rows, dtype=bool)
    text = (bundle / "model.txt").read_text(encoding="utf-8")
    raw = score_rows(text, feed.X, feed.rows, every, feature_columns(model.features), threads)[calls.rows]
    progress("attack", 0.8)
    callers = by_caller(
        raw,
        calls.labels["nuisance"].to_numpy(dtype=bool),
        calls.member,
        calls.caller[calls.rows],
        calls.group[calls.rows],
    )
    return {
        "model": model.model_id,
        "most_auc": MOST_AUC,
        "smallest_leaf": smallest_leaf(text),
        "kinds": {name: attack(callers, nuisance=name == "nuisance") for name in CALLER_CLASSES},
    }


def attacked_calls(dataset: Dataset, model: Bundle) -> AttackedCalls:
    """Returns labelled calls of members and of others, sampled as in the model's training."""
    calls, training = dataset.calls, model.training
    settings = Settings(seed=training["seed"], label_policy=policy_of(model.label_policy), **training["settings"])
    folds = assign_folds(dataset, settings)
    labels = training_labels(dataset, settings, folds.plan)
    (members, member_labels), (others, other_labels) = (
        labelled_rows(
            calls,
            folds.caller,
            np.flatnonzero(fold_rows(name, folds.plan.train, folds.fold, folds.start)),
            labels,
            seed=settings.seed,
            cutoff=pd.Timestamp(folds.plan.label_cutoff, unit="ms", tz="UTC"),
            calls_per_number=settings.calls_per_number,
        )
        for name in ("train", "certify")
    )
    rows = np.concatenate([members, others])
    return AttackedCalls(
        rows=rows,
        labels=pd.concat([member_labels, other_labels]),
        member=np.arange(len(rows)) < len(members),
        caller=folds.caller,
        group=folds.group,
    )


def by_caller(raw: Array, nuisance: Array, member: Array, caller: Array, group: Array) -> Callers:
    """Returns the callers from one row per call; the loss is the log loss of a raw score in log-odds."""
    loss = np.logaddexp(0.0, np.where(nuisance, -raw, raw))
    frame = pd.DataFrame({"loss": loss, "member": member, "nuisance": nuisance, "group": group})
    of = frame.groupby(caller)
    losses = of["loss"].agg(["mean", "min", "max"]).assign(spread=of["loss"].std(ddof=0))
    first = of[["member", "nuisance", "group"]].first()
    return Callers(losses.to_numpy(), *(first[name].to_numpy() for name in ("member", "nuisance", "group")))


def attack(callers: Callers, *, nuisance: bool) -> AttackFigures:
    """Returns both attacks on the callers of one class."""
    rows = callers.nuisance == nuisance
    losses, member, group = callers.losses[rows], callers.member[rows].astype(bool), callers.group[rows]
    members, others = int(member.sum()), int((~member).sum())
    if min(members, others) < MIN_CALLERS:
        return {"members": members, "others": others, "loss": None, "learned": None, "holds": None}
    rng = np.random.default_rng(0)
    loss = auc(-losses[:, 0], member, group, rng)
    learned = auc(_learned(losses, member, group, rng), member, group, rng)
    holds = max(loss["high"], learned["high"]) <= MOST_AUC
    return {"members": members, "others": others, "loss": loss, "learned": learned, "holds": holds}


def auc(guess: Array, member: Array, group: Array, rng: np.random.Generator) -> Auc:
    """Returns the area under the ROC curve of a guess, with its interval over resampled groups."""
    names, which = np.unique(group, return_inverse=True)
    ranks = np.unique(guess, return_inverse=True)[1]
    areas = []
    for _ in range(ROUNDS):
        weight = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[which]
        if weight[member].any() and weight[~member].any():
            areas.append(area(ranks, member, weight))
    low, high = np.quantile(areas, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"value": area(ranks, member, np.ones(len(member))), "low": float(low), "high": float(high)}


def area(ranks: Array, member: Array, weight: Array) -> float:
    """Returns the weighted share of pairs of a member and another caller that a guess orders rightly; a tie counts
    half.
    """
    mine, others = (np.bincount(ranks, weight * side, minlength=ranks.max() + 1) for side in (member, ~member))
    return float((mine * (np.cumsum(others) - others / 2)).sum() / (mine.sum() * others.sum()))


def smallest_leaf(text: str) -> int:
    """Returns the fewest training calls of any leaf, from LightGBM's text of a model; 0 without a leaf."""
    counts = [line.partition("=")[2].split() for line in re.findall(r"^leaf_count=.*$", text, re.MULTILINE)]
    return min((int(count) for line in counts for count in line), default=0)


def _learned(losses: Array, member: Array, group: Array, rng: np.random.Generator) -> Array:
    names, which = np.unique(group, return_inverse=True)
    half = (rng.permutation(len(names)) % 2)[which]
    guess = np.zeros(len(member))
    for side in (0, 1):
        fit, apply = half == side, half != side
        if len(np.unique(member[fit])) < 2:
            continue
        scale = StandardScaler().fit(losses[fit])
        model = LogisticRegression(class_weight="balanced").fit(scale.transform(losses[fit]), member[fit])
        guess[apply] = model.decision_function(scale.transform(losses[apply]))
    return guess
