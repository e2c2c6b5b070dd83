"""Sources over a real Redis and the mock cluster of librdkafka: positions, committed places, loss and members."""

import time

import pytest

from callsieve.serving.streams import redis_source
from callsieve.serving.streams.kafka_source import KafkaSource, read_settings
from callsieve.serving.streams.redis_source import RedisSource
from callsieve.serving.streams.source import StreamError
from tests.support.errors import refused
from tests.support.servers.streams import PARTITIONS, KafkaMock, RedisStreams
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system
MESSAGES = [(number % PARTITIONS, str(number), f"body {number}".encode()) for number in range(20)]


def source_of(server):
    """Returns a member of the group of a server."""
    if isinstance(server, RedisStreams):
        return RedisSource(server.options[1], "calls", "verdicts", PARTITIONS)
    return KafkaSource(server.options[1], "calls", "verdicts", read_settings(server.options[3]))


def read(source, count):
    """Returns the next `count` events."""
    events, deadline = [], time.monotonic() + 60
    while len(events) < count:
        assert time.monotonic() < deadline
        events += source.poll()
    return events


def joined(source):
    """Polls until the source has a partition; returns its partitions."""
    wait_until(lambda: source.poll() == [] and source.wanted(), 60)
    return source.wanted()


@pytest.mark.parametrize("kind", [RedisStreams, KafkaMock])
def test_reading_goes_on_after_a_position_and_reads_known_events_again(kind, tmp_path):
    with kind(tmp_path) as server:
        server.send("calls", MESSAGES)
        first = source_of(server)
        assert joined(first) == set(range(PARTITIONS))
        first.start(1, "")
        events = read(first, 5)
        assert [(event.key, event.body) for event in events] == [
            (key.encode(), body) for partition, key, body in MESSAGES if partition == 1
        ]
        assert {(event.partition, event.is_known) for event in events} == {(1, False)}
        for event in events[:2]:
            first.answer(event, b"answer to " + event.body)
        first.flush()
        answers = [
            (event.key, f"1:{event.position.partition('/')[0]}".encode(), b"answer to " + event.body)
            for event in events[:2]
        ]
        assert sorted(server.read("verdicts")) == answers
        first.commit({1: events[2].position})
        first.stop(1)
        first.start(1, "")  # without a position the committed one counts
        assert [event.position for event in read(first, 2)] == [event.position for event in events[3:]]
        first.stop(1)
        first.start(1, events[1].position)  # the position on disk counts more than the committed one
        again = read(first, 5)
        assert [event.key for event in again] == [event.key for event in events]
        assert [event.is_known for event in again] == [True, True, False, False, False]
        first.close()


def test_deleted_entries_that_nobody_has_read_are_an_error(tmp_path):
    with RedisStreams(tmp_path) as server:
        server.send("calls", MESSAGES)
        source = source_of(server)
        source.start(2, "")
        events = read(source, 5)
        source.commit({2: events[-1].position})
        source.stop(2)
        server.trim("calls:2", events[2].position.partition("/")[0])  # entries 0 and 1 are deleted
        source.start(2, events[1].position)
        assert [event.is_known for event in read(source, 3)] == [False] * 3
        source.stop(2)
        with refused("stream calls:2: entries after the last one on disk are deleted: events are lost", StreamError):
            source.start(2, events[0].position)
        source.close()


def test_an_offset_beyond_a_topic_is_an_error(tmp_path):
    with KafkaMock(tmp_path) as server:
        server.send("calls", MESSAGES)
        source = source_of(server)
        joined(source)
        with refused(
            "partition 1 of calls: the next event is 8, and the topic has 0 to 5: events are lost", StreamError
        ):
            source.start(1, "7")
        source.close()


def share_evenly(members):
    """Whether each partition has one of `members`, and none has two more than another."""
    shares = [sorted(member.wanted()) for member in members]
    sizes = [len(share) for share in shares]
    partitions = sorted(partition for share in shares for partition in share)
    return partitions == list(range(PARTITIONS)) and max(sizes) - min(sizes) < 2


def test_members_share_the_streams_and_leave_out_a_silent_one(tmp_path, monkeypatch):
    monkeypatch.setattr(redis_source, "BEAT", 0.1)
    monkeypatch.setattr(redis_source, "SILENT", 2.0)
    with RedisStreams(tmp_path) as server:
        members = [source_of(server) for _ in range(3)]
        wait_until(lambda: share_evenly(members), 20)
        members[0]._left.set()  # its thread stops, as in a killed process
        wait_until(lambda: share_evenly(members[1:]), 20)
        members.pop(0)
        members.pop().close()
        wait_until(lambda: share_evenly(members), 20)
        members[0].start(0, "")
    with refused("Redis: ConnectionError; is the server", StreamError):
        members[0].poll()


def test_a_setting_without_a_value_is_refused_by_its_line(tmp_path):
    path = tmp_path / "kafka.settings"
    path.write_text("# comment\n\nsasl.username = a\nsasl.password=x=y\n")
    assert read_settings(path) == {"sasl.username": "a", "sasl.password": "x=y"}
    path.write_text("sasl.password secret\n")
    with refused("kafka.settings, line 1: expected NAME=VALUE", ValueError) as error:
        read_settings(path)
    assert "secret" not in str(error)
