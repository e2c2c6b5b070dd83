"""Drift: the content of a reference, no alarm on usual days, and a named alarm on shifted days."""

import itertools
import json
import math
import shutil
from dataclasses import asdict, replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from scipy import stats

from callsieve.features.catalogue import NAMES
from callsieve.features.offline.table import vectors
from callsieve.features.online.feeds import COMPLETE, NO_RING_TIME, OUTGOING_ONLY
from callsieve.serving.bundle.bundle import load
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.scorer.status import MESSAGES
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
from callsieve.training.drift.monitor import calls_until, certificate, compare, limit, resembles
from callsieve.training.drift.reference import (
    REFERENCE,
    build_reference,
    ks,
    measure_reference,
    psi,
    read_reference,
    shares,
    watched_shares,
    write_reference,
)
from callsieve.training.model.folds import SAMPLE, day_sample, day_slices, whole_days
from callsieve.training.world import write_world
from tests.support.calls import feed_faults
from tests.support.calls.lacks import without

MONDAY = date(2025, 3, 3)


# ------------------------------------------------------------------------------------------- figures of a day
@given(st.lists(st.floats(-9, 9) | st.just(float("nan")), min_size=1, max_size=60),
       st.lists(st.floats(-9, 9), unique=True, max_size=8).map(sorted))  # fmt: skip
def test_a_histogram_counts_every_value_once(values, cuts):
    counts = histogram(np.array(values), cuts)
    numbers = [value for value in values if not math.isnan(value)]
    edges = [-np.inf, *cuts, np.inf]
    expected = [sum(low <= value < high for value in numbers) for low, high in itertools.pairwise(edges)]
    assert counts.tolist() == [*expected, len(values) - len(numbers)]
    below, whole = watched_shares(counts, ordered=True)
    assert below.tolist() == [*(sum(value < cut for value in numbers) for cut in cuts), len(values) - len(numbers)]
    assert (whole == len(values)).all()


@given(st.lists(st.integers(0, 50), min_size=4, max_size=40), st.lists(st.integers(0, 50), min_size=4, max_size=40))
def test_ks_of_histograms_is_that_of_the_samples(first, second):
    """The samples are whole numbers, and a cut lies between any two of them."""
    cuts = [n + 0.5 for n in range(50)]
    histograms = [histogram(np.array(values, dtype=float), cuts) for values in (first, second)]
    expected = stats.ks_2samp(first, second, method="asymp").statistic
    assert ks(*(counts / counts.sum() for counts in histograms)) == pytest.approx(expected)
    assert psi(*(shares(counts) for counts in histograms)) >= 0
    assert psi(shares(histograms[0]), shares(histograms[0])) == 0


def test_psi_is_the_sum_of_both_relative_entropies():
    first, second = np.array([0.2, 0.3, 0.5]), np.array([0.1, 0.6, 0.3])
    assert psi(first, second) == pytest.approx(stats.entropy(first, second) + stats.entropy(second, first))


def test_cuts_are_distinct_quantiles():
    assert quantiles(np.zeros(9)) == quantiles(np.full(9, np.nan)) == ()
    assert quantiles(np.array([0.0] * 99 + [1.0])) == ()
    assert quantiles(np.arange(1600.0)) == pytest.approx(np.arange(100, 1600, 100), abs=1)


# ------------------------------------------------------------------------------------------- usual days
def drawn_days(rng, days, weekend_share=0.5, shift=0.0):
    """Days with one ordered statistic and one amount; the mean varies by day and differs on weekends."""
    for n in range(days):
        day = MONDAY + timedelta(days=n)
        mean = 0.1 * rng.normal() + (weekend_share if day.weekday() >= 5 else 0.0) + shift
        counts = {"x": histogram(rng.normal(mean, 1.0, 4000), (-1.0, 0.0, 1.0))}
        amount = 9 + 0.05 * rng.normal() - (0.9 if day.weekday() >= 5 else 0.0)
        yield Day(day, 4000, counts, {"calls": amount})


def drawn_reference(days=28, seed=0):
    return build_reference("m", {"x": (-1.0, 0.0, 1.0)}, list(drawn_days(np.random.default_rng(seed), days)))


def test_usual_days_and_weekends_raise_no_alarm():
    rng = np.random.default_rng(1)
    reference = drawn_reference()
    far = [shift for day in drawn_days(rng, 700) for shift in compare(reference, day)]
    assert not any(shift["alarm"] for shift in far)
    # Deviations have a normal distribution.
    assert 0.6 < np.std([shift["z"] for shift in far if shift["measure"] == "amount"]) < 1.4


