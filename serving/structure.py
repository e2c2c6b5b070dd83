"""Structure check of a LightGBM text model, before LightGBM itself reads it.

LightGBM trusts its own files: a single child index out of range is stored as it stands and kills the process
at the next prediction (CVE-2026-92786). So the text is read here first, in plain Python, by the grammar that
LightGBM writes (version v4) and no wider: every line in its place, every array of its length, every number
finite and in range, every tree a tree. What passes is safe to load; what LightGBM tolerates may be refused.
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
# Log-odds stay below 40. Bounded leaves keep every sum finite, and contributions exact to 1e-6.
MAX_LEAF_VALUE = 1e6
# Exact contributions need memory that grows with the square of the depth: 512 levels are 5 MB a thread.
MAX_DEPTH = 512

CATEGORICAL = 1
"""Bit 0 of `Tree.decision`: a split by sets. Bit 1: missing values go left; bits 2-3 say what is missing."""

_DECISIONS = frozenset({0, 2, 4, 6, 8, 10, 1, 5, 9})
_INT32 = 2**31 - 1
_UINT32 = 2**32 - 1
# What follows a repeat never begins as the repeat does: possessive ones read the same numbers in half the time.
_INTEGER = r"(?:0|-?+[1-9][0-9]{0,9}+)"
_DECIMAL = r"-?+(?:0|[1-9][0-9]{0,24}+)(?:\.[0-9]{1,25}+)?+"
_REAL = rf"{_DECIMAL}(?:e[-+][0-9]{{1,3}}+)?+"
_BELOW_1E125 = rf"{_DECIMAL}(?:e(?:-[0-9]{{1,3}}+|\+[0-9]{{1,2}}+))?+"
_INTEGERS = re.compile(f"{_INTEGER}(?: {_INTEGER})*+")
# Most whole numbers, as LightGBM writes them: looking one up is reading and checking it at once.
_SMALL = {str(number): number for number in range(-256, 1024)}
_REALS = re.compile(f"{_REAL}(?: {_REAL})*+")
_REALS_BELOW_1E125 = re.compile(f"{_BELOW_1E125}(?: {_BELOW_1E125})*+")
_CONTROLS = [chr(code) for code in (*range(32), 127) if chr(code) != "\n"]
_FEATURE_INFO = re.compile(rf"none|\[{_REAL}:{_REAL}\]|{_INTEGER}(?::{_INTEGER})*")
_PARAMETER = re.compile(r"\[[a-z0-9_]{1,64}: [^\n]*\]")
_IMPORTANCE = re.compile(r"(.+)=[0-9]{1,20}")

_NODE_REALS = ("split_gain", "internal_value", "internal_weight")
_NODE_INTEGERS = ("split_feature", "decision_type", "left_child", "right_child", "internal_count")
_TREE_KEYS = ["num_leaves", "num_cat", "split_feature", "split_gain", "threshold", "decision_type"]
_TREE_KEYS += ["left_child", "right_child", "leaf_value", "leaf_weight", "leaf_count"]
_TREE_KEYS += ["internal_value", "internal_weight", "internal_count"]
_MAX_LINES = 24  # more than a tree has
_CATEGORY_KEYS = ["cat_boundaries", "cat_threshold"]
_CLOSING_KEYS = ["is_linear", "shrinkage"]


@dataclass(frozen=True, slots=True)
class Tree:
    """One verified tree as LightGBM keeps it; node 0 is the root, a child `c < 0` is the leaf `~c`.

    Children of a node have higher indices than the node, so one pass by index visits parents first.
    `cat_threshold[cat_boundaries[k]:cat_boundaries[k + 1]]` are the 32-bit words of the set of the
    categorical split `k`, which is the node's `threshold`.
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
    """Read a model text strictly and give its trees, in the order in which their values are added.

    Args:
        text: the whole file.
        features: the names that the model must have, in order.
        classes: scores per row; 1 for a yes-no model.
        levels: categorical features and their numbers of levels; without it any feature may be split so.

    Raises:
        ValueError: one line that says where the text departs from a model of these features.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"model text must have at most {MAX_CHARS} characters, got {len(text)}")
    for control in _CONTROLS:
        if (at := text.find(control)) >= 0:
            raise ValueError(f"text must hold no control character, got {control!r} at {at}")
    end = text.find("\n\n")
    if end < 0:
        raise ValueError("header must end with an empty line")
    sizes = _tree_sizes(text[:end], features, classes)
    allowed = None if levels is None else {features.index(name): count for name, count in levels.items()}
    trees = []
    start = end + 2
    for index, size in enumerate(sizes):
        try:
            trees.append(_tree(text[start : start + size], index, len(features), allowed))
        except ValueError as error:
            raise ValueError(f"tree {index}: {error}") from None
        start += size
    _check_rest(text[start:], features)
    return tuple(trees)


def _tree_sizes(head: str, features: Sequence[str], classes: int) -> list[int]:
    """The header's `tree_sizes`; the rest of the header is compared with what it must be."""
    one, many = ("binary sigmoid:1", "cross_entropy"), (f"multiclass num_class:{classes}",)
    objective = one if classes == 1 else many
    lines = iter(head.split("\n"))
    _expect(lines, "tree", "version=v4", f"num_class={classes}", f"num_tree_per_iteration={classes}")
    _expect(lines, "label_index=0", f"max_feature_idx={len(features) - 1}")
    if (line := next(lines, "")) not in {f"objective={name}" for name in objective}:
        raise ValueError(f"header: objective must be one of {objective}, got {line[:80]!r}")
    _expect(lines, "feature_names=" + " ".join(features))
    line = next(lines, "")
    if line.startswith("monotone_constraints="):
        _integers(_value(line, "monotone_constraints"), len(features), -1, 1, "header: monotone_constraints")
        line = next(lines, "")
    infos = _value(line, "feature_infos")
    if infos.count(" ") != len(features) - 1 or not all(map(_FEATURE_INFO.fullmatch, infos.split(" "))):
        raise ValueError(f"header: feature_infos must hold {len(features)} ranges or sets")
    sizes = _value(next(lines, ""), "tree_sizes")
    count = sizes.count(" ") + 1
    if count > MAX_TREES or count % classes:
        raise ValueError(f"header: tree_sizes must hold at most {MAX_TREES}, by {classes}, got {count}")
    if (extra := next(lines, None)) is not None:
        raise ValueError(f"header: must end after tree_sizes, got {_short(extra)}")
    return _integers(sizes, count, 1, MAX_CHARS, "header: tree_sizes")


