"""Trains a model: from folders of calls to the parts of a certified bundle, step by step.

folds, labels and vectors of each folder -> fit -> calibrate and choose thresholds -> certify -> bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.arrays import Array
from callsieve.features.catalogue import FEATURES, catalogue_hash
from callsieve.features.files.progress import silent
from callsieve.features.online.feeds import COMPLETE
from callsieve.serving.bundle.bundle import save
from callsieve.serving.bundle.metadata import SECOND, Band, BundleMetadata, Calibration, GoldenVectors
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.sources import Source, sources_of
from callsieve.training.own.own_estimator import RiskModel, fit_own_members

from .allocators import give_back
from .bands import bands_of, bands_of_other_feeds, caution_of, feed_figures
from .fit import (
    CV_FOLDS,
    FitRows,
    Fitted,
    calibrate,
    cv_folds,
    fit,
    fit_members,
    held_out_folds,
    mean_of,
)
from .matrix import Matrix, class_rows, class_words, fingerprint, without_look_alikes
from .pool import FolderFacts, LastFolder, Pool, gather
from .provenance import source_hash, versions
from .scores import (
    beats_commonest_class,
    calibrate_second,
    cv_fold_of_calls,
    feature_columns,
    scores_by_feed,
    select_columns,
)
from .settings import Settings

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

    from .pool import Gathered


GOLDEN_ROWS = 16
MAX_LEARNT_ROWS = 200_000  # training rows that simpler models are fitted on


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: the parts of the bundle and everything that judging needs.

    folders: what was read. pool: the calls that were scored, with `X`, their vectors by the complete feed; the arrays
    below have one entry for each. cv_fold: the cross-validation fold of each call's folder or group.
    raw: NaN where a call was not scored; out-of-fold scores where thresholds are chosen. stratum: as `strata_of`.
    learnt: training rows of the complete feed, for simpler models, with `learnt_fold`, their cross-validation folds.
    last: the last folder. curves: as in `fit.Fitted`.
    """

    settings: Settings
    folders: tuple[FolderFacts, ...]
    pool: Pool
    X: Array
    cv_fold: Array
    raw: Array
    stratum: Array
    learnt: FitRows
    learnt_fold: Array
    last: LastFolder
    models: dict[str, RiskModel]
    card: BundleMetadata
    golden_rows: Array
    fitted: dict[str, Any]
    curves: list[list[float]] = field(default_factory=list)


def train(data: Dataset | Sequence[Source], settings: Settings, progress: Progress | None = None) -> Trained:
    """Fits the models, calibrates them, chooses thresholds and certifies them.

    Args:
        data: a data set, both to learn from and to certify on; or the folders of a training, read one at a time.
        progress: called with the step and the share that is done, 0 to 1.
    Raises:
        ValueError: in one line, if the calls are too few days, or no label fits them.
    """
    report = progress or silent
    source_hash()  # hash the source that this process runs, before files change during a long training
    gathered = gather(sources_of(data), settings, lambda what, done: report(what, 0.4 * done))
    matrix, pool = gathered.matrix, gathered.pool
    require_both("train", matrix.y)
    matrix = without_look_alikes(
        matrix,
        feature_columns(settings.features),
        settings.label_policy.unreported_look_alike,
        seed=settings.seed,
        threads=settings.threads,
    )
    fitted = fit_all(matrix, settings, lambda done: report("fit", 0.4 + 0.3 * done), gathered.learnt.release)
    units = "folder" if fitted.by_folder else "group"
    cv_fold = cv_fold_of_calls(getattr(matrix, units), fitted.row_fold, getattr(pool, units))
    report("score", 0.7)
    scored_by_feed = scores_by_feed(fitted, gathered, cv_fold, settings)
    raw = scored_by_feed[COMPLETE].raw
    report("certify", 0.9)
    benign = ~pool.judged.nuisance
    require_benign("train", pool.choose & benign)
    calibration, method = calibrate(raw[pool.choose], pool.judged.nuisance[pool.choose], pool.group[pool.choose])
    second_calibration = None
    if SECOND in fitted.models:
        second_calibration = calibrate_second(scored_by_feed, pool)
    caution = caution_of(by_folder=fitted.by_folder)
    bands_by_feed = {
        name: bands_of((scores,), pool.choose & benign, pool.certify & benign, caution)
        for name, scores in scored_by_feed.items()
    }
    bands = bands_by_feed.pop(COMPLETE)
    feed_bands = bands_of_other_feeds(gathered.feed, bands_by_feed)
    # The bundle's metadata hold these figures; "parts" and "sides" are names of its format.
    figures: dict[str, Any] = {
        "trees": {name: model.count("\nTree=") for name, model in fitted.models.items() if isinstance(model, str)},
        "classes": {name: list(words) for name, words in fitted.classes.items()},
        "members": len(fitted.members["model"]),
        "by_folder": fitted.by_folder,
        "parts": 1 + max(max(held_out) for held_out in fitted.held_out),
        "calibration": method,
        "groups": sum(folder.groups for folder in gathered.folders),
        "rows": {"train": len(matrix.y)},
        "sides": {"train": fingerprint(matrix)},
        "feeds": {name: feed_figures(scored_by_feed[name], pool, feed[0]) for name, feed in bands_by_feed.items()},
    }
    metadata = replace(
        make_metadata(gathered, settings, calibration, bands, feed_bands, fitted.classes, figures),
        second_calibration=second_calibration,
    )
    learnt_rows = np.flatnonzero(matrix.complete)
    sample = np.sort(np.random.default_rng(settings.seed).permutation(learnt_rows)[:MAX_LEARNT_ROWS])
    learnt = FitRows(matrix.X[sample], matrix.y[sample], matrix.weight[sample])
    gathered.learnt.release()
    X = gathered.vectors.array()
    report("certify", 1.0)
    return Trained(
        settings=settings,
        folders=gathered.folders,
        pool=pool,
        X=X,
        cv_fold=cv_fold,
        raw=raw,
        stratum=scored_by_feed[COMPLETE].stratum,
        learnt=learnt,
        learnt_fold=fitted.row_fold[sample],
        last=gathered.last,
        models=fitted.models,
        card=metadata,
        golden_rows=golden_rows(X, pool, feature_columns(settings.features)),
        fitted=figures,
        curves=fitted.curves,
    )