def test_a_weekday_like_a_weekend_resembles_a_weekend():
    reference = drawn_reference()
    saturday = next(day for day in drawn_days(np.random.default_rng(2), 7) if day.kind == "weekend")
    assert resembles(reference, saturday) == "weekend"
    wednesday = replace(saturday, date=MONDAY + timedelta(days=2))
    assert wednesday.kind == "weekday" and resembles(reference, wednesday) == "weekend"
    assert {shift["name"] for shift in compare(reference, wednesday) if shift["alarm"]} == {"calls"}  # about half


def test_a_shift_names_its_part_and_size():
    reference = drawn_reference()
    day = next(drawn_days(np.random.default_rng(3), 1, shift=2.5))
    first = compare(reference, day)[0]
    assert (first["name"], first["alarm"], first["measure"]) == ("x", True, "histogram")
    assert first["part"] in ("below -1", "below 0", "below 1") and first["z"] < -7
    assert first["psi"] > 1 and 0.5 < first["ks"] < 1
    amount = replace(day, amounts={"calls": 12.0})
    assert next(shift for shift in compare(reference, amount) if shift["name"] == "calls")["alarm"]


def test_a_rare_mark_raises_an_alarm_when_many_records_have_it():
    """Usual days have 0 to 100 such records, so in log-odds no number of them is unusual."""
    rng = np.random.default_rng(9)

    def days(count, name, most):
        for n in range(count):
            day, marked = MONDAY + timedelta(days=n), int(most * rng.random() * rng.integers(0, 2))
            yield Day(day, 9000, {name: np.array([9000 - marked, marked, 0])}, {})

    def top_shift(name, marked):
        day = replace(next(days(1, name, 0)), counts={name: np.array([9000 - marked, marked, 0])})
        return compare(build_reference("m", {}, list(days(28, name, 100))), day)[0]

    assert (
        top_shift("record shows another number", 600)["alarm"]
        and top_shift("record shows another number", 600)["z"] > 7
    )
    assert not top_shift("record shows another number", 200)["alarm"]  # the share moves by less than MIN_MOVE
    assert not top_shift("call_route", 600)["alarm"]  # the behaviour of callers varies on normal days


def test_a_drop_of_a_trade_is_detected_if_it_has_many_callers():
    """The calls of a trade fall to a third: once with 400 callers, once with 4 callers who pause on some days."""
    rng = np.random.default_rng(11)

    def days(count, callers, working=1.0):
        for n in range(count):
            calls = rng.lognormal(0.0, 0.9, callers) * (rng.random(callers) < 0.8 * working)
            flagged = int(900 * calls.sum() / callers)
            counts = {"score in band certified": np.array([9000, flagged, 0])}
            yield Day(MONDAY + timedelta(days=n), 9000 + flagged, counts, {})

    def alarms(callers, working):
        for _ in range(20):
            reference = build_reference("m", {}, list(days(28, callers)))
            yield any(shift["alarm"] for shift in compare(reference, next(days(1, callers, working))))

    assert not any(alarms(400, 1.0)) and all(alarms(400, 1 / 3))
    assert not any(alarms(4, 1.0)) and sum(alarms(4, 1 / 3)) < 10  # 4 callers vary too much to tell


def test_many_small_shifts_raise_a_combined_alarm():
    """Each of twenty statistics stays within its own limit."""
    rng = np.random.default_rng(6)

    def days(count, by):
        for day in drawn_days(rng, count):
            yield replace(day, amounts={f"a{i}": 5 + 0.1 * rng.normal() + 0.1 * by for i in range(20)})

    reference = build_reference("m", {"x": (-1.0, 0.0, 1.0)}, list(days(60, 0.0)))
    quiet = [shift for day in days(300, 0.0) for shift in compare(reference, day) if shift["measure"] == "together"]
    assert len(quiet) == 300 and not any(shift["alarm"] for shift in quiet)
    shifts = compare(reference, next(days(1, 6.0)))
    combined = next(shift for shift in shifts if shift["measure"] == "together")
    largest = np.sort([abs(shift["z"]) for shift in shifts if shift is not combined])[-10:]
    assert combined["alarm"] and combined["z"] == pytest.approx(largest.mean())


def test_the_deviation_of_a_new_day_follows_student_s_law():
    """The spread is estimated from the days of the reference."""
    days = list(drawn_days(np.random.default_rng(8), 30))
    by_kind = {kind: [day.amounts["calls"] for day in days if day.kind == kind] for kind in ("weekday", "weekend")}
    residuals = [value - np.mean(amounts) for amounts in by_kind.values() for value in amounts]
    spread, same = (sum(residual**2 for residual in residuals) / 28) ** 0.5, by_kind["weekday"]
    day = replace(next(day for day in days if day.kind == "weekday"), amounts={"calls": 9.2})
    student = (9.2 - np.mean(same)) / (spread * (1 + 1 / len(same)) ** 0.5)
    z = next(shift["z"] for shift in compare(build_reference("m", {}, days), day) if shift["name"] == "calls")
    assert z == pytest.approx(stats.norm.isf(stats.t.sf(student, 28)))


