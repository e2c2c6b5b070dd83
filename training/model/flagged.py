"""Chooses the lower threshold of numbers that were caught before, and certifies model and flags together on each feed.

The threshold of a flagged number lies part of the way from the highest band to the lowest. It descends by REACHES as
long as the certificate holds: a fixed-sequence test (Angelopoulos et al. 2022, Learn then test), as for the bands.
Events are those of `serving/scorer/flags.py`, from the certifying calls alone, which are all calls of random callers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from callsieve.features.arrays import Array
from callsieve.features.online.feeds import COMPLETE, NO_ROUTES, ONE_SITE, lacks_of, with_lacks
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import STRATA
from callsieve.serving.scorer.flags import NAME, events_of_calls

from .certify import CertificateFigures, FeedScores, certificate_figures, certificate_of

if TYPE_CHECKING:
    from .pool import Pool

REACHES = (1 / 3, 2 / 3, 1.0)
"""Shares of the way from the highest band to the lowest, smallest first."""


class FlagFigures(CertificateFigures):
    """The certificate of model and flags together, and their catch rate beside that of single calls."""

    catch: float | None
    catch_of_single_calls: float | None


@dataclass(frozen=True, slots=True)
class ChosenFlags:
    """By the name of the feed, the threshold of flagged numbers with its certificate, and the figures."""

    by_feed: dict[str, Band]
    figures: dict[str, FlagFigures]


@dataclass(frozen=True, slots=True)
class FlaggedCalls:
    """The certifying calls on a feed; arrays of shape (calls,).

    high, low: thresholds of the highest and of the lowest band for each call. events: how many earlier calls flag its
    number, 0 for a number that is not flagged. innocent: bool; the other calls are nuisance.
    """

    raw: Array
    high: Array
    low: Array
    events: Array
    innocent: Array

    def flagged(self, reach: float) -> Array:
        """Returns whether the highest band or the rule takes each call, with a threshold at this reach; bool."""
        gap = np.zeros(len(self.raw))
        np.subtract(self.high, self.low, out=gap, where=np.isfinite(self.high))
        return np.asarray((self.raw >= self.high) | ((self.events >= 1) & (self.raw >= self.high - reach * gap)))


def choose_flags(
    by_feed: Mapping[str, FeedScores], bands: Mapping[str, tuple[Band, ...]], pool: Pool, own: str
) -> ChosenFlags:
    """Chooses the thresholds of flagged numbers.

    Args:
        by_feed: scores by what the feed lacks beside the calls as they are, as for `choose_bands`.
        bands: the bands by the same names; only certified ones get a threshold of flagged numbers.
        own: the feed of the calls.
    """
    chosen: dict[str, Band] = {}
    of_feed: dict[str, FlagFigures] = {}
    for lack, (highest, *_, lowest) in bands.items():
        # One site sees the calls of a number to itself alone, where the certifying calls are those to a network.
        if ONE_SITE in lacks_of(lack) or not highest.certificate.certified or set(highest.abstains) == set(STRATA):
            continue
        calls = flagged_calls(by_feed[lack], highest, lowest, pool, known_trunks=NO_ROUTES not in lacks_of(lack))
        feed = own if lack == COMPLETE else with_lacks(own, lack)
        for reach, band in certified_flags(calls, highest, lowest):
            caught = [calls.flagged(share)[~calls.innocent] for share in (reach, 0.0)]
            flagged, alone = (float(hits.mean()) if len(hits) else None for hits in caught)
            chosen[feed] = band
            figures = certificate_figures(band.certificate)
            of_feed[feed] = {**figures, "catch": flagged, "catch_of_single_calls": alone}
    return ChosenFlags(chosen, of_feed)


def flagged_calls(scores: FeedScores, highest: Band, lowest: Band, pool: Pool, *, known_trunks: bool) -> FlaggedCalls:
    """Returns the certifying calls on a feed, with the events of their numbers."""
    rows = np.flatnonzero(pool.certify & ~pool.judged.announcing & ~np.isnan(scores.raw))
    rows = rows[np.argsort(pool.start[rows], kind="stable")]
    raw, stratum = scores.raw[rows], scores.stratum[rows]
    high, low = (np.array([band.threshold_for(word) for word in STRATA])[stratum] for band in (highest, lowest))
    # All withheld numbers share one token.
    some = np.flatnonzero((raw >= low) & (stratum != STRATA.index("withheld")))
    trunks = pool.trunk[rows[some]].tolist() if known_trunks else [-1] * len(some)
    events = np.zeros(len(rows), dtype=np.int64)
    events[some] = events_of_calls(
        list(map(str, pool.caller[rows[some]].tolist())),
        [str(trunk) if trunk >= 0 else None for trunk in trunks],
        pool.start[rows[some]].tolist(),
        (raw >= high)[some].tolist(),
    )
    return FlaggedCalls(raw, high, low, events, ~pool.judged.nuisance[rows])


def certified_flags(calls: FlaggedCalls, highest: Band, lowest: Band) -> list[tuple[float, Band]]:
    """Returns the lowest certified threshold of flagged numbers, with its reach; [] if the first is not certified."""
    best: list[tuple[float, Band]] = []
    for reach in REACHES:
        false = int(calls.flagged(reach)[calls.innocent].sum())
        proof = certificate_of(highest.certificate.fold, false, int(calls.innocent.sum()), highest.certificate.target)
        if not proof.certified:
            break
        edges = {word: highest.threshold_for(word) for word in STRATA if word not in highest.abstains}
        edges = {word: edge - reach * (edge - lowest.threshold_for(word)) for word, edge in edges.items()}
        threshold = min(edges.values())
        raised = {word: edge for word, edge in edges.items() if edge > threshold}
        best = [
            (
                reach,
                structs.replace(highest, name=NAME, threshold=threshold, certificate=proof, strata={}, raised=raised),
            )
        ]
    return best
