"""The forest: scores equal LightGBM's bit for bit, compiled and in NumPy, and invalid rows are refused."""

import os
import struct
import subprocess
import sys
from array import array
from concurrent.futures import ThreadPoolExecutor

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.serving.bundle import forest as forest_module
from callsieve.serving.bundle import forest_layout, forest_library, forest_paths
from callsieve.serving.bundle.forest import Forest
from callsieve.training.model import trees as trees_module
from callsieve.training.model.trees import forest_of, read_forest, trees_of
from tests.support import small_bundle as small
from tests.support.paths import ROOT

READ = f"""
import sys
from callsieve.serving.bundle.forest import Forest
from callsieve.serving.bundle.forest_layout import Layout
data = sys.stdin.buffer.read()
def read():
    return Forest(Layout(data, {small.FEATURES}), {small.FEATURES})
"""
MATRIX = np.vstack([small.rows(400, seed=5), small.awkward_rows()])
EDGES = (np.nan, 0.0, -0.0, 1e-36, -1e-36, 1e-35, 1.0000001e-35, 5e-324, 1e300, -1e300, 2.0**31, -(2.0**31), 2.0**40)


@pytest.fixture(scope="module", params=["compiled", "numpy"])
def read(request):
    """Reads a forest with the compiled library, or without."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            small.without_library(patch)
        yield read_forest


@pytest.fixture(scope="module")
def forest(read):
    return read(small.binary_model())


def test_the_library_is_built_from_this_source():
    """Without it scoring is about a hundred times slower. `pip install -e .` builds it if there is a C compiler."""
    assert forest_library.library()


def test_a_library_of_another_source_or_none_is_ignored(monkeypatch, tmp_path):
    for name, value in (("fingerprint", lambda: 0), ("FOLDER", tmp_path)):
        with monkeypatch.context() as patch:
            patch.setattr(forest_library, name, value)
            assert forest_library.library.__wrapped__() is None


def assert_scores_equal(forest, text, matrix):
    """Compares a table, few rows, single rows and parts of two threads with LightGBM."""
    expected = lightgbm.Booster(model_str=text).predict(matrix, raw_score=True).reshape(len(matrix), -1)
    long = np.vstack([matrix] * (1 + 1100 // len(matrix)))
    bits = expected.tobytes()
    assert forest.predict_raw(matrix).tobytes() == bits
    for threads in (0, 2):
        assert forest.predict_raw(long, threads=threads)[-len(matrix) :].tobytes() == bits
    few = [forest.predict_few(matrix[i : i + 3].tolist()) for i in range(0, len(matrix), 3)]
    assert np.array([score for part in few for score in part]).tobytes() == bits
    if forest.classes == 1:
        assert np.array([forest.predict_one(row) for row in matrix.tolist()]).tobytes() == bits


def test_scores_equal_lightgbm_bit_for_bit(forest, read):
    assert np.isnan(MATRIX).any() and (forest.features, forest.trees) == (small.FEATURES, 20)
    assert_scores_equal(forest, small.binary_model(), MATRIX)
    assert_scores_equal(read(small.multiclass_model()), small.multiclass_model(), MATRIX)
    with pytest.raises(ValueError, match="one class, got 3"):
        read(small.multiclass_model()).predict_one(MATRIX[0].tolist())


@st.composite
def drawn(draw):
    """Draws a model of any shape that LightGBM can fit, and rows at and around its thresholds."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    width, classes = draw(st.integers(1, 6)), draw(st.sampled_from([1, 1, 3]))
    levels = draw(st.sampled_from([0, 4, 16, 18, 70]))  # of the first feature, if it is categorical
    matrix = np.round(rng.normal(scale=draw(st.sampled_from([1, 30])), size=(300, width)), draw(st.integers(0, 6)))
    matrix[rng.random(matrix.shape) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    matrix[rng.random(matrix.shape) < draw(st.sampled_from([0.0, 0.2]))] = 0.0
    if levels:
        matrix[:, 0] = rng.integers(0, levels, 300)
    y = rng.integers(0, max(2, classes), 300)
    parameters = {
        "objective": "binary" if classes == 1 else "multiclass", "num_class": classes, "verbose": -1, "num_threads": 1,
        "num_leaves": draw(st.sampled_from([2, 7, 16, 31, 130, 300])), "min_data_in_leaf": 1, "min_data_per_group": 1,
        "min_sum_hessian_in_leaf": 0, "cat_smooth": 1, "use_missing": draw(st.booleans()),
        "zero_as_missing": draw(st.booleans()), "max_cat_to_onehot": draw(st.sampled_from([1, 4])),
    }  # fmt: skip
    names = [f"f{i}" for i in range(width)]
    data = lightgbm.Dataset(matrix, y, feature_name=names, categorical_feature=[0] if levels else [])
    text = lightgbm.train(parameters, data, draw(st.integers(1, 12))).model_to_string()
    trees = trees_of(text)
    bounds = [value for tree in trees for value in tree.threshold if np.isfinite(value)] or [0.0]
    values = [
        *EDGES, *bounds, *np.nextafter(bounds, np.inf), *np.nextafter(bounds, -np.inf), *range(-1, 72), 15.99, -0.5,
    ]  # fmt: skip
    return text, np.vstack([matrix[:20], rng.choice(values, size=(60, width))])


@settings(max_examples=40)
@given(model=drawn())
def test_scores_of_drawn_models_equal_lightgbm(model):
    text, rows = model
    assert_scores_equal(read_forest(text), text, rows)
    with pytest.MonkeyPatch.context() as patch:
        small.without_library(patch)
        slow = read_forest(text)
        _ = slow._functions, slow._explained
    fast = read_forest(text)
    assert slow.predict_raw(rows).tobytes() == fast.predict_raw(rows).tobytes()
    assert [slow.contributions(row) for row in rows[:3]] == [fast.contributions(row) for row in rows[:3]]


def test_trees_of_at_most_16_leaves_have_an_index_for_single_rows(monkeypatch):
    for module in (forest_module, forest_layout, forest_paths):  # the fixture `read` may have replaced it
        monkeypatch.setattr(module, "library", forest_library.library)
    rng = np.random.default_rng(1)
    rows, y = rng.normal(size=(2000, 5)), rng.integers(0, 2, 2000)
    for leaves in (16, 17):
        text = small.train_text(rows, y, small.FEATURES, (), 3, num_leaves=leaves)
        assert {len(tree.leaf_value) for tree in trees_of(text)} == {leaves}
        arrays = read_forest(text)._packed[1][0]
        assert {bool(getattr(arrays, name)) for name in forest_library.INDEX} == {leaves == 16}


def test_a_feature_split_by_numbers_and_by_sets_scores_as_its_arrays_say():
    """LightGBM never trains such a model, but its text format has it."""
    trees = trees_of(small.binary_model())
    index = next(i for i, tree in enumerate(trees) if {*tree.decision} & {1, 5, 9} and {*tree.decision} & {2, 8, 10})
    mixed = type(trees[0])(
        **{n: getattr(trees[index], n) for n in trees[0].__dataclass_fields__}
        | {"feature": [3] * len(trees[index].left)}
    )
    forest = forest_of([mixed], small.FEATURES)
    np.testing.assert_array_equal(forest.predict_raw(MATRIX), small.evaluate([mixed], MATRIX)[:, 0])


@pytest.mark.parametrize(
    ("limit", "what"), [(2, "thresholds of feature 0, got 3"), (5, "columns, got 6"), (6, "nodes of a tree, got 7")]
)
def test_a_forest_beyond_16_bits_is_refused(monkeypatch, limit, what):
    tree = trees_of(small.binary_model())[0]
    monkeypatch.setattr(trees_module, "MOST", limit)
    with pytest.raises(ValueError, match=f"must have at most {limit} {what}; train fewer or flatter trees"):
        forest_of([tree], small.FEATURES)


def test_memory_layout_does_not_matter(forest):
    expected = forest.predict_raw(MATRIX)
    np.testing.assert_array_equal(forest.predict_raw(np.asfortranarray(MATRIX)), expected)
    np.testing.assert_array_equal(forest.predict_raw(MATRIX[::2]), expected[::2])
    assert forest.predict_raw(MATRIX[:0]).shape == (0,)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinite_values_are_refused_by_name(forest, bad):
    row = [0.0, 1.0, bad, 3.0, 1.0]
    message = f"seconds_mean_7d must be finite or NaN, got {bad}"
    for refused in (forest.predict_one, forest.contributions, lambda row: forest.predict_few([[0.0] * 5, row])):
        with pytest.raises(ValueError, match=f"^{message}"):
            refused(row)
    with pytest.raises(ValueError, match=f"^row 1: {message}"):
        forest.predict_raw(np.array([[0.0] * 5, row]))
    with pytest.raises(ValueError, match=f"^row 1500: {message}"):
        forest.predict_raw(np.array([[0.0] * 5] * 1500 + [row]), threads=2)


@pytest.mark.parametrize(
    "row", [[], [0.0] * 4, [0.0] * 6, [0.0, 1.0, "2", 3.0, 1.0], [0, 0, None, 0, 0], [10**400] * 5]
)
def test_an_invalid_row_is_refused(forest, row):
    for refused in (forest.predict_one, forest.contributions, lambda row: forest.predict_few([[0.0] * 5, row])):
        with pytest.raises(ValueError, match="row must have 5 numbers"):
            refused(row)


def test_an_invalid_matrix_and_fewer_threads_than_none_are_refused(forest):
    for matrix in (np.zeros((2, 4)), np.zeros(5), np.zeros((1, 5), dtype=np.float32)):
        with pytest.raises(ValueError, match=r"X must be float64 of shape \(n, 5\)"):
            forest.predict_raw(matrix)
    with pytest.raises(ValueError, match="threads must be 0 or more, got -1"):
        forest.predict_raw(MATRIX, threads=-1)


def test_a_signalling_nan_is_a_missing_value(forest):
    row = array("d", struct.pack("=5Q", 0, 0, 0x7FF0_0000_0000_0001, 0, 0))
    assert forest.predict_one(row) == forest.predict_one([0.0, 0.0, float("nan"), 0.0, 0.0])


def test_a_shortage_of_memory_is_named(monkeypatch):
    short = forest_library.Functions(*[lambda *_: forest_library.NO_MEMORY] * 3)
    monkeypatch.setattr(Forest, "_functions", short)
    with pytest.raises(MemoryError, match="no memory for the ranks"):
        read_forest(small.binary_model()).predict_one([0.0] * 5)


def test_a_text_that_is_no_model_is_refused():
    for text in ("", "no model at all\n\n", small.binary_model().replace("num_class=1", "num_class=x")):
        with pytest.raises(ValueError, match=r".+"):
            read_forest(text)


def test_threads_share_one_forest(forest):
    expected = forest.predict_raw(MATRIX)

    def wrong_rows(offset):
        return [i for i in range(offset, len(MATRIX), 4) if forest.predict_one(MATRIX[i].tolist()) != expected[i]]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(wrong_rows, range(4))) == [[]] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_work_after_a_fork(threads):
    """A pool of threads that outlives its call would be missing in the child, which would wait for ever."""
    code = """
import os, signal, sys
import numpy as np
forest = read()
rows = np.zeros((5000, 5))
expected = forest.predict_raw(rows, threads=THREADS)
if os.fork() == 0:
    signal.alarm(20)
    os._exit(0 if np.array_equal(forest.predict_raw(rows, threads=THREADS), expected) else 3)
_, status = os.wait()
print(status)
"""
    assert run_with_model(code.replace("THREADS", str(threads))).split() == [b"0"]


def run_with_model(code):
    """Returns the output of a Python program, in which `read()` returns the forest."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", READ + code]
    return subprocess.run(command, input=small.packed(small.binary_model()), capture_output=True, check=True).stdout


def test_freed_models_leak_no_memory():
    code = """
import resource
def peak():
    for _ in range(400):
        forest = read()
        forest.predict_few([[0.0] * 5] * 20), forest.contributions([0.0] * 5)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first = peak()
print(peak() - first)
"""
    assert int(run_with_model(code)) < 4096, "kilobytes that 400 more models left behind"


def test_nothing_that_serves_imports_lightgbm_or_numpy():
    code = """
import sys
forest = read()
forest.predict_one([0.0] * 5), forest.predict_few([[0.0] * 5] * 20), forest.contributions([0.0] * 5)
print(*sys.modules)
"""
    assert not {"lightgbm", "numpy", "scipy", "pandas", "sklearn"} & set(run_with_model(code).decode().split())
    texts = [path.read_text() for top in ("features", "serving") for path in (ROOT / top).rglob("*.py")]
    assert not any("import lightgbm" in text or "from lightgbm" in text for text in texts)
