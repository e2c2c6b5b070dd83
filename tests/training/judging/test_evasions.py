"""What an evasion buys: against one number at a time, and intervals that hold as often as they say."""

import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.training.data.judging_labels import JudgingLabels
from callsieve.training.judging.calls_made import BUCKETS, by_calls_made, nth_call, reliability_by
from callsieve.training.judging.evasions import PLAIN, evasion_figures, mean
from callsieve.training.judging.headline import JudgedCalls
from callsieve.training.model.call_choice import lifetime_calls
from callsieve.training.model.certify import upper_bound
from callsieve.training.model.split import Plan
from callsieve.training.tracking.record import slice_metrics
from tests.training.judging.test_metrics import smallest_reaching

CALLS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 9), st.sampled_from([0.0, 1.0, math.nan])),
    min_size=1, max_size=40,
)  # fmt: skip


def scored(calls, attack_of, nuisance_of=lambda _: True):
    caller, callee, start, raw = (np.array(column) for column in zip(*calls, strict=True))
    bad = np.array([nuisance_of(one) for one in caller.tolist()])
    attack = np.array([attack_of(one) for one in caller.tolist()], dtype=np.int16)
    judged = JudgingLabels(
        np.ones(len(raw), dtype=bool), bad, np.full(len(raw), "kind"), "truth", attack, ("hiding", "rotating")
    )
    every = np.ones(len(raw), dtype=bool)
    return JudgedCalls(
        rule=raw,
        raw=raw,
        stratum=np.zeros(len(raw), dtype=int),
        judged=judged,
        caller=caller,
        callee=callee,
        start=start,
        rows=every,
        lives=bad,
        seed=0,
    )


@given(CALLS)
def test_calls_and_people_before_a_number_is_found_are_those_of_a_plain_loop(calls):
    s = scored(calls, lambda caller: caller % 3 - 1)
    rows = {one["attack"]: one for one in evasion_figures(s, 1.0)}
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


def test_numbers_of_known_groups_are_told_apart_from_those_of_others():
    """Two numbers of a rotation that the model knows, found at their first and third call; one of a new one, never."""
    calls = [(0, 1, 1, 1.0), (0, 2, 2, 0.0), *((1, n, n, float(n == 3)) for n in (1, 2, 3, 4))]
    calls += [(2, n, n, 0.0) for n in range(1, 6)]
    s = scored(calls, lambda _: 1)
    of_known = s.caller < 2
    (row,) = evasion_figures(replace(s, lives=~of_known, known_lives=of_known), 1.0)
    assert (row["numbers"], row["calls"], row["detection"]["found"]) == (1, 5, 0.0)
    assert row["calls_through_a_number"] == {"mean": 5.0, "low": None, "high": None}
    known = row["known_group"]
    assert (known["numbers"], known["calls"], known["found"]) == (2, 6, 1.0)
    assert known["calls_through_a_number"] == {"mean": 1.0, "low": 0.0, "high": 2.0}  # 0 and 2
    (row,) = evasion_figures(s, 1.0)
    nobody = {"mean": None, "low": None, "high": None}
    assert row["known_group"] == {"numbers": None, "calls": None, "found": None, "calls_through_a_number": nobody}


def test_lives_of_known_groups_are_of_numbers_that_came_later_in_groups_that_were_learnt_from():
    begun, cutoff, late = 0, 10, 20
    caller = np.array([0, 0, 1, 1, 2, 3])
    start = np.array([begun, late, cutoff, late, late, late])
    learnt = np.array([True, True, True, True, False, True])  # caller 2 is of a group of its own
    bad = np.array([True, True, True, True, True, False])  # caller 3 is innocent
    judged = JudgingLabels(np.ones(6, dtype=bool), bad, np.full(6, "kind"), "truth", np.full(6, -1))
    plan = Plan((0, 5), (12, 15), (15, 30), cutoff)
    lives, known_lives = lifetime_calls(plan, learnt, start, judged, caller)
    assert set(caller[lives]) == {2} and set(caller[known_lives]) == {1}
    assert known_lives.sum() == 2


def test_an_evasion_that_nobody_judged_is_told_as_such():
    calls = [(0, 1, 1, 1.0), (1, 2, 2, 1.0), (2, 3, 3, 1.0)]
    s = scored(calls, lambda caller: caller - 1)
    mine = s.caller < 2  # nobody who plays "rotating"
    told = evasion_figures(replace(s, rows=mine, lives=mine), 1.0)
    assert [one["attack"] for one in told] == [PLAIN, "hiding", "rotating"]
    assert [(one["judged_calls"], one["numbers"]) for one in told] == [(1, 1), (1, 1), (0, 0)]
    assert told[2]["caught"]["rate"] is None and told[2]["calls_through_a_number"]["mean"] is None


def test_the_figures_of_a_run_tell_each_evasion_and_each_slice_of_calibration(run, dataset):
    figures = run[1]
    told = [one["attack"] for one in figures["attacks"]]
    known = set(dataset.truth["attack"].drop_null().to_pylist())
    assert set(told) == known | {PLAIN}
    assert sum(one["judged_calls"] for one in figures["attacks"]) == figures["ranking"]["nuisance"]
    judged = sum(one["calls"] for one in figures["reliability_by"] if one["slice"].startswith("class "))
    assert 0 < judged <= figures["rows"]["certify"]
    for one in figures["reliability_by"]:
        assert one["low"] <= one["observed"] <= one["high"]
    assert {path.name for path in (run[0] / "tables").iterdir()} >= {"attacks.csv", "buckets.csv", "reliability_by.csv"}


def test_what_is_told_of_known_groups_stands_in_table_report_and_metrics(run):
    folder, figures = run
    (known,) = (one for one in figures["attacks"] if one["known_group"]["numbers"])
    told = known["known_group"]
    with (folder / "tables" / "attacks.csv").open(newline="") as file:
        rows = {row["attack"]: row for row in csv.DictReader(file)}
    row = rows.pop(known["attack"])
    assert row["known_group.numbers"] == str(told["numbers"]) and row["known_group.found"] == str(told["found"])
    through = told["calls_through_a_number"]["mean"]
    assert row["known_group.calls_through_a_number.mean"] == str(through)
    assert {one["known_group.numbers"] for one in rows.values()} == {"0"}
    text = (folder / "report.html").read_text()
    cells = [re.findall("<td>(.*?)</td>", line.replace("\n", "")) for line in re.findall("(?s)<tr>.*?</tr>", text)]
    name = known["attack"].replace("_", " ")
    (shown,) = (line for line in cells if len(line) == 10 and line[0] == name)
    assert shown[-3:] == [str(told["numbers"]), f"{told['found']:.1%}", f"{through:.0f}"]
    metric = f"attack/{known['attack']}/calls_through_a_number_of_a_known_group"
    assert {name for name in slice_metrics(figures) if name.endswith("_known_group")} == {metric}
    assert slice_metrics(figures)[metric] == through


def test_a_slice_that_is_told_too_high_shows_it():
    calls = [(i % 40, 0, i, 0.0) for i in range(4000)]
    s = scored(calls, lambda _: -1, lambda caller: caller < 4)
    card = type("C", (), {"calibration": type("K", (), {"probabilities": staticmethod(lambda raw: raw + 0.4)})})
    found = {one["slice"]: one for one in reliability_by(s, card)}
    (mine,) = (one for name, one in found.items() if name.startswith("class "))
    assert (mine["predicted"], mine["observed"]) == (pytest.approx(0.4), pytest.approx(0.1))
    assert mine["ece"] == pytest.approx(0.3)
