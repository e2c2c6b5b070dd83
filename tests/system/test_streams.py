"""Consumers of Kafka and Redis Streams as real processes, one of them killed under load."""

import json
import math
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from callsieve.features.intake.partition import partition
from tests.support import live_states, real_bundle
from tests.support.http_service import call_to_json, write_service_files
from tests.support.servers.streams import PARTITIONS, KafkaMock, RedisStreams
from tests.support.waiting import wait_until

CALLS = real_bundle.calls(400, seed=11)


def messages_of(calls):
    """Returns messages (partition, key, body): each event to its caller's partition, each end also to the callee's."""
    messages = []
    for number, (kind, call) in enumerate(live_states.events(calls)):
        event = call if kind else live_states.attempt_of(call)
        places = [partition(call.caller, PARTITIONS)]
        if kind and (other := partition(call.callee, PARTITIONS)) not in places:
            places.append(other)
        messages += [(place, f"{number}", call_to_json(event)) for place in places]
    return messages


MESSAGES = messages_of(CALLS)
RINGING = {key for _, key, body in MESSAGES if b'"ring"' not in body}


class ConsumerProcess:
    """`callsieve live consume` on the files of a folder; leaving the block stops it."""

    def __init__(self, folder, state, server, calls, verdicts):
        self.log = folder / f"{state.name}.log"
        words = ["live", "consume", "--bundle", folder / "bundle", "--key", folder / "number.key"]
        words += ["--policy", folder / "policy.toml", "--state", state, *server.options]
        words += ["--calls-topic", calls, "--verdicts-topic", verdicts, "--max-calls", 50_000, "--max-numbers", 5_000]
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "callsieve.training", *map(str, words)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self, number=signal.SIGTERM):
        """Ends the process by a signal; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


def verdicts_by_key(answers):
    """Returns the answer of each key; an answer that came again must be equal and about the same event."""
    by_key = {}
    for key, position, body in answers:
        assert by_key.setdefault(key.decode(), (position, body)) == (position, body)
    return {key: json.loads(body) for key, (_, body) in by_key.items()}


def journal_positions(state, number):
    """Returns the positions of the events in a partition's journal, as its files have them."""
    paths = sorted((state / f"partition-{number}").glob("calls-*.log"))
    return [at for path in paths for at in re.findall(r"@(\S+) [0-9a-f]{8}$", path.read_text(), re.MULTILINE)]


def run_all(folder, state, server, names, *, messages=MESSAGES, rate=math.inf, kill=False):
    """Sends all messages, at most `rate` a second, while consumers read; returns their verdicts by key."""
    calls, verdicts = names
    server.send(calls, messages[:300])
    consumers = [ConsumerProcess(folder, state, server, calls, verdicts) for _ in range(3 if kill else 1)]
    try:
        wait_until(lambda: all(server.committed(calls)), 120)
        began, kill_at = time.monotonic(), 300 + len(messages) // 900 * 300
        for begin in range(300, len(messages), 50):
            time.sleep(max(began + (begin - 300) / rate - time.monotonic(), 0))
            server.send(calls, messages[begin : begin + 50])
            if kill and begin == kill_at:
                consumers.pop(0).stop(signal.SIGKILL)
        wait_until(lambda: all(server.committed(calls)), 600)
    finally:
        codes = [consumer.stop() for consumer in consumers]
    assert codes == [0] * len(consumers), consumers[0].log.read_text()
    return verdicts_by_key(server.read(verdicts))


@pytest.mark.parametrize("kind", [RedisStreams, KafkaMock])
def test_a_consumer_that_is_killed_loses_no_event_and_counts_none_twice(kind, tmp_path):
    write_service_files(tmp_path)
    with kind(tmp_path) as server:
        alone = run_all(tmp_path, tmp_path / "alone", server, ("calls", "verdicts"), kill=False)
        shared = run_all(tmp_path, tmp_path / "shared", server, ("calls2", "verdicts2"), kill=True)
    assert alone.keys() == RINGING and {verdict["status"] for verdict in alone.values()} == {"scored"}
    assert len({verdict["score"] for verdict in alone.values()}) > 50
    assert shared == alone
    sent = Counter(place for place, _, _ in MESSAGES)
    for state in (tmp_path / "alone", tmp_path / "shared"):
        positions = {number: journal_positions(state, number) for number in range(PARTITIONS)}
        assert {number: len(at) for number, at in positions.items()} == dict(sent)
        assert all(len(set(at)) == len(at) for at in positions.values())
