"""Checks the structure of a LightGBM text model, and reads its trees.

LightGBM trusts its own files: one child index out of range is stored unchecked and kills the process at the next
prediction (CVE-2026-92786). `forest.c` trusts its arrays as well. This module reads the text in Python, by the grammar
that LightGBM v4 writes and no wider one. Every line must be in its place, every array must have its length, every
number must be finite and in range, and every tree must be a tree. A text that LightGBM tolerates may be refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_CHARS = 32 << 20
MAX_REST = 1 << 20
MAX_TREES = 20_000
MAX_LEAVES = 4096
# Trained leaves stay below 40 log-odds. The bound keeps every sum finite and contributions exact to 1e-6.
MAX_LEAF_VALUE = 1e6
# Exact contributions need memory that grows with the square of the depth: 512 levels are 5 MB a thread.
MAX_DEPTH = 512

CATEGORICAL = 1
"""Bit 0 of `Tree.decision`: a split by sets. Bit 1: missing values go left. Bits 2-3: which values are missing."""

_BY_NUMBER = frozenset({0, 2, 4, 6, 8, 10})
_DECISIONS = _BY_NUMBER | {1, 5, 9}
_INT32 = 2**31 - 1
_UINT32 = 2**32 - 1
_CONTROLS = [chr(code) for code in (*range(32), 127) if chr(code) != "\n"]
# Numbers in the forms that LightGBM writes. Possessive repeats match the same numbers in half the time.
_INTEGER = r"(?:0|-?+[1-9][0-9]{0,9}+)"
_REAL = r"-?+(?:0|[1-9][0-9]{0,24}+)(?:\.[0-9]{1,25}+)?+(?:e[-+][0-9]{1,3}+)?+"
_INTEGERS, _REALS = (re.compile(f"{number}(?: {number})*+") for number in (_INTEGER, _REAL))
_FEATURE_INFO = re.compile(rf"none|\[{_REAL}:{_REAL}\]|{_INTEGER}(?::{_INTEGER})*")
_PARAMETER = re.compile(r"\[[a-z0-9_]{1,64}: [^\n]*\]")
_IMPORTANCE = re.compile(r"(.+)=[0-9]{1,20}")

_NODE_REALS = ("split_gain", "internal_value", "internal_weight")
_NODE_INTEGERS = ("split_feature", "decision_type", "left_child", "right_child")
_TREE_KEYS = ["num_leaves", "num_cat", "split_feature", "split_gain", "threshold", "decision_type"]
_TREE_KEYS += ["left_child", "right_child", "leaf_value", "leaf_weight", "leaf_count"]
_TREE_KEYS += ["internal_value", "internal_weight", "internal_count"]
_MAX_LINES = 24  # more lines than a tree has
_CATEGORY_KEYS = ["cat_boundaries", "cat_threshold"]
_CLOSING_KEYS = ["is_linear", "shrinkage"]


@dataclass(frozen=True)
class Tree:
    """One verified tree in LightGBM's layout. Node 0 is the root; a child `c < 0` is the leaf `~c`.

    A child node has a higher index than its parent, so one pass by index visits parents first. Values up to a node's
    `threshold` go left. A categorical node's `threshold` is the index k of its set, whose 32-bit words are
    `cat_threshold[cat_boundaries[k]:cat_boundaries[k + 1]]`.
    """

    feature: list[int]
    threshold: list[float]
    decision: list[int]
    left: list[int]
    right: list[int]
    leaf_value: list[float]
    leaf_count: list[int]
    node_count: list[int]
    cat_boundaries: list[int]
    cat_threshold: list[int]


def check_structure(
    text: str, features: Sequence[str], *, classes: int = 1, levels: Mapping[str, int] | None = None
) -> tuple[Tree, ...]:
    """Checks a model text and returns its trees, in the order in which their values are added."""
    if len(text) > MAX_CHARS:
        raise ValueError(f"model text must have at most {MAX_CHARS} characters, got {len(text)}")
    _check_controls(text)
    end = text.find("\n\n")
    if end < 0:
        raise ValueError("header must end with an empty line")
    sizes = check_header(text[:end], features, classes)
    allowed = None if levels is None else {features.index(name): count for name, count in levels.items()}
    trees = []
    start = end + 2
    for index, size in enumerate(sizes):
        try:
            trees.append(_tree(text[start : start + size], index, len(features), allowed))
        except ValueError as error:
            raise ValueError(f"tree {index}: {error}") from None
        start += size
    check_rest(text[start:], features)
    return tuple(trees)


def _check_controls(text: str) -> None:
    for control in _CONTROLS:
        if (at := text.find(control)) >= 0:
            raise ValueError(f"text must have no control character, got {control!r} at {at}")


def check_header(head: str, features: Sequence[str], classes: int) -> list[int]:
    """Returns the header's `tree_sizes`. Every other line of the header is compared with its expected text."""
    _check_controls(head)
    objectives = ("binary sigmoid:1", "cross_entropy") if classes == 1 else (f"multiclass num_class:{classes}",)
    lines = iter(head.split("\n"))
    _expect(lines, "tree", "version=v4", f"num_class={classes}", f"num_tree_per_iteration={classes}")
    _expect(lines, "label_index=0", f"max_feature_idx={len(features) - 1}")
    if (line := next(lines, "")) not in {f"objective={name}" for name in objectives}:
        raise ValueError(f"header: objective must be one of {objectives}, got {line[:80]!r}")
    _expect(lines, "feature_names=" + " ".join(features))
    line = next(lines, "")
    if line.startswith("monotone_constraints="):
        _integers(_value(line, "monotone_constraints"), len(features), "header: monotone_constraints", -1, 1)
        line = next(lines, "")
    infos = _value(line, "feature_infos")
    if infos.count(" ") != len(features) - 1 or not all(map(_FEATURE_INFO.fullmatch, infos.split(" "))):
        raise ValueError(f"header: feature_infos must have {len(features)} ranges or sets")
    sizes = _value(next(lines, ""), "tree_sizes")
    count = sizes.count(" ") + 1
    if count > MAX_TREES or count % classes:
        raise ValueError(f"header: tree_sizes must have at most {MAX_TREES}, by {classes}, got {count}")
    if (extra := next(lines, None)) is not None:
        raise ValueError(f"header: must end after tree_sizes, got {_short(extra)}")
    return _integers(sizes, count, "header: tree_sizes", 1, MAX_CHARS)


