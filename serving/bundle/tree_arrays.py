"""The nodes of all trees of a model side by side in arrays, and which way a row goes at each of them."""

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

# Values this near to zero are zeros to LightGBM; its constant is a float32.
_ZERO = float(np.float32(1e-35))
# What counts as missing at a node, and whether it goes left: the five forms that a row takes. See `forms`.
_AS_ZERO, _NAN_LEFT, _NAN_RIGHT, _ZERO_LEFT, _ZERO_RIGHT = range(5)
# By bits 1 to 3 of a node's decision: missing goes left?, then 0 nothing is missing, 1 zeros are, 2 NaN is.
_FORMS = np.array([_AS_ZERO, _AS_ZERO, _ZERO_RIGHT, _ZERO_LEFT, _NAN_RIGHT, _NAN_LEFT])


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """N nodes of trees; a parent comes before its children. A child `c < 0` is the leaf `~c`.

    Attributes:
        left_share, right_share: of the training calls at the node, the part that went there.
        parent: -1 at a root; `depth` is 0 there.
        features_asked: different features from the root to the node, its own included.
        ancestor: the nearest node above that asks for the same feature, or -1; `below_left` says on which side of it.
        asked_before: number of nodes above that ask for the same feature.
        share_before: product of the shares of the sides taken at those.
        first_word, words_of: place and size of a categorical split's set in `words`.
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
    features_asked: Indices
    ancestor: Indices
    below_left: Flags
    asked_before: Indices
    share_before: Floats
    words: Indices
    first_word: Indices
    words_of: Indices


def read_nodes(trees: Sequence[Tree]) -> Nodes:
    """The nodes of verified trees with more than one leaf."""
    sizes = np.array([len(tree.left) for tree in trees], dtype=np.intp)
    tree = np.repeat(np.arange(len(trees)), sizes)
    first = (np.cumsum(sizes) - sizes)[tree]
    # A tree has one leaf more than nodes.
    left, right = (
        np.where(child < 0, child - first - tree, child + first)
        for child in (_whole(t.left for t in trees), _whole(t.right for t in trees))
    )
    node_count, leaf_count = _whole(t.node_count for t in trees), _whole(t.leaf_count for t in trees)
    left_share, right_share = (
        np.where(child < 0, leaf_count[~np.minimum(child, -1)], node_count[np.maximum(child, 0)]) / node_count
        for child in (left, right)
    )
    feature, decision = _whole(t.feature for t in trees), _whole(t.decision for t in trees)
    threshold = _real(t.threshold for t in trees)
    parent = np.full(len(tree), -1)
    for child in (left, right):
        parent[child[child >= 0]] = np.flatnonzero(child >= 0)
    ancestor, below_left = _ancestors(feature, parent, left)
    depth, features_asked, asked_before = (np.zeros(len(tree), dtype=np.intp) for _ in range(3))
    share_before = np.ones(len(tree))
    for level in _levels(parent, left, right):
        up, old = parent[level], level[ancestor[level] >= 0]
        depth[level] = np.where(up < 0, 0, depth[up] + 1)
        features_asked[level] = np.where(up < 0, 0, features_asked[up]) + (ancestor[level] < 0)
        up = ancestor[old]
        asked_before[old] = asked_before[up] + 1
        share_before[old] = share_before[up] * np.where(below_left[old], left_share[up], right_share[up])
    first_word, words_of = _sets(trees, tree, threshold, decision)
    return Nodes(
        tree=tree, feature=feature, threshold=threshold, decision=decision, left=left, right=right,
        left_share=left_share, right_share=right_share, leaf_value=_real(t.leaf_value for t in trees), parent=parent,
        depth=depth, features_asked=features_asked, ancestor=ancestor, below_left=below_left,
        asked_before=asked_before, share_before=share_before, words=_whole(t.cat_threshold for t in trees),
        first_word=first_word, words_of=words_of,
    )  # fmt: skip


def _whole(lists: Iterable[list[int]]) -> Indices:
    return np.fromiter(chain.from_iterable(lists), np.intp)


def _real(lists: Iterable[list[float]]) -> Floats:
    return np.fromiter(chain.from_iterable(lists), np.float64)


def _ancestors(feature: Indices, parent: Indices, left: Indices) -> tuple[Indices, Flags]:
    ancestor, below_left = np.full(len(feature), -1), np.zeros(len(feature), dtype=np.bool_)
    node = np.flatnonzero(parent >= 0)
    below, above = node, parent[node]
    while len(node):
        found = feature[above] == feature[node]
        ancestor[node[found]] = above[found]
        below_left[node[found]] = left[above[found]] == below[found]
        on = ~found & (parent[above] >= 0)
        node, below, above = node[on], above[on], parent[above[on]]
    return ancestor, below_left


def _levels(parent: Indices, left: Indices, right: Indices) -> Iterator[Indices]:
    """Nodes by depth, roots first."""
    level = np.flatnonzero(parent < 0)
    while len(level):
        yield level
        level = np.concatenate([left[level], right[level]])
        level = level[level >= 0]


def _sets(trees: Sequence[Tree], tree: Indices, threshold: Floats, decision: Indices) -> tuple[Indices, Indices]:
    """Of each categorical split the place of its set among the words of all trees, and its number of words."""
    bounds = _whole(t.cat_boundaries for t in trees)
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
    """A row of F values as nodes of each kind see it, one form after the other, shape (5 F,).

    Once missing values are -inf where they go left and NaN where they go right, `value <= threshold` is all that a
    node asks.
    """
    row = np.where(np.abs(row) <= _ZERO, 0.0, row)
    nan = np.isnan(row)
    zero = nan | (row == 0)
    seen = (np.where(nan, 0.0, row), np.where(nan, -np.inf, row), row)
    return np.concatenate([*seen, np.where(zero, -np.inf, row), np.where(zero, np.nan, row)])


class Decisions:
    """Which of the given nodes send a row to the left, as LightGBM decides."""

    def __init__(self, nodes: Nodes, order: Indices, width: int) -> None:
        """`order` names the nodes, `width` is the number of features."""
        decision = nodes.decision[order]
        self._slot = _FORMS[decision >> 1] * width + nodes.feature[order]
        self._threshold = nodes.threshold[order]
        by_set = np.flatnonzero(decision & CATEGORICAL)
        self._by_set, self._words = by_set, nodes.words
        self._feature, self._first = nodes.feature[order][by_set], nodes.first_word[order][by_set]
        self._size = nodes.words_of[order][by_set]

    def left(self, seen: Floats, values: Floats, out: Flags) -> None:
        """Fill `out`. `seen` is the row by `forms`; `values` is room for as many floats as nodes."""
        seen.take(self._slot, 0, values, "clip")
        np.less_equal(values, self._threshold, out=out)
        if len(self._by_set):
            out[self._by_set] = self._in_set(seen[_NAN_RIGHT * len(seen) // 5 :].take(self._feature))

    def _in_set(self, value: Floats) -> Flags:
        # A level is what is left of the value in a 32-bit integer; NaN compares as false.
        known = (value > -1) & (value < 2**31)
        level = np.where(known, value, 0.0).astype(np.intp)
        word = level >> 5
        known &= word < self._size
        bits = self._words.take(np.where(known, self._first + word, 0)) >> (level & 31)
        found: Flags = known & ((bits & 1) == 1)
        return found
