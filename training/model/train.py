"""Calls and labels to a judged, signed bundle: the order of the steps, and nothing else.

vectors -> folds -> labels as of the cutoff -> fit -> calibrate and choose thresholds -> certify -> evaluate -> bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.catalogue import FEATURES, NAMES, catalogue_hash, vector_columns
from callsieve.features.files.progress import silent
from callsieve.serving.bundle.booster import Booster
from callsieve.serving.bundle.bundle import save
from callsieve.serving.bundle.metadata import Band, BundleMetadata, Calibration, GoldenVectors
from callsieve.training.data.dataset import Dataset, JudgingLabels
from callsieve.training.data.feeds import Feed, answered_only, complete
from callsieve.training.data.label_policy import LabelPolicy, read_label_policy

from .allocators import give_back
from .bands import GUARD, TARGETS, FeedScores, aligned_scores, bands_of
from .call_choice import needed_calls
from .certify import certificate
from .cross_scores import cv_fold_of_calls, out_of_fold_scores
from .fit import FitRows, calibrate, cv_folds, fit, fit_members, held_out_folds, mean_model
from .folds import CallFolds, assign_folds, training_rows_by_feed
from .matrix import LabelledRows, Matrix, build_matrix, fingerprint, training_vectors
from .provenance import source_hash, versions
from .split import Plan

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.features.files.progress import Progress

    Array = npt.NDArray[Any]

GOLDEN_ROWS = 16
LEAST_OF_A_CLASS = 200
SCORED_AT_ONCE = 50_000  # calls, so that memory stays bounded


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run may vary; everything else follows from the calls.

    >>> Settings(seed=1).label_delay_days
    3
    """

    seed: int = 0
    threads: int = 0
    calls_per_number: int = 24
    label_delay_days: int = 3
    valid_days: int = 90
    epoch: int = 1
    features: tuple[str, ...] = NAMES  # of the model, in their order; those of `features.reports` only if named here
    label_policy: LabelPolicy = field(default_factory=read_label_policy)
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises: TypeError, ValueError: in one line, for what a training would stumble over only after hours."""
        for name in ("seed", "threads", "calls_per_number", "label_delay_days", "valid_days", "epoch"):
            value = getattr(self, name)
            if type(value) is not int:
                raise TypeError(f"{name} must be a whole number, got {type(value).__name__}")
            if value < 0:
                raise ValueError(f"{name} must be 0 or more, got {value}")
        if isinstance(self.features, str):
            raise TypeError(f"features must be a tuple of names, got the text {self.features!r}")


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: the bundle's parts and all that judging needs."""

    dataset: Dataset
    settings: Settings
    feed: Feed  # the complete one
    plan: Plan
    fold: Array
    part: Array  # of each call's group among those that members learnt from, as `crossing.cv_fold_of_calls`
    caller: Array
    callee: Array
    start: Array
    judged: JudgingLabels
    raw: Array  # NaN where a call was not scored; where thresholds are chosen, as `crossing.out_of_fold_scores`
    stratum: Array  # of each call, as `Feed.strata`
    models: dict[str, str]
    card: BundleMetadata
    golden_rows: Array
    fitted: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came out of the learning side, and what it was."""

    members: list[str]  # of the risk model
    missed: list[tuple[int, ...]]  # the parts that each did not learn from
    models: dict[str, str]
    classes: dict[str, tuple[str, ...]]
    part: Array  # of each call's group, as `crossing.cv_fold_of_calls`
    rows: int
    fingerprint: str


def train(dataset: Dataset, settings: Settings, progress: Progress | None = None) -> Trained:
    """Fit, calibrate, choose thresholds and certify them.

    Args:
        progress: told what is done and the part of it that is done, 0 to 1.
    Raises:
        ValueError: in one line, if the calls are too few days, or no label fits them.
    """
    tell = progress or silent
    source_hash()  # of the files that this process has read, and not of what they are changed to meanwhile
    tell("labels", 0.0)
    sides = assign_folds(dataset, settings)
    learnt = training_rows_by_feed(dataset, settings, sides.caller, sides.fold, sides.plan)
    choose, certify = sides.choose(settings.seed), sides.certify()
    of_learnt = np.isin(sides.group, sides.group[np.concatenate([rows for rows, _ in learnt.values()])])
    looked_at = needed_calls(dataset.calls, sides, choose, of_learnt)
    give_back()
    tell("features", 0.05)
    found = fitted(dataset, settings, sides, learnt, tell)
    tell("features", 0.6)
    poorer = answered_only(dataset, settings.features, settings.threads, np.flatnonzero(choose | certify))
    whole = complete(dataset, settings.features, settings.threads, np.flatnonzero(looked_at))
    tell("score", 0.75)
    told_whole, told_poorer = (
        FeedScores(scored_by_others(found, sides, feed, choose, settings), feed.strata(len(sides.start)))
        for feed in (whole, poorer)
    )
    raw = told_whole.raw
    tell("certify", 0.9)
    benign = ~sides.judged.nuisance
    require_benign("train", choose & benign)
    calibration, method = calibrate(raw[choose], sides.judged.nuisance[choose], sides.group[choose])
    bands = bands_of((told_whole, told_poorer), choose & benign, certify & benign, GUARD)
    told: dict[str, Any] = {
        "trees": {name: text.count("\nTree=") for name, text in found.models.items()},
        "classes": {name: list(words) for name, words in found.classes.items()},
        "members": len(found.members),
        "parts": 1 + max(max(parts) for parts in found.missed),
        "calibration": method,
        "groups": len(np.unique(sides.group)),
        "rows": {"train": found.rows},
        "sides": {"train": found.fingerprint},
        "answered_only": on_poorer_feed(told_poorer, sides, certify, bands[0]),
    }
    card = make_card(dataset, settings, sides.plan, calibration, bands, found.classes, told)
    golden = golden_rows(whole, certify, feature_columns(settings.features))
    tell("certify", 1.0)
    return Trained(
        dataset, settings, whole, sides.plan, sides.fold, found.part, sides.caller, sides.callee, sides.start,
        sides.judged, raw, told_whole.stratum, found.models, card, golden, told,
    )  # fmt: skip


def fitted(
    dataset: Dataset, settings: Settings, sides: CallFolds, learnt: Mapping[str, LabelledRows], tell: Progress
) -> Fitted:
    """The models; of the vectors that they learnt from nothing is left in memory."""
    X = training_vectors(dataset, settings.features, settings.threads, learnt)  # noqa: N806
    side = build_matrix(X, [*learnt.values()], dataset.calls, sides.group, sides.caller)
    require_both("train", side.y)
    tell("fit", 0.2)
    part = cv_folds(side.group, side.y, settings.seed)
    members, models, classes = fit_models(side, part, settings, lambda done: tell("fit", 0.2 + 0.4 * done))
    of_calls = cv_fold_of_calls(side.group, part, sides.group)
    missed = held_out_folds(int(part.max(initial=0)) + 1)
    found = Fitted(members, missed, models, classes, of_calls, len(side.y), fingerprint(side))
    del X, side
    give_back()
    return found


def scored_by_others(found: Fitted, sides: CallFolds, feed: Feed, choose: Array, settings: Settings) -> Array:
    """Raw scores over all calls, where thresholds are chosen by members that did not see a call's group."""
    columns, threads = feature_columns(settings.features), settings.threads
    every = score_rows(found.models["model"], feed, sides.start >= sides.plan.label_cutoff, columns, threads)
    by_member = [
        score_rows(text, feed, choose & np.isin(found.part, parts), columns, threads)
        for text, parts in zip(found.members, found.missed, strict=True)
    ]
    return out_of_fold_scores(every, by_member, found.missed, found.part, choose)