def _tree(block: str, index: int, features: int, levels: Mapping[int, int] | None) -> Tree:
    if not block.isascii():
        raise ValueError("must be ASCII")
    lines = block.split("\n", _MAX_LINES)
    if lines[0] != f"Tree={index}" or lines[-3:] != ["", "", ""]:
        raise ValueError(f"must fill its size in tree_sizes from 'Tree={index}' to two empty lines")
    has_sets = len(lines) > 2 and lines[2] != "num_cat=0"
    keys = _TREE_KEYS + (_CATEGORY_KEYS if has_sets else []) + _CLOSING_KEYS
    value = {key: text for key, _, text in [line.partition("=") for line in lines[1:-3]]}
    if len(lines) - 4 != len(keys) or list(value) != keys:
        raise ValueError(f"must have the lines {', '.join(keys)}")

    (leaves,) = _integers(value["num_leaves"], 1, "num_leaves", 1, MAX_LEAVES)
    (sets,) = _integers(value["num_cat"], 1, "num_cat", 0, leaves - 1)
    if value["is_linear"] != "0":
        raise ValueError(f"is_linear must be 0, got {value['is_linear'][:20]!r}")
    _reals(value["shrinkage"], 1, "shrinkage")
    leaf_value = _reals(value["leaf_value"], leaves, "leaf_value")
    if max(map(abs, leaf_value)) > MAX_LEAF_VALUE:
        raise ValueError(f"leaf_value must lie in -{MAX_LEAF_VALUE:g}..{MAX_LEAF_VALUE:g}")
    if leaves == 1:
        return _constant(value, leaf_value)

    nodes = leaves - 1
    for key in _NODE_REALS:
        _reals(value[key], nodes, key)
    _reals(value["leaf_weight"], leaves, "leaf_weight")
    left, right = (_integers(value[key], nodes, key) for key in ("left_child", "right_child"))
    _check_shape(left, right)
    leaf_count = _integers(value["leaf_count"], leaves, "leaf_count", 1, _INT32)
    decision = _integers(value["decision_type"], nodes, "decision_type")
    if not _DECISIONS.issuperset(decision):
        raise ValueError(f"decision_type must be one of {sorted(_DECISIONS)}")
    tree = Tree(
        feature=_integers(value["split_feature"], nodes, "split_feature", 0, features - 1),
        threshold=_reals(value["threshold"], nodes, "threshold", infinite=True),
        decision=decision,
        left=left,
        right=right,
        leaf_value=leaf_value,
        leaf_count=leaf_count,
        node_count=_node_counts(value["internal_count"], left, right, leaf_count),
        cat_boundaries=_non_negative(value["cat_boundaries"], "cat_boundaries", _INT32) if sets else [],
        cat_threshold=_non_negative(value["cat_threshold"], "cat_threshold", _UINT32) if sets else [],
    )
    _check_sets(tree, sets, levels)
    return tree


