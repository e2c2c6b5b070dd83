"""The trees of a LightGBM model: read from its text, and packed for a bundle (`serving/bundle/forest_layout.py`)."""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.arrays import Array, Floats
from callsieve.features.files.strict_json import decode
from callsieve.serving.bundle import bundle as bundles
from callsieve.serving.bundle.bundle import FORESTS, MANIFEST, TEXTS, Bundle, BundleError
from callsieve.serving.bundle.forest import Forest
from callsieve.serving.bundle.forest_layout import LEVELS, MAGIC, MOST, VERSION, Layout
from callsieve.serving.bundle.metadata import BundleMetadata

CATEGORICAL = 1
"""Bit 0 of `Tree.decision`: a split by sets. Bit 1: missing values go left. Bits 2-3: which values are missing."""
# By bits 1 to 3 of a node's decision. Bit 1: missing values go left. Bits 2-3: 0 none, 1 zeros, 2 NaN are missing.
_NONE, _ZEROS = {0, 1}, {2, 3}
_ROWS = 2000  # random rows that LightGBM scores from a text


@dataclass(frozen=True)
class Tree:
    """One tree in LightGBM's layout. Node 0 is the root; a child `c < 0` is the leaf `~c`.

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
    cat_boundaries: list[int]
    cat_threshold: list[int]


def trees_of(text: str) -> list[Tree]:
    """Returns the trees of a text that LightGBM wrote here, or that a trusted key signed; little of it is checked."""
    blocks = text.partition("\nend of trees")[0].split("\nTree=")[1:]
    try:
        return [_tree(dict(line.partition("=")[::2] for line in block.split("\n"))) for block in blocks]
    except (KeyError, ValueError) as error:
        raise ValueError(f"expected the text of a LightGBM model: {error!r}") from None


def _tree(value: Mapping[str, str]) -> Tree:
    if value["is_linear"] != "0":
        raise ValueError("is_linear must be 0")

    def numbers(key: str, kind: Callable[[str], Any] = int) -> list[Any]:
        return list(map(kind, value.get(key, "").split()))

    return Tree(
        feature=numbers("split_feature"),
        threshold=numbers("threshold", float),
        decision=numbers("decision_type"),
        left=numbers("left_child"),
        right=numbers("right_child"),
        leaf_value=numbers("leaf_value", float),
        leaf_count=numbers("leaf_count") if value["num_leaves"] != "1" else [1],
        cat_boundaries=numbers("cat_boundaries"),
        cat_threshold=numbers("cat_threshold"),
    )


def read_forest(text: str) -> Forest:
    """Returns the forest of a model text with the features and classes that its own header names."""
    return forest_of(trees_of(text), *_header(text))


def forest_of(trees: Sequence[Tree], features: Sequence[str], classes: int = 1) -> Forest:
    """Returns the forest of these trees."""
    return Forest(Layout(pack(trees, len(features), classes), features, classes), features, classes)


def _header(text: str) -> tuple[list[str], int]:
    header = dict(line.partition("=")[::2] for line in text[: text.find("\n\n")].split("\n"))
    return header.get("feature_names", "").split(" "), int(header.get("num_class", "1"))


def save_bundle(
    metadata: BundleMetadata,
    texts: Mapping[str, str],
    golden_rows: Sequence[Sequence[float]],
    folder: Path | str,
    signing_key: Ed25519PrivateKey,
) -> str:
    """Packs the trees of LightGBM's texts and writes them as a bundle (`serving.bundle.bundle.save`)."""
    models = {}
    for name, text in texts.items():
        features, classes = _header(text)
        if tuple(features) != metadata.features:
            raise BundleError(f"{TEXTS[name]}: must have the features of the metadata")
        models[name] = text, pack(trees_of(text), len(features), classes)
    return bundles.save(metadata, models, golden_rows, folder, signing_key)


