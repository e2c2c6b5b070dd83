"""The structure check: every LightGBM model passes, and every other text is refused before LightGBM reads it."""

import re
import tracemalloc

import lightgbm
import numpy as np
import pytest

from callsieve.serving.bundle.model_text import MAX_CHARS, MAX_DEPTH, MAX_LEAVES, MAX_REST, check_structure
from tests.support import small_bundle as small
from tests.support.errors import refused


def check(text, **changes):
    return check_structure(text, **{"features": small.FEATURES, "levels": small.LEVELS, **changes})


def edited(pattern, new, text=None):
    """Returns the model with the first match of a pattern replaced, and matching tree sizes."""
    changed, count = re.subn(pattern, new, text or small.binary_model(), count=1)
    assert count == 1
    return small.repair_sizes(changed)


def numbers(key, change, tree=0):
    """Returns the model with one array of one tree changed by `change`, a function of its list of numbers."""
    head, *blocks = small.binary_model().split("Tree=")
    line = re.search(rf"^{key}=(.*)$", blocks[tree], re.MULTILINE)
    tokens = line[1].split(" ")
    change(tokens)
    blocks[tree] = blocks[tree].replace(line[0], f"{key}={' '.join(tokens)}", 1)
    return small.repair_sizes("Tree=".join([head, *blocks]))


def test_a_model_passes_and_its_arrays_give_its_scores():
    trees = check(small.binary_model())
    assert len(trees) == 20
    assert any(tree.cat_threshold for tree in trees)
    matrix = np.vstack([small.rows(300, seed=4), small.awkward_rows()])
    expected = lightgbm.Booster(model_str=small.binary_model()).predict(matrix, raw_score=True)
    np.testing.assert_array_equal(small.evaluate(trees, matrix)[:, 0], expected)


def test_a_model_of_three_classes_passes_only_as_three_classes():
    assert len(check(small.multiclass_model(), classes=3)) == 12
    with pytest.raises(ValueError, match="num_class=1"):
        check(small.multiclass_model())
    with pytest.raises(ValueError, match="num_class=3"):
        check(small.binary_model(), classes=3)


def test_a_tree_of_one_leaf_passes_as_trained_and_as_saved_again():
    matrix = np.random.default_rng(0).normal(size=(300, 2))
    parameters = {"objective": "binary", "min_data_in_leaf": 200, "verbose": -1, "monotone_constraints": [1, 0]}
    booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, matrix[:, 0] > 0, feature_name=["a", "b"]), 2)
    text = booster.model_to_string()
    again = lightgbm.Booster(model_str=text).model_to_string()
    for version in (text, again):
        (tree,) = check(version, features=("a", "b"), levels={})
        assert tree.left == []
        odd = small.repair_sizes(version.replace("threshold=\n", "threshold=1\n", 1))
        with pytest.raises(ValueError, match="threshold must be empty where num_leaves is 1"):
            check(odd, features=("a", "b"), levels={})


@pytest.mark.parametrize(
    "extra", [{"monotone_constraints": [1, 0, 0, 0, 0]}, {"bagging_freq": 1, "bagging_fraction": 0.5}]
)
def test_models_with_other_settings_pass(extra):
    matrix = small.rows(500)
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, **extra}
    data = lightgbm.Dataset(matrix, matrix[:, 0] > 0, feature_name=list(small.FEATURES))
    check(lightgbm.train(parameters, data, 5).model_to_string(), levels={})


def set_number(at, value):
    return lambda tokens: tokens.__setitem__(at, str(value))


@pytest.mark.parametrize(
    ("key", "change", "rule"),
    [
        ("left_child", set_number(0, 99), "left_child and right_child must name"),
        ("left_child", set_number(0, -99), "left_child and right_child must name"),
        ("left_child", set_number(0, 2**31), "must name every leaf, and every node"),
        ("right_child", set_number(0, 0), "left_child and right_child must name"),
        ("left_child", list.pop, "left_child must have 6"),
        ("left_child", lambda tokens: tokens.append("1"), "left_child must have 6"),
        ("split_feature", set_number(0, 5), r"split_feature must lie in 0\.\.4"),
        ("split_feature", set_number(0, -1), r"split_feature must lie in 0\.\.4"),
        ("threshold", set_number(0, "nan"), "threshold must have 6 finite"),
        ("threshold", set_number(0, "-inf"), "threshold must have 6 finite"),
        ("threshold", set_number(0, "1e+999"), "threshold must be finite"),
        ("threshold", set_number(0, "0x10"), "threshold must have 6 finite"),
        ("threshold", set_number(0, "1_0"), "threshold must have 6 finite"),
        ("leaf_value", set_number(0, "-inf"), "leaf_value must have 7 finite"),
        ("leaf_value", set_number(0, "-2e+06"), "leaf_value must lie in"),
        ("leaf_value", set_number(0, ""), "leaf_value must have 7 finite"),
        ("decision_type", set_number(0, 16), "decision_type must be one of"),
        ("decision_type", set_number(0, 12), "decision_type must be one of"),
        ("decision_type", set_number(0, 3), "decision_type must be one of"),
        ("leaf_count", set_number(0, 0), "leaf_count must lie in"),
        ("leaf_count", set_number(0, 1), "internal_count must be"),
        ("num_leaves", set_number(0, MAX_LEAVES + 1), "num_leaves must lie in"),
        ("num_leaves", set_number(0, 0), "num_leaves must lie in"),
        ("num_leaves", set_number(0, 8), "must have 8 finite"),
        ("num_cat", set_number(0, 0), "must have the lines"),
        ("num_cat", set_number(0, 6), "cat_boundaries must be 7 numbers"),
        ("cat_boundaries", set_number(-1, 99), "cat_boundaries must be"),
        ("cat_boundaries", set_number(1, 99), "cat_boundaries must"),
        ("cat_threshold", set_number(0, 2**32), "cat_threshold must lie in"),
        ("cat_threshold", set_number(-1, 2**32 - 1), "a level that the feature does not have"),
        ("is_linear", set_number(0, 1), "is_linear must be 0"),
        ("shrinkage", set_number(0, "nan"), "shrinkage must have 1 finite"),
    ],
)
def test_an_invalid_number_is_refused(key, change, rule):
    text = numbers(key, change)
    with pytest.raises(ValueError, match=rf"^tree 0: .*{rule}"):
        check(text)


