"""Checks the nodes of packed trees without a compiled library."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from .forest_library import DONE


def fours(values: array[int]) -> Any:
    """Returns an array of nodes or of trees as rows of four."""
    return np.array(values, dtype=np.intp).reshape(-1, 4)


def check(tree_array: array[int], node_array: array[int], numeric: int, limit: array[int]) -> int:
    """Returns a tree whose nodes are wrong, or DONE: `callsieve_forest_check` of `forest.c` has the rules."""
    tree, node = fours(tree_array), fours(node_array)
    number, of = np.arange(len(node)), np.repeat(np.arange(len(tree)), tree[:, 2])
    first, leaf, nodes, leaves = tree[of].T
    column, bound, child, own = node[:, 0], node[:, 1] & 0xFFFF, node[:, 2:], (number - first)[:, None]
    known = (column >= 0) & (column < len(limit))
    wrong = ~known | (bound >= np.array([*limit, 0])[np.where(known, column, -1)])
    wrong |= (np.where(child < 0, ~child >= leaves[:, None], (child <= own) | (child >= nodes[:, None]))).any(axis=1)
    if wrong.any():
        return int(of[wrong][0])
    after = node[np.minimum(number + 1, max(len(node) - 1, 0))]
    chained = (column >= numeric) & (child[:, 1] == own[:, 0] + 1) & (after[:, 2] == child[:, 0])
    places = np.where(child < 0, len(node) + leaf[:, None] + ~child, first[:, None] + child)
    alone = tree[:, 2] == 0  # a tree of one leaf; the others begin with a node
    roots = np.where(alone, len(node) + tree[:, 1], tree[:, 0])
    named = np.concatenate([places[~chained, 0], places[:, 1], roots])
    (wrong,) = np.nonzero(np.bincount(named, minlength=len(node) + int(tree[:, 3].sum())) != 1)
    return int(np.concatenate([of, np.repeat(np.arange(len(tree)), tree[:, 3])])[wrong[0]]) if len(wrong) else DONE
