"""The memory of a service that starts: a snapshot, with windows that have moved on."""

from callsieve.features.online.history import History
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
