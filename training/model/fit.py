"""Fits LightGBM models: a pure function of data, parameters and seed, with equal bytes on any number of threads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, TypedDict

import lightgbm as lgb
import numpy as np

from callsieve.features.arrays import Array
from callsieve.features.catalogue.lite import MONOTONE_SIGNS

from .settings import Parameter
from .split import fold_of_group

# Early stopping on a ranking metric stopped 2 of 120 fits on the Sichuan set at so few trees that no score passed 0.5.
# Log-loss and a minimum number of trees do not.
MINIMUM_TREES = 50
MIN_LEAF_ROWS, MAX_LEAVES = 100, 400
# LightGBM estimates by weight how many calls a split leaves on a side, and may be wrong by two orders of magnitude. A
# call weighs at most a quarter (p times 1 - p), so this weight is that of at least ten calls.
MIN_LEAF_WEIGHT = 2.5
NO_CV_FOLD = -1  # the cross-validation fold of a folder or group that no member trained on
CV_FOLDS = 5  # of the groups; each ensemble member holds out a pair of them
LEAF_VALUES = re.compile(r"(?<=\n)(leaf_value=)([^\n]*)")
PARAMETERS: Mapping[str, Parameter] = {
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
    """Rows to train or to validate on."""

    X: Array
    y: Array
    weight: Array | None = None


class Grown(NamedTuple):
    """A fitted model: LightGBM's text of it, and the loss on the validation rows after each tree."""

    text: str
    losses: list[float]


class FitOptions(TypedDict):
    """Arguments of `fit` and `fit_members` that hold for all models of a training."""

    categorical: Sequence[str]
    seed: int
    threads: int
    parameters: Mapping[str, Parameter]


