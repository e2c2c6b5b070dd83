"""Call events from a Kafka topic, and verdicts to another one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from .source import BATCH, GROUP, REREAD, WAIT, Event, StreamError

SECONDS = 30.0  # for an answer of a broker
_LOG = logging.getLogger("callsieve.serving")
_OF_MEMBERS = ("group.", "session.", "heartbeat.", "max.poll.", "partition.assignment.", "fetch.")
"""Starts of the names of settings that only a member of a group has."""
_Settings = dict[str, str | int | bool]


class KafkaSource:
    """A topic of calls, read as a member of a consumer group.

    The group's protocol shares the partitions among the members. The position on disk decides where a partition is
    read from, not the offset that the group has committed.
    """

    def __init__(self, brokers: str, calls: str, verdicts: str, settings: dict[str, str] | None = None) -> None:
        """Joins the group."""
        both = {"bootstrap.servers": brokers, **(settings or {})}
        reading: _Settings = {
            "group.id": GROUP,
            "partition.assignment.strategy": "cooperative-sticky",
            **both,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
        writing: _Settings = {name: value for name, value in both.items() if not name.startswith(_OF_MEMBERS)}
        self._calls, self._verdicts = calls, verdicts
        self._wanted: set[int] = set()
        self._known: dict[int, int] = {}  # by partition, the offset up to which events are known
        self._refused: KafkaError | None = None
        self._producer = Producer({"enable.idempotence": True, "linger.ms": 0, **writing}, logger=_LOG)
        self._consumer = Consumer(reading, logger=_LOG)
        self._consumer.subscribe([calls], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    def wanted(self) -> set[int]:
        """Returns the partitions that the group has assigned to this member."""
        return set(self._wanted)

    def start(self, partition: int, position: str) -> None:
        """Starts to read a partition; see `Source`."""
        place = TopicPartition(self._calls, partition)
        try:
            begin, end = self._consumer.get_watermark_offsets(place, timeout=SECONDS)
            (committed,) = self._consumer.committed([place], timeout=SECONDS)
        except KafkaException as error:
            raise StreamError(f"partition {partition} of {self._calls}: {error.args[0].str()}") from None
        after = int(position) + 1 if position else committed.offset
        following = after if after >= 0 else begin
        if not begin <= following <= end:
            raise StreamError(
                f"partition {partition} of {self._calls}: the next event is {following}, and the topic has {begin} to "
                f"{end}: events are lost; begin with another state folder, or restore the topic"
            )
        self._known[partition] = following - 1
        place.offset = max(begin, following - REREAD) if position else following
        self._consumer.incremental_assign([place])

    def stop(self, partition: int) -> None:
        """Stops to read a partition, unless the group has taken it away already."""
        if self._known.pop(partition, None) is not None:
            self._consumer.incremental_unassign([TopicPartition(self._calls, partition)])

    def poll(self) -> list[Event]:
        """Returns the next events; see `Source`."""
        first = self._consumer.poll(WAIT)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(BATCH - 1, 0)]
        return [self._event(message) for message in messages if self._is_event(message)]

    def answer(self, event: Event, body: bytes) -> None:
        """Sends the answer to an event; see `Source`."""
        headers: list[tuple[str, Any]] = [("of", f"{event.partition}:{event.position}".encode())]
        while True:
            try:
                self._producer.produce(self._verdicts, body, event.key, headers=headers, on_delivery=self._delivered)
                return
            except BufferError:  # the queue of the producer is full
                self._producer.poll(WAIT)

    def flush(self) -> None:
        """Returns when the topic has all answers. Raises: StreamError: if it refused one."""
        waiting = self._producer.flush(SECONDS)
        if waiting or self._refused is not None:
            reason = f"no answer within {SECONDS:g} seconds" if self._refused is None else self._refused.str()
            raise StreamError(f"topic {self._verdicts}: verdicts are not delivered: {reason}")

    def commit(self, positions: dict[int, str]) -> bool:
        """Commits offsets; the group refuses them while it shares the partitions anew."""
        places = [TopicPartition(self._calls, partition, int(at) + 1) for partition, at in positions.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            _LOG.info("offsets are not committed yet: %s", error.args[0].str())
            return False
        return True

    def close(self) -> None:
        """Leaves the group."""
        self._consumer.close()

    def _assign(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        self._wanted |= {place.partition for place in places}
        self._consumer.incremental_assign([])  # `start` assigns each one, when its state is open

    def _revoke(self, _consumer: Consumer, places: list[TopicPartition]) -> None:
        self._wanted -= {place.partition for place in places}
        started = [place for place in places if self._known.pop(place.partition, None) is not None]
        self._consumer.incremental_unassign([TopicPartition(self._calls, place.partition) for place in started])

    def _is_event(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise StreamError(f"topic {self._calls}: {error.str()}")
        _LOG.warning("topic %s: %s", self._calls, error.str())
        return False

    def _event(self, message: Message) -> Event:
        partition, offset = message.partition() or 0, message.offset() or 0
        key, body = message.key(), message.value()
        known = offset <= self._known.get(partition, -1)
        return Event(partition, str(offset), _bytes(key) if key is not None else None, _bytes(body or b""), known)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._refused = self._refused or error


def read_settings(path: Path | None) -> dict[str, str]:
    """Returns the settings in a file of lines NAME=VALUE; lines with # are comments."""
    settings = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path else (), start=1):
        name, equals, value = line.partition("=")
        if line.strip() and not line.startswith("#"):
            if not equals:
                raise ValueError(f"{path}, line {number}: expected NAME=VALUE, as librdkafka names its settings")
            settings[name.strip()] = value.strip()
    return settings


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
