"""Metrics: rates by hand, detection against a plain loop, calibration and ranking against scikit-learn."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from callsieve.training.judging.detection import SOON, calls_to_detection, detecting_calls, quantile_interval
from callsieve.training.judging.judge import slice_figures
from callsieve.training.judging.metrics import (
    calibration_table,
    catch,
    finite,
    nearest_callers,
    precision_at_priors,
    ranking,
    slices,
    threshold_at_rate,
)
from callsieve.training.model.certify import caller_bootstrap, upper_bound
from callsieve.training.oversight.log.gates import parse_gates, shipped_gates

CALLS = st.lists(
    st.tuples(st.integers(-1, 4), st.integers(0, 6), st.sampled_from([0.1, 0.5, 0.9, math.nan])), min_size=1
)


def interval_ends(values, share):
    """Returns the exact 95 % interval of a quantile from the binomial distribution of the values below it."""
    n, ordered = len(values), sorted(values)
    below = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    low = next(k for k in range(n + 1) if sum(below[: k + 1]) >= 0.025)
    high = next((k for k in range(n + 1) if sum(below[: k + 1]) >= 0.975), n)
    return ordered[low - 1] if low else 1, ordered[high] if high < n else math.inf


def detection_oracle(rows, threshold):
    """Returns the first caught call and the number of calls of each caller."""
    firsts, counts = {}, {}
    for caller, _, raw in sorted(rows, key=lambda row: row[1]):
        counts[caller] = counts.get(caller, 0) + 1
        if raw >= threshold and caller not in firsts:
            firsts[caller] = counts[caller]
    return firsts, counts


def smallest_reaching(values, tenths):
    """Returns the smallest value that at least `tenths` tenths of the values do not exceed."""
    return sorted(values)[(tenths * len(values) + 9) // 10 - 1]


def test_a_busy_dialler_dominates_by_call_but_not_by_caller_or_callee():
    # Caller 0 makes 8 calls to one person, all caught. Callers 1 and 2 make two calls each; one and none are caught.
    caller = np.array([0] * 8 + [1, 1, 2, 2])
    callee = np.array([10] * 8 + [11, 12, 12, 10])
    raw = np.array([5.0] * 8 + [5.0, 1.0, 1.0, np.nan])
    result = catch(raw, 5.0, caller, callee, seed=0)
    assert result["call"]["rate"] == pytest.approx(9 / 12)
    assert result["caller"]["rate"] == pytest.approx(2 / 3)
    assert result["callee"]["rate"] == pytest.approx((8 / 9 + 1 + 0) / 3)
    for rate in result.values():
        assert 0 <= rate["low"] <= rate["rate"] <= rate["high"] <= 1


@given(CALLS, st.randoms())
def test_catch_rates_equal_plain_loops(rows, random):
    callers, callees, raw = (list(column) for column in zip(*rows, strict=True))
    result = catch(np.array(raw), 0.5, np.array(callers), np.array(callees), seed=random.randrange(9), rounds=20)
    hits = [r >= 0.5 for r in raw]

    def shares(codes):
        return [sum(h for h, c in zip(hits, codes, strict=True) if c == x) / codes.count(x) for x in set(codes)]

    by_caller, by_callee = shares(callers), shares(callees)
    assert result["call"]["rate"] == pytest.approx(sum(hits) / len(hits))
    assert result["caller"]["rate"] == pytest.approx(sum(s > 0 for s in by_caller) / len(by_caller))
    assert result["callee"]["rate"] == pytest.approx(sum(by_callee) / len(by_callee))


@pytest.mark.system
def test_intervals_come_from_resampled_callers_and_shrink_with_them():
    rng = np.random.default_rng(0)

    def width(callers):
        caller = np.repeat(np.arange(callers), 20)
        raw = np.repeat(rng.random(callers), 20)
        result = catch(raw, 0.6, caller, rng.integers(0, 500, len(caller)), seed=1)
        assert (result["call"]["low"], result["call"]["high"]) == caller_bootstrap(raw >= 0.6, caller, seed=1)
        return [rate["high"] - rate["low"] for rate in result.values()]

    for few, many in zip(width(50), width(5000), strict=True):
        assert few / many == pytest.approx(10, rel=0.3)


def test_rates_of_0_and_1_still_have_an_interval():
    caller, callee = np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2])
    exact = upper_bound(0, 3, 0.975)
    whole, none = (catch(np.full(4, x), 0.5, caller, callee, seed=0) for x in (1.0, 0.0))
    for name in ("call", "caller", "callee"):
        assert whole[name] == {"rate": 1.0, "low": 1 - exact, "high": 1.0}
        assert none[name] == {"rate": 0.0, "low": 0.0, "high": exact}


@given(CALLS)
def test_detection_equals_a_plain_loop(rows):
    caller, start, raw = (np.array(column) for column in zip(*rows, strict=True))
    result = calls_to_detection(raw, 0.5, caller, start)
    firsts, counts = detection_oracle(rows, 0.5)
    observed = [firsts.get(c, math.inf) for c in counts]
    floors = [firsts.get(c, counts[c]) for c in counts]
    detected, calls = detecting_calls(raw, 0.5, caller, start)
    assert detected.tolist() == [firsts.get(c, math.inf) for c in sorted(counts)]
    assert calls.tolist() == [counts[c] for c in sorted(counts)]
    assert result == {
        "callers": len(counts),
        "calls": len(rows),
        "median": finite(smallest_reaching(observed, 5)),
        "median_floor": smallest_reaching(floors, 5),
        "median_low": interval_ends(floors, 0.5)[0],
        "median_high": finite(interval_ends(observed, 0.5)[1]),
        "p90": finite(smallest_reaching(observed, 9)),
        "p90_floor": smallest_reaching(floors, 9),
        "p90_low": interval_ends(floors, 0.9)[0],
        "p90_high": finite(interval_ends(observed, 0.9)[1]),
        "detected_share": pytest.approx(len(firsts) / len(counts)),
        "soon_share": (soon := sum(first <= SOON for first in firsts.values())) / len(counts),
        "soon_low": pytest.approx(beta.ppf(0.025, soon, len(counts) - soon + 1) if soon else 0.0),
        "soon_high": pytest.approx(beta.ppf(0.975, soon + 1, len(counts) - soon) if soon < len(counts) else 1.0),
        "stopped_share": pytest.approx(sum(counts[c] - first + 1 for c, first in firsts.items()) / len(rows)),
    }


@pytest.mark.parametrize("callers", range(1, 400, 7))
def test_a_quantile_is_the_smallest_value_that_reaches_the_share(callers):
    # Caller i is caught at its call i + 1.
    caller = np.repeat(np.arange(callers), np.arange(1, callers + 1))
    raw = np.concatenate([np.arange(n) == n - 1 for n in range(1, callers + 1)]).astype(float)
    result = calls_to_detection(raw, 1.0, caller, np.arange(len(caller)))
    assert result["median"] == (callers + 1) // 2
    assert result["p90"] == (9 * callers + 9) // 10


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_quantile_interval_has_its_stated_coverage(share):
    """The quantiles of a geometric distribution are known."""
    rng, waits = np.random.default_rng(5), 0.05
    true = math.ceil(math.log(1 - share) / math.log(1 - waits))
    samples = rng.geometric(waits, (400, 25))
    covered = sum(low <= true <= high for low, high in (quantile_interval(sample, share) for sample in samples))
    assert 0.94 <= covered / 400 <= 1.0
    assert quantile_interval(np.array([7.0]), share) == (1.0, math.inf)


def test_soon_means_within_ten_calls_and_an_undetected_caller_is_infinite_with_a_floor():
    caller = np.repeat([1, 2], SOON + 1)
    raw = np.zeros(len(caller))
    raw[[SOON - 1, -1]] = 1.0  # the tenth call of caller 1, the eleventh of caller 2
    assert calls_to_detection(raw, 1.0, caller, np.arange(len(caller)))["soon_share"] == 0.5
    caller, start = np.array([1, 1, 1, 2, 2, 2]), np.array([3, 1, 2, 1, 2, 3])
    result = calls_to_detection(np.array([0, 1, 0, 0, 0, 0.0]), 1.0, caller, start)
    assert (result["median"], result["p90"], result["p90_floor"]) == (1, None, 3)
    assert (result["detected_share"], result["stopped_share"]) == (0.5, 0.5)


def test_ranking_equals_scikit_learn_and_unscored_calls_rank_last():
    rng = np.random.default_rng(1)
    y = rng.random(2000) < 0.1
    raw = (rng.normal(size=2000) + y).round(1)
    result = ranking(raw, y)
    assert (result["calls"], result["nuisance"]) == (2000, y.sum())
    assert result["auc"] == pytest.approx(roc_auc_score(y, raw))
    assert ranking(np.array([np.nan, np.nan, -5.0, 2.0]), np.array([1, 1, 0, 1]))["auc"] == pytest.approx(1 / 3)
    assert ranking(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))["average_precision"] == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="one kind"):
        ranking(np.array([1.0, 2.0]), np.array([1, 1]))


def test_calibration_bins_equal_scikit_learn_and_have_sizes():
    rng = np.random.default_rng(2)
    p = rng.random(5000) ** 3
    y = rng.random(5000) < p**1.5
    result = calibration_table(p, y)
    observed, predicted = calibration_curve(y, p, n_bins=10, strategy="quantile")
    np.testing.assert_allclose([b["predicted"] for b in result["bins"]], predicted)
    np.testing.assert_allclose([b["observed"] for b in result["bins"]], observed)
    assert [b["calls"] for b in result["bins"]] == [500] * 10
    assert result["ece"] == pytest.approx(np.abs(observed - predicted).mean())
    for before, after in zip(result["bins"], result["bins"][1:], strict=False):
        assert before["low"] <= before["predicted"] <= before["high"] < after["low"]


def test_calibration_agrees_with_a_computation_by_hand():
    result = calibration_table(np.array([0.1, 0.1, 0.1, 0.1, 0.8, 0.6]), np.array([0, 0, 0, 1, 1, 1]), bins=2)
    assert [(b["calls"], b["low"], b["high"]) for b in result["bins"]] == [(4, 0.1, 0.1), (2, 0.6, 0.8)]
    assert result["ece"] == pytest.approx((4 * 0.15 + 2 * 0.3) / 6)
    assert result["log_loss"] == pytest.approx(-np.log([0.9, 0.9, 0.9, 0.1, 0.8, 0.6]).mean())


def test_equal_probabilities_share_a_bin_and_perfect_probabilities_have_no_gap():
    assert [b["calls"] for b in calibration_table(np.full(50, 0.2), np.arange(50) < 10)["bins"]] == [50]
    result = calibration_table(np.repeat([0.0, 1.0], 20), np.repeat([0, 1], 20))
    assert result["ece"] == 0
    assert result["log_loss"] < 1e-9
    assert calibration_table(np.array([0.5]), np.array([1]))["bins"][0]["observed"] == 1


def test_rates_and_probabilities_outside_0_to_1_are_refused():
    assert precision_at_priors(0.0, 0.0)[0]["precision"] is None
    for arguments in ((1.2, 0.1), (0.5, -0.1), (0.5, 0.1, [2.0]), (math.nan, 0.1)):
        with pytest.raises(ValueError, match=r"0\.\.1"):
            precision_at_priors(*arguments)
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"0\.\.1"):
            calibration_table(np.array([0.5, wrong]), np.array([0, 1]))


@pytest.mark.source("L25", by="training/judging/metrics.py")
def test_slices_give_pass_and_catch_rates():
    names = np.array(["courier", "roamer", "robot", "courier"]).repeat([40_000, 200, 100, 10])
    y = np.array([0, 0, 1, 1]).repeat([40_000, 200, 100, 10])
    raw = np.zeros(len(y))
    raw[40_199], raw[40_200:40_260], raw[-10:-4] = 9.0, 9.0, np.nan
    caller = np.arange(len(y)) % 20
    result = slices(raw, 9.0, y, names, caller, target=1e-4, seed=0)
    assert [(s["slice"], s["nuisance"], s["calls"], s["callers"], s["flagged"], s["certified"]) for s in result] == [
        ("courier", False, 40_000, 20, 0, True),
        ("roamer", False, 200, 20, 1, False),
        ("courier", True, 10, 10, 0, None),
        ("robot", True, 100, 20, 60, None),
    ]
    courier, roamer, missed, robot = result
    assert (courier["rate"], courier["low"], courier["high"]) == (1.0, 1 - upper_bound(0, 40_000), 1.0)
    assert (roamer["rate"], roamer["low"]) == (1 - 1 / 200, 1 - upper_bound(1, 200))
    assert (missed["rate"], missed["low"]) == (0.0, 0.0)
    assert robot["rate"] == 0.6
    assert (robot["low"], robot["high"]) == caller_bootstrap(raw[y == 1][:100] >= 9, caller[y == 1][:100], seed=0)


@pytest.mark.source("L25", by="training/judging/judge.py")
def test_hospitals_are_judged_and_certified_apart():
    """Hospitals are flagged once in 2,000 calls, so they are not certified, whatever the many other calls say."""
    kinds, sizes = ("courier", "hospital", "loans"), (60_000, 2_000, 100)
    names, flagged = np.repeat(kinds, sizes), np.repeat([False, False, True], sizes)
    flagged[60_000] = True
    rows = np.arange(10, len(names))
    judged = SimpleNamespace(nuisance=names == "loans", slice=names)
    calls = SimpleNamespace(
        rows=rows, raw=flagged * 1.0, judged=judged, caller=np.arange(len(names)) % 50, seed=1, announcing=None
    )
    band = SimpleNamespace(threshold=0.5, certificate=SimpleNamespace(target=1e-4))
    figures = {row["slice"]: row for row in slice_figures(calls, band)}
    assert {name: row["calls"] for name, row in figures.items()} == {"courier": 59_990, "hospital": 2_000, "loans": 100}
    assert [figures[name]["certified"] for name in kinds] == [True, False, None]


@pytest.mark.source("L25", by="training/oversight/log/gates.py")
def test_a_promotion_can_require_certified_hospitals():
    text = shipped_gates().data.decode().replace("certified = []", 'certified = ["hospital"]')
    gates = parse_gates(text.encode(), "mine.toml")
    metric = "slice/benign/hospital/certified"
    for metrics, passed in (({metric: 1.0}, True), ({metric: 0.0}, False), ({}, False)):
        assert [result["passed"] for result in gates.results(metrics) if result["metric"] == metric] == [passed]


def test_a_slice_does_not_depend_on_the_others():
    rng = np.random.default_rng(3)
    raw, y = rng.normal(size=600), rng.random(600) < 0.5
    names, caller = rng.choice(["a", "b", "c"], 600), rng.integers(0, 30, 600)
    rows = slices(raw, 1.0, y, names, caller, target=0.3, seed=4)
    own = names == "b"
    alone = slices(raw[own], 1.0, y[own], names[own], caller[own], target=0.3, seed=4)
    assert alone == [s for s in rows if s["slice"] == "b"]


@pytest.mark.parametrize(
    ("fpr", "percent"), [(1e-4, [83.3, 98.1, 99.6, 99.92]), (1e-3, [33.4, 83.5, 96.3, 99.2])], ids=str
)
def test_precision_falls_with_the_share_of_nuisance(fpr, percent):
    result = precision_at_priors(0.5, fpr)
    assert [point["prior"] for point in result] == [0.001, 0.01, 0.05, 0.2]
    assert [100 * point["precision"] for point in result] == pytest.approx(percent, abs=0.06)


def test_results_are_plain_json():
    caller, y = np.array([0, 0, 1]), np.array([1, 1, 0])
    raw = np.array([0.0, 0.0, 0.2])
    results = {
        "catch": catch(raw[:2], 0.5, caller[:2], caller[:2], seed=0)["call"],
        "detection": calls_to_detection(raw[:2], 0.5, caller[:2], np.arange(2)),
        "ranking": ranking(raw, y),
        "reliability": calibration_table(raw, y),
        "slices": slices(raw, 0.5, y, np.array(["x", "x", "y"]), caller, target=1e-4, seed=0),
        "priors": precision_at_priors(0.0, 0.0),
    }
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert (results["detection"]["median"], results["detection"]["median_floor"]) == (None, 2)
    assert results["priors"][0]["precision"] is None
    assert results["slices"][1]["certified"] is None
    assert results["catch"] == {"rate": 0.0, "low": 0.0, "high": 1.0}


@pytest.mark.parametrize("rows", [0, 2])
def test_empty_and_ragged_columns_are_refused(rows):
    raw, code = np.zeros(rows), np.zeros(3 if rows else 0, dtype=int)
    for call in (
        lambda: catch(raw, 0.5, code, code, seed=0),
        lambda: calls_to_detection(raw, 0.5, code, code),
        lambda: ranking(raw, code),
        lambda: calibration_table(raw, code),
        lambda: slices(raw, 0.5, code, code, code, target=1e-4, seed=0),
    ):
        with pytest.raises(ValueError, match=r"at least one|one length"):
            call()


@pytest.mark.parametrize("calls", [1, 99, 100, 10_050])
def test_the_threshold_at_the_target_flags_as_many_as_allowed(calls):
    scores = np.random.default_rng(calls).permutation(calls).astype(float)
    assert (scores >= threshold_at_rate(scores, 0.01)).sum() == calls // 100
    assert (np.zeros(calls) >= threshold_at_rate(np.zeros(calls), 0.01)).sum() == 0  # equal scores are flagged together


def test_the_nearest_callers_are_those_of_the_highest_calls():
    rng = np.random.default_rng(2)
    caller = rng.integers(0, 40, 300)
    above = np.where(rng.random(300) < 0.1, np.nan, rng.normal(size=300) + caller / 20)
    rows = nearest_callers(above, np.array([f"kind {code % 3}" for code in caller]), caller)
    by_caller = {code: [value for value, own in zip(above, caller, strict=True) if own == code and not np.isnan(value)]
                 for code in set(caller.tolist())}  # fmt: skip
    expected = sorted(by_caller, key=lambda code: -max(by_caller[code]))[:10]
    assert [row["caller"] for row in rows] == expected
    for row in rows:
        own = by_caller[row["caller"]]
        counts = (len(own), sum(value >= 0 for value in own), max(own))
        assert (row["calls"], row["flagged"], row["highest"]) == counts and row["slice"] == f"kind {row['caller'] % 3}"
    assert nearest_callers(np.full(3, np.nan), np.array(["a"] * 3), np.arange(3)) == []
