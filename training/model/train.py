"""Trains a model: from folders of calls to the parts of a certified bundle, step by step.

folds, labels and vectors of each folder -> fit -> calibrate and choose thresholds -> certify -> bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict

import lightgbm as lgb
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.arrays import Array
from callsieve.features.catalogue import FEATURES, catalogue_hash
from callsieve.features.files.progress import Progress, silent
from callsieve.features.online.feeds import COMPLETE, with_lacks
from callsieve.serving.bundle.metadata import SECOND, BundleMetadata, GoldenVectors, Level
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.sources import Source, sources_of
from callsieve.training.evidence.funnel import Covered, TooFew, fewest_calls, joined_funnel, too_few

from .bands import ChosenBands, FeedFigures, caution_of, choose_bands
from .calibration import Calibrations, calibrate_models
from .certify import CONFIDENCE
from .fit import FitRows, cv_folds, lightgbm_parameters, without_stopping
from .flagged import FlagFigures
from .matrix import Matrix, feature_columns, fingerprint
from .models import Fitted, fit_all
from .pool import FolderFacts, LastFolder, Pool, gather
from .provenance import source_hash, versions
from .scores import score_pool
from .settings import Settings
from .split import days_of_records
from .trees import save_bundle

GOLDEN_ROWS = 16
MAX_LEARNT_ROWS = 200_000  # training rows that simpler models are fitted on
LIGHT_TREES = 100  # of a model that finds look-alikes


@dataclass(frozen=True, slots=True)
class FitFigures:
    """The figures of a fit that the metadata of a bundle hold; `parts` and `sides` are names of their format.

    trees: number of trees of each model. classes: of the models of content and mode. parts: number of cross-validation
    folds, of folders or else of groups (`by_folder`). calibration: name of the method. rows, sides: number of training
    rows, and their hash. feeds: the certificate of each poorer feed. flags: that of model and flags, by feed.
    """

    trees: dict[str, int]
    classes: dict[str, list[str]]
    members: int
    by_folder: bool
    parts: int
    calibration: str
    groups: int
    rows: dict[str, int]
    sides: dict[str, str]
    feeds: dict[str, FeedFigures]
    flags: dict[str, FlagFigures]


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: the parts of the bundle and everything that judging needs.

    folders: what was read. pool: the calls that were scored, with `X`, their vectors by the complete feed; the arrays
    below have one entry for each. cv_fold: the cross-validation fold of each call's folder or group.
    raw: NaN where a call was not scored; out-of-fold scores where thresholds are chosen. stratum: as `strata_of`.
    shift: by the place of a folder, the amount that `raw` is less than the raw scores of the model.
    learnt: training rows of the complete feed, for simpler models, with `learnt_fold`, their cross-validation folds;
    none in an adaptation.
    last: the last folder. learning_curve: mean loss of the members of "model" on their held-out folds, after each tree.
    """

    settings: Settings
    folders: tuple[FolderFacts, ...]
    pool: Pool
    X: Array
    cv_fold: Array
    raw: Array
    stratum: Array
    shift: Array
    learnt: FitRows
    learnt_fold: Array
    last: LastFolder
    models: dict[str, str]
    card: BundleMetadata
    golden_rows: Array
    fitted: FitFigures
    learning_curve: list[float]


def train(data: Dataset | Sequence[Source], settings: Settings, progress: Progress | None = None) -> Trained:
    """Fits the models, calibrates them, chooses thresholds and certifies them."""
    report = progress or silent
    source_hash()  # hash the source that this process runs, before files change during a long training
    gathered = gather(sources_of(data), settings, lambda what, done: report(what, 0.4 * done))
    matrix = weighted_rows(gathered.matrix, settings)
    fitted = fit_all(matrix, settings, lambda done: report("fit", 0.4 + 0.3 * done), gathered.learnt.release)
    report("score", 0.7)
    scores = score_pool(fitted, matrix, gathered, settings)
    report("certify", 0.9)
    chosen = choose_bands(
        scores.by_feed, gathered.pool, gathered.feed, caution_of(by_folder=fitted.by_folder), settings.target
    )
    calibrations = calibrate_models(scores.by_feed, gathered.pool, second=SECOND in fitted.models)
    figures = fit_figures(fitted, matrix, gathered.folders, chosen, calibrations)
    sample = sample_of(np.flatnonzero(matrix.complete), settings.seed)
    learnt = FitRows(matrix.X[sample], matrix.y[sample], matrix.weight[sample])
    gathered.learnt.release()
    X = gathered.vectors.array()
    report("certify", 1.0)
    return Trained(
        settings=settings,
        folders=gathered.folders,
        pool=gathered.pool,
        X=X,
        cv_fold=scores.cv_fold,
        raw=scores.by_feed[COMPLETE].raw,
        stratum=scores.by_feed[COMPLETE].stratum,
        learnt=learnt,
        learnt_fold=fitted.row_fold[sample],
        last=gathered.last,
        models=fitted.models,
        shift=scores.shift,
        card=make_metadata(
            gathered.folders, gathered.feed, settings, chosen, calibrations, figures, levels=scores.levels
        ),
        golden_rows=golden_rows(X, gathered.pool, feature_columns(settings.features)),
        fitted=figures,
        learning_curve=mean_curve(fitted.curves),
    )


