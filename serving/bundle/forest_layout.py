"""The arrays of a forest as `forest.c` reads them, packed from verified trees without NumPy."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from .model_text import CATEGORICAL, Tree

_LEVELS = 16  # of a categorical feature in one column
_MOST = 2**15 - 1  # of an int16
# By bits 1 to 3 of a node's decision. Bit 1: missing values go left. Bits 2-3: 0 none, 1 zeros, 2 NaN are missing.
_NONE, _ZEROS = {0, 1}, {2, 3}


class Layout:
    """The arrays of a forest.

    Attributes:
        node: four int16 a node: column, bound, left child, right child. A child `c < 0` is the leaf `~c`.
        tree: four int32 a tree: first node, first leaf, number of nodes, number of leaves.
        leaf: the values of all leaves.
        bound: the distinct thresholds of each numeric feature, ascending.
        number: five int32 a numeric feature: place in a row, first bound, bounds, first column, columns.
        missing: two int16 a numeric column: the ranks of NaN and of zero, -1 for the rank that the value itself has.
        category: three int32 a categorical feature: place in a row, first column, columns.
        source: place in a row of each column's feature.
        numeric: number of numeric columns, which come before the categorical ones.
        most_nodes: the largest number of nodes of a tree.
        column_of: the first column of each feature and decision of its nodes.
    """

    def __init__(self, trees: Sequence[Tree]) -> None:
        """Packs the trees of a model, from `model_text.check_structure`."""
        self.node, self.tree, self.leaf, self.bound = array("h"), array("i"), array("d"), array("d")
        self.number, self.missing, self.category, self.source = array("i"), array("h"), array("i"), array("i")
        self.column_of: dict[tuple[int, int], int] = {}
        self._rank_of: dict[tuple[int, float], int] = {}
        self.numeric = self.most_nodes = 0
        self._add_numbers(trees)
        self._add_categories(trees)
        _check_size(len(self.source), "columns")
        for tree in trees:
            self._add_tree(tree)

    def _add_numbers(self, trees: Sequence[Tree]) -> None:
        bounds: set[tuple[int, float]] = set()
        kinds: set[tuple[int, int]] = set()
        for tree in trees:
            numeric = [node for node, kind in enumerate(tree.decision) if not kind & CATEGORICAL]
            bounds.update((tree.feature[node], tree.threshold[node]) for node in numeric)
            kinds.update((tree.feature[node], tree.decision[node]) for node in numeric)
        bounds_of: dict[int, list[float]] = {}
        kinds_of: dict[int, list[int]] = {}
        for feature, value in sorted(bounds):
            bounds_of.setdefault(feature, []).append(value)
        for feature, kind in sorted(kinds):
            kinds_of.setdefault(feature, []).append(kind)
        for feature, values in bounds_of.items():
            self._rank_of.update(((feature, value), rank) for rank, value in enumerate(values))
            self.add_number(feature, values, kinds_of[feature])

    def add_number(self, feature: int, bounds: Sequence[float], kinds: Iterable[int]) -> None:
        """Adds the columns of a numeric feature."""
        _check_size(len(bounds), f"thresholds of feature {feature}")
        ranks = {kind: _missing_ranks(kind >> 1, bounds) for kind in kinds}
        distinct = list(dict.fromkeys(ranks.values()))
        for kind, pair in ranks.items():
            self.column_of[feature, kind] = len(self.source) + distinct.index(pair)
        self.number.extend((feature, len(self.bound), len(bounds), len(self.source), len(distinct)))
        self.missing.extend(rank for pair in distinct for rank in pair)
        self.source.extend([feature] * len(distinct))
        self.bound.extend(bounds)
        self.numeric = len(self.source)

    def _add_categories(self, trees: Sequence[Tree]) -> None:
        most: dict[int, int] = {}
        kinds: set[tuple[int, int]] = set()
        for tree in trees:
            if tree.cat_boundaries:
                for node, kind in enumerate(tree.decision):
                    if kind & CATEGORICAL:
                        columns = 1 + max(column for column, _ in parts(tree, node))
                        most[tree.feature[node]] = max(columns, most.get(tree.feature[node], 0))
                        kinds.add((tree.feature[node], kind))
        for feature, columns in sorted(most.items()):
            self.add_category(feature, columns, [kind for own, kind in kinds if own == feature])

    def add_category(self, feature: int, columns: int, kinds: Iterable[int]) -> None:
        """Adds the columns of a categorical feature, after all numeric ones."""
        self.column_of.update(((feature, kind), len(self.source)) for kind in kinds)
        self.category.extend((feature, len(self.source), columns))
        self.source.extend([feature] * columns)
        _check_size(len(self.source), "columns")

    def _add_tree(self, tree: Tree) -> None:
        columns, bounds, left, right = self._packed(tree)
        _check_size(len(left), "nodes of a tree")
        self.most_nodes = max(self.most_nodes, len(left))
        nodes = array("h", bytes(8 * len(left)))
        for place, values in enumerate((columns, bounds, left, right)):
            nodes[place::4] = array("h", values)
        self.tree.extend((len(self.node) // 4, len(self.leaf), len(left), len(tree.leaf_value)))
        self.node.extend(nodes)
        self.leaf.extend(tree.leaf_value)

    def _packed(self, tree: Tree) -> tuple[list[int], list[int], list[int], list[int]]:
        """Returns the four numbers of each node; a set of levels is a chain of nodes with one left child."""
        columns = list(map(self.column_of.__getitem__, zip(tree.feature, tree.decision, strict=True)))
        ranks = map(self._rank_of.get, zip(tree.feature, tree.threshold, strict=True))
        if not tree.cat_boundaries:
            return columns, list(ranks), tree.left, tree.right  # type: ignore[arg-type]
        place, bounds = places(tree), [rank or 0 for rank in ranks]
        left, right = ([child if child < 0 else place[child] for child in side] for side in (tree.left, tree.right))
        for node in reversed(range(len(place) - 1)):
            if tree.decision[node] & CATEGORICAL:
                chain, first, own = parts(tree, node), columns[node], slice(node, node + 1)
                columns[own] = [first + column for column, _ in chain]
                bounds[own] = [bits for _, bits in chain]
                left[own] = [left[node]] * len(chain)
                right[own] = [*range(place[node] + 1, place[node] + len(chain)), right[node]]
        return columns, bounds, left, right


def places(tree: Tree) -> list[int]:
    """Returns the place of each node's first packed node within its tree, and the number of packed nodes."""
    place = [0]
    for node, kind in enumerate(tree.decision):
        place.append(place[-1] + (len(parts(tree, node)) if kind & CATEGORICAL else 1))
    return place


def parts(tree: Tree, node: int) -> list[tuple[int, int]]:
    """Returns the columns in which a categorical node's set has levels, with these levels as the bits of an int16."""
    k = int(tree.threshold[node])
    words = tree.cat_threshold[tree.cat_boundaries[k] : tree.cat_boundaries[k + 1]]
    halves = enumerate(bits for word in words for bits in (word & 0xFFFF, word >> _LEVELS))
    return [(column, bits - 2**_LEVELS if bits >> (_LEVELS - 1) else bits) for column, bits in halves if bits] or [
        (0, 0)
    ]


def _missing_ranks(kind: int, bounds: Sequence[float]) -> tuple[int, int]:
    if kind in _NONE:
        return bisect_left(bounds, 0.0), -1
    rank = 0 if kind & 1 else len(bounds)
    return (rank, rank) if kind in _ZEROS else (rank, -1)


def _check_size(number: int, what: str) -> None:
    if number > _MOST:
        raise ValueError(f"must have at most {_MOST} {what}, got {number}; train fewer or flatter trees")
