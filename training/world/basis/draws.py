"""Random draws of all populations: streams, log-normals, weighted choices."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from callsieve.features.arrays import Floats, Int64s

from .scenario import Spread


def stream(seed: int, name: str) -> np.random.Generator:
    """Returns the random generator of a population; it depends on the name, so a new population changes no other."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),)))


def lognormal(rng: np.random.Generator, spread: Spread, count: int) -> Floats:
    """Draws `count` values of a log-normal."""
    return spread.median * np.exp(spread.sigma * rng.standard_normal(count))


def choose(rng: np.random.Generator, weights: Mapping[str, float], count: int) -> Int64s:
    """Draws `count` positions in `weights`, by weight; raises ValueError if the weights have no positive sum."""
    cumulative = np.cumsum(np.fromiter(weights.values(), float))
    if not len(cumulative) or cumulative[-1] <= 0:
        raise ValueError(f"weights must have a positive sum, got {dict(weights)!r}")
    positions: Int64s = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
    return positions


def group_positions(counts: Int64s) -> Int64s:
    """Returns 0, 1, ... within each of consecutive groups of these sizes.

    >>> group_positions(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def running_sum(values: Int64s, counts: Int64s) -> Int64s:
    """Returns exclusive cumulative sums that restart in each of consecutive groups of sizes `counts`."""
    before: Int64s = np.cumsum(values) - values
    filled = counts[counts > 0]
    starts = np.cumsum(filled) - filled
    offsets: Int64s = np.repeat(before[starts], filled)
    return before - offsets
