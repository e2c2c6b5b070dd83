"""A snapshot has the number of its layout: earlier ones load, an unknown one is refused, and no change is silent."""

import hashlib
import json
import random
import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from callsieve.features import History
from callsieve.features.codegen.memory_layout import used_sizes
from callsieve.features.online import layout, snapshot
from callsieve.features.online.driver import driver
from callsieve.features.online.layout import LAYOUT, LayoutError
from callsieve.features.stream import call_store, compact_numbers, key_store, routes, time_order
from tests.support.calls.strategies import EXAMPLE_CALL, as_keyed_call

DATA = Path(__file__).parents[2] / "data"
ROOM = {"calls": 60, "numbers": 12}
SAVED = 80  # calls that the histories in `tests/data` have observed
# A change of the state needs the next LAYOUT, a converter from the one before, and a snapshot of that in `tests/data`.
# After a mere change of names, only the hash here changes.
FINGERPRINTS = {1: "0f041c77a1c5f94b"}


def calls(count):
    """Returns calls between fourteen numbers over some weeks, more than a history of ROOM has room for."""
    draws, start, result = random.Random(7), 1_700_000_000_000, []
    for i in range(count):
        start += draws.choice((0, 1000, 60_000, 3_600_000, 40_000_000))
        hours = start // 3_600_000 + 8
        caller, callee = draws.sample("abcdefghijklmn", 2) if i % 3 else ("a", "b")
        answered = draws.random() < 0.6
        call = {
            "start": start, "caller": caller, "callee": callee, "ring": draws.choice((2_000, 9_000)),
            "talk": draws.choice((4_000, 90_000)) if answered else 0,
            "outcome": "answered" if answered else draws.choice(("no_answer", "busy", "rejected", "invalid_number")),
            "hour": hours % 24, "day": hours // 24, "caller_block": "x" if caller < "e" else "y",
            "trunk": draws.choice((None, "t1", "t2")), "device": draws.choice((None, "d1")),
        }  # fmt: skip
        result.append(as_keyed_call(EXAMPLE_CALL | call))
    return result


def stored(path, name):
    """Returns a copy of a snapshot in `tests/data` that only its owner may write."""
    shutil.copyfile(DATA / name, path / "history")
    (path / "history").chmod(0o600)
    return path / "history"


@pytest.mark.parametrize("number", range(LAYOUT))
def test_a_snapshot_of_each_earlier_layout_gives_the_vectors_of_a_replay(tmp_path, number):
    """The calls are replayed by the present kernel, so a stored value that changes its meaning shows, too."""
    path, replayed = stored(tmp_path, f"history-layout-{number}.snapshot"), History(**ROOM)
    for call in calls(SAVED):
        replayed.observe(call)
    restored = History.load(path)
    assert (restored.calls, restored.dropped, restored.evicted) == (24, 55, 6)
    for call in calls(SAVED + 50)[SAVED:]:
        np.testing.assert_array_equal(restored.vector(call), replayed.vector(call))
        restored.observe(call)
        replayed.observe(call)
    restored.save(again := tmp_path / "again")
    facts = json.loads(again.read_bytes().split(b"\n")[0])
    assert facts["layout"] == LAYOUT and "kernel" not in facts


@pytest.mark.parametrize("choice", [None, ["number_age"]])
def test_a_history_of_the_whole_catalogue_follows_it(tmp_path, choice):
    """A later catalogue has other names; a choice of features stays."""
    file, facts, tokens = snapshot.open_snapshot(stored(tmp_path, "history-layout-0.snapshot"))
    with file:
        content = layout.Content(facts | ({} if choice is None else {"features": choice}), tokens, file)
        assert layout.converted(content, tmp_path).facts["features"] == choice


def test_a_snapshot_of_an_unknown_kernel_is_refused(tmp_path, monkeypatch):
    path = stored(tmp_path, "history-layout-0.snapshot")
    monkeypatch.setattr(layout, "KERNELS_OF_0", ("0" * 16,))
    with pytest.raises(LayoutError, match="fill a new folder"):
        History.load(path)


@pytest.mark.parametrize("number", [LAYOUT + 1, -1, "13800138000" * 9])
def test_an_unknown_layout_is_refused_in_a_line_that_says_what_to_do(tmp_path, monkeypatch, number):
    monkeypatch.setattr("callsieve.features.online.history.LAYOUT", number)
    History(**ROOM).save(tmp_path / "history")
    with pytest.raises(LayoutError) as caught:
        History.load(tmp_path / "history")
    message = str(caught.value)
    assert "expected 0 to 1; start the version that wrote it" in message and "\n" not in message and len(message) < 400


def test_a_change_of_the_state_needs_a_new_layout():
    """Offsets, sizes and the arrays of a snapshot; columns of the vector are no part of the state."""
    memory = driver(100, 10, compiled=False)
    modules = (call_store, compact_numbers, key_store, routes, time_order)
    parts = {module.__name__: constants(module) for module in modules}
    parts |= {kind: constants(namespace) for kind, namespace in memory.layouts.items()}
    parts["arrays"] = used_sizes(memory.layouts, memory.memory)
    parts["facts"] = list(snapshot.Facts.__annotations__)
    text = json.dumps(parts, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == FINGERPRINTS[LAYOUT]


def constants(namespace: ModuleType):
    columns = re.compile(r"_(COLUMN|CHUNK)_\d+$")
    numbers = {name: value for name, value in vars(namespace).items() if type(value) in (int, tuple)}
    return {name: value for name, value in numbers.items() if name.isupper() and not columns.search(name)}
