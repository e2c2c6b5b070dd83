"""Chooses what the evidence supports: the base as it is, other thresholds, or own trees on the base's scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from callsieve.features.arrays import Array
from callsieve.features.catalogue import FEATURES
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import STRATA
from callsieve.training.evidence.callers import ABOVE_EVEN, ANSWER, SLOPE, UNSCORED, report_evidence
from callsieve.training.evidence.exposure import complaint_ratio, exposures, log_odds_with
from callsieve.training.model.bands import targets_of
from callsieve.training.model.matrix import feature_columns, select_columns
from callsieve.training.model.settings import TARGET, Settings

from .asking import Drawn
from .network import Network, allowed_calls
from .own_trees import OwnTrees, grow_own_trees, learning_rows
from .thresholds import MARGIN, counted_above, threshold_for

BELOW_EVEN = 2.0  # no threshold lies further below the score at which both kinds are equally likely
FEWEST_CHECKS, FEWEST_FOR_LINE = (
    20,
    50,
)  # answered, before the threshold moves, and before they alone fit the line of the score
FEWEST_NUISANCE = 20  # callers that evidence or complaints call nuisance, before own trees are tried
LEAST_GAIN = 0.02  # of the catch, for which own trees stay
GIVEN_UP = 0.01  # share of the probable catch for which a threshold is higher than it must be
CLEARLY_INNOCENT = 0.05  # probability of nuisance below which a caller that nobody checked counts as innocent
CONTRADICTED, FEWEST_TWICE = 0.2, 10  # share of answers that later ones contradict, and the fewest that show anything
PARTS, FEWEST_IN_PART, FEWEST_ANSWERED = 5, 20, 2  # by score, of the drawn callers; callers and answers of each
CREDIBLE = 10  # answers about callers at or above a threshold, for which it falls half of the way
SURPRISED = 0.9  # share of the log-loss of a coin above which answers disagree with all else that is known


@dataclass(frozen=True, slots=True)
class Weights:
    """How many innocent callers each caller stands for at least and at most, 0 for others; each of shape (callers,).

    Both are equal for callers drawn with a known probability. A caller that somebody chose to check stands at least for
    itself, and at most for all with scores like its own.
    """

    least: Array
    most: Array


@dataclass(frozen=True, slots=True)
class Checked:
    """The callers with an answer, and drawn ones that no answer speaks for, each with their probabilities."""

    answered: Drawn
    silent: Drawn


@dataclass(frozen=True, slots=True)
class Basis:
    """The base's part in a choice, and the share of innocent calls that may be flagged.

    even: score at which both kinds are equally likely. bands: of the base on such records.
    """

    even: float
    bands: Sequence[Band] = ()
    target: float = TARGET

    @property
    def lowest(self) -> float:
        """The lowest threshold in question."""
        return self.even - BELOW_EVEN

    def threshold(self, target: float) -> float:
        """Returns the strictest threshold of the lowest band whose target is at most this one; infinity without any."""
        strict = [band for band in self.bands if band.certificate.target <= target]
        return highest_threshold(strict[-1:])


def highest_threshold(bands: Sequence[Band]) -> float:
    """Returns the strictest threshold of some bands; infinity if they abstain."""
    edges = [band.threshold_for(word) for band in bands for word in STRATA]
    return max((edge for edge in edges if edge < np.inf), default=np.inf)


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, its scores of the calls, its threshold for each target, and how much nuisance it would catch."""

    raw: Array
    thresholds: tuple[float, ...]
    caught: float
    trees: OwnTrees | None = None


