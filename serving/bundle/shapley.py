"""Exact additive contributions of one row, from the verified trees alone: what LightGBM calls `pred_contrib`.

A feature's contribution is the integral over t in 0..1 of what the score gains when the feature becomes known while
every other one is known with probability t, and else drawn as the training calls were at each node (Owen's form of the
Shapley value; Lundberg et al. 2020 for trees). At one t, a node whose near child held the share z of its calls gives
that child the weight g = z + tau c, with c = 1 - z if the row goes there and c = -z if not. So, for all trees at once,
from the leaves up to T, then from the roots down to C:

    T = T_far + g (T_near - T_far)        C_near = g C,  C_far = C - C_near
    contribution to the node's feature: c times the integral of C (T_near - T_far) rho

with tau = t and rho = 1, unless the path asked for the feature before. If it did, and the row took that edge, of share
s: tau = t / (s + t - s t), rho = s / (s + t - s t)^2; if the row did not take it, c = 0.

Along t this is a polynomial of a degree below the number of different features on a path: Gauss-Legendre quadrature
with half as many points is exact, and stable, for its weights and all g are positive. (Linear TreeSHAP, Yu et al. 2022,
is the same sum in other words.)
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

    Attributes:
        base: the mean score of the training calls; base and contributions add up to the raw score.

    Safe to share between threads: each call takes room to work in, and leaves it for the next.
    """

    def __init__(self, trees: Sequence[Tree], width: int) -> None:
        """Make ready for rows of `width` values, F.

        Args:
            trees: those of `structure.check_structure`, of a model of one class.

        Raises:
            ValueError: if trees are so many and so deep that more than 512 MB would be needed.
        """
        self.base = sum(map(_mean, trees))
        self._width = width
        grown = [tree for tree in trees if tree.left]
        self._plan = Plan(grown, width) if grown else None
        self._rooms: deque[_Room] = deque()

    def __call__(self, row: Sequence[float]) -> Floats:
        """Contributions of one row of F values, shape (F,). NaN is a missing value.

        Raises:
            ValueError: if the row is not one of F values, finite or NaN.
        """
        values = np.array(row, dtype=np.float64)
        if values.shape != (self._width,) or np.isinf(values).any():
            raise ValueError(f"row must hold {self._width} values, finite or NaN")
        if not self._plan:
            return np.zeros(self._width)
        try:
            room = self._rooms.pop()
        except IndexError:
            room = _Room(self._plan)
        found = room.contributions(forms(values))
        self._rooms.append(room)
        return found


def _mean(tree: Tree) -> float:
    if not tree.left:
        return tree.leaf_value[0]
    return float(np.dot(np.array(tree.leaf_count) / tree.node_count[0], tree.leaf_value))


class _Again(NamedTuple):
    """Rows of one level whose feature was asked before."""

    state: Indices
    g: Floats
    gain: Floats
    rho: Floats


class _Up(NamedTuple):
    """One level on the way from the leaves: T is `below`, and `two` are the rows of nodes with two nodes below."""

    factors: Floats
    g: Floats
    gain: Floats
    below: Floats
    near: Indices
    far: Indices
    far_below: Floats
    two: Floats
    constant: Floats
    again: _Again | None


class _Down(NamedTuple):
    """One level on the way from the roots: C is `above` at its nodes, `near` and `far` along its edges."""

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


class _Room:
    """Where one thread works. Its arrays and the views of each level are made once."""

    def __init__(self, plan: Plan) -> None:
        size, inner = plan.size, plan.inner
        self._plan = plan
        self._ones = np.ones(POINTS)
        self._values, self._c, self._integral = np.empty(size), np.empty(size), np.empty(size)
        self._near, self._gone = np.zeros(size, dtype=np.bool_), np.zeros(len(plan.repeats), dtype=np.bool_)
        self._state = np.zeros(len(plan.repeats), dtype=np.intp)
        self._sums = np.zeros(plan.edges)
        # Times the plan's lines: g of an inner node, T of a pair.
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
        again = None
        if level.first < level.last:
            rows, table = slice(level.first, level.last), slice(level.table, level.table + level.last - level.first)
            again = _Again(self._state[table], self._g[rows], self._gain[rows], self._plan.rho[table])
        return _Up(
            factors=self._factors[:, nodes].T, g=self._g[nodes], gain=self._gain[nodes], below=self._below[nodes],
            near=level.near, far=level.far, far_below=self._constant[two], two=self._gain[two],
            constant=self._constant[nodes], again=again,
        )  # fmt: skip

    def _view_down(self, level: Level) -> _Down:
        rows, nodes, two = slice(level.begin, level.end), level.end - level.begin, level.two - level.begin
        above, edges, end = self._above, self._edges, 2 * nodes + two
        return _Down(
            parents=level.parents, above=above[:nodes], two=above[:two], g=self._g[rows], gain=self._gain[rows],
            near=edges[:nodes], near_two=edges[:two], far=edges[nodes : nodes + two], product=edges[nodes + two : end],
            rows=edges[:end], sums=self._sums[level.edge : level.edge + end],
        )  # fmt: skip

    def contributions(self, seen: Floats) -> Floats:
        """Contributions, shape (F,), to a row as `forms` gives it."""
        plan = self._plan
        self._decide(seen)
        self._go_up()
        self._go_down()
        self._sums.take(plan.integral, 0, self._integral, "clip")
        self._integral[plan.inner :] *= plan.gap
        self._integral *= self._c
        return np.asarray(np.bincount(plan.feature, self._integral, plan.width), dtype=np.float64)

    def _decide(self, seen: Floats) -> None:
        """Which way the row goes at each node, and c."""
        plan, near, gone, c = self._plan, self._near, self._gone, self._c
        plan.decisions.left(seen, self._values, near)
        np.not_equal(near, plan.flipped, out=near)
        np.copyto(c, near)
        c -= plan.share
        near.take(plan.repeated, 0, gone, "clip")
        np.not_equal(gone, plan.by_near, out=gone)
        for repeat, above in plan.chains:
            gone[repeat] |= gone[above]
        np.add(np.where(gone, 2, near.take(plan.repeats)), plan.table_rows, out=self._state)
        c[plan.repeats[gone]] = 0.0
        np.multiply(c, plan.slopes, out=self._factors[1:])

    def _go_up(self) -> None:
        """From the leaves: T, g and T_near - T_far of every node."""
        below, lines, weights = self._below, self._plan.lines, self._plan.repeat_weights
        pairs = slice(self._plan.inner, self._plan.size)
        np.matmul(self._factors[:, pairs].T, lines, out=below[pairs])
        for level in self._up:
            np.matmul(level.factors, lines, out=level.g)
            if level.again:
                weights.take(level.again.state, 0, level.again.g, "clip")
            below.take(level.near, 0, level.gain, "clip")
            if len(level.far):
                below.take(level.far, 0, level.far_below, "clip")
                np.subtract(level.two, level.far_below, out=level.two)
            np.multiply(level.g, level.gain, out=level.below)
            np.add(level.below, level.constant, out=level.below)
            if level.again:
                np.multiply(level.again.gain, level.again.rho, out=level.again.gain)

    def _go_down(self) -> None:
        """From the roots: C of every node, and at once its integrals."""
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
    """Zeros of shape (rows, POINTS) whose rows are cache lines: products of them take half the time."""
    values = np.zeros((rows + 1) * POINTS)
    first = -(values.ctypes.data // values.itemsize) % POINTS
    return values[first : first + rows * POINTS].reshape(rows, POINTS)
