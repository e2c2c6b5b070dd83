"""Callers that share their victims: groups of reported callers who call the same people more than chance explains.

Chance knows how many each calls, and how many call each person (the configuration model): callers of one town share
people without any list. Two callers belong together if they share LEAST people, FACTOR times as many as expected, and
DEVIATIONS standard deviations (Poisson) above; groups are what hangs together. It shows where one list of people is
used by several lines, which is where a leak may be; it does not prove one, and couriers of one street share people too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LEAST, FACTOR, DEVIATIONS = 10, 4.0, 6.0
MOST_CALLERS = 5000  # those of most people, if there are more


def groups(caller: Array, callee: Array, suspect: Array) -> tuple[Array, int]:
    """For each call the group of its caller, or -1; and how many groups there are, the largest first.

    Args:
        caller, callee: numbers from 0, for each call.
        suspect: for each call, whether its caller is one of those to look at.
    """
    found = np.full(len(caller), -1, dtype=np.int64)
    pairs = np.unique(np.stack([caller[suspect], callee[suspect]]), axis=1)
    who, place, reach = np.unique(pairs[0], return_inverse=True, return_counts=True)
    if len(who) < 2:
        return found, 0
    kept = np.zeros(len(who), dtype=bool)
    kept[np.argsort(-reach, kind="stable")[:MOST_CALLERS]] = True
    victims = np.unique(pairs[1], return_inverse=True)[1]
    calls = sparse.coo_array((np.ones(len(place)), (place, victims))).tocsr() * kept[:, None]
    linked = sparse.csr_array(_linked(sparse.csr_array(calls)))
    many, part = connected_components(linked, directed=False)
    size = np.bincount(part, minlength=many)
    order = np.argsort(-size, kind="stable")[: int((size > 1).sum())]
    rank = np.full(many, -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    inside = np.flatnonzero(suspect)
    found[inside] = rank[part[np.searchsorted(who, caller[inside])]]
    return found, len(order)


def _linked(calls: sparse.csr_array) -> sparse.coo_array:
    """Which callers share more people than chance explains."""
    reach, called = calls.sum(axis=1), calls.sum(axis=0)
    shared = (calls @ calls.T).tocoo()
    chance = (called * (called - 1)).sum() / max(called.sum(), 1.0) ** 2
    expected = reach[shared.row] * reach[shared.col] * chance
    more = (shared.data >= LEAST) & (shared.data > FACTOR * expected)
    more &= shared.data > expected + DEVIATIONS * np.sqrt(expected)
    return sparse.coo_array((np.ones(more.sum()), (shared.row[more], shared.col[more])), shape=shared.shape)