def weights_of(network: Network, nuisance: Array, draws: pd.DataFrame | None) -> tuple[Weights, Checked]:
    """Returns how many innocent callers each caller stands for, and the checked callers with their probabilities.

    A drawn caller without an answer is taken to be like those with an answer and a similar highest score. Where too few
    of these answered, it may be innocent. Checks that were not drawn count at most as a random part of the callers with
    scores like theirs.
    """
    callers, count = network.callers, len(nuisance)
    has_answer, open_ = callers.looks > 0, np.isfinite(network.highest) & ~callers.trusted
    answered = np.flatnonzero(has_answer & open_)
    probability, silent = np.full(count, np.nan), np.zeros(0, dtype=np.int64)
    if draws is not None and len(draws):
        drawn = draws.drop_duplicates("number").set_index("number")["probability"]
        known = drawn.reindex(pd.Index(callers.token)).to_numpy(dtype=float)
        in_sheet = np.flatnonzero(~np.isnan(known) & open_)
        response = response_by_score(network.highest[in_sheet], has_answer[in_sheet])
        probability[in_sheet] = np.where(response > 0, known[in_sheet] * response, 1.0)
        silent = in_sheet[(response == 0) & ~has_answer[in_sheet]]
    chosen = np.isnan(probability)
    if draws is None or not len(draws):
        probability[answered] = shares_checked(network.highest, has_answer)[answered]
    else:
        probability[chosen] = 1.0
    most = np.zeros(count)
    innocent = answered[nuisance[answered] < 0.5]
    most[innocent] = 1 / probability[innocent]
    most[~has_answer & (nuisance < CLEARLY_INNOCENT) & ~callers.trusted] = 1.0
    least = np.where(chosen, np.minimum(most, 1.0), most)
    if len(silent):
        least[silent], most[silent] = 0.0, 1 / known[silent]
    alike = Drawn(silent, known[silent] if len(silent) else np.zeros(0))
    return Weights(least, most), Checked(Drawn(answered, probability[answered]), alike)


