"""Whoever is to be forgotten is a new number afterwards, in memory and on the disk of a scorer that serves."""

import io
import json
import os
import time
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.complaints import Complaint
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.rotation import Rekeying
from callsieve.features.online.history import History
from callsieve.features.records import Call
from callsieve.serving.live import forgetting
from callsieve.serving.live.events import CALLS, COMPLAINTS
from callsieve.serving.live.forgetting import REQUESTS, blank_lines, forget, pending_requests, request_forgetting
from callsieve.serving.live.journal import Journal, ReadCounts, file_path, read_journal
from callsieve.serving.live.memory import Memory
from callsieve.serving.live.snapshots import snapshot_path
from callsieve.serving.live.upkeep import REST, Upkeep
from callsieve.training.privacy.rekey import _rekey_state
from tests.serving.live.test_live import attempt_of, begin, calls, events, play, swap  # noqa: F401 - fixtures
from tests.support import http_service, real_bundle
from tests.support.strategies import as_keyed_call, histories
from tests.support.waiting import wait_until
from tests.training.privacy.test_deletion import folder, keys_of, log  # noqa: F401 - fixtures

ROOM = {"calls": 12, "numbers": 4}  # little enough to drop and evict
LARGER = {"calls": 100, "numbers": 10}


def renamed(drawn, old, new):
    return drawn | {name: new for name in ("caller", "callee") if drawn[name] == old}


@pytest.mark.source("P6", by="features/online/history.py")
@given(drawn=histories(max_calls=30), room=st.sampled_from([ROOM, LARGER]), at=st.integers(0, 30))
@settings(max_examples=25)
def test_forgetting_is_as_if_the_number_had_been_another_one_before(tmp_path_factory, drawn, room, at):
    """The oracle is a history in which somebody else made those calls."""
    history, other = History(**room), History(**room)
    for each in drawn[:at]:
        history.observe(as_keyed_call(each))
        other.observe(as_keyed_call(renamed(each, "a", "somebody")))
    history.forget("a")
    if at == 7:  # what is saved has no name for it either
        history.save(where := tmp_path_factory.mktemp("saved") / "history")
        history = History.load(where)
    for each in drawn[at:]:
        np.testing.assert_array_equal(history.vector(as_keyed_call(each)), other.vector(as_keyed_call(each)))
        history.observe(as_keyed_call(each))
        other.observe(as_keyed_call(each))
    assert (history.calls, history.dropped) == (other.calls, other.dropped)


def test_reports_by_and_about_a_number_are_forgotten():
    history = History(features=("reported_age",), **LARGER)
    for number, reporter in (("a", "b"), ("b", "a"), ("c", "b")):
        history.observe_complaint(Complaint(1, reporter, number, block="x"))
    history.forget("a")
    assert [(one.number, one.reporter) for one in history._complaints.stored] == [("c", "b")]


def test_what_somebody_dialled_and_that_he_was_dialled_is_forgotten():
    intake, numbers = Intake(real_bundle.NUMBER_KEY), ("+8613800138000", "+8613800138001", "+8613800138002")
    for n, callee in ((0, 1), (1, 2), (2, 0)):
        intake(Call(1.0, numbers[n], numbers[callee]))
    intake.forget(intake.token("number", numbers[0]))
    assert sorted(chain(*intake._memory._numbers._shards)) == list(numbers[1:])
    known = intake._memory.last_dialled([intake._memory.number(number, 0).token for number in numbers])
    assert known[0] is None and known[1] is not None and known[2] is None


