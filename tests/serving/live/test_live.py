"""Live: events give the same verdicts as a table, and a restarted process restores the state of the last one."""

import contextlib
import dataclasses
import functools
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from zlib import crc32

import pytest
from hypothesis import given

from callsieve.features import FEATURES, Call, Intake
from callsieve.features.catalogue import NAMES
from callsieve.features.offline.table import vectors
from callsieve.serving import ClearedCallers, Fact, Scorer, Swap
from callsieve.serving.bundle.metadata import Level
from callsieve.serving.http.metrics import metrics
from callsieve.serving.live import calls_in_progress, journal, snapshots
from callsieve.serving.live import live as live_module
from callsieve.serving.live import memory as memory_module
from callsieve.serving.live.cleared_callers import write_cleared
from callsieve.serving.live.clock import SETTLED, Clock
from callsieve.serving.live.events import CALLS, Complaint, call_from_line, call_to_line, read_complaints
from callsieve.serving.live.journal import Journal, file_numbers
from callsieve.serving.live.live import COUNTERS, FutureEventError
from callsieve.serving.live.memory import Limits
from callsieve.serving.live.snapshots import lock_folder, snapshot_numbers, unlock_folder
from callsieve.serving.live.verdict_log import explain_record, verdict_record
from callsieve.serving.scorer.flags import EVENTS, Flags
from callsieve.serving.scorer.network_scores import NetworkScores
from callsieve.serving.scorer.verdict import case_id
from tests.support import live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.calls import strategies
from tests.support.errors import raising, refused
from tests.support.http_service import NUMBER, STRICT_POLICY
from tests.support.live_states import attempt_of, begin, events, play, probes, state
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def swap(bundle_folder):
    return live_states.loaded(bundle_folder, policy=STRICT_POLICY)


@pytest.fixture(scope="module")
def calls():
    return real_bundle.calls(200)


@pytest.fixture
def start(swap, tmp_path):
    """Begins live states in folders below `tmp_path`, and closes them after the test."""
    with contextlib.ExitStack() as at_the_end:

        def begin_in(folder="state", scorers=swap, **options):
            live_state = begin(scorers, tmp_path / folder, **options)
            at_the_end.callback(live_state.close)
            return live_state

        yield begin_in


@pytest.fixture
def live(start):
    return start()


@pytest.mark.system
def test_events_and_a_table_give_equal_verdicts(live, swap, calls):
    verdicts = play(live, events(calls))
    scores = swap.scorer.score_table(vectors(real_bundle.key_table(calls), threads=1))
    assert [verdict.raw for verdict in verdicts] == scores.raw.tolist()
    assert {verdict.action for verdict in verdicts} == {"pass", "label", "block"}
    assert live.counts["attempts"] == len(calls)
    assert live.counts["ends"] == sum(call.ring is not None for call in calls)
    assert sum(live.actions.values()) == sum(live.latency) == len(calls)
    assert {name for name in COUNTERS if live.counts[name]} == {"attempts", "ends"}
    assert set(live.reason_counts) <= set(NAMES)
    assert sum(live.reason_counts.values()) == sum(len(v.reasons) for v in verdicts if v.action != "pass")


@pytest.mark.parametrize("half", [0, 77, 200])
def test_a_restarted_process_restores_the_state(start, swap, calls, tmp_path, half):
    timeline = events(calls)
    whole, first = start("whole"), begin(swap, tmp_path / "parts")
    play(whole, timeline)
    play(first, timeline[:half])
    first.close()
    second = begin(swap, tmp_path / "parts")
    assert second.memory.restored.lines == half
    assert state(second, calls[:half] or calls) == state(first, calls[:half] or calls)
    play(second, timeline[half:])
    second.close()
    third = start("parts")
    # Steps need plain digits, which no file contains. All other features are equal bit for bit.
    steps = {i for i, feature in enumerate(FEATURES) if "step" in feature.name or "near" in feature.name}
    for probe in probes(calls):
        expected, restored = whole.memory.history.vector(probe), third.memory.history.vector(probe)
        assert repr(second.memory.history.vector(probe)) == repr(restored)
        differ = {i for i in range(len(NAMES)) if repr(expected[i]) != repr(restored[i])}
        assert {NAMES[i] for i in differ - steps} == set()


