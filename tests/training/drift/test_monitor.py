"""Drift: what a reference holds, no alarm on usual days, and an alarm with the right name on shifted days."""

import itertools
import json
import math
from dataclasses import asdict, replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from callsieve.features.catalogue import NAMES
from callsieve.features.offline.table import vectors
from callsieve.serving.bundle.bundle import load
from callsieve.serving.bundle.signing import read_public_key
from callsieve.training.data.feeds import feed_of_all
from callsieve.training.drift.days import (
    MONITORED,
    NOT_CALLED,
    Day,
    ScoredCalls,
    day_figures,
    histogram,
    histogram_cuts,
    quantiles,
)
from callsieve.training.drift.monitor import calls_until, certificate, compare, date_of, limit, resembles
from callsieve.training.drift.reference import (
    build_reference,
    ks,
    measure_reference,
    psi,
    read_reference,
    shares,
    watched_shares,
    write_reference,
)
from callsieve.training.log.run_paths import run_paths
from callsieve.training.model.call_choice import SAMPLE, day_sample, day_slices, whole_days
from callsieve.training.tracking.lineage import drift_since_last_run
from tests.support import feed_faults

MONDAY = date(2025, 3, 3)


# ------------------------------------------------------------------------------------------- figures of a day
@given(st.lists(st.floats(-9, 9) | st.just(float("nan")), min_size=1, max_size=60),
       st.lists(st.floats(-9, 9), unique=True, max_size=8).map(sorted))  # fmt: skip
def test_a_histogram_counts_every_value_once(values, cuts):
    counts = histogram(np.array(values), cuts)
    known = [one for one in values if not math.isnan(one)]
    edges = [-np.inf, *cuts, np.inf]
    expected = [sum(low <= one < high for one in known) for low, high in itertools.pairwise(edges)]
    assert counts.tolist() == [*expected, len(values) - len(known)]
    below, whole = watched_shares(counts, ordered=True)
    assert below.tolist() == [*(sum(one < cut for one in known) for cut in cuts), len(values) - len(known)]
    assert (whole == len(values)).all()


@given(st.lists(st.integers(0, 50), min_size=4, max_size=40), st.lists(st.integers(0, 50), min_size=4, max_size=40))
def test_ks_at_the_cuts_is_that_of_the_samples(one, other):
    """Whole numbers, with a cut between all of them."""
    cuts = [n + 0.5 for n in range(50)]
    told = [histogram(np.array(values, dtype=float), cuts) for values in (one, other)]
    assert ks(*(counts / counts.sum() for counts in told)) == pytest.approx(
        stats.ks_2samp(one, other, method="asymp").statistic
    )
    assert psi(*(shares(counts) for counts in told)) >= 0
    assert psi(shares(told[0]), shares(told[0])) == 0


def test_psi_is_the_two_entropies():
    one, other = np.array([0.2, 0.3, 0.5]), np.array([0.1, 0.6, 0.3])
    assert psi(one, other) == pytest.approx(stats.entropy(one, other) + stats.entropy(other, one))


def test_cuts_are_quantiles_that_occur():
    assert quantiles(np.zeros(9)) == quantiles(np.full(9, np.nan)) == ()
    assert quantiles(np.array([0.0] * 99 + [1.0])) == ()
    even = quantiles(np.arange(1600.0))
    assert even == pytest.approx(np.arange(100, 1600, 100), abs=1)


# ------------------------------------------------------------------------------------------- what is usual
def drawn_days(rng, days, weekend_share=0.5, shift=0.0):
    """Days with one ordered statistic and one amount; the mean varies by day and differs on weekends."""
    for n in range(days):
        day = MONDAY + timedelta(days=n)
        mean = 0.1 * rng.normal() + (weekend_share if day.weekday() >= 5 else 0.0) + shift
        counts = {"x": histogram(rng.normal(mean, 1.0, 4000), (-1.0, 0.0, 1.0))}
        amount = 9 + 0.05 * rng.normal() - (0.9 if day.weekday() >= 5 else 0.0)
        yield Day(day, 4000, counts, {"calls": amount})


def drawn(days=28, seed=0):
    return build_reference("m", {"x": (-1.0, 0.0, 1.0)}, list(drawn_days(np.random.default_rng(seed), days)))


