"""Calls and labels to a judged, signed bundle: the order of the steps, and nothing else.

vectors -> folds -> labels as of the cutoff -> fit -> calibrate and choose thresholds -> certify -> evaluate -> bundle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..features.catalogue import FEATURES, NAMES, catalogue_hash, columns_for
from ..serving.booster import Booster
from ..serving.bundle import save
from ..serving.card import Band, Calibration, Card, Golden
from .allocators import give_back
from .bands import GUARD, TARGETS, bands_of, spoken_of
from .certify import certificate
from .crossing import crossed, part_of_calls
from .dataset import Dataset, build, fingerprint, labelled, learnt_vectors
from .evidence import Evidence, Judged, campaigns_of, judged
from .exclusions import labels_to_learn
from .feeds import Feed, answered, answered_only, complete
from .fit import Part, calibrate, fit, mean_of, members_of, parts_of
from .label_policy import LabelPolicy, read_label_policy
from .provenance import versions
from .scope import choosing, needed, rows_of
from .split import Plan, caller_classes, codes, fold_of_group, groups, plan
from .steps import silent

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]

Progress = Callable[[str, float], None]

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


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: the bundle's parts and all that judging needs."""

    evidence: Evidence
    settings: Settings
    feed: Feed  # the complete one
    plan: Plan
    fold: Array
    part: Array  # of each call's group among those that members learnt from, as `crossing.part_of_calls`
    caller: Array
    callee: Array
    start: Array
    judged: Judged
    raw: Array  # NaN where a call was not scored; where thresholds are chosen, as `crossing.crossed`
    kind: Array  # class of each call's caller, as `split.caller_classes`
    models: dict[str, str]
    card: Card
    golden_rows: Array
    fitted: dict[str, Any]


