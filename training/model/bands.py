"""Bands of scores: thresholds that hold on every feed and in every stratum, and of which strata they say nothing."""

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

# The two bands and the benign error that each is to be certified for.
TARGETS = (("certified", 1e-4), ("watch", 1e-3))
# Part of the target that calls to choose on may show, and what is added to the threshold they give (log-odds). Calls
# of one caller are alike, so that the exact bound flatters few busy callers; the certificate is the judge. On 10
# worlds that judge nothing, with all few lines together, 9 certified with these and caught 46 % of calls in the mean;
# 7 with a margin of 1 and no guard, and 49 %.
# This and the figures below were measured while one member alone spoke of each call to choose on.
MARGIN = 0.7
GUARD = 0.25
# What is added beside for lines with too few innocent calls to be held to the target. With a margin of 1, no guard and
# without it 4 of these 10 certified.
FEW_CALLS_GUARD = 2.0
# Lines with enough innocent calls for this many times the target stand by themselves, where others with few stand
# together. On these 10 worlds as many certified with it, 49 % of calls were caught instead of 46, and 7.6 in 10,000
# innocent calls flagged elsewhere instead of 7.5; with every line by itself 52 % and 9.4.
OWN_THRESHOLD_FACTOR = 10
# Resold numbers stand together with the other mobile ones; their certificate is their own.
TOGETHER = {"resale": "mobile", "quiet_resale": "quiet_mobile"}


@dataclass(frozen=True, slots=True)
class FeedScores:
    """What a feed tells of all calls: raw scores, NaN where a call was not scored, and places among STRATA."""

    raw: Array
    stratum: Array


def bands_of(by_feed: Sequence[FeedScores], choose: Array, certify: Array, guard: float) -> tuple[Band, ...]:
    """The bands of TARGETS, highest first.

    Args:
        by_feed: of the complete feed first.
        choose, certify: which calls are benign ones of these folds.
        guard: what is added to the thresholds that the calls to choose on give.
    """
    bands: list[Band] = []
    first = by_feed[0]
    for name, target in TARGETS:
        edges = stratum_thresholds(by_feed, choose, target, guard)
        if bands:  # a band begins where the one above it does, or below
            edges = {word: min(edge, bands[-1].threshold_for(word)) for word, edge in edges.items()}
        threshold = min(edges.values())
        silent = tuple(word for word in STRATA if word not in edges)
        raised = {word: edge for word, edge in edges.items() if edge > threshold}
        unproven = Band(name, threshold, certificate("certify", np.empty(0), threshold, target), {}, silent, raised)
        held = aligned_scores(first.raw, first.stratum, unproven)[certify]
        words = np.array(STRATA)[first.stratum[certify]]
        proof = certificate("certify", held, threshold, target)
        bands.append(replace(unproven, certificate=proof, strata=strata("certify", held, threshold, target, words)))
    return tuple(bands)


def stratum_thresholds(by_feed: Sequence[FeedScores], choose: Array, target: float, guard: float) -> dict[str, float]:
    """The threshold of each stratum, on every feed; none of those of which no innocent call is there.

    A few surveys, alarms and bank lines look like nuisance to a model that saw none of them. One threshold over all
    calls would be theirs: nobody else's nuisance reached it. So each stratum with enough innocent calls is held
    to the target by itself. The others lie above the highest of these, since of few innocent calls little is known:
    each by itself if it has enough for LOOSER times the target, else together. If no line has enough, the threshold
    lies just above every score.
    """
    scores = [told.raw[choose] for told in by_feed]
    words = [np.array(STRATA)[told.stratum[choose]] for told in by_feed]
    for each in words:
        for word, other in TOGETHER.items():
            each[each == word] = other
    there = [str(word) for word in np.unique(words[0][~np.isnan(scores[0])])]

    def held_to(rate: float) -> list[str]:
        return [word for word in there if upper_bound(0, int((words[0] == word).sum())) <= MARGIN * rate]

    def edge(some: Sequence[str]) -> float:
        told = [raw[np.isin(each, some)] for raw, each in zip(scores, words, strict=True)]
        return guard + max(choose_threshold(raw, target, margin=MARGIN) for raw in told if not np.isnan(raw).all())

    edges = {word: edge([word]) for word in held_to(target)}
    few = [word for word in there if word not in edges]
    if not edges:
        edges = dict.fromkeys(few, edge(few)) if few else {}
    else:
        highest, alone = max(edges.values()), held_to(OWN_THRESHOLD_FACTOR * target)
        edges |= {word: max(edge([word] if word in alone else few), highest) + FEW_CALLS_GUARD for word in few}
    return edges | {word: edges[other] for word, other in TOGETHER.items() if other in edges}


def aligned_scores(raw: Array, stratum: Array, band: Band) -> Array:
    """Raw scores to be held against the one threshold of a band, whatever the stratum.

    Args:
        raw, stratum: of each call, the latter as `strata_of`; shape (n,).

    >>> from callsieve.serving.bundle.metadata import Certificate
    >>> band = Band("top", 2.0, Certificate("certify", 9, 0, 0.3, 0.95, 0.3, True), {}, ("iot",), {"fixed": 2.5})
    >>> stratum = np.array([STRATA.index(word) for word in ("mobile", "fixed", "fixed", "iot")])
    >>> spoken_of(np.array([3.0, 3.0, 2.25, 3.0]), stratum, band).round(3).tolist()
    [3.0, 2.5, 1.75, 2.0]
    """
    edge = np.array([band.threshold_for(word) for word in STRATA])[stratum]
    held = raw - np.where(np.isinf(edge), 0.0, edge - band.threshold)
    below = np.nextafter(band.threshold, -np.inf)
    return np.asarray(np.where(raw >= edge, np.maximum(held, band.threshold), np.minimum(held, below)))
