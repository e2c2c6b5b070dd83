"""Chooses the bands of a model: thresholds that hold in every stratum, on each feed, and where bands abstain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from callsieve.features.arrays import Array
from callsieve.features.online.feeds import COMPLETE, UNKNOWN_FEED, with_lacks
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import QUIET, STRATA
from callsieve.training.evidence.funnel import fewest_calls

from .certify import (
    CONFIDENCE,
    CertificateFigures,
    FeedScores,
    certificate,
    certificate_figures,
    choose_threshold,
    strata,
    upper_bound,
)
from .flagged import ChosenFlags, choose_flags
from .settings import TARGET

if TYPE_CHECKING:
    from .pool import Pool


WATCH = 10  # the second band's target, as a multiple of the first


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
# Added to the thresholds of a band that is not certified, one after the other, until one certifies it (log-odds).
RAISES = (0.0, 0.5, 1.0)


def targets_of(target: float = TARGET) -> tuple[tuple[str, float], ...]:
    """Returns the bands by name, each with the false positive rate that it is certified for.

    >>> targets_of()
    (('certified', 0.0001), ('watch', 0.001))
    """
    return ("certified", target), ("watch", WATCH * target)


def caution_of(*, by_folder: bool) -> Caution:
    """Returns the caution for thresholds of a training whose members held out whole folders, or else groups."""
    return OF_FOLDERS if by_folder else OF_GROUPS


class FeedFigures(CertificateFigures):
    """The certificate of the model on records that lack something, and its catch rate there."""

    catch: float | None


@dataclass(frozen=True, slots=True)
class ChosenBands:
    """The bands of a model, the certified bands of other feeds by name, the figures of each poorer feed, and flags."""

    bands: tuple[Band, ...]
    by_feed: dict[str, tuple[Band, ...]]
    figures: dict[str, FeedFigures]
    flags: ChosenFlags


def choose_bands(
    by_feed: Mapping[str, FeedScores], pool: Pool, own: str, caution: Caution, target: float = TARGET
) -> ChosenBands:
    """Chooses and certifies the bands of the complete feed and of each poorer feed."""
    choose, certify = chosen_on(pool, target), pool.certify & ~pool.judged.nuisance & ~pool.judged.announcing
    if pool.judged.source == "truth":
        require_benign("train", choose)
    bands = {name: bands_of(scores, choose, certify, caution, target) for name, scores in by_feed.items()}
    complete = bands.pop(COMPLETE)
    figures = {name: feed_figures(by_feed[name], pool, poorer[0]) for name, poorer in bands.items()}
    certified = certified_bands({COMPLETE: complete, **bands}, own)
    flags = choose_flags(by_feed, certified, pool, own)
    by_name = {with_lacks(own, lack): of_feed for lack, of_feed in certified.items() if lack != COMPLETE}
    return ChosenBands(complete, by_name, figures, flags)


def chosen_on(pool: Pool, target: float = TARGET) -> Array:
    """Returns the benign calls to choose thresholds on; none if they are too few without a truth. Bool.

    Too few are those whose highest score shows the rate of no band.
    """
    choose = pool.choose & ~pool.judged.nuisance & pool.judged.known & ~pool.judged.announcing
    enough = pool.judged.source == "truth" or choose.sum() >= fewest_calls(WATCH * target, CONFIDENCE)
    return np.asarray(choose & enough)


def require_benign(fold: str, benign: Array) -> None:
    """Raises ValueError unless there are benign calls to choose a threshold on."""
    if not benign.any():
        raise ValueError(f"fold {fold!r}: expected benign calls, got none; give more days or callers, or another seed")


def bands_of(
    scores: FeedScores, choose: Array, certify: Array, caution: Caution, target: float = TARGET
) -> tuple[Band, ...]:
    """Chooses and certifies the bands of a target on one feed, highest first; without calls to choose on, they abstain.

    A band that is not certified starts higher, by the first of RAISES that certifies it, if any does. The certificate
    stays valid: the higher all thresholds are, the fewer calls are flagged, so this is the last step of a
    fixed-sequence test that begins with the highest and ends before the first failure (Angelopoulos et al. 2022, Learn
    then test).

    Args:
        choose, certify: the benign calls to choose on and to certify on; bool, shape (calls,).
    """
    bands: list[Band] = []
    for name, rate in targets_of(target):
        thresholds = stratum_thresholds(scores, choose, rate, caution)
        if not thresholds:
            top = float(np.nanmax(scores.raw, initial=0.0))
            bands.append(Band(name, top, certificate("certify", np.empty(0), top, rate), {}, STRATA))
            continue
        steps = []
        for more in RAISES:
            edges = {word: edge + more for word, edge in thresholds.items()}
            if bands:  # a band starts at the threshold of the band above, or below it
                edges = {word: min(edge, bands[-1].threshold_for(word)) for word, edge in edges.items()}
            steps.append(certified_band(name, rate, edges, scores, certify))
            if steps[-1].certificate.certified:
                break
        bands.append(steps[-1] if steps[-1].certificate.certified else steps[0])
    return tuple(bands)


def certified_band(
    name: str, target: float, thresholds: Mapping[str, float], scores: FeedScores, certify: Array
) -> Band:
    """Returns the band of these thresholds by stratum, with its certificate; strata without a threshold abstain.

    Args:
        certify: the benign calls to certify on; bool, shape (calls,).
    """
    threshold = min(thresholds.values())
    abstaining = tuple(word for word in STRATA if word not in thresholds)
    raised = {word: edge for word, edge in thresholds.items() if edge > threshold}
    empty = certificate("certify", np.empty(0), threshold, target)
    uncertified = Band(name, threshold, empty, {}, abstaining, raised)
    aligned = aligned_scores(scores.raw, scores.stratum, uncertified)[certify]
    words = np.array(STRATA)[scores.stratum[certify]]
    proof = certificate("certify", aligned, threshold, target)
    by_stratum = strata("certify", aligned, threshold, target, words)
    return structs.replace(uncertified, certificate=proof, strata=by_stratum)


def stratum_thresholds(scores: FeedScores, choose: Array, target: float, caution: Caution) -> dict[str, float]:
    """Chooses two thresholds: for mobile numbers with few calls, and for all other numbers.

    The first calls of a new nuisance number look like those of a person, and are compared with them alone. One
    threshold for each number class caught less: few innocent calls of a class cannot show 1 in 10,000, so its
    threshold lay above all of them. Learnt from 8 varied worlds and judged on 6 others, two thresholds caught 76 % of
    calls and found 87 % of new numbers within ten calls; a threshold for each class 72 % and 84 %, a single one 77 %
    and 83 %. All flagged 0.3 in 10,000 innocent calls.

    Returns: the threshold of each stratum; strata without an innocent call get none.
    """
    quiet = np.isin(STRATA, list(QUIET.values()))
    scored = choose & ~np.isnan(scores.raw)
    edges: dict[bool, float] = {}
    few_calls: list[bool] = []
    for few in (False, True):
        raw = scores.raw[scored & (quiet[scores.stratum] == few)]
        if len(raw):
            edges[few] = caution.guard + choose_threshold(raw, target, margin=caution.margin)
        if upper_bound(0, len(raw)) > caution.margin * target:
            few_calls.append(few)
    for few in few_calls:  # too few calls to show the target by themselves
        edges[few] = max(edges.values(), default=np.inf)
    return {STRATA[code]: edges[bool(quiet[code])] for code in np.unique(scores.stratum[scored]).tolist()}


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


def certified_bands(by_lack: Mapping[str, tuple[Band, ...]], own: str) -> dict[str, tuple[Band, ...]]:
    """Returns the certified bands of the complete feed, and of those that lack more than the records do."""
    certified = {lack: bands for lack, bands in by_lack.items() if bands[0].certificate.certified}
    known = (own, UNKNOWN_FEED)
    return {lack: bands for lack, bands in certified.items() if lack == COMPLETE or with_lacks(own, lack) not in known}


def feed_figures(scores: FeedScores, pool: Pool, band: Band) -> FeedFigures:
    """Returns the certificate of a band on a poorer feed, and the catch rate there."""
    aligned = aligned_scores(scores.raw, scores.stratum, band)
    caught = share_of(aligned[pool.certify & pool.judged.nuisance], band.threshold)
    return {**certificate_figures(band.certificate), "catch": caught}


def share_of(raw: Array, threshold: float) -> float | None:
    """Returns the share of the scored calls that reach a threshold; None without any."""
    scored = raw[~np.isnan(raw)]
    return float((scored >= threshold).mean()) if len(scored) else None