def test_usual_days_raise_no_alarm_weekends_included():
    rng = np.random.default_rng(1)
    known = drawn()
    far = [shift for day in drawn_days(rng, 700) for shift in compare(known, day)]
    assert not any(shift.alarm for shift in far)
    # Deviations are those of a normal law.
    assert 0.6 < np.std([shift.z for shift in far if shift.measure == "amount"]) < 1.4


def test_a_weekday_like_a_weekend_resembles_a_weekend():
    known = drawn()
    saturday = next(day for day in drawn_days(np.random.default_rng(2), 7) if day.kind == "weekend")
    assert resembles(known, saturday) == "weekend"
    wednesday = replace(saturday, date=MONDAY + timedelta(days=2))
    assert wednesday.kind == "weekday" and resembles(known, wednesday) == "weekend"
    assert {shift.name for shift in compare(known, wednesday) if shift.alarm} == {"calls"}  # half of them


def test_a_shift_names_its_part_and_size():
    known = drawn()
    day = next(drawn_days(np.random.default_rng(3), 1, shift=2.5))
    first = compare(known, day)[0]
    assert (first.name, first.alarm, first.measure) == ("x", True, "histogram")
    assert first.part in ("below -1", "below 0", "below 1") and first.z < -7
    assert first.psi > 1 and 0.5 < first.ks < 1
    amount = replace(day, amounts={"calls": 12.0})
    assert next(one for one in compare(known, amount) if one.name == "calls").alarm


def test_a_rare_mark_raises_an_alarm_when_many_records_have_it():
    """Days have between none and a hundred such records, so in log-odds no number of them is unusual."""
    rng = np.random.default_rng(9)

    def days(count, name, some):
        for n in range(count):
            day, marked = MONDAY + timedelta(days=n), int(some * rng.random() * rng.integers(0, 2))
            yield Day(day, 9000, {name: np.array([9000 - marked, marked, 0])}, {})

    def found(name, some):
        day = replace(next(days(1, name, 0)), counts={name: np.array([9000 - some, some, 0])})
        return compare(build_reference("m", {}, list(days(28, name, 100))), day)[0]

    assert found("record shows another number", 600).alarm and found("record shows another number", 600).z > 7
    assert not found("record shows another number", 200).alarm  # fewer than are of account
    assert not found("call_route", 600).alarm  # what callers do comes and goes


def test_a_policy_shock_is_detected_in_a_trade_of_many_callers():
    """A trade falls to a third: once with four hundred callers, once with four who rest on some days."""
    rng = np.random.default_rng(11)

    def days(count, callers, working=1.0):
        for n in range(count):
            calls = rng.lognormal(0.0, 0.9, callers) * (rng.random(callers) < 0.8 * working)
            its = int(900 * calls.sum() / callers)
            counts = {"score in band certified": np.array([9000, its, 0])}
            yield Day(MONDAY + timedelta(days=n), 9000 + its, counts, {})

    def alarms(callers, working):
        for _ in range(20):
            known = build_reference("m", {}, list(days(28, callers)))
            yield any(shift.alarm for shift in compare(known, next(days(1, callers, working))))

    assert not any(alarms(400, 1.0)) and all(alarms(400, 1 / 3))
    assert not any(alarms(4, 1.0)) and sum(alarms(4, 1 / 3)) < 10  # and no system could tell


def test_many_small_shifts_raise_a_combined_alarm():
    """Each of twenty statistics stays within its own limit."""
    rng = np.random.default_rng(6)

    def days(count, by):
        for day in drawn_days(rng, count):
            yield replace(day, amounts={f"a{i}": 5 + 0.1 * rng.normal() + 0.1 * by for i in range(20)})

    known = build_reference("m", {"x": (-1.0, 0.0, 1.0)}, list(days(60, 0.0)))
    quiet = [one for day in days(300, 0.0) for one in compare(known, day) if one.measure == "together"]
    assert len(quiet) == 300 and not any(one.alarm for one in quiet)
    moved = compare(known, next(days(1, 6.0)))
    whole = next(one for one in moved if one.measure == "together")
    assert whole.alarm and whole.z == pytest.approx(
        np.sort([abs(one.z) for one in moved if one is not whole])[-10:].mean()
    )


