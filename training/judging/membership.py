"""Can somebody who sees a model's scores tell whose calls it learnt from? An attack on a bundle, measured.

The attacker holds callers' calls of the very days that the model learnt from and their labels, and asks for their
scores. Members are the callers that it learnt from; the others are callers whose groups the split kept apart, labelled
and drawn in the same way from the same days. Two attacks, each told for innocent and for nuisance callers apart:

    loss     a member's calls have the smaller mean loss (Yeom et al. 2018)
    learned  logistic regression on a caller's mean, smallest and largest loss and their spread, fitted on one half of
             the groups, told on the other

0.5 is a coin. Innocent callers are to stay below MOST_AUC. Of nuisance callers, whose campaigns a model is to know
again, scores do tell; the figure is there to be seen. The intervals draw groups anew, not callers: those of a campaign
are alike. Limits: an attacker who trains models of his own to compare with (shadow models) may do better; what is asked
is the risk model's own score, which a service does not show to callers; whether a person was *called* by a caller that
it learnt from is not tried.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from callsieve.features.intake.text_columns import codes
from callsieve.serving.batch.score import open_scorer
from callsieve.training.data.dataset import campaigns_of, read_dataset
from callsieve.training.data.feeds import complete
from callsieve.training.data.label_policy import policy_of
from callsieve.training.model.call_choice import fold_rows
from callsieve.training.model.folds import training_labels
from callsieve.training.model.matrix import labelled_rows
from callsieve.training.model.split import caller_classes, fold_of_group, fold_plan, groups
from callsieve.training.model.train import Settings, feature_columns, score_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.features.files.progress import Progress
    from callsieve.serving.bundle.bundle import Bundle
    from callsieve.training.data.dataset import Dataset

    Array = npt.NDArray[Any]

MOST_AUC = 0.55
"""What an innocent caller's attack may reach at most, with its whole interval."""
ROUNDS, LEVEL = 200, 0.95
LEAST = 20  # members and others, each, that a figure needs
KINDS = ("innocent", "nuisance")


@dataclass(frozen=True, slots=True)
class Auc:
    """How well an attack tells members from others: the area under its curve, groups drawn anew for the interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Callers:
    """Callers by their losses: `losses` has a row each (mean, smallest, largest, standard deviation)."""

    losses: Array
    member: Array
    nuisance: Array
    group: Array


def membership(bundle: Path, data: Path, *, trust: Path | None, threads: int, progress: Progress) -> dict[str, Any]:
    """Attack a bundle with the calls that it was trained on.

    Args:
        data: the folder of calls that the bundle was made from, declared for evaluation.
    Returns: JSON-able: `kinds` with the AUC of each attack, how many `members` and `others`, and whether it `holds`
        (None where there are too few); `smallest_leaf`, the fewest training calls of a leaf.
    Raises:
        ValueError: if the model learnt from other calls, or split them by what is no longer there.
    """
    model = open_scorer(bundle, trust).bundle
    dataset = read_dataset(data, "evaluation")
    if model.training["data"] != dataset.fingerprint:
        raise ValueError(
            f"{data}: the model learnt from other calls: expected those of fingerprint {model.training['data']}"
        )
    progress("calls", 0.1)
    rows, labels, member, caller, group = asked(dataset, model)
    progress("features", 0.2)
    feed = complete(dataset, model.features, threads, np.sort(rows))
    every = np.ones(dataset.calls.num_rows, dtype=bool)
    text = (bundle / "model.txt").read_text(encoding="utf-8")
    raw = score_rows(text, feed, every, feature_columns(model.features), threads)[rows]
    progress("attack", 0.8)
    callers = by_caller(raw, labels["nuisance"].to_numpy(dtype=bool), member, caller[rows], group[rows])
    return {"model": model.model_id, "most_auc": MOST_AUC, "smallest_leaf": smallest_leaf(text),
            "kinds": {kind: attack(callers, nuisance=kind == "nuisance") for kind in KINDS}}  # fmt: skip


def asked(dataset: Dataset, model: Bundle) -> tuple[Array, pd.DataFrame, Array, Array, Array]:
    """Places of the calls to ask for, their labels, which are members', and the caller and group of all calls."""
    calls, told = dataset.calls, model.training
    settings = Settings(seed=told["seed"], label_policy=policy_of(model.label_policy), **told["settings"])
    start, caller = calls["start"].to_numpy(), codes(calls["caller"])[0]
    folds = fold_plan(calls, settings.label_delay_days)
    group = groups(calls, campaigns_of(dataset))
    fold = fold_of_group(group, caller_classes(calls), settings.seed)
    labels = training_labels(dataset, settings, folds)
    found = [
        labelled_rows(
            calls, caller, np.flatnonzero(rows), labels, seed=settings.seed,
            cutoff=pd.Timestamp(folds.label_cutoff, unit="ms", tz="UTC"), calls_per_number=settings.calls_per_number,
        )
        for rows in (fold_rows(side, folds.train, fold, start) for side in ("train", "certify"))
    ]  # fmt: skip
    rows = np.concatenate([each for each, _ in found])
    member = np.arange(len(rows)) < len(found[0][0])
    return rows, pd.concat([told for _, told in found]), member, caller, group


