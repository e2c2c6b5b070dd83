"""What an evasion buys: against one number at a time, and intervals that hold as often as they say."""

import math
from dataclasses import replace

import numpy as np
import pytest
from callsieve.training.attackers import PLAIN, attack_figures, mean
from callsieve.training.calls_made import BUCKETS, by_calls_made, nth_call, reliability_by
from callsieve.training.certify import upper_bound
from callsieve.training.evidence import Judged
from callsieve.training.headline import Scored
from hypothesis import given
from hypothesis import strategies as st

from test_evaluate import smallest_reaching

CALLS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 9), st.sampled_from([0.0, 1.0, math.nan])),
    min_size=1, max_size=40,
)  # fmt: skip


def scored(calls, attack_of, nuisance_of=lambda _: True):
    caller, callee, start, raw = (np.array(column) for column in zip(*calls, strict=True))
    bad = np.array([nuisance_of(one) for one in caller.tolist()])
    attack = np.array([attack_of(one) for one in caller.tolist()], dtype=np.int16)
    judged = Judged(
        np.ones(len(raw), dtype=bool), bad, np.full(len(raw), "kind"), "truth", attack, ("hiding", "rotating")
    )
    every = np.ones(len(raw), dtype=bool)
    return Scored(raw, raw, np.zeros(len(raw), dtype=int), judged, caller, callee, start, every, bad, 0)


@given(CALLS)
def test_calls_and_people_before_a_number_is_found_are_those_of_a_plain_loop(calls):
    s = scored(calls, lambda caller: caller % 3 - 1)
    rows = {one["attack"]: one for one in attack_figures(s, 1.0)}
    seen = {}
    for caller, callee, _, raw in sorted(calls, key=lambda one: one[2]):
        one = seen.setdefault(caller, {"made": 0, "found": math.inf, "through": 0, "people": set(), "hits": 0})
        one["made"] += 1
        one["hits"] += raw >= 1.0
        if raw >= 1.0 and one["found"] == math.inf:
            one["found"] = one["made"]
        if one["found"] == math.inf:
            one["through"] += 1
            one["people"].add(callee)
    for name, code in ((PLAIN, -1), ("hiding", 0), ("rotating", 1)):
        mine = [one for caller, one in seen.items() if caller % 3 - 1 == code]
        assert (name in rows) == bool(mine)
        if not mine:
            continue
        told = rows[name]
        assert (told["numbers"], told["calls"]) == (len(mine), sum(one["made"] for one in mine))
        assert told["caught"]["rate"] == pytest.approx(sum(one["hits"] for one in mine) / told["calls"])
        assert told["calls_through_a_number"]["mean"] == pytest.approx(np.mean([one["through"] for one in mine]))
        assert told["people_reached_by_a_number"]["mean"] == pytest.approx(
            np.mean([len(one["people"]) for one in mine])
        )
        median = smallest_reaching([one["found"] for one in mine], 5)
        assert told["detection"]["median"] == (None if median == math.inf else median)
    plain = rows.get(PLAIN)
    if plain and plain["calls_through_a_number"]["mean"]:
        assert plain["times_plain"] == 1.0


def test_a_mean_of_one_number_has_no_interval_and_of_many_shrinks():
    assert mean(np.array([5.0]), 0) == {"mean": 5.0, "low": None, "high": None}
    values = np.random.default_rng(0).exponential(100, 1000)
    few, many = mean(values[:40], 0), mean(values, 0)
    assert (few["high"] - few["low"]) / (many["high"] - many["low"]) == pytest.approx(5, rel=0.35)


@given(CALLS)
def test_buckets_count_from_the_first_call_of_the_records(calls):
    """Also the calls that are not judged: a number's hundredth call is no cold start."""
    s = scored(calls, lambda _: -1, lambda caller: caller > 1)
    late, young = s.start >= 5, s.caller == 4
    told = by_calls_made(replace(s, rows=late, lives=young), type("B", (), {"threshold": 1.0}))
    order = sorted(range(len(calls)), key=lambda i: calls[i][2])
    counts, nth = {}, {}
    for i in order:
        counts[calls[i][0]] = counts.get(calls[i][0], 0) + 1
        nth[i] = counts[calls[i][0]]
    assert nth_call(s.caller, s.start).tolist() == [nth[i] for i in range(len(calls))]
    for (name, low, high), one in zip(BUCKETS, told, strict=True):
        mine = [i for i in range(len(calls)) if low <= nth[i] <= high]
        bad = [i for i in mine if calls[i][0] > 1 and (late[i] or young[i])]
        good = [i for i in mine if calls[i][0] <= 1 and late[i]]
        false = sum(calls[i][3] >= 1.0 for i in good)
        assert (one["bucket"], one["calls"], one["benign_calls"]) == (name, len(bad), len(good))
        assert one["callers"] == len({calls[i][0] for i in bad})
        assert one["false_calls"] == false
        assert one["bound"] == upper_bound(false, len(good))
        assert one["catch"] == (pytest.approx(np.mean([calls[i][3] >= 1.0 for i in bad])) if bad else None)


def test_an_evasion_that_nobody_judged_is_told_as_such():
    calls = [(0, 1, 1, 1.0), (1, 2, 2, 1.0), (2, 3, 3, 1.0)]
    s = scored(calls, lambda caller: caller - 1)
    mine = s.caller < 2  # nobody who plays "rotating"
    told = attack_figures(replace(s, rows=mine, lives=mine), 1.0)
    assert [one["attack"] for one in told] == [PLAIN, "hiding", "rotating"]
    assert [(one["judged_calls"], one["numbers"]) for one in told] == [(1, 1), (1, 1), (0, 0)]
    assert told[2]["caught"]["rate"] is None and told[2]["calls_through_a_number"]["mean"] is None


def test_the_figures_of_a_run_tell_each_evasion_and_each_slice_of_calibration(run, evidence):
    figures = run[1]
    told = [one["attack"] for one in figures["attacks"]]
    known = set(evidence.truth["attack"].drop_null().to_pylist())
    assert set(told) == known | {PLAIN}
    assert sum(one["judged_calls"] for one in figures["attacks"]) == figures["ranking"]["nuisance"]
    judged = sum(one["calls"] for one in figures["reliability_by"] if one["slice"].startswith("class "))
    assert 0 < judged <= figures["rows"]["certify"]
    for one in figures["reliability_by"]:
        assert one["low"] <= one["observed"] <= one["high"]
    assert {path.name for path in (run[0] / "tables").iterdir()} >= {"attacks.csv", "buckets.csv", "reliability_by.csv"}


def test_a_slice_that_is_told_too_high_shows_it():
    calls = [(i % 40, 0, i, 0.0) for i in range(4000)]
    s = scored(calls, lambda _: -1, lambda caller: caller < 4)
    card = type("C", (), {"calibration": type("K", (), {"probabilities": staticmethod(lambda raw: raw + 0.4)})})
    found = {one["slice"]: one for one in reliability_by(s, card)}
    (mine,) = (one for name, one in found.items() if name.startswith("class "))
    assert (mine["predicted"], mine["observed"]) == (pytest.approx(0.4), pytest.approx(0.1))
    assert mine["ece"] == pytest.approx(0.3)
