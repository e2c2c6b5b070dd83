"""A forgotten number is an unknown number afterwards, in the memory and on the disk of a running scorer."""

import io
import json
import os
import time
from itertools import chain, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features import Call, History, Intake
from callsieve.features.keys.rotation import Rekeying
from callsieve.serving.live import forgetting
from callsieve.serving.live.events import CALLS, COMPLAINTS
from callsieve.serving.live.forgetting import REQUESTS, blank_lines, forget, pending_requests, request_forgetting
from callsieve.serving.live.journal import Journal, ReadCounts, file_path, read_journal
from callsieve.serving.live.memory import REST, Limits, Memory, Upkeep
from callsieve.serving.live.snapshots import snapshot_path
from callsieve.serving.scorer.flags import FILE, Flags
from callsieve.training.oversight.privacy import service_state
from tests.serving.live.test_live import calls, swap  # noqa: F401 - fixtures
from tests.support import http_service, real_bundle
from tests.support.calls.strategies import as_keyed_call, histories
from tests.support.errors import raising
from tests.support.live_states import attempt_of, begin, events, play
from tests.support.waiting import wait_until
from tests.training.oversight.privacy.test_deletion import folder, keys_of, log  # noqa: F401 - fixtures

SMALL = {"calls": 12, "numbers": 4}  # so small that calls are dropped and numbers are evicted
LARGER = {"calls": 100, "numbers": 10}
TOKEN = real_bundle.NUMBER_KEY.token("number", "x")


def renamed(call, old, new):
    return call | {name: new for name in ("caller", "callee") if call[name] == old}


@pytest.mark.system
@pytest.mark.source("P6", by="features/online/history.py")
@given(drawn=histories(max_calls=30), room=st.sampled_from([SMALL, LARGER]), at=st.integers(0, 30))
@settings(max_examples=25)
def test_a_forgotten_number_leaves_the_history_of_another_caller(tmp_path_factory, drawn, room, at):
    """The oracle is a history in which another number made the earlier calls."""
    history, other = History(**room), History(**room)
    for call in drawn[:at]:
        history.observe(as_keyed_call(call))
        other.observe(as_keyed_call(renamed(call, "a", "other")))
    history.forget("a")
    if at == 7:  # the saved history does not contain the token either
        history.save(where := tmp_path_factory.mktemp("saved") / "history")
        history = History.load(where)
    for call in drawn[at:]:
        np.testing.assert_array_equal(history.vector(as_keyed_call(call)), other.vector(as_keyed_call(call)))
        history.observe(as_keyed_call(call))
        other.observe(as_keyed_call(call))
    assert (history.calls, history.dropped) == (other.calls, other.dropped)


def test_the_last_dialled_numbers_of_and_with_a_number_are_forgotten():
    intake, numbers = Intake(real_bundle.NUMBER_KEY), ("+8613800138000", "+8613800138001", "+8613800138002")
    for n, callee in ((0, 1), (1, 2), (2, 0)):
        intake(Call(1.0, numbers[n], numbers[callee]))
    intake.forget(intake.token("number", numbers[0]))
    assert sorted(chain(*intake._memory._numbers._shards)) == list(numbers[1:])
    last_dialled = intake._memory.last_dialled([intake._memory.number(number, 0).token for number in numbers])
    assert last_dialled[0] is None and last_dialled[1] is not None and last_dialled[2] is None