def test_deviations_are_those_of_one_more_day():
    """A new value of a sample with estimated spread follows Student's law."""
    days = list(drawn_days(np.random.default_rng(8), 30))
    by_kind = {kind: [day.amounts["calls"] for day in days if day.kind == kind] for kind in ("weekday", "weekend")}
    left = [value - np.mean(some) for some in by_kind.values() for value in some]
    spread, same = (sum(one * one for one in left) / 28) ** 0.5, by_kind["weekday"]
    day = replace(next(day for day in days if day.kind == "weekday"), amounts={"calls": 9.2})
    student = (9.2 - np.mean(same)) / (spread * (1 + 1 / len(same)) ** 0.5)
    found = next(one.z for one in compare(build_reference("m", {}, days), day) if one.name == "calls")
    assert found == pytest.approx(stats.norm.isf(stats.t.sf(student, 28)))


def test_few_days_raise_fewer_alarms_than_many():
    """A spread estimated from few days may be too small, so an equal deviation means less."""
    day = replace(next(drawn_days(np.random.default_rng(4), 1)), amounts={"calls": 9.4})
    few, many = ({one.name: one.z for one in compare(drawn(days, 5), day)}["calls"] for days in (7, 70))
    assert 0 < few < many


def test_a_reference_needs_days_but_accepts_one_kind():
    rng = np.random.default_rng(6)
    with pytest.raises(ValueError, match="expected at least 5 whole days, got 4"):
        build_reference("m", {"x": (0.0,)}, list(drawn_days(rng, 4)))
    weekdays = build_reference("m", {"x": (-1.0, 0.0, 1.0)}, list(drawn_days(rng, 5)))
    usual = weekdays.amounts["calls"].usual
    assert usual["weekend"] == usual["weekday"] and usual["weekday"].days == 5


def test_a_statistic_of_few_days_is_in_no_reference():
    first, *others = drawn_days(np.random.default_rng(6), 5)
    some = replace(first, counts=first.counts | {"rare": np.array([1, 2])}, amounts=first.amounts | {"rare": 1.0})
    made = build_reference("m", {"x": (-1.0, 0.0, 1.0)}, [some, *others])
    assert "rare" not in made.histograms.keys() | made.amounts.keys() and "calls" in made.amounts


def test_a_reference_of_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^\S+reference\.json: not found; expected the reference of a run$"):
        read_reference(tmp_path / "reference.json")
    (tmp_path / "reference.json").write_text('{"format": "another"}')
    with pytest.raises(ValueError, match="expected the reference of a run: another format"):
        read_reference(tmp_path / "reference.json")


# ------------------------------------------------------------------------------------------- a run's own
@pytest.fixture(scope="module")
def stretch(dataset, training_run):
    bundle = load(training_run[0] / "bundle", [read_public_key(training_run[0] / "signer.pub")])
    rows = vectors(dataset.calls)
    return ScoredCalls(
        dataset.calls, feed_of_all(rows), bundle.model.predict_raw(rows), dataset.complaints, bundle.thresholds
    )


@pytest.fixture(scope="module")
def known(training_run):
    return read_reference(training_run[0] / "record" / "reference.json")


def test_the_reference_of_a_run_comes_back_and_holds_no_row(training_run, known, stretch, tmp_path):
    assert known.model == training_run[1]["model"]["id"]
    marks = {"record shows another number than the network's", "record stands twice", "record without trunk"}
    assert (set(MONITORED) | marks | {"score", "record's talk", "score in band certified"}) <= set(known.histograms)
    write_reference(known, tmp_path / "again.json")
    assert read_reference(tmp_path / "again.json") == known
    assert (tmp_path / "again.json").read_bytes() == (training_run[0] / "record" / "reference.json").read_bytes()
    # Every cut but those between categories is a value that at least a sixteenth of the calls lie beyond.
    text = (tmp_path / "again.json").read_text()
    for token in stretch.calls["caller"].combine_chunks().dictionary.to_pylist():
        assert token not in text


def test_the_days_of_a_run_are_usual_by_its_reference(known, stretch):
    days = whole_days(stretch.calls)
    assert str(min(days)) == known.first and (min(days) - min(day_slices(stretch.calls))).days == 7
    far = [shift for day, rows in days.items() for shift in compare(known, day_figures(day, rows, stretch, known.cuts))]
    assert not [shift for shift in far if shift.alarm]
    assert histogram_cuts(stretch, days)["out_calls_count_24h"] == known.cuts["out_calls_count_24h"]