def _tree(block: str, index: int, n_features: int, levels: Mapping[int, int] | None) -> Tree:
    if not block.isascii():
        raise ValueError("must be ASCII")
    lines = block.split("\n", _MAX_LINES)
    if lines[0] != f"Tree={index}" or lines[-3:] != ["", "", ""]:
        raise ValueError(f"must fill its size in tree_sizes from 'Tree={index}' to two empty lines")
    has_sets = len(lines) > 2 and lines[2] != "num_cat=0"
    keys = _TREE_KEYS + (_CATEGORY_KEYS if has_sets else []) + _CLOSING_KEYS
    pairs = [line.partition("=") for line in lines[1:-3]]
    if [key for key, _, _ in pairs] != keys:
        raise ValueError(f"must hold the lines {', '.join(keys)}")
    value = {key: text for key, _, text in pairs}

    (leaves,) = _integers(value["num_leaves"], 1, 1, MAX_LEAVES, "num_leaves")
    (sets,) = _integers(value["num_cat"], 1, 0, leaves - 1, "num_cat")
    if value["is_linear"] != "0":
        raise ValueError(f"is_linear must be 0, got {value['is_linear'][:20]!r}")
    _reals(value["shrinkage"], 1, "shrinkage")
    leaf_value = _reals(value["leaf_value"], leaves, "leaf_value")
    if max(map(abs, leaf_value)) > MAX_LEAF_VALUE:
        raise ValueError(f"leaf_value must lie in -{MAX_LEAF_VALUE:g}..{MAX_LEAF_VALUE:g}")
    if leaves == 1:
        return _constant(value, leaf_value)

    for key in _NODE_REALS:
        _check_reals(value[key], leaves - 1, key)
    integer = {key: _whole(value[key], leaves - 1, key) for key in _NODE_INTEGERS}
    _check_reals(value["leaf_weight"], leaves, "leaf_weight")
    tree = Tree(
        feature=integer["split_feature"],
        threshold=_thresholds(value["threshold"], leaves - 1),
        decision=integer["decision_type"],
        left=integer["left_child"],
        right=integer["right_child"],
        leaf_value=leaf_value,
        leaf_count=_integers(value["leaf_count"], leaves, 1, _INT32, "leaf_count"),
        node_count=_bounded(integer["internal_count"], 1, _INT32, "internal_count"),
        cat_boundaries=_counted(value["cat_boundaries"], "cat_boundaries", _INT32) if sets else [],
        cat_threshold=_counted(value["cat_threshold"], "cat_threshold", _UINT32) if sets else [],
    )
    if min(tree.feature) < 0 or max(tree.feature) >= n_features:
        raise ValueError(f"split_feature must lie in 0..{n_features - 1}")
    if not _DECISIONS.issuperset(tree.decision):
        raise ValueError(f"decision_type must be one of {sorted(_DECISIONS)}")
    _check_shape(tree)
    _check_counts(tree)
    _check_sets(tree, sets, levels)
    return tree


