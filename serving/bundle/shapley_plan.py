"""The plan of the contributions: the order of a model's nodes, and every array that is equal for all rows.

`shapley.py` explains the method and its symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .model_text import Tree
from .tree_arrays import Decisions, Floats, Indices, Nodes, read_nodes

POINTS = 8
"""Quadrature points side by side: a row of 8 floats is a cache line. A tree that needs more points is copied."""

_MAX_FLOATS = 1 << 26  # of a plan and a workspace: 512 MB
# Regions of a level: two child nodes, or at most one; with or without a node above that splits by the same feature.
_TWO, _TWO_REPEAT, _SINGLE_REPEAT, _SINGLE = range(4)


@dataclass(frozen=True, slots=True)
class Level:
    """The nodes `begin` to `end` of a plan, all of one depth.

    Attributes:
        begin, two, end: both children of the nodes `begin` to `two` are nodes; the others have one child node at most.
        first, last: the repeats, which are nodes below a node that splits by the same feature.
        table: index of `first` among all repeats of the plan.
        near, far: the children's rows of T.
        edge: index of the level's first edge among all levels. A level has an edge to each near child, then an edge to
            each far child that is a node, then one entry for each node.
        parents: the edges of the level above that lead to these nodes; empty at the roots.
    """

    begin: int
    two: int
    end: int
    first: int
    last: int
    table: int
    near: Indices
    far: Indices
    edge: int
    parents: Indices


class Plan:
    """The nodes of trees with more than one leaf, in the order of the computation.

    The `inner` nodes come first, level by level from the roots. Then come the pairs: nodes whose children are both
    leaves, and whose T is a straight line in t. The T of a node is stored minus a constant: the value of its parent's
    far leaf, if the parent has one. The stored value is then the parent's T_near - T_far without a subtraction.

    Each node uses one set of quadrature points, `lines[1 + set]`. The sets of a tree's copies form one quadrature rule.
    """

    def __init__(self, trees: Sequence[Tree], width: int) -> None:
        nodes, rule = _copied(trees)
        repeat = nodes.splits_before > 0
        two = (nodes.left >= 0) & (nodes.right >= 0)
        pair = (nodes.left < 0) & (nodes.right < 0) & ~repeat & (nodes.parent >= 0)
        region = np.where(two, np.where(repeat, _TWO_REPEAT, _TWO), np.where(repeat, _SINGLE_REPEAT, _SINGLE))
        order = np.lexsort((region, nodes.depth, pair))
        self.size, self.inner, self.width = len(order), int((~pair).sum()), width
        self.feature, self.decisions = nodes.feature[order], Decisions(nodes, order, width)
        place = np.zeros(self.size, dtype=np.intp)
        place[order] = np.arange(self.size)

        left, right = nodes.left[order], nodes.right[order]
        self.flipped = (left < 0) & (right >= 0)  # so that the near child is a node if any child is
        near, far = np.where(self.flipped, right, left), np.where(self.flipped, left, right)
        self.share = np.where(self.flipped, nodes.right_share[order], nodes.left_share[order])
        starts = [0, *(np.flatnonzero(np.diff(nodes.depth[order[: self.inner]])) + 1).tolist(), self.inner]
        self._add_leaves(nodes, near, far, place[nodes.parent[order]], starts)
        t = self._add_points(rule[nodes.tree[order]], starts[1])
        self._add_repeats(nodes, order, place, t)
        self._add_levels(place, near, far, starts)

    def _add_leaves(self, nodes: Nodes, near: Indices, far: Indices, parent: Indices, starts: list[int]) -> None:
        near_leaf, far_leaf = (
            np.where(child < 0, nodes.leaf_value[~np.minimum(child, -1)], 0.0) for child in (near, far)
        )
        offset = np.zeros(self.size)
        for begin, end in [*pairwise(starts[1:]), (self.inner, self.size)]:
            above = parent[begin:end]
            offset[begin:end] = np.where(far[above] < 0, far_leaf[above], offset[above])
        self.constant = far_leaf - offset
        self.gap = near_leaf[self.inner :] - far_leaf[self.inner :]
        self.lone = np.flatnonzero(near[: self.inner] < 0)
        self.lone_leaves = near_leaf[self.lone] - far_leaf[self.lone]

    def _add_points(self, rule: Indices, roots: int) -> Floats:
        """Adds the sets of quadrature points. Returns the points of each node, shape (size, POINTS)."""
        sets, of_node = np.unique(rule, axis=0, return_inverse=True)
        points, weights = [], []
        for copies, copy in sets.tolist():
            t, weight = np.polynomial.legendre.leggauss(POINTS * copies)
            points.append((t[copy::copies] + 1) / 2)
            weights.append(weight[copy::copies] / 2)
        self.lines = np.stack([np.ones(POINTS), *points])
        self.root_weights = np.stack(weights)[of_node[:roots]]
        # The factor of c for each set; it is 0 except for the node's own set.
        self.slopes = np.zeros((len(sets), self.size))
        self.slopes[of_node, np.arange(self.size)] = np.concatenate([np.ones(self.inner), self.gap])
        return self.lines[1 + of_node]

    def _add_repeats(self, nodes: Nodes, order: Indices, place: Indices, t: Floats) -> None:
        """Adds the repeats: the side of their ancestor on which they lie, and g and rho at each point."""
        node = np.flatnonzero(nodes.splits_before[order] > 0)
        above = place[nodes.ancestor[order[node]]]
        self.repeats, self.repeated, self.table_rows = node, above, np.arange(0, 3 * len(node), 3)
        self.by_near = nodes.below_left[order[node]] != self.flipped[above]
        # Repeats whose ancestor is a repeat itself, nearest to the root first.
        rank = nodes.splits_before[order[node]]
        later = [np.flatnonzero(rank == r) for r in range(2, rank.max(initial=0) + 1)]
        self.chains = [(repeat, np.searchsorted(node, above[repeat])) for repeat in later]
        share, before = self.share[node, None], nodes.share_before[order[node], None]
        mixed = before + t[node] * (1 - before)
        tau, self.rho = t[node] / mixed, before / mixed**2
        # In this order: the row goes far, goes near, or left the path at the ancestor.
        weights = [share - tau * share, share + tau * (1 - share), np.broadcast_to(share, tau.shape)]
        self.repeat_weights = np.stack(weights, axis=1).reshape(-1, POINTS)

    def _add_levels(self, place: Indices, near: Indices, far: Indices, starts: list[int]) -> None:
        """Adds the levels. The rows of T are the nodes in order, then the near leaves of inner nodes."""
        near_row, far_row = place[np.maximum(near, 0)], place[np.maximum(far, 0)]
        near_row[self.lone] = self.size + np.arange(len(self.lone))
        repeated = np.zeros(self.inner, dtype=np.bool_)
        repeated[self.repeats] = True
        self.levels: list[Level] = []
        # `to_node` is the edge to each node. An inner node has an entry for its integral; a pair uses the edge to it.
        to_node, above, edge = np.zeros(self.size, dtype=np.intp), 0, 0
        self.integral = np.zeros(self.size, dtype=np.intp)
        for begin, end in pairwise(starts):
            two = begin + int((far[begin:end] >= 0).sum())
            first, count = begin + int(np.argmax(repeated[begin:end])), int(repeated[begin:end].sum())
            parents = to_node[begin:end] - above if begin else to_node[:0]
            rows = near_row[begin:end], far_row[begin:two]
            table = int(repeated[:begin].sum())
            self.levels.append(Level(begin, two, end, first, first + count, table, *rows, edge, parents))
            below = begin + np.flatnonzero(near[begin:end] >= 0)
            to_node[near_row[below]] = edge + below - begin
            to_node[far_row[begin:two]] = edge + end - begin + np.arange(two - begin)
            self.integral[begin:end] = edge + end - begin + two - begin + np.arange(end - begin)
            above, edge = edge, edge + 2 * (end - begin) + two - begin
        self.integral[self.inner :] = to_node[self.inner :]
        self.edges = edge


def _copied(trees: Sequence[Tree]) -> tuple[Nodes, Indices]:
    """Returns the nodes of all copies of the trees; and for each copy, the tree's number of copies and its own index.

    A tree needs half as many quadrature points as its longest path has different features, in copies of POINTS each.
    """
    nodes = read_nodes(trees)
    features = np.zeros(len(trees), dtype=np.intp)
    np.maximum.at(features, nodes.tree, nodes.features_on_path)
    copies = (-(-features // (2 * POINTS))).tolist()
    rule = np.array([(n, copy) for n in copies for copy in range(n)], dtype=np.intp).reshape(-1, 2)
    size = int(np.bincount(nodes.tree) @ np.array(copies))
    floats = size * (4 * POINTS + 2 * len(set(map(tuple, rule.tolist()))))
    if floats > _MAX_FLOATS:
        raise ValueError(
            f"contributions need {floats} floats, expected at most {_MAX_FLOATS}; train fewer or flatter trees"
        )
    if len(rule) > len(trees):
        nodes = read_nodes([tree for tree, n in zip(trees, copies, strict=True) for _ in range(n)])
    return nodes, rule
