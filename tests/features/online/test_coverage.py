"""Bands say nothing before a week of calls is known: to a history that has just begun everybody seems new."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.intake.intake import Intake
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.online.coverage import call_days, covered_rows, is_covered
from callsieve.features.online.history import History
from callsieve.features.records import Call
from callsieve.serving.batch.score import rows_with_history, score_calls
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.live.verdict_log import record_from_line, record_to_line, verdict_record
from callsieve.serving.rules.policy import ACTIONS, Policy
from callsieve.serving.scorer.verdict import FILLING
from tests.support import real_bundle

MOMENTS = st.lists(st.integers(100 * DAY_MS, 125 * DAY_MS - 1), min_size=1, max_size=30)
SECONDS = DAY_MS // 1000
POLICY = Policy("t", {"certified": "block", "watch": "label"}, {"authentication_failed": "label"}, appeal="office")


def by_hand(starts, at, wanted):
    """No code shared: calendar days as numbers, counted one by one."""
    days, today = {start // DAY_MS for start in starts}, at // DAY_MS
    if wanted == 0:
        return True
    before = [day for day in days if today - wanted <= day < today]
    return min(days) + wanted <= today and len(before) >= wanted * 5 / 7


@given(MOMENTS, st.sampled_from([0, 1, 7, 14]))
def test_enough_is_known_if_most_days_have_calls_and_they_began_before(starts, wanted):
    starts = np.array(sorted(starts))
    expected = [by_hand(starts.tolist(), at, wanted) for at in starts.tolist()]
    assert covered_rows(starts, call_days(starts), wanted).tolist() == expected
    first = int(starts[0]) // DAY_MS
    assert [is_covered(call_days(starts), first, at, wanted) for at in starts.tolist()] == expected


def test_an_office_that_is_closed_at_weekends_is_known_and_one_that_was_away_is_not():
    worked = [day for day in range(100, 121) if day % 7 < 5]
    assert is_covered(set(worked), 100, 121 * DAY_MS)
    away = {day for day in worked if not 110 <= day < 117}
    assert (
        not is_covered(away, 100, 117 * DAY_MS) and is_covered(away | {117, 118, 119, 120}, 100, 124 * DAY_MS) is False
    )
    assert not is_covered(set(), 0, 124 * DAY_MS) and is_covered({100}, 100, 99 * DAY_MS, wanted=0)


@given(MOMENTS, MOMENTS)
def test_a_history_knows_the_days_of_its_calls_in_any_order_and_after_it_was_saved(tmp_path_factory, starts, asked):
    history, intake = History(calls=100, numbers=100), Intake(real_bundle.NUMBER_KEY)
    assert not history.filled(asked[0])
    for start in starts:
        history.observe(intake(Call(start / 1000, "13800138000", "13900139000")))
    path = tmp_path_factory.mktemp("filled") / "history"
    history.save(path)
    loaded = History.load(path)
    for at in asked:
        assert history.filled(at) == loaded.filled(at) == by_hand(starts, at, 7)


def test_a_history_that_has_too_little_room_is_not_filled(tmp_path):
    """It forgets calls before their time, and takes whoever made them for new."""
    intake = Intake(real_bundle.NUMBER_KEY)
    calls = [intake(Call((100 + n / 10) * SECONDS, f"138001380{n % 7:02}", "13900139000")) for n in range(100)]
    enough, few = History(calls=100, numbers=100), History(calls=60, numbers=100)
    for call in calls:
        enough.observe(call)
        few.observe(call)
    at = calls[-1].start + 1000
    assert enough.filled(at) and not few.filled(at) and few.filled(at, 5)  # calls of six days are known
    assert (enough.dropped, few.dropped) == (0, 40)
    few.save(tmp_path / "few")
    assert not History.load(tmp_path / "few").filled(at)


def test_a_snapshot_of_an_earlier_version_is_taken_to_be_filled(tmp_path, monkeypatch):
    history, intake = History(calls=100, numbers=100), Intake(real_bundle.NUMBER_KEY)
    history.observe(intake(Call(100.5 * SECONDS, "13800138000", "13900139000")))
    from callsieve.features.online import snapshot

    write = snapshot.write
    monkeypatch.setattr(
        snapshot, "write", lambda path, facts, *more: write(path, {k: facts[k] for k in facts if k != "days"}, *more)
    )
    history.save(tmp_path / "history")
    loaded = History.load(tmp_path / "history")
    assert loaded.filled(100 * DAY_MS) and loaded.filled(101 * DAY_MS) and not loaded.filled(110 * DAY_MS)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    real_bundle.write_bundle(folder)
    return real_bundle.load_scorer(folder, POLICY)


@pytest.fixture(scope="module")
def calls():
    """Two weeks of calls, some of which fail authentication."""
    return [
        replace(call, attestation="failed") if n % 7 == 0 else call for n, call in enumerate(real_bundle.calls(600))
    ]


def test_one_by_one_says_what_a_table_says_and_bands_say_nothing_before(scorer, calls):
    table, history, intake = real_bundle.key_table(calls), History(), Intake(real_bundle.NUMBER_KEY)
    scores, _ = score_calls(scorer, table, threads=1)
    filled = rows_with_history(table, POLICY.history_days)
    verdicts = []
    for call in calls:
        keyed = intake(call)
        verdicts.append(scorer.score(history, keyed))
        history.observe(keyed)
    assert [verdict.status == FILLING for verdict in verdicts] == (~filled).tolist()
    assert [verdict.action for verdict in verdicts] == [ACTIONS[code] for code in scores.action]
    assert [verdict.raw for verdict in verdicts] == scores.raw.tolist()
    before = [verdict for verdict, known in zip(verdicts, filled, strict=True) if not known]
    assert {verdict.band for verdict in before} == {""} and {verdict.action for verdict in before} == {"pass", "label"}
    assert all(verdict.rules for verdict in before if verdict.action == "label")
    assert {verdict.band for verdict in verdicts} > {""}
    lowest = min(band.threshold for band in scorer.bundle.thresholds)
    assert any(verdict.raw >= lowest for verdict in before)  # bands would have spoken


def test_a_case_of_then_is_made_again(scorer, calls):
    history, intake = History(), Intake(real_bundle.NUMBER_KEY)
    made = set()
    for call in calls:
        keyed = intake(call)
        row, verdict = history.row(keyed), scorer.score(history, keyed)
        history.observe(keyed)
        if verdict.action != "pass":
            made.add(verdict.status)
            found = record_from_line(record_to_line(verdict_record(verdict, keyed, row, scorer)))
            assert rescore(found, scorer).differences == ()
    assert made == {FILLING, "ok"}


@pytest.mark.parametrize("days", ["-1", "29", "7.0", '"7"', "true"])
def test_a_policy_asks_for_whole_days(tmp_path, days):
    from callsieve.serving.rules.policy import read_policy

    (tmp_path / "policy.toml").write_text(f'version = "1"\nhistory_days = {days}\n[bands]\n')
    with pytest.raises(ValueError, match="history_days: expected a whole number from 0 to 28, got"):
        read_policy(tmp_path / "policy.toml")
