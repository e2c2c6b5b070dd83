"""Packed trees: written as their layout declares, and refused in one line where any number is out of range."""

import functools
import random

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.serving.bundle.forest_layout import MAX_BYTES, Layout
from callsieve.serving.bundle.forest_library import PATHS
from callsieve.serving.bundle.forest_paths import Paths
from callsieve.training.model.trees import forest_of, read_forest, trees_of
from tests.support import small_bundle as small
from tests.support.errors import refused
from tests.tools.fuzz_bundle import assert_safe, mutate_forest

packed = functools.cache(lambda: bytes(small.packed(small.binary_model())))


def changed(name, place, value):
    """Returns packed trees with one number changed."""
    data = bytearray(packed())
    small.sections(data)[name][place] = value
    return bytes(data)


def read(data):
    return Layout(data, small.FEATURES, levels=small.LEVELS)


@pytest.mark.parametrize(("text", "classes"), [(small.binary_model, 1), (small.multiclass_model, 3)])
def test_the_sections_give_the_scores_of_lightgbm(text, classes):
    matrix = np.vstack([small.rows(200, seed=4), small.awkward_rows()])
    part = small.sections(small.packed(text(), classes=classes))
    assert len(part["category"]) == 2
    expected = lightgbm.Booster(model_str=text()).predict(matrix, raw_score=True).reshape(len(matrix), classes)
    np.testing.assert_array_equal(small.evaluate_packed(part, matrix, classes), expected)


def node_of(*, is_set):
    """Returns a node of the first tree with sets that splits by a set, or by a number."""
    part = small.sections(bytearray(packed()))
    numeric = part["number"][:, 2].sum()
    return int(np.flatnonzero((part["node"][:, 0] >= numeric) == is_set)[0])


@pytest.mark.parametrize(
    ("name", "place", "value", "rule"),
    [
        ("header", 0, 2, "layout version must be 1, got 2"),
        ("header", 1, 4, "must have 5 features and classes 1, got 4 and 1"),
        ("header", 2, 3, "must have 5 features and classes 1, got 5 and 3"),
        *(("header", place, -1, "must have as many bytes") for place in (3, 4)),
        *(("header", place, 2**31 - 1, "must have ") for place in (3, 4)),
        *(("header", 5, value, "must have 1 to 20000 trees") for value in (0, -1, 2**31 - 1)),
        ("header", 5, 19, "must "),
        *(("number", (0, 0), value, "features must ascend") for value in (-1, 1, 5)),
        *(("number", (0, 1), value, "must have 1 to 32767 thresholds") for value in (0, -1, 40_000)),
        *(("number", (0, 2), value, "must have 1 to 6 columns") for value in (0, -1, 7)),
        ("number", (1, 0), 3, "feature 3: a categorical feature must be split by sets"),
        ("category", (0, 0), 2, "feature 2: only a categorical feature may be split by sets"),
        *(("category", (0, 1), value, "must have 1 to 3 columns") for value in (0, -1, 4, 2**31 - 1)),
        *(("tree", (0, 0), value, "must have at most 32767 nodes") for value in (-1, 2**31 - 1)),
        *(("tree", (0, 1), value, "must have at most 32767 nodes") for value in (0, -1, 2**31 - 1)),
        ("tree", (0, 1), 30_000, "must have "),
        *(("bound", 1, value, "thresholds must ascend") for value in (np.nan, -np.inf, np.inf)),
        *(("leaf", 3, value, "leaf values must lie") for value in (np.nan, np.inf, -np.inf, 1e6 + 1, -1e7)),
        *(("leaf_count", 3, value, "at least 1 training call") for value in (0, -1)),
        *(("missing", (0, 0), value, "ranks of missing values") for value in (-1, 32_767)),
        *(("missing", (0, 1), value, "ranks of missing values") for value in (-2, 32_767)),
        *(("node", (0, 0), value, "tree 0: a node must test a column") for value in (-1, 100)),
        *(("node", (0, column), 32_767, "tree 0: a node must") for column in (2, 3)),
        *(("node", (0, column), value, "tree 0: a node must") for column in (2, 3) for value in (0, -8, -32_768)),
    ],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_a_number_out_of_range_is_refused(monkeypatch, name, place, value, rule, compiled):
    if not compiled:
        small.without_library(monkeypatch)
    with refused(rule):
        read(changed(name, place, value))


@pytest.mark.parametrize("compiled", [True, False])
def test_a_rank_beyond_the_thresholds_and_a_node_named_twice_are_refused(monkeypatch, compiled):
    if not compiled:
        small.without_library(monkeypatch)
    number, of_set = node_of(is_set=False), node_of(is_set=True)
    for bound in (-1, 32_767):
        with refused("a node must test a column and one of its ranks"):
            read(changed("node", (number, 1), bound))
    read(changed("node", (of_set, 1), -1))  # all 16 levels
    node = small.sections(bytearray(packed()))["node"]
    with refused("must be the child of one node"):
        read(changed("node", (0, 2), node[0, 3]))


@pytest.mark.parametrize("value", [1e6, -1e6, 0.0, 5e-324])
def test_leaf_values_up_to_the_bound_are_read(value):
    assert read(changed("leaf", 3, value)).leaf[3] == value


def test_a_file_cut_anywhere_or_longer_is_refused():
    data = packed()
    for end in (*range(60), *range(60, len(data), 97), len(data) - 1):
        with refused("must "):
            read(data[:end])
    with refused("must have as many bytes as its header declares, got more"):
        read(data + b"\0")
    with refused("at most 16 MB"):
        read(data + bytes(MAX_BYTES))


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=300)
def test_a_changed_file_is_refused_or_scores_as_its_sections_say(seed):
    rng = random.Random(seed)
    text, classes = rng.choice(((small.binary_model(6), 1), (small.multiclass_model(2), 3)))
    assert_safe(mutate_forest(bytes(small.packed(text, classes=classes)), rng), classes, small.rows(5, seed=9))


def test_paths_are_equal_compiled_and_in_python():
    rng = np.random.default_rng(0)
    matrix = np.column_stack([rng.integers(0, 70, 2000), rng.normal(size=(2000, 2))])
    names = ("level", "x", "y")
    text = small.train_text(matrix, rng.integers(0, 2, 2000), names, ["level"], 5, min_data_per_group=1, cat_smooth=1)
    forest = forest_of(trees_of(text), names)
    fast = Paths(forest._layout, forest._address)
    slow = Paths(forest._layout)
    for name in PATHS:
        assert getattr(fast, name) == getattr(slow, name), name


def test_a_linear_tree_is_refused():
    with pytest.raises(ValueError, match="is_linear must be 0"):
        read_forest(small.binary_model().replace("is_linear=0", "is_linear=1"))
