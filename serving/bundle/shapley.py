"""Exact additive contributions of one row, computed from the verified trees: LightGBM's `pred_contrib`.

The contributions are the Shapley values of the tree model (Lundberg et al. 2020) in Owen's form, an integral over t
from 0 to 1. Every other feature is known with probability t. An unknown feature follows, at each node, the
distribution of the training calls. The integrand is the gain of the score when the feature becomes known.

Let z be the share of a node's training calls that went to its near child. At one t, the near child has the weight
g = z + tau c, where c = 1 - z if the row goes there and c = -z otherwise. For all trees at once, T is computed from the
leaves up, then C from the roots down:

    T = T_far + g (T_near - T_far)        C_near = g C,  C_far = C - C_near
    contribution to the node's feature: c times the integral of C (T_near - T_far) rho

If no node above splits by the same feature, tau = t and rho = 1. If one does, let s be the share of its edge on this
path. If the row took that edge, tau = t / (s + t - s t) and rho = s / (s + t - s t)^2. Otherwise c = 0.

Along t the integrand is a polynomial. Its degree is below the number of different features on a path, so
Gauss-Legendre quadrature with half as many points is exact. It is stable, because its weights and all g are positive.
Linear TreeSHAP (Yu et al. 2022) computes the same sum.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .model_text import Tree
from .shapley_plan import POINTS, Level, Plan
from .tree_arrays import Floats, Indices, forms


class Contributions:
    """Contributions to the raw score of a yes-no model.

    Threads can share it: each call takes a workspace from a free list and puts it back.

    Attributes:
        base: mean score of the training calls. The base and the contributions of a row add up to its raw score.
    """

    def __init__(self, trees: Sequence[Tree], width: int) -> None:
        """Plans the computation.

        Args:
            trees: the trees of a model of one class, from `model_text.check_structure`.
            width: F, the number of features of a row.

        Raises:
            ValueError: if the trees are so many and so deep that the computation would need more than 512 MB.
        """
        self.base = sum(map(_mean, trees))
        self._width = width
        split_trees = [tree for tree in trees if tree.left]
        self._plan = Plan(split_trees, width) if split_trees else None
        self._free: deque[_Workspace] = deque()

    def __call__(self, row: Sequence[float]) -> Floats:
        """Returns the contributions of one row of F values, shape (F,). NaN is a missing value.

        Raises:
            ValueError: if the row has another width or an infinite value.
        """
        values = np.array(row, dtype=np.float64)
        if values.shape != (self._width,) or np.isinf(values).any():
            raise ValueError(f"row must have {self._width} values, finite or NaN")
        if not self._plan:
            return np.zeros(self._width)
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = _Workspace(self._plan)
        contributions = workspace.contributions(forms(values))
        self._free.append(workspace)
        return contributions


def _mean(tree: Tree) -> float:
    if not tree.left:
        return tree.leaf_value[0]
    return float(np.dot(np.array(tree.leaf_count) / tree.node_count[0], tree.leaf_value))


class _Repeats(NamedTuple):
    """The nodes of one level whose feature was split by a node above."""

    state: Indices
    g: Floats
    gain: Floats
    rho: Floats


class _Up(NamedTuple):
    """Views of one level on the way from the leaves: T is `below`; `two` are the rows of nodes with two child nodes."""

    factors: Floats
    g: Floats
    gain: Floats
    below: Floats
    near: Indices
    far: Indices
    far_below: Floats
    two: Floats
    constant: Floats
    repeats: _Repeats | None


class _Down(NamedTuple):
    """Views of one level on the way from the roots: C is `above` at its nodes, `near` and `far` along its edges."""

    parents: Indices
    above: Floats
    two: Floats
    g: Floats
    gain: Floats
    near: Floats
    near_two: Floats
    far: Floats
    product: Floats
    rows: Floats
    sums: Floats


class _Workspace:
    """The arrays of one thread, and views of them for each level, allocated once."""

    def __init__(self, plan: Plan) -> None:
        size, inner = plan.size, plan.inner
        self._plan = plan
        self._ones = np.ones(POINTS)
        self._values, self._c, self._integral = np.empty(size), np.empty(size), np.empty(size)
        self._near, self._left_path = np.zeros(size, dtype=np.bool_), np.zeros(len(plan.repeats), dtype=np.bool_)
        self._state = np.zeros(len(plan.repeats), dtype=np.intp)
        self._sums = np.zeros(plan.edges)
        # The product of these factors and the plan's lines is g at an inner node and T at a pair.
        self._factors = np.zeros((len(plan.lines), size))
        self._factors[0] = plan.share
        self._factors[0, inner:] = plan.constant[inner:] + plan.share[inner:] * plan.gap
        self._below = _aligned(size + len(plan.lone))
        self._below[size:] = plan.lone_leaves[:, None]
        self._g, self._gain, self._constant = (_aligned(inner) for _ in range(3))
        self._constant[:] = plan.constant[:inner, None]
        self._above = _aligned(max(level.end - level.begin for level in plan.levels))
        self._edges = _aligned(max(2 * (level.end - level.begin) + level.two - level.begin for level in plan.levels))
        self._up = [self._view_up(level) for level in reversed(plan.levels)]
        self._down = [self._view_down(level) for level in plan.levels]

    def _view_up(self, level: Level) -> _Up:
        nodes, two = slice(level.begin, level.end), slice(level.begin, level.two)
        repeats = None
        if level.first < level.last:
            rows, table = slice(level.first, level.last), slice(level.table, level.table + level.last - level.first)
            repeats = _Repeats(self._state[table], self._g[rows], self._gain[rows], self._plan.rho[table])
        return _Up(
            factors=self._factors[:, nodes].T,
            g=self._g[nodes],
            gain=self._gain[nodes],
            below=self._below[nodes],
            near=level.near,
            far=level.far,
            far_below=self._constant[two],
            two=self._gain[two],
            constant=self._constant[nodes],
            repeats=repeats,
        )

    def _view_down(self, level: Level) -> _Down:
        rows, nodes, two = slice(level.begin, level.end), level.end - level.begin, level.two - level.begin
        above, edges, end = self._above, self._edges, 2 * nodes + two
        return _Down(
            parents=level.parents,
            above=above[:nodes],
            two=above[:two],
            g=self._g[rows],
            gain=self._gain[rows],
            near=edges[:nodes],
            near_two=edges[:two],
            far=edges[nodes : nodes + two],
            product=edges[nodes + two : end],
            rows=edges[:end],
            sums=self._sums[level.edge : level.edge + end],
        )

    def contributions(self, seen: Floats) -> Floats:
        """Returns the contributions, shape (F,), of a row that `forms` prepared."""
        plan = self._plan
        self._decide(seen)
        self._go_up()
        self._go_down()
        self._sums.take(plan.integral, 0, self._integral, "clip")
        self._integral[plan.inner :] *= plan.gap
        self._integral *= self._c
        return np.asarray(np.bincount(plan.feature, self._integral, plan.width), dtype=np.float64)

    def _decide(self, seen: Floats) -> None:
        """Determines the branch of the row at each node, and c."""
        plan, near, left_path, c = self._plan, self._near, self._left_path, self._c
        plan.decisions.left(seen, self._values, near)
        np.not_equal(near, plan.flipped, out=near)
        np.copyto(c, near)
        c -= plan.share
        near.take(plan.repeated, 0, left_path, "clip")
        np.not_equal(left_path, plan.by_near, out=left_path)
        for repeat, above in plan.chains:
            left_path[repeat] |= left_path[above]
        np.add(np.where(left_path, 2, near.take(plan.repeats)), plan.table_rows, out=self._state)
        c[plan.repeats[left_path]] = 0.0
        np.multiply(c, plan.slopes, out=self._factors[1:])

    def _go_up(self) -> None:
        """Computes T, g and T_near - T_far of every node, from the leaves."""
        below, lines, weights = self._below, self._plan.lines, self._plan.repeat_weights
        pairs = slice(self._plan.inner, self._plan.size)
        np.matmul(self._factors[:, pairs].T, lines, out=below[pairs])
        for level in self._up:
            np.matmul(level.factors, lines, out=level.g)
            if level.repeats:
                weights.take(level.repeats.state, 0, level.repeats.g, "clip")
            below.take(level.near, 0, level.gain, "clip")
            if len(level.far):
                below.take(level.far, 0, level.far_below, "clip")
                np.subtract(level.two, level.far_below, out=level.two)
            np.multiply(level.g, level.gain, out=level.below)
            np.add(level.below, level.constant, out=level.below)
            if level.repeats:
                np.multiply(level.repeats.gain, level.repeats.rho, out=level.repeats.gain)

    def _go_down(self) -> None:
        """Computes C of every node and its integrals, from the roots."""
        ones, edges = self._ones, self._edges
        for level in self._down:
            if len(level.parents):
                edges.take(level.parents, 0, level.above, "clip")
            else:
                level.above[:] = self._plan.root_weights
            np.multiply(level.above, level.g, out=level.near)
            np.subtract(level.two, level.near_two, out=level.far)
            np.multiply(level.above, level.gain, out=level.product)
            level.rows.dot(ones, level.sums)


def _aligned(rows: int) -> Floats:
    """Returns zeros of shape (rows, POINTS). Each row is one cache line, so products take half the time."""
    values = np.zeros((rows + 1) * POINTS)
    first = -(values.ctypes.data // values.itemsize) % POINTS
    return values[first : first + rows * POINTS].reshape(rows, POINTS)