def fit_all(matrix: Matrix, settings: Settings, report: Callable[[float], None], release: Callable[[], None]) -> Fitted:
    """Fits all models, cross-validated by folder if there are enough folders, else by group.

    Args:
        report, release: as in `fit_models`.
    """
    by_folder = len(np.unique(matrix.folder)) >= CV_FOLDS
    unit, first = matrix.folder if by_folder else matrix.group, matrix.complete
    fold = cv_folds(unit[first], matrix.y[first], settings.seed)
    row_fold = np.maximum(cv_fold_of_calls(unit[first], fold, unit), 0)  # both models hold out the same units
    curves: list[list[float]] = []
    members, models, classes = fit_models(matrix, row_fold, settings, report, release, curves)
    give_back()
    return Fitted(
        members=members,
        held_out=held_out_folds(int(row_fold.max(initial=0)) + 1),
        models=models,
        classes=classes,
        row_fold=row_fold,
        by_folder=by_folder,
        curves=curves,
    )


def fit_models(
    matrix: Matrix,
    row_fold: Array,
    settings: Settings,
    report: Callable[[float], None],
    release: Callable[[], None],
    curves: list[list[float]] | None = None,
) -> tuple[dict[str, list[RiskModel]], dict[str, RiskModel], dict[str, tuple[str, ...]]]:
    """Fits the risk models, and models of content and mode where each class has enough labelled calls.

    A model of content or mode that is right no more often than the commonest class is left out.

    Args:
        row_fold: cross-validation fold of each row, as from `fit.cv_folds`.
        report: called with the share of the risk models that is fitted.
        release: called whenever rows of the matrix were copied, so that the matrix needs no memory during a fit.
        curves: gets the curves of `Fitted`.
    Returns: the members of each risk model, all models, and the classes of the models of content and mode.
    """
    names, columns = settings.features, feature_columns(settings.features)
    options: dict[str, Any] = {
        "categorical": [feature.name for feature in FEATURES if feature.levels and feature.name in names],
        "seed": settings.seed,
        "threads": settings.threads,
        "parameters": settings.parameters,
    }
    rows_of = {"model": matrix.complete, SECOND: ~matrix.complete}
    held_out_by_member = held_out_folds(int(row_fold.max(initial=0)) + 1)
    members: dict[str, list[RiskModel]] = {}
    for place, (name, chosen) in enumerate(rows_of.items()):
        if chosen.any():
            own = np.flatnonzero(chosen)
            rows = FitRows(select_columns(matrix.X[own], columns), matrix.y[own], matrix.weight[own])
            release()
            shift = partial(_later, report, place)
            if settings.estimator:
                own_rows, categorical = (rows.X, rows.y, rows.weight), options["categorical"]
                members[name] = fit_own_members(
                    str(settings.estimator), own_rows, row_fold[own], held_out_by_member, names, categorical,
                    settings.seed, shift,
                )  # fmt: skip
                del own_rows
            else:
                members[name] = [
                    *fit_members(
                        rows, row_fold[own], names, progress=shift, curves=None if place else curves, **options
                    )
                ]
            del rows
            give_back()
    models = {name: mean_of(parts) for name, parts in members.items()}
    classes: dict[str, tuple[str, ...]] = {}
    held_out = row_fold == 0
    for name in ("content", "mode"):
        labels = getattr(matrix, name)
        words = class_words(labels[~held_out], labels[held_out])
        if len(words) > 1:
            train_rows, valid_rows = (
                class_rows(matrix, chosen, columns, labels, words) for chosen in (~held_out, held_out)
            )
            release()
            model = fit(train_rows, valid_rows, names, classes=len(words), **options)
            if beats_commonest_class(model, valid_rows):
                models[name], classes[name] = model, words
    return members, models, classes