@pytest.mark.source("P6", by="serving/live/live.py")
def test_live_memory_knows_nobody_by_that_name(swap, calls, tmp_path):  # noqa: F811
    live = begin(swap, tmp_path / "state")
    verdicts = play(live, events(calls))
    number = calls[0].caller
    token = live._intake.token("number", number)
    probe = Call(max(each.start for each in calls) + 5000.0, number, "+8613900139000")
    fresh = Call(probe.start, "+8613712345678", probe.callee)
    live.attempt(attempt_of(probe))
    before = live.memory.history.vector(live._intake(probe))
    live.forget(token)
    after, blank_one = (live.memory.history.vector(Intake(real_bundle.NUMBER_KEY)(each)) for each in (probe, fresh))
    own = [i for i, name in enumerate(live.memory.history._features) if name.startswith(("out_", "in_", "number_"))]
    assert [before[i] for i in own] != [blank_one[i] for i in own]
    np.testing.assert_array_equal([after[i] for i in own], [blank_one[i] for i in own])
    air, intake = live.in_progress, live._intake
    held = repr([kept._shards for kept in (air._begun, air._restored, intake._memory._last, intake._memory._numbers)])
    held += repr([kept[2] for kept in live._recent.values()])
    assert token not in held and not live.memory.history._keys["number"].key(token)
    assert any(live.explain(verdict.case) for verdict in verdicts)
    live.close()


@pytest.mark.source("P6", by="serving/live/forgetting.py")
def test_a_running_service_forgets_on_its_disk_too(folder, log, command_json, tmp_path, monkeypatch):  # noqa: F811
    """A real process, told by `callsieve privacy delete`; then killed, and started again."""
    keys = http_service.write_service_files(tmp_path)
    number, other, now = "13800138000", "13900139000", time.time() - 600
    token = Intake(real_bundle.NUMBER_KEY).token("number", number)
    state = tmp_path / "state"
    delete = ("privacy", "delete", "--data", folder, "--key", tmp_path / "number.key", "--why", "asked", *keys_of(log),
              "--state", state)  # fmt: skip
    with http_service.ServiceProcess(tmp_path) as service:
        for n in range(20):
            for caller, callee in ((number, other), (other, number), ("13700137000", other)):
                body = {"start": now + n, "caller": caller, "callee": callee, "ring": 3.0, "talk": 1.0}
                assert service.post("/v1/observe", json.dumps(body).encode(), keys["score"])[0] == 200
        report = {"number": number, "reporter": other, "at": now, "category": "loans"}
        assert service.post("/v1/report", json.dumps(report).encode(), keys["report"])[0] == 200
        wait_until(lambda: token in everything(state))
        monkeypatch.setattr("sys.stdin", io.StringIO(number))
        seconds = command_json(*delete)["scorers"]["state"]
        assert 0 <= seconds < 60
        assert token not in everything(state) and not list((state / REQUESTS).iterdir())
        assert "13700137000" not in everything(state)
        service.process.kill()
        service.process.wait()
    with http_service.ServiceProcess(tmp_path) as service:
        assert token not in everything(state)
    # No process runs: the same command sees to the files itself.
    body = {"start": now + 50, "caller": number, "callee": other, "ring": 3.0, "talk": 1.0}
    with http_service.ServiceProcess(tmp_path) as service:
        assert service.post("/v1/observe", json.dumps(body).encode(), keys["score"])[0] == 200
    assert token in everything(state)
    monkeypatch.setattr("sys.stdin", io.StringIO(number))
    assert command_json(*delete)["scorers"]["state"] < 60
    assert token not in everything(state)


@pytest.mark.source("P6", by="serving/live/snapshots.py")
@pytest.mark.parametrize("serving", [True, False])
def test_snapshots_that_are_not_whole_know_nobody_who_was_forgotten(tmp_path, serving):
    """One that a killed process did not finish, and one that could not be read back."""
    call = Intake(real_bundle.NUMBER_KEY)(Call(1.0, "13800138000", "13900139000", ring=1.0, talk=1.0))
    history = History(**LARGER)
    history.observe(call)
    history.save(snapshot_path(tmp_path, 3))
    kept = snapshot_path(tmp_path, 3).read_bytes()
    (tmp_path / "state-00000002.snapshot.part").write_bytes(kept[:-9])
    (tmp_path / "state-00000001.refused").write_bytes(kept[:-9])
    if serving:
        memory = Memory(tmp_path, **LARGER)
        memory.start_upkeep(memory.history.forget)
        request_forgetting(tmp_path, call.caller)
        wait_until(lambda: not pending_requests(tmp_path))
        memory.close()
    else:
        forget(tmp_path, call.caller)
    assert call.caller not in everything(tmp_path)


def everything(state):
    return b"".join(each.read_bytes() for each in sorted(state.rglob("*")) if each.is_file()).decode("latin1")


