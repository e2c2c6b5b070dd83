"""Contributions: equal to LightGBM and to the definition, and exact for every form of tree."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.serving.bundle.forest_paths import POINTS, quadrature
from callsieve.training.model.trees import forest_of, read_forest, trees_of
from tests.support import small_bundle as small

MATRIX = np.vstack([small.rows(200, seed=5), small.awkward_rows()])


def wide_forest(trees, width):
    return forest_of(trees, [f"f{i}" for i in range(width)])


def contributions_of(trees, row):
    """Returns the contributions of a row to the score of trees of one class."""
    forest = wide_forest(trees, len(row))
    contributions = np.array(forest.contributions(row))
    assert forest.contributions_of(np.array([row, row])).tobytes() == 2 * contributions.tobytes()
    return contributions[0]


def small_forest():
    return read_forest(small.binary_model())


def trained(matrix, y, trees, *, categorical=(), **parameters):
    names = [f"f{i}" for i in range(matrix.shape[1])]
    fixed = {"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True, "min_data_in_leaf": 5}
    data = lightgbm.Dataset(matrix, y, feature_name=names, categorical_feature=list(categorical))
    text = lightgbm.train(fixed | parameters, data, trees).model_to_string()
    return text, read_forest(text)


def assert_equal_to_lightgbm(text, forest, matrix):
    oracle = lightgbm.Booster(model_str=text)
    width = len(forest.features)
    expected = oracle.predict(matrix, pred_contrib=True).reshape(len(matrix), forest.classes, width + 1)
    actual = np.array([forest.contributions(row) for row in matrix])
    assert forest.contributions_of(matrix).tobytes() == actual.tobytes()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected[:, :, :-1], rtol=1e-9, atol=1e-11 * scale)
    rest = forest.predict_raw(matrix).reshape(len(matrix), forest.classes) - actual.sum(axis=2)
    np.testing.assert_allclose(rest, expected[:, :, -1], rtol=0, atol=1e-13 * width * scale)


def test_contributions_with_sets_missing_values_and_zeros_equal_lightgbm():
    assert_equal_to_lightgbm(small.binary_model(), small_forest(), MATRIX)
    assert_equal_to_lightgbm(small.multiclass_model(), read_forest(small.multiclass_model()), MATRIX)


@pytest.mark.system
@pytest.mark.parametrize(
    "parameters",
    [
        {"num_leaves": 2},
        {"num_leaves": 3},
        {"num_leaves": 63, "min_data_in_leaf": 1},
        {"num_leaves": 31, "zero_as_missing": True},
        {"num_leaves": 31, "use_missing": False},
        {"num_leaves": 200, "min_data_in_leaf": 1, "max_bin": 1000, "min_data_in_bin": 1, "min_gain_to_split": 0},
        {"num_leaves": 31, "bagging_freq": 1, "bagging_fraction": 0.5, "extra_trees": True},
    ],
    ids=lambda parameters: " ".join(f"{name}={value}" for name, value in parameters.items()),
)
@pytest.mark.parametrize("width", [1, 2, 12])
def test_contributions_of_trees_of_many_forms_equal_lightgbm(parameters, width):
    rng = np.random.default_rng(width)
    matrix = rng.normal(size=(600, width))
    matrix[rng.random(matrix.shape) < 0.2] = np.nan
    matrix[rng.random(matrix.shape) < 0.2] = 0.0
    y = np.nan_to_num(matrix).sum(axis=1) + np.isnan(matrix[:, 0]) + rng.normal(size=600) > 0.5
    text, forest = trained(matrix, y, 10, **parameters)
    edges = np.repeat([[np.nan], [0.0], [-0.0], [1e-36], [1e300], [-1e300]], width, axis=1)
    assert_equal_to_lightgbm(text, forest, np.vstack([matrix[:40], edges]))


def test_contributions_with_sets_of_many_words_equal_lightgbm():
    rng = np.random.default_rng(0)
    matrix = np.column_stack([rng.integers(0, 300, 3000), rng.integers(0, 3, 3000), rng.normal(size=3000)])
    y = (matrix[:, 0] % 7 < 3) ^ (rng.random(3000) < 0.2)
    text, forest = trained(matrix, y, 8, categorical=(0, 1), min_data_per_group=1, cat_smooth=1)
    odd = [[value, value, 0.0] for value in (-1.0, -0.5, 299.5, 300.0, 2.0**31, -(2.0**31), 2.0**40, np.nan, 63.99)]
    assert_equal_to_lightgbm(text, forest, np.vstack([matrix[:60], odd]))


def chain(depth, width, *, near):
    """Returns a tree that is a chain: node i tests feature i % width, and one child is a leaf."""
    on, off = [*range(1, depth), -depth - 1], [-1 - i for i in range(depth)]
    left, right = (on, off) if near == "left" else (off, on)
    leaf = [math.sin(i) for i in range(depth + 1)]
    text = small.binary_model()
    tree = trees_of(text)[0]
    return type(tree)(
        feature=[i % width for i in range(depth)],
        threshold=[(-1.0) ** i * (i + 1) / depth for i in range(depth)],
        decision=[2 if i % 3 else 8 for i in range(depth)],
        left=left,
        right=right,
        leaf_value=leaf,
        leaf_count=[1] * (depth + 1),
        cat_boundaries=[],
        cat_threshold=[],
    )


def balanced(depth, width, seed):
    """Returns a complete tree of random features, thresholds and counts."""
    rng = np.random.default_rng(seed)
    nodes = 2**depth - 1
    child = [
        [2 * i + side if 2 * i + side < nodes else -(2 * i + side - nodes) - 1 for i in range(nodes)] for side in (1, 2)
    ]
    leaf_count = rng.integers(1, 50, nodes + 1).tolist()
    tree = chain(1, 1, near="left")
    return type(tree)(
        feature=rng.integers(0, width, nodes).tolist(), threshold=rng.normal(size=nodes).tolist(),
        decision=rng.choice([0, 2, 4, 6, 8, 10], nodes).tolist(), left=child[0], right=child[1],
        leaf_value=rng.normal(size=nodes + 1).tolist(), leaf_count=leaf_count,
        cat_boundaries=[], cat_threshold=[],
    )  # fmt: skip


def training_calls(tree, node):
    if node < 0:
        return tree.leaf_count[~node]
    return sum(training_calls(tree, child) for child in (tree.left[node], tree.right[node]))


def conditional_mean(tree, row, fixed, node=0):
    """Returns the tree's mean where the features in `fixed` follow the row and the others follow the training calls."""
    if node < 0:
        return tree.leaf_value[~node]
    left, right = tree.left[node], tree.right[node]
    if tree.feature[node] in fixed:
        return conditional_mean(
            tree, row, fixed, left if small._goes_left(tree, node, row[tree.feature[node]]) else right
        )
    count = [training_calls(tree, child) for child in (left, right)]
    return sum(n * conditional_mean(tree, row, fixed, c) for n, c in zip(count, (left, right), strict=True)) / sum(
        count
    )


