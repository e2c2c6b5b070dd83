"""Flagged numbers: a number that was caught several times has a lower threshold for some days.

A model judges each call anew, so the next call of a number that it caught ten times may lie just below the threshold. A
call that reaches the bundle's highest band is an event of its number on its trunk. After EVENTS events, each within
SPAN of the one before, the number is flagged there, and stays so for LIFE after its last event. Then the rule `flagged`
holds for its calls above a lower threshold, which the bundle has for each feed with the certificate of model and flags
together (`training/model/flagged.py`). So it holds no longer once the calls look innocent: of an owner whose number was
forged, of the new owner of a recycled number, of a caller whom people call.

Innocent calls flagged in 10,000 / nuisance calls caught in %, in trials on two varied worlds (7001, 7003) and a network
of another simulator (81):
- single calls: 0.2 / 77, 0.4 / 74, 0.1 / 73;
- this rule: 0.3 / 85, 1.2 / 84, 0.1 / 91;
- every call of a number for a week after its third event: 9.7 / 88, 19 / 89, 0.3 / 99;
- every call of a number on its trunk for a week after its tenth event: 0.9 / 86, 5.8 / 88, 0.1 / 96.
A flag that ends as the share of caught calls falls below a quarter caught 80 to 82 in the first and the third.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from threading import Lock

from callsieve.features.files.dates import DAY, HOUR

EVENTS, SPAN, LIFE = 10, 24 * HOUR, 7 * DAY
NAME = f"flagged after {EVENTS} calls within {SPAN // HOUR} hours each, for {LIFE // DAY} days"
"""Name of the threshold of flagged numbers in a bundle: the certificate holds for this rule alone."""
FILE = "flags.bin"
"""Name of the file of `Flags.to_bytes` in a folder of live state."""
LAYOUT = 1  # version of `Flags.to_bytes`
MOST_EVENTS = 255
NUMBER_BITS, TRUNK_BITS = 40, 24  # of a key
# Numbers are spread over small tables, because a table that is full is made anew while a call waits: one table of
# 400,000 numbers took 118 ms, one of 256 takes less than a millisecond.
TABLES = 256
FEWEST_SLOTS = 9  # an odd number of slots spreads the keys of one trunk
FULL = 0.8  # share of the slots from which a table is made anew, half full


class Flags:
    """The events of numbers with at least one: 20 to 32 bytes for each and its trunk, none for others.

    Events of one millisecond count once, and none counts for a call of its own millisecond, so calls at the same moment
    may come in any order. Threads may share it.

    >>> flags = Flags(calls=2)
    >>> [flags.events("e1.a", None, at, caught=True) for at in (1000, 2000, 3000)]
    [0, 0, 2]
    >>> flags.release("e1.a")
    >>> flags.events("e1.a", None, 4000, caught=False)
    0
    """

    def __init__(self, *, calls: int = EVENTS, span: int = SPAN, life: int = LIFE) -> None:
        """Takes how many events flag a number, how long each waits for the next, and how long a flag lasts (ms)."""
        self._calls, self._span, self._life = calls, span, life
        self._lock = Lock()
        self._tables = [_Table() for _ in range(TABLES)]

    def __len__(self) -> int:
        """Returns how many pairs of number and trunk have an event, expired ones included until their table is full."""
        return sum(table.used for table in self._tables)

    def events(self, token: str, trunk: str | None, at: int, *, caught: bool) -> int:
        """Returns how many events flag a number for a call; 0 if it is not flagged.

        Args:
            token, trunk: tokens of the number and of the trunk; None for an unknown trunk.
            at: start of the call, Unix ms.
            caught: whether the call reaches the highest band, which makes it an event for later calls.
        """
        number = _hash(token)
        key = number << TRUNK_BITS | _hash(trunk or "") >> NUMBER_BITS - TRUNK_BITS
        with self._lock:
            table = self._tables[number % TABLES]
            place = table.place(key)
            last, count = divmod(table.cells[place + 1], MOST_EVENTS + 1)
            before = count - (last == at)
            flagged = before >= self._calls and 0 <= at - last <= self._life
            if caught and at > last:
                lives = at - last <= (self._life if count >= self._calls else self._span)
                count = min(count + 1, MOST_EVENTS) if lives else 1
                table.put(place, key, at * (MOST_EVENTS + 1) + count, (at - self._life) * (MOST_EVENTS + 1))
            return before if flagged else 0

    def release(self, token: str) -> None:
        """Forgets the events of a number on all trunks."""
        number = _hash(token)
        with self._lock:
            cells = self._tables[number % TABLES].cells
            for place in range(0, len(cells), 2):
                if cells[place] >> TRUNK_BITS == number:
                    cells[place + 1] = 0

    def to_bytes(self) -> bytes:
        """Returns the events, without released and expired ones; `restore` takes them on the same kind of machine."""
        with self._lock:
            tables = [table.cells[:] for table in self._tables]
        newest = max(max(cells[1::2]) for cells in tables)
        oldest = max(newest - self._life * (MOST_EVENTS + 1), 1)
        lasting = array("Q", (cell for cells in tables for entry in _entries(cells, oldest) for cell in entry))
        return array("Q", [LAYOUT, len(lasting) // 2]).tobytes() + lasting.tobytes()

    def restore(self, data: bytes) -> None:
        """Replaces the events by those of `to_bytes`. Raises ValueError for other bytes."""
        layout, count, *_ = (*array("Q", data[:16] if len(data) >= 16 else b""), 0, 0)
        if layout != LAYOUT or len(data) != 16 * (1 + count):
            raise ValueError(f"flags: expected the bytes of a table of layout {LAYOUT}")
        tables = [_Table() for _ in range(TABLES)]
        for key, packed in _entries(array("Q", data[16:]), 1):
            table = tables[(key >> TRUNK_BITS) % TABLES]
            table.put(table.place(key), key, packed, 0)
        with self._lock:
            self._tables = tables


def events_of_calls(
    callers: Sequence[str], trunks: Sequence[str | None], starts: Sequence[int], caught: Sequence[bool]
) -> list[int]:
    """Returns how many events flag the number of each call, for calls in order of start; see `Flags.events`."""
    flags = Flags()
    calls = zip(callers, trunks, starts, caught, strict=True)
    return [flags.events(caller, trunk, at, caught=is_caught) for caller, trunk, at, is_caught in calls]


class _Table:
    """A hash table with open addressing: in each slot a key, 0 if free, and its last moment and count as one number."""

    def __init__(self) -> None:
        self.cells, self.used = _free(FEWEST_SLOTS), 0

    def place(self, key: int) -> int:
        """Returns the place of a key, or the free place where it belongs."""
        cells = self.cells
        place = key % (len(cells) // 2) * 2
        while cells[place] not in (0, key):
            place = (place + 2) % len(cells)
        return place

    def put(self, place: int, key: int, packed: int, oldest: int) -> None:
        """Writes an entry; a full table is made anew, without released entries and those before `oldest`."""
        self.used += not self.cells[place]
        self.cells[place], self.cells[place + 1] = key, packed
        if self.used > FULL * len(self.cells) / 2:
            lasting = list(_entries(self.cells, max(oldest, 1)))
            self.cells, self.used = _free(max(2 * len(lasting) + 1, FEWEST_SLOTS)), len(lasting)
            for entry in lasting:
                place = self.place(entry[0])
                self.cells[place], self.cells[place + 1] = entry


def _free(slots: int) -> array[int]:
    return array("Q", bytes(16 * slots))


def _entries(cells: array[int], oldest: int) -> Iterator[tuple[int, int]]:
    return (
        (cells[place], cells[place + 1])
        for place in range(0, len(cells), 2)
        if cells[place] and cells[place + 1] >= oldest
    )


def _hash(token: str) -> int:
    """Returns 40 bits of a token, not 0: another one of a million flagged numbers has them with probability 1e-6."""
    return int.from_bytes(blake2b(token.encode(), digest_size=NUMBER_BITS // 8).digest(), "little") or 1