def signed_texts(folder: Path, bundle: Bundle) -> dict[str, str]:
    """Returns LightGBM's texts of a bundle by name. They are read now and compared with the signed manifest."""
    texts, (_, listed) = {}, signed_manifest(folder, bundle)
    for name, file in TEXTS.items():
        if file in listed:
            data = (folder / file).read_bytes()
            if hashlib.sha256(data).hexdigest() != listed[file]["sha256"]:
                raise ValueError(f"{folder / file}: the file changed while it was read")
            texts[name] = data.decode()
    return texts


def signed_manifest(folder: Path, bundle: Bundle) -> tuple[str, dict[str, Any]]:
    """Returns the SHA-256 of a bundle's manifest, and its files by name, each with `sha256` and `size`."""
    data = (folder / MANIFEST).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(bundle.model_id):
        raise ValueError(f"{folder}: the bundle changed while it was read")
    return digest, decode(data)["files"]


def compare_with_texts(folder: Path, bundle: Bundle) -> str:
    """Compares the packed trees of a bundle with its texts; returns what was compared, in a line.

    The trees of a text must pack to the same file. Then LightGBM's own reader must score the golden rows, and random
    rows of thresholds, to the same bits.

    Raises:
        BundleError: if a text has other trees.
    """
    import lightgbm

    texts, (_, listed) = signed_texts(folder, bundle), signed_manifest(folder, bundle)
    for name, text in texts.items():
        forest: Forest = getattr(bundle, name)
        try:
            trees = trees_of(text)
            packed = pack(trees, len(bundle.features), forest.classes)
        except (IndexError, OverflowError, ValueError) as error:
            raise BundleError(f"{TEXTS[name]}: {error}") from None
        same = _header(text) == ([*bundle.features], forest.classes)
        if not same or hashlib.sha256(packed).hexdigest() != listed[FORESTS[name]]["sha256"]:
            raise BundleError(f"{TEXTS[name]}: must have the features and trees of {FORESTS[name]}")
        rows = np.vstack([bundle.golden.rows, rows_at_thresholds(trees, len(bundle.features), _ROWS)])
        scores = lightgbm.Booster(model_str=text).predict(rows, raw_score=True)
        if np.asarray(scores).tobytes() != forest.predict_raw(rows).tobytes():
            raise BundleError(f"{TEXTS[name]}: LightGBM must score it as {FORESTS[name]} is scored")
    return f"texts: {', '.join(TEXTS[name] for name in texts)} have the same trees and, by LightGBM, the same scores"


def rows_at_thresholds(trees: Sequence[Tree], width: int, count: int) -> Floats:
    """Returns random rows: values on and next to the model's thresholds, levels in and out of its sets, and NaN."""
    values: list[set[float]] = [{0.0} for _ in range(width)]
    for tree in trees:
        for feature, threshold, decision in zip(tree.feature, tree.threshold, tree.decision, strict=True):
            if decision & CATEGORICAL:
                levels = levels_of(tree, int(threshold))
                values[feature] |= {*levels, *(level + 1 for level in levels)}
            else:
                values[feature] |= {threshold, np.nextafter(threshold, -np.inf), np.nextafter(threshold, np.inf)}
    rng = np.random.default_rng(0)
    return np.column_stack([rng.choice([*sorted(levels - {np.inf, -np.inf}), np.nan], count) for levels in values])


def words_of(tree: Tree, split: int) -> list[int]:
    """Returns the words of a set of a tree: bit i of word j is the level 32 j + i."""
    return tree.cat_threshold[tree.cat_boundaries[split] : tree.cat_boundaries[split + 1]]


def levels_of(tree: Tree, split: int) -> list[float]:
    """Returns the levels of a set of a tree."""
    words = words_of(tree, split)
    return [float(32 * i + bit) for i, word in enumerate(words) for bit in range(32) if word >> bit & 1]