@pytest.mark.source("P6", by="serving/live/live.py")
def test_live_memory_does_not_contain_a_forgotten_number(swap, calls, tmp_path):  # noqa: F811
    live = begin(swap, tmp_path / "state")
    verdicts = play(live, events(calls))
    number = calls[0].caller
    token = live._intake.token("number", number)
    probe = Call(max(call.start for call in calls) + 5000.0, number, "+8613900139000")
    fresh = Call(probe.start, "+8613712345678", probe.callee)
    live.attempt(attempt_of(probe))
    before = live.memory.history.vector(live._intake(probe))
    live.forget(token)
    after, unknown = (live.memory.history.vector(Intake(real_bundle.NUMBER_KEY)(call)) for call in (probe, fresh))
    own = [i for i, name in enumerate(live.memory.history.features) if name.startswith(("out_", "in_", "number_"))]
    assert [before[i] for i in own] != [unknown[i] for i in own]
    np.testing.assert_array_equal([after[i] for i in own], [unknown[i] for i in own])
    air, intake = live.in_progress, live._intake
    dictionaries = (air._begun, air._restored, intake._memory._last, intake._memory._numbers)
    memory = repr([dictionary._shards for dictionary in dictionaries] + [entry[2] for entry in live._recent.values()])
    assert token not in memory and not live.memory.history._keys["number"].key(token)
    assert any(live.explain(verdict.case) for verdict in verdicts)
    live.close()


@pytest.mark.system
@pytest.mark.source("P6", by="serving/live/forgetting.py")
def test_a_running_service_forgets_a_number_on_disk(folder, log, command_json, tmp_path, monkeypatch):  # noqa: F811
    """`callsieve privacy delete` makes a real process forget, which is then killed and started again."""
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
        complaint = {"number": number, "reporter": other, "at": now, "category": "loans"}
        assert service.post("/v1/report", json.dumps(complaint).encode(), keys["report"])[0] == 200
        wait_until(lambda: token in state_text(state))
        monkeypatch.setattr("sys.stdin", io.StringIO(number))
        seconds = command_json(*delete)["scorers"]["state"]
        assert 0 <= seconds < 60
        assert token not in state_text(state) and not list((state / REQUESTS).iterdir())
        assert "13700137000" not in state_text(state)
        service.process.kill()
        service.process.wait()
    with http_service.ServiceProcess(tmp_path) as service:
        assert token not in state_text(state)
    # Without a process the same command changes the files itself.
    body = {"start": now + 50, "caller": number, "callee": other, "ring": 3.0, "talk": 1.0}
    with http_service.ServiceProcess(tmp_path) as service:
        assert service.post("/v1/observe", json.dumps(body).encode(), keys["score"])[0] == 200
    assert token in state_text(state)
    monkeypatch.setattr("sys.stdin", io.StringIO(number))
    assert command_json(*delete)["scorers"]["state"] < 60
    assert token not in state_text(state)


@pytest.mark.source("P6", by="serving/live/snapshots.py")
@pytest.mark.parametrize("serving", [True, False])
def test_incomplete_snapshots_of_a_forgotten_number_are_deleted(tmp_path, serving):
    """One snapshot was left by a killed process; another was refused because it could not be read."""
    call = Intake(real_bundle.NUMBER_KEY)(Call(1.0, "13800138000", "13900139000", ring=1.0, talk=1.0))
    history = History(**LARGER)
    history.observe(call)
    history.save(snapshot_path(tmp_path, 3))
    snapshot = snapshot_path(tmp_path, 3).read_bytes()
    (tmp_path / "state-00000002.snapshot.part").write_bytes(snapshot[:-9])
    (tmp_path / "state-00000001.refused").write_bytes(snapshot[:-9])
    if serving:
        memory = Memory(tmp_path, limits=Limits(**LARGER))
        memory.start(memory.history.forget)
        request_forgetting(tmp_path, call.caller)
        wait_until(lambda: not pending_requests(tmp_path))
        memory.close()
    else:
        forget(tmp_path, call.caller)
    assert call.caller not in state_text(tmp_path)


def state_text(state):
    return b"".join(path.read_bytes() for path in sorted(state.rglob("*")) if path.is_file()).decode("latin1")


def test_blanked_lines_are_skipped_and_all_others_stay_in_place(tmp_path):
    journal = Journal(tmp_path, COMPLAINTS).start()
    lines = [b'{"number":"%b","n":%d}' % ((TOKEN if n % 3 else "other").encode(), n) for n in range(9)]
    for line in lines:
        journal.add(line)
    journal.close()
    where = file_path(tmp_path, COMPLAINTS, 1)
    size = where.stat().st_size
    assert blank_lines(where, TOKEN) == 6 and where.stat().st_size == size
    assert list(read_journal(tmp_path, COMPLAINTS, 0, ReadCounts())) == [lines[0], lines[3], lines[6]]