def _constant(value: Mapping[str, str], leaf_value: list[float]) -> Tree:
    for key in (*_NODE_REALS, "threshold", *_NODE_INTEGERS, "internal_count"):
        if value[key]:
            raise ValueError(f"{key} must be empty where num_leaves is 1")
    for key in ("leaf_weight", "leaf_count"):
        if value[key]:
            _reals(value[key], 1, key)
    return Tree([], [], [], [], [], leaf_value, [], [], [], [])


def _non_negative(text: str, what: str, high: int) -> list[int]:
    return _integers(text, text.count(" ") + 1, what, 0, high)


def _integers(text: str, count: int, what: str, low: int | None = None, high: int = 0) -> list[int]:
    if text.count(" ") != count - 1 or not _INTEGERS.fullmatch(text):
        raise ValueError(f"{what} must have {count} whole number(s)")
    values = list(map(int, text.split(" ")))
    if low is not None and (min(values) < low or max(values) > high):
        raise ValueError(f"{what} must lie in {low}..{high}, got {min(values)}..{max(values)}")
    return values


def _reals(text: str, count: int, what: str, *, infinite: bool = False) -> list[float]:
    if text.count(" ") != count - 1:  # counted first, because the text may be nearly all spaces
        raise ValueError(f"{what} must have {count} finite number(s)")
    words = text.split(" ")
    numbers = [word for word in words if word != "inf"] if infinite else words
    if numbers and not _REALS.fullmatch(" ".join(numbers)):
        raise ValueError(f"{what} must have {count} finite number(s)")
    if not all(map(math.isfinite, map(float, numbers))):
        raise ValueError(f"{what} must be finite")
    return list(map(float, words))


def _check_shape(left: list[int], right: list[int]) -> None:
    nodes, depth = len(left), [1] * len(left)
    if sorted([*left, *right]) != [*range(-nodes - 1, 0), *range(1, nodes)]:
        raise ValueError("left_child and right_child must name every leaf, and every node except the root, once")
    for node, children in enumerate(zip(left, right, strict=True)):
        for child in children:
            if 0 < child <= node:  # LightGBM numbers nodes as it splits, so a child index that does not grow is a cycle
                got = f"{children[0]} and {children[1]}"
                raise ValueError(f"node {node}: a child must come after its parent, got {got}")
            if child > 0:
                depth[child] = depth[node] + 1
    if max(depth) > MAX_DEPTH:
        raise ValueError(f"must be at most {MAX_DEPTH} levels deep, got {max(depth)}")


def _node_counts(text: str, left: list[int], right: list[int], leaf_count: list[int]) -> list[int]:
    """Returns the number of training calls of each node, which must be the sum of its children's.

    Contributions are weighted by these counts.
    """
    stated, calls = _integers(text, len(left), "internal_count", 1, _INT32), leaf_count[::-1]
    counts = stated + calls  # so that the leaf c < 0 is counts[c]
    for node, children in enumerate(zip(left, right, strict=True)):
        if stated[node] != (total := sum(counts[child] for child in children)):
            raise ValueError(f"node {node}: internal_count must be {total}, the sum of its children")
    return stated


