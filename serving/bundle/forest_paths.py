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
from collections.abc import Iterable, Sequence
from functools import cache

from .forest_layout import places
from .model_text import Tree

POINTS = 8
"""Quadrature points side by side. A tree that needs more is explained in several sets of points."""


class Paths:
    """The arrays that explanations need besides those of `forest_layout.Layout`.

    Attributes:
        share: by packed node, the share of its training calls that went left (z).
        before: by packed node, the product of the shares of the edges at nodes above of the same feature (s).
        above: by packed node, the nearest such node within its tree, times 2, plus 1 on its right; -1 without one.
        rule: two int32 a tree: the first float and the number of its sets of points.
        point: sets of points: POINTS points, then their POINTS weights.
    """

    def __init__(self, trees: Sequence[Tree]) -> None:
        """Computes the arrays."""
        self.share, self.before, self.above = array("d"), array("d"), array("i")
        self.rule, self.point = array("i"), array("d")
        most: list[int] = []
        for tree in trees:
            shares, before, above, features = _paths(tree)
            if tree.cat_boundaries:  # the nodes of a chain repeat the values of their split
                place = places(tree)
                above = [up if up < 0 else 2 * place[up // 2] + up % 2 for up in above]
                owners = [node for node in range(len(shares)) for _ in range(place[node], place[node + 1])]
                shares, before = [shares[node] for node in owners], [before[node] for node in owners]
                above = [above[node] for node in owners]
            self.share.extend(shares)
            self.before.extend(before)
            self.above.extend(above)
            most.append(features)
        self.add_rules(most)

    def add_rules(self, features: Iterable[int]) -> None:
        """Adds the sets of points of each tree, from the most different features of one of its paths."""
        first: dict[int, int] = {}
        for count in features:
            sets = -(-count // (2 * POINTS))
            if sets not in first:
                first[sets] = len(self.point)
                self.point.extend(quadrature(sets))
            self.rule.extend((first[sets], sets))


def _paths(tree: Tree) -> tuple[list[float], list[float], list[int], int]:
    """Returns `share`, `before` and `above` of a tree's own nodes, and the most different features of a path."""
    nodes, counts = len(tree.left), [*tree.node_count, *tree.leaf_count[::-1]]  # so that the leaf c < 0 is counts[c]
    shares = [counts[left] / calls for left, calls in zip(tree.left, tree.node_count, strict=True)]
    edge, before, above, features = [-1] * nodes, [1.0] * nodes, [-1] * nodes, [1] * nodes
    for node, children in enumerate(zip(tree.left, tree.right, strict=True)):
        for right, child in enumerate(children):
            if child > 0:
                edge[child] = 2 * node + right
    for node in range(1, nodes):
        up = edge[node]
        features[node] += features[up // 2]
        while up >= 0 and tree.feature[up // 2] != tree.feature[node]:
            up = edge[up // 2]
        if up >= 0:
            share = shares[up // 2]
            above[node], before[node] = up, before[up // 2] * (1 - share if up % 2 else share)
            features[node] -= 1
    return shares, before, above, max(features, default=0)


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
