"""The LightGBM C library through ctypes: scores equal `lightgbm.Booster` bit for bit, and invalid rows are refused."""

import gc
import importlib.util
import struct
import subprocess
import sys
from array import array
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import lightgbm
import numpy as np
import pytest

from callsieve.serving.bundle import booster as booster_module
from callsieve.serving.bundle.booster import Booster
from tests.support import small_bundle as small


@pytest.fixture(scope="module")
def booster():
    return Booster(small.binary_model())


@pytest.fixture(scope="module")
def oracle():
    return lightgbm.Booster(model_str=small.binary_model())


MATRIX = np.vstack([small.rows(400, seed=5), small.awkward_rows()])


def test_scores_equal_lightgbm_bit_for_bit(booster, oracle):
    expected = oracle.predict(MATRIX, raw_score=True)
    assert np.isnan(MATRIX).any()
    np.testing.assert_array_equal(booster.predict_raw(MATRIX), expected)
    np.testing.assert_array_equal(booster.predict_raw(MATRIX, threads=2), expected)
    np.testing.assert_array_equal([booster.predict_one(row) for row in MATRIX.tolist()], expected)
    np.testing.assert_array_equal([booster.predict_one(row) for row in MATRIX], expected)


def test_scores_of_three_classes_equal_lightgbm():
    booster = Booster(small.multiclass_model())
    expected = lightgbm.Booster(model_str=small.multiclass_model())
    np.testing.assert_array_equal(booster.predict_raw(MATRIX), expected.predict(MATRIX, raw_score=True))
    with pytest.raises(ValueError, match="one class, got 3"):
        booster.predict_one(MATRIX[0].tolist())


def test_attributes_describe_the_model(booster):
    assert (booster.features, booster.trees, booster.classes) == (small.FEATURES, 20, 1)


def test_long_and_foreign_names_come_back_whole():
    names = ["n" * 100, "通话次数"]
    matrix = np.random.default_rng(0).normal(size=(100, 2))
    data = lightgbm.Dataset(matrix, matrix[:, 0] > 0, feature_name=names)
    text = lightgbm.train({"objective": "binary", "verbose": -1}, data, 1).model_to_string()
    assert Booster(text).features == tuple(names)


def test_memory_layout_does_not_matter(booster):
    expected = booster.predict_raw(MATRIX)
    np.testing.assert_array_equal(booster.predict_raw(np.asfortranarray(MATRIX)), expected)
    np.testing.assert_array_equal(booster.predict_raw(MATRIX[::2]), expected[::2])
    assert booster.predict_raw(MATRIX[:0]).shape == (0,)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinite_values_are_refused_by_name(booster, bad):
    row = [0.0, 1.0, bad, 3.0, 1.0]
    with pytest.raises(ValueError, match=f"seconds_mean_7d must be finite or NaN, got {bad}"):
        booster.predict_one(row)
    with pytest.raises(ValueError, match=f"row 1: seconds_mean_7d must be finite or NaN, got {bad}"):
        booster.predict_raw(np.array([[0.0] * 5, row]))


@pytest.mark.parametrize(
    "row", [[], [0.0] * 4, [0.0] * 6, [0.0, 1.0, "2", 3.0, 1.0], [0, 0, None, 0, 0], [10**400] * 5]
)
def test_an_invalid_row_is_refused(booster, row):
    with pytest.raises(ValueError, match="row must have 5 numbers"):
        booster.predict_one(row)


@pytest.mark.parametrize("matrix", [np.zeros((2, 4)), np.zeros(5), np.zeros((1, 5), dtype=np.float32)])
def test_an_invalid_matrix_is_refused(booster, matrix):
    with pytest.raises(ValueError, match=r"X must be float64 of shape \(n, 5\)"):
        booster.predict_raw(matrix)