def by_caller(raw: Array, nuisance: Array, member: Array, caller: Array, group: Array) -> Callers:
    """A row a caller, of a row a call; the loss is the log loss of a raw score in log-odds."""
    loss = np.logaddexp(0.0, np.where(nuisance, -raw, raw))
    frame = pd.DataFrame({"loss": loss, "member": member, "nuisance": nuisance, "group": group})
    of = frame.groupby(caller)
    losses = of["loss"].agg(["mean", "min", "max"]).assign(spread=of["loss"].std(ddof=0))
    first = of[["member", "nuisance", "group"]].first()
    return Callers(losses.to_numpy(), *(first[name].to_numpy() for name in ("member", "nuisance", "group")))


def attack(callers: Callers, *, nuisance: bool, seed: int = 0) -> dict[str, Any]:
    """Both attacks on the callers of one kind."""
    mine = callers.nuisance == nuisance
    losses, member, group = callers.losses[mine], callers.member[mine].astype(bool), callers.group[mine]
    counts = {"members": int(member.sum()), "others": int((~member).sum())}
    if min(counts.values()) < LEAST:
        return counts | {"loss": None, "learned": None, "holds": None}
    rng = np.random.default_rng(seed)
    told = {
        "loss": auc(-losses[:, 0], member, group, rng),
        "learned": auc(_learned(losses, member, group, rng), member, group, rng),
    }
    holds = all(one.high <= MOST_AUC for one in told.values())
    return counts | {name: asdict(one) for name, one in told.items()} | {"holds": holds}


def auc(guess: Array, member: Array, group: Array, rng: np.random.Generator) -> Auc:
    """The area under the curve of a guess, and its interval over groups drawn anew."""
    names, which = np.unique(group, return_inverse=True)
    places = np.unique(guess, return_inverse=True)[1]
    drawn = []
    for _ in range(ROUNDS):
        weight = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[which]
        if weight[member].any() and weight[~member].any():
            drawn.append(area(places, member, weight))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Auc(area(places, member, np.ones(len(member))), float(low), float(high))


def area(places: Array, member: Array, weight: Array) -> float:
    """The weighted share of pairs of a member and another whose guesses, by rank, are in order; a tie is half one."""
    mine, others = (np.bincount(places, weight * side, minlength=places.max() + 1) for side in (member, ~member))
    return float((mine * (np.cumsum(others) - others / 2)).sum() / (mine.sum() * others.sum()))


def smallest_leaf(text: str) -> int:
    """The fewest training calls of any leaf of a model in LightGBM's text: what a leaf tells, it tells of so many."""
    counts = [line.partition("=")[2].split() for line in re.findall(r"^leaf_count=.*$", text, re.MULTILINE)]
    return min((int(count) for line in counts for count in line), default=0)


def _learned(losses: Array, member: Array, group: Array, rng: np.random.Generator) -> Array:
    """The guess of a regression on callers whose group it did not see."""
    names, which = np.unique(group, return_inverse=True)
    half = (rng.permutation(len(names)) % 2)[which]
    guess = np.zeros(len(member))
    for side in (0, 1):
        learn, tell = half == side, half != side
        if len(np.unique(member[learn])) < 2:
            continue
        scale = StandardScaler().fit(losses[learn])
        fitted = LogisticRegression(class_weight="balanced").fit(scale.transform(losses[learn]), member[learn])
        guess[tell] = fitted.decision_function(scale.transform(losses[tell]))
    return guess