def test_a_cycle_that_names_every_child_once_is_refused():
    """Two nodes are each other's child, without a path from the root. All children still differ."""
    text = small.binary_model()
    tree = check(text)[0]
    children = [*tree.left, *tree.right]
    node = next(c for c in children if c > 0 and max(tree.left[c], tree.right[c]) > 0)
    below = max(tree.left[node], tree.right[node])
    place = {child: i for i, child in enumerate(children)}
    leaf = min(tree.left[below], tree.right[below])
    children[place[node]], children[place[leaf]] = leaf, node
    half = len(tree.left)
    for key, part in (("left_child", children[:half]), ("right_child", children[half:])):
        text = re.sub(rf"{key}=.*", f"{key}={' '.join(map(str, part))}", text, count=1)
    with pytest.raises(ValueError, match="a child must come after its parent"):
        check(small.repair_sizes(text))


def test_an_empty_set_is_refused():
    index = next(i for i, tree in enumerate(check(small.binary_model())) if len(tree.cat_boundaries) > 2)
    with pytest.raises(ValueError, match="cat_boundaries must grow"):
        check(numbers("cat_boundaries", set_number(1, 0), index))


def test_a_split_by_sets_belongs_to_categorical_features_alone():
    with pytest.raises(ValueError, match="only a categorical feature is split by sets"):
        check(small.binary_model(), levels={"route": 4})
    with pytest.raises(ValueError, match="only a categorical feature is split by sets"):
        check(small.binary_model(), levels={**small.LEVELS, "calls_1h": 9})
    with pytest.raises(ValueError, match="a level that the feature does not have"):
        check(small.binary_model(), levels={**small.LEVELS, "class": 3})


