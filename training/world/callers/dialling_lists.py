"""Dialling lists, which outfits share, and the choice of the next callees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Int32s, Int64s
from callsieve.training.world.basis.draws import stream
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.scenario import Scenario

from .people import Society


@dataclass(frozen=True)
class Aim:
    """How an outfit chooses its callees."""

    outside_share: float
    dead_share: float
    sequential: bool


def trade_lists(scenario: Scenario, seed: int, society: Society) -> list[Int64s]:
    """Draws dialling lists of subscribers, weighted by exposure, so that lists overlap."""
    rng = stream(seed, "lists")
    table, count = scenario.table("lists"), society.subscribers
    lists = max(table["least"], count // table["subscribers_per_list"])
    chance = np.cumsum(society.exposure / society.exposure.sum())
    size = min(table["people_per_list"], count // 2)
    drawn = [np.searchsorted(chance, rng.random(size) * chance[-1], side="right") for _ in range(lists)]
    return [np.unique(members) for members in drawn]


def nearby(rng: np.random.Generator, area: int, society: Society) -> Int64s:
    """Draws a range of neighbouring subscribers."""
    first = int(rng.integers(0, society.subscribers))
    return (first + np.arange(min(area, society.subscribers))) % society.subscribers


def callees(
    rng: np.random.Generator,
    aim: Aim,
    people: Int64s,
    count: int,
    society: Society,
    numbers: Directory,
) -> Int32s:
    """Draws the next `count` callees of an outfit with the dialling list `people`."""
    if aim.sequential:
        return _sequential(rng, aim, count, society, numbers)
    rounds = -(-count // max(len(people), 1))
    picked = np.concatenate([rng.permutation(people) for _ in range(rounds)] or [people])[:count]
    luck = rng.random(count)
    outside = luck < aim.outside_share
    picked[outside] = society.subscribers + rng.integers(0, society.outsiders, int(outside.sum()))
    dead = luck > 1 - aim.dead_share
    neighbours = numbers["digits"][rng.integers(0, society.subscribers, int(dead.sum()))]
    picked[dead] = _unallocated(rng, neighbours, aim, numbers)
    return picked.astype(np.int32)


def _sequential(rng: np.random.Generator, aim: Aim, count: int, society: Society, numbers: Directory) -> Int32s:
    """Draws callees in the order of their digits, including unallocated numbers between them."""
    first = int(rng.integers(0, society.subscribers))
    gaps = rng.random(count) < min(0.5, 3 * aim.dead_share)
    picked = society.by_digits[(first + np.cumsum(~gaps)) % society.subscribers]
    picked[gaps] = _unallocated(rng, numbers["digits"][picked[gaps]], aim, numbers)
    chosen: Int32s = picked.astype(np.int32)
    return chosen


def _unallocated(rng: np.random.Generator, neighbours: Int64s, aim: Aim, numbers: Directory) -> Int32s:
    """Adds unallocated numbers near allocated ones; some belong to other networks."""
    digits = neighbours + rng.integers(1, 10, len(neighbours))
    return numbers.add(digits, ours=rng.random(len(digits)) >= aim.outside_share)
