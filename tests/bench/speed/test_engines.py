"""The engines of the benchmark compute the same 21 features as callsieve, so their times can be compared."""

import importlib

import numpy as np
import pytest

from tests.bench.speed.bench_features import ours
from tests.bench.speed.common_features import NAMES, check
from tests.bench.speed.drawn_calls import draw_calls


@pytest.fixture(scope="module")
def calls():
    return draw_calls(20_000, 7, numbers=60, days=9)


@pytest.fixture(scope="module")
def expected(calls):
    return in_order(ours(NAMES, calls, 1))


def in_order(columns):
    """Returns the common features in order of the calls."""
    order = np.argsort(np.asarray(columns["row"]), kind="stable")
    return np.array([np.asarray(columns[name], dtype=float)[order] for name in NAMES])


@pytest.mark.system
def test_engines_agree(calls, expected):
    pytest.importorskip("polars")
    columns_of = importlib.import_module("tests.bench.speed.engine_polars").columns
    check("polars", expected, in_order(columns_of(calls, 1)))


def test_the_calls_contain_the_hard_cases(calls, expected):
    rows = calls.to_pandas()
    assert rows.duplicated(["caller", "start"]).sum() > 5  # ties
    assert rows["ring"].isna().sum() > 20  # calls without an end
    assert not rows.duplicated(["caller", "callee", "start"]).any()
    assert rows["start"].is_monotonic_increasing
    assert rows["caller"].value_counts().iloc[:2].sum() > 500  # a heavy tail
    assert (np.isnan(expected).mean(axis=1) < 0.9).all()  # no feature is unknown nearly everywhere


@pytest.mark.parametrize("feature", [0, 3, 9, 20])
def test_a_wrong_value_is_detected(expected, feature):
    wrong = expected.copy()
    row = int(np.flatnonzero(~np.isnan(wrong[feature]))[-1])
    wrong[feature, row] *= 1 + 1e-8
    wrong[feature, row] += 1e-8
    with pytest.raises(ValueError, match=NAMES[feature]):
        check("engine", expected, wrong)


def test_a_value_in_place_of_nan_is_detected(expected):
    wrong = np.nan_to_num(expected)
    with pytest.raises(ValueError, match="expected nan, got 0"):
        check("engine", expected, wrong)
