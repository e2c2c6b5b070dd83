"""A consumer over a stream in memory, stopped at each step of a batch as a killed process is."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from callsieve.serving import BundleError
from callsieve.serving.live import journal as journal_module
from callsieve.serving.streams.consumer import StreamConsumer
from callsieve.serving.streams.source import Event
from tests.support import live_states, real_bundle
from tests.support.http_service import STRICT_POLICY, call_json, call_to_json

CALLS = real_bundle.calls(60, seed=3)
BODIES = [call_to_json(call if kind else live_states.attempt_of(call)) for kind, call in live_states.events(CALLS)]
RINGING = sum(b'"ring"' not in body for body in BODIES)
BATCH = 10


class KilledError(Exception):
    """The process ends here."""


class ListSource:
    """One partition with the messages of a list; at a step of its batch `kill_at` it raises KilledError."""

    def __init__(self, bodies, kill_at=-1, step="", reread=1_000):
        self.bodies, self.kill_at, self.step, self.reread = bodies, kill_at, step, reread
        self.sent, self.delivered, self.committed, self.batches = [], [], -1, 0
        self.at, self.known = len(bodies), -1

    def wanted(self):
        return {0}

    def start(self, partition, position):
        assert partition == 0
        self.known = int(position) if position else -1
        self.at = max(self.known + 1 - self.reread, 0)

    def stop(self, partition):
        raise AssertionError(f"partition {partition} is never given away")

    def poll(self):
        self.batches += 1
        part = list(enumerate(self.bodies))[self.at : self.at + BATCH]
        self.at += len(part)
        return [Event(0, str(at), str(at).encode(), body, at <= self.known) for at, body in part]

    def answer(self, event, body):
        assert not event.is_known
        self.sent.append((int(event.position), body))

    def flush(self):
        self._die("before delivery")
        self.delivered += self.sent
        self.sent = []
        self._die("after delivery")

    def commit(self, positions):
        self._die("before commit")
        self.committed = int(positions[0])
        return True

    def close(self):
        pass

    def _die(self, step):
        if self.batches == self.kill_at and self.step == step:
            time.sleep(2 * journal_module.EVERY)  # a journal that a thread writes would write now
            raise KilledError


@pytest.fixture(scope="module")
def swap_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    real_bundle.write_bundle(folder / "bundle", valid_until="2100-01-01T00:00:00Z")
    return lambda: live_states.loaded(folder / "bundle", policy=STRICT_POLICY)


def read_all(state, source, swap_of):
    """Consumes a stream to its end, or until the process is killed: the folder is then copied as it is on disk."""
    consumer = StreamConsumer(source, lambda folder: live_states.begin(swap_of(), folder, by_commit=True), state)
    try:
        consumer.run(lambda: source.committed == len(source.bodies) - 1)
    except KilledError:
        after = state.with_name(f"{state.name}-after")
        shutil.copytree(state, after)
        for live in consumer.lives.values():
            live.close()
        return after
    return state


def answers_of(source):
    """Returns the answer to each position; one that came twice must be equal."""
    by_position = {}
    for position, body in source.delivered:
        assert by_position.setdefault(position, body) == body
    return by_position


def positions_on_disk(state):
    text = "".join(path.read_text() for path in sorted((state / "partition-0").glob("calls-*.log")))
    return [int(at) for at in re.findall(r"@(\d+) [0-9a-f]{8}$", text, re.MULTILINE)]


@pytest.fixture(scope="module")
def expected(swap_of, tmp_path_factory):
    """Returns the answers of a consumer that is never stopped."""
    source, state = ListSource(BODIES), tmp_path_factory.mktemp("whole") / "state"
    read_all(state, source, swap_of)
    assert positions_on_disk(state) == list(range(len(BODIES)))
    answers = answers_of(source)
    assert len(answers) == RINGING and b'"status":"scored"' in answers[0]
    return answers


@pytest.mark.source("L32", by="serving/streams/consumer.py")
@pytest.mark.source("L32", by="serving/live/memory.py")
@pytest.mark.parametrize("step", ["before delivery", "after delivery", "before commit"])
@pytest.mark.parametrize("batch", [1, 4, 7])
def test_a_consumer_that_dies_at_any_step_leaves_nothing_lost_or_doubled(step, batch, swap_of, expected, tmp_path):
    first = ListSource(BODIES, kill_at=batch, step=step)
    state = read_all(tmp_path / "state", first, swap_of)
    assert first.committed < len(BODIES) - 1
    second = ListSource(BODIES)
    second.delivered = first.delivered
    assert read_all(state, second, swap_of) == state
    assert answers_of(second) == expected
    assert positions_on_disk(state) == list(range(len(BODIES)))


@pytest.mark.source("L32", by="serving/live/memory.py")
def test_a_snapshot_keeps_the_position(swap_of, tmp_path):
    state, source = tmp_path / "state", ListSource(BODIES)
    small = lambda folder: live_states.begin(swap_of(), folder, by_commit=True, journal_bytes=1)
    consumer = StreamConsumer(source, small, state)
    no_event_is_in_a_journal = lambda: all(
        path.read_text().startswith("@") or not path.stat().st_size for path in state.glob("*/calls-*.log")
    )
    consumer.run(lambda: source.committed == len(BODIES) - 1 and no_event_is_in_a_journal())
    assert len(list(state.glob("*/state-*.snapshot"))) in (1, 2)  # the newest, and the one before it
    live = live_states.begin(swap_of(), state / "partition-0", by_commit=True)
    position, calls = live.memory.position, live.memory.history.calls
    live.close()
    assert position == str(len(BODIES) - 1) and calls == len(CALLS)


def test_events_that_a_full_disk_refuses_are_not_committed(swap_of, tmp_path, monkeypatch):
    source, refusals, write = ListSource(BODIES), [], os.write

    def refuse(file, data):
        if b"@" in data and len(refusals) < 2:
            refusals.append(source.committed)
            raise OSError(28, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(journal_module.os, "write", refuse)
    monkeypatch.setattr("callsieve.serving.streams.consumer.REFUSED", 0.01)
    state = read_all(tmp_path / "state", source, swap_of)
    assert refusals == [-1, -1]  # nothing was committed before the disk took the first batch
    assert positions_on_disk(state) == list(range(len(BODIES)))


def test_an_invalid_event_gets_a_fault_without_its_values_and_stops_nothing(swap_of, tmp_path):
    bodies = [b"no json", call_json(start=4e9), call_json(), call_json(caller=7)]
    source = ListSource(bodies)
    read_all(tmp_path / "state", source, swap_of)
    answers = [json.loads(body) for _, body in sorted(answers_of(source).items())]
    assert [set(answer) == {"error"} for answer in answers] == [True, True, False, True]
    assert answers[2]["status"] == "scored"
    assert Path(tmp_path / "state" / "partition-0").is_dir() and positions_on_disk(tmp_path / "state") == [2]


def test_a_partition_waits_while_another_process_has_its_folder(swap_of, tmp_path, caplog):
    source, folder = ListSource(BODIES), tmp_path / "state" / "partition-0"
    consumer = StreamConsumer(source, lambda at: live_states.begin(swap_of(), at, by_commit=True), tmp_path / "state")
    folder.mkdir(parents=True)
    with live_states.held_by_another_process(folder):
        for _ in range(3):
            consumer.step()
        assert consumer.lives == {}
        assert [record.message for record in caplog.records if "waits" in record.message] == [
            f"partition 0 waits: {folder}: another process serves from this folder; expected one at a time"
        ]
    consumer.step()
    assert positions_on_disk(tmp_path / "state") == list(range(BATCH))
    assert consumer.run(lambda: True) == 0


def test_a_bundle_that_cannot_serve_ends_the_process(tmp_path):
    def refuse(_folder):
        raise BundleError("bundle: refused")

    with pytest.raises(BundleError):
        StreamConsumer(ListSource(BODIES), refuse, tmp_path / "state").step()