@pytest.mark.source("L4", by="training/drift/monitor.py")
@pytest.mark.parametrize(
    "feed",
    ["answered calls only", "attestation is not passed on", "nothing after 18 h", "records come six hours late",
     "talk in seconds instead of milliseconds"],
)  # fmt: skip
def test_a_broken_feed_is_found_on_its_first_day(feed, known, stretch):
    last = sorted(whole_days(stretch.calls))[-1]
    on = int(stretch.calls["day"].to_numpy()[day_slices(stretch.calls)[last].start])
    calls = feed_faults.FEED_FAULTS[feed](stretch.calls, on)
    broken = ScoredCalls(calls, feed_of_all(vectors(calls)), np.full(calls.num_rows, np.nan), stretch.complaints, ())
    for day, alarm in ((last - timedelta(days=1), False), (last, True)):
        found = compare(known, day_figures(day, day_slices(calls)[day], broken, known.cuts))
        assert any(shift.alarm for shift in found) is alarm, [one for one in found if one.alarm]


def test_what_the_certificate_rests_on(training_run, stretch, dataset):
    bundle = load(training_run[0] / "bundle", [read_public_key(training_run[0] / "signer.pub")])
    span = day_slices(stretch.calls)[max(day_slices(stretch.calls))]
    findings = dataset.findings.iloc[:0]
    told = certificate(bundle, stretch, span, findings)
    assert told["at_risk"] == ["the model was never certified"]  # the tiny world has too few calls
    busiest = max(set(words := stretch.calls["caller"].to_pylist()), key=words.count)
    benign = dataset.findings.iloc[:1].assign(number=busiest, nuisance=False)
    all_flagged = replace(stretch, raw=np.full(len(stretch.raw), 99.0))
    told = certificate(bundle, all_flagged, span, benign)
    assert told["of_these_flagged"] == told["calls_of_callers_found_benign"] > 0
    assert any("of callers found benign" in reason for reason in told["at_risk"])
    ended = certificate(replace(bundle, valid_until="2025-01-01T00:00:00Z"), stretch, span, findings)
    assert "it is valid until 2025-01-01T00:00:00Z" in ended["at_risk"]


def test_a_run_is_compared_with_the_one_before_it(training_run, stretch, tmp_path):
    place = run_paths(training_run[0], None, None)
    same = drift_since_last_run(place, stretch)
    assert (same["model"], same["moved"], same["shifts"]) == (training_run[1]["model"]["id"], 0, [])
    rows = stretch.vectors.X.copy()
    rows[:, NAMES.index("out_calls_count_24h")] += 1000
    other = drift_since_last_run(place, replace(stretch, vectors=feed_of_all(rows)))
    assert [one["name"] for one in other["shifts"]] == ["out_calls_count_24h"]
    assert other["shifts"][0]["now"] < 0.01 and 2 * other["shifts"][0]["days"] >= other["days"]
    assert drift_since_last_run(run_paths(tmp_path, None, None), stretch) is None
    assert training_run[1]["drift"] is None


def test_measure_needs_whole_days(stretch):
    few = feed_of_all(stretch.vectors.X[:100])
    short = replace(stretch, calls=stretch.calls.slice(0, 100), vectors=few, raw=stretch.raw[:100])
    with pytest.raises(ValueError, match="expected at least 5 whole days, got 0"):
        measure_reference("m", short)


def test_the_day_and_its_history(stretch):
    calls, last = calls_until(stretch.calls, None)
    assert last == max(day_slices(stretch.calls)) and calls.num_rows == stretch.calls.num_rows
    with pytest.raises(ValueError, match=r"expected calls of at least 7 days before it, from 2025-03-03 on"):
        calls_until(stretch.calls, MONDAY + timedelta(days=3))
    with pytest.raises(ValueError, match="expected a day of the calls"):
        calls_until(stretch.calls, date(2020, 1, 1))
    with pytest.raises(ValueError, match="day: expected a date such as 2026-03-01, got 'soon'"):
        date_of("soon")


