"""A stream of call events in partitions, as the consumer reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

BATCH = 500  # events of one poll
WAIT = 0.1  # seconds that a poll waits for the first event
REREAD = 20_000  # events before a position that are read again, for the numbers that their callers dialled last
GROUP = "callsieve"


@dataclass(frozen=True, slots=True)
class Event:
    """One message.

    Attributes:
        position: of the message in its partition, as text without spaces.
        key: key of the message; its verdict gets the same.
        body: a call as JSON.
        is_known: whether the message lies before the position that the partition was started from.
    """

    partition: int
    position: str
    key: bytes | None
    body: bytes
    is_known: bool = False


class StreamError(OSError):
    """A stream that cannot be read or written as expected: the process must end, because events could be lost."""


class Source(Protocol):
    """Partitions of a stream, shared by the processes that read it, and the stream of verdicts.

    A process owns a partition by the lock of its state folder. `wanted` only says who should own it, so a late or
    wrong answer costs time and no event.
    """

    def wanted(self) -> set[int]:
        """Returns the partitions that this process should own now."""

    def start(self, partition: int, position: str) -> None:
        """Starts to read a partition after a position; without one, where the group has committed, or at its begin."""

    def stop(self, partition: int) -> None:
        """Stops to read a partition."""

    def poll(self) -> list[Event]:
        """Returns the next events, at most BATCH, in the order of each partition; waits WAIT seconds for the first."""

    def answer(self, event: Event, body: bytes) -> None:
        """Sends the answer to an event, with its key and its position; `flush` waits for it."""

    def flush(self) -> None:
        """Returns when the stream of verdicts has all answers. Raises: StreamError: if it refused one."""

    def commit(self, positions: dict[int, str]) -> bool:
        """Tells the group the last position of partitions whose events are on disk; returns whether it accepts them.

        Only monitoring needs it, and a start without the state folder.
        """

    def close(self) -> None:
        """Leaves the group."""
