"""Evaluates and explains a forest without a compiled library: `forest.c` in NumPy, with equal bits, but slower."""

from __future__ import annotations

import ctypes
from functools import cached_property
from typing import Any

import numpy as np

from callsieve.features.arrays import Floats

from .forest_check import fours
from .forest_layout import Layout
from .forest_library import DONE
from .forest_paths import POINTS, Paths, splits_of

_ZERO = float(np.float32(1e-35))  # LightGBM treats values up to this one as zero
_ROWS = 256  # at once


def _view(place: int, rows: int, columns: int) -> Floats:
    return np.ctypeslib.as_array((ctypes.c_double * (rows * columns)).from_address(place)).reshape(rows, columns)


def _first_infinite(rows: Floats) -> int:
    infinite = np.flatnonzero(np.isinf(rows).any(axis=1))
    return int(infinite[0]) if len(infinite) else DONE


class NumpyForest:
    """A forest in NumPy arrays. `scores`, `score` and `explain` take the arguments of those of `forest.c`."""

    def __init__(self, layout: Layout) -> None:
        """Copies the arrays of the forest."""
        self._layout, self._width, self._classes = layout, layout.width, layout.classes
        self._tree, self._node = fours(layout.tree), fours(layout.node)
        self._leaf, self._bound = np.array(layout.leaf), np.array(layout.bound)

    @cached_property
    def _paths(self) -> Paths:
        return Paths(self._layout)

    def scores(self, _forest: int, rows: int, count: int, out: int) -> int:
        """Writes the raw scores of `count` rows."""
        values, scores = _view(rows, count, self._width), _view(out, count, self._classes)
        for first in range(0, count, _ROWS):
            scores[first : first + _ROWS] = self._scores(values[first : first + _ROWS])
        return _first_infinite(values)

    def score(self, forest: int, row: int, out: int) -> int:
        """Writes the raw score of one row."""
        return self.scores(forest, row, 1, out)

    def explain(self, _forest: int, rows: int, count: int, out: int) -> int:
        """Writes the contributions of `count` rows."""
        values, paths = _view(rows, count, self._width), self._paths
        contributions = _view(out, count * self._classes, self._width)
        for place, row in enumerate(values):
            contributions[place * self._classes :][: self._classes] = self._contributions(paths, row)
        return _first_infinite(values)

    def _scores(self, rows: Floats) -> Floats:
        ranks, row = self._ranks(rows), np.arange(len(rows))[:, None]
        at = np.where(self._tree[:, 2] > 0, np.zeros_like(row), -1)
        while (at >= 0).any():
            place = np.minimum(self._tree[:, 0] + np.maximum(at, 0), len(self._node) - 1)
            right = self._go_right(place, ranks[row, self._node[place, 0]])
            at = np.where(at < 0, at, self._node[place, 2 + right])
        values = self._leaf[self._tree[:, 1] + ~at].reshape(len(rows), -1, self._classes)
        # Accumulated, because a sum of NumPy adds in another order. 0.0 turns a sum of -0.0 into 0.0, as C does.
        return np.add.accumulate(values, axis=1)[:, -1] + 0.0

    def _contributions(self, paths: Paths, row: Floats) -> Floats:
        (ranks,) = self._ranks(row[None])
        right = self._go_right(np.arange(len(self._node)), ranks[self._node[:, 0]]).tolist()
        sums = np.zeros((self._classes, len(row), POINTS))
        for t, (first, leaf, nodes, leaves) in enumerate(self._tree.tolist()):
            begin, sets = paths.rule[2 * t : 2 * t + 2]
            for s in range(sets):
                points = np.array(paths.point[begin + 2 * POINTS * s : begin + 2 * POINTS * (s + 1)])
                tree = self._node[first : first + nodes].tolist()
                values = self._leaf[leaf : leaf + leaves].tolist()
                self._explain(paths, first, tree, values, right, points, sums[t % self._classes])
        return np.asarray(np.add.accumulate(sums, axis=2)[:, :, -1] + 0.0)

    def _explain(
        self,
        paths: Paths,
        first: int,
        nodes: list[list[int]],
        leaves: list[float],
        right: list[bool],
        points: Floats,
        sums: Floats,
    ) -> None:
        """Adds the integrals of one tree at one set of points to `sums`, as `explain` of `forest.c` does."""
        t, unit = points[:POINTS], np.ones(POINTS)
        weight: dict[int, Any] = {0: points[POINTS:]}
        mean: dict[int, Any] = {~number: value * unit for number, value in enumerate(leaves)}
        side: dict[int, tuple[bool, bool]] = {}
        splits = []
        for split, last in splits_of(self._layout, first, len(nodes)):
            goes = all(right[first + split : first + last + 1])
            _, _, left_child, right_child = nodes[last]
            share, before, above = paths.share[first + split], paths.before[first + split], paths.above[first + split]
            left_path = above >= 0 and (side[above // 2][1] or side[above // 2][0] != above % 2)
            side[split] = bool(goes), left_path
            c = (not left_path) * ((not goes) - share)
            scale = unit if above < 0 else 1 / (before + t * (1 - before))
            g = share + t * scale * c
            weight[left_child] = weight[split] * g
            weight[right_child] = weight[split] - weight[left_child]
            integral = weight[split] * (before * (scale * scale) * c)
            splits.append((split, left_child, right_child, self._layout.source[nodes[last][0]], g, integral))
        for split, left_child, right_child, feature, g, integral in reversed(splits):
            gain = mean[left_child] - mean[right_child]
            sums[feature] += gain * integral
            mean[split] = mean[right_child] + g * gain

    def _go_right(self, place: Any, rank: Any) -> Any:
        column, bound = self._node[place, 0], self._node[place, 1]
        return np.where(column < self._layout.numeric, rank > bound, (rank & bound) == 0)

    def _ranks(self, rows: Floats) -> Any:
        ranks = np.zeros((len(rows), len(self._layout.source)), dtype=np.int16)
        for source, first, bounds, column, columns in np.array(self._layout.number).reshape(-1, 5).tolist():
            value = np.where(np.abs(rows[:, source]) <= _ZERO, 0.0, rows[:, source])
            below = np.searchsorted(self._bound[first : first + bounds], value)
            for place in range(column, column + columns):
                nan, zero = self._layout.missing[2 * place : 2 * place + 2]
                rank = below if zero < 0 else np.where(value == 0, zero, below)
                ranks[:, place] = np.where(np.isnan(value), nan, rank)
        for source, column, columns in np.array(self._layout.category).reshape(-1, 3).tolist():
            (row,) = np.nonzero((rows[:, source] > -1) & (rows[:, source] < 16 * columns))
            level = rows[row, source].astype(np.intp)
            ranks[row, column + level // 16] = (1 << level % 16).astype(np.uint16).view(np.int16)
        return ranks
