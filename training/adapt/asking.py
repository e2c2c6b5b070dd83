"""Draws the callers that a person should check, with known probabilities, and those whose answers need a second look.

A number that shows one call and no earlier life may be forged: a call back reaches its owner, who knows nothing of the
call. Such callers are left out of the draw, and counted.

A caller is drawn with a probability in proportion to the calls that it could add to the innocent calls flagged, and to
how uncertain it is whether it is innocent. Callers that complaints or other evidence decide are not drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.arrays import Array

if TYPE_CHECKING:
    from callsieve.training.evidence.callers import Callers

CHECKS, SECOND_LOOKS = 175, 25  # of a first round, and of a second
CERTAIN = (0.01, 0.99)  # callers with a probability of nuisance outside are not drawn


@dataclass(frozen=True, slots=True)
class Drawn:
    """Callers to check: their places, and for each the probability with which it was drawn.

    A draw is in random order, so the first callers of it are a draw, too.
    """

    caller: Array
    probability: Array


def maybe_forged(calls: pa.Table, token: Array) -> Array:
    """Returns which callers make a single call, were not called before it, and have no full attestation; bool.

    Args:
        calls: all calls in order of start. token: of the callers, shape (callers,).
    """
    of = pd.Index(token)
    caller, callee = (of.get_indexer(calls[name].cast(pa.string()).to_pandas()) for name in ("caller", "callee"))
    rows = np.arange(calls.num_rows)
    first, called = np.full(len(token), len(rows)), np.full(len(token), len(rows))
    np.minimum.at(first, caller, rows)
    np.minimum.at(called, callee[callee >= 0], rows[callee >= 0])
    forged = (np.bincount(caller, minlength=len(token)) == 1) & (called > first)
    if "attestation" in calls.column_names:
        forged &= ~np.asarray(calls["attestation"].cast(pa.string()).to_pandas().eq("A"))[
            np.minimum(first, len(rows) - 1)
        ]
    return np.asarray(forged)


def draw(calls: Array, nuisance: Array, budget: float, checks: int, seed: int) -> Drawn:
    """Draws callers to check by systematic sampling with unequal probabilities (Madow 1949).

    Args:
        calls: calls of each caller at or above the lowest threshold in question, shape (callers,).
    """
    doubt = np.sqrt(nuisance * (1 - nuisance)) * ((nuisance >= CERTAIN[0]) & (nuisance <= CERTAIN[1]))
    size = np.minimum(calls, max(budget, 1.0)) * doubt
    probability = inclusion(size, checks)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(size))
    ends = np.cumsum(probability[order]) + rng.random()
    begins = np.concatenate([[ends[0] - probability[order[0]]], ends[:-1]]) if len(ends) else ends
    caller = rng.permutation(order[np.floor(ends) > np.floor(begins)])
    return Drawn(caller, probability[caller])


def inclusion(size: Array, checks: int) -> Array:
    """Returns probabilities in proportion to sizes, at most 1, whose sum is `checks`, or all that have a size.

    >>> inclusion(np.array([1.0, 1.0, 8.0, 0.0]), 2).tolist()
    [0.5, 0.5, 1.0, 0.0]
    """
    probability = np.zeros(len(size))
    certain = np.zeros(len(size), dtype=bool)
    while True:
        free = (size > 0) & ~certain
        if not free.any():
            break
        probability[free] = max(checks - int(certain.sum()), 0) * size[free] / size[free].sum()
        more = free & (probability >= 1)
        if not more.any():
            break
        certain |= more
        probability[certain] = 1.0
    return probability


def second_looks(callers: Callers, nuisance: Array, calls: Array, budget: float, looks: int = SECOND_LOOKS) -> Array:
    """Returns the places of callers whose single answer surprises most, with the calls that hang on it, ascending."""
    single = np.flatnonzero(callers.looks == 1)
    surprise = np.abs((callers.checked[single] > 0) - nuisance[single]) * np.minimum(calls[single], max(budget, 1.0))
    ranked = single[np.argsort(-surprise, kind="stable")]
    return np.sort(ranked[: min(looks, int((surprise > 0).sum()))])
