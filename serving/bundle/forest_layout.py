"""The packed trees of a model: a file of a bundle (`model.forest`) becomes the arrays that `forest.c` evaluates.

All numbers are little endian. The file has no offsets, so that sections cannot overlap:

    8 bytes   b"CSFOREST"
    int32     version of this layout (1), features, classes, numeric features, categorical features, trees
    int32     each numeric feature: its place in a row, its thresholds, its columns
    int32     each categorical feature: its place in a row, its columns
    int32     each tree: nodes, leaves
    float64   the thresholds of each numeric feature, ascending
    float64   the values of all leaves
    int32     the training calls of each leaf
    int16     each numeric column: the ranks of NaN and of zero, -1 for the rank that the value itself has
    uint16    each node: column, rank or set; then as int16: left child, right child

`training/model/trees.py` writes it. A file is hostile until all of it is checked here.
"""

from __future__ import annotations

import ctypes
import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from operator import lt
from typing import Any

from callsieve.features.codegen.c_interface import address

from .forest_library import DONE, LAYOUT, NO_MEMORY, PATHS, Arrays, library

MAGIC, VERSION = b"CSFOREST", 1
MAX_BYTES = 16 << 20
MAX_TREES = 20_000
MOST = 2**15 - 1
"""Nodes and leaves of a tree, thresholds of a feature, and columns: numbers of an int16."""
COLUMNS = 6  # of a numeric feature: the ways in which missing values are treated
LEVELS = 16  # of a categorical feature in one column
# Trained leaves stay below 40 log-odds. The bound keeps every sum finite and contributions exact to 1e-6.
MAX_LEAF_VALUE = 1e6


