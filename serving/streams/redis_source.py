"""Call events from Redis Streams, one stream for each partition, and verdicts to another stream.

A consumer group of Redis gives an entry to any of its members, which would tear the history of a caller apart. So the
members share whole streams: each writes its name and the time into a sorted set, and partition P belongs to the member
P modulo their number. The group's last delivered id is the committed position.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import redis

from .source import BATCH, GROUP, REREAD, WAIT, Event, StreamError

BEAT, SILENT = 1.0, 5.0  # seconds between two signs of life, and until a silent member is left out
_BEGIN = "0-0"
_P = ParamSpec("_P")
_T = TypeVar("_T")
_Method = Callable[Concatenate["RedisSource", _P], _T]


def _refusing(method: _Method[_P, _T]) -> _Method[_P, _T]:

    @wraps(method)
    def call(self: RedisSource, /, *arguments: _P.args, **options: _P.kwargs) -> _T:
        try:
            return method(self, *arguments, **options)
        except redis.RedisError as error:
            raise StreamError(f"Redis: {type(error).__name__}; is the server of --redis up and not full?") from None

    return call


class RedisSource:
    """The streams `CALLS:0` to `CALLS:N-1`; an entry has the field `call`, and may have `key`."""

    def __init__(self, url: str, calls: str, verdicts: str, partitions: int) -> None:
        """Joins the members. Raises: StreamError: if the server cannot be reached."""
        self._redis: Any = redis.Redis.from_url(url)
        self._calls, self._verdicts, self._partitions = calls, verdicts, partitions
        self._member = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._members: list[bytes] = []
        self._last: dict[int, bytes] = {}  # by partition, the id of the last entry that was read
        self._count: dict[int, int] = {}  # by partition, entries read since its stream began
        self._known: list[Event] = []
        self._answers = self._redis.pipeline(transaction=False)
        self._left = threading.Event()
        self._beat()
        # A thread, because the state of a partition may take a minute to open.
        threading.Thread(target=self._beat_until_left, name="members", daemon=True).start()

    def wanted(self) -> set[int]:
        """Returns the partitions of this member."""
        members = self._members
        return set(range(members.index(self._member.encode()), self._partitions, len(members)))

    @_refusing
    def start(self, partition: int, position: str) -> None:
        """Starts to read a stream; see `Source`."""
        name = self._name(partition)
        try:
            self._redis.xgroup_create(name, GROUP, _BEGIN, mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise StreamError(f"stream {name}: {error}") from None
        (group,) = (row for row in self._redis.xinfo_groups(name) if row["name"] == GROUP.encode())
        last, count = _split(position) if position else (group["last-delivered-id"], group["entries-read"] or 0)
        stream = self._redis.xinfo_stream(name)
        if stream["entries-added"] - stream["length"] > count:
            raise StreamError(
                f"stream {name}: entries after the last one on disk are deleted: events are lost; begin with another "
                "state folder, and delete only entries that the group has read"
            )
        before = self._redis.xrevrange(name, last, "-", REREAD) if position else []
        self._known += [_event(partition, entry, 0, is_known=True) for entry in reversed(before)]
        self._last[partition], self._count[partition] = last, count

    def stop(self, partition: int) -> None:
        """Stops to read a stream."""
        self._last.pop(partition, None)

    @_refusing
    def poll(self) -> list[Event]:
        """Returns the next events; see `Source`."""
        if self._known:
            known, self._known = self._known, []
            return known
        if not self._last:
            time.sleep(WAIT)
            return []
        names = {self._name(partition).encode(): partition for partition in self._last}
        places = {name: self._last[partition] for name, partition in names.items()}
        events: list[Event] = []
        for name, entries in self._redis.xread(places, BATCH, round(WAIT * 1000)) or ():
            partition = names[name]
            events += [_event(partition, entry, self._count[partition] + i) for i, entry in enumerate(entries, 1)]
            self._last[partition] = entries[-1][0]
            self._count[partition] += len(entries)
        return events

    def answer(self, event: Event, body: bytes) -> None:
        """Queues the answer to an event until `flush`."""
        fields: dict[Any, Any] = {"verdict": body, "of": b"%d:%b" % (event.partition, _split(event.position)[0])}
        if event.key is not None:
            fields["key"] = event.key
        self._answers.xadd(self._verdicts, fields)

    @_refusing
    def flush(self) -> None:
        """Sends the answers."""
        self._answers.execute()

    @_refusing
    def commit(self, positions: dict[int, str]) -> bool:
        """Sets the group's last delivered id of each stream, and how many entries it has read."""
        for partition, position in positions.items():
            last, count = _split(position)
            self._redis.xgroup_setid(self._name(partition), GROUP, last, entries_read=count)
        return True

    @_refusing
    def close(self) -> None:
        """Leaves the members."""
        self._left.set()
        self._redis.zrem(f"{self._calls}:members", self._member)
        self._redis.close()

    @_refusing
    def _beat(self) -> None:
        now, members = self._redis.time()[0], f"{self._calls}:members"
        beat = self._redis.pipeline()
        beat.zadd(members, {self._member: now})
        beat.zremrangebyscore(members, "-inf", now - SILENT)
        beat.zrange(members, 0, -1)
        self._members = sorted(beat.execute()[-1])

    def _beat_until_left(self) -> None:
        while not self._left.wait(BEAT):
            with suppress(StreamError):  # the reading thread meets the same error
                self._beat()

    def _name(self, partition: int) -> str:
        return f"{self._calls}:{partition}"


def _event(partition: int, entry: tuple[bytes, dict[bytes, bytes]], count: int, *, is_known: bool = False) -> Event:
    """Returns an entry as an event. Its position is its id and its place in the stream, counted from the begin.

    The count reveals deleted entries: the server knows how many were added, and how many are left.
    """
    name, fields = entry
    return Event(partition, f"{name.decode()}/{count}", fields.get(b"key"), fields.get(b"call", b""), is_known)


def _split(position: str) -> tuple[bytes, int]:
    name, _, count = position.partition("/")
    return name.encode(), int(count)
