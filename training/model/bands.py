"""Chooses the bands of a model: thresholds that hold on every feed and in every stratum, and where bands abstain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import STRATA

from .certify import certificate, choose_threshold, strata, upper_bound

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

# The two bands and the false positive rate that each is certified for.
TARGETS = (("certified", 1e-4), ("watch", 1e-3))


@dataclass(frozen=True, slots=True)
class Caution:
    """How far thresholds stay above what the calls to choose on would permit.

    margin: share of the target that these calls may use. guard: added to each threshold (log-odds). few_calls_guard:
    added for strata with too few innocent calls for the target.
    """

    margin: float
    guard: float
    few_calls_guard: float


# Calls of one caller are alike, so the exact bound flatters few busy callers; the certificate is the judge. On 10
# worlds used for nothing else, with all small strata pooled, 9 were certified with this caution and caught 46 % of
# calls on average; with a margin of 1 and no guard 7 were certified and caught 49 %; without few_calls_guard, too, 4.
# These figures and those below were measured when one member alone scored each call to choose on.
OF_GROUPS = Caution(margin=0.7, guard=0.25, few_calls_guard=2.0)
# Folders that a member saw nothing of show how organisations differ, so the bound is used as it is: descending from the
# highest score, the last threshold whose bound holds is a fixed-sequence test (Angelopoulos et al. 2022, Learn then
# test). In a trial with six members, learnt from 8 varied small worlds, 74 % of the calls of 4 others were caught and
# 0.3 in 10,000 innocent calls flagged; with a margin of 0.7, 70 %. The choice was made on these 4 worlds.
OF_FOLDERS = Caution(margin=1.0, guard=0.0, few_calls_guard=0.0)


def caution_of(*, by_folder: bool) -> Caution:
    """Returns the caution for thresholds of a training whose members held out whole folders, or else groups."""
    return OF_FOLDERS if by_folder else OF_GROUPS


# A small stratum gets a threshold of its own if it has enough innocent calls for this many times the target; the others
# are pooled. On these 10 worlds as many were certified with it, 49 % of calls were caught instead of 46 %, and 7.6 in
# 10,000 innocent calls were flagged elsewhere instead of 7.5; with a threshold for every stratum, 52 % and 9.4.
OWN_THRESHOLD_FACTOR = 10
# Resold numbers share the thresholds of other mobile numbers; their certificates are their own.
MERGED = {"resale": "mobile", "quiet_resale": "quiet_mobile"}


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
    """Chooses a threshold for each stratum that holds on every feed; strata without an innocent call get none.

    A few surveys, alarms and bank lines get high scores from a model that trained on none of them. They would determine
    a single threshold for all calls, and nuisance of other strata would not reach it. So each stratum with enough
    innocent calls meets the target separately. Small strata get thresholds above the highest of these: each its own if
    it has enough innocent calls for OWN_THRESHOLD_FACTOR times the target, else a pooled one. If no stratum has enough
    calls, the threshold lies just above every score.
    """
    scores = [feed.raw[choose] for feed in by_feed]
    words = [np.array(STRATA)[feed.stratum[choose]] for feed in by_feed]
    for feed_words in words:
        for word, other in MERGED.items():
            feed_words[feed_words == word] = other
    present = [str(word) for word in np.unique(words[0][~np.isnan(scores[0])])]

    def with_enough_calls(rate: float) -> list[str]:
        return [word for word in present if upper_bound(0, int((words[0] == word).sum())) <= caution.margin * rate]

    def threshold_of(pool: Sequence[str]) -> float:
        pooled = [raw[np.isin(feed_words, pool)] for raw, feed_words in zip(scores, words, strict=True)]
        return caution.guard + max(
            choose_threshold(raw, target, margin=caution.margin) for raw in pooled if not np.isnan(raw).all()
        )

    thresholds = {word: threshold_of([word]) for word in with_enough_calls(target)}
    small = [word for word in present if word not in thresholds]
    if not thresholds:
        thresholds = dict.fromkeys(small, threshold_of(small)) if small else {}
    else:
        highest, own = max(thresholds.values()), with_enough_calls(OWN_THRESHOLD_FACTOR * target)
        thresholds |= {
            word: max(threshold_of([word] if word in own else small), highest) + caution.few_calls_guard
            for word in small
        }
    return thresholds | {word: thresholds[other] for word, other in MERGED.items() if other in thresholds}


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
