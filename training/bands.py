"""Bands of scores: thresholds that hold on every feed and every kind of line, and of which lines they say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..features.records import NUMBER_CLASSES
from ..serving.card import Band
from .certify import certificate, choose_threshold, strata, upper_bound

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

# The two bands and the benign error that each is to be certified for.
TARGETS = (("certified", 1e-4), ("watch", 1e-3))
# Part of the target that the choosing fold may show, and what is added to the threshold it gives (log-odds). Calls of
# one caller are alike, so that the exact bound flatters a fold with few busy callers; the certificate is the judge.
MARGIN = 0.4
GUARD = 1.0
# Mobile numbers, resold ones among them, are one kind of line; any other number class is one by itself.
MOBILE_LINES = ("mobile", "resale")
MOBILE = NUMBER_CLASSES.index("mobile")


def bands_of(
    raw_by_feed: Sequence[Array], choose: Array, certify: Array, kind: Array, guard: float
) -> tuple[Band, ...]:
    """The bands of TARGETS, highest first.

    Args:
        raw_by_feed: raw scores over all calls, of the complete feed first; NaN where a call was not scored.
        choose, certify: which calls are benign ones of these folds.
        kind: class of each call's caller, as `split.caller_classes`.
        guard: what is added to the threshold that the choosing fold gives.
    """
    bands: list[Band] = []
    for name, target in TARGETS:
        ceiling = bands[-1].threshold if bands else np.inf
        threshold, silent = held_to(raw_by_feed, choose, kind, target, guard, ceiling)
        held = spoken_of(raw_by_feed[0], kind, threshold, silent)[certify]
        words = np.array(NUMBER_CLASSES)[kind[certify]]
        bands.append(
            Band(
                name, threshold, certificate("certify", held, threshold, target),
                strata("certify", held, threshold, target, words), silent,
            )
        )  # fmt: skip
    return tuple(bands)


def held_to(
    raw_by_feed: Sequence[Array], choose: Array, kind: Array, target: float, guard: float, ceiling: float
) -> tuple[float, tuple[str, ...]]:
    """A threshold that holds on every feed and every kind of line, and the number classes that it cannot be held to.

    A few surveys, alarms and bank lines look like nuisance to a model that saw none of them. One threshold over all
    calls would be theirs: nobody else's nuisance reached it. So each kind of line is held to the target by itself, and
    of one with too few innocent calls for that, nothing is said. If there is no line with enough, the threshold lies
    above every score of the choosing fold.
    """
    line = np.where(np.isin(kind, [NUMBER_CLASSES.index(name) for name in MOBILE_LINES]), MOBILE, kind)
    edges = {}
    for one in np.unique(line[choose]):
        rows = choose & (line == one)
        if upper_bound(0, int(rows.sum())) <= MARGIN * target:
            edges[int(one)] = guard + max(choose_threshold(raw[rows], target, margin=MARGIN) for raw in raw_by_feed)
    edges = {one: edge for one, edge in edges.items() if edge <= ceiling}
    if not edges:
        highest = guard + max(choose_threshold(raw[choose], target, margin=MARGIN) for raw in raw_by_feed)
        return min(highest, ceiling), ()
    spoken = set(edges) | ({NUMBER_CLASSES.index(name) for name in MOBILE_LINES} if MOBILE in edges else set())
    return max(edges.values()), tuple(name for code, name in enumerate(NUMBER_CLASSES) if code not in spoken)


def spoken_of(raw: Array, kind: Array, threshold: float, silent: Sequence[str]) -> Array:
    """Raw scores, held below the threshold where a band is silent about the caller's number class.

    Args:
        kind: class of each call's caller, as `split.caller_classes`, shape (n,).
        silent: names of the classes.

    >>> spoken_of(np.array([3.0, 3.0, 1.0]), np.array([0, 2, 2]), 2.0, NUMBER_CLASSES[2:3]).round(3).tolist()
    [3.0, 2.0, 1.0]
    """
    mute = np.isin(kind, [NUMBER_CLASSES.index(name) for name in silent])
    return np.where(mute, np.minimum(raw, np.nextafter(threshold, -np.inf)), raw)
