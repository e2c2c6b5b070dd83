"""Challenger against champion: both score the same calls of the certifying fold."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from callsieve.features.arrays import Array
from callsieve.features.online.feeds import COMPLETE
from callsieve.serving.bundle.bundle import Bundle
from callsieve.serving.bundle.level import level_of
from callsieve.serving.rules.strata import strata_of
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.feeds import vectors_on
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.certify import difference_interval
from callsieve.training.model.folds import assign_folds
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import fold_rows
from callsieve.training.oversight.log.gates import Gates


@dataclass(frozen=True, slots=True)
class Comparison:
    """Catch rates of two models on the same nuisance calls, and the interval of their difference over callers."""

    callers: int
    calls: int
    challenger: float
    champion: float
    low: float
    high: float
    benign_calls: int
    challenger_false: int
    champion_false: int
    least_callers: int
    margin: float
    confidence: float

    @property
    def better(self) -> bool:
        """Whether the lower end of the difference lies above the margin, over at least `least_callers` callers."""
        return self.low > self.margin and self.callers >= self.least_callers

    def to_json(self) -> dict[str, int | float]:
        """Returns the comparison as plain values, with the difference and the outcome."""
        return asdict(self) | {"difference": self.challenger - self.champion, "better": self.better}


def compare(challenger: Bundle, champion: Bundle, dataset: Dataset, settings: Settings, gates: Gates) -> Comparison:
    """Scores the certifying fold of the challenger's run with both models, each at its own certified threshold.

    The champion may have been trained on callers of this fold, the challenger was not. This can only favour the
    champion.
    """
    if champion.catalogue_hash != challenger.catalogue_hash:
        raise ValueError("compare: expected two models of one feature catalogue; train the champion's settings anew")
    features = challenger.features + champion.features
    X, nuisance, caller = certifying_calls(dataset, settings, features)
    first, second = (flagged(bundle, X, settings.threads) for bundle in (challenger, champion))
    return compare_flags(first, second, nuisance, caller, gates, settings.judging_seed)


def certifying_calls(dataset: Dataset, settings: Settings, features: tuple[str, ...]) -> tuple[Array, Array, Array]:
    """Returns vectors with these features, nuisance (bool) and caller (code) of the judged calls of the fold."""
    folds = assign_folds(dataset, settings)
    rows = np.flatnonzero(fold_rows("certify", folds.plan.certify, folds.fold, folds.start) & folds.judged.known)
    X = vectors_on(COMPLETE, dataset, features, settings.threads, rows).X
    return X, folds.judged.nuisance[rows], folds.caller[rows]


def flagged(bundle: Bundle, X: Array, threads: int) -> Array:
    """Returns which calls reach a model's certified threshold."""
    rows = np.ascontiguousarray(X[:, feature_columns(bundle.features)])
    raw = bundle.model.predict_raw(rows, threads=threads)
    if (level := bundle.levels.get(bundle.feed)) is not None:
        raw = raw - level.shift(level_of(raw.tolist())).amount
    band = bundle.thresholds[0]
    return np.asarray(aligned_scores(raw, strata_of(X), band) >= band.threshold)


def compare_flags(
    challenger: Array, champion: Array, nuisance: Array, caller: Array, gates: Gates, seed: int
) -> Comparison:
    """Returns the comparison of two models' flags on the same calls.

    `challenger`, `champion`: bool, shape (n,): the calls that each model flags. `nuisance`: bool, of each call.
    """
    if not nuisance.any():
        raise ValueError("compare: expected nuisance calls in the certifying fold, got none")
    owner = caller[nuisance]
    low, high = difference_interval(
        challenger[nuisance], champion[nuisance], owner, seed=seed, rounds=gates.rounds, confidence=gates.confidence
    )
    return Comparison(
        callers=len(np.unique(owner)),
        calls=int(nuisance.sum()),
        challenger=float(challenger[nuisance].mean()),
        champion=float(champion[nuisance].mean()),
        low=low,
        high=high,
        benign_calls=int((~nuisance).sum()),
        challenger_false=int((challenger & ~nuisance).sum()),
        champion_false=int((champion & ~nuisance).sum()),
        least_callers=gates.least_callers,
        margin=gates.margin,
        confidence=gates.confidence,
    )