def weighted_rows(matrix: Matrix, settings: Settings) -> Matrix:
    """Returns the training rows, without weight on those that resemble reported nuisance callers."""
    require_both("train", matrix.y)
    columns, probability = feature_columns(settings.features), settings.label_policy.unreported.look_alike
    return without_look_alikes(matrix, columns, probability, seed=settings.seed, threads=settings.threads)


def sample_of(rows: Array, seed: int) -> Array:
    """Returns at most MAX_LEARNT_ROWS random rows, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:MAX_LEARNT_ROWS])


def fit_figures(
    fitted: Fitted, matrix: Matrix, folders: Sequence[FolderFacts], chosen: ChosenBands, calibrations: Calibrations
) -> FitFigures:
    """Returns the figures of a fit."""
    return FitFigures(
        trees={name: model.count("\nTree=") for name, model in fitted.models.items()},
        classes={name: list(words) for name, words in fitted.classes.items()},
        members=len(fitted.members["model"]),
        by_folder=fitted.by_folder,
        parts=fitted.folds,
        calibration=calibrations.method,
        groups=sum(folder.groups for folder in folders),
        rows={"train": len(matrix.y)},
        sides={"train": fingerprint(matrix)},
        feeds=chosen.figures,
        flags=chosen.flags.figures,
    )


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Returns the mean of several learning curves, up to the end of the shortest.

    >>> mean_curve([[0.5, 0.25, 0.1], [0.25, 0.25]])
    [0.375, 0.25]
    """
    return [sum(values) / len(values) for values in zip(*curves, strict=False)]