def fit(
    train: FitRows,
    valid: FitRows,
    names: Sequence[str],
    *,
    categorical: Sequence[str] = (),
    classes: int = 1,
    seed: int = 0,
    threads: int = 0,
    parameters: Mapping[str, Parameter] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Fits one model; returns LightGBM's text of the iteration with the lowest log-loss on `valid`."""
    settings = lightgbm_parameters(len(train.y), classes=classes, seed=seed, threads=threads, parameters=parameters)
    settings |= constraints(names) if classes == 1 else {}
    shared = {"feature_name": list(names), "categorical_feature": list(categorical) or "auto"}
    data = lgb.Dataset(train.X, train.y, weight=train.weight, params=without_stopping(settings), **shared)
    validation = lgb.Dataset(valid.X, valid.y, weight=valid.weight, reference=data)
    with lightgbm_errors():
        return grow(data, validation, settings, progress).text


def fit_members(
    rows: FitRows,
    fold: Array,
    names: Sequence[str],
    *,
    categorical: Sequence[str] = (),
    seed: int = 0,
    threads: int = 0,
    parameters: Mapping[str, Parameter] | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Grown]:
    """Fits the ensemble members of a model. Each member stops early on its held-out folds.

    A single model overfits to some of the few callers. The mean of members that each held out other callers has a lower
    error on unseen callers: cross-validated committees (Parmanto, Munro and Doyle 1996).
    """
    settings = lightgbm_parameters(len(rows.y), classes=1, seed=seed, threads=threads, parameters=parameters)
    settings |= constraints(names)
    data = lgb.Dataset(
        rows.X, rows.y, weight=rows.weight, params=without_stopping(settings), feature_name=list(names),
        categorical_feature=list(categorical) or "auto", free_raw_data=False,
    )  # fmt: skip
    with lightgbm_errors():
        data.construct()
    held_out = [np.isin(fold, folds) for folds in held_out_folds(int(fold.max(initial=0)) + 1)]
    pairs, members = [(~chosen, chosen) for chosen in held_out], len(held_out)
    if members == 1:  # no rows are left for early stopping: grow the minimum of trees only
        pairs, settings["rounds"] = [(fold == 0, fold == 0)], min(int(settings["rounds"]), MINIMUM_TREES)
    grown = []
    for member, pair in enumerate(pairs):
        train_data, valid_data = (data.subset(np.flatnonzero(chosen)) for chosen in pair)

        def report(done: int, maximum: int, member: int = member) -> None:
            if progress:
                progress((member + done / maximum) / members)

        with lightgbm_errors():
            grown.append(grow(train_data, valid_data, settings | {"seed": seed + member}, report))
    return grown


@contextmanager
def lightgbm_errors() -> Iterator[None]:
    """Turns LightGBM's errors, such as those about a value of a parameter, into a ValueError of one line."""
    try:
        yield
    except lgb.basic.LightGBMError as error:
        raise ValueError(f"LightGBM: {' '.join(str(error).split())[:300]}") from error


def held_out_folds(folds: int) -> list[tuple[int, ...]]:
    """Returns the folds that each member holds out: each pair, so that several members score each fold unseen.

    The mean of several members is closer to the model, itself a mean, than one member is. With fewer than CV_FOLDS
    folds each member holds out one: a pair would be most of the rows.

    >>> held_out_folds(3), len(held_out_folds(5))
    ([(0,), (1,), (2,)], 10)
    """
    return list(combinations(range(folds), 2 if folds == CV_FOLDS else 1))


def cv_folds(group: Array, y: Array, seed: int) -> Array:
    """Returns the cross-validation fold of each row, 0 to CV_FOLDS - 1; a group stays in one fold.

    Groups of either label are distributed evenly. There are fewer folds if one fold would get all groups of a label,
    because the member without that fold would train on the other label alone.
    """
    codes = np.unique(group, return_inverse=True)[1]
    maximum = min(CV_FOLDS, *(len(np.unique(codes[y == label])) for label in (0, 1)))
    for count in range(maximum, 1, -1):
        fold = fold_of_group(codes, y.astype(np.int64), seed, (1 / count,) * count)
        if len(np.unique(fold)) == count and all(len(np.unique(fold[y == label])) > 1 for label in (0, 1)):
            return fold
    return np.zeros(len(y), dtype=np.int64)


def cv_fold_of_calls(row_unit: Array, row_fold: Array, unit: Array) -> Array:
    """Returns the cross-validation fold of each call's unit, NO_CV_FOLD without a training row. Shape (calls,).

    >>> cv_fold_of_calls(np.array([4, 4, 2]), np.array([1, 1, 0]), np.array([0, 2, 4, 4])).tolist()
    [-1, 0, 1, 1]
    """
    folds = np.full(int(max(unit.max(initial=-1), row_unit.max(initial=-1))) + 1, NO_CV_FOLD)
    folds[row_unit] = row_fold
    return np.asarray(folds[unit])


def mean_model(texts: Sequence[str]) -> str:
    """Merges several binary models of the same columns into one whose raw score is their mean."""
    return merged_model([(text, len(texts)) for text in texts])


def merged_model(parts: Sequence[tuple[str, int]]) -> str:
    """Merges binary models of the same columns into one whose raw score is the sum of theirs, each with its divisor."""
    first, ends = parts[0][0], "\nend of trees\n"
    header, _, _ = first.partition("\nTree=0\n")
    trees: list[str] = []
    for text, divisor in parts:
        body = text[text.index("\nTree=0\n") : text.index(ends)]
        if divisor != 1:
            body = LEAF_VALUES.sub(lambda match, by=divisor: divided(match, by), body)  # type: ignore[misc]
        trees += body.split("\nTree=")[1:]
    body = "\nTree=".join(["", *(re.sub(r"^\d+", str(place), tree) for place, tree in enumerate(trees))])
    # Without `tree_sizes` LightGBM finds the trees itself, and writes new sizes.
    whole = re.sub(r"\ntree_sizes=[^\n]*", "", header) + body + first[first.index(ends) :]
    return without_machine(lgb.Booster(model_str=whole).model_to_string())


def divided(match: re.Match[str], divisor: int) -> str:
    """Returns a line of leaf values with each value divided."""
    return match[1] + " ".join(repr(float(value) / divisor) for value in match[2].split())


def lightgbm_parameters(
    rows: int, *, classes: int, seed: int, threads: int, parameters: Mapping[str, Parameter] | None
) -> dict[str, Parameter]:
    """Returns LightGBM's parameters for so many training rows, with `rounds` and `patience` for `grow`."""
    minimums = {"min_data_in_leaf": min_leaf_rows(rows), "min_sum_hessian_in_leaf": MIN_LEAF_WEIGHT}
    settings: dict[str, Parameter] = minimums | dict(PARAMETERS) | dict(parameters or {})
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


def constraints(names: Sequence[str]) -> dict[str, Parameter]:
    """Returns monotone constraints: in a model of exactly the features of `lite`, each has its sign.

    >>> constraints(["call_hour"])
    {}
    """
    if set(names) != set(MONOTONE_SIGNS):
        return {}
    return {"monotone_constraints": ",".join(str(MONOTONE_SIGNS[name]) for name in names)}


def without_stopping(settings: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Returns the parameters that LightGBM itself reads, without those of early stopping."""
    return {name: value for name, value in settings.items() if name not in {"rounds", "patience"}}


def grow(
    data: lgb.Dataset,
    validation: lgb.Dataset,
    settings: Mapping[str, Parameter],
    progress: Callable[[int, int], None] | None,
) -> Grown:
    """Trains on `data` with early stopping on `validation`; returns the model of the best iteration."""
    losses: dict[str, dict[str, list[float]]] = {}
    rounds = int(settings["rounds"])
    callbacks: list[Callable[..., None]] = [
        lgb.early_stopping(settings["patience"], verbose=False),
        lgb.record_evaluation(losses),
    ]
    if progress:
        callbacks.append(lambda env: progress(env.iteration + 1, rounds))
    # Without keep_training_booster LightGBM drops every tree after the best one, even below the minimum of trees.
    booster = lgb.train(
        without_stopping(settings), data, num_boost_round=rounds, valid_sets=[validation], callbacks=callbacks,
        keep_training_booster=True,
    )  # fmt: skip
    trees = max(booster.best_iteration, min(MINIMUM_TREES, booster.current_iteration()))
    ((curve,),) = (metrics.values() for metrics in losses.values())
    return Grown(without_machine(booster.model_to_string(num_iteration=trees)), curve)


def min_leaf_rows(rows: int) -> int:
    """Returns the minimum rows of a leaf: calls of one caller are alike, so a small leaf may describe few callers."""
    return max(MIN_LEAF_ROWS, rows // MAX_LEAVES)


def without_machine(text: str) -> str:
    """Removes the line with the number of threads, which does not belong to the model."""
    return "\n".join(line for line in text.split("\n") if not line.startswith("[num_threads:"))
