"""The nodes of all trees of a model in arrays, and the decision of each node for a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from .model_text import CATEGORICAL, Tree

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Flags = NDArray[np.bool_]

# LightGBM treats values up to this one as zero; its constant is a float32.
_ZERO = float(np.float32(1e-35))
# The five forms of a row, by which values are missing at a node and whether they go left. See `forms`.
_AS_ZERO, _NAN_LEFT, _NAN_RIGHT, _ZERO_LEFT, _ZERO_RIGHT = range(5)
# By bits 1 to 3 of a node's decision. Bit 1: missing values go left. Bits 2-3: 0 none, 1 zeros, 2 NaN are missing.
_FORMS = np.array([_AS_ZERO, _AS_ZERO, _ZERO_RIGHT, _ZERO_LEFT, _NAN_RIGHT, _NAN_LEFT])


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The N nodes of all trees, in arrays of shape (N,). A parent comes before its children.

    A child `c < 0` is the leaf `~c`. Leaves are numbered over all trees.

    Attributes:
        left_share, right_share: share of the node's training calls that went to the left and right child.
        parent, depth: index of the parent, -1 at a root; number of nodes above.
        features_on_path: number of different features from the root to the node, its own included.
        ancestor: index of the nearest node above that splits by the same feature, or -1.
        below_left: whether the node lies on the left side of `ancestor`.
        splits_before: number of nodes above that split by the same feature.
        share_before: product of the shares of the edges taken at those nodes.
        words: the 32-bit words of all categorical sets.
        first_word, word_count: index of the first word and number of words of a categorical split's set.
    """

    tree: Indices
    feature: Indices
    threshold: Floats
    decision: Indices
    left: Indices
    right: Indices
    left_share: Floats
    right_share: Floats
    leaf_value: Floats
    parent: Indices
    depth: Indices
    features_on_path: Indices
    ancestor: Indices
    below_left: Flags
    splits_before: Indices
    share_before: Floats
    words: Indices
    first_word: Indices
    word_count: Indices


def read_nodes(trees: Sequence[Tree]) -> Nodes:
    """Returns the nodes of verified trees with more than one leaf."""
    sizes = np.array([len(tree.left) for tree in trees], dtype=np.intp)
    tree = np.repeat(np.arange(len(trees)), sizes)
    first = (np.cumsum(sizes) - sizes)[tree]
    # A tree has one leaf more than nodes.
    left, right = (
        np.where(child < 0, child - first - tree, child + first)
        for child in (_integers(t.left for t in trees), _integers(t.right for t in trees))
    )
    node_count, leaf_count = _integers(t.node_count for t in trees), _integers(t.leaf_count for t in trees)
    left_share, right_share = (
        np.where(child < 0, leaf_count[~np.minimum(child, -1)], node_count[np.maximum(child, 0)]) / node_count
        for child in (left, right)
    )
    feature, decision = _integers(t.feature for t in trees), _integers(t.decision for t in trees)
    threshold = _floats(t.threshold for t in trees)
    parent = np.full(len(tree), -1)
    for child in (left, right):
        parent[child[child >= 0]] = np.flatnonzero(child >= 0)
    ancestor, below_left = _ancestors(feature, parent, left)
    depth, features_on_path, splits_before = (np.zeros(len(tree), dtype=np.intp) for _ in range(3))
    share_before = np.ones(len(tree))
    for level in _levels(parent, left, right):
        up, old = parent[level], level[ancestor[level] >= 0]
        depth[level] = np.where(up < 0, 0, depth[up] + 1)
        features_on_path[level] = np.where(up < 0, 0, features_on_path[up]) + (ancestor[level] < 0)
        up = ancestor[old]
        splits_before[old] = splits_before[up] + 1
        share_before[old] = share_before[up] * np.where(below_left[old], left_share[up], right_share[up])
    first_word, word_count = _sets(trees, tree, threshold, decision)
    return Nodes(
        tree=tree,
        feature=feature,
        threshold=threshold,
        decision=decision,
        left=left,
        right=right,
        left_share=left_share,
        right_share=right_share,
        leaf_value=_floats(t.leaf_value for t in trees),
        parent=parent,
        depth=depth,
        features_on_path=features_on_path,
        ancestor=ancestor,
        below_left=below_left,
        splits_before=splits_before,
        share_before=share_before,
        words=_integers(t.cat_threshold for t in trees),
        first_word=first_word,
        word_count=word_count,
    )