def test_bytes_of_an_infinity_across_two_values_are_no_infinity(booster):
    """The search for infinities reads raw bytes. Only an infinite value may refuse a row."""
    blob = bytearray(40)
    blob[4:12] = np.array([np.inf]).tobytes()
    row = np.frombuffer(bytes(blob)).tolist()
    assert np.isfinite(row).all()
    assert booster.predict_one(row) == booster.predict_raw(np.array([row]))[0]


def test_a_signalling_nan_that_begins_like_an_infinity_is_a_missing_value(booster):
    row = array("d", struct.pack("=5Q", 0, 0, 0x7FF0_0000_0000_0001, 0, 0))
    assert booster.predict_one(row) == booster.predict_one([0.0, 0.0, float("nan"), 0.0, 0.0])


def test_zero_threads_are_refused(booster):
    with pytest.raises(ValueError, match="threads must be 1 or more, got 0"):
        booster.predict_raw(MATRIX, threads=0)


def test_a_wrong_number_of_scores_and_a_failure_are_value_errors():
    booster = Booster(small.binary_model())
    booster.classes = 2
    with pytest.raises(ValueError, match="LightGBM returned 1 scores, expected 2"):
        booster.predict_few([[0.0] * 5])
    booster.classes, booster._single = 1, lambda *_: -1
    with pytest.raises(ValueError, match=r"^LightGBM: "):
        booster.predict_one([0.0] * 5)


def test_a_missing_lightgbm_or_library_is_named(monkeypatch, tmp_path):
    empty = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    for spec, message in ((None, "pip install lightgbm"), (empty, "has no lib_lightgbm")):
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name, result=spec: result)
        with pytest.raises(ImportError, match=message):
            booster_module._library.__wrapped__()


def test_a_refusal_of_lightgbm_is_a_value_error_with_its_message():
    with pytest.raises(ValueError, match=r"^LightGBM: .*number of classes"):
        Booster("no model at all")


def test_threads_share_one_model(booster):
    expected = booster.predict_raw(MATRIX)

    def wrong_rows(offset):
        places = [i for i in range(offset, len(MATRIX), 4) for _ in range(20)]
        return [i for i in places if booster.predict_one(MATRIX[i].tolist()) != expected[i]]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(wrong_rows, range(4))) == [[]] * 4


def run_with_model(code):
    """Returns the output of a Python program that reads the model from standard input."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, input=small.binary_model(), capture_output=True, text=True, check=True).stdout


def test_freed_models_leak_no_memory():
    code = """
import resource, sys
from callsieve.serving.bundle.booster import Booster
text = sys.stdin.read()
def peak():
    for _ in range(400):
        Booster(text).predict_one([0.0] * 5)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first = peak()
print(peak() - first)
"""
    assert int(run_with_model(code)) < 4096, "kilobytes that 400 more models left behind"


def test_lightgbm_is_not_imported():
    code = """
import sys
from callsieve.serving.bundle.booster import Booster
Booster(sys.stdin.read()).predict_one([0.0] * 5)
print(*sys.modules)
"""
    assert not {"lightgbm", "scipy", "pandas", "sklearn"} & set(run_with_model(code).split())


def test_a_freed_model_frees_its_fast_path():
    """Neither handle outlives the model: the garbage collector may free them in any order."""
    booster = Booster(small.binary_model())
    score = booster.predict_one([0.0] * 5)
    del booster
    gc.collect()
    assert Booster(small.binary_model()).predict_one([0.0] * 5) == score


def test_a_few_rows_without_numpy_score_as_a_table(booster):
    for model in (booster, Booster(small.multiclass_model())):
        expected = model.predict_raw(MATRIX).reshape(len(MATRIX), -1)
        np.testing.assert_array_equal(model.predict_few(MATRIX.tolist()), expected)
        assert model.predict_few([]) == []
        with pytest.raises(ValueError, match="finite or NaN"):
            model.predict_few([MATRIX[0].tolist(), [float("inf")] * 5])
        with pytest.raises(ValueError, match="must have 5 numbers"):
            model.predict_few([[0.0] * 4])