def _constant(value: Mapping[str, str], leaf_value: list[float]) -> Tree:
    """A tree of one leaf: its node arrays are empty, and once re-saved its count too."""
    for key in (*_NODE_REALS, "threshold", *_NODE_INTEGERS):
        if value[key]:
            raise ValueError(f"{key} must be empty where num_leaves is 1")
    for key in ("leaf_weight", "leaf_count"):
        if value[key]:
            _reals(value[key], 1, key)
    return Tree([], [], [], [], [], leaf_value, [], [], [], [])


def _counted(text: str, what: str, high: int) -> list[int]:
    return _integers(text, text.count(" ") + 1, 0, high, what)


def _check_shape(tree: Tree) -> None:
    """Every node but the root, and every leaf, hangs from exactly one node before it."""
    nodes = len(tree.left)
    if sorted(tree.left + tree.right) != [*range(-nodes - 1, 0), *range(1, nodes)]:
        raise ValueError("left_child and right_child must name every leaf and every node but the root once")
    for node, (left, right) in enumerate(zip(tree.left, tree.right, strict=True)):
        # LightGBM numbers nodes as it splits, so an index that does not grow is a cycle.
        if 0 <= left <= node or 0 <= right <= node:
            raise ValueError(f"node {node}: a child must come after its parent, got {left} and {right}")
    if nodes >= MAX_DEPTH:
        _check_depth(tree)


def _check_depth(tree: Tree) -> None:
    depth = [1] * len(tree.left)
    for node, children in enumerate(zip(tree.left, tree.right, strict=True)):
        for child in children:
            if child > 0:
                depth[child] = depth[node] + 1
    if max(depth) > MAX_DEPTH:
        raise ValueError(f"must be at most {MAX_DEPTH} levels deep, got {max(depth)}")


def _check_counts(tree: Tree) -> None:
    """A node holds the calls of its two children: contributions are weighted by these counts."""
    counts = tree.node_count + tree.leaf_count[::-1]  # the leaf ~c stands c places from the end
    sums = [counts[left] + counts[right] for left, right in zip(tree.left, tree.right, strict=True)]
    if sums != tree.node_count:
        node, count = next((node, count) for node, count in enumerate(sums) if count != tree.node_count[node])
        raise ValueError(f"node {node}: internal_count must be {count}, the sum of its children")


def _check_sets(tree: Tree, sets: int, levels: Mapping[int, int] | None) -> None:
    bounds = tree.cat_boundaries
    if sets and (len(bounds) != sets + 1 or bounds[0] != 0 or bounds[-1] != len(tree.cat_threshold)):
        raise ValueError(f"cat_boundaries must be {sets + 1} numbers from 0 to {len(tree.cat_threshold)}")
    if any(end <= begin for begin, end in pairwise(bounds)):
        raise ValueError("cat_boundaries must grow")
    kinds = set(zip(tree.feature, tree.decision, strict=True))
    used = []
    if any(kind & CATEGORICAL for _, kind in kinds):
        used = [node for node, kind in enumerate(tree.decision) if kind & CATEGORICAL]
    if sorted(tree.threshold[node] for node in used) != list(range(sets)):
        raise ValueError(f"categorical splits must use each of the {sets} sets once")
    if levels is None:
        return
    for feature, kind in sorted(kinds):
        if (feature in levels) != bool(kind & CATEGORICAL):
            raise ValueError(f"feature {feature}: only a categorical feature is split by sets, and only so")
    for node in used:
        count = levels[tree.feature[node]]
        begin, end = bounds[k := int(tree.threshold[node])], bounds[k + 1]
        spare = 32 * (end - begin) - count
        if spare >= 32 or (spare > 0 and tree.cat_threshold[end - 1] >> (32 - spare)):
            raise ValueError(f"node {node}: set holds a level that the feature does not have")