def _integers(lists: Iterable[list[int]]) -> Indices:
    return np.fromiter(chain.from_iterable(lists), np.intp)


def _floats(lists: Iterable[list[float]]) -> Floats:
    return np.fromiter(chain.from_iterable(lists), np.float64)


def _ancestors(feature: Indices, parent: Indices, left: Indices) -> tuple[Indices, Flags]:
    ancestor, below_left = np.full(len(feature), -1), np.zeros(len(feature), dtype=np.bool_)
    node = np.flatnonzero(parent >= 0)
    below, above = node, parent[node]
    while len(node):
        same = feature[above] == feature[node]
        ancestor[node[same]] = above[same]
        below_left[node[same]] = left[above[same]] == below[same]
        go_on = ~same & (parent[above] >= 0)
        node, below, above = node[go_on], above[go_on], parent[above[go_on]]
    return ancestor, below_left


def _levels(parent: Indices, left: Indices, right: Indices) -> Iterator[Indices]:
    """Yields the nodes of each depth, roots first."""
    level = np.flatnonzero(parent < 0)
    while len(level):
        yield level
        level = np.concatenate([left[level], right[level]])
        level = level[level >= 0]


def _sets(trees: Sequence[Tree], tree: Indices, threshold: Floats, decision: Indices) -> tuple[Indices, Indices]:
    """Returns index and number of the words of each categorical split's set, among the words of all trees."""
    bounds = _integers(t.cat_boundaries for t in trees)
    first_bound, first_word = (
        np.cumsum([0] + [len(part) for part in parts])
        for parts in ([t.cat_boundaries for t in trees], [t.cat_threshold for t in trees])
    )
    place, size = np.zeros(len(tree), dtype=np.intp), np.zeros(len(tree), dtype=np.intp)
    node = np.flatnonzero(decision & CATEGORICAL)
    bound = first_bound[tree[node]] + threshold[node].astype(np.intp)
    place[node] = first_word[tree[node]] + bounds[bound]
    size[node] = bounds[bound + 1] - bounds[bound]
    return place, size


def forms(row: Floats) -> Floats:
    """Returns the five forms of a row of F values, one after the other, shape (5 F,).

    A form replaces missing values by -inf if they go left and by NaN if they go right. Then every node decides by
    `value <= threshold` alone.
    """
    row = np.where(np.abs(row) <= _ZERO, 0.0, row)
    nan = np.isnan(row)
    zero = nan | (row == 0)
    seen = (np.where(nan, 0.0, row), np.where(nan, -np.inf, row), row)
    return np.concatenate([*seen, np.where(zero, -np.inf, row), np.where(zero, np.nan, row)])


class Decisions:
    """The decisions of nodes for a row, equal to LightGBM's."""

    def __init__(self, nodes: Nodes, order: Indices, width: int) -> None:
        """Prepares the nodes of indexes `order`, for rows of `width` features."""
        decision = nodes.decision[order]
        self._slot = _FORMS[decision >> 1] * width + nodes.feature[order]
        self._threshold = nodes.threshold[order]
        by_set = np.flatnonzero(decision & CATEGORICAL)
        self._by_set, self._words = by_set, nodes.words
        self._feature, self._first = nodes.feature[order][by_set], nodes.first_word[order][by_set]
        self._size = nodes.word_count[order][by_set]

    def left(self, seen: Floats, values: Floats, out: Flags) -> None:
        """Sets `out` to whether the row goes left at each node.

        Args:
            seen: what `forms` returns for the row.
            values: workspace, one float a node.
            out: the result, one flag a node.
        """
        seen.take(self._slot, 0, values, "clip")
        np.less_equal(values, self._threshold, out=out)
        if len(self._by_set):
            out[self._by_set] = self._in_set(seen[_NAN_RIGHT * len(seen) // 5 :].take(self._feature))

    def _in_set(self, value: Floats) -> Flags:
        # LightGBM truncates the value to a 32-bit integer, which is the level. NaN compares as false.
        in_range = (value > -1) & (value < 2**31)
        level = np.where(in_range, value, 0.0).astype(np.intp)
        word = level >> 5
        in_range &= word < self._size
        bits = self._words.take(np.where(in_range, self._first + word, 0)) >> (level & 31)
        in_set: Flags = in_range & ((bits & 1) == 1)
        return in_set