@pytest.mark.parametrize(
    ("pattern", "new", "rule"),
    [
        ("^tree", "forest", "'tree'"),
        ("version=v4", "version=v3", "version=v4"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=0", "num_tree_per_iteration=1"),
        ("max_feature_idx=4", "max_feature_idx=5", "max_feature_idx=4"),
        ("objective=binary sigmoid:1", "objective=regression", "objective must be one of"),
        ("feature_names=calls_1h answered_24h", "feature_names=answered_24h calls_1h", "feature_names="),
        ("(feature_infos=.*)\n", r"average_output\n\1\n", "'feature_infos' here"),
        ("feature_infos=", "feature_infos=none ", "feature_infos must have 5"),
        ("tree_sizes=", "tree_sizes=9 ", "tree_sizes"),
        ("tree_sizes=.*\n", r"\g<0>more\n", "must end after tree_sizes, got"),
        ("Tree=1\n", "Tree=2\n", "tree 1"),
        ("split_gain=.*\n", "", "must have the lines"),
        ("(split_gain=.*\n)", r"\1\1", "must have the lines"),
        ("end of trees", "end of forest", "end of trees"),
        ("(feature_importances:\n).*=", r"\1something=", "must be a feature"),
        (r"\[boosting: gbdt\]", "boosting: gbdt", "parameters"),
        (r"\[linear_tree: 0\]", "[linear_tree: 8]", "linear_tree must be 0"),
        (r"(parameters:\n.*)(?:\n.*)*", r"\1", "'end of parameters'"),
        ("pandas_categorical:null", 'pandas_categorical:[["a", "b"]]', "must be the codes"),
        ("pandas_categorical:null", "pandas_categorical:" + "[" * 100_000, "must be JSON"),
        ("pandas_categorical:null", "pandas_categorical:null\nmore", "must end after"),
        ("sigmoid:1", "sigmoid:1\0", "control character"),
        ("\n", "\r\n", "control character"),
    ],
)
def test_a_line_out_of_place_is_refused(pattern, new, rule):
    changed, count = re.subn(pattern, new, small.binary_model(), count=1)
    assert count == 1
    if not pattern.startswith("tree_sizes"):
        changed = small.repair_sizes(changed)
    with refused(re.escape(rule)) as refusal:
        check(changed)
    assert len(str(refusal.value)) < 400


def test_tree_sizes_must_match_the_trees_and_a_text_cut_short_is_refused():
    text = small.binary_model()
    first = int(re.search(r"tree_sizes=(\d+)", text)[1])
    with pytest.raises(ValueError, match="tree 0: must fill its size"):
        check(text.replace(f"tree_sizes={first}", f"tree_sizes={first + 1}", 1))
    for length in (0, 1, 40, 1000, 5000):
        with pytest.raises(ValueError, match=r".+"):
            check(text[:length])


def test_pandas_categories_that_are_their_own_codes_pass():
    check(small.binary_model().replace("pandas_categorical:null", "pandas_categorical:[[0, 1, 2], [0]]"))


@pytest.mark.parametrize("left_out", ["\n\nparameters:.*", "parameters:.*(?=pandas)", "\npandas_categorical.*"])
def test_parameters_and_categories_may_be_missing(left_out):
    text = re.sub(left_out, "", small.binary_model(), flags=re.DOTALL)
    assert len(text) < len(small.binary_model())
    matrix = small.rows(20)
    expected = lightgbm.Booster(model_str=text).predict(matrix, raw_score=True)
    np.testing.assert_array_equal(small.evaluate(check(text), matrix)[:, 0], expected)


def test_the_text_size_is_bounded():
    with pytest.raises(ValueError, match=f"at most {MAX_CHARS} characters, got {MAX_CHARS + 1}"):
        check("x" * (MAX_CHARS + 1))
    with pytest.raises(ValueError, match=f"text after the trees must have at most {MAX_REST} characters"):
        check(small.binary_model() + "\n" * MAX_REST)


def chain(nodes):
    """Returns a model of a single tree in which each node is the child of the node before."""
    head, rest = small.binary_model().split("Tree=0")[0], small.binary_model().partition("end of trees")[2]
    left, right = [*range(1, nodes), -nodes - 1], range(-1, -nodes - 1, -1)
    same = dict.fromkeys(("split_feature", "split_gain", "threshold", "internal_value", "internal_weight"), [0] * nodes)
    lines = {
        **{"num_leaves": [nodes + 1], "num_cat": [0]},
        **{name: same[name] for name in ("split_feature", "split_gain", "threshold")},
        **{"decision_type": [2] * nodes, "left_child": left, "right_child": right},
        **dict.fromkeys(("leaf_value", "leaf_weight", "leaf_count"), [1] * (nodes + 1)),
        **{name: same[name] for name in ("internal_value", "internal_weight")},
        **{"internal_count": range(nodes + 1, 1, -1), "is_linear": [0], "shrinkage": [1]},
    }
    tree = "\n".join(f"{name}={' '.join(map(str, values))}" for name, values in lines.items())
    return small.repair_sizes(f"{head}Tree=0\n{tree}\n\n\nend of trees{rest}")


def test_the_depth_of_a_tree_is_bounded():
    (tree,) = check(chain(MAX_DEPTH))
    assert len(tree.left) == MAX_DEPTH
    with pytest.raises(ValueError, match=f"at most {MAX_DEPTH} levels deep, got {MAX_DEPTH + 1}"):
        check(chain(MAX_DEPTH + 1))


def test_leaf_values_equal_the_text_up_to_a_bound():
    for value in ("-1000000", "1e+06", "999999.99999999999", "-1e-300", "0.5e+6", "7"):
        assert check(numbers("leaf_value", set_number(0, value)))[0].leaf_value[0] == float(value)
    for value in ("1000000.1", "-1e+07", "12345678", "100000000000000000000000"):
        with pytest.raises(ValueError, match=r"leaf_value must lie in -1e\+06\.\.1e\+06"):
            check(numbers("leaf_value", set_number(0, value)))


@pytest.mark.parametrize("key", ["split_gain", "internal_value", "internal_weight", "leaf_weight"])
def test_unused_numbers_are_checked_too(key):
    for number in ("-1.5e-300", "0", "9e+99", "1e+308", "-0.25"):
        assert check(numbers(key, set_number(0, number)))
    odd = ("nan", "inf", "1_0", "+1", "007", "1.", ".5", "1e5", "1e+0009", "0x1", "", "1 2")
    for number in ("1e+309", "-1e+999", *odd):
        with pytest.raises(ValueError, match=rf"^tree 0: {key} must (be|have 6|have 7) finite"):
            check(numbers(key, set_number(0, number)))


def test_a_text_of_spaces_does_not_multiply_memory():
    tracemalloc.start()
    try:
        for key in ("threshold", "left_child", "leaf_value", "leaf_count"):
            text = edited(rf"(?m)^{key}=", f"{key}=inf" + " " * 2_000_000)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            with pytest.raises(ValueError, match=f"{key} must have"):
                check(text)
            assert tracemalloc.get_traced_memory()[1] - before < 7 * len(text)
    finally:
        tracemalloc.stop()
