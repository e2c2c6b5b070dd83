"""Searches for the parameters of a fit, on the training fold alone.

The search sees the labelled calls of the groups and days that a model is fitted on. Calls after the label cutoff are
not read into vectors, so it sees neither the calibration nor the test fold. Groups are split as for the training. A
trial is cross-validated: it is fitted once for each part, with all groups of that part left out, and judged by the
log-loss of the calls left out.

Optuna (Akiba et al., KDD 2019) proposes the trials. Its storage is a SQLite file beside the MLflow store, so a search
that was stopped or killed is resumed.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow.compute as pc
from scipy.special import expit
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import StratifiedGroupKFold

from callsieve.features.arrays import Array
from callsieve.features.catalogue import FEATURES
from callsieve.features.files.progress import Progress, silent
from callsieve.serving.bundle.forest import read_forest
from callsieve.training.data.dataset import Dataset
from callsieve.training.model.fit import PARAMETERS, FitRows, fit, min_leaf_rows
from callsieve.training.model.folds import assign_folds, training_rows_by_feed
from callsieve.training.model.matrix import (
    Matrix,
    build_matrix,
    feature_columns,
    fingerprint,
    joined_matrix,
    select_columns,
    training_vectors,
)
from callsieve.training.model.settings import Parameter, Settings, write_parameters
from callsieve.training.model.train import require_both
from callsieve.training.tracking import mlflow_write

try:
    import optuna
    from optuna.trial import TrialState
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise ImportError("a search needs Optuna: pip install 'callsieve[train]'") from error

STORE, RESULT = "search.db", "parameters.toml"
PARTS = 3  # cross-validation parts; fewer if there are fewer groups of nuisance callers
LEAST_GROUPS = 6  # with nuisance calls; of fewer, all prefer one of two equal settings with a chance above 5 %
LEAF_SHARES = (1 / 3000, 1 / 50)  # range of the least calls in a leaf, as a share of all calls


class Gain(TypedDict):
    """How much lower the log-loss of the best parameters is than that of the shipped ones.

    low, high: 95 % interval over groups; that the best of several trials was chosen makes the gain look larger than it
    is. nuisance_groups: groups with nuisance calls. enough_groups: how many of them would show a gain of this size, or
    None without a gain. sure: whether the interval is above 0, with LEAST_GROUPS or more.
    """

    mean: float
    low: float
    high: float
    nuisance_groups: int
    enough_groups: int | None
    sure: bool


class SearchFigures(TypedDict):
    """The best parameters of a search, and the held-out figures of the best and of the shipped parameters."""

    study: str
    trials: int
    best: int
    parameters: dict[str, float]
    figures: dict[str, float]
    shipped: dict[str, float]
    gain: Gain
    rows: int
    groups: int
    run: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SearchData:
    """The labelled calls of a search, and the rows inside and outside each cross-validation part."""

    matrix: Matrix
    columns: list[int]
    features: tuple[str, ...]
    categorical: tuple[str, ...]
    parts: tuple[tuple[Array, Array], ...]
    name: str  # of the study; the same data, features and settings give the same name


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turns errors of the file of trials into one line.

    Raises:
        ValueError: if the file cannot be read or written.
    """
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        fault = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        cause = getattr(fault, "orig", fault)  # without the SQL statement and its values
        raise ValueError(f"search: {STORE} cannot be used: {' '.join(str(cause).split())}") from error


