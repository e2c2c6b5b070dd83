"""Trains a model: from a data set to the parts of a certified bundle, step by step.

vectors -> folds -> labels as of the cutoff -> fit -> calibrate and choose thresholds -> certify -> bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.catalogue import FEATURES, catalogue_hash, vector_columns
from callsieve.features.files.progress import silent
from callsieve.serving.bundle.bundle import save
from callsieve.serving.bundle.forest import read_forest
from callsieve.serving.bundle.metadata import Band, BundleMetadata, Calibration, GoldenVectors
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.feeds import Feed, answered_only, complete
from callsieve.training.data.judging_labels import JudgingLabels

from .allocators import give_back
from .bands import GUARD, TARGETS, FeedScores, aligned_scores, bands_of
from .certify import certificate
from .cross_scores import cv_fold_of_calls, out_of_fold_scores
from .fit import FitRows, calibrate, cv_folds, fit, fit_members, held_out_folds, mean_model
from .folds import CallFolds, assign_folds, training_rows_by_feed
from .matrix import LabelledRows, Matrix, build_matrix, fingerprint, training_vectors
from .provenance import source_hash, versions
from .settings import Settings
from .split import Plan

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.features.files.progress import Progress

    Array = npt.NDArray[Any]

GOLDEN_ROWS = 16
MIN_CLASS_ROWS = 200
SCORED_AT_ONCE = 50_000  # calls, so that memory stays bounded


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: the parts of the bundle and everything that judging needs. Arrays have shape (calls,).

    feed: the complete feed. cv_fold: the cross-validation fold of each call's group, as `cross_scores` counts it.
    raw: NaN where a call was not scored; out-of-fold scores where thresholds are chosen. stratum: as `Feed.strata`.
    """

    dataset: Dataset
    settings: Settings
    feed: Feed
    plan: Plan
    fold: Array
    cv_fold: Array
    caller: Array
    callee: Array
    start: Array
    judged: JudgingLabels
    raw: Array
    stratum: Array
    models: dict[str, str]
    card: BundleMetadata
    golden_rows: Array
    fitted: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The fitted models and their training rows.

    members: texts of the risk model's ensemble members. held_out: the folds that each member did not train on.
    cv_fold: the cross-validation fold of each call's group, shape (calls,). rows: number of training rows.
    """

    members: list[str]
    held_out: list[tuple[int, ...]]
    models: dict[str, str]
    classes: dict[str, tuple[str, ...]]
    cv_fold: Array
    rows: int
    fingerprint: str


def train(dataset: Dataset, settings: Settings, progress: Progress | None = None) -> Trained:
    """Fits the models, calibrates them, chooses thresholds and certifies them.

    Args:
        progress: called with the step and the share that is done, 0 to 1.
    Raises:
        ValueError: in one line, if the calls are too few days, or no label fits them.
    """
    report = progress or silent
    source_hash()  # hash the source that this process runs, before files change during a long training
    report("labels", 0.0)
    folds = assign_folds(dataset, settings)
    rows = training_rows_by_feed(dataset, settings, folds.caller, folds.fold, folds.plan)
    choose, certify = folds.choose(settings.seed), folds.certify()
    in_training = np.isin(folds.group, folds.group[np.concatenate([places for places, _ in rows.values()])])
    needed = folds.needed(dataset.calls, choose, in_training)
    give_back()
    report("features", 0.05)
    fitted = fit_all(dataset, settings, folds, rows, report)
    report("features", 0.6)
    answered_feed = answered_only(dataset, settings.features, settings.threads, np.flatnonzero(choose | certify))
    complete_feed = complete(dataset, settings.features, settings.threads, np.flatnonzero(needed))
    report("score", 0.75)
    complete_scores, answered_scores = (
        FeedScores(score_feed(fitted, folds, feed, choose, settings), feed.strata(len(folds.start)))
        for feed in (complete_feed, answered_feed)
    )
    raw = complete_scores.raw
    report("certify", 0.9)
    benign = ~folds.judged.nuisance
    require_benign("train", choose & benign)
    calibration, method = calibrate(raw[choose], folds.judged.nuisance[choose], folds.group[choose])
    bands = bands_of((complete_scores, answered_scores), choose & benign, certify & benign, GUARD)
    # The bundle's metadata hold these figures; "parts" and "sides" are names of its format.
    figures: dict[str, Any] = {
        "trees": {name: text.count("\nTree=") for name, text in fitted.models.items()},
        "classes": {name: list(words) for name, words in fitted.classes.items()},
        "members": len(fitted.members),
        "parts": 1 + max(max(held_out) for held_out in fitted.held_out),
        "calibration": method,
        "groups": len(np.unique(folds.group)),
        "rows": {"train": fitted.rows},
        "sides": {"train": fitted.fingerprint},
        "answered_only": answered_certificate(answered_scores, folds, certify, bands[0]),
    }
    metadata = make_metadata(dataset, settings, folds.plan, calibration, bands, fitted.classes, figures)
    golden = golden_rows(complete_feed, certify, feature_columns(settings.features))
    report("certify", 1.0)
    return Trained(
        dataset=dataset,
        settings=settings,
        feed=complete_feed,
        plan=folds.plan,
        fold=folds.fold,
        cv_fold=fitted.cv_fold,
        caller=folds.caller,
        callee=folds.callee,
        start=folds.start,
        judged=folds.judged,
        raw=raw,
        stratum=complete_scores.stratum,
        models=fitted.models,
        card=metadata,
        golden_rows=golden,
        fitted=figures,
    )


def fit_all(
    dataset: Dataset, settings: Settings, folds: CallFolds, rows: Mapping[str, LabelledRows], report: Progress
) -> Fitted:
    """Fits all models; frees the vectors of the training rows before it returns."""
    X = training_vectors(dataset, settings.features, settings.threads, rows)  # noqa: N806
    matrix = build_matrix(X, [*rows.values()], dataset.calls, folds.group, folds.caller)
    require_both("train", matrix.y)
    report("fit", 0.2)
    row_fold = cv_folds(matrix.group, matrix.y, settings.seed)
    members, models, classes = fit_models(matrix, row_fold, settings, lambda done: report("fit", 0.2 + 0.4 * done))
    fitted = Fitted(
        members=members,
        held_out=held_out_folds(int(row_fold.max(initial=0)) + 1),
        models=models,
        classes=classes,
        cv_fold=cv_fold_of_calls(matrix.group, row_fold, folds.group),
        rows=len(matrix.y),
        fingerprint=fingerprint(matrix),
    )
    del X, matrix
    give_back()
    return fitted


def score_feed(fitted: Fitted, folds: CallFolds, feed: Feed, choose: Array, settings: Settings) -> Array:
    """Scores the calls of a feed after the label cutoff; out-of-fold where thresholds are chosen. Shape (calls,)."""
    columns, threads = feature_columns(settings.features), settings.threads
    raw = score_rows(fitted.models["model"], feed, folds.start >= folds.plan.label_cutoff, columns, threads)
    by_member = [
        score_rows(text, feed, choose & np.isin(fitted.cv_fold, held_out), columns, threads)
        for text, held_out in zip(fitted.members, fitted.held_out, strict=True)
    ]
    return out_of_fold_scores(raw, by_member, fitted.held_out, fitted.cv_fold, choose)


def answered_certificate(scores: FeedScores, folds: CallFolds, certify: Array, band: Band) -> dict[str, Any]:
    """Returns the certificate of a band on the feed of answered calls, and the catch rate there."""
    aligned = aligned_scores(scores.raw, scores.stratum, band)
    benign = aligned[certify & ~folds.judged.nuisance]
    proof = certificate("certify", benign, band.threshold, TARGETS[0][1])
    return asdict(proof) | {"catch": share_of(aligned[certify & folds.judged.nuisance], band.threshold)}


def golden_rows(feed: Feed, certify: Array, columns: list[int]) -> Array:
    """Returns vectors of a few calls; a bundle must reproduce their scores before it serves."""
    candidates = np.flatnonzero(certify) if certify.any() else feed.rows
    return feed.at(candidates[:: max(1, len(candidates) // GOLDEN_ROWS)][:GOLDEN_ROWS])[:, columns]


def feature_columns(features: tuple[str, ...]) -> list[int]:
    """Returns the places of features in the vectors that hold them. Raises ValueError for an unknown name."""
    names = vector_columns(features)
    unknown = [name for name in features if name not in names]
    if unknown:
        raise ValueError(f"features: expected names of the catalogue, got {', '.join(unknown)}")
    return [names.index(name) for name in features]


def score_rows(model: str, feed: Feed, wanted: Array, columns: list[int], threads: int) -> Array:
    """Scores the wanted calls (bool) that have a vector in the feed; NaN for all others. Shape (calls,)."""
    raw = np.full(len(wanted), np.nan)
    forest, rows = read_forest(model), feed.rows[wanted[feed.rows]]
    for begin in range(0, len(rows), SCORED_AT_ONCE):
        part = rows[begin : begin + SCORED_AT_ONCE]
        X = np.ascontiguousarray(select_columns(feed.at(part), columns))  # noqa: N806
        raw[part] = forest.predict_raw(X, threads=threads or 2)
    return raw


def share_of(raw: Array, threshold: float) -> float | None:
    """Returns the share of the scored calls that reach a threshold; None without any."""
    scored = raw[~np.isnan(raw)]
    return float((scored >= threshold).mean()) if len(scored) else None


def require_both(fold: str, y: Array) -> None:
    """Raises ValueError unless there are labelled calls of both kinds to train on."""
    nuisance = int(y.sum())
    if not 0 < nuisance < len(y):
        raise ValueError(
            f"fold {fold!r}: expected labelled benign and nuisance calls, got {len(y) - nuisance} and {nuisance}; "
            "give more days, complaints or findings, or another seed"
        )


def require_benign(fold: str, benign: Array) -> None:
    """Raises ValueError unless there are benign calls to choose a threshold on."""
    if not benign.any():
        raise ValueError(f"fold {fold!r}: expected benign calls, got none; give more days or callers, or another seed")


def fit_models(
    matrix: Matrix, row_fold: Array, settings: Settings, report: Callable[[float], None]
) -> tuple[list[str], dict[str, str], dict[str, tuple[str, ...]]]:
    """Fits the risk model, and models of content and mode where each class has enough labelled calls.

    Args:
        row_fold: cross-validation fold of each row, as from `fit.cv_folds`.
        report: called with the share of the risk model that is fitted.
    Returns: texts of the risk model's members, texts of all models, and the classes of the models of content and mode.
    """
    names, columns = settings.features, feature_columns(settings.features)
    options: dict[str, Any] = {
        "categorical": [feature.name for feature in FEATURES if feature.levels and feature.name in names],
        "seed": settings.seed,
        "threads": settings.threads,
        "parameters": settings.parameters,
    }
    rows = FitRows(select_columns(matrix.X, columns), matrix.y, matrix.weight)
    members = fit_members(rows, row_fold, names, progress=lambda share: report(0.8 * share), **options)
    models = {"model": mean_model(members)}
    classes: dict[str, tuple[str, ...]] = {}
    held_out = row_fold == 0
    for name in ("content", "mode"):
        labels = getattr(matrix, name)
        words = class_words(labels[~held_out], labels[held_out])
        if len(words) > 1:
            train_rows, valid_rows = (
                class_rows(matrix, chosen, columns, labels, words) for chosen in (~held_out, held_out)
            )
            models[name] = fit(train_rows, valid_rows, names, classes=len(words), **options)
            classes[name] = words
    return members, models, classes


def select_columns(X: Array, columns: list[int]) -> Array:  # noqa: N803
    """Returns these columns of X; X itself, without a copy, if they are all its columns."""
    return X if columns == list(range(X.shape[1])) else X[:, columns]


def class_words(train_labels: Array, valid_labels: Array) -> tuple[str, ...]:
    """Returns the classes with at least MIN_CLASS_ROWS training rows and one validation row."""
    counts = pd.Series(train_labels).value_counts()
    in_valid = set(pd.Series(valid_labels).dropna())
    return tuple(sorted(str(word) for word in counts[counts >= MIN_CLASS_ROWS].index if word in in_valid))


def class_rows(matrix: Matrix, rows: Array, columns: list[int], labels: Array, words: tuple[str, ...]) -> FitRows:
    """Returns those of the rows (bool) whose class is one of `words`, with the class's place as label."""
    code = pd.Index(words).get_indexer(pd.Index(labels))
    chosen = rows & (code >= 0)
    return FitRows(matrix.X[chosen][:, columns], code[chosen].astype(np.int64), matrix.weight[chosen])


