"""Bands abstain until the history reaches back a week: to a new history every caller looks new."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features import Call, History, Intake
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.online.coverage import call_days, covered_rows, is_covered
from callsieve.serving.batch.file_scoring import rows_with_history, score_calls
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.live.verdict_log import record_from_line, record_to_line, verdict_record
from callsieve.serving.rules.policy import ACTIONS, Policy
from tests.support import real_bundle

TIMES = st.lists(st.integers(100 * DAY_MS, 125 * DAY_MS - 1), min_size=1, max_size=30)
SECONDS = DAY_MS // 1000
POLICY = Policy("t", {"certified": "block", "watch": "label"}, {"authentication_failed": "label"}, appeal="office")


def expected_coverage(starts, at, period):
    """Recomputes coverage from calendar days, without shared code."""
    days, today = {start // DAY_MS for start in starts}, at // DAY_MS
    if period == 0:
        return True
    busy = [day for day in days if today - period <= day < today]
    return min(days) + period <= today and len(busy) >= period * 5 / 7


@given(TIMES, st.sampled_from([0, 1, 7, 14]))
def test_covered_if_records_began_before_the_period_and_most_days_have_calls(starts, period):
    starts = np.array(sorted(starts))
    expected = [expected_coverage(starts.tolist(), at, period) for at in starts.tolist()]
    assert covered_rows(starts, call_days(starts), period).tolist() == expected
    first = int(starts[0]) // DAY_MS
    assert [is_covered(call_days(starts), first, at, period) for at in starts.tolist()] == expected


def test_a_gap_of_a_weekend_is_covered_and_a_gap_of_a_week_is_not():
    working_days = [day for day in range(100, 121) if day % 7 < 5]
    assert is_covered(set(working_days), 100, 121 * DAY_MS)
    with_gap = {day for day in working_days if not 110 <= day < 117}
    assert not is_covered(with_gap, 100, 117 * DAY_MS)
    assert is_covered(with_gap | {117, 118, 119, 120}, 100, 124 * DAY_MS) is False
    assert not is_covered(set(), 0, 124 * DAY_MS) and is_covered({100}, 100, 99 * DAY_MS, wanted=0)


@pytest.mark.system
@given(TIMES, TIMES)
def test_coverage_is_the_same_for_calls_in_any_order_and_after_save_and_load(tmp_path_factory, starts, queries):
    history, intake = History(calls=100, numbers=100), Intake(real_bundle.NUMBER_KEY)
    assert not history.covers(queries[0])
    for start in starts:
        history.observe(intake(Call(start / 1000, "13800138000", "13900139000")))
    path = tmp_path_factory.mktemp("filled") / "history"
    history.save(path)
    loaded = History.load(path)
    for at in queries:
        assert history.covers(at) == loaded.covers(at) == expected_coverage(starts, at, 7)


def test_a_history_that_drops_calls_is_not_covered(tmp_path):
    """A dropped call makes its caller look new."""
    intake = Intake(real_bundle.NUMBER_KEY)
    calls = [intake(Call((100 + n / 10) * SECONDS, f"138001380{n % 7:02}", "13900139000")) for n in range(100)]
    large, small = History(calls=100, numbers=100), History(calls=60, numbers=100)
    for call in calls:
        large.observe(call)
        small.observe(call)
    at = calls[-1].start + 1000
    assert large.covers(at) and not small.covers(at) and small.covers(at, 5)  # six days are covered
    assert (large.dropped, small.dropped) == (0, 40)
    small.save(tmp_path / "small")
    assert not History.load(tmp_path / "small").covers(at)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    real_bundle.write_bundle(folder)
    return real_bundle.load_scorer(folder, POLICY)


@pytest.fixture(scope="module")
def calls():
    """Two weeks of calls, every seventh with failed authentication."""
    return [
        replace(call, attestation="failed") if n % 7 == 0 else call for n, call in enumerate(real_bundle.calls(600))
    ]


def test_online_and_table_agree_and_bands_abstain_without_coverage(scorer, calls):
    table = real_bundle.key_table(calls)
    scores, _ = score_calls(scorer, table, threads=1)
    covered = rows_with_history(table, POLICY.history_days)
    verdicts = real_bundle.replayed(scorer, real_bundle.key_calls(calls))
    assert [verdict.status == "filling" for verdict in verdicts] == (~covered).tolist()
    assert [verdict.action for verdict in verdicts] == [ACTIONS[code] for code in scores.action]
    raw = np.array([verdict.raw for verdict in verdicts])
    assert scores.raw.tolist() == np.where(covered, raw, -np.inf).tolist()
    np.testing.assert_array_equal([verdict.score for verdict in verdicts], scores.score)
    assert np.isnan(scores.score).tolist() == (~covered).tolist()
    uncovered = [verdict for verdict, is_known in zip(verdicts, covered, strict=True) if not is_known]
    assert {verdict.band for verdict in uncovered} == {""}
    assert {verdict.action for verdict in uncovered} == {"pass", "label"}
    assert all(verdict.rules for verdict in uncovered if verdict.action == "label")
    assert {verdict.band for verdict in verdicts} > {""}
    lowest = min(band.threshold for band in scorer.bundle.thresholds)
    assert any(verdict.raw >= lowest for verdict in uncovered)  # with coverage, a band would have matched


def test_cases_without_coverage_are_rescored_alike(scorer, calls):
    history, intake = History(), Intake(real_bundle.NUMBER_KEY)
    statuses = set()
    for call in calls:
        keyed = intake(call)
        row, verdict = history.row(keyed), scorer.score(history, keyed)
        history.observe(keyed)
        if verdict.action != "pass":
            statuses.add(verdict.status)
            record = record_from_line(record_to_line(verdict_record(verdict, keyed, row, scorer)))
            assert rescore(record, scorer).differences == ()
    assert statuses == {"filling", "scored"}


@pytest.mark.parametrize("days", ["-1", "29", "7.0", '"7"', "true"])
def test_a_policy_requires_whole_days(tmp_path, days):
    from callsieve.serving.rules.policy import read_policy

    (tmp_path / "policy.toml").write_text(f'version = "1"\nhistory_days = {days}\n[bands]\n')
    with pytest.raises(ValueError, match="history_days: expected `int`"):
        read_policy(tmp_path / "policy.toml")