def _check_rest(rest: str, features: Sequence[str]) -> None:
    """What follows the trees: importances, parameters and pandas' categories, each as LightGBM writes it."""
    if len(rest) > MAX_REST:
        raise ValueError(f"text after the trees must have at most {MAX_REST} characters, got {len(rest)}")
    lines = iter(rest.split("\n"))
    _expect(lines, "end of trees", "", "feature_importances:")
    known = frozenset(features)
    for line in lines:
        if not line:
            break
        if not (match := _IMPORTANCE.fullmatch(line)) or match[1] not in known:
            raise ValueError(f"feature_importances: must be a feature and a count, got {line[:80]!r}")
    line = next(lines, "")
    if line == "parameters:":
        for line in lines:
            if not line:
                break
            if not _PARAMETER.fullmatch(line):
                raise ValueError(f"parameters: must be '[name: value]', got {_short(line)}")
            # The one parameter that LightGBM obeys when it predicts.
            if line.startswith("[linear_tree:") and line != "[linear_tree: 0]":
                raise ValueError(f"parameters: linear_tree must be 0, got {_short(line)}")
        _expect(lines, "end of parameters", "")
        line = next(lines, "")
    if line:
        _check_categories(_value(line, "pandas_categorical", ":"))
    if any(lines):
        raise ValueError("model text must end after pandas_categorical")


def _check_categories(text: str) -> None:
    """The scorer feeds codes: categories of pandas are harmless only where they are the codes themselves."""
    try:
        categories = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("pandas_categorical: must be JSON") from None
    if not isinstance(categories, list | None) or not all(map(_are_codes, categories or ())):
        raise ValueError("pandas_categorical: categories must be the codes 0, 1, 2 and so on")


def _are_codes(categories: object) -> bool:
    return isinstance(categories, list) and repr(categories) == repr(list(range(len(categories))))


def _expect(lines: Iterator[str], *wanted: str) -> None:
    for line in wanted:
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


def _integers(text: str, count: int, low: int, high: int, what: str) -> list[int]:
    return _bounded(_whole(text, count, what), low, high, what)


def _whole(text: str, count: int, what: str) -> list[int]:
    if text.count(" ") != count - 1:  # before the text is split: it may be all spaces
        raise ValueError(f"{what} must hold {count} whole number(s)")
    words = text.split(" ")
    try:
        return list(map(_SMALL.__getitem__, words))
    except KeyError:  # some are larger, or none at all
        if not _INTEGERS.fullmatch(text):
            raise ValueError(f"{what} must hold {count} whole number(s)") from None
        return list(map(int, words))


def _bounded(values: list[int], low: int, high: int, what: str) -> list[int]:
    if min(values) < low or max(values) > high:
        raise ValueError(f"{what} must lie in {low}..{high}, got {min(values)}..{max(values)}")
    return values


def _thresholds(text: str, count: int) -> list[float]:
    """Thresholds of nodes. LightGBM writes "known or missing?" as a split at inf."""
    if "inf" not in text:
        return _reals(text, count, "threshold")
    finite = " ".join("0" if word == "inf" else word for word in text.split(" "))
    values = _reals(finite, count, "threshold")
    return [math.inf if word == "inf" else value for word, value in zip(text.split(" "), values, strict=True)]


def _check_reals(text: str, count: int, what: str) -> None:
    """As `_reals`, of numbers that nobody uses: a form that cannot overflow need not be converted."""
    if text.count(" ") != count - 1 or not _REALS_BELOW_1E125.fullmatch(text):
        _reals(text, count, what)


def _reals(text: str, count: int, what: str) -> list[float]:
    if text.count(" ") != count - 1 or not _REALS.fullmatch(text):
        raise ValueError(f"{what} must hold {count} finite number(s)")
    values = list(map(float, text.split(" ")))
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{what} must be finite")
    return values
