"""Chooses the bands of a model: thresholds that hold on every feed and in every stratum, and where bands abstain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from callsieve.features.arrays import Array
from callsieve.features.online.feeds import UNKNOWN_FEED, with_lacks
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import QUIET, STRATA

from .certify import certificate, choose_threshold, strata, upper_bound

if TYPE_CHECKING:
    from .pool import Pool


# The two bands and the false positive rate that each is certified for.
TARGETS = (("certified", 1e-4), ("watch", 1e-3))


@dataclass(frozen=True, slots=True)
class Caution:
    """How far thresholds stay above what the calls to choose on would permit.

    margin: share of the target that these calls may use. guard: added to each threshold (log-odds).
    """

    margin: float
    guard: float


# Calls of one caller are alike, so the exact bound flatters few busy callers; the certificate is the judge. On 10
# worlds used for nothing else, a margin of 0.7 and this guard certified 9 models, none of both 7. Measured when one
# member alone scored each call to choose on, with a threshold for each number class.
OF_GROUPS = Caution(margin=0.7, guard=0.25)
# Folders that a member saw nothing of show how organisations differ, so the bound is used as it is: descending from the
# highest score, the last threshold whose bound holds is a fixed-sequence test (Angelopoulos et al. 2022, Learn then
# test). In a trial, models learnt from 16 varied worlds. With more look-alikes in these worlds than in those that judge
# (`training/world/basis/look_alikes.toml`), 0.6 in 10,000 innocent calls of 8 other worlds were flagged and 75 % of the
# nuisance calls caught; with as many, 1.3 were flagged, and at equally many flagged calls 70 % caught. A margin of 0.8
# flagged 0.5 and caught 72 %.
OF_FOLDERS = Caution(margin=1.0, guard=0.0)


def caution_of(*, by_folder: bool) -> Caution:
    """Returns the caution for thresholds of a training whose members held out whole folders, or else groups."""
    return OF_FOLDERS if by_folder else OF_GROUPS


@dataclass(frozen=True, slots=True)
class FeedScores:
    """Raw scores of all calls on one feed, NaN where a call was not scored, and their strata as places among STRATA."""

    raw: Array
    stratum: Array


def bands_of(by_feed: Sequence[FeedScores], choose: Array, certify: Array, caution: Caution) -> tuple[Band, ...]:
    """Chooses and certifies the bands of TARGETS, highest first.

    Args:
        by_feed: scores on each feed, the complete feed first.
        choose, certify: the benign calls to choose on and to certify on; bool, shape (calls,).
    """
    bands: list[Band] = []
    first = by_feed[0]
    for name, target in TARGETS:
        thresholds = stratum_thresholds(by_feed, choose, target, caution)
        if bands:  # a band starts at the threshold of the band above, or below it
            thresholds = {word: min(edge, bands[-1].threshold_for(word)) for word, edge in thresholds.items()}
        threshold = min(thresholds.values())
        abstaining = tuple(word for word in STRATA if word not in thresholds)
        raised = {word: edge for word, edge in thresholds.items() if edge > threshold}
        empty = certificate("certify", np.empty(0), threshold, target)
        uncertified = Band(name, threshold, empty, {}, abstaining, raised)
        aligned = aligned_scores(first.raw, first.stratum, uncertified)[certify]
        words = np.array(STRATA)[first.stratum[certify]]
        proof = certificate("certify", aligned, threshold, target)
        by_stratum = strata("certify", aligned, threshold, target, words)
        bands.append(replace(uncertified, certificate=proof, strata=by_stratum))
    return tuple(bands)


def stratum_thresholds(
    by_feed: Sequence[FeedScores], choose: Array, target: float, caution: Caution
) -> dict[str, float]:
    """Chooses two thresholds that hold on every feed: for mobile numbers with few calls, and for all other numbers.

    The first calls of a new nuisance number look like those of a person, and are compared with them alone. One
    threshold for each number class caught less: few innocent calls of a class cannot show 1 in 10,000, so its
    threshold lay above all of them. Learnt from 8 varied worlds and judged on 6 others, two thresholds caught 76 % of
    calls and found 87 % of new numbers within ten calls; a threshold for each class 72 % and 84 %, a single one 77 %
    and 83 %. All flagged 0.3 in 10,000 innocent calls.

    Returns: the threshold of each stratum; strata without an innocent call get none.
    """
    quiet = np.isin(STRATA, list(QUIET.values()))
    first = by_feed[0]
    present = np.unique(first.stratum[choose & ~np.isnan(first.raw)])
    edges: dict[bool, float] = {}
    few_calls: list[bool] = []
    for few in (False, True):
        parts = [feed.raw[choose & (quiet[feed.stratum] == few) & ~np.isnan(feed.raw)] for feed in by_feed]
        chosen = [choose_threshold(raw, target, margin=caution.margin) for raw in parts if len(raw)]
        if chosen:
            edges[few] = caution.guard + max(chosen)
        if upper_bound(0, len(parts[0])) > caution.margin * target:
            few_calls.append(few)
    for few in few_calls:  # too few calls to show the target by themselves
        edges[few] = max(edges.values(), default=np.inf)
    return {STRATA[code]: edges[bool(quiet[code])] for code in present.tolist()}


def aligned_scores(raw: Array, stratum: Array, band: Band) -> Array:
    """Shifts raw scores so that the band's single threshold separates them in every stratum.

    Args:
        raw, stratum: score and stratum (as from `strata_of`) of each call, shape (n,).

    >>> from callsieve.serving.bundle.metadata import Certificate
    >>> band = Band("top", 2.0, Certificate("certify", 9, 0, 0.3, 0.95, 0.3, True), {}, ("iot",), {"fixed": 2.5})
    >>> stratum = np.array([STRATA.index(word) for word in ("mobile", "fixed", "fixed", "iot")])
    >>> aligned_scores(np.array([3.0, 3.0, 2.25, 3.0]), stratum, band).round(3).tolist()
    [3.0, 2.5, 1.75, 2.0]
    """
    threshold = np.array([band.threshold_for(word) for word in STRATA])[stratum]
    shifted = raw - np.where(np.isinf(threshold), 0.0, threshold - band.threshold)
    below = np.nextafter(band.threshold, -np.inf)
    return np.asarray(np.where(raw >= threshold, np.maximum(shifted, band.threshold), np.minimum(shifted, below)))


def bands_of_other_feeds(own: str, by_lack: Mapping[str, tuple[Band, ...]]) -> dict[str, tuple[Band, ...]]:
    """Returns the certified bands by the name of the feed that the records are on without more of what they have.

    Args:
        own: the feed of the records.
        by_lack: bands by what was taken from the records.
    """
    certified = {with_lacks(own, lack): bands for lack, bands in by_lack.items() if bands[0].certificate.certified}
    return {name: bands for name, bands in certified.items() if name not in (own, UNKNOWN_FEED)}


def feed_figures(scores: FeedScores, pool: Pool, band: Band) -> dict[str, Any]:
    """Returns the certificate of a band on a poorer feed, and the catch rate there."""
    aligned = aligned_scores(scores.raw, scores.stratum, band)
    return asdict(band.certificate) | {"catch": share_of(aligned[pool.certify & pool.judged.nuisance], band.threshold)}


def share_of(raw: Array, threshold: float) -> float | None:
    """Returns the share of the scored calls that reach a threshold; None without any."""
    scored = raw[~np.isnan(raw)]
    return float((scored >= threshold).mean()) if len(scored) else None