def test_few_days_give_smaller_deviations_than_many():
    """A spread estimated from few days can be too small, so the same value counts less."""
    day = replace(next(drawn_days(np.random.default_rng(4), 1)), amounts={"calls": 9.4})
    few, many = (
        {shift["name"]: shift["z"] for shift in compare(drawn_reference(days, 5), day)}["calls"] for days in (7, 70)
    )
    assert 0 < few < many


def test_a_reference_needs_five_days_but_accepts_weekdays_alone():
    rng = np.random.default_rng(6)
    with pytest.raises(ValueError, match="expected at least 5 whole days, got 4"):
        build_reference("m", {"x": (0.0,)}, list(drawn_days(rng, 4)))
    weekdays = build_reference("m", {"x": (-1.0, 0.0, 1.0)}, list(drawn_days(rng, 5)))
    usual = weekdays.amounts["calls"].usual
    assert usual["weekend"] == usual["weekday"] and usual["weekday"].days == 5


def test_a_reference_leaves_out_a_statistic_of_few_days():
    first, *others = drawn_days(np.random.default_rng(6), 5)
    some = replace(first, counts=first.counts | {"rare": np.array([1, 2])}, amounts=first.amounts | {"rare": 1.0})
    reference = build_reference("m", {"x": (-1.0, 0.0, 1.0)}, [some, *others])
    assert "rare" not in reference.histograms.keys() | reference.amounts.keys() and "calls" in reference.amounts


def test_a_reference_of_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^\S+reference\.json: not found; expected the reference of a run$"):
        read_reference(tmp_path / "reference.json")
    (tmp_path / "reference.json").write_text('{"format": "another"}')
    with pytest.raises(ValueError, match=r"expected the reference of a run: .*format"):
        read_reference(tmp_path / "reference.json")


# ------------------------------------------------------------------------------------------- the reference of a run
@pytest.fixture(scope="module")
def run_calls(dataset, training_run):
    bundle = load(training_run[0] / "bundle", [read_public_key(training_run[0] / "signer.pub")])
    rows = vectors(dataset.calls)
    return ScoredCalls(
        dataset.calls, feed_of_all(rows), bundle.model.predict_raw(rows), dataset.complaints, bundle.thresholds
    )


@pytest.fixture(scope="module")
def reference(training_run):
    return read_reference(training_run[0] / "record" / "reference.json")


def test_a_reference_survives_a_round_trip_and_has_no_caller(training_run, reference, run_calls, tmp_path):
    assert reference.model == training_run[1]["model"]["id"]
    marks = {"record shows another number than the network's", "record stands twice", "record without trunk"}
    assert (set(MONITORED) | marks | {"score", "record's talk", "score in band certified"}) <= set(reference.histograms)
    write_reference(reference, tmp_path / "again.json")
    assert read_reference(tmp_path / "again.json") == reference
    assert (tmp_path / "again.json").read_bytes() == (training_run[0] / "record" / "reference.json").read_bytes()
    # At least a sixteenth of the calls lie beyond each cut, except cuts between categories.
    text = (tmp_path / "again.json").read_text()
    for token in run_calls.calls["caller"].combine_chunks().dictionary.to_pylist():
        assert token not in text


def test_the_days_of_a_run_are_usual_by_its_reference(reference, run_calls):
    days = whole_days(run_calls.calls)
    assert str(min(days)) == reference.first and (min(days) - min(day_slices(run_calls.calls))).days == 7
    for day, rows in days.items():
        shifts = compare(reference, day_figures(day, rows, run_calls, reference.cuts))
        assert not [shift for shift in shifts if shift["alarm"]]
    assert histogram_cuts(run_calls, days)["out_calls_count_24h"] == reference.cuts["out_calls_count_24h"]