def by_definition(tree, row):
    """Returns Shapley values by their definition: a sum over all sets of the other features."""
    width, values = len(row), np.zeros(len(row))
    for feature in range(width):
        others = [i for i in range(width) if i != feature]
        for size in range(width):
            weight = math.factorial(size) * math.factorial(width - size - 1) / math.factorial(width)
            for subset in itertools.combinations(others, size):
                gain = conditional_mean(tree, row, {*subset, feature}) - conditional_mean(tree, row, set(subset))
                values[feature] += weight * gain
    return values


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    depth=st.integers(1, 4),
    row=st.lists(st.floats(-2, 2) | st.just(math.nan) | st.just(0.0), min_size=4, max_size=4),
)
def test_contributions_equal_the_definition(seed, depth, row):
    tree = balanced(depth, 4, seed)
    np.testing.assert_allclose(contributions_of([tree], row), by_definition(tree, row), rtol=1e-10, atol=1e-14)


@pytest.mark.system
@pytest.mark.parametrize(("depth", "width"), [(17, 17), (24, 24), (30, 30), (100, 40), (500, 500), (511, 2)])
def test_contributions_of_deep_trees_sum_to_the_score(depth, width):
    """LightGBM itself loses digits here, so the test compares only the sum of the parts with the score."""
    trees = [chain(depth, width, near=near) for near in ("left", "right")] + [balanced(4, width, 1)]
    matrix = np.random.default_rng(0).normal(size=(5, width))
    base = sum(np.dot(tree.leaf_count, tree.leaf_value) / sum(tree.leaf_count) for tree in trees)
    total = [contributions_of(trees, row).sum() + base for row in matrix]
    np.testing.assert_allclose(total, small.evaluate(trees, matrix)[:, 0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("sets", [1, 2, 3, 8, 32])
def test_points_and_weights_equal_those_of_numpy(sets):
    t, weight = np.polynomial.legendre.leggauss(POINTS * sets)
    values = np.array(quadrature(sets)).reshape(sets, 2, POINTS)
    np.testing.assert_allclose(values[:, 0].ravel(), (t[::-1] + 1) / 2, rtol=0, atol=1e-15)
    np.testing.assert_allclose(values[:, 1].ravel(), weight[::-1] / 2, rtol=1e-12, atol=1e-14)


def test_trees_of_one_leaf_contribute_nothing():
    stump = trees_of(small.binary_model())[0]
    tree = type(stump)([], [], [], [], [], [0.25], [1], [], [])
    forest = wide_forest([tree, tree], 3)
    assert forest.contributions([1.0, math.nan, 0.0]) == [(0.0, 0.0, 0.0)]
    assert forest.predict_one([0.0] * 3) == 0.5


def test_a_row_does_not_influence_the_next():
    forest = small_forest()
    alone = [small_forest().contributions(row) for row in MATRIX[:20]]
    assert [forest.contributions(row) for row in MATRIX[:20]] == alone
    assert [forest.contributions(row) for row in MATRIX[19::-1]] == alone[::-1]


def test_contributions_of_a_table_name_the_row_with_an_infinite_value():
    matrix = MATRIX[:100].copy()
    matrix[70, 1] = math.inf
    with pytest.raises(ValueError, match=r"^row 70: \w+ must be finite or NaN, got inf$"):
        small_forest().contributions_of(matrix)
    assert small_forest().contributions_of(matrix[:0]).shape == (0, 1, len(small.FEATURES))


def test_threads_share_one_forest_from_its_first_explanation_on():
    forest, expected = small_forest(), [small_forest().contributions(row) for row in MATRIX]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(forest.contributions, MATRIX.tolist())) == expected
