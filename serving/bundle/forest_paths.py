"""The arrays and the method of exact contributions: LightGBM's `pred_contrib`, computed from verified trees.

The contributions are the Shapley values of the tree model (Lundberg et al. 2020) in Owen's form, an integral over t
from 0 to 1. Every other feature is known with probability t. An unknown feature follows, at each node, the
distribution of the training calls. The integrand is the gain of the score when the feature becomes known.

Let z be the share of a node's training calls that went left. At one t, the left child has the weight g = z + tau c,
where c = 1 - z if the row goes left and c = -z otherwise. For each tree, W is computed from the root down, then the
mean T from the leaves up:

    W_left = g W,  W_right = W - W_left
    T = T_right + g (T_left - T_right)
    contribution to the node's feature: c times the integral of W (T_left - T_right) rho

If no node above splits by the same feature, tau = t and rho = 1. If some do, let s be the product of the shares of
their edges on this path. If the row took all these edges, tau = t / (s + t - s t) and rho = s / (s + t - s t)^2.
Otherwise c = 0.

Along t the integrand is a polynomial. Its degree is below the number of different features on a path, so
Gauss-Legendre quadrature with half as many points is exact. It is stable, because its weights and all g are positive.
Linear TreeSHAP (Yu et al. 2022) computes the same sum.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from callsieve.features.codegen.c_interface import address

from .forest_library import NO_MEMORY, library

if TYPE_CHECKING:
    from .forest_layout import Layout

POINTS = 8
"""Quadrature points side by side. A tree that needs more is explained in several sets of points."""


class Paths:
    """The arrays that explanations need besides those of `forest_layout.Layout`.

    Attributes:
        share: by node, the share of its training calls that went left (z). The nodes of a set repeat its values.
        before: by node, the product of the shares of the edges at nodes above of the same feature (s).
        above: by node, the nearest such node within its tree, times 2, plus 1 on its right; -1 without one.
        rule: two int32 a tree: the first float and the number of its sets of points.
        point: sets of points: POINTS points, then their POINTS weights.
    """

    def __init__(self, layout: Layout, forest: int = 0) -> None:
        """Computes the arrays; compiled if there is a library and `forest` is the address of the forest."""
        nodes, most = len(layout.node) // 4, array("i", bytes(4 * layout.trees))
        self.share, self.before = array("d", bytes(8 * nodes)), array("d", bytes(8 * nodes))
        self.above, self.rule, self.point = array("i", bytes(4 * nodes)), array("i"), array("d")
        if forest and (compiled := library()) is not None:
            arrays = layout.leaf_count, self.share, self.before, self.above, most
            if compiled.paths(forest, *map(address, arrays)) == NO_MEMORY:
                raise MemoryError("no memory for explanations")
        else:
            for tree, (first, leaf, count, _) in enumerate(zip(*[iter(layout.tree)] * 4, strict=True)):
                most[tree] = self._add(layout, first, count, leaf)
        self._add_rules(most)

    def _add(self, layout: Layout, first: int, count: int, leaf: int) -> int:
        """Writes the arrays of a tree; returns the most different features of one of its paths."""
        splits, edge, different = [*splits_of(layout, first, count)], {0: -1}, {0: 0}
        calls: dict[int, int] = {}
        for node, last in splits:
            for right, child in enumerate(layout.node[4 * (first + last) + 2 :][:2]):
                edge[child] = 2 * node + right
        for node, last in reversed(splits):
            left, right = (
                calls[child] if child >= 0 else layout.leaf_count[leaf + ~child]
                for child in layout.node[4 * (first + last) + 2 :][:2]
            )
            calls[node], self.share[first + node] = left + right, left / (left + right)
        for node, last in splits:
            up, feature = edge[node], layout.source[layout.node[4 * (first + node)]]
            different[node] = 1 + (different[up // 2] if up >= 0 else 0)
            while up >= 0 and layout.source[layout.node[4 * (first + up // 2)]] != feature:
                up = edge[up // 2]
            before = 1.0
            if up >= 0:
                share, different[node] = self.share[first + up // 2], different[node] - 1
                before = self.before[first + up // 2] * (1 - share if up % 2 else share)
            for place in range(first + node, first + last + 1):
                self.share[place], self.before[place], self.above[place] = self.share[first + node], before, up
        return max(different.values())

    def _add_rules(self, features: Iterable[int]) -> None:
        """Adds the sets of points of each tree, from the most different features of one of its paths."""
        first: dict[int, int] = {}
        for count in features:
            sets = -(-count // (2 * POINTS))
            if sets not in first:
                first[sets] = len(self.point)
                self.point.extend(quadrature(sets))
            self.rule.extend((first[sets], sets))


def splits_of(layout: Layout, first: int, count: int) -> Iterator[tuple[int, int]]:
    """Yields the first and the last node of each split of a tree: a set of levels is a chain with one left child."""
    node, begin = layout.node, 0
    for n in range(count):
        at = 4 * (first + n)
        if not (node[at] >= layout.numeric and node[at + 3] == n + 1 and node[at + 6] == node[at + 2]):
            yield begin, n
            begin = n + 1


@cache
def quadrature(sets: int) -> array[float]:
    """Returns Gauss-Legendre points and weights on 0..1, in `sets` sets of POINTS points and their weights.

    Newton's method on the Legendre polynomial, from the usual first guess of its roots.
    """
    order = sets * POINTS
    points, weights = [], []
    for k in range(order):
        x, slope = math.cos(math.pi * (k + 0.75) / (order + 0.5)), 1.0
        for _ in range(6):
            value, before = x, 1.0
            for n in range(2, order + 1):
                value, before = ((2 * n - 1) * x * value - (n - 1) * before) / n, value
            slope = order * (before - x * value) / (1 - x * x)
            x -= value / slope
        points.append((x + 1) / 2)
        weights.append(1 / ((1 - x * x) * slope * slope))
    chunks = range(0, order, POINTS)
    return array("d", [v for k in chunks for v in (*points[k : k + POINTS], *weights[k : k + POINTS])])