def test_the_command(run_command, training_run, world_folder, known, tmp_path):
    words = ("--bundle", training_run[0] / "bundle", "--data", world_folder)
    words += ("--audit", tmp_path / "audit", "--signing-key", training_run[0] / "signing.key")
    code, out, _ = run_command("model", "monitor", *words, "--json")
    told = json.loads(out)
    assert (code == 1) is told["alarm"] is any(one["alarm"] for one in told["shifts"])
    assert told["model"] == training_run[1]["model"]["id"] and len(told["shifts"]) > 150
    code, out, _ = run_command("model", "monitor", *words)
    assert told["day"] in out and "certificate at risk: the model was never certified" in out
    write_reference(replace(known, model="another"), tmp_path / "other.json")
    code, out, err = run_command("model", "monitor", *words, "--reference", tmp_path / "other.json")
    assert (code, out) == (1, "") and "got that of another" in err and err.count("\n") == 1
    (tmp_path / "other.json").write_text(json.dumps(asdict(known)))
    code, _, err = run_command("model", "monitor", *words, "--reference", tmp_path / "other.json")
    assert code == 1 and "expected the reference of a run" in err and err.count("\n") == 1


@pytest.mark.parametrize("alarm", [False, True])
def test_an_alarm_ends_in_code_1(run_command, monkeypatch, alarm):
    monkeypatch.setattr("callsieve.training.drift.monitor.monitor", lambda *_, **_more: {"alarm": alarm})
    code, out, _ = run_command("model", "monitor", "--bundle", "b", "--data", "d", "--json")
    assert (code, json.loads(out)) == (int(alarm), {"alarm": alarm})


def test_the_sample_of_a_large_day_is_always_the_same():
    day, rows = date(2025, 3, 3), slice(100, 100 + 2 * SAMPLE)
    found = day_sample(day, rows)
    assert len(found) == len(set(found.tolist())) == SAMPLE and found.tolist() == sorted(found.tolist())
    assert rows.start <= found[0] and found[-1] < rows.stop
    np.testing.assert_array_equal(found, day_sample(day, rows))
    assert (found != day_sample(day + timedelta(1), rows)).any()
    assert day_sample(day, slice(3, 5)).tolist() == [3, 4]


def test_only_a_rise_of_callers_without_incoming_calls_is_an_alarm():
    def day(n, unsought):
        return Day(MONDAY + timedelta(days=n), 9000, {NOT_CALLED: np.array([9000 - unsought, unsought, 0])}, {})

    rng = np.random.default_rng(4)
    known = build_reference("m", {}, [day(n, int(900 + 200 * rng.random())) for n in range(28)])
    [more], [fewer], [usual] = (compare(known, day(28, some)) for some in (1800, 0, 1000))
    assert more.alarm and (more.part, more.then, more.now) == ("yes", pytest.approx(1 / 9, rel=0.05), 0.2)
    assert (fewer.alarm, fewer.z, usual.alarm) == (False, 0.0, False)


def test_incoming_calls_count_over_the_seven_days_before_each_call(known, stretch):
    day, rows = max(whole_days(stretch.calls).items())
    calls = stretch.calls.select(["caller", "callee", "start", "ring", "talk", "recorded"]).to_pandas()
    over = calls["start"] + calls["ring"].fillna(0) + calls["talk"].fillna(0)
    calls["known"] = calls["recorded"].where(calls["recorded"] > over, calls["start"])
    called = dict(list(calls.groupby(calls["callee"].astype(str))))
    none = 0
    for one in calls.iloc[day_sample(day, rows)].itertuples():
        mine = called.get(str(one.caller), calls.iloc[:0])
        none += not ((mine["start"] >= one.start - 7 * 86_400_000) & (mine["known"] < one.start)).any()
    counts = day_figures(day, rows, stretch, known.cuts).counts[NOT_CALLED]
    assert 0 < none < counts.sum() and counts.tolist() == [counts.sum() - none, none, 0]


def test_the_steadier_a_feature_is_the_less_it_may_move():
    """There are three limits: features of callers vary most, those of callees, devices and pairs least."""
    of = lambda *prefixes: {limit(name) for name in NAMES if name.startswith(prefixes)}
    (restless,), (steady,) = of("out_", "block_", "call_"), of("callee_", "device_", "pair_")
    (other,) = of("in_", "number_", "trunk_")
    assert steady < other < restless
