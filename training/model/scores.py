"""Scores the calls of a training on each feed; out-of-fold where thresholds are chosen.

An out-of-fold score is the mean score of those ensemble members that did not train on the caller's group.

A threshold must hold for callers that no member trained on. The callers that push it up, such as surveys and alarm
lines, are few in each world: groups set apart to choose thresholds on would be missed both here and in training. So
most members train on each group, and thresholds are chosen on the mean score of the members that did not train on
that group. This is cross-conformal prediction (Vovk 2015), as CV+ of Barber, Candes, Ramdas and Tibshirani (2021).
The certificate later judges the mean of all members, on groups that no member trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Array
from callsieve.features.online.feeds import COMPLETE, needs_second_model, with_lacks
from callsieve.serving.bundle.forest import Forest
from callsieve.serving.bundle.level import level_of
from callsieve.serving.bundle.metadata import SECOND, Level
from callsieve.serving.rules.strata import STRATA, strata_of
from callsieve.serving.scorer.network_scores import sampled
from callsieve.training.model.trees import read_forest

from .certify import FeedScores
from .fit import CV_FOLDS, cv_fold_of_calls
from .matrix import Matrix, feature_columns, select_columns
from .models import Fitted
from .pool import FeedVectors, Gathered, Pool
from .settings import Settings

SCORED_AT_ONCE = 50_000  # calls, so that memory stays bounded


@dataclass(frozen=True, slots=True)
class PoolScores:
    """The scores of the pool by the name of the feed, the complete feed first; and the fold of each call's unit.

    levels: by the name of the feed, the score levels of the folders that thresholds are chosen on. shift: by the place
    of a folder, the amount that the scores on the complete feed are less than the raw scores.
    """

    by_feed: dict[str, FeedScores]
    cv_fold: Array
    levels: dict[str, Level]
    shift: Array


def score_pool(fitted: Fitted, matrix: Matrix, gathered: Gathered, settings: Settings) -> PoolScores:
    """Scores the pool on each feed. The vectors of a feed are in memory only while it is scored."""
    pool, scores, levels, shift = gathered.pool, {}, {}, np.zeros(len(gathered.folders))
    cv_fold = cv_fold_of_calls(getattr(matrix, fitted.unit), fitted.row_fold, getattr(pool, fitted.unit))
    complete = FeedVectors(np.arange(len(pool.start)), gathered.vectors)
    # Each model is read once: reading the text of eleven models takes longer than scoring a small feed by them.
    forests = {
        name: [read_forest(model) for model in (fitted.models[name], *members)]
        for name, members in fitted.members.items()
    }
    for name, feed in {COMPLETE: complete, **gathered.poorer}.items():
        X, model = feed.vectors.array(), model_of(gathered.feed, name, fitted.models)
        raw = score_feed(forests[model], fitted.held_out, cv_fold, pool, X, feed.places, settings)
        if fitted.by_folder and (level := range_of_levels(levels_of_folders(raw, pool), pool)) is not None:
            levels[name], amounts = level, shifts_of_folders(level, raw, pool)
            raw -= amounts[pool.folder]
            shift = amounts if name == COMPLETE else shift
        scores[name] = FeedScores(raw, strata_at(X, feed.places, len(pool.start)))
        feed.vectors.release()
    return PoolScores(scores, cv_fold, levels, shift)


def levels_of_folders(raw: Array, pool: Pool) -> list[float | None]:
    """Returns the score level of each folder by the random calls that choose or certify; None with too few."""
    random = pool.choose | pool.certify
    places = (np.flatnonzero(random & (pool.folder == folder)) for folder in range(int(pool.folder.max()) + 1))
    return [level_of(raw[sampled(rows)].tolist()) for rows in places]


def shifts_of_folders(level: Level | None, raw: Array, pool: Pool) -> Array:
    """Returns how much less than raw scores the scores of each folder are, by place of a folder.

    `level`: the levels that thresholds are distances from; None for fixed thresholds.
    """
    return np.array([0.0 if level is None else level.shift(own).amount for own in levels_of_folders(raw, pool)])


def range_of_levels(levels: Sequence[float | None], pool: Pool) -> Level | None:
    """Returns the range of the levels of the folders that thresholds are chosen on; None with fewer than CV_FOLDS."""
    chosen = set(np.unique(pool.folder[pool.choose]).tolist())
    known = [level for folder, level in enumerate(levels) if level is not None and folder in chosen]
    return Level(min(known), max(known)) if len(known) >= CV_FOLDS else None


def model_of(own: str, lack: str, models: Mapping[str, str]) -> str:
    """Returns the name of the risk model that scores the records of a training without more of what they have."""
    return SECOND if SECOND in models and needs_second_model(with_lacks(own, lack), own) else "model"


def score_feed(
    forests: Sequence[Forest],
    held_out: Sequence[tuple[int, ...]],
    cv_fold: Array,
    pool: Pool,
    X: Array,
    rows: Array,
    settings: Settings,
) -> Array:
    """Scores the calls of the pool on a feed; out-of-fold where thresholds are chosen. Shape (calls of the pool,)."""
    columns, threads = feature_columns(settings.features), settings.threads
    raw = score_rows(forests[0], X, rows, pool.scored, columns, threads)
    by_member = [
        score_rows(member, X, rows, pool.choose & np.isin(cv_fold, folds), columns, threads)
        for member, folds in zip(forests[1:], held_out, strict=True)
    ]
    return out_of_fold_scores(raw, by_member, held_out, cv_fold, pool.choose)


def strata_at(X: Array, rows: Array, count: int) -> Array:
    """Returns the stratum of `count` calls, as places among STRATA; "unknown" for calls without a vector."""
    strata = np.full(count, STRATA.index("unknown"))
    strata[rows] = strata_of(X)
    return strata


def score_rows(model: str | Forest, X: Array, rows: Array, wanted: Array, columns: list[int], threads: int) -> Array:
    """Scores the wanted calls that have a vector; NaN for all others. Shape of `wanted`.

    `wanted`: bool, of each call.
    """
    raw = np.full(len(wanted), np.nan)
    forest = read_forest(model) if isinstance(model, str) else model
    places = np.flatnonzero(wanted[rows])
    for begin in range(0, len(places), SCORED_AT_ONCE):
        part = places[begin : begin + SCORED_AT_ONCE]
        vectors = np.ascontiguousarray(select_columns(np.take(X, part, axis=0), columns))
        raw[rows[part]] = forest.predict_raw(vectors, threads=threads)
    return raw


def out_of_fold_scores(
    raw: Array, by_member: Sequence[Array], held_out: Sequence[tuple[int, ...]], cv_fold: Array, choose: Array
) -> Array:
    """Returns the scores, with out-of-fold means for the calls that thresholds are chosen on.

    A single member trained on all groups; the scores are then returned unchanged.

    Args:
        raw: mean score of all members for each call, shape (calls,).
        by_member: scores of each member, shape (calls,), needed at least for the `choose` calls of its held-out folds.
        choose: whether thresholds are chosen on each call; bool.
    """
    if len(by_member) == 1:
        return raw.copy()
    total, members = np.zeros(len(raw)), np.zeros(len(raw))
    for scores, folds in zip(by_member, held_out, strict=True):
        rows = choose & np.isin(cv_fold, folds)
        total[rows] += scores[rows]
        members[rows] += 1
    return np.where(members > 0, total / np.maximum(members, 1), raw)