@pytest.mark.source("L4", by="training/drift/monitor.py")
@pytest.mark.parametrize(
    "feed",
    ["answered calls only", "attestation is not passed on", "nothing after 18 h", "records come six hours late",
     "talk in seconds instead of milliseconds"],
)  # fmt: skip
def test_a_broken_feed_raises_an_alarm_on_its_first_day(feed, reference, run_calls):
    last = sorted(whole_days(run_calls.calls))[-1]
    on = int(run_calls.calls["day"].to_numpy()[day_slices(run_calls.calls)[last].start])
    calls = feed_faults.FEED_FAULTS[feed](run_calls.calls, on)
    broken = ScoredCalls(calls, feed_of_all(vectors(calls)), np.full(calls.num_rows, np.nan), run_calls.complaints, ())
    for day, alarm in ((last - timedelta(days=1), False), (last, True)):
        shifts = compare(reference, day_figures(day, day_slices(calls)[day], broken, reference.cuts))
        alarms = [shift for shift in shifts if shift["alarm"]]
        assert bool(alarms) is alarm, alarms


@pytest.mark.parametrize("lack", [OUTGOING_ONLY, NO_RING_TIME])
def test_a_day_on_another_feed_is_an_alarm(lack, reference, world, run_command, training_run, run_key, tmp_path):
    write_world(replace(world, calls=without(world.calls, (lack,))), tmp_path / "poorer")
    words = ("model", "monitor", "--bundle", training_run[0] / "bundle", "--data", tmp_path / "poorer")
    words += ("--audit", tmp_path / "audit", "--signing-key", run_key)
    code, out, _ = run_command(*words, "--json")
    figures = json.loads(out)
    assert (code, figures["alarm"], figures["feed"], figures["reference_feed"]) == (1, True, lack, COMPLETE)
    assert reference.feed == COMPLETE
    assert figures["certificate"]["status"] == "other_feed"
    assert (
        MESSAGES["other_feed"] in figures["certificate"]["at_risk"] and figures["certificate"]["of_these_flagged"] == 0
    )
    assert not any(shift["name"].startswith("score in band") for shift in figures["shifts"])
    assert f"ALARM: the feed of the day is {lack!r}" in run_command(*words)[1]


def test_the_feed_of_a_reference_is_that_of_most_of_its_days():
    days = list(drawn_days(np.random.default_rng(3), 7))
    days[:3] = [replace(day, feed=NO_RING_TIME) for day in days[:3]]
    assert build_reference("m", {}, days).feed == COMPLETE
    days[3:5] = [replace(day, feed=NO_RING_TIME) for day in days[3:5]]
    assert build_reference("m", {}, days).feed == NO_RING_TIME


def test_the_certificate_names_its_risks(training_run, run_calls, dataset):
    bundle = load(training_run[0] / "bundle", [read_public_key(training_run[0] / "signer.pub")])
    span = day_slices(run_calls.calls)[max(day_slices(run_calls.calls))]
    findings = dataset.findings.iloc[:0]
    figures = certificate(bundle, run_calls, span, findings)
    assert figures["at_risk"] == ["the model was never certified"]  # the tiny world has too few calls
    busiest = max(set(words := run_calls.calls["caller"].to_pylist()), key=words.count)
    benign = dataset.findings.iloc[:1].assign(number=busiest, nuisance=False)
    all_flagged = replace(run_calls, raw=np.full(len(run_calls.raw), 99.0))
    figures = certificate(bundle, all_flagged, span, benign)
    assert figures["of_these_flagged"] == figures["calls_of_callers_found_benign"] > 0
    assert any("of callers found innocent" in reason for reason in figures["at_risk"]) and figures["flagged_too_often"]
    expired = certificate(structs.replace(bundle, valid_until="2025-01-01T00:00:00Z"), run_calls, span, findings)
    assert expired["status"] == "stale"
    assert f"{MESSAGES['stale']} (valid until 2025-01-01T00:00:00Z)" in expired["at_risk"]


def test_a_measured_reference_needs_whole_days(run_calls):
    few = feed_of_all(run_calls.vectors.X[:100])
    short = replace(run_calls, calls=run_calls.calls.slice(0, 100), vectors=few, raw=run_calls.raw[:100])
    with pytest.raises(ValueError, match="expected at least 5 whole days, got 0"):
        measure_reference("m", short)


def test_a_monitored_day_needs_seven_days_of_history(run_calls):
    calls, last = calls_until(run_calls.calls, None)
    assert last == max(day_slices(run_calls.calls)) and calls.num_rows == run_calls.calls.num_rows
    with pytest.raises(ValueError, match=r"expected calls of at least 7 days before it, from 2025-03-03 on"):
        calls_until(run_calls.calls, MONDAY + timedelta(days=3))
    with pytest.raises(ValueError, match="expected a day of the calls"):
        calls_until(run_calls.calls, date(2020, 1, 1))