def response_by_score(highest: Array, answered: Array) -> Array:
    """Returns the share of callers with an answer among those with a similar score, for each drawn caller.

    The callers are in up to PARTS equal parts by score. In a part with fewer than FEWEST_ANSWERED answers the share is
    0: nothing shows what its callers are.

    Args:
        highest: highest score of each drawn caller. answered: whether it has an answer; bool.

    >>> response_by_score(np.arange(80.0), np.arange(80) % 4 == 0)[[0, -1]].tolist()
    [0.25, 0.25]
    >>> response_by_score(np.arange(80.0), np.arange(80) >= 40)[[0, -1]].tolist()
    [0.0, 1.0]
    """
    parts = min(max(len(highest) // FEWEST_IN_PART, 1), PARTS)
    share = np.zeros(len(highest))
    for part in np.array_split(np.argsort(highest, kind="stable"), parts):
        if answered[part].sum() >= min(FEWEST_ANSWERED, len(part)):
            share[part] = answered[part].mean()
    return share


def shares_checked(highest: Array, checked: Array, parts: int = 10) -> Array:
    """Returns the share of checked callers among those with a similar highest score, shape (callers,)."""
    share = np.ones(len(highest))
    scored = np.flatnonzero(np.isfinite(highest))
    if not checked[scored].any():
        return share
    edges = np.unique(np.quantile(highest[scored[checked[scored]]], np.linspace(0, 1, parts + 1)[1:-1]))
    part = np.searchsorted(edges, highest[scored], side="right")
    all_in, checked_in = np.bincount(part), np.bincount(part, weights=checked[scored], minlength=int(part.max()) + 1)
    share[scored] = (checked_in / np.maximum(all_in, 1))[part]
    return np.where(share > 0, share, 1.0)


def choose_model(
    network: Network, nuisance: Array, weights: Weights, settings: Settings, basis: Basis
) -> tuple[Choice | None, str]:
    """Returns the model that the evidence supports, None for the base as it is, and a sentence that says why."""
    callers = network.callers
    answered = answers_of(network)
    if answered < FEWEST_CHECKS:
        return choose_by_complaints(network, settings, basis)
    if not (network.callers.checked < 0).any():
        return None, "no number was answered as innocent, so nothing shows where to stop; the base stays as it is"
    if contradicts(network, nuisance):
        return None, "the answers contradict each other or the scores; check them again, the base stays as it is"
    choice = with_thresholds(network, network.raw, nuisance, weights, basis)
    # Few answers give the score no line, so that of the complaints labels the trees.
    labels = complained(network, settings, basis) if answered < FEWEST_FOR_LINE else nuisance
    known = int(((callers.nuisance | (callers.reports > 0) | (callers.checked > 0)) & (labels >= 0.5)).sum())
    if known < FEWEST_NUISANCE:
        why = f"{known} numbers known as nuisance, expected at least {FEWEST_NUISANCE} for own trees"
    else:
        stacked = with_own_trees(network, labels, settings, basis)
        stacked = replace(with_thresholds(network, stacked.raw, nuisance, weights, basis), trees=stacked.trees)
        why = f"probable catch {choice.caught:.1%} with the base's ranking, {stacked.caught:.1%} with own trees"
        choice = stacked if stacked.caught >= choice.caught + LEAST_GAIN else choice
    if base_suffices(network, nuisance, weights, basis, choice):
        return None, "the base catches as much within the allowed rate; it stays as it is"
    return choice, why


def choose_by_complaints(network: Network, settings: Settings, basis: Basis) -> tuple[Choice | None, str]:
    """Returns what complaints support where checks are too few: own trees at the base's thresholds, or None.

    The scores stay log-odds, so the base's threshold keeps its meaning. It rises where own trees flag more calls of
    callers that evidence calls innocent, or that are clearly innocent, than the allowed rate or the base.
    """
    few = f"{answers_of(network)} numbers checked, expected at least {FEWEST_CHECKS}"
    nuisance = complained(network, settings, basis)
    named = int(((network.callers.reports > 0) & (nuisance >= 0.5)).sum())
    if named < FEWEST_NUISANCE:
        why = f"{few}, and complaints name {named} nuisance numbers, expected at least {FEWEST_NUISANCE}"
        return None, f"{why}; the base stays as it is"
    if basis.threshold(basis.target) == np.inf:
        return None, f"{few}, and the base has no threshold for such records; the base stays as it is"
    stacked = with_own_trees(network, nuisance, settings, basis)
    innocent = np.where(network.callers.innocent | (nuisance < CLEARLY_INNOCENT), 1.0, 0.0)
    innocent[network.callers.trusted] = 0.0
    thresholds: list[float] = []
    for _, target in targets_of(basis.target):
        allowed, edge = allowed_calls(network, nuisance, target), basis.threshold(target)
        permitted = counted_above(network.scored(network.raw), innocent, edge, allowed)
        if counted_above(network.scored(stacked.raw), innocent, edge, allowed) > max(permitted, MARGIN * allowed):
            edge = max(edge, threshold_for(network.scored(stacked.raw), innocent, allowed))
        thresholds.append(min([edge, *thresholds]))
    before = probable_catch(network, network.raw, basis.threshold(basis.target), nuisance)
    after = probable_catch(network, stacked.raw, thresholds[0], nuisance)
    why = f"complaints name {named} nuisance numbers: probable catch {before:.1%}, {after:.1%} with own trees"
    if after < before + LEAST_GAIN:
        return None, f"{why}; the base stays as it is"
    return replace(stacked, thresholds=tuple(thresholds), caught=after), why


def complained(network: Network, settings: Settings, basis: Basis) -> Array:
    """Returns the probability that each caller is nuisance: score, complaints with an exposure, and other evidence.

    The line of the score is that which the complaints support.
    """
    callers, cutoff = network.callers, pd.Timestamp(network.folds.plan.label_cutoff, unit="ms", tz="UTC")
    known = exposures(network.dataset, cutoff, settings.label_policy.complaints).reindex(callers.token).fillna(0.0)
    reports, exposed = (known[name].to_numpy(dtype=float) for name in ("reports", "exposed"))
    score = np.where(np.isfinite(network.highest), network.highest - basis.even - ABOVE_EVEN, np.nan)
    others = callers.evidence - report_evidence(callers.silence)
    first = np.nan_to_num(SLOPE * score, nan=UNSCORED) + callers.evidence
    return np.asarray(expit(log_odds_with(score, first, others, lambda p: complaint_ratio(reports, exposed, p))))


def with_own_trees(network: Network, labels: Array, settings: Settings, basis: Basis) -> Choice:
    """Returns the base's scores with own trees on probable labels, out of fold, without thresholds."""
    trees = own_trees(network, labels, settings, basis.lowest)
    columns = feature_columns(settings.features)
    added = trees.margins(select_columns(network.X, columns), network.caller, settings.threads)
    return Choice(network.raw + added, (), 0.0, trees)


def base_suffices(network: Network, nuisance: Array, weights: Weights, basis: Basis, choice: Choice) -> bool:
    """Returns whether the base as it is would catch as much as the choice, and no more innocent calls than allowed.

    A band of the base is evidence, too: a threshold rises above it only if checks show that it flags too much.
    """
    threshold, allowed = highest_threshold(basis.bands[:1]), allowed_calls(network, nuisance, basis.target)
    if threshold == np.inf:
        return False
    flagged = counted_above(network.scored(network.raw), weights.least, threshold, allowed)
    return flagged <= allowed and probable_catch(network, network.raw, threshold, nuisance) >= choice.caught


def answers_of(network: Network) -> int:
    """Returns the number of checked callers that have a score."""
    return int(((network.callers.looks > 0) & np.isfinite(network.highest)).sum())


def contradicts(network: Network, nuisance: Array) -> bool:
    """Returns whether answers contradict each other more often than mistakes explain, or all else that is known.

    All else is the score and the evidence, with the line that fits the answers best: a base that is wrong about the
    network as a whole is no sign of wrong answers.
    """
    callers = network.callers
    twice = int((callers.looks > 1).sum())
    if twice >= FEWEST_TWICE and callers.changed.sum() > CONTRADICTED * int((callers.looks > 0).sum()):
        return True
    rows = np.flatnonzero((callers.checked != 0) & np.isfinite(network.highest))
    known = logit(np.clip(nuisance[rows], 1e-12, 1 - 1e-12)) - ANSWER * callers.checked[rows]
    expected = np.clip(expit(known), 0.02, 0.98)
    right = np.where(callers.checked[rows] > 0, expected, 1 - expected)
    return bool(len(rows) and -np.log(right).mean() > SURPRISED * np.log(2))


def with_thresholds(network: Network, raw: Array, nuisance: Array, weights: Weights, basis: Basis) -> Choice:
    """Returns the thresholds of a ranking for all targets, and its probable catch at the first.

    Between the thresholds for the least and the most innocent callers that the checked ones can stand for, that of the
    base decides. Below that of the base, a threshold falls only part of the way: with n answers about callers at or
    above it, by n / (n + CREDIBLE), the credibility of Buehlmann (1967). It is as high as it can be without giving up
    more than GIVEN_UP of the probable catch.
    """
    scored = network.scored(raw)
    probable = nuisance[network.caller]
    rows = np.flatnonzero(probable >= 0.5)
    rows = rows[np.argsort(-raw[rows], kind="stable")]
    caught = np.cumsum(probable[rows])
    thresholds: list[float] = []
    for _, target in targets_of(basis.target):
        allowed, of_base = allowed_calls(network, nuisance, target), basis.threshold(target)
        least, most = (
            max(threshold_for(scored, weight, allowed), basis.lowest) for weight in (weights.least, weights.most)
        )
        threshold = min(max(least, of_base), most)
        if threshold < of_base < np.inf:
            seen = np.count_nonzero(scored.above(threshold, len(nuisance))[network.callers.looks > 0])
            threshold += (of_base - threshold) * CREDIBLE / (seen + CREDIBLE)
        reached = int(np.searchsorted(-raw[rows], -threshold, side="right"))
        if reached:
            last = int(np.searchsorted(caught, (1 - GIVEN_UP) * caught[reached - 1]))
            threshold = max(threshold, float(raw[rows[last]]))
        thresholds.append(min([threshold, *thresholds]))
    return Choice(raw, tuple(thresholds), probable_catch(network, raw, thresholds[0], nuisance))


def probable_catch(network: Network, raw: Array, threshold: float, nuisance: Array) -> float:
    """Returns the share of the calls of probable nuisance callers that reach a threshold, weighted by probability."""
    probable = nuisance[network.caller]
    weight = np.where(probable >= 0.5, probable, 0.0)
    return float((weight * (raw >= threshold)).sum() / max(weight.sum(), 1e-12))


def own_trees(network: Network, nuisance: Array, settings: Settings, lowest: float) -> OwnTrees:
    """Grows own trees on the calls whose scores may come to matter."""
    candidates = np.flatnonzero(network.raw > lowest - 3.0)
    rows = learning_rows(network.caller, candidates, settings.seed)
    columns = feature_columns(settings.features)
    return grow_own_trees(
        np.asarray(network.X[rows][:, columns], dtype=np.float32),
        network.raw[rows],
        network.caller[rows],
        nuisance,
        network.group,
        settings.features,
        categorical=categorical_of(settings),
        seed=settings.seed,
        threads=settings.threads,
    )


def categorical_of(settings: Settings) -> list[str]:
    """Returns the names of the model's categorical features."""
    return [feature.name for feature in FEATURES if feature.levels and feature.name in settings.features]