def golden_rows(X: Array, pool: Pool, columns: list[int]) -> Array:
    """Returns vectors of a few calls; a bundle must reproduce their scores before it serves."""
    candidates = np.flatnonzero(pool.certify) if pool.certify.any() else np.arange(len(pool.start))
    chosen = candidates[:: max(1, len(candidates) // GOLDEN_ROWS)][:GOLDEN_ROWS]
    return np.asarray(X[chosen][:, columns])


def require_both(fold: str, y: Array) -> None:
    """Raises ValueError unless there are labelled calls of both kinds to train on."""
    nuisance = int(y.sum())
    if not 0 < nuisance < len(y):
        raise ValueError(
            f"fold {fold!r}: expected labelled benign and nuisance calls, got {len(y) - nuisance} and {nuisance}; "
            "give more days, complaints or findings, or another seed"
        )


def make_metadata(
    folders: Sequence[FolderFacts],
    feed: str,
    settings: Settings,
    chosen: ChosenBands,
    calibrations: Calibrations,
    figures: FitFigures,
    *,
    base: Mapping[str, str] | None = None,
    levels: Mapping[str, Level] | None = None,
) -> BundleMetadata:
    """Builds the metadata of a bundle. None of it depends on the machine or the time of day."""
    end = max(folder.plan.certify[1] for folder in folders)
    last, missing = (
        datetime.fromtimestamp(end / 1000, tz=UTC).replace(microsecond=0),
        missing_calls(folders, settings.target),
    )
    first = datetime.fromisoformat(settings.valid_from).replace(tzinfo=UTC) if settings.valid_from else last
    return BundleMetadata(
        features=settings.features,
        categorical={f.name: len(f.levels) for f in FEATURES if f.levels and f.name in settings.features},
        catalogue_hash=catalogue_hash(),
        calibration=calibrations.first,
        second_calibration=calibrations.second,
        thresholds=chosen.bands,
        feed=feed,
        feeds=chosen.by_feed,
        levels=levels_by_feed(feed, levels or {}, chosen),
        flags=chosen.flags.by_feed,
        label_policy=settings.label_policy.to_json(),
        training={
            "seed": settings.seed,
            "learn_from": settings.learn_from,
            "folders": [folder_entry(folder) for folder in folders],
            "settings": {
                "calls_per_number": settings.calls_per_number,
                "poorer_feeds": settings.poorer_feeds,
                "parameters": settings.parameters,
                **({} if settings.judge_seed is None else {"judge_seed": settings.judge_seed}),
            },
            "fitted": asdict(figures),
            "versions": versions(),
            **({} if base is None else {"base": dict(base)}),
            **({} if base is not None or missing is None else {"too_few": missing}),
        },
        valid_from=_utc(first),
        valid_until=_utc(first + timedelta(days=settings.valid_days)),
        epoch=settings.epoch,
        golden=GoldenVectors((), {}),
        classes={name: tuple(words) for name, words in figures.classes.items()},
    )


def levels_by_feed(own: str, levels: Mapping[str, Level], chosen: ChosenBands) -> dict[str, Level]:
    """Returns the score levels by the name of each feed that has bands."""
    named = {own if lack == COMPLETE else with_lacks(own, lack): level for lack, level in levels.items()}
    return {feed: level for feed, level in named.items() if feed in (own, *chosen.by_feed)}


def covered_calls(folders: Sequence[FolderFacts]) -> dict[str, Covered]:
    """Returns the calls of a training from all to those that judge; {} if the truth of a folder is known."""
    return joined_funnel([folder.covered for folder in folders])


def missing_calls(folders: Sequence[FolderFacts], target: float) -> TooFew | None:
    """Returns what is missing for a certificate; None if there are enough innocent calls, or the truth is known."""
    days = sum(days_of_records(folder.role, folder.plan) for folder in folders)
    return too_few(covered_calls(folders), fewest_calls(target, CONFIDENCE), days)


class FolderEntry(TypedDict):
    """A folder in the metadata of a bundle: fingerprint, role, number of groups, spans of the folds, label cutoff."""

    data: str
    role: str
    groups: int
    folds: dict[str, list[str]]
    label_cutoff: str


def folder_entry(folder: FolderFacts) -> FolderEntry:
    """Returns the entry of a folder; moments are in ISO 8601."""
    spans = {name: [_iso(t) for t in getattr(folder.plan, name)] for name in ("train", "choose", "certify")}
    return {
        "data": folder.fingerprint,
        "role": folder.role,
        "groups": folder.groups,
        "folds": spans,
        "label_cutoff": _iso(folder.plan.label_cutoff),
    }


def write_bundle(trained: Trained, folder: Path, signing_key: Ed25519PrivateKey) -> str:
    """Signs and writes the bundle; returns its model id."""
    return save_bundle(trained.card, trained.models, trained.golden_rows.tolist(), folder, signing_key)


def _iso(milliseconds: int) -> str:
    return _utc(datetime.fromtimestamp(milliseconds / 1000, tz=UTC))


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def without_look_alikes(matrix: Matrix, columns: list[int], probability: float, *, seed: int, threads: int) -> Matrix:
    """Returns the matrix with no weight on rows that are assumed innocent and resemble reported nuisance callers.

    Some nuisance numbers are never reported. Learnt as innocent, they hide how such numbers begin. So a light model of
    the other groups scores each row, and a row above `probability` teaches neither kind: Liu et al., Building Text
    Classifiers Using Positive and Unlabeled Examples (ICDM 2003), take such rows out in the same way.
    """
    if not matrix.assumed.any():
        return matrix
    fold, X, score = cv_folds(matrix.group, matrix.y, seed), matrix.X[:, columns], np.zeros(len(matrix.y))
    settings = without_stopping(lightgbm_parameters(len(score), classes=1, seed=seed, threads=threads, parameters=None))
    data = lgb.Dataset(X, matrix.y, weight=matrix.weight, params=settings, free_raw_data=False).construct()
    for held_out in range(int(fold.max()) + 1 if fold.any() else 0):
        inside = fold != held_out
        model = lgb.train(settings, data.subset(np.flatnonzero(inside)), num_boost_round=LIGHT_TREES)
        rows = np.flatnonzero(~inside & matrix.assumed)
        score[rows] = model.predict(X[rows], num_threads=threads)
    return replace(matrix, weight=np.where(matrix.assumed & (score > probability), 0.0, matrix.weight))