def test_a_snapshot_replaces_events(swap, calls, tmp_path):
    folder, timeline = tmp_path / "state", events(calls)
    live = begin(swap, folder)
    play(live, timeline[:250])
    live.memory.save()
    play(live, timeline[250:])
    before = state(live, calls)
    live.close()
    assert live.memory.saved == [1, 0]
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["calls-00000002.log", "cases-00000001.log", "flags.bin", "lock", "state-00000002.snapshot"]
    again = begin(swap, folder)
    assert again.memory.refusal is None
    assert again.memory.restored.lines == len(timeline) - 250
    assert state(again, calls) == before
    again.memory.save()
    again.close()
    assert sorted(snapshot_numbers(folder)) == [2, 4]
    last = begin(swap, folder)
    last.memory.save()
    last.close()
    # One snapshot before the last stays, with the events since then.
    assert min(snapshot_numbers(folder)) == 4 and len(snapshot_numbers(folder)) == 2
    assert not file_numbers(folder, CALLS)


def test_snapshots_are_written_while_sigchld_is_ignored(swap, calls, tmp_path):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        live = begin(swap, tmp_path / "state", journal_bytes=2000)
        play(live, events(calls)[:50])
        wait_until(lambda: live.memory.saved[0])
        live.close()
        assert live.memory.saved[1] == 0
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_broken_snapshot_is_refused_and_later_events_are_restored(start, swap, calls, tmp_path):
    folder, timeline = tmp_path / "state", events(calls)
    live = begin(swap, folder)
    play(live, timeline[:100])
    live.memory.save()
    play(live, timeline[100:200])
    live.close()
    where = folder / "state-00000002.snapshot"
    where.write_bytes(where.read_bytes()[:-100])
    again = start()
    assert "checksum" in again.memory.refusal and "no other snapshot" in again.memory.refusal
    assert where.with_suffix(".refused").exists()
    assert again.memory.restored.lines == 100
    assert again.attempt(attempt_of(calls[-1])).status == "scored"