def pack(trees: Sequence[Tree], width: int, classes: int = 1) -> bytes:
    """Returns the packed trees. A node tests 16 levels: a larger set is a chain of nodes with one left child."""
    feature, decision, left, right = (_joined(trees, key, np.int64) for key in ("feature", "decision", "left", "right"))
    threshold = _joined(trees, "threshold", np.float64) + 0.0  # -0.0 becomes 0.0
    sets = [_parts(tree, node) for tree in trees for node, kind in enumerate(tree.decision) if kind & CATEGORICAL]
    is_set = decision & CATEGORICAL == CATEGORICAL
    row = np.zeros((len(feature), 4), dtype=np.int64)
    number, bounds, missing, columns = [], [], [], 0
    for place in np.unique(feature[~is_set]).tolist():
        own = np.flatnonzero(~is_set & (feature == place))
        values, row[own, 1] = np.unique(threshold[own], return_inverse=True)
        kinds, kind = np.unique(decision[own], return_inverse=True)
        ranks = [_missing_ranks(value >> 1, values.tolist()) for value in kinds.tolist()]
        distinct = list(dict.fromkeys(ranks))
        row[own, 0] = columns + np.array([distinct.index(pair) for pair in ranks])[kind]
        _check_size(len(values), f"thresholds of feature {place}")
        number += [place, len(values), len(distinct)]
        bounds.append(values)
        missing += distinct
        columns += len(distinct)
    category = []
    for place in np.unique(feature[is_set]).tolist():
        own = np.flatnonzero(is_set & (feature == place))
        count = 1 + max(column for i in np.flatnonzero(feature[is_set] == place) for column, _ in sets[i])
        row[own, 0] = columns
        category += [place, count]
        columns += count
    _check_size(columns, "columns")
    nodes = np.array([len(tree.left) for tree in trees], dtype=np.int64)
    root = np.repeat(np.cumsum(nodes) - nodes, nodes)
    size = np.ones(len(feature), dtype=np.int64)
    size[is_set] = [len(parts) for parts in sets]
    start = np.concatenate([[0], np.cumsum(size)])  # of each node's packed ones
    for side, child in ((2, left), (3, right)):
        row[:, side] = np.where(child < 0, child, start[root + np.maximum(child, 0)] - start[root])
    row = np.repeat(row, size, axis=0)
    for node, parts in zip(np.flatnonzero(is_set).tolist(), sets, strict=True):
        own_rows = row[start[node] : start[node + 1]]
        own_rows[:, :2] += np.array(parts)
        own_rows[:-1, 3] = start[node] - start[root[node]] + np.arange(1, len(parts))
    packed = np.diff(start[np.concatenate([[0], np.cumsum(nodes)])])
    _check_size(int(packed.max(initial=0)), "nodes of a tree")
    leaves = [len(tree.leaf_value) for tree in trees]
    _check_size(max(leaves, default=0), "leaves of a tree")
    header = struct.pack("<8s6i", MAGIC, VERSION, width, classes, len(number) // 3, len(category) // 2, len(trees))
    sections = [
        *(np.array(values, dtype="<i4") for values in (number, category, np.column_stack([packed, leaves]))),
        *(np.asarray(values, dtype="<f8") for values in (np.concatenate([[], *bounds]), _joined(trees, "leaf_value"))),
        _joined(trees, "leaf_count").astype("<i4"),
        np.array(missing, dtype="<i2"),
        (row & 0xFFFF).astype("<u2"),
    ]
    return header + b"".join(section.tobytes() for section in sections)


def _joined(trees: Sequence[Tree], key: str, kind: Any = np.float64) -> Array:
    return np.fromiter(chain.from_iterable(getattr(tree, key) for tree in trees), dtype=kind)


def _parts(tree: Tree, node: int) -> list[tuple[int, int]]:
    """Returns the columns in which a categorical node's set has levels, with these levels as 16 bits."""
    halves = enumerate(
        bits for word in words_of(tree, int(tree.threshold[node])) for bits in (word & 0xFFFF, word >> LEVELS)
    )
    return [(column, bits) for column, bits in halves if bits] or [(0, 0)]


def _missing_ranks(kind: int, bounds: Sequence[float]) -> tuple[int, int]:
    if kind in _NONE:
        return bisect_left(bounds, 0.0), -1
    rank = 0 if kind & 1 else len(bounds)
    return (rank, rank) if kind in _ZEROS else (rank, -1)


def _check_size(number: int, what: str) -> None:
    if number > MOST:
        raise ValueError(f"must have at most {MOST} {what}, got {number}; train fewer or flatter trees")