def make_metadata(
    dataset: Dataset,
    settings: Settings,
    plan: Plan,
    calibration: Calibration,
    bands: tuple[Band, ...],
    classes: dict[str, tuple[str, ...]],
    figures: dict[str, Any],
) -> BundleMetadata:
    """Builds the metadata of a bundle. None of it depends on the machine or the time of day."""
    last = datetime.fromtimestamp(plan.certify[1] / 1000, tz=UTC).replace(microsecond=0)
    return BundleMetadata(
        features=settings.features,
        categorical={f.name: len(f.levels) for f in FEATURES if f.levels and f.name in settings.features},
        catalogue_hash=catalogue_hash(),
        calibration=calibration,
        thresholds=bands,
        label_policy=settings.label_policy.to_json(),
        training={
            "seed": settings.seed,
            "data": dataset.fingerprint,
            "folds": {name: [_iso(t) for t in getattr(plan, name)] for name in ("train", "choose", "certify")},
            "label_cutoff": _iso(plan.label_cutoff),
            "settings": {"calls_per_number": settings.calls_per_number, "parameters": settings.parameters},
            "fitted": figures,
            "versions": versions(),
        },
        valid_from=_utc(last),
        valid_until=_utc(last + timedelta(days=settings.valid_days)),
        epoch=settings.epoch,
        golden=GoldenVectors((), {}),
        classes=classes,
    )


def write_bundle(trained: Trained, folder: Path, signing_key: Ed25519PrivateKey) -> str:
    """Signs and writes the bundle; returns its model id."""
    return save(trained.card, trained.models, trained.golden_rows.tolist(), folder, signing_key)


def _iso(milliseconds: int) -> str:
    return _utc(datetime.fromtimestamp(milliseconds / 1000, tz=UTC))


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