def test_a_flipped_bit_in_the_last_snapshot_loses_no_event(swap, calls, tmp_path, caplog):
    folder, timeline = tmp_path / "state", events(calls)
    live = begin(swap, folder)
    play(live, timeline[:100])
    live.memory.save()
    wait_until(lambda: live.memory.saved[0])
    play(live, timeline[100:200])
    live.memory.save()
    wait_until(lambda: live.memory.saved[0] == 2)
    play(live, timeline[200:250])
    before = state(live, calls)
    live.close()
    where = folder / "state-00000003.snapshot"
    data = bytearray(where.read_bytes())
    data[len(data) // 2] ^= 1
    where.write_bytes(data)
    again = begin(swap, folder)
    assert state(again, calls) == before and again.memory.restored.lines == 150
    assert "state-00000003.snapshot" in again.memory.refusal and "no event is lost" in again.memory.refusal
    assert again.memory.refusal in caplog.text
    again.memory.save()
    again.close()
    assert min(snapshot_numbers(folder)) == 2 and len(snapshot_numbers(folder)) == 2
    third = begin(swap, folder)
    assert third.memory.refusal is None and state(third, calls) == before
    third.close()


def test_events_that_a_snapshot_has_replaced_cause_no_other_one(swap, calls, tmp_path):
    folder, timeline = tmp_path / "state", events(calls)
    for part in (timeline[:100], timeline[100:200]):
        live = begin(swap, folder)
        play(live, part)
        live.memory.save()
        live.close()
    assert file_numbers(folder, CALLS)  # for the snapshot before the last
    again = begin(swap, folder, journal_bytes=2000)
    time.sleep(3 * journal.EVERY)
    again.close()
    assert again.memory.saved == [0, 0]


def test_a_snapshot_that_fails_changes_nothing(start, swap, calls, tmp_path, monkeypatch):
    live = begin(swap, tmp_path / "state")
    play(live, events(calls)[:50])
    monkeypatch.setattr(memory_module, "snapshot_path", lambda folder, number: folder / "nowhere" / str(number))
    live.memory.save()
    monkeypatch.undo()
    before = state(live, calls)
    live.close()
    assert live.memory.saved == [0, 1]
    again = start()
    assert state(again, calls) == before


def test_a_large_verdict_file_is_followed_by_a_new_file(start, calls, monkeypatch):
    monkeypatch.setattr(live_module, "VERDICT_BYTES", 1)
    live = start()
    play(live, events(calls)[:50])
    wait_until(lambda: live.verdicts.number != 1)


def test_a_journal_line_without_a_call_is_counted_as_damaged(swap, tmp_path):
    journal = Journal(tmp_path, CALLS).start()
    journal.add(b"no call")
    journal.close()
    live = begin(swap, tmp_path)
    assert (live.memory.restored.damaged, live.memory.history.calls) == (1, 0)
    live.close()


class Slow:
    """Scorers that call `wait` before each score."""

    listed = None

    def __init__(self, swap, wait):
        self.swap, self.scorer, self.wait = swap, swap.scorer, wait

    def require_fit(self, history):
        self.swap.require_fit(history)

    def scored(self, history, call, listed):
        self.wait()
        return self.swap.scored(history, call, listed)


@pytest.mark.parametrize("deadline", [0.0, -1.0, math.nan, math.inf])
def test_an_invalid_deadline_is_refused(swap, tmp_path, deadline):
    """With such a deadline every call would pass without a score, although the service seems healthy."""
    with pytest.raises(ValueError, match="deadline must be above 0 and finite"):
        begin(swap, tmp_path / "state", deadline=deadline)
    assert not (tmp_path / "state").exists()


@pytest.mark.source("L32", by="serving/live/live.py")
def test_the_explanation_of_a_late_verdict_has_the_action_that_was_delivered(start, swap, calls):
    slow = []
    live = start(scorers=Slow(swap, lambda: slow and time.sleep(0.3)), deadline=0.2)
    verdicts = play(live, events(calls))
    blocked = next(verdict for verdict in verdicts if verdict.action == "block")
    slow.append(True)
    intake = Intake(real_bundle.NUMBER_KEY)
    keyed = [(call, intake(call)) for call in calls]
    cases = {case_id(blocked.model, key.caller, key.callee, key.start): call for call, key in keyed}
    again = live.attempt(attempt_of(cases[blocked.case]))
    assert (again.case, again.action, again.status) == (blocked.case, "pass", "deadline")
    explained = live.explain(blocked.case)
    assert (explained.action, explained.status, explained.message) == ("pass", "deadline", again.message)
    assert explained.plan_class == "" and math.isnan(explained.confidence) and explained.reasons


@pytest.mark.source("L32", by="serving/live/live.py")
def test_a_block_without_a_record_is_counted_and_logged_with_its_case(start, calls, monkeypatch, caplog):
    live = start()
    monkeypatch.setattr(live_module, "verdict_record", raising(RuntimeError("text of 13800138000")))
    blocked = [verdict for verdict in play(live, events(calls)) if verdict.action != "pass"]
    assert live.counts["unrecorded"] == len(blocked) > 0
    lines = [record for record in caplog.records if "no record of a verdict" in record.getMessage()]
    assert [line.case for line in lines] == [verdict.case for verdict in blocked]
    assert "RuntimeError" in caplog.text and "13800138000" not in caplog.text


def test_a_full_disk_loses_verdict_records_loudly(start, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(journal.os, "write", raising(OSError(28, "No space left on device")))
    live = begin(start().scorers, tmp_path / "full")
    verdicts = play(live, events(calls))
    shown = metrics(live, live.scorers, {}).decode()
    assert 'callsieve_events_total{kind="unrecorded"} 0.0' in shown
    wait_until(lambda: 'callsieve_journal_refusals_total{error="ENOSPC"}' in metrics(live, live.scorers, {}).decode())
    recorded = sum(verdict.action != "pass" for verdict in verdicts)
    assert recorded > 0 and live.close() == len(events(calls)) + recorded


def test_a_call_that_waits_longer_than_the_deadline_passes(start, swap, calls):
    gate, inside = threading.Event(), threading.Event()
    live = start(scorers=Slow(swap, lambda: (inside.set(), gate.wait(30))), deadline=0.05)
    blocked = threading.Thread(target=live.attempt, args=(attempt_of(calls[0]),))
    blocked.start()
    inside.wait(30)
    for call in calls[1:4]:
        began = time.monotonic()
        verdict = live.attempt(attempt_of(call))
        assert verdict.action == "pass"
        assert verdict.status == "deadline"
        assert time.monotonic() - began < 20
    assert live.attempt(attempt_of(calls[4]), arrived=time.monotonic() - 1).action == "pass"
    gate.set()
    blocked.join()
    assert live.counts["shed"] == 4
    assert live.counts["late"] == 1
    assert live.memory.history.calls == 1


@pytest.mark.parametrize(
    "odd",
    [
        *({"start": math.nan}, {"start": math.inf}, {"start": -math.inf}, {"caller": "9" * 10_000_000}),
        *({"trunk": "x" * 300}, {"outcome": "13800138000"}, {"attestation": "😀"}),
        *({"ring": math.nan, "talk": 1.0}, {"ring": 1.0, "talk": -5.0}),
    ],
)
def test_an_invalid_call_gets_a_verdict(live, calls, odd):
    call = dataclasses.replace(attempt_of(calls[0]), **odd)
    verdict = live.attempt(call)
    assert verdict.action == "pass"
    assert verdict.status == "wrong_input"
    with pytest.raises((ValueError, OverflowError)) as error:
        live.end(call)
    assert not re.search(r"\d{7}", str(error.value))
    assert live.counts["faults"] + live.counts["ahead"] == 2
    assert live.memory.history.calls == 0


def test_a_call_of_wrong_types_is_refused_with_the_name_of_the_field(live, calls):
    for odd, fault in (
        ({"start": "1772500000"}, "call: start must be a number of seconds, got str"),
        ({"caller": 13800138000}, "call: caller must be a text or None, got int"),
        ({"ring": "3"}, "call: ring must be a number of seconds or None, got str"),
        (None, "call: expected a Call, got NoneType"),
    ):
        call = None if odd is None else dataclasses.replace(attempt_of(calls[0]), **odd)
        verdict = live.attempt(call)
        assert verdict.status == "wrong_input" and verdict.message.endswith(f"({fault})")
        with pytest.raises(TypeError, match=f"^{fault}$"):
            live.end(call)
    assert live.counts["faults"] == 8 and live.memory.history.calls == 0


@pytest.mark.parametrize("text", ["", "😀☎️", "\ud800", "'; DROP TABLE calls;--", "  ", "\x00"])
def test_unusual_numbers_are_scored(live, text):
    call = Call(start=real_bundle.START, caller=text, callee=text)
    assert live.attempt(call).status == "scored"
    live.end(dataclasses.replace(call, ring=1.0, talk=1.0, outcome="answered"))
    assert live.memory.history.calls == 1


def test_a_call_in_the_future_does_not_change_the_state(live, calls):
    timeline = events(calls)
    play(live, timeline)
    before = state(live, calls)
    for ahead in (61.0, 1e6, 1e10):
        call = dataclasses.replace(calls[-1], start=time.time() + ahead)
        verdict = live.attempt(attempt_of(call))
        assert (verdict.action, verdict.status) == ("pass", "wrong_input")
        # Such a call would stay in memory for ever.
        for late in ({"talk": 1e10}, {"recorded": 1e11}, {"start": time.time() + ahead}):
            with pytest.raises(ValueError, match="in the future"):
                live.end(dataclasses.replace(calls[-1], **({"ring": 1.0, "talk": 1.0} | late)))
    assert live.counts["ahead"] == 12
    assert state(live, calls) == before


def test_a_clock_jump_is_ignored_until_it_persists(monkeypatch):
    wall, steady = [1000.0], [50.0]
    monkeypatch.setattr("callsieve.serving.live.clock.time.time", lambda: wall[0])
    monkeypatch.setattr("callsieve.serving.live.clock.time.monotonic", lambda: steady[0])
    clock = Clock()

    def after(seconds, jump=0.0):
        wall[0] += seconds + jump
        steady[0] += seconds
        return clock.now()

    assert after(10) == 1010
    assert after(10, 0.9) == pytest.approx(1020.9)  # a small correction is followed at once
    assert after(10, 86_400) == pytest.approx(1030.9)
    assert after(10, -86_400) == pytest.approx(1040.9)
    assert after(10, -3600) == pytest.approx(1050.9)
    assert after(SETTLED - 1) == pytest.approx(1050.9 + SETTLED - 1)
    assert after(2) == wall[0]
    assert after(2) == wall[0]


def test_a_journal_starts_when_everything_that_its_thread_uses_is_ready(swap, tmp_path, monkeypatch):
    started = []

    class Hasty(Journal):
        def start(self):
            self._after()
            started.append(self._name)
            return super().start()

    monkeypatch.setattr(live_module, "Journal", Hasty)
    monkeypatch.setattr(memory_module, "Journal", Hasty)
    live = begin(swap, tmp_path / "state", journal_bytes=-1)  # a snapshot is due at once
    live.close()
    assert started == ["calls", "complaints", "cases"] and list(snapshot_numbers(tmp_path / "state"))


def test_memory_is_bounded(start, swap, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(calls_in_progress, "MAX_CALLS", 10)
    monkeypatch.setattr(live_module, "RECENT", 5)
    live = begin(swap, tmp_path / "state", limits=Limits(20, 12))
    for call in calls:
        live.attempt(attempt_of(call))
    assert (len(live.in_progress._begun), len(live._recent)) == (10, 5)
    assert live.memory.history.calls <= 20
    assert live.memory.history.numbers <= 12
    live.close()
    again = start(limits=Limits(20, 12))
    assert len(again.in_progress._restored) == 10


@pytest.mark.source("L21", by="serving/live/live.py")
def test_a_repeated_attempt_gets_the_same_verdict_and_counts_once(live, calls):
    play(live, events(calls[:-1]))
    before = live.memory.history.calls
    first, again = (live.attempt(attempt_of(calls[-1])) for _ in range(2))
    assert repr(first) == repr(again)
    assert live.counts["repeats"] == 1
    assert live.memory.history.calls == before + 1


@pytest.mark.source("L32", by="serving/live/live.py")
def test_an_explanation_repeats_the_verdict(live, calls):
    verdicts = play(live, events(calls))
    for verdict in verdicts:
        explained = live.explain(verdict.case)
        assert repr(explained.raw) == repr(verdict.raw)
        assert (explained.action, explained.case, explained.status) == (verdict.action, verdict.case, "scored")
        if verdict.action != "pass":
            assert repr(explained) == repr(verdict)
    assert any(live.explain(verdict.case).reasons for verdict in verdicts if verdict.action == "pass")
    assert live.explain("0" * 16) is None


@pytest.mark.source("L32", by="serving/live/verdict_log.py")
def test_an_explanation_survives_a_restart_while_the_journal_has_its_record(start, swap, calls, tmp_path):
    live = begin(swap, tmp_path / "state")
    verdicts = {verdict.case: verdict for verdict in play(live, events(calls))}
    live.close()
    again, other = begin(swap, tmp_path / "state"), Swap(trusted=small.TRUSTED, policy=STRICT_POLICY)
    for case, verdict in verdicts.items():
        expected = None if verdict.action == "pass" else verdict
        assert repr(again.explain(case)) == repr(expected)
    assert {verdict.action for verdict in verdicts.values()} >= {"pass", "block"}
    # Under another model the record alone explains: it has all but the end of validity, the threshold and confidence.
    again.scorers = other
    blank = {"valid_until": "", "threshold": math.nan, "confidence": math.nan}
    for case, verdict in verdicts.items():
        if verdict.action != "pass":
            assert repr(again.explain(case)) == repr(dataclasses.replace(verdict, **blank))
    again.close()
    for path in (tmp_path / "state").glob("cases-*.log"):
        path.unlink()
    emptied = start()
    assert not any(emptied.explain(case) for case in verdicts)


def test_the_record_of_a_cleared_caller_explains_the_action_of_the_rules_alone(bundle_folder, tmp_path):
    rule = "authentication_failed"
    policy = dataclasses.replace(STRICT_POLICY, bands={"watch": "label"}, rules={rule: "label"}, confidence={rule: 0.5})
    scorer = Scorer.load(bundle_folder, trusted=small.TRUSTED, policy=policy)
    (call,), (row,) = real_bundle.key_calls(real_bundle.calls(1)), real_bundle.rows(1).tolist()
    write_cleared(tmp_path / "cleared", {call.caller: call.start + 1}, 1)
    facts = (Fact(rule, "", "", math.nan, math.nan, "", "", "", ""),)
    scored = dataclasses.replace(scorer.explain_row(row, call.start, facts), case="f" * 16, content="loans")
    verdict = ClearedCallers(tmp_path / "cleared").spare(scored, call, *scorer.action_if_cleared(scored))
    assert (scored.action, verdict.action, verdict.confidence, verdict.status) == ("label", "label", 0.5, "cleared")
    explained = explain_record(verdict_record(verdict, call, row, scorer), scorer)
    assert explained.confidence == 0.5 and scored.confidence != 0.5
    assert explained.plan_class == verdict.plan_class == ""


def test_a_model_for_other_columns_is_refused_at_start_and_at_a_reload(bundle_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_module, "History", functools.partial(memory_module.History, NAMES[::-1]))
    judge = Swap(trusted=small.TRUSTED)
    live = begin(judge, tmp_path)
    with pytest.raises(ValueError, match="history: its features are in another order than the model's"):
        judge.load(bundle_folder)
    assert not judge.ready and "in another order" in judge.refusal
    live.close()
    judge = live_states.loaded(bundle_folder)
    with pytest.raises(ValueError, match="history: its features are in another order than the model's"):
        begin(judge, tmp_path)
    begin(Swap(trusted=small.TRUSTED), tmp_path).close()  # the folder is free again


@pytest.mark.source("L32", by="serving/live/live.py")
def test_an_explanation_of_a_filling_history_repeats_the_verdict(start, calls, tmp_path):
    real_bundle.write_bundle(tmp_path / "bundle")
    patient = live_states.loaded(tmp_path / "bundle", policy=dataclasses.replace(STRICT_POLICY, history_days=7))
    live = start(scorers=patient)
    for verdict in play(live, events(calls)):  # fewer than five days
        explained = live.explain(verdict.case)
        assert (explained.status, explained.band) == (verdict.status, verdict.band) == ("filling", "")
        assert math.isnan(explained.score) and math.isnan(verdict.score)
        assert repr(explained.raw) == repr(verdict.raw) and math.isnan(explained.threshold)
    assert live.statuses == {"filling": live.counts["attempts"]}
    text = metrics(live, patient, {}).decode()
    assert f'callsieve_statuses_total{{status="filling"}} {live.counts["attempts"]}.0' in text


def test_calls_without_a_model_pass_and_enter_the_history(start, calls):
    live = start(scorers=Swap(trusted=small.TRUSTED))
    assert live.attempt(attempt_of(calls[0])).status == "no_model"
    assert live.memory.history.calls == 1


def test_complaints_are_stored_with_tokens(live, tmp_path):
    live.add_complaint(Complaint("13900139000", NUMBER, real_bundle.START, "fraud", "robot"))
    live.add_complaint(Complaint("13900139000", "02887654321", real_bundle.START + 1, "not_nuisance"))
    live.memory.complaints.flush()
    intake = Intake(real_bundle.NUMBER_KEY)
    first, second = read_complaints(tmp_path / "state")
    assert first["number"] == intake.token("number", NUMBER)
    assert first["reporter"] == second["reporter"] == intake.token("number", "13900139000")
    assert (first["category"], first["mode"], second["mode"]) == ("fraud", "robot", None)
    assert first["at"] == real_bundle.START * 1000 < first["known_at"]


def test_a_complaint_from_the_future_is_refused(live, tmp_path):
    for at in (time.time() + 3600, -1.0):
        with pytest.raises(FutureEventError, match="not after now"):
            live.add_complaint(Complaint("13900139000", NUMBER, at, "fraud"))
    live.memory.complaints.flush()
    assert (live.counts["ahead"], live.counts["reports"], list(read_complaints(tmp_path / "state"))) == (2, 0, [])


@pytest.mark.parametrize(
    "odd", [{"category": "138 0013 8000"}, {"category": ""}, {"mode": NUMBER}, {"number": ""}, {"number": "1" * 300}]
)
def test_an_invalid_complaint_is_refused(odd):
    with refused("complaint: "):
        Complaint(**({"reporter": NUMBER, "number": NUMBER, "at": 1.0, "category": "fraud"} | odd))


@pytest.mark.source("P8", by="serving/live/journal.py")
def test_no_number_is_on_disk(swap, calls, tmp_path):
    live = begin(swap, tmp_path / "state")
    play(live, events(calls))
    live.add_complaint(Complaint("13900139000", NUMBER, real_bundle.START, "fraud"))
    live.memory.save()
    live.close()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    for number in {*real_bundle.CALLERS[:6], *real_bundle.CALLEES, NUMBER}:
        assert number[-7:].encode() not in stored


@pytest.mark.system
@given(strategies.histories())
def test_a_call_survives_a_round_trip_through_a_line(history):
    for call in map(strategies.as_keyed_call, history):
        assert call_from_line(call_to_line(call)) == call
    assert call_from_line(call_to_line(call)[:-20].rpartition(b" ")[0]) is None
    assert call_from_line(call_to_line(call).replace(b" ", b" x", 5)) is None
    assert call_from_line(b"-" + call_to_line(call)[call_to_line(call).index(b" ") :]) is None  # without a start


def test_a_folder_belongs_to_one_process(live, tmp_path):
    code = "import sys; from pathlib import Path; from callsieve.serving.live.snapshots import lock_folder;"
    code += "lock_folder(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "state"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another process serves from this folder" in done.stderr
    assert live.counts["attempts"] == 0


def test_a_failed_start_releases_the_folder(swap, tmp_path, monkeypatch):
    locks = []
    monkeypatch.setattr(memory_module, "lock_folder", lambda folder: locks.append(lock_folder(folder)) or locks[-1])
    with pytest.raises(ValueError, match="calls must be 1 or more"):
        begin(swap, tmp_path, limits=Limits(calls=0))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(locks[0])


def test_a_folder_that_cannot_be_written_is_refused_at_start(swap, tmp_path, monkeypatch):
    """Also with the lock file of an earlier process, which could be opened."""
    begin(swap, tmp_path / "state").close()
    assert (tmp_path / "state" / "lock").exists()
    monkeypatch.setattr(snapshots.tempfile, "TemporaryFile", raising(PermissionError(13, "Permission denied")))
    with pytest.raises(OSError, match="state: cannot write the state: permission denied; give this user a folder"):
        begin(swap, tmp_path / "state")
    unlock_folder(None)


WORKERS = ("http://127.0.0.1:8080", "http://127.0.0.1:8081")


@pytest.mark.parametrize("everywhere", [False, True])
def test_two_workers_compute_the_features_of_one_process(start, calls, everywhere):
    """Each worker has all calls of its own callers. A worker that gets every event computes all features equally."""
    alone = start("alone")
    workers = {name: start(str(i)) for i, name in enumerate(WORKERS)}
    intake = Intake(real_bundle.NUMBER_KEY)
    own_features = [i for i, name in enumerate(NAMES) if name.startswith("out_") and "mutual" not in name]
    owners = set()
    for kind, call in events(calls):
        owner = WORKERS[crc32(intake.token("number", call.caller).encode()) % 2]
        owners.add(owner)
        for name, worker in workers.items():
            if kind == 0 and name == owner:
                verdict = worker.attempt(attempt_of(call))
            elif name == owner or everywhere:
                worker.end(call if kind else attempt_of(call))
        if kind == 0:
            assert alone.attempt(attempt_of(call)).case == verdict.case
            whole, part = (process._recent[verdict.case][1] for process in (alone, workers[owner]))
            compared = range(len(NAMES)) if everywhere else own_features
            assert {NAMES[i] for i in compared if repr(whole[i]) != repr(part[i])} == set()
        else:
            alone.end(call)
    assert owners == set(WORKERS)


def test_scores_of_a_network_and_flags_hold_after_a_restart_and_a_reload(swap, bundle_folder, tmp_path, monkeypatch):
    """Without them the strictest thresholds would apply until thousands of calls are scored again."""
    level = Level(0.0, 9.0)
    swap.scorer.networks = {"complete": NetworkScores(level)}
    for number in range(4_000):
        swap.scorer.networks["complete"].add(number, 6.0 if number % 10 == 0 else -5.0)
    before = swap.scorer.networks["complete"]
    flags = swap.scorer.flags
    for at in range(EVENTS):
        flags.events("e1.a", None, at + 1, caught=True)
    first = begin(swap, tmp_path / "state")
    first.close()
    swap.load(bundle_folder)
    assert swap.scorer.networks["complete"] is before  # the same model
    assert swap.scorer.flags is flags
    swap.scorer.flags = Flags()
    swap.scorer.networks = {"complete": NetworkScores(level)}
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="no fit"):
        patch.setattr(swap, "require_fit", raising(ValueError("no fit")))
        begin(swap, tmp_path / "state")
    swap.scorer.networks = {"complete": NetworkScores(level)}
    second = begin(swap, tmp_path / "state")
    again = swap.scorer.networks["complete"]
    assert swap.scorer.flags.events("e1.a", None, 300, caught=False) == EVENTS
    second.forget("e1.a")
    assert swap.scorer.flags.events("e1.a", None, 300, caught=False) == 0
    second.close()
    assert again.shift == before.shift and again.shift.amount == -3.0
    assert again.to_bytes() == before.to_bytes()
    for damage in (b"", again.to_bytes()[:-8], bytes(24)):
        with pytest.raises(ValueError, match="bytes of a sample"):
            again.restore(damage)


def test_the_scores_of_a_network_hold_after_a_kill(start, swap, tmp_path, monkeypatch):
    monkeypatch.setattr(live_module, "SCORES_EVERY", 0.1)
    network = NetworkScores(Level(0.0, 9.0))
    swap.scorer.networks = {"complete": network}
    start("state")
    for number in range(4_000):
        network.add(number, 6.0 if number % 10 == 0 else -5.0)
    size = len(network.to_bytes())
    wait_until(lambda: any(path.stat().st_size == size for path in (tmp_path / "state").glob("scores-*.bin")))
    without_temporary = shutil.ignore_patterns(".*")  # they are renamed while the folder is copied
    shutil.copytree(tmp_path / "state", tmp_path / "copy", ignore=without_temporary)  # as a killed process leaves it
    swap.scorer.networks = {"complete": NetworkScores(Level(0.0, 9.0))}
    start("copy")
    assert swap.scorer.networks["complete"].shift == network.shift != Level(0.0, 9.0).shift(None)
