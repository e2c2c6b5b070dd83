"""Evasion figures agree with a plain loop over numbers; intervals of means; figures by earlier calls."""

import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from callsieve.serving.bundle.metadata import Band
from callsieve.training.evidence.judging_labels import JudgingLabels
from callsieve.training.judging.calls_made import BUCKETS, by_calls_made, reliability_by
from callsieve.training.judging.evasions import PLAIN, evasion_figures, mean
from callsieve.training.judging.headline import JudgedCalls, PolicyActions, headline_of, policy_headline
from callsieve.training.model.certify import certificate, upper_bound
from callsieve.training.model.folds import calls_of_new_callers, nth_call
from tests.training.judging.test_metrics import smallest_reaching

CALLS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 9), st.sampled_from([0.0, 1.0, math.nan])),
    min_size=1,
    max_size=40,
)


def make_sample(calls, evasion_of, nuisance_of=lambda _: True):
    """Judged calls from rows of caller, callee, start and raw score."""
    caller, callee, start, raw = (np.array(column) for column in zip(*calls, strict=True))
    nuisance = np.array([nuisance_of(code) for code in caller.tolist()])
    evasion = np.array([evasion_of(code) for code in caller.tolist()], dtype=np.int16)
    every = np.ones(len(raw), dtype=bool)
    labels = JudgingLabels(
        every, nuisance, np.full(len(raw), "kind"), "truth", evasion, every * 1, ("hiding", "rotating")
    )
    calls = {"caller": caller, "callee": callee, "start": start, "judged": labels, "rows": every, "lives": nuisance}
    calls |= {"nth": nth_call(caller, start), "group": caller}
    return JudgedCalls(rule=raw, raw=raw, stratum=np.zeros(len(raw), dtype=int), seed=0, **calls)


def no_actions(sample):
    """The actions of a policy under which every call passes."""
    return PolicyActions("none", *np.zeros((2, len(sample.raw)), dtype=np.int8))


@pytest.mark.system
@given(CALLS)
def test_calls_and_people_before_detection_equal_a_plain_loop(calls):
    sample = make_sample(calls, lambda caller: caller % 3 - 1)
    rows = {row["attack"]: row for row in evasion_figures(sample, 1.0, no_actions(sample))}
    numbers = {}
    for caller, callee, _, raw in sorted(calls, key=lambda call: call[2]):
        number = numbers.setdefault(caller, {"made": 0, "detected": math.inf, "through": 0, "people": set(), "hits": 0})
        number["made"] += 1
        number["hits"] += raw >= 1.0
        if raw >= 1.0 and number["detected"] == math.inf:
            number["detected"] = number["made"]
        if number["detected"] == math.inf:
            number["through"] += 1
            number["people"].add(callee)
    for name, code in ((PLAIN, -1), ("hiding", 0), ("rotating", 1)):
        group = [number for caller, number in numbers.items() if caller % 3 - 1 == code]
        assert (name in rows) == bool(group)
        if not group:
            continue
        row = rows[name]
        assert (row["numbers"], row["calls"]) == (len(group), sum(number["made"] for number in group))
        assert row["caught"]["rate"] == pytest.approx(sum(number["hits"] for number in group) / row["calls"])
        assert row["calls_through_a_number"]["mean"] == pytest.approx(np.mean([n["through"] for n in group]))
        assert row["people_reached_by_a_number"]["mean"] == pytest.approx(np.mean([len(n["people"]) for n in group]))
        median = smallest_reaching([number["detected"] for number in group], 5)
        assert row["detection"]["median"] == (None if median == math.inf else median)
    plain = rows.get(PLAIN)
    if plain and plain["calls_through_a_number"]["mean"]:
        assert plain["times_plain"] == 1.0


def test_a_mean_of_one_number_has_no_interval_and_intervals_shrink_with_numbers():
    assert mean(np.array([5.0]), 0) == {"mean": 5.0, "low": None, "high": None}
    values = np.random.default_rng(0).exponential(100, 1000)
    few, many = mean(values[:40], 0), mean(values, 0)
    assert (few["high"] - few["low"]) / (many["high"] - many["low"]) == pytest.approx(5, rel=0.35)