def test_the_command_refuses_a_reference_of_another_model(
    run_command, training_run, run_key, world_folder, reference, tmp_path
):
    for name in ("bundle", "record"):
        shutil.copytree(training_run[0] / name, tmp_path / name)
    words = ("--bundle", tmp_path / "bundle", "--trust", training_run[0] / "signer.pub", "--data", world_folder)
    words += ("--audit", tmp_path / "audit", "--signing-key", run_key)
    code, out, _ = run_command("model", "monitor", *words, "--json")
    figures = json.loads(out)
    drifted = any(shift["alarm"] for shift in figures["shifts"])
    assert (code == 1) is figures["alarm"] is (drifted or figures["certificate"]["flagged_too_often"])
    assert figures["model"] == training_run[1]["model"]["id"] and len(figures["shifts"]) > 150
    code, out, _ = run_command("model", "monitor", *words)
    assert figures["day"] in out and "certificate at risk: the model was never certified" in out
    other = tmp_path / "record" / REFERENCE
    write_reference(replace(reference, model="another"), other)
    code, out, err = run_command("model", "monitor", *words)
    assert (code, out) == (1, "") and "got that of another" in err and err.count("\n") == 1
    other.write_text(json.dumps(asdict(reference) | {"format": 3}))
    code, _, err = run_command("model", "monitor", *words)
    assert code == 1 and "expected the reference of a run" in err and err.count("\n") == 1


@pytest.mark.parametrize("alarm", [False, True])
def test_an_alarm_exits_with_1(command_error, run_command, monkeypatch, alarm):
    monkeypatch.setattr("callsieve.training.drift.monitor.monitor", lambda *_, **_more: {"alarm": alarm})
    words = ("model", "monitor", "--bundle", "b", "--data", "d", "--json")
    code, out, _ = run_command(*words)
    assert (code, json.loads(out)) == (int(alarm), {"alarm": alarm})
    assert "--day: expected a day such as 2026-03-01, got 'soon'" in command_error(*words, "--day", "soon")


def test_the_sample_of_a_large_day_is_deterministic():
    day, rows = date(2025, 3, 3), slice(100, 100 + 2 * SAMPLE)
    sample = day_sample(day, rows)
    assert len(sample) == len(set(sample.tolist())) == SAMPLE and sample.tolist() == sorted(sample.tolist())
    assert rows.start <= sample[0] and sample[-1] < rows.stop
    np.testing.assert_array_equal(sample, day_sample(day, rows))
    assert (sample != day_sample(day + timedelta(1), rows)).any()
    assert day_sample(day, slice(3, 5)).tolist() == [3, 4]


def test_only_a_rise_of_callers_without_incoming_calls_is_an_alarm():
    def day(n, not_called):
        return Day(MONDAY + timedelta(days=n), 9000, {NOT_CALLED: np.array([9000 - not_called, not_called, 0])}, {})

    rng = np.random.default_rng(4)
    reference = build_reference("m", {}, [day(n, int(900 + 200 * rng.random())) for n in range(28)])
    [more], [fewer], [usual] = (compare(reference, day(28, not_called)) for not_called in (1800, 0, 1000))
    assert more["alarm"] and (more["part"], more["then"], more["now"]) == ("yes", pytest.approx(1 / 9, rel=0.05), 0.2)
    assert (fewer["alarm"], fewer["z"], usual["alarm"]) == (False, 0.0, False)


def test_incoming_calls_count_over_the_seven_days_before_each_call(reference, run_calls):
    day, rows = max(whole_days(run_calls.calls).items())
    calls = run_calls.calls.select(["caller", "callee", "start", "ring", "talk", "recorded"]).to_pandas()
    over = calls["start"] + calls["ring"].fillna(0) + calls["talk"].fillna(0)
    calls["known"] = calls["recorded"].where(calls["recorded"] > over, calls["start"])
    called = dict(list(calls.groupby(calls["callee"].astype(str))))
    none = 0
    for call in calls.iloc[day_sample(day, rows)].itertuples():
        incoming = called.get(str(call.caller), calls.iloc[:0])
        none += not ((incoming["start"] >= call.start - 7 * 86_400_000) & (incoming["known"] < call.start)).any()
    counts = day_figures(day, rows, run_calls, reference.cuts).counts[NOT_CALLED]
    assert 0 < none < counts.sum() and counts.tolist() == [counts.sum() - none, none, 0]


def test_a_steadier_feature_has_a_lower_limit():
    """There are three limits: features of callers vary most, those of callees, devices and pairs least."""
    of = lambda *prefixes: {limit(name) for name in NAMES if name.startswith(prefixes)}
    (restless,), (steady,) = of("out_", "block_", "call_"), of("callee_", "device_", "pair_")
    (other,) = of("in_", "number_", "trunk_")
    assert steady < other < restless
