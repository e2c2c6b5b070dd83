"""Reads a forest from a model text: compiled, straight into the arrays that are evaluated.

`forest.c` accepts the texts that LightGBM usually writes, by the rules of `model_text.py`. That module reads any other
text, or says what is wrong with it, so both ways accept the same texts and give the same arrays.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from .forest_layout import Layout
from .forest_library import NO_MEMORY, Library
from .forest_paths import Paths
from .model_text import MAX_CHARS, Tree, check_header, check_rest, check_structure

_LOWEST_POWER, _HIGHEST_POWER = -70, 40  # of ten, as in `forest.c`
_COUNTS = ("trees", "nodes", "leaves", "words", "packed")


class Model(NamedTuple):
    """A model that was read.

    Attributes:
        layout: its arrays.
        tree_count: number of trees.
        paths: returns what explanations need, from the address of the forest as `forest.c` takes it.
        trees: its trees if Python read them, else empty.
        leaf_count: the training calls of each leaf; empty if Python read them.
    """

    layout: Layout
    tree_count: int
    paths: Callable[[int], Paths]
    trees: Sequence[Tree]
    leaf_count: array[int]


class _Counts(ctypes.Structure):
    """The first fields of `Raw` of `forest.c`."""

    _fields_ = tuple((name, ctypes.c_int64) for name in _COUNTS)


def model_of(trees: Sequence[Tree]) -> Model:
    """Returns the model of verified trees."""
    return Model(Layout(trees), len(trees), lambda _forest: Paths(trees), trees, array("i"))


def read_model(
    library: Library | None,
    data: bytes,
    features: Sequence[str],
    classes: int,
    levels: Mapping[str, int] | None = None,
) -> Model:
    """Checks a model text and returns the model."""
    if library is not None and len(data) <= MAX_CHARS:
        try:
            model = _read(library, data, features, classes, levels)
        except ValueError:
            model = None  # Python names the fault
        if model is not None:
            return model
    return model_of(check_structure(data.decode(), features, classes=classes, levels=levels))


def _read(
    compiled: Library, data: bytes, features: Sequence[str], classes: int, levels: Mapping[str, int] | None
) -> Model | None:
    """Returns the model of a text, or None for a text that only Python reads or refuses."""
    end = data.find(b"\n\n")
    if end < 0:
        return None
    sizes = array("q", check_header(data[:end].decode(), features, classes))
    first, length = end + 2, sum(sizes)
    if length > len(data) - first:
        return None
    allowed = None
    if levels is not None:
        allowed = array("i", (levels.get(name, -1) for name in features))
    text = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
    raw = compiled.read(text + first, _place(sizes), len(sizes), len(features), _place(allowed), _place(_powers()))
    if not raw:
        return None
    try:
        check_rest(data[first + length :].decode(), features)
        layout, leaf_count = _layout(compiled, raw, len(features))
    finally:
        compiled.free(raw)
    return Model(layout, len(sizes), partial(_paths, compiled, layout, leaf_count), (), leaf_count)


def _layout(compiled: Library, raw: int, width: int) -> tuple[Layout, array[int]]:
    """Returns the layout of trees that were read, and the training calls of each leaf."""
    counts = _Counts.from_address(raw)
    bound, bounds = array("d", bytes(8 * (counts.nodes + 1))), array("q", bytes(8 * width))
    decisions, columns = array("i", bytes(4 * width)), array("i", bytes(4 * width))
    if compiled.bounds(raw, width, *map(_place, (bound, bounds, decisions, columns))) == NO_MEMORY:
        raise MemoryError("no memory for the thresholds")
    layout, first, at = Layout(()), array("q", bytes(8 * width)), 0
    kinds_of = [[kind for kind in range(16) if bits >> kind & 1] for bits in decisions]
    for feature, size in enumerate(bounds):
        first[feature] = at
        if size:
            layout.add_number(feature, bound[at : at + size], [kind for kind in kinds_of[feature] if not kind & 1])
        at += size
    for feature, count in enumerate(columns):
        if count:
            layout.add_category(feature, count, [kind for kind in kinds_of[feature] if kind & 1])
    column = array("h", bytes(2 * 16 * width))
    for (feature, kind), place in layout.column_of.items():
        column[16 * feature + kind] = place
    layout.node, layout.tree = array("h", bytes(8 * counts.packed)), array("i", bytes(16 * counts.trees))
    layout.leaf, leaf_count = array("d", bytes(8 * counts.leaves)), array("i", bytes(4 * counts.leaves))
    targets = layout.node, layout.tree, layout.leaf, leaf_count
    compiled.pack(raw, *map(_place, (column, bound, first, bounds, *targets)))
    layout.most_nodes = max(layout.tree[2::4], default=0)
    return layout, leaf_count


def _paths(compiled: Library, layout: Layout, leaf_count: array[int], forest: int) -> Paths:
    paths, nodes, features = Paths(()), len(layout.node) // 4, array("i", bytes(len(layout.tree)))
    paths.share, paths.before = array("d", bytes(8 * nodes)), array("d", bytes(8 * nodes))
    paths.above = array("i", bytes(4 * nodes))
    targets = leaf_count, paths.share, paths.before, paths.above, features
    if compiled.paths(forest, *map(_place, targets)) == NO_MEMORY:
        raise MemoryError("no memory for explanations")
    paths.add_rules(features)
    return paths


def _place(values: Any) -> int:
    return 0 if values is None else values.buffer_info()[0]


@cache
def _powers() -> array[int]:
    halves = array("Q")
    for power in range(_LOWEST_POWER, _HIGHEST_POWER + 1):
        five = 5 ** abs(power)
        if power >= 0:
            bits = five << 128 >> five.bit_length()
        else:
            bits = (1 << (five - 1).bit_length() + (127 if power >= -27 else 128 + five.bit_length())) // five + 1
            bits >>= max(bits.bit_length() - 128, 0)
        halves.extend((bits & (1 << 64) - 1, bits >> 64))
    return halves