@storage_errors()
def search(
    dataset: Dataset,
    settings: Settings,
    folder: Path,
    *,
    trials: int,
    minutes: float,
    uri: str,
    source: str,
    progress: Progress = silent,
) -> SearchFigures:
    """Tries parameters until `trials` are done or the time is over; trials of an earlier session count.

    Args:
        folder: where `search.db` and `parameters.toml` are written; an unfinished search of the same data is resumed.
        minutes: time limit; the first trial always runs.
        uri: MLflow store; the search is a run there, and each trial a nested run.
    Returns: plain values for JSON: the best parameters, their log-loss and that of the shipped parameters.
    Raises:
        ValueError: in one line, if all labels are alike or there are too few groups.
    """
    started_at, started = time.time(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    progress("features", 0.0)
    data = training_side(dataset, settings)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(folder / STORE, data.name)
    rows = len(data.matrix.y)
    parent = mlflow_write.begin_search(
        uri,
        folder / "artifacts",
        data.name,
        "callsieve study search",
        started_at,
        {"data": dataset.fingerprint, "source": source, "seed": settings.seed, "rows": rows, "parts": PARTS},
    )
    # The shipped parameters are the first trial, so the result is never worse than they are.
    shipped = {"min_data_in_leaf": min_leaf_rows(rows)} | dict(PARAMETERS) | dict(settings.parameters)
    while (done := finished(study)) < trials and (done == 0 or time.monotonic() - started < 60 * minutes):
        progress(
            f"trial {done + 1} of at most {trials}", max(done / trials, (time.monotonic() - started) / (60 * minutes))
        )
        run_trial(study, data, settings, shipped, uri, parent)
    best, first = study.best_trial, min(complete_trials(study), key=lambda trial: trial.number)
    chosen = best.user_attrs["parameters"]
    why = (
        f"Of {finished(study)} trials on the training side alone, log-loss {best.value:.6f}; shipped {first.value:.6f}."
    )
    write_parameters(chosen, why, folder / RESULT)
    result: SearchFigures = {
        "study": data.name,
        "trials": finished(study),
        "best": best.number,
        "parameters": chosen,
        "figures": best.user_attrs["figures"],
        "shipped": first.user_attrs["figures"],
        "gain": gain_of(data.matrix, *(np.array(trial.user_attrs["losses"]) for trial in (best, first))),
        "rows": rows,
        "groups": len(np.unique(data.matrix.group)),
        "run": parent,
        "seconds": time.monotonic() - started,
    }
    mlflow_write.end_search(
        uri, parent, {f"best_{name}": value for name, value in best.user_attrs["figures"].items()}, folder / RESULT
    )
    return result


def training_side(dataset: Dataset, settings: Settings) -> SearchData:
    """Returns the labelled calls of the training fold, with their groups split into parts.

    Folds and groups are planned on the whole dataset, as a training does. Then calls after the cutoff are dropped,
    and the truth with them.
    """
    start = dataset.calls["start"].to_numpy()
    folds = assign_folds(dataset, settings)
    cutoff = folds.plan.label_cutoff
    before_cutoff = replace(dataset, calls=dataset.calls.filter(pc.less(dataset.calls["start"], cutoff)), truth=None)
    early = folds.at(np.flatnonzero(start < cutoff))
    learnt = training_rows_by_feed(before_cutoff, settings, early)
    X = training_vectors(before_cutoff, settings.features, settings.threads, learnt)
    matrix = joined_matrix([build_matrix(learnt, early.start, early.caller, early.group)], X)
    require_both("train", matrix.y)
    count = len(np.unique(matrix.group[matrix.y == 1]))
    if count < 2:
        raise ValueError(f"search: expected nuisance callers of 2 groups or more to learn from, got {count}")
    splitter = StratifiedGroupKFold(min(PARTS, count), shuffle=True, random_state=settings.seed)
    split = tuple(splitter.split(matrix.y, matrix.y, matrix.group))
    categorical = tuple(feature.name for feature in FEATURES if feature.levels and feature.name in settings.features)
    what = {"side": fingerprint(matrix), "features": settings.features, "seed": settings.seed, "parts": PARTS}
    name = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    return SearchData(
        matrix, feature_columns(settings.features), settings.features, categorical, split, f"search {name}"
    )


def open_study(path: Path, name: str) -> optuna.Study:
    """Opens or makes the study of this name in a SQLite file; trials that a killed search left running fail."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
    study = optuna.create_study(study_name=name, storage=storage, direction="minimize", load_if_exists=True)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def complete_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Returns the trials that have a result."""
    return study.get_trials(states=(TrialState.COMPLETE,))


def finished(study: optuna.Study) -> int:
    """Returns the number of trials that have a result."""
    return len(complete_trials(study))


def proposed(trial: optuna.Trial, rows: int) -> dict[str, float]:
    """Draws the parameters of a trial from their ranges."""
    share = trial.suggest_float("leaf_share", *LEAF_SHARES, log=True)
    return {
        "num_leaves": trial.suggest_int("num_leaves", 4, 63, log=True),
        "min_data_in_leaf": max(20, round(share * rows)),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.1, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
    }


def run_trial(
    study: optuna.Study, data: SearchData, settings: Settings, shipped: Mapping[str, Parameter], uri: str, parent: str
) -> None:
    """Tries the shipped parameters first, then proposed ones, and records the trial in MLflow."""
    done = finished(study)
    # One seed for each trial: a resumed search proposes what it would have proposed without the break.
    study.sampler = optuna.samplers.TPESampler(seed=settings.seed + done)
    trial, trial_start = study.ask(), time.time()
    parameters = dict(shipped) | (proposed(trial, len(data.matrix.y)) if done else {})
    figures, losses = cross_validated(data, parameters, settings)
    trial.set_user_attr("parameters", parameters)
    trial.set_user_attr("figures", figures)
    trial.set_user_attr("losses", [float(f"{loss:.6g}") for loss in losses.tolist()])
    mlflow_write.nested_run(uri, parent, f"trial {trial.number}", trial_start, parameters, figures)
    study.tell(trial, figures["log_loss"])


def cross_validated(
    data: SearchData, parameters: Mapping[str, Parameter], settings: Settings
) -> tuple[dict[str, float], Array]:
    """Returns log-loss and average precision over all calls, each scored by the model of the other parts.

    Also returns the weighted sum of the log-losses of each group, in order of its code, shape (groups,).
    """
    matrix = data.matrix
    raw, trees = np.empty(len(matrix.y)), 0
    # The least calls in a leaf shrink with the rows of the part.
    for inside, outside in data.parts:
        scaled = dict(parameters) | {
            "min_data_in_leaf": max(20, round(float(parameters["min_data_in_leaf"]) * len(inside) / len(matrix.y)))
        }
        learn, check = (
            FitRows(select_columns(matrix.X[rows], data.columns), matrix.y[rows], matrix.weight[rows])
            for rows in (inside, outside)
        )
        text = fit(
            learn,
            check,
            data.features,
            categorical=data.categorical,
            seed=settings.seed,
            threads=settings.threads,
            parameters=scaled,
        )
        trees += text.count("\nTree=")
        raw[outside] = read_forest(text).predict_raw(
            np.ascontiguousarray(check.X, dtype=np.float64), threads=settings.threads or 2
        )
    p = np.clip(expit(raw), 1e-9, 1 - 1e-9)
    losses = -np.log(np.where(matrix.y == 1, p, 1 - p)) * matrix.weight
    return {
        "log_loss": float(log_loss(matrix.y, p, sample_weight=matrix.weight, labels=[0, 1])),
        "average_precision": float(average_precision_score(matrix.y, raw, sample_weight=matrix.weight)),
        "trees": trees / len(data.parts),
    }, by_group(matrix, losses)


def by_group(matrix: Matrix, values: Array) -> Array:
    """Returns the sum of a value over the calls of each group, in order of its code."""
    return np.bincount(np.unique(matrix.group, return_inverse=True)[1], weights=values)


def gain_of(matrix: Matrix, best: Array, shipped: Array) -> Gain:
    """Returns the gain of the best parameters over the shipped ones.

    Args:
        best, shipped: log-losses by group, as from `cross_validated`.
    """
    weight, lower = by_group(matrix, matrix.weight), shipped - best
    mean, count = lower.sum() / weight.sum(), len(weight)
    # The variance of a ratio of two sums over groups.
    error = 1.96 * math.sqrt(count / (count - 1) * ((lower - mean * weight) ** 2).sum()) / weight.sum()
    nuisance = int((by_group(matrix, matrix.y) > 0).sum())
    return {
        "mean": float(mean),
        "low": float(mean - error),
        "high": float(mean + error),
        "nuisance_groups": nuisance,
        "enough_groups": max(LEAST_GROUPS, math.ceil(nuisance * (error / mean) ** 2)) if mean > 0 else None,
        "sure": bool(mean > error and nuisance >= LEAST_GROUPS),
    }