def _check_sets(tree: Tree, sets: int, levels: Mapping[int, int] | None) -> None:
    bounds = tree.cat_boundaries
    if sets and (len(bounds) != sets + 1 or bounds[0] != 0 or bounds[-1] != len(tree.cat_threshold)):
        raise ValueError(f"cat_boundaries must be {sets + 1} numbers from 0 to {len(tree.cat_threshold)}")
    if any(end <= begin for begin, end in pairwise(bounds)):
        raise ValueError("cat_boundaries must grow")
    used = []
    if not _BY_NUMBER.issuperset(tree.decision):
        used = [node for node, kind in enumerate(tree.decision) if kind & CATEGORICAL]
    if len(used) != sets or sorted(tree.threshold[node] for node in used) != list(range(sets)):
        raise ValueError(f"categorical splits must use each of the {sets} sets once")
    if levels is None or (not used and (not levels or levels.keys().isdisjoint(tree.feature))):
        return
    for feature, kind in sorted(set(zip(tree.feature, tree.decision, strict=True))):
        if (feature in levels) != bool(kind & CATEGORICAL):
            raise ValueError(f"feature {feature}: only a categorical feature is split by sets, and only so")
    for node in used:
        count = levels[tree.feature[node]]
        begin, end = bounds[k := int(tree.threshold[node])], bounds[k + 1]
        spare = 32 * (end - begin) - count
        if spare >= 32 or (spare > 0 and tree.cat_threshold[end - 1] >> (32 - spare)):
            raise ValueError(f"node {node}: set has a level that the feature does not have")


def check_rest(rest: str, features: Sequence[str]) -> None:
    """Checks the text after the trees: importances, parameters and pandas categories, as LightGBM writes them."""
    _check_controls(rest)
    if len(rest) > MAX_REST:
        raise ValueError(f"text after the trees must have at most {MAX_REST} characters, got {len(rest)}")
    lines = iter(rest.split("\n"))
    _expect(lines, "end of trees", "", "feature_importances:")
    names = frozenset(features)
    for line in lines:
        if not line:
            break
        if not (match := _IMPORTANCE.fullmatch(line)) or match[1] not in names:
            raise ValueError(f"feature_importances: must be a feature and a count, got {line[:80]!r}")
    line = next(lines, "")
    if line == "parameters:":
        for line in lines:
            if not line:
                break
            if not _PARAMETER.fullmatch(line):
                raise ValueError(f"parameters: must be '[name: value]', got {_short(line)}")
            # The only parameter that LightGBM uses when it predicts.
            if line.startswith("[linear_tree:") and line != "[linear_tree: 0]":
                raise ValueError(f"parameters: linear_tree must be 0, got {_short(line)}")
        _expect(lines, "end of parameters", "")
        line = next(lines, "")
    if line:
        _check_categories(_value(line, "pandas_categorical", ":"))
    if any(lines):
        raise ValueError("model text must end after pandas_categorical")


def _check_categories(text: str) -> None:
    try:
        categories = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("pandas_categorical: must be JSON") from None
    if not isinstance(categories, list | None) or not all(map(_are_codes, categories or ())):
        raise ValueError("pandas_categorical: categories must be the codes 0, 1, 2 and so on")


def _are_codes(categories: object) -> bool:
    return isinstance(categories, list) and repr(categories) == repr(list(range(len(categories))))


def _expect(lines: Iterator[str], *expected: str) -> None:
    for line in expected:
        if (got := next(lines, None)) != line:
            raise ValueError(f"must have the line {_short(line)}, got {_short(got)}")


def _short(line: str | None) -> str:
    if line is None:
        return "the end"
    return repr(line if len(line) <= 80 else line[:77] + "...")


def _value(line: str, key: str, sign: str = "=") -> str:
    got, _, text = line.partition(sign)
    if got != key:
        raise ValueError(f"must have a line {key!r} here, got {_short(line)}")
    return text