@pytest.mark.parametrize("running", [False, True])
def test_snapshots_that_nobody_reads_keep_nobody(swap, tmp_path, running):  # noqa: F811
    token = real_bundle.NUMBER_KEY.token("number", "x")
    live = begin(swap, tmp_path)
    live.close()
    for name in ("state-00000001.refused", "state-00000009.snapshot.part"):
        (tmp_path / name).write_text(token)
    again = begin(swap, tmp_path) if running else None
    forget(tmp_path, token)
    if again is not None:
        again.close()
    assert token not in everything(tmp_path)


def test_blanked_lines_are_passed_over_and_all_others_stay_where_they_are(tmp_path):
    token, journal = real_bundle.NUMBER_KEY.token("number", "x"), Journal(tmp_path, COMPLAINTS)
    lines = [b'{"number":"%b","n":%d}' % ((token if n % 3 else "other").encode(), n) for n in range(9)]
    for line in lines:
        journal.add(line)
    journal.close()
    where = file_path(tmp_path, COMPLAINTS, 1)
    size = where.stat().st_size
    assert blank_lines(where, token) == 6 and where.stat().st_size == size
    assert list(read_journal(tmp_path, COMPLAINTS, 0, ReadCounts())) == [lines[0], lines[3], lines[6]]


def test_a_request_is_a_token_and_waits_for_its_process(swap, tmp_path):  # noqa: F811
    token = real_bundle.NUMBER_KEY.token("number", "x")
    with pytest.raises(ValueError, match="expected the token"):
        request_forgetting(tmp_path, "13800138000")
    assert pending_requests(tmp_path) == []
    assert request_forgetting(tmp_path, token) == pending_requests(tmp_path)[0] == request_forgetting(tmp_path, token)
    (tmp_path / REQUESTS / "0123").write_text("no token")
    assert len(pending_requests(tmp_path)) == 1
    live = begin(swap, tmp_path)
    try:
        assert forget(tmp_path, token) < 60
        assert pending_requests(tmp_path) == []
    finally:
        live.close()


def test_whoever_waits_longer_than_he_said_is_told_and_the_request_stays(tmp_path, monkeypatch):
    def held(_):
        raise ValueError("another process serves from this folder")

    monkeypatch.setattr(forgetting, "lock_folder", held)
    with pytest.raises(ValueError, match="not done within 0 seconds"):
        forget(tmp_path, real_bundle.NUMBER_KEY.token("number", "x"), patience=0.0)
    assert len(pending_requests(tmp_path)) == 1


def test_without_a_process_for_a_snapshot_the_request_stays_and_is_tried_again(tmp_path, monkeypatch):
    token, forgotten, able = real_bundle.NUMBER_KEY.token("number", "x"), [], []

    def copied(where):
        if not able:
            raise OSError("no process")
        return os.posix_spawnp("touch", ["touch", where], os.environ)

    journals = [Journal(tmp_path, name) for name in (CALLS, COMPLAINTS)]
    upkeep = Upkeep(tmp_path, *journals, 1 << 20, copy=copied, forget=forgotten.append)
    request_forgetting(tmp_path, token)
    upkeep.look()
    assert (upkeep.saved, forgotten, len(pending_requests(tmp_path))) == ([0, 1], [token], 1)
    able.append(True)
    upkeep.look()
    assert (upkeep.saved, forgotten, len(pending_requests(tmp_path))) == (
        [0, 1],
        [token],
        1,
    )  # not at once: calls would wait
    later = time.monotonic() + REST
    monkeypatch.setattr("time.monotonic", lambda: later)
    upkeep.look()
    upkeep.close()
    assert (upkeep.saved, forgotten, pending_requests(tmp_path)) == ([1, 1], [token, token], [])
    for journal in journals:
        journal.close()


def test_a_request_outlives_a_rotation_of_keys(tmp_path):
    old = real_bundle.NUMBER_KEY.rotated("e2")
    new = old.rotated("e3")
    request_forgetting(tmp_path, old.token("number", "x"))
    for _ in range(2):  # keyed anew already, it stays as it is
        _rekey_state(tmp_path, Rekeying(old, new))
        assert [one.token for one in pending_requests(tmp_path)] == [new.token("number", "x")]
