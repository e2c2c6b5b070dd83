"""Reads call events of the partitions of a stream, and answers each call that rings with a verdict.

Each partition has a live state of its own, in the folder `partition-N`, which belongs to one process at a time. So a
verdict depends on the events of its partition alone, not on which process reads it. A batch goes this way:

1. `Live` scores and records each event, as for the HTTP service.
2. The verdicts are sent, and the stream of verdicts has confirmed them.
3. The events are written to the journal of the partition, each with its position, and synced.
4. The positions are committed.

A process that dies before step 3 leaves the state before the batch: the next owner reads the batch again, and sends
the same verdicts again. One that dies later leaves events with positions, and the next owner reads on after these. So
no event is lost or counted twice, and no verdict is lost. A verdict may come twice, equal, with the same position.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from pathlib import Path

from callsieve.serving.http.answers import Fault
from callsieve.serving.http.endpoint import encode
from callsieve.serving.http.schema import read_call
from callsieve.serving.live.calls_in_progress import is_over
from callsieve.serving.live.live import FutureEventError, Live
from callsieve.serving.live.snapshots import FolderInUseError, lock_folder, unlock_folder

from .source import Event, Source

DEADLINE = 3600.0  # seconds; who reads a verdict knows the start of its call, and ignores a late one
EVERY = 0.25  # seconds between two rounds of upkeep of all partitions
REFUSED = 1.0  # seconds until the next try, while a disk refuses events
_LOG = logging.getLogger("callsieve.serving")


class StreamConsumer:
    """Owns partitions of a stream.

    Attributes:
        lives: the live state of each partition that this process owns.
        faults: events that could not be read; their answer has `error`.
    """

    def __init__(self, source: Source, open_live: Callable[[Path], Live], state: Path) -> None:
        """Owns nothing yet."""
        self.lives: dict[int, Live] = {}
        self.faults = 0
        self._source, self._open_live, self._state = source, open_live, state
        self._upkeep_at = 0.0
        self._uncommitted: dict[int, str] = {}
        self._waiting: set[int] = set()  # partitions whose folder another process has

    def run(self, is_stopped: Callable[[], bool]) -> int:
        """Reads until `is_stopped`; returns how many events the disks refused."""
        while not is_stopped():
            self.step(is_stopped)
        lost = sum(self.lives.pop(partition).close() for partition in list(self.lives))
        self._source.close()
        return lost

    def step(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Gives away partitions, takes at most one, and handles one batch. While a disk refuses events, it waits."""
        self._share()
        positions: dict[int, str] = {}
        for event in self._source.poll():
            live = self.lives.get(event.partition)
            if live is None:
                continue  # given away: the next owner reads it
            answer = self._handle(live, event)
            if event.is_known:
                continue
            if answer is not None:
                self._source.answer(event, answer)
            positions[event.partition] = event.position
        self._source.flush()
        due = time.monotonic() >= self._upkeep_at
        if due:
            self._upkeep_at = time.monotonic() + EVERY
        for partition, live in self.lives.items():
            if not (due or partition in positions):
                continue
            while not live.commit():
                if is_stopped():
                    return
                time.sleep(REFUSED)
        self._uncommitted |= positions
        if self._uncommitted and (due or positions) and self._source.commit(self._uncommitted):
            self._uncommitted.clear()

    def _share(self) -> None:
        wanted = self._source.wanted()
        for partition in self.lives.keys() - wanted:
            self._source.stop(partition)
            self.lives.pop(partition).close()
            self._uncommitted.pop(partition, None)
            gc.collect()  # parts of a state refer to each other, and hold gigabytes
            _LOG.info("partition %d: given away", partition)
        for partition in sorted(wanted - self.lives.keys()):
            folder = self._state / f"partition-{partition}"
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                unlock_folder(lock_folder(folder))  # first, because to open a state takes seconds
                live = self._open_live(folder)
            except FolderInUseError as error:
                if partition not in self._waiting:
                    _LOG.warning("partition %d waits: %s", partition, error)
                    self._waiting.add(partition)
                continue
            self._waiting.discard(partition)
            self._source.start(partition, live.memory.position)
            self.lives[partition] = live
            place = "the position on disk" if live.memory.position else "the committed position, or the begin"
            _LOG.info("partition %d: read from %s, %d calls in memory", partition, place, live.memory.history.calls)
            return  # events of the other partitions come before the next one

    def _handle(self, live: Live, event: Event) -> bytes | None:
        """Records an event; returns the answer to it, None if it has none."""
        try:
            call = read_call(event.body)
            if event.is_known:
                live.remember(call)
                return None
            live.memory.position = event.position
            if is_over(call):
                live.end(call)
                return None
            live.refuse_future(call)
            return encode(live.attempt(call))
        except (FutureEventError, ValueError, TypeError, OverflowError) as error:
            self.faults += not event.is_known
            return encode(Fault(str(error)))