def train(evidence: Evidence, settings: Settings, progress: Progress | None = None) -> Trained:
    """Fit, calibrate, choose thresholds and certify them.

    Args:
        progress: told what is done and the part of it that is done, 0 to 1.
    Raises:
        ValueError: in one line, if the calls are too few days, or no label fits them.
    """
    tell = progress or silent
    calls = evidence.calls
    start = calls["start"].to_numpy()
    (caller, _), (callee, _) = codes(calls["caller"]), codes(calls["callee"])
    folds = plan(int(start.min()), int(start.max()), label_delay_days=settings.label_delay_days)
    group, kind = groups(calls, campaigns_of(evidence)), caller_classes(calls)
    fold = fold_of_group(group, kind, settings.seed)
    tell("labels", 0.0)
    known = judged(evidence, caller, settings.label_policy)
    labels = labels_of(evidence, settings, folds)
    learnt = {
        name: learnt_rows(calls, labels, settings, told, caller, fold, folds)
        for name, told in (("complete", np.arange(len(start))), ("answered only", answered(calls)))
    }
    choose = choosing(folds, fold, start, settings.seed) & known.known
    certify = rows_of("certify", folds.certify, fold, start) & known.known
    of_learnt = np.isin(group, group[np.concatenate([rows for rows, _ in learnt.values()])])
    looked_at = needed(calls, folds, fold, caller, known, choose, of_learnt)
    give_back()
    tell("features", 0.05)
    X = learnt_vectors(evidence, settings.features, settings.threads, learnt)  # noqa: N806
    side = build(X, [*learnt.values()], calls, group, caller)
    require_both("train", side.y)
    tell("fit", 0.2)
    learnt_part = parts_of(side.group, side.y, settings.seed)
    part = part_of_calls(side.group, learnt_part, group)
    members, models, classes = fit_models(side, learnt_part, settings, lambda done: tell("fit", 0.2 + 0.4 * done))
    fitted_on = {"rows": {"train": len(side.y)}, "sides": {"train": fingerprint(side)}}
    del X, side
    give_back()
    tell("features", 0.6)
    poorer = answered_only(evidence, settings.features, settings.threads, np.flatnonzero(choose | certify))
    whole = complete(evidence, settings.features, settings.threads, np.flatnonzero(looked_at))
    columns = places(settings.features)
    tell("score", 0.75)
    later = start >= folds.label_cutoff
    raw, raw_poorer = (
        crossed(
            scored(models["model"], feed, later, columns, settings.threads),
            [scored(text, feed, choose & (part == i), columns, settings.threads) for i, text in enumerate(members)],
            part, choose,
        )
        for feed in (whole, poorer)
    )  # fmt: skip
    tell("certify", 0.9)
    benign, nuisance = certify & ~known.nuisance, certify & known.nuisance
    require_benign("train", choose & ~known.nuisance)
    calibration, method = calibrate(raw[choose], known.nuisance[choose], group[choose])
    bands = bands_of((raw, raw_poorer), choose & ~known.nuisance, benign, kind, GUARD)
    poorer_held = spoken_of(raw_poorer, kind, bands[0])
    found = certificate("certify", poorer_held[benign], bands[0].threshold, TARGETS[0][1])
    fitted: dict[str, Any] = {
        "trees": {name: text.count("\nTree=") for name, text in models.items()},
        "classes": {name: list(words) for name, words in classes.items()},
        "members": len(members),
        "calibration": method,
        "groups": len(np.unique(group)),
        **fitted_on,
        "answered_only": asdict(found) | {"catch": share_of(poorer_held[nuisance], bands[0].threshold)},
    }
    card = make_card(evidence, settings, folds, calibration, bands, classes, fitted)
    shown = np.flatnonzero(certify) if certify.any() else whole.rows
    golden = whole.at(shown[:: max(1, len(shown) // GOLDEN_ROWS)][:GOLDEN_ROWS])[:, columns]
    tell("certify", 1.0)
    return Trained(
        evidence, settings, whole, folds, fold, part, caller, callee, start, known, raw, kind, models, card, golden,
        fitted,
    )  # fmt: skip


def places(features: tuple[str, ...]) -> list[int]:
    """Where these features stand in the vectors that hold them."""
    names = columns_for(features)
    unknown = [name for name in features if name not in names]
    if unknown:
        raise ValueError(f"features: expected names of the catalogue, got {', '.join(unknown)}")
    return [names.index(name) for name in features]


def scored(model: str, feed: Feed, later: Array, columns: list[int], threads: int) -> Array:
    """Raw scores over all calls: of those that come `later` and whose vectors the feed holds; NaN for the others."""
    raw = np.full(len(later), np.nan)
    booster, rows = Booster(model), feed.rows[later[feed.rows]]
    for begin in range(0, len(rows), SCORED_AT_ONCE):
        some = rows[begin : begin + SCORED_AT_ONCE]
        raw[some] = booster.predict_raw(np.ascontiguousarray(only(feed.at(some), columns)), threads=threads or 2)
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


def labels_of(evidence: Evidence, settings: Settings, folds: Plan) -> pd.DataFrame:
    """What each number was held to be when the labels were made."""
    cutoff = pd.Timestamp(folds.label_cutoff, unit="ms", tz="UTC")
    return labels_to_learn(evidence, cutoff, settings.label_policy)


def learnt_rows(
    calls: pa.Table, labels: pd.DataFrame, settings: Settings, told: Array, caller: Array, fold: Array, folds: Plan
) -> tuple[Array, pd.DataFrame]:
    """Calls that are learnt from, of a feed, and their labels.

    Args:
        told: places of the calls that the feed tells of.
    """
    start = calls["start"].to_numpy()[told]
    cutoff = pd.Timestamp(folds.label_cutoff, unit="ms", tz="UTC")
    return labelled(
        calls, caller, told[rows_of("train", folds.train, fold[told], start)], labels,
        cutoff=cutoff, calls_per_number=settings.calls_per_number, seed=settings.seed,
    )  # fmt: skip


def fit_models(
    side: Dataset, part: Array, settings: Settings, tell: Callable[[float], None]
) -> tuple[list[str], dict[str, str], dict[str, tuple[str, ...]]]:
    """Members of the risk model; it and the models of content and mode where enough of each class is known; classes.

    Args:
        part: of each row, as from `parts_of`.
    """
    names, columns = settings.features, places(settings.features)
    fixed: dict[str, Any] = {
        "categorical": [feature.name for feature in FEATURES if feature.levels and feature.name in names],
        "seed": settings.seed,
        "threads": settings.threads,
        "parameters": settings.parameters,
    }
    learn = Part(only(side.X, columns), side.y, side.weight)
    members = members_of(learn, part, names, progress=lambda share: tell(0.8 * share), **fixed)
    models = {"model": mean_of(members)}
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


def only(X: Array, columns: list[int]) -> Array:  # noqa: N803
    """These columns of X; X itself if they are all there are: it may be large."""
    return X if columns == list(range(X.shape[1])) else X[:, columns]


def class_words(learn: Array, check: Array) -> tuple[str, ...]:
    """Classes with enough labelled calls on the training side and at least one on the other."""
    counts = pd.Series(learn).value_counts()
    other = set(pd.Series(check).dropna())
    return tuple(sorted(str(word) for word in counts[counts >= LEAST_OF_A_CLASS].index if word in other))


def class_part(side: Dataset, rows: Array, columns: list[int], told: Array, words: tuple[str, ...]) -> Part:
    """Those of the rows (bool) whose class, as told of each, is one of `words`."""
    code = pd.Index(words).get_indexer(pd.Index(told))
    kept = rows & (code >= 0)
    return Part(side.X[kept][:, columns], code[kept].astype(np.int64), side.weight[kept])


def make_card(
    evidence: Evidence,
    settings: Settings,
    folds: Plan,
    calibration: Calibration,
    bands: tuple[Band, ...],
    classes: dict[str, tuple[str, ...]],
    fitted: dict[str, Any],
) -> Card:
    """What the bundle says of itself. Nothing in it depends on the machine or on the time of day."""
    last = datetime.fromtimestamp(folds.certify[1] / 1000, tz=UTC).replace(microsecond=0)
    return Card(
        features=settings.features,
        categorical={f.name: len(f.levels) for f in FEATURES if f.levels and f.name in settings.features},
        catalogue_hash=catalogue_hash(),
        calibration=calibration,
        thresholds=bands,
        label_policy=settings.label_policy.to_json(),
        training={
            "seed": settings.seed,
            "data": evidence.fingerprint,
            "folds": {name: [_iso(t) for t in getattr(folds, name)] for name in ("train", "choose", "certify")},
            "label_cutoff": _iso(folds.label_cutoff),
            "settings": {"calls_per_number": settings.calls_per_number, "parameters": settings.parameters},
            "fitted": fitted,
            "versions": versions(),
        },
        valid_from=_utc(last),
        valid_until=_utc(last + timedelta(days=settings.valid_days)),
        epoch=settings.epoch,
        golden=Golden((), {}),
        classes=classes,
    )


def write_bundle(trained: Trained, folder: Path, signing_key: Ed25519PrivateKey) -> str:
    """Sign and write the bundle; its model id."""
    return save(trained.card, trained.models, trained.golden_rows.tolist(), folder, signing_key)


def _iso(milliseconds: int) -> str:
    return _utc(datetime.fromtimestamp(milliseconds / 1000, tz=UTC))


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
