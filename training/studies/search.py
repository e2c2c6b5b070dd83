"""Search for the parameters of a fit, on the training side alone.

What is searched on are the labelled calls of the groups and the stretch of time that a model is fitted on. Calls after
the label cutoff are not even read into vectors, so that neither the choosing nor the certifying fold is seen; groups
are dealt as for the training itself. A trial is fitted once for each of some parts, all groups of a part left out, and
judged by the log-loss of the calls left out.

Optuna (Akiba et al., KDD 2019) proposes; its storage is a SQLite file beside the MLflow store, so that a search that
was stopped, or killed, goes on where it stood.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from scipy.special import expit
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import StratifiedGroupKFold

from callsieve.features.catalogue import FEATURES
from callsieve.features.files.progress import silent
from callsieve.features.intake.text_columns import factorize
from callsieve.serving.bundle.booster import Booster
from callsieve.training.data.dataset import campaigns_of
from callsieve.training.model.fit import PARAMETERS, FitRows, fit, min_leaf_rows
from callsieve.training.model.folds import training_rows_by_feed
from callsieve.training.model.matrix import Matrix, build_matrix, fingerprint, training_vectors
from callsieve.training.model.parameters import write_parameters
from callsieve.training.model.split import caller_classes, fold_of_group, fold_plan, groups
from callsieve.training.model.train import feature_columns, require_both, select_columns
from callsieve.training.tracking import mlflow_write

from .figures import SearchFigures

try:
    import optuna
    from optuna.trial import TrialState
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise ImportError("a search needs Optuna: pip install 'callsieve[train]'") from error

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.features.files.progress import Progress
    from callsieve.training.data.dataset import Dataset
    from callsieve.training.model.train import Settings

    Array = npt.NDArray[Any]

STORE, RESULT = "search.db", "parameters.toml"
PARTS = 3  # of the groups, each left out once; fewer if there are fewer groups of nuisance callers
LEAVES_OF_ROWS = (1 / 3000, 1 / 50)  # calls of a leaf, at least, as a part of all


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search is about: the labelled calls, and how their groups are parted."""

    side: Matrix
    columns: list[int]
    features: tuple[str, ...]
    categorical: tuple[str, ...]
    parts: tuple[tuple[Array, Array], ...]
    name: str  # of the study: the same data, features and settings give the same


@contextmanager
def told_faults() -> Iterator[None]:
    """Faults of the file of trials, in one line.

    Raises:
        ValueError: if it cannot be read or written.
    """
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        fault = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        told = getattr(fault, "orig", fault)  # without the statement and its values
        raise ValueError(f"search: {STORE} cannot be used: {' '.join(str(told).split())}") from error


@told_faults()
def search(
    dataset: Dataset,
    settings: Settings,
    folder: Path,
    *,
    trials: int,
    minutes: float,
    uri: str,
    source: str,
    progress: Progress | None = None,
) -> SearchFigures:
    """Try parameters until `trials` are done or the time is over, those of an earlier part of the search counted.

    Args:
        folder: gets `search.db` and `parameters.toml`; may hold those of the same search, which is gone on with.
        uri: MLflow store; the search is a run there, each trial one nested in it.
    Returns: the best parameters, their log-loss and that of the shipped ones. JSON-able.
    Raises:
        ValueError: in one line, if the labels are of one kind or the groups too few.
    """
    begun, began, tell = time.time(), time.monotonic(), progress or silent
    folder.mkdir(parents=True, exist_ok=True)
    tell("features", 0.0)
    told = learning_side(dataset, settings)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(folder / STORE, told.name)
    rows = len(told.side.y)
    parent = mlflow_write.begin_search(
        uri, folder / "artifacts", told.name, "callsieve study search", begun,
        {"data": dataset.fingerprint, "source": source, "seed": settings.seed, "rows": rows, "parts": PARTS},
    )  # fmt: skip
    # Tried first, so that what is found is no worse than what is shipped.
    shipped = {"min_data_in_leaf": min_leaf_rows(rows)} | dict(PARAMETERS) | settings.parameters
    while (done := finished(study)) < trials and (done == 0 or time.monotonic() - began < 60 * minutes):
        tell(f"trial {done + 1} of at most {trials}", max(done / trials, (time.monotonic() - began) / (60 * minutes)))
        # Each trial draws anew: a search that goes on proposes what it would have proposed without the break.
        study.sampler = optuna.samplers.TPESampler(seed=settings.seed + done)
        trial, asked = study.ask(), time.time()
        parameters = shipped | (proposed(trial, rows) if done else {})
        figures = judged(told, parameters, settings)
        trial.set_user_attr("parameters", parameters)
        trial.set_user_attr("figures", figures)
        mlflow_write.nested_run(uri, parent, f"trial {trial.number}", asked, parameters, figures)
        study.tell(trial, figures["log_loss"])
    best, first = study.best_trial, min(complete_trials(study), key=lambda one: one.number)
    chosen = best.user_attrs["parameters"]
    why = (
        f"Of {finished(study)} trials on the training side alone, log-loss {best.value:.6f}; shipped {first.value:.6f}."
    )
    write_parameters(chosen, why, folder / RESULT)
    result: SearchFigures = {
        "study": told.name, "trials": finished(study), "best": best.number, "parameters": chosen,
        "figures": best.user_attrs["figures"], "shipped": first.user_attrs["figures"],
        "rows": rows, "groups": len(np.unique(told.side.group)), "run": parent, "seconds": time.monotonic() - began,
    }  # fmt: skip
    mlflow_write.end_search(
        uri, parent, {f"best_{name}": value for name, value in best.user_attrs["figures"].items()}, folder / RESULT
    )
    return result