def _later(report: Callable[[float], None], place: int, share: float) -> None:
    """Reports the progress of one of two risk models."""
    report(0.4 * (place + share))


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


def require_benign(fold: str, benign: Array) -> None:
    """Raises ValueError unless there are benign calls to choose a threshold on."""
    if not benign.any():
        raise ValueError(f"fold {fold!r}: expected benign calls, got none; give more days or callers, or another seed")


def make_metadata(
    gathered: Gathered,
    settings: Settings,
    calibration: Calibration,
    bands: tuple[Band, ...],
    feed_bands: dict[str, tuple[Band, ...]],
    classes: dict[str, tuple[str, ...]],
    figures: dict[str, Any],
) -> BundleMetadata:
    """Builds the metadata of a bundle. None of it depends on the machine or the time of day."""
    end = max(folder.plan.certify[1] for folder in gathered.folders)
    last = datetime.fromtimestamp(end / 1000, tz=UTC).replace(microsecond=0)
    first = datetime.fromisoformat(settings.valid_from).replace(tzinfo=UTC) if settings.valid_from else last
    return BundleMetadata(
        features=settings.features,
        categorical={f.name: len(f.levels) for f in FEATURES if f.levels and f.name in settings.features},
        catalogue_hash=catalogue_hash(),
        calibration=calibration,
        thresholds=bands,
        feed=gathered.feed,
        feeds=feed_bands,
        label_policy=settings.label_policy.to_json(),
        training={
            "seed": settings.seed,
            "learn_from": settings.learn_from,
            "folders": [folder_entry(folder) for folder in gathered.folders],
            "settings": {
                "calls_per_number": settings.calls_per_number,
                "poorer_feeds": settings.poorer_feeds,
                "parameters": settings.parameters,
                **({} if settings.judge_seed is None else {"judge_seed": settings.judge_seed}),
            },
            "fitted": figures,
            "versions": versions(),
        },
        valid_from=_utc(first),
        valid_until=_utc(first + timedelta(days=settings.valid_days)),
        epoch=settings.epoch,
        golden=GoldenVectors((), {}),
        classes=classes,
    )


def folder_entry(folder: FolderFacts) -> dict[str, Any]:
    """Returns the entry of a folder in the metadata of a bundle: fingerprint, role, groups and spans."""
    spans = {name: [_iso(t) for t in getattr(folder.plan, name)] for name in ("train", "choose", "certify")}
    return {
        "data": folder.fingerprint,
        "role": folder.role,
        "groups": folder.groups,
        "folds": spans,
        "label_cutoff": _iso(folder.plan.label_cutoff),
    }


def write_bundle(trained: Trained, folder: Path, signing_key: Ed25519PrivateKey) -> str:
    """Signs and writes the bundle; returns its model id.

    Raises:
        ValueError: if a model is not LightGBM's.
    """
    texts = {name: model for name, model in trained.models.items() if isinstance(model, str)}
    if len(texts) < len(trained.models):
        raise ValueError(
            f"estimator {trained.settings.estimator}: only a forest of LightGBM can be signed into a bundle"
        )
    return save(trained.card, texts, trained.golden_rows.tolist(), folder, signing_key)


def _iso(milliseconds: int) -> str:
    return _utc(datetime.fromtimestamp(milliseconds / 1000, tz=UTC))


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