class Layout:
    """The arrays of a forest.

    Attributes:
        node: four int16 a node: column, bound, left child, right child. A child `c < 0` is the leaf `~c`.
        tree: four int32 a tree: first node, first leaf, number of nodes, number of leaves.
        leaf: the values of all leaves.
        leaf_count: the training calls of each leaf.
        bound: the distinct thresholds of each numeric feature, ascending.
        number: five int32 a numeric feature: place in a row, first bound, bounds, first column, columns.
        missing: two int16 a numeric column: the ranks of NaN and of zero, -1 for the rank that the value itself has.
        category: three int32 a categorical feature: place in a row, first column, columns.
        source: place in a row of each column's feature.
        numeric: number of numeric columns, which come before the categorical ones.
        width, classes, trees: features of a row, scores of a row, number of trees.
        most_nodes: the largest number of nodes of a tree.
    """

    trees: int

    def __init__(
        self, data: bytes, features: Sequence[str], classes: int = 1, levels: Mapping[str, int] | None = None
    ) -> None:
        """Checks a file and copies its arrays; `levels` has the levels of each categorical feature, None allows any."""
        if len(data) > MAX_BYTES or not data.startswith(MAGIC):
            raise ValueError(f"must begin with {MAGIC.decode()} and have at most {MAX_BYTES >> 20} MB")
        self._data, self._at = data, len(MAGIC)
        version, self.width, self.classes, numbers, categories, self.trees = self._take("i", 6)
        _expect(version == VERSION, f"layout version must be {VERSION}, got {version}; train or adapt again")
        _expect(
            (self.width, self.classes) == (len(features), classes),
            f"must have {len(features)} features and classes {classes}, got {self.width} and {self.classes}",
        )
        _expect(
            0 < self.trees <= MAX_TREES and not self.trees % classes,
            f"must have 1 to {MAX_TREES} trees, a multiple of {classes}",
        )
        number, category = self._take("i", 3 * numbers), self._take("i", 2 * categories)
        self._add_trees(self._take("i", 2 * self.trees))
        self.number, self.category, self.source = array("i"), array("i"), array("i")
        limit = self._add_columns(number, category, features, levels)
        leaves = sum(self.tree[3::4])
        self.bound = self._take("d", sum(number[1::3]))
        self.leaf, self.leaf_count = self._take("d", leaves), self._take("i", leaves)
        self.missing, self.node = self._take("h", 2 * self.numeric), self._take("h", 4 * sum(self.tree[2::4]))
        _expect(self._at == len(data), "must have as many bytes as its header declares, got more")
        del self._data
        self._check_numbers()
        self._check_nodes(limit)

    def forest(self, paths: Any = None) -> tuple[Arrays, object]:
        """Returns the forest as `forest.c` takes it, and its arrays, which must live as long.

        `paths`: a `forest_paths.Paths`, or None where nothing is explained.
        """
        arrays = {name: getattr(self, name) for name in LAYOUT}
        arrays |= {name: getattr(paths, name) for name in PATHS if paths is not None}
        number = {"numbers": len(self.number) // 5, "categories": len(self.category) // 3, "columns": len(self.source)}
        number |= {name: getattr(self, name) for name in ("width", "classes", "trees", "numeric", "most_nodes")}
        return Arrays(**number, **{name: address(values) for name, values in arrays.items()}), arrays

    def _take(self, code: str, count: int) -> array[Any]:
        values: array[Any] = array(code)
        end = self._at + count * values.itemsize
        _expect(count >= 0 and end <= len(self._data), "must have as many bytes as its header declares")
        values.frombytes(memoryview(self._data)[self._at : end])
        if sys.byteorder != "little":
            values.byteswap()
        self._at = end
        return values

    def _add_trees(self, counts: array[int]) -> None:
        nodes, leaves = counts[0::2], counts[1::2]
        _expect(
            min(nodes) >= 0 and max(nodes) <= MOST and min(leaves) > 0 and max(leaves) <= MOST,
            f"a tree must have at most {MOST} nodes and leaves",
        )
        self.tree, self.most_nodes = array("i", bytes(8 * len(counts))), max(nodes)
        for place, values in enumerate((accumulate(nodes, initial=0), accumulate(leaves, initial=0), nodes, leaves)):
            self.tree[place::4] = array("i", list(values)[: self.trees])

    def _add_columns(
        self, number: array[int], category: array[int], features: Sequence[str], levels: Mapping[str, int] | None
    ) -> array[int]:
        """Adds the columns of all features; returns, for each column, the number of bounds of its nodes."""
        limit, first = array("i"), 0
        for places in (number[0::3], category[0::2]):
            _expect(
                all(low < high for low, high in pairwise((-1, *places, self.width))),
                "features must ascend, and have places in a row",
            )
        for feature, bounds, columns in zip(*[iter(number)] * 3, strict=True):
            _expect(0 < bounds <= MOST, f"feature {feature}: must have 1 to {MOST} thresholds")
            _expect(0 < columns <= COLUMNS, f"feature {feature}: must have 1 to {COLUMNS} columns")
            _expect(
                levels is None or features[feature] not in levels,
                f"feature {feature}: a categorical feature must be split by sets",
            )
            self.number.extend((feature, first, bounds, len(self.source), columns))
            self.source.extend([feature] * columns)
            limit.extend([bounds] * columns)
            first += bounds
        self.numeric = len(self.source)
        for feature, columns in zip(*[iter(category)] * 2, strict=True):
            _expect(
                levels is None or features[feature] in levels,
                f"feature {feature}: only a categorical feature may be split by sets",
            )
            most = MOST if levels is None else -(-levels[features[feature]] // LEVELS)
            _expect(0 < columns <= most, f"feature {feature}: must have 1 to {most} columns")
            self.category.extend((feature, len(self.source), columns))
            self.source.extend([feature] * columns)
            limit.extend([1 << LEVELS] * columns)
        _expect(len(self.source) <= MOST, f"must have at most {MOST} columns, got {len(self.source)}")
        return limit

    def _check_numbers(self) -> None:
        for feature, first, bounds, column, columns in zip(*[iter(self.number)] * 5, strict=True):
            own, missing = self.bound[first : first + bounds], self.missing[2 * column : 2 * (column + columns)]
            _expect(own[0] == own[0] and all(map(lt, own, own[1:])), f"feature {feature}: thresholds must ascend")
            _expect(
                min(missing[0::2]) >= 0 and min(missing) >= -1 and max(missing) <= bounds,
                f"feature {feature}: ranks of missing values must lie in -1..{bounds}",
            )
        _expect(
            math.isfinite(sum(self.leaf)) and max(map(abs, self.leaf)) <= MAX_LEAF_VALUE,
            f"leaf values must lie in -{MAX_LEAF_VALUE:g}..{MAX_LEAF_VALUE:g}",
        )
        _expect(min(self.leaf_count) > 0, "a leaf must have at least 1 training call")

    def _check_nodes(self, limit: array[int]) -> None:
        if (compiled := library()) is not None:
            forest, _arrays = self.forest()
            wrong = compiled.check(ctypes.addressof(forest), address(limit))
            if wrong == NO_MEMORY:
                raise MemoryError("no memory for the check of the trees")
        else:
            try:
                from .forest_check import check
            except ImportError as error:
                raise ImportError("without its compiled library a model needs NumPy: pip install numpy") from error
            wrong = check(self.tree, self.node, self.numeric, limit)
        _expect(
            wrong == DONE,
            f"tree {wrong}: a node must test a column and one of its ranks, and name children that follow it; every "
            "leaf, and every node except the root, must be the child of one node",
        )


def _expect(right: bool, rule: str) -> None:
    if not right:
        raise ValueError(rule)