@given(CALLS)
def test_buckets_count_every_recorded_call(calls):
    """Calls that are not judged count as earlier calls of their number."""
    sample = make_sample(calls, lambda _: -1, lambda caller: caller > 1)
    late, new = sample.start >= 5, sample.caller == 4
    buckets = by_calls_made(replace(sample, rows=late, lives=new), type("B", (), {"threshold": 1.0}))
    order = sorted(range(len(calls)), key=lambda i: calls[i][2])
    counts, nth = {}, {}
    for i in order:
        counts[calls[i][0]] = counts.get(calls[i][0], 0) + 1
        nth[i] = counts[calls[i][0]]
    assert nth_call(sample.caller, sample.start).tolist() == [nth[i] for i in range(len(calls))]
    for (name, low, high), bucket in zip(BUCKETS, buckets, strict=True):
        rows = [i for i in range(len(calls)) if low <= nth[i] <= high]
        nuisance = [i for i in rows if calls[i][0] > 1 and (late[i] or new[i])]
        benign = [i for i in rows if calls[i][0] <= 1 and late[i]]
        false = sum(calls[i][3] >= 1.0 for i in benign)
        assert (bucket["bucket"], bucket["calls"], bucket["benign_calls"]) == (name, len(nuisance), len(benign))
        assert bucket["callers"] == len({calls[i][0] for i in nuisance})
        assert bucket["false_calls"] == false
        assert bucket["bound"] == upper_bound(false, len(benign))
        caught = [calls[i][3] >= 1.0 for i in nuisance]
        assert bucket["catch"] == (pytest.approx(np.mean(caught)) if caught else None)


def test_numbers_of_known_groups_have_separate_figures():
    """Two numbers of a known group are detected at their first and third call, a number of a new group never."""
    calls = [(0, 1, 1, 1.0), (0, 2, 2, 0.0), *((1, n, n, float(n == 3)) for n in (1, 2, 3, 4))]
    calls += [(2, n, n, 0.0) for n in range(1, 6)]
    sample = make_sample(calls, lambda _: 1)
    of_known = sample.caller < 2
    (row,) = evasion_figures(replace(sample, lives=~of_known, known_lives=of_known), 1.0, no_actions(sample))
    assert (row["numbers"], row["calls"], row["detection"]["detected"]) == (1, 5, 0.0)
    assert row["calls_through_a_number"] == {"mean": 5.0, "low": None, "high": None}
    group = row["known_group"]
    assert (group["numbers"], group["calls"], group["detected"]) == (2, 6, 1.0)
    assert group["calls_through_a_number"] == {"mean": 1.0, "low": 0.0, "high": 2.0}  # 0 and 2
    (row,) = evasion_figures(sample, 1.0, no_actions(sample))
    none = {"mean": None, "low": None, "high": None}
    assert row["known_group"] == {"numbers": None, "calls": None, "detected": None, "calls_through_a_number": none}


def test_the_policy_is_judged_by_its_actions_and_the_model_by_its_scores_alone():
    """Rules flag two of four nuisance and both innocent calls. A guard passes the first call, with a high score."""
    calls = [(0, 1, 1, 1.0), (0, 2, 2, 1.0), (0, 3, 3, 0.0), (0, 4, 4, 0.0), (1, 5, 5, 0.0), (1, 6, 6, 0.0)]
    sample = make_sample(calls, lambda _: -1, nuisance_of=lambda caller: caller == 0)
    rules = np.array([0, 1, 2, 0, 1, 3], dtype=np.int8)
    both = np.array([0, 1, 2, 0, 1, 3], dtype=np.int8)
    actions = PolicyActions("mine", both, rules)
    band = Band("certified", 1.0, certificate("certify", np.zeros(2), 1.0, 1e-4), {}, (), {"mobile": 5.0})
    policy = policy_headline(sample, actions, band)
    model = headline_of(sample, sample.raw, structs.replace(band, raised={}))
    assert (policy["policy"], policy["in_hindsight"], policy["target"]) == ("mine", None, 1e-4)
    assert (policy["false_calls"], model["false_calls"]) == (2, 0)
    assert policy["bound"] == upper_bound(2, 2) and model["bound"] == upper_bound(0, 2)
    assert policy["catch"]["call"]["rate"] == model["catch"]["call"]["rate"] == 0.5
    assert (policy["detection"]["median"], model["detection"]["median"]) == (2, 1)
    (row,) = evasion_figures(sample, 1.0, PolicyActions("mine", np.maximum(both, [3, 0, 0, 0, 0, 0]), rules))
    assert [row[key]["rate"] for key in ("caught", "caught_by_rules", "caught_by_policy")] == [0.5, 0.5, 0.75]


