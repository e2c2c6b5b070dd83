"""The engines of the benchmark compute the same 21 features as callsieve, so their times can be compared."""

import importlib

import numpy as np
import pytest

from tests.support.paths import ROOT

ENGINES = ("numpy.search", "pandas.grouped", "pandas.rolling", "polars.grouped", "polars.rolling", "duckdb.windows")


@pytest.fixture(scope="module")
def bench():
    """The modules of tests/bench, imported under the names that they have as scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "bench")
        yield importlib.import_module


@pytest.fixture(scope="module")
def calls(bench):
    return bench("bench_calls").draw_calls(20_000, 7, numbers=60, days=9)


@pytest.fixture(scope="module")
def expected(bench, calls):
    return in_order(bench, bench("engines.engine_callsieve").common(calls, 1))


def in_order(bench, columns):
    """Returns the common features in order of the calls."""
    order = np.argsort(np.asarray(columns["row"]), kind="stable")
    return np.array([np.asarray(columns[name], dtype=float)[order] for name in bench("engines.common").NAMES])


@pytest.mark.system
@pytest.mark.parametrize("engine", ENGINES)
def test_engines_agree(bench, calls, expected, engine):
    module, function = engine.split(".")
    pytest.importorskip(module)
    run = getattr(bench(f"engines.engine_{module}"), function)
    bench("engines.common").check(engine, expected, in_order(bench, run(calls, 1)))


def test_the_calls_contain_the_hard_cases(calls, expected):
    rows = calls.to_pandas()
    assert rows.duplicated(["caller", "start"]).sum() > 5  # ties
    assert rows["ring"].isna().sum() > 20  # calls without an end
    assert not rows.duplicated(["caller", "callee", "start"]).any()
    assert rows["start"].is_monotonic_increasing
    assert rows["caller"].value_counts().iloc[:2].sum() > 500  # a heavy tail
    assert (np.isnan(expected).mean(axis=1) < 0.9).all()  # no feature is unknown nearly everywhere


@pytest.mark.parametrize("feature", [0, 3, 9, 20])
def test_a_wrong_value_is_detected(bench, expected, feature):
    wrong = expected.copy()
    row = int(np.flatnonzero(~np.isnan(wrong[feature]))[-1])
    wrong[feature, row] *= 1 + 1e-8
    wrong[feature, row] += 1e-8
    with pytest.raises(ValueError, match=bench("engines.common").NAMES[feature]):
        bench("engines.common").check("engine", expected, wrong)


def test_a_value_in_place_of_nan_is_detected(bench, expected):
    wrong = np.nan_to_num(expected)
    with pytest.raises(ValueError, match="expected nan, got 0"):
        bench("engines.common").check("engine", expected, wrong)
