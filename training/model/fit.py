"""Fit: a pure function of data, parameters and seed. The same bytes of model on any number of threads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold

from callsieve.features.catalogue.lite import MONOTONE_SIGNS
from callsieve.features.complaints import COMPLAINT_FEATURES
from callsieve.serving.bundle.metadata import Calibration

from .split import fold_of_group

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

# Early stopping on a ranking metric stopped 2 of 120 fits on the Sichuan set at so few trees that nothing
# passed 0.5; log-loss and a minimum of trees do not.
MINIMUM_TREES = 50
LEAST_OF_A_LEAF, LEAVES_AT_MOST = 100, 400
# LightGBM guesses by weight how many calls a split leaves on a side, and may be wrong by two orders. A call weighs at
# most a quarter (p times 1 - p): so much weight is that of at least ten.
LEAST_WEIGHT_OF_A_LEAF = 2.5
CV_FOLDS = 5  # of the groups; each pair of them is missed by one of the models whose mean is the model
FOLDS = 5  # for comparing the two calibrations
LEAF_VALUES = re.compile(r"(?<=\n)(leaf_value=)([^\n]*)")
PARAMETERS: Mapping[str, Any] = {
    "num_leaves": 15,
    "learning_rate": 0.1,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "max_bin": 255,
    "rounds": 200,
    "patience": MINIMUM_TREES,
}


@dataclass(frozen=True, slots=True)
class FitRows:
    """Rows of one side of a fit."""

    X: Array
    y: Array
    weight: Array | None = None


def fit(
    train: FitRows,
    valid: FitRows,
    names: Sequence[str],
    *,
    categorical: Sequence[str] = (),
    classes: int = 1,
    seed: int = 0,
    threads: int = 0,
    parameters: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """LightGBM's text of the model that does best on `valid` by log-loss.

    Args:
        names: of the columns of X; `categorical` are those whose values are codes of categories.
        classes: 1 for yes-no, else the number of classes (labels 0 .. classes - 1).
        threads: 0 means all cores; the model does not depend on it.
        progress: called with trees done and trees at most.
    """
    settings = lightgbm_parameters(len(train.y), classes=classes, seed=seed, threads=threads, parameters=parameters)
    settings |= constraints(names) if classes == 1 else {}
    shared = {"feature_name": list(names), "categorical_feature": list(categorical) or "auto"}
    data = lgb.Dataset(train.X, train.y, weight=train.weight, params=without_stop(settings), **shared)
    judge = lgb.Dataset(valid.X, valid.y, weight=valid.weight, reference=data)
    return grown(data, judge, settings, progress)


def fit_members(
    learn: FitRows,
    part: Array,
    names: Sequence[str],
    *,
    categorical: Sequence[str] = (),
    seed: int = 0,
    threads: int = 0,
    parameters: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[str]:
    """LightGBM's texts of the members of a model: each is grown without the parts that it misses, which stop it.

    One model of few callers leans on some of them. The mean of models that each missed other ones errs less on callers
    that none has seen: cross-validated committees (Parmanto, Munro and Doyle 1996).

    Args:
        part: of each row, as from `cv_folds`; `held_out_folds` tells which of them each member misses.
        names, categorical, threads: as of `fit`.
        progress: told the share that is done.
    """
    settings = lightgbm_parameters(len(learn.y), classes=1, seed=seed, threads=threads, parameters=parameters)
    settings |= constraints(names)
    data = lgb.Dataset(
        learn.X, learn.y, weight=learn.weight, params=without_stop(settings), feature_name=list(names),
        categorical_feature=list(categorical) or "auto", free_raw_data=False,
    ).construct()  # fmt: skip
    missed = [np.isin(part, own) for own in held_out_folds(int(part.max(initial=0)) + 1)]
    sides, members = [(~own, own) for own in missed], len(missed)
    if members == 1:  # no rows are left to stop it: it has no more than the least of trees
        sides, settings["rounds"] = [(part == 0, part == 0)], min(settings["rounds"], MINIMUM_TREES)
    texts = []
    for member, side in enumerate(sides):
        inside, outside = (data.subset(np.flatnonzero(rows)) for rows in side)

        def tell(done: int, most: int, before: int = member) -> None:
            if progress:
                progress((before + done / most) / members)

        texts.append(grown(inside, outside, settings | {"seed": seed + member}, tell))
    return texts


def held_out_folds(parts: int) -> list[tuple[int, ...]]:
    """The parts that each member misses: a pair of them, so that several members speak of each part unseen.

    The mean of several, as the model is one, errs less far than a single member does. Of few parts each misses one: a
    pair would be most of them.

    >>> missed_by_member(3), len(missed_by_member(5))
    ([(0,), (1,), (2,)], 10)
    """
    return list(combinations(range(parts), 2 if parts == CV_FOLDS else 1))


def cv_folds(group: Array, y: Array, seed: int) -> Array:
    """Part of each row, 0 to PARTS - 1: those of a group stay together, groups of either label are dealt evenly.

    Fewer parts where one would have all groups of a label: the model without it would know the other label alone.
    """
    codes = np.unique(group, return_inverse=True)[1]
    most = min(CV_FOLDS, *(len(np.unique(codes[y == label])) for label in (0, 1)))
    for count in range(most, 1, -1):
        part = fold_of_group(codes, y.astype(np.int64), seed, (1 / count,) * count)
        if len(np.unique(part)) == count and all(len(np.unique(part[y == label])) > 1 for label in (0, 1)):
            return part
    return np.zeros(len(y), dtype=np.int64)


def mean_model(texts: Sequence[str]) -> str:
    """One model whose raw score is the mean of those of several yes-no models of the same columns."""
    header, _, _ = texts[0].partition("\nTree=0\n")
    ends = "\nend of trees\n"
    trees = [tree for text in texts for tree in text[text.index("\nTree=0\n") : text.index(ends)].split("\nTree=")[1:]]
    told = [re.sub(r"^\d+", str(place), tree) for place, tree in enumerate(trees)]
    body = LEAF_VALUES.sub(lambda found: divided(found, len(texts)), "\nTree=".join(["", *told]))
    # Without their sizes LightGBM looks for the trees itself, and writes the sizes anew.
    whole = re.sub(r"\ntree_sizes=[^\n]*", "", header) + body + texts[0][texts[0].index(ends) :]
    return without_machine(lgb.Booster(model_str=whole).model_to_string())


def divided(found: re.Match[str], by: int) -> str:
    """A line of leaf values with each value divided."""
    return found[1] + " ".join(repr(float(value) / by) for value in found[2].split())


def lightgbm_parameters(
    rows: int, *, classes: int, seed: int, threads: int, parameters: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What LightGBM is told, with `rounds` and `patience` for `grown`. Args: rows: that are learnt from."""
    least = {"min_data_in_leaf": min_leaf_rows(rows), "min_sum_hessian_in_leaf": LEAST_WEIGHT_OF_A_LEAF}
    settings = least | dict(PARAMETERS) | dict(parameters or {})
    settings |= {
        "objective": "binary" if classes == 1 else "multiclass",
        "metric": "binary_logloss" if classes == 1 else "multi_logloss",
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
    return settings if classes == 1 else settings | {"num_class": classes}


def constraints(names: Sequence[str]) -> dict[str, Any]:
    """More reports never lower a score, all else being equal. Time since the last one may be unknown, and is not held.

    In a model of the features of `lite` and no others, these are held to their signs.

    >>> constraints(["reported_count_7d", "call_hour"])
    {'monotone_constraints': [1, 0]}
    """
    held = (
        MONOTONE_SIGNS
        if set(names) == set(MONOTONE_SIGNS)
        else {one.name: 1 for one in COMPLAINT_FEATURES if one.unit == "people"}
    )
    signs = [held.get(name, 0) for name in names]
    return {"monotone_constraints": signs} if any(signs) else {}


def without_stop(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that LightGBM itself knows."""
    return {name: value for name, value in settings.items() if name not in {"rounds", "patience"}}


def grown(
    data: lgb.Dataset, judge: lgb.Dataset, settings: Mapping[str, Any], progress: Callable[[int, int], None] | None
) -> str:
    """The text of the model of `data` that does best on `judge`; `progress` hears of trees done and trees at most."""
    rounds = settings["rounds"]
    callbacks: list[Any] = [lgb.early_stopping(settings["patience"], verbose=False)]
    if progress:
        callbacks.append(lambda env: progress(env.iteration + 1, rounds))
    # Kept as it is in training: otherwise LightGBM drops every tree after the best one, the minimum of trees too.
    booster = lgb.train(
        without_stop(settings), data, num_boost_round=rounds, valid_sets=[judge], callbacks=callbacks,
        keep_training_booster=True,
    )  # fmt: skip
    trees = max(booster.best_iteration, min(MINIMUM_TREES, booster.current_iteration()))
    return without_machine(booster.model_to_string(num_iteration=trees))


def min_leaf_rows(rows: int) -> int:
    """Calls that a leaf must hold: calls of one caller are alike, and a leaf of a few callers tells of them alone."""
    return max(LEAST_OF_A_LEAF, rows // LEAVES_AT_MOST)


def without_machine(text: str) -> str:
    """The model's text without the one line that tells the number of threads, not the model."""
    return "\n".join(line for line in text.split("\n") if not line.startswith("[num_threads:"))


def calibrate(raw: Array, y: Array, group: Array) -> tuple[Calibration, str]:
    """Raw score to probability: logistic or isotonic, whichever has the lower log-loss across groups.

    With too few groups to compare the two it is the logistic one; with calls of one kind only, "none": the model's
    own log-odds.

    Args:
        raw: raw scores of calls that the model was not fitted on, at their natural mix.
        group: calls of one group are never on both sides of the comparison.
    """
    if len(np.unique(y)) < 2:
        return _as_fitted(raw), "none"
    splits = list(GroupKFold(FOLDS).split(raw, groups=group)) if len(np.unique(group)) >= FOLDS else []
    if not splits or any(len(np.unique(y[inside])) < 2 for inside, _ in splits):
        return _logistic(raw, y), "logistic"
    scores: dict[str, float] = {}
    for name, make in (("logistic", _logistic), ("isotonic", _isotonic)):
        held = np.empty(len(raw))
        for inside, outside in splits:
            held[outside] = make(raw[inside], y[inside]).probabilities(raw[outside])
        scores[name] = float(log_loss(y, np.clip(held, 1e-9, 1 - 1e-9), labels=[0, 1]))
    best = min(scores, key=lambda name: scores[name])
    return (_logistic if best == "logistic" else _isotonic)(raw, y), best


def _as_fitted(raw: Array) -> Calibration:
    """The logistic function itself: raw scores are log-odds of the training mix."""
    x = np.linspace(min(raw.min(initial=0.0), -20.0), max(raw.max(initial=0.0), 20.0), 200)
    return _knots(x, expit(x))


def _logistic(raw: Array, y: Array) -> Calibration:
    """Platt (1999), told as knots so that the scorer needs no formula."""
    model = LogisticRegression(C=1e6).fit(raw[:, None], y)
    x = np.linspace(raw.min() - 1.0, raw.max() + 1.0, 200)
    return _knots(x, model.predict_proba(x[:, None])[:, 1])


def _isotonic(raw: Array, y: Array) -> Calibration:
    """Zadrozny and Elkan (2002); steps joined by lines, at most 200 knots."""
    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, y)
    x, p = model.X_thresholds_, model.y_thresholds_
    some = np.unique(np.linspace(0, len(x) - 1, 200).astype(int))
    return _knots(x[some], p[some])


def _knots(x: Array, p: Array) -> Calibration:
    if len(x) == 1:  # one score for all calls: a map still needs two knots
        x, p = np.array([x[0], x[0] + 1.0]), np.repeat(p, 2)
    rising = np.concatenate([[True], np.diff(x) > 0])
    steady = np.maximum.accumulate(np.clip(p[rising], 0.0, 1.0))
    return Calibration(tuple(float(v) for v in x[rising]), tuple(float(v) for v in steady))
