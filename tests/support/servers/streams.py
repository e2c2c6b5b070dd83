"""Servers of event streams that end with the test: Redis from its Debian package, and the mock cluster of librdkafka.

Both have the same functions, so a test can run over either of them.
"""

import contextlib
import subprocess

import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.debian import program
from tests.support.http_service import free_port
from tests.support.waiting import wait_until

PARTITIONS = 4  # as many as a topic of the mock cluster has


class RedisStreams:
    """A Redis server on loopback, without files."""

    def __init__(self, folder):
        self.port = free_port()
        alone = ("--save", "", "--appendonly", "no", "--dir", folder)
        self._command = [program("redis-server"), "--port", self.port, *alone]
        self.options = ("--redis", f"redis://127.0.0.1:{self.port}", "--partitions", PARTITIONS)

    def __enter__(self):
        self._process = subprocess.Popen(list(map(str, self._command)), stdout=subprocess.DEVNULL)
        self._client = redis.Redis(port=self.port)
        wait_until(self._is_up)
        return self

    def __exit__(self, *_):
        self._client.close()
        self._process.terminate()
        self._process.wait(20)

    def send(self, topic, messages):
        """Writes messages (partition, key, body)."""
        pipeline = self._client.pipeline(transaction=False)
        for partition, key, body in messages:
            pipeline.xadd(f"{topic}:{partition}", {"key": key, "call": body})
        pipeline.execute()

    def read(self, topic):
        """Returns the answers so far as (key, position of the event, body)."""
        return [(fields[b"key"], fields[b"of"], fields[b"verdict"]) for _, fields in self._client.xrange(topic)]

    def committed(self, topic, partitions=PARTITIONS):
        """Returns for each partition whether the group has read all of it."""
        names = [f"{topic}:{partition}" for partition in range(partitions)]
        groups = [self._client.xinfo_groups(name) for name in names]
        ends = [self._client.xinfo_stream(name)["last-generated-id"] for name in names]
        return [bool(rows) and rows[0]["last-delivered-id"] == end for rows, end in zip(groups, ends, strict=True)]

    def trim(self, name, position):
        """Deletes the entries of a stream before a position."""
        self._client.xtrim(name, minid=position, approximate=False)

    def _is_up(self):
        with contextlib.suppress(redis.ConnectionError):
            return self._client.ping()


class KafkaMock:
    """The mock cluster that a client of librdkafka runs in its own process; other processes reach it by its ports."""

    def __init__(self, folder):
        self._settings = folder / "kafka.settings"
        self._settings.write_text("# short, so that a dead member is noticed soon\nsession.timeout.ms=6000\n"
                                  "heartbeat.interval.ms=500\n")  # fmt: skip

    def __enter__(self):
        self._producer = Producer({"bootstrap.servers": "x", "test.mock.num.brokers": 1, "log_level": 0})
        nodes = self._producer.list_topics(timeout=30).brokers.values()
        brokers = ",".join(f"{broker.host}:{broker.port}" for broker in nodes)
        self.options = ("--kafka", brokers, "--kafka-settings", self._settings)
        reading = {"bootstrap.servers": brokers, "group.id": "callsieve", "enable.auto.commit": False}
        self._reader = Consumer(reading)
        return self

    def __exit__(self, *_):
        self._reader.close()
        del self._producer

    def send(self, topic, messages):
        """Writes messages (partition, key, body)."""
        for partition, key, body in messages:
            self._producer.produce(topic, body, key, partition=partition)
        assert self._producer.flush(30) == 0

    def read(self, topic):
        """Returns the answers so far as (key, position of the event, body)."""
        places = [TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)]
        left = sum(self._reader.get_watermark_offsets(place, timeout=30)[1] for place in places)
        self._reader.assign(places)
        messages = []
        while len(messages) < left:
            messages += [message for message in self._reader.consume(1000, 0.5) if message.error() is None]
        return [(message.key(), dict(message.headers())["of"], message.value()) for message in messages]

    def committed(self, topic):
        """Returns for each partition whether the group has read all of it."""
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        ends = [self._reader.get_watermark_offsets(place, timeout=30)[1] for place in places]
        offsets = [place.offset for place in self._reader.committed(places, timeout=30)]
        return [offset == end for offset, end in zip(offsets, ends, strict=True)]