def test_new_callers_are_nuisance_numbers_that_began_after_the_labels():
    early, cutoff, late = 0, 10, 20
    caller = np.array([0, 0, 1, 1, 2, 3])
    start = np.array([early, late, cutoff, late, late, late])
    nuisance = np.array([True, True, True, True, True, False])  # caller 3 is innocent
    labels = JudgingLabels(np.ones(6, dtype=bool), nuisance, np.full(6, "kind"), "truth", np.full(6, -1), np.ones(6))
    assert calls_of_new_callers(cutoff, labels, caller, start).tolist() == [False, False, True, True, True, False]


def test_an_evasion_without_judged_calls_has_a_row_without_figures():
    calls = [(0, 1, 1, 1.0), (1, 2, 2, 1.0), (2, 3, 3, 1.0)]
    sample = make_sample(calls, lambda caller: caller - 1)
    rows = sample.caller < 2  # no caller with the evasion "rotating"
    figures = evasion_figures(replace(sample, rows=rows, lives=rows), 1.0, no_actions(sample))
    assert [row["attack"] for row in figures] == [PLAIN, "hiding", "rotating"]
    assert [(row["judged_calls"], row["numbers"]) for row in figures] == [(1, 1), (1, 1), (0, 0)]
    assert figures[2]["caught"]["rate"] is None and figures[2]["calls_through_a_number"]["mean"] is None


def test_the_figures_of_a_run_have_each_evasion_and_each_slice_of_calibration(training_run, dataset):
    folder, figures = training_run
    evasions = set(dataset.truth["attack"].drop_null().to_pylist())
    rows = {row["attack"] for row in figures["attacks"]}
    assert PLAIN in rows and len(rows) > 10 and rows <= evasions | {PLAIN}  # an evasion before training has no row
    assert sum(row["judged_calls"] for row in figures["attacks"]) == figures["ranking"]["nuisance"]
    judged_calls = sum(row["calls"] for row in figures["reliability_by"] if row["slice"].startswith("class "))
    assert 0 < judged_calls <= figures["rows"]["certify"]
    for row in figures["reliability_by"]:
        assert row["low"] <= row["observed"] <= row["high"]
    assert {path.name for path in (folder / "tables").iterdir()} >= {"attacks.csv", "buckets.csv", "reliability_by.csv"}


def test_figures_of_known_groups_are_in_table_and_page(training_run):
    folder, figures = training_run
    (evasion,) = (row for row in figures["attacks"] if row["known_group"]["numbers"])
    group = evasion["known_group"]
    with (folder / "tables" / "attacks.csv").open(newline="") as file:
        rows = {row["attack"]: row for row in csv.DictReader(file)}
    row = rows.pop(evasion["attack"])
    assert row["known_group.numbers"] == str(group["numbers"]) and row["known_group.detected"] == str(group["detected"])
    through = group["calls_through_a_number"]["mean"]
    assert row["known_group.calls_through_a_number.mean"] == str(through)
    assert {row["known_group.numbers"] for row in rows.values()} == {"0"}
    text = (folder / "report.html").read_text()
    cells = [re.findall("<td[^>]*>(.*?)</td>", line.replace("\n", "")) for line in re.findall("(?s)<tr>.*?</tr>", text)]
    name = evasion["attack"].replace("_", " ")
    (shown,) = (line for line in cells if len(line) == 12 and line[0] == name)
    assert shown[-3:] == [str(group["numbers"]), f"{group['detected']:.1%}", f"{through:.0f}"]


def test_a_slice_with_too_high_predictions_shows_the_gap():
    calls = [(i % 40, 0, i, 0.0) for i in range(4000)]
    sample = make_sample(calls, lambda _: -1, lambda caller: caller < 4)
    card = type("C", (), {"calibration": type("K", (), {"probabilities": staticmethod(lambda raw: raw + 0.4)})})
    slices = {row["slice"]: row for row in reliability_by(sample, card)}
    (row,) = (row for name, row in slices.items() if name.startswith("class "))
    assert (row["predicted"], row["observed"]) == (pytest.approx(0.4), pytest.approx(0.1))
    assert row["ece"] == pytest.approx(0.3)
