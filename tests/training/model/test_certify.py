"""Certificates: bounds against binomial sums, coverage by simulation, thresholds, and resampling of callers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from callsieve.serving.bundle.metadata import Band, GoldenVectors, metadata_from_json, metadata_to_json
from callsieve.training.model import certify
from callsieve.training.model.certify import (
    bound_by_organisation,
    caller_bootstrap,
    certificate,
    choose_threshold,
    difference_interval,
    ratio_interval,
    strata,
    upper_bound,
)
from tests.support import small_bundle as small

# Few distinct values, because trees give the same score to many calls.
SCORES = st.lists(st.sampled_from([-2.5, -1.0, -0.0, 0.0, 5e-324, 0.3, 0.30000000000000004, 4.0]), min_size=1)
LONG_SCORES = st.lists(st.floats(-50, 50), min_size=1, max_size=400) | SCORES


def at_most(false, calls, rate):
    """Returns the exact P(X <= false) for `calls` trials at `rate`."""
    p = Fraction(rate)
    return sum(math.comb(calls, k) * p**k * (1 - p) ** (calls - k) for k in range(false + 1))


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
@example(0, 1, 0.95)
@example(39, 40, 0.95)
def test_the_bound_equals_the_rate_of_the_binomial_tail(false, calls, confidence):
    assume(false < calls)
    bound = upper_bound(false, calls, confidence)
    assert at_most(false, calls, bound) == pytest.approx(1 - confidence, rel=1e-9)


@pytest.mark.parametrize("arguments", [(-1, 5), (6, 5), (0, -1), (0, 5, 0.0), (0, 5, 1.0), (0, 5, math.nan)])
def test_invalid_arguments_of_a_bound_are_refused(arguments):
    with pytest.raises(ValueError, match="must"):
        upper_bound(*arguments)


@given(LONG_SCORES, st.sampled_from([0.01, 0.05, 0.2, 0.6, 0.97]), st.sampled_from([0.5, 1.0]), st.randoms())
def test_a_threshold_meets_the_bound_and_the_next_lower_score_exceeds_it(scores, target, margin, random):
    scores = scores + [math.nan] * random.randrange(3)
    random.shuffle(scores)
    raw = np.array(scores)
    threshold = choose_threshold(raw, target, margin=margin)
    scored = raw[~np.isnan(raw)]
    flagged = int((scored >= threshold).sum())
    lower = scored[scored < threshold]
    assert math.isfinite(threshold)
    assert len(lower)
    more = int((scored >= lower.max()).sum())
    if upper_bound(0, len(scored)) > margin * target:
        assert flagged == 0
    else:
        assert upper_bound(flagged, len(scored)) <= margin * target < upper_bound(more, len(scored))
    assert threshold == np.nextafter(lower.max(), np.inf)


def test_scores_of_single_precision_are_compared_in_double():
    raw = np.repeat(np.array([0.1, 0.7], dtype=np.float32), [99_995, 5])
    threshold = choose_threshold(raw, 1e-4, margin=1.0)
    assert threshold > raw[-1].item()
    assert certificate("chosen", raw, threshold, 1e-4).false_calls == 0
    assert strata("chosen", raw, threshold, 1e-4, np.full(len(raw), "all"))["all"].false_calls == 0


def test_a_margin_allows_fewer_false_calls():
    raw = np.arange(100_000.0)
    assert (raw >= choose_threshold(raw, 1e-4, margin=1.0)).sum() == 4
    assert (raw >= choose_threshold(raw, 1e-4, margin=0.5)).sum() == 1


@pytest.mark.parametrize(
    ("raw", "options", "message"),
    [
        ([np.nan], {}, "at least one"),
        ([], {}, "at least one"),
        ([1.0, np.inf], {}, "finite"),
        ([1.0], {"target": 0.0}, "target"),
        ([1.0], {"target": 1.0}, "target"),
        ([1.0], {"margin": 0.0}, "margin"),
        ([1.0], {"margin": 1.5}, "margin"),
    ],
)
def test_invalid_arguments_of_a_threshold_are_refused(raw, options, message):
    with pytest.raises(ValueError, match=message):
        choose_threshold(np.array(raw), **{"target": 1e-4, "margin": 0.8, **options})


def test_a_certificate_counts_scores_at_the_threshold_and_ignores_unscored_calls():
    raw = np.concatenate([np.zeros(49_998), [1.0, np.nan, np.nan]])
    granted = certificate("later", raw, 1.0, 1e-4)
    assert (granted.fold, granted.benign_calls, granted.false_calls) == ("later", 49_999, 1)
    assert granted.bound == upper_bound(1, 49_999)
    assert granted.certified
    assert not certificate("later", raw, 0.0, 1e-4).certified
    assert not certificate("later", raw[:20_000], 1.0, 1e-4).certified


def test_no_calls_and_no_threshold_certify_nothing():
    assert certificate("empty", np.array([]), 0.0, 1e-4).bound == 1.0
    assert not certificate("empty", np.array([np.nan]), 0.0, 1e-4).certified
    with pytest.raises(ValueError, match="threshold"):
        certificate("later", np.zeros(50_000), math.nan, 1e-4)


def test_a_rate_above_the_target_is_certified_at_most_once_in_twenty():
    target, calls, draws = 0.01, 473, 3000  # 1 false call of 473 just passes: the hardest case
    rng = np.random.default_rng(5)
    granted = [certificate("fold", raw, 1 - 1.001 * target, target).certified for raw in rng.random((draws, calls))]
    noise = 3 * math.sqrt(0.05 * 0.95 / draws)
    assert 0.05 - 2 * noise < np.mean(granted) < 0.05 + noise


def test_a_threshold_of_another_fold_is_wrongly_certified_at_most_once_in_twenty():
    target, draws = 0.02, 1500
    rng = np.random.default_rng(6)
    misled = certified = same_fold = 0
    for chosen, later in rng.random((draws, 2, 400)):
        threshold = choose_threshold(chosen, target, margin=1.0)
        above = 1 - threshold > target  # scores are uniform: this is the true rate
        granted = certificate("later", later, threshold, target).certified
        certified += granted
        misled += granted and above
        same_fold += certificate("chosen", chosen, threshold, target).certified
    assert certified > 0.05 * draws
    assert misled / draws < 0.05
    assert same_fold == draws  # the choosing fold proves nothing: the threshold always passes there


def test_each_stratum_has_its_own_certificate():
    names = np.array(["ordinary", "courier", "roamer", "courier"]).repeat([60_000, 30_000, 100, 5])
    raw = np.zeros(len(names))
    raw[-5:] = [np.nan, np.nan, np.nan, np.nan, 3.0]
    order = np.random.default_rng(0).permutation(len(raw))
    by_stratum = strata("later", raw[order], 3.0, 1e-4, names[order])
    assert list(by_stratum) == ["courier", "ordinary", "roamer"]
    assert [(c.benign_calls, c.false_calls, c.certified) for c in by_stratum.values()] == [
        (30_001, 1, False),
        (60_000, 0, True),
        (100, 0, False),
    ]
    for name, granted in by_stratum.items():
        assert granted == certificate("later", raw[names == name], 3.0, 1e-4)


def test_strata_without_a_scored_call_are_listed_as_not_certified():
    by_stratum = strata("later", np.array([np.nan, 0.0]), 1.0, 1e-4, np.array(["a", "b"], dtype=object))
    assert (by_stratum["a"].benign_calls, by_stratum["a"].bound, by_stratum["a"].certified) == (0, 1.0, False)
    for scores, names in ((3, 1), (1, 3)):
        with pytest.raises(ValueError, match="names"):
            strata("later", np.zeros(scores), 1.0, 1e-4, np.full(names, "a"))


def test_a_bundle_stores_the_certificates_unchanged():
    counts = [(0, 5), (1, 4), (500, 600), (0, 30_000), (4, 100_000), (83, 1_000_000), (3, 3), (0, 0)]
    granted = {f"{k} of {n}": certificate("week 8", np.arange(n) < k, 1.0, np.float64(0.9)) for k, n in counts}
    assert [c.certified for c in granted.values()] == [True] * 6 + [False] * 2
    threshold = choose_threshold(np.zeros(10, dtype=np.float32), 1e-4, margin=1.0)
    band = Band("label", threshold, granted["4 of 100000"], granted)
    golden = GoldenVectors(((0.0,) * len(small.FEATURES),), {"model": ((0.5,),)})
    card = small.card(thresholds=(band,), feeds={}, classes={}, golden=golden)
    assert metadata_from_json(metadata_to_json(card)).thresholds == (band,)


def test_the_interval_agrees_with_a_plain_bootstrap_of_callers():
    rng = np.random.default_rng(3)
    calls = rng.integers(1, 30, 60)
    callers = np.repeat(np.arange(60) * 7 - 3, calls)
    hits = rng.random(len(callers)) < np.repeat(rng.random(60), calls)
    per_caller = [hits[callers == c] for c in np.unique(callers)]
    rates = []
    for _ in range(3000):
        drawn = [per_caller[i] for i in rng.integers(0, 60, 60)]
        rates.append(sum(h.sum() for h in drawn) / sum(map(len, drawn)))
    expected = np.quantile(rates, [0.025, 0.975])
    interval = caller_bootstrap(hits, callers, seed=0, rounds=3000)
    np.testing.assert_allclose(interval, expected, atol=0.01)
    assert interval == caller_bootstrap(hits, callers, seed=0, rounds=3000)
    assert interval != caller_bootstrap(hits, callers, seed=1, rounds=3000)


def test_if_resampling_is_degenerate_callers_are_the_trials():
    exact = upper_bound(0, 6, 0.975)
    callers = np.arange(30) % 6
    assert caller_bootstrap(np.zeros(30, dtype=bool), callers, seed=0) == (0.0, exact)
    assert caller_bootstrap(np.ones(30, dtype=bool), callers, seed=0) == (1 - exact, 1.0)
    assert caller_bootstrap(np.arange(30) < 9, np.zeros(30), seed=0) == (0.0, 1.0)


def test_with_one_call_per_organisation_the_bounds_agree():
    hits = np.arange(30_000) < 2
    assert bound_by_organisation(hits, np.arange(30_000)) == pytest.approx(upper_bound(2, 30_000))
    assert bound_by_organisation(hits, np.zeros(30_000)) > 0.9, "a single organisation proves almost nothing"
    nothing = bound_by_organisation(hits[:0], hits[:0])
    assert bound_by_organisation(np.ones(9, dtype=bool), np.arange(9)) == nothing == 1.0


@pytest.mark.parametrize("within", [True, False])
def test_the_bound_by_organisation_covers_unseen_organisations(within):
    """Organisations differ in size; all or none of their calls are flagged, or a share that is their own."""
    rng, rate = np.random.default_rng(6), 0.02
    covered = {"calls": 0, "organisations": 0}
    for _ in range(300):
        sizes = np.ceil(rng.lognormal(2, 1, 400)).astype(int)
        groups = np.repeat(np.arange(400), sizes)
        shares = rng.beta(0.02, 0.98, 400) if within else (rng.random(400) < rate).astype(float)
        hits = rng.random(len(groups)) < shares[groups]
        covered["calls"] += upper_bound(int(hits.sum()), len(hits)) >= rate
        covered["organisations"] += bound_by_organisation(hits, groups) >= rate
    assert covered["organisations"] >= 0.93 * 300 > 0.85 * 300 > covered["calls"]


def test_intervals_of_empty_or_mismatched_data_are_refused():
    with pytest.raises(ValueError, match="at least one caller"):
        ratio_interval(np.array([]), np.array([]), seed=0)
    for hits, callers in (([True], [1, 2]), ([True, False], [1])):
        with pytest.raises(ValueError, match="one entry per hit"):
            caller_bootstrap(np.array(hits), np.array(callers), seed=0)
        with pytest.raises(ValueError, match="one entry per hit"):
            bound_by_organisation(np.array(hits), np.array(callers))
    with pytest.raises(ValueError, match="confidence"):
        caller_bootstrap(np.array([True]), np.array([1]), seed=0, confidence=1.0)


def test_a_difference_of_two_rates_has_the_interval_of_its_callers():
    callers = np.repeat(np.arange(40), 5)
    first, second = (callers + np.arange(200)) % 4 == 0, (callers % 8 == 0)
    low, high = difference_interval(first, second, callers, seed=1)
    assert -1 < low < first.mean() - second.mean() < high < 1
    turned = difference_interval(second, first, callers, seed=1)
    assert turned == pytest.approx((-high, -low), abs=0.02)  # the draws differ
    narrower = difference_interval(first, second, callers, seed=1, confidence=0.5)
    assert low < narrower[0] < narrower[1] < high
    assert difference_interval(first, second, callers, seed=1, rounds=101) != (low, high)
    # The order and the names of the callers do not matter.
    renamed = difference_interval(first[::-1], second[::-1], -callers[::-1], seed=1)
    assert renamed == pytest.approx((low, high), abs=0.02)
    none = np.zeros(30, dtype=bool)
    exact = upper_bound(0, 30, 0.975)
    assert difference_interval(~none, none, np.arange(30), seed=0) == pytest.approx((1 - 2 * exact, 1.0))


@pytest.mark.parametrize("cells", [1, 30, 42, 4000])
def test_the_number_of_tables_drawn_does_not_change_the_interval(cells, monkeypatch):
    top, bottom = np.arange(6.0), np.full(6, 7.0)
    whole = ratio_interval(top, bottom, seed=3, rounds=101)
    monkeypatch.setattr(certify, "_CELLS", cells)  # 1, 5, 7 or all draws a table
    assert ratio_interval(top, bottom, seed=3, rounds=101) == whole


def test_many_callers_of_different_sizes_are_drawn_in_several_tables():
    sizes = np.arange(1, 5001)
    low, high = ratio_interval(sizes * 0.25 + 0.1, sizes * 1.0 + 0.5, seed=0, rounds=1000)
    value = (sizes * 0.25 + 0.1).sum() / (sizes + 0.5).sum()
    assert low < value < high
    assert high - low < 1e-5