def on_poorer_feed(feed: FeedScores, sides: CallFolds, certify: Array, band: Band) -> dict[str, Any]:
    """The certificate of a band where only answered calls are known, and what it catches there."""
    held = aligned_scores(feed.raw, feed.stratum, band)
    proof = certificate("certify", held[certify & ~sides.judged.nuisance], band.threshold, TARGETS[0][1])
    return asdict(proof) | {"catch": share_of(held[certify & sides.judged.nuisance], band.threshold)}


def golden_rows(feed: Feed, certify: Array, columns: list[int]) -> Array:
    """Vectors of a few calls, whose scores a bundle must reproduce before it serves."""
    shown = np.flatnonzero(certify) if certify.any() else feed.rows
    return feed.at(shown[:: max(1, len(shown) // GOLDEN_ROWS)][:GOLDEN_ROWS])[:, columns]


def feature_columns(features: tuple[str, ...]) -> list[int]:
    """Where these features stand in the vectors that hold them."""
    names = vector_columns(features)
    unknown = [name for name in features if name not in names]
    if unknown:
        raise ValueError(f"features: expected names of the catalogue, got {', '.join(unknown)}")
    return [names.index(name) for name in features]


def score_rows(model: str, feed: Feed, later: Array, columns: list[int], threads: int) -> Array:
    """Raw scores over all calls: of those that come `later` and whose vectors the feed holds; NaN for the others."""
    raw = np.full(len(later), np.nan)
    booster, rows = Booster(model), feed.rows[later[feed.rows]]
    for begin in range(0, len(rows), SCORED_AT_ONCE):
        some = rows[begin : begin + SCORED_AT_ONCE]
        raw[some] = booster.predict_raw(
            np.ascontiguousarray(select_columns(feed.at(some), columns)), threads=threads or 2
        )
    return raw


def share_of(raw: Array, threshold: float) -> float | None:
    """Share of the scored calls that reach a threshold; None without any."""
    told = raw[~np.isnan(raw)]
    return float((told >= threshold).mean()) if len(told) else None


def require_both(fold: str, y: Array) -> None:
    """Raise `ValueError` unless labelled calls of both kinds are there to learn from."""
    nuisance = int(y.sum())
    if not 0 < nuisance < len(y):
        raise ValueError(
            f"fold {fold!r}: expected labelled benign and nuisance calls, got {len(y) - nuisance} and {nuisance}; "
            "give more days, reports or findings, or another seed"
        )


def require_benign(fold: str, benign: Array) -> None:
    """Raise `ValueError` unless there are benign calls to choose a threshold on."""
    if not benign.any():
        raise ValueError(f"fold {fold!r}: expected benign calls, got none; give more days or callers, or another seed")


def fit_models(
    side: Matrix, part: Array, settings: Settings, tell: Callable[[float], None]
) -> tuple[list[str], dict[str, str], dict[str, tuple[str, ...]]]:
    """Members of the risk model; it and the models of content and mode where enough of each class is known; classes.

    Args:
        part: of each row, as from `cv_folds`.
    """
    names, columns = settings.features, feature_columns(settings.features)
    fixed: dict[str, Any] = {
        "categorical": [feature.name for feature in FEATURES if feature.levels and feature.name in names],
        "seed": settings.seed,
        "threads": settings.threads,
        "parameters": settings.parameters,
    }
    learn = FitRows(select_columns(side.X, columns), side.y, side.weight)
    members = fit_members(learn, part, names, progress=lambda share: tell(0.8 * share), **fixed)
    models = {"model": mean_model(members)}
    classes: dict[str, tuple[str, ...]] = {}
    held = part == 0
    for name in ("content", "mode"):
        told = getattr(side, name)
        words = class_words(told[~held], told[held])
        if len(words) > 1:
            inside, outside = (class_part(side, rows, columns, told, words) for rows in (~held, held))
            models[name] = fit(inside, outside, names, classes=len(words), **fixed)
            classes[name] = words
    return members, models, classes


def select_columns(X: Array, columns: list[int]) -> Array:  # noqa: N803
    """These columns of X; X itself if they are all there are: it may be large."""
    return X if columns == list(range(X.shape[1])) else X[:, columns]


def class_words(learn: Array, check: Array) -> tuple[str, ...]:
    """Classes with enough labelled calls on the training side and at least one on the other."""
    counts = pd.Series(learn).value_counts()
    other = set(pd.Series(check).dropna())
    return tuple(sorted(str(word) for word in counts[counts >= LEAST_OF_A_CLASS].index if word in other))


def class_part(side: Matrix, rows: Array, columns: list[int], told: Array, words: tuple[str, ...]) -> FitRows:
    """Those of the rows (bool) whose class, as told of each, is one of `words`."""
    code = pd.Index(words).get_indexer(pd.Index(told))
    kept = rows & (code >= 0)
    return FitRows(side.X[kept][:, columns], code[kept].astype(np.int64), side.weight[kept])


def make_card(
    dataset: Dataset,
    settings: Settings,
    folds: Plan,
    calibration: Calibration,
    bands: tuple[Band, ...],
    classes: dict[str, tuple[str, ...]],
    fitted: dict[str, Any],
) -> BundleMetadata:
    """What the bundle says of itself. Nothing in it depends on the machine or on the time of day."""
    last = datetime.fromtimestamp(folds.certify[1] / 1000, tz=UTC).replace(microsecond=0)
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
            "folds": {name: [_iso(t) for t in getattr(folds, name)] for name in ("train", "choose", "certify")},
            "label_cutoff": _iso(folds.label_cutoff),
            "settings": {"calls_per_number": settings.calls_per_number, "parameters": settings.parameters},
            "fitted": fitted,
            "versions": versions(),
        },
        valid_from=_utc(last),
        valid_until=_utc(last + timedelta(days=settings.valid_days)),
        epoch=settings.epoch,
        golden=GoldenVectors((), {}),
        classes=classes,
    )


def write_bundle(trained: Trained, folder: Path, signing_key: Ed25519PrivateKey) -> str:
    """Sign and write the bundle; its model id."""
    return save(trained.card, trained.models, trained.golden_rows.tolist(), folder, signing_key)


def _iso(milliseconds: int) -> str:
    return _utc(datetime.fromtimestamp(milliseconds / 1000, tz=UTC))


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