@pytest.mark.source("P6", by="serving/live/forgetting.py")
@pytest.mark.parametrize("running", [True, False])
def test_a_forgotten_number_is_no_longer_flagged_on_disk(swap, tmp_path, running):  # noqa: F811
    flags, other = swap.scorer.flags, real_bundle.NUMBER_KEY.token("number", "y")
    live = begin(swap, tmp_path / "state")
    for at, token in product(range(1, 11), (TOKEN, other)):
        flags.events(token, "t", at, caught=True)
    if running:
        live.forget(TOKEN)
        written = (tmp_path / "state" / FILE).read_bytes()
    live.close()
    if not running:
        forget(tmp_path / "state", TOKEN)
        written = (tmp_path / "state" / FILE).read_bytes()
    again = Flags()
    again.restore(written)
    assert [again.events(token, "t", 20, caught=False) for token in (TOKEN, other)] == [0, 10]


def test_a_request_is_a_token_and_waits_for_its_process(swap, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match="expected the token"):
        request_forgetting(tmp_path, "13800138000")
    assert pending_requests(tmp_path) == []
    assert request_forgetting(tmp_path, TOKEN) == pending_requests(tmp_path)[0] == request_forgetting(tmp_path, TOKEN)
    (tmp_path / REQUESTS / "0123").write_text("no token")
    assert len(pending_requests(tmp_path)) == 1
    live = begin(swap, tmp_path)
    try:
        assert forget(tmp_path, TOKEN) < 60
        assert pending_requests(tmp_path) == []
    finally:
        live.close()


def test_a_request_stays_if_it_is_not_done_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(forgetting, "lock_folder", raising(ValueError("another process serves from this folder")))
    with pytest.raises(ValueError, match="not done within 0 seconds"):
        forget(tmp_path, TOKEN, patience=0.0)
    assert len(pending_requests(tmp_path)) == 1


def test_a_request_stays_and_is_retried_if_no_snapshot_can_be_written(tmp_path, monkeypatch):
    forgotten, can_copy = [], []

    def copy(where):
        if not can_copy:
            raise OSError("no process")
        return os.posix_spawnp("touch", ["touch", where], os.environ)

    journals = [Journal(tmp_path, name).start() for name in (CALLS, COMPLAINTS)]
    upkeep = Upkeep(tmp_path, *journals, 1 << 20, copy=copy, forget=forgotten.append)
    request_forgetting(tmp_path, TOKEN)
    upkeep.look()
    assert (upkeep.saved, forgotten, len(pending_requests(tmp_path))) == ([0, 1], [TOKEN], 1)
    can_copy.append(True)
    upkeep.look()
    # Not retried at once, because calls would wait.
    assert (upkeep.saved, forgotten, len(pending_requests(tmp_path))) == ([0, 1], [TOKEN], 1)
    later = time.monotonic() + REST
    monkeypatch.setattr("time.monotonic", lambda: later)
    upkeep.look()
    upkeep.close()
    assert (upkeep.saved, forgotten, pending_requests(tmp_path)) == ([1, 1], [TOKEN, TOKEN], [])
    for journal in journals:
        journal.close()


def test_a_request_outlives_a_rotation_of_keys(tmp_path):
    old = real_bundle.NUMBER_KEY.rotated("e2")
    new = old.rotated("e3")
    request_forgetting(tmp_path, old.token("number", "x"))
    (tmp_path / FILE).write_bytes(Flags().to_bytes())
    for _ in range(2):  # a request that has the new key already does not change
        service_state.rekey(tmp_path, Rekeying(old, new))
        assert [request.token for request in pending_requests(tmp_path)] == [new.token("number", "x")]
        assert not (tmp_path / FILE).exists()
