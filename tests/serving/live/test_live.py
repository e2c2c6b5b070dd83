"""Live: events give the verdicts that a table gives, and a process that comes back knows what the last one knew."""

import dataclasses
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

from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.intake.intake import Intake
from callsieve.features.offline.table import vectors
from callsieve.features.records import Call
from callsieve.serving.live import calls_in_progress, upkeep
from callsieve.serving.live import live as live_module
from callsieve.serving.live import memory as memory_module
from callsieve.serving.live.clock import SETTLED, Clock
from callsieve.serving.live.events import CALLS, Complaint, call_from_line, call_to_line, read_complaints
from callsieve.serving.live.journal import Journal
from callsieve.serving.live.live import COUNTERS, FutureEventError, Live
from callsieve.serving.live.snapshots import lock_folder, snapshot_numbers, unlock_folder
from callsieve.serving.live.swap import Swap
from callsieve.serving.scorer.verdict import FILLING
from tests.support import real_bundle, strategies
from tests.support import small_bundle as small
from tests.support.http_service import CAPACITY, LONG_DEADLINE, NUMBER, STRICT_POLICY
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def swap(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    real_bundle.write_bundle(folder)
    swap = Swap(trusted=small.TRUSTED, policy=STRICT_POLICY)
    swap.load(folder)
    return swap


@pytest.fixture(scope="module")
def calls():
    return real_bundle.calls(200)


@pytest.fixture
def live(swap, tmp_path):
    made = begin(swap, tmp_path / "state")
    yield made
    made.close()


def begin(swap, folder, **options):
    return Live(swap, Intake(real_bundle.NUMBER_KEY), folder, **{"deadline": LONG_DEADLINE, **CAPACITY, **options})


def attempt_of(call):
    """What is known of a call when it rings."""
    return dataclasses.replace(call, ring=None, talk=None, outcome="unknown", released_by="unknown")


def events(calls):
    """Attempts and ends in the order in which they happen; at one moment, attempts first."""
    told = [(call.start, 0, call) for call in calls]
    told += [(call.start + call.ring + call.talk, 1, call) for call in calls if call.ring is not None]
    return [(kind, call) for _, kind, call in sorted(told, key=lambda event: event[:2])]


def play(live, told):
    """The verdict of each attempt, in order."""
    verdicts = []
    for kind, call in told:
        if kind == 0:
            verdicts.append(live.attempt(attempt_of(call)))
        else:
            live.end(call)
    return verdicts


def probes(calls):
    """A later call between many pairs of numbers."""
    moment = max(call.start for call in calls) + 5000.0
    pairs = [(a, b) for a in real_bundle.CALLERS for b in real_bundle.CALLEES[:6]]
    intake = Intake(real_bundle.NUMBER_KEY)
    return [intake(Call(start=moment, caller=a, callee=b)) for a, b in pairs]


def state(live, calls):
    return repr([live.memory.history.vector(probe) for probe in probes(calls)])


def test_events_give_the_verdicts_of_a_table(live, swap, calls):
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
def test_a_process_that_comes_back_knows_what_the_one_before_knew(swap, calls, tmp_path, half):
    told = events(calls)
    whole, first = begin(swap, tmp_path / "whole"), begin(swap, tmp_path / "parts")
    play(whole, told)
    play(first, told[:half])
    first.close()
    second = begin(swap, tmp_path / "parts")
    assert second.memory.restored.lines == half
    assert state(second, calls[:half] or calls) == state(first, calls[:half] or calls)
    play(second, told[half:])
    second.close()
    third = begin(swap, tmp_path / "parts")
    # Steps are of digits, which no file holds: the rest is the same to the last bit.
    steps = {i for i, feature in enumerate(FEATURES) if "step" in feature.name or "near" in feature.name}
    for probe in probes(calls):
        known, restored = whole.memory.history.vector(probe), third.memory.history.vector(probe)
        assert repr(second.memory.history.vector(probe)) == repr(restored)
        differ = {i for i in range(len(NAMES)) if repr(known[i]) != repr(restored[i])}
        assert {NAMES[i] for i in differ - steps} == set()
    whole.close()
    third.close()


def test_a_call_in_the_air_is_ended_after_a_restart(swap, calls, tmp_path):
    call = next(call for call in calls if call.ring is not None)
    first = begin(swap, tmp_path / "state")
    first.attempt(attempt_of(call))
    first.close()
    second = begin(swap, tmp_path / "state")
    assert len(second.in_progress._restored) == 1
    second.end(call)
    assert len(second.in_progress._restored) == 0
    assert second.memory.history.calls == 1
    second.close()


def test_a_snapshot_takes_the_place_of_events(swap, calls, tmp_path):
    folder, told = tmp_path / "state", events(calls)
    live = begin(swap, folder)
    play(live, told[:250])
    live.memory.save()
    play(live, told[250:])
    before = state(live, calls)
    live.close()
    assert live.memory.saved == [1, 0]
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["calls-00000002.log", "cases-00000001.log", "lock", "state-00000002.snapshot"]
    again = begin(swap, folder)
    assert again.memory.refusal is None
    assert again.memory.restored.lines == len(told) - 250
    assert state(again, calls) == before
    again.memory.save()
    again.close()
    assert snapshot_numbers(folder) == [4]  # the one before is gone


def test_what_comes_after_a_snapshot_is_known_again_though_no_event_followed_before_a_restart(swap, calls, tmp_path):
    folder, told = tmp_path / "state", events(calls)
    live = begin(swap, folder)
    play(live, told[:100])
    live.memory.save()
    live.close()
    assert not list(folder.glob("calls-*"))
    second = begin(swap, folder)
    play(second, told[100:200])
    before = state(second, calls)
    second.close()
    third = begin(swap, folder)
    assert third.memory.restored.lines == 100
    assert state(third, calls) == before
    third.memory.save()
    third.close()
    assert third.memory.saved == [1, 0] and len(snapshot_numbers(folder)) == 1  # the older one would be believed


def test_snapshots_are_made_where_nobody_is_told_how_a_process_ended(swap, calls, tmp_path):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        live = begin(swap, tmp_path / "state", journal_bytes=2000)
        play(live, events(calls)[:50])
        wait_until(lambda: live.memory.saved[0])
        live.close()
        assert live.memory.saved[1] == 0
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_snapshot_is_made_when_the_journal_is_long(swap, calls, tmp_path):
    live = begin(swap, tmp_path / "state", journal_bytes=2000)
    play(live, events(calls))
    wait_until(lambda: live.memory.saved[0])
    before = state(live, calls)
    live.close()
    again = begin(swap, tmp_path / "state")
    assert state(again, calls) == before
    again.close()


def test_a_broken_snapshot_is_refused_and_events_since_are_kept(swap, calls, tmp_path):
    folder, told = tmp_path / "state", events(calls)
    live = begin(swap, folder)
    play(live, told[:100])
    live.memory.save()
    play(live, told[100:200])
    live.close()
    where = folder / "state-00000002.snapshot"
    where.write_bytes(where.read_bytes()[:-100])
    again = begin(swap, folder)
    assert "checksum" in again.memory.refusal
    assert where.with_suffix(".refused").exists()
    assert again.memory.restored.lines == 100
    assert again.attempt(attempt_of(calls[0])).status == "ok"
    again.close()


def test_a_snapshot_that_fails_changes_nothing(swap, calls, tmp_path, monkeypatch):
    live = begin(swap, tmp_path / "state")
    play(live, events(calls)[:50])
    monkeypatch.setattr(upkeep, "snapshot_path", lambda folder, number: folder / "nowhere" / str(number))
    live.memory.save()
    monkeypatch.undo()
    before = state(live, calls)
    live.close()
    assert live.memory.saved == [0, 1]
    again = begin(swap, tmp_path / "state")
    assert state(again, calls) == before
    again.close()


def test_a_file_of_evidence_that_is_large_is_followed_by_another(swap, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(live_module, "VERDICT_BYTES", 1)
    live = begin(swap, tmp_path / "state")
    play(live, events(calls)[:50])
    wait_until(lambda: live.verdicts.number != 1)
    live.close()


def test_a_line_that_is_no_call_is_counted_as_damaged(swap, tmp_path):
    journal = Journal(tmp_path, CALLS)
    journal.add(b"no call")
    journal.close()
    live = begin(swap, tmp_path)
    assert (live.memory.restored.damaged, live.memory.history.calls) == (1, 0)
    live.close()


class Slow:
    """A judge that takes its time."""

    def __init__(self, swap, wait):
        self.swap, self.scorer, self.wait = swap, swap.scorer, wait

    def score(self, history, call):
        self.wait()
        return self.swap.score(history, call)


@pytest.mark.parametrize("deadline", [0.0, -1.0, math.nan, math.inf])
def test_a_deadline_that_no_verdict_can_keep_is_refused(swap, tmp_path, deadline):
    """With one, each call would pass unseen, and a service would seem well."""
    with pytest.raises(ValueError, match="deadline must be above 0 and finite"):
        begin(swap, tmp_path / "state", deadline=deadline)
    assert not (tmp_path / "state").exists()


def test_a_late_verdict_is_a_pass(swap, calls, tmp_path):
    live = begin(Slow(swap, lambda: time.sleep(0.02)), tmp_path / "state", deadline=0.01)
    verdict = live.attempt(attempt_of(calls[0]))
    assert (verdict.action, verdict.status) == ("pass", "late: the verdict came after the deadline")
    assert math.isfinite(verdict.score)
    assert live.counts["late"] == 1
    assert live.memory.history.calls == 1  # it is known all the same
    live.close()


def test_who_waits_for_longer_than_the_deadline_passes(swap, calls, tmp_path):
    gate, inside = threading.Event(), threading.Event()
    live = begin(Slow(swap, lambda: (inside.set(), gate.wait(30))), tmp_path / "state", deadline=0.05)
    hung = threading.Thread(target=live.attempt, args=(attempt_of(calls[0]),))
    hung.start()
    inside.wait(30)
    for call in calls[1:4]:
        began = time.monotonic()
        verdict = live.attempt(attempt_of(call))
        assert verdict.action == "pass"
        assert verdict.status == "no score: its turn came after the deadline"
        assert time.monotonic() - began < 20
    assert live.attempt(attempt_of(calls[4]), arrived=time.monotonic() - 1).action == "pass"
    gate.set()
    hung.join()
    assert live.counts["shed"] == 4
    assert live.counts["late"] == 1
    assert live.memory.history.calls == 1
    live.close()


@pytest.mark.parametrize(
    "odd",
    [
        {"start": math.nan},
        {"start": math.inf},
        {"start": -math.inf},
        {"caller": "9" * 10_000_000},
        {"trunk": "x" * 300},
        {"outcome": "13800138000"},
        {"ring": math.nan, "talk": 1.0},
        {"ring": 1.0, "talk": -5.0},
        {"attestation": "😀"},
    ],
)
def test_whatever_comes_there_is_a_verdict(live, calls, odd):
    call = dataclasses.replace(attempt_of(calls[0]), **odd)
    verdict = live.attempt(call)
    assert verdict.action == "pass"
    assert verdict.status.startswith("no score: ")
    with pytest.raises((ValueError, OverflowError)) as error:
        live.end(call)
    assert not re.search(r"\d{7}", str(error.value))
    assert live.counts["faults"] + live.counts["ahead"] == 2
    assert live.memory.history.calls == 0


def test_a_call_that_has_begun_ends_in_no_time_below_0(live, calls):
    live.attempt(attempt_of(calls[0]))
    before = state(live, calls)
    for odd in ({"ring": 1.0, "talk": -5.0}, {"ring": -1.0, "talk": 5.0}):
        with pytest.raises(ValueError, match=r"^(ring|talk) must be 0 seconds or more$"):
            live.end(dataclasses.replace(calls[0], **odd))
    assert state(live, calls) == before


@pytest.mark.parametrize("text", ["", "😀☎️", "\ud800", "'; DROP TABLE calls;--", "  ", "\x00"])
def test_odd_numbers_are_numbers(live, text):
    call = Call(start=real_bundle.START, caller=text, callee=text)
    assert live.attempt(call).status == "ok"
    live.end(dataclasses.replace(call, ring=1.0, talk=1.0, outcome="answered"))
    assert live.memory.history.calls == 1


def test_a_call_of_the_future_moves_no_window(live, calls):
    told = events(calls)
    play(live, told)
    before = state(live, calls)
    for ahead in (61.0, 1e6, 1e10):
        call = dataclasses.replace(calls[-1], start=time.time() + ahead)
        verdict = live.attempt(attempt_of(call))
        assert (verdict.action, verdict.status) == ("pass", "no score: the call starts or ends after now")
        # One that never ends would hold its place for ever.
        for late in ({"talk": 1e10}, {"recorded": 1e11}, {"start": time.time() + ahead}):
            with pytest.raises(ValueError, match="after now"):
                live.end(dataclasses.replace(calls[-1], **({"ring": 1.0, "talk": 1.0} | late)))
    assert live.counts["ahead"] == 12
    assert state(live, calls) == before


def test_a_clock_that_jumps_is_not_believed_until_it_stays(monkeypatch):
    wall, steady = [1000.0], [50.0]
    monkeypatch.setattr("callsieve.serving.live.clock.time.time", lambda: wall[0])
    monkeypatch.setattr("callsieve.serving.live.clock.time.monotonic", lambda: steady[0])
    clock = Clock()

    def after(seconds, jump=0.0):
        wall[0] += seconds + jump
        steady[0] += seconds
        return clock.now()

    assert after(10) == 1010
    assert after(10, 0.9) == pytest.approx(1020.9)  # set right in a small step
    assert after(10, 86_400) == pytest.approx(1030.9)
    assert after(10, -86_400) == pytest.approx(1040.9)
    assert after(10, -3600) == pytest.approx(1050.9)
    assert after(SETTLED - 1) == pytest.approx(1050.9 + SETTLED - 1)
    assert after(2) == wall[0]
    assert after(2) == wall[0]


def test_a_journal_that_runs_before_the_state_is_whole_does_nothing_yet(swap, tmp_path, monkeypatch):
    class Hasty(Journal):
        def __init__(self, folder, name, *, after=lambda: None, **options):
            super().__init__(folder, name, after=after, **options)
            after()

    monkeypatch.setattr(live_module, "Journal", Hasty)
    monkeypatch.setattr(memory_module, "Journal", Hasty)
    live = begin(swap, tmp_path / "state", journal_bytes=-1)  # a snapshot would be due at once
    assert live.memory.saved == [0, 0] and not list(snapshot_numbers(tmp_path / "state"))
    live.close()


def test_memory_is_bounded(swap, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(calls_in_progress, "MAX_CALLS", 10)
    monkeypatch.setattr(live_module, "RECENT", 5)
    live = begin(swap, tmp_path / "state", calls=20, numbers=12)
    for call in calls:
        live.attempt(attempt_of(call))
    assert (len(live.in_progress._begun), len(live._recent)) == (10, 5)
    assert live.memory.history.calls <= 20
    assert live.memory.history.numbers <= 12
    live.close()
    again = begin(swap, tmp_path / "state", calls=20, numbers=12)
    assert len(again.in_progress._restored) == 10
    again.close()


@pytest.mark.source("L21", by="serving/live/live.py")
def test_a_repeat_is_told_the_same_and_counts_once(live, calls):
    play(live, events(calls[:-1]))
    first, again = (live.attempt(attempt_of(calls[-1])) for _ in range(2))
    assert repr(first) == repr(again)
    assert live.counts["repeats"] == 1


@pytest.mark.source("L32", by="serving/live/live.py")
def test_a_verdict_is_explained_afterwards(live, calls):
    verdicts = play(live, events(calls))
    for verdict in verdicts:
        told = live.explain(verdict.case)
        assert repr(told.raw) == repr(verdict.raw)
        assert (told.action, told.case, told.status) == (verdict.action, verdict.case, "ok")
        if verdict.action != "pass":
            assert repr(told) == repr(verdict)
    assert any(live.explain(verdict.case).reasons for verdict in verdicts if verdict.action == "pass")
    assert live.explain("0" * 16) is None


def test_a_verdict_of_before_a_week_was_known_is_explained_as_it_was(calls, tmp_path):
    real_bundle.write_bundle(tmp_path / "bundle")
    patient = Swap(trusted=small.TRUSTED, policy=dataclasses.replace(STRICT_POLICY, history_days=7))
    patient.load(tmp_path / "bundle")
    live = begin(patient, tmp_path / "state")
    for verdict in play(live, events(calls)):  # of less than five days
        told = live.explain(verdict.case)
        assert (told.status, told.band, repr(told.raw)) == (verdict.status, verdict.band, repr(verdict.raw))
        assert (verdict.status, verdict.band, math.isnan(told.threshold)) == (FILLING, "", True)
    live.close()


def test_without_a_model_calls_pass_and_are_known(calls, tmp_path):
    live = begin(Swap(trusted=small.TRUSTED), tmp_path / "state")
    assert live.attempt(attempt_of(calls[0])).status == "no score: no model is in service"
    assert live.memory.history.calls == 1
    live.close()


def test_reports_are_kept_keyed(live, tmp_path):
    live.add_complaint(Complaint("13900139000", NUMBER, real_bundle.START, "fraud", "robot"))
    live.add_complaint(Complaint("13900139000", "02887654321", real_bundle.START + 1, "not_nuisance"))
    live.memory.complaints.flush()
    intake = Intake(real_bundle.NUMBER_KEY)
    first, second = read_complaints(tmp_path / "state")
    assert first["number"] == intake.token("number", NUMBER)
    assert first["reporter"] == second["reporter"] == intake.token("number", "13900139000")
    assert (first["category"], first["mode"], second["mode"]) == ("fraud", "robot", None)
    assert first["at"] == real_bundle.START * 1000 < first["known_at"]


def test_a_report_of_the_future_is_not_kept(live, tmp_path):
    for at in (time.time() + 3600, -1.0):
        with pytest.raises(FutureEventError, match="not after now"):
            live.add_complaint(Complaint("13900139000", NUMBER, at, "fraud"))
    live.memory.complaints.flush()
    assert (live.counts["ahead"], live.counts["reports"], list(read_complaints(tmp_path / "state"))) == (2, 0, [])


@pytest.mark.parametrize(
    "odd", [{"category": "138 0013 8000"}, {"category": ""}, {"mode": NUMBER}, {"number": ""}, {"number": "1" * 300}]
)
def test_a_report_that_is_none_is_refused(odd):
    with pytest.raises(ValueError, match="complaint: ") as error:
        Complaint(**({"reporter": NUMBER, "number": NUMBER, "at": 1.0, "category": "fraud"} | odd))
    assert not re.search(r"\d{7}", str(error.value))


@pytest.mark.source("P8", by="serving/live/journal.py")
def test_no_number_is_on_disk(swap, calls, tmp_path):
    live = begin(swap, tmp_path / "state")
    play(live, events(calls))
    live.add_complaint(Complaint("13900139000", NUMBER, real_bundle.START, "fraud"))
    live.memory.save()
    live.close()
    written = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    for number in {*real_bundle.CALLERS[:6], *real_bundle.CALLEES, NUMBER}:
        assert number[-7:].encode() not in written


@given(strategies.histories())
def test_a_call_is_a_line_and_a_line_a_call(told):
    for call in map(strategies.as_keyed_call, told):
        assert call_from_line(call_to_line(call)) == call
    assert call_from_line(call_to_line(call)[:-20].rpartition(b" ")[0]) is None
    assert call_from_line(call_to_line(call).replace(b" ", b" x", 5)) is None
    assert call_from_line(b"-" + call_to_line(call)[call_to_line(call).index(b" ") :]) is None  # one without a start


def test_a_folder_belongs_to_one_process(live, tmp_path):
    code = "import sys; from pathlib import Path; from callsieve.serving.live.snapshots import lock_folder;"
    code += "lock_folder(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "state"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another process serves from this folder" in done.stderr
    assert live.counts["attempts"] == 0


def test_a_folder_that_cannot_be_taken_up_is_let_go(swap, tmp_path, monkeypatch):
    held = []
    monkeypatch.setattr(memory_module, "lock_folder", lambda folder: held.append(lock_folder(folder)) or held[-1])
    with pytest.raises(ValueError, match="calls must be 1 or more"):
        begin(swap, tmp_path, calls=0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held[0])


def test_a_disk_that_takes_no_lock_stops_nobody(tmp_path):
    assert lock_folder(tmp_path / "nowhere") is None
    unlock_folder(None)


WORKERS = ("http://127.0.0.1:8080", "http://127.0.0.1:8081")


@pytest.mark.parametrize("everywhere", [False, True])
def test_two_workers(swap, calls, tmp_path, everywhere):
    """Own callers' calls are whole at each worker; told of every event, each knows all that one process would."""
    alone = begin(swap, tmp_path / "alone")
    workers = {name: begin(swap, tmp_path / str(i)) for i, name in enumerate(WORKERS)}
    intake = Intake(real_bundle.NUMBER_KEY)
    own = [i for i, name in enumerate(NAMES) if name.startswith("out_") and "mutual" not in name]
    asked = set()
    for kind, call in events(calls):
        mine = WORKERS[crc32(intake.token("number", call.caller).encode()) % 2]
        asked.add(mine)
        for name, worker in workers.items():
            if kind == 0 and name == mine:
                worker.attempt(attempt_of(call))
            elif name == mine or everywhere:
                worker.end(call if kind else attempt_of(call))
        if kind == 0:
            alone.attempt(attempt_of(call))
            one, other = alone.memory.history.last, workers[mine].memory.history.last
            told = range(len(NAMES)) if everywhere else own
            assert {NAMES[i] for i in told if repr(one[i]) != repr(other[i])} == set()
        else:
            alone.end(call)
    assert asked == set(WORKERS)
    for each in (alone, *workers.values()):
        each.close()


def test_a_copy_of_the_folder_of_a_running_process_is_what_a_kill_would_leave(swap, calls, tmp_path):
    live = begin(swap, tmp_path / "state")
    play(live, events(calls)[:150])
    live.memory.journal.flush()
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    again = begin(swap, tmp_path / "copy")
    assert state(again, calls) == state(live, calls)
    assert again.memory.restored.lines == 150
    live.close()
    again.close()
