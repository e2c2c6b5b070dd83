"""The memory of a service that starts: a snapshot, with windows that have moved on."""

import pytest

from callsieve.features.online.history import History
from callsieve.features.online.layout import LayoutError
from callsieve.serving.live.events import CALLS
from callsieve.serving.live.journal import file_path
from callsieve.serving.live.memory import Limits, Memory
from callsieve.serving.live.snapshots import snapshot_path
from tests.support.calls.strategies import DAY, EXAMPLE_CALL, as_keyed_call

SMALL = {"calls": 100, "numbers": 20}


def test_a_restored_history_has_moved_on_before_the_first_call(tmp_path):
    """A file filled it without any vector; the first call would have to wait until nine days have passed."""
    history, first = History(**SMALL), EXAMPLE_CALL["start"]
    newest = first + 9 * DAY
    for start in (*range(first, newest, DAY), *range(newest - 3_000, newest + 1, 1_000)):
        history.observe(as_keyed_call(EXAMPLE_CALL | {"start": start}))
    assert (history.newest, history.lag(first), history.calls) == (newest, 0, 13)
    history.save(snapshot_path(tmp_path, 1))
    memory = Memory(tmp_path, limits=Limits(**SMALL))
    assert (memory.history.lag(newest - 5), memory.history.lag(newest), memory.history.calls) == (5, 0, 11)
    memory.close()


def test_a_state_of_another_layout_is_refused_at_the_start_and_left_as_it_is(tmp_path, monkeypatch):
    where = snapshot_path(tmp_path, 1)
    with monkeypatch.context() as later:
        later.setattr("callsieve.features.online.history.LAYOUT", 99)
        History(**SMALL).save(where)
    content = where.read_bytes()
    for _ in range(2):  # the folder is free again
        with pytest.raises(LayoutError, match=r"state of layout 99; expected 0 to 1; start the version that wrote it"):
            Memory(tmp_path, limits=Limits(**SMALL))
    assert where.read_bytes() == content and sorted(path.name for path in tmp_path.iterdir()) == ["lock", where.name]


def test_a_clean_stop_leaves_a_snapshot_and_the_calls_in_progress(tmp_path, monkeypatch):
    monkeypatch.setattr("callsieve.serving.live.memory.REPLAYED", 0)
    state = Memory(tmp_path, limits=Limits(**SMALL))
    state.start(state.history.forget)
    calls = [as_keyed_call(EXAMPLE_CALL | {"start": EXAMPLE_CALL["start"] + at}) for at in range(9)]
    for call in calls:
        state.record(call)
    assert state.close(calls[-2:]) == 0
    probe, again, restored = as_keyed_call(EXAMPLE_CALL | {"start": EXAMPLE_CALL["start"] + 60_000}), [], []
    for _ in range(2):  # the second stop has no event to write
        memory = Memory(tmp_path, limits=Limits(**SMALL), on_restored=restored.append)
        again.append((memory.history.calls, memory.restored.lines, memory.history.vector(probe)))
        memory.close()
    assert restored == calls[-2:] * 2 and repr(again) == repr([(9, 2, state.history.vector(probe))] * 2)
    assert snapshot_path(tmp_path, 2).exists() and not file_path(tmp_path, CALLS, 1).exists()