def learning_side(dataset: Dataset, settings: Settings) -> Searched:
    """The labelled calls of the training side, and their groups in parts.

    Folds and groups are those of the whole dataset, as the training makes them; then all calls after the label cutoff
    are left out, and the truth with them.
    """
    start = dataset.calls["start"].to_numpy()
    folds = fold_plan(dataset.calls, settings.label_delay_days)
    group = groups(dataset.calls, campaigns_of(dataset))
    fold = fold_of_group(group, caller_classes(dataset.calls), settings.seed)
    caller, _ = factorize(dataset.calls["caller"])
    early = start < folds.label_cutoff
    so_far = replace(
        dataset, calls=dataset.calls.filter(pc.less(dataset.calls["start"], folds.label_cutoff)), truth=None
    )
    group, fold, caller = group[early], fold[early], caller[early]
    learnt = training_rows_by_feed(so_far, settings, caller, fold, folds)
    X = training_vectors(so_far, settings.features, settings.threads, learnt)  # noqa: N806
    side = build_matrix(X, [*learnt.values()], so_far.calls, group, caller)
    require_both("train", side.y)
    count = len(np.unique(side.group[side.y == 1]))
    if count < 2:
        raise ValueError(f"search: expected nuisance callers of 2 groups or more to learn from, got {count}")
    dealt = StratifiedGroupKFold(min(PARTS, count), shuffle=True, random_state=settings.seed)
    split = tuple(dealt.split(side.y, side.y, side.group))
    categorical = tuple(one.name for one in FEATURES if one.levels and one.name in settings.features)
    what = {"side": fingerprint(side), "features": settings.features, "seed": settings.seed, "parts": PARTS}
    name = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    return Searched(side, feature_columns(settings.features), settings.features, categorical, split, f"search {name}")


def open_study(path: Path, name: str) -> optuna.Study:
    """The study of this name in a SQLite file; trials of a search that was killed are given up."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
    known = optuna.create_study(study_name=name, storage=storage, direction="minimize", load_if_exists=True)
    for one in known.get_trials(states=(TrialState.RUNNING,)):
        known.tell(one.number, state=TrialState.FAIL)
    return known


def complete_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that were judged."""
    return study.get_trials(states=(TrialState.COMPLETE,))


def finished(study: optuna.Study) -> int:
    """How many trials were judged."""
    return len(complete_trials(study))


def proposed(trial: optuna.Trial, rows: int) -> dict[str, Any]:
    """What is searched, for a trial."""
    share = trial.suggest_float("leaf_share", *LEAVES_OF_ROWS, log=True)
    return {
        "num_leaves": trial.suggest_int("num_leaves", 4, 63, log=True),
        "min_data_in_leaf": max(20, round(share * rows)),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.1, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
    }


def judged(told: Searched, parameters: Mapping[str, Any], settings: Settings) -> dict[str, float]:
    """Log-loss and average precision over the calls that were left out, each by the models of the other parts."""
    side = told.side
    raw, trees = np.empty(len(side.y)), 0
    # A part's share of rows has a part's share of calls in a leaf.
    for inside, outside in told.parts:
        scaled = dict(parameters) | {
            "min_data_in_leaf": max(20, round(parameters["min_data_in_leaf"] * len(inside) / len(side.y)))
        }
        learn, check = (
            FitRows(select_columns(side.X[rows], told.columns), side.y[rows], side.weight[rows])
            for rows in (inside, outside)
        )
        text = fit(
            learn, check, told.features, categorical=told.categorical, seed=settings.seed, threads=settings.threads,
            parameters=scaled,
        )  # fmt: skip
        trees += text.count("\nTree=")
        raw[outside] = Booster(text).predict_raw(
            np.ascontiguousarray(check.X, dtype=np.float64), threads=settings.threads or 2
        )
    p = np.clip(expit(raw), 1e-9, 1 - 1e-9)
    return {
        "log_loss": float(log_loss(side.y, p, sample_weight=side.weight, labels=[0, 1])),
        "average_precision": float(average_precision_score(side.y, raw, sample_weight=side.weight)),
        "trees": trees / len(told.parts),
    }
