"""The online engine: observes a stream of calls and returns the vector of a call at ring time.

It runs the same kernel as `offline/table.py` and needs only the standard library.
"""

from __future__ import annotations

import struct
from array import array
from functools import partial
from operator import attrgetter
from pathlib import Path

from callsieve.features.catalogue import NAMES, select_features
from callsieve.features.codegen.feature_program import KINDS
from callsieve.features.codegen.memory_layout import ask_for_large_pages, compact_size, copy_content, used_sizes
from callsieve.features.kernel import number_state, windows
from callsieve.features.kernel.windows import DAY_MS, NEVER
from callsieve.features.records import GROUP_COLUMNS, KeyedCall
from callsieve.features.stream import call_store, key_store
from callsieve.features.stream.compact_numbers import DAYS_FROM

from . import snapshot
from .call_facts import attempt_known, check, end_arguments, event_facts, facts_of, has_outcome, take_record
from .coverage import COVERAGE_DAYS, CallDays
from .driver import Driver, TokenBook, driver
from .layout import LAYOUT, Content, converted
from .memory_feed import MemoryFeed
from .trusted_moment import TrustedMoment

DEFAULT_CALLS, DEFAULT_NUMBERS = 2_000_000, 200_000  # capacity
MAX_DURATION = (1 << 31) - 1  # of a call, in ms: 24 days
LARGE_PAGES_FROM = 50_000  # numbers; a larger history asks for large pages
COUNTERS = ("dropped", "evicted", "refused")
MEMORY_DAYS = 4 * number_state.FORTNIGHT + 1  # a local day may be behind that of the clock
NUMBER, GROUPS = KINDS[0].name, tuple(kind.name for kind in KINDS[1:])


class History:
    """The history of all numbers, blocks, trunks and devices up to now.

    `vector` answers for the moment a call starts. `observe` takes a call at its start, at its end, or complete; in any
    order, and repeatedly. Windows never move back: a vector for an earlier moment than their end is computed at their
    end, and `lag` returns the difference. Not thread-safe: threads that share a history need a lock.

    A single call with a wrong clock does not move the windows, see `trusted_moment.py`. The vector of a call that
    starts more than a minute ahead is computed on a copy, which takes time in proportion to the calls in memory. A host
    with a clock calls `advance` first with its own time, which needs no copy.

    Args:
        features: names from the catalogue, in the order of the vector.
        calls: capacity in calls. A full history drops the oldest call and counts it in `dropped`.
        numbers: capacity in numbers. A full history evicts the number that has been without calls longest. It counts
            the eviction in `evicted` if the number had calls within the days that features remember.
        compiled: whether to run the kernel as C, if the package was built with it. Interpreted Python is many times
            slower and returns the same vectors bit for bit.
    Attributes:
        features: names of the features, in the order of the vector.
        memory_feed: the feed of the calls in memory, with its figures.
        dropped, evicted, refused: calls dropped and numbers evicted for want of room, and calls not taken.
    Raises:
        ValueError: if a feature is not in the catalogue, or a capacity is too small.

    >>> from callsieve.features import Call, Intake, Key
    >>> history, intake = History(["out_calls_count_1h"], calls=1000, numbers=100), Intake(Key("e1", bytes(32)))
    >>> first, second = (intake(Call(at, "13800000000", "13900000000")) for at in (1775001600.0, 1775001660.0))
    >>> history.observe(first)
    >>> history.vector(second), history.calls
    ([1.0], 1)
    """

    def __init__(
        self,
        features: tuple[str, ...] = NAMES,
        *,
        calls: int = DEFAULT_CALLS,
        numbers: int = DEFAULT_NUMBERS,
        compiled: bool = True,
    ) -> None:
        if calls < 1 or numbers < 2:
            raise ValueError(f"calls must be 1 or more and numbers 2 or more, got {calls} and {numbers}")
        select_features(features)  # raises for unknown names
        self._order = None if features == NAMES else [NAMES.index(name) for name in features]
        self.features, self._max_calls, self._max_numbers = tuple(features), calls, numbers
        self.dropped = self.evicted = self.refused = 0
        self._moment = TrustedMoment(NEVER)
        self._spare: Driver | None = None
        self._call_days = CallDays()
        self._dropped_until = NEVER  # latest start of a dropped call
        self._driver = driver(calls, numbers, compiled=compiled)
        self._memory, self.memory_feed = self._driver.memory, MemoryFeed(self._driver)
        self._calls, self._counts = self._memory["shared"]["calls"], self._memory["shared"]["counts"]
        self._keys = {kind.name: TokenBook(self._driver, kind.name) for kind in KINDS}
        self._groups = [(i, name, attrgetter(GROUP_COLUMNS[name])) for i, name in enumerate(GROUPS)]
        self._cached_call: KeyedCall | None = None
        self._cached_keys = (0, 0)

    def save(self, path: str | Path) -> None:
        """Writes the history to a file, atomically."""
        sizes = used_sizes(self._driver.layouts, self._memory)
        facts: snapshot.Facts = {
            "layout": LAYOUT,
            "features": None if self._order is None else self.features,
            "calls": self._max_calls,
            "numbers": self._max_numbers,
            "moment": self._moment.facts(),
            "days": sorted(self._call_days.days),
            "dropped_until": self._dropped_until,
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "sizes": {
                part: {name: size for name, (_, size) in part_sizes.items()} for part, part_sizes in sizes.items()
            },
        }
        tokens = {kind: keys.texts(sizes[kind]["uses"][1]) for kind, keys in self._keys.items()}
        arrays = (
            self._memory[part][name][:size]
            for part, part_sizes in sizes.items()
            for name, (_, size) in part_sizes.items()
        )
        snapshot.write(Path(path), facts, tokens, arrays)

    @classmethod
    def load(
        cls, path: str | Path, *, calls: int | None = None, numbers: int | None = None, compiled: bool = True
    ) -> History:
        """Returns the history that `save` wrote.

        Args:
            path: the file.
            calls: capacity in calls; by default the saved one. It must not be below the calls in the file.
            numbers: capacity in numbers; by default the saved one.
            compiled: whether to run the kernel as C.
        Raises:
            ValueError: if the file is incomplete or exceeds the capacity.
            LayoutError: if this version does not read the layout of its state, see `layout.py`.
            OSError: if it cannot be read.
        """
        try:
            return cls._read(path, calls, numbers, compiled)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
            # The checksum is right, but the header has other fields than `save` writes.
            raise ValueError(
                f"{path}: expected the header of a history, got others ({type(error).__name__}); save it again"
            ) from None

    @classmethod
    def _read(cls, path: str | Path, calls: int | None, numbers: int | None, compiled: bool) -> History:
        file, facts, tokens = snapshot.open_snapshot(Path(path))
        with file:
            facts, tokens, arrays = converted(Content(facts, tokens, file), Path(path))
            try:
                history = cls(
                    NAMES if facts["features"] is None else tuple(facts["features"]),
                    calls=facts["calls"] if calls is None else calls,
                    numbers=facts["numbers"] if numbers is None else numbers,
                    compiled=compiled,
                )
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            if len(tokens[NUMBER]) > LARGE_PAGES_FROM:
                history._ask_for_large_pages()
            for part, sizes in facts["sizes"].items():
                for name, size in sizes.items():
                    if size > len(history._memory[part][name]):
                        raise ValueError(
                            f"{path}: contains more calls or numbers than the requested capacity; request more"
                        )
                    arrays.readinto(history._memory[part][name][:size].cast("B"))  # type: ignore[attr-defined]
        history._restore(facts, tokens)
        return history

    def _ask_for_large_pages(self) -> None:
        ask_for_large_pages(array for part in self._memory.values() for array in part.values())

    def _restore(self, facts: snapshot.Facts, tokens: dict[str, list[str]]) -> None:
        self._moment = TrustedMoment.of_facts(facts["moment"])
        self._call_days = CallDays(facts["days"])
        self._dropped_until = facts["dropped_until"]
        for name, count in facts["counters"].items():
            setattr(self, name, count)
        for kind, texts in tokens.items():
            for key, token in enumerate(texts):
                if token:
                    self._keys[kind].add(token, key)
        for fill in (*self._driver.rebuild_pairs.values(), self._driver.rebuild_routes, self._driver.rebuild_index):
            fill()

    @property
    def compiled(self) -> bool:
        """Whether the kernel runs as C."""
        return self._driver.compiled

    @property
    def calls(self) -> int:
        """Number of calls in memory."""
        return int(self._counts[call_store.STORED])

    @property
    def numbers(self) -> int:
        """Number of numbers in memory."""
        return len(self._keys[NUMBER])

    def covers(self, at: int, days: int = COVERAGE_DAYS) -> bool:
        """Returns whether the history reaches back `days` days before a moment (Unix ms), and dropped no call of them.

        Without coverage every caller seems new, see `coverage.py`.
        """
        return self._call_days.covers(at, days) and self._dropped_until < at - days * DAY_MS

    @property
    def newest(self) -> int | None:
        """The moment up to which windows may move (Unix ms), see `trusted_moment.py`; None without a call."""
        return None if self._moment.at == NEVER else self._moment.at

    @property
    def feed(self) -> str:
        """The feed of the calls of the last seven days (`feeds.py`). The first answer of a day takes milliseconds."""
        return self.memory_feed.latest()

    def vector(self, call: KeyedCall) -> list[float]:
        """Returns the feature values of `call` at its start, in the order of `features`; NaN where unknown."""
        return self.row(call).tolist()

    def row(self, call: KeyedCall) -> array[float]:
        """Returns the vector as a contiguous `array('d')`, which a model reads without a copy."""
        caller, callee = self._parties(call)
        driver = self._driver
        self._moment.note(call.start)
        if call.start > self._moment.at:
            driver = self._copy()
        driver.vector(call.start, call.day, caller, callee, facts_of(call))
        row = array("d", driver.memory["shared"]["row"].tobytes())
        return row if self._order is None else array("d", [row[i] for i in self._order])

    def _copy(self) -> Driver:
        self._driver.advance(self._moment.at)
        copy = self._spare or driver(self._max_calls, self._max_numbers, compiled=self._driver.compiled)
        self._spare = copy if self._counts[call_store.PLACES] < LARGE_PAGES_FROM else None
        copy_content(copy.layouts, self._memory, copy.memory)
        return copy

    def observe(self, call: KeyedCall) -> None:
        """Takes a call. A call without `ring` or `talk` is an attempt; its end may follow later.

        A call that finds no room, or that lasts longer than 24 days, is counted in `refused`.

        Raises:
            ValueError: if a field is missing, is not an integer, or is out of bounds, which no intake produces.
        """
        caller, callee = self._parties(call)
        if (call.ring or 0) + (call.talk or 0) > MAX_DURATION:
            self.refused += 1
            return
        self._moment.note(call.start)
        place = self._driver.find_call(call.start, caller, callee) if caller and callee else windows.NONE
        if place >= 0:
            self._cached_call = None  # its keys in `group` may change
            if not take_record(self._driver, place, call, partial(self._add_keys_of_stored, call), self._group_token):
                self.observe(call)
            return
        place = self._store_call(call)
        if place < 0:
            self.refused += 1
            return
        self._call_days.note(call.start)
        if has_outcome(call):
            self._driver.end_call(place, *end_arguments(call), event_facts(call))

    def _add_keys_of_stored(self, call: KeyedCall) -> bool:
        self._add_group_keys(call)
        parties = self._keys[NUMBER].key(call.caller), self._keys[NUMBER].key(call.callee)
        return int(self._driver.find_call(call.start, *parties)) >= 0

    def _group_token(self, kind: int, key: int) -> str:
        return self._keys[GROUPS[kind]].text(key)

    def _add_group_keys(self, call: KeyedCall) -> None:
        group = self._memory["shared"]["group"]
        for i, name, token_of in self._groups:
            if group[i] == 0:
                group[i] = self._key(name, token_of(call))

    def advance(self, at: int) -> None:
        """Moves the end of all windows forward to a moment (Unix ms) that the host knows to be now.

        Pass the time of the host's clock, not the start of a call: after a start hours ahead, all calls would be behind
        for hours.
        """
        if not isinstance(at, int):
            raise TypeError(f"at: expected whole milliseconds, as round(1000 * time.time()), got {type(at).__name__}")
        self._moment.advance(at)
        self._driver.advance(at)

    def lag(self, at: int) -> int:
        """Returns how far the windows have moved past a moment, in ms; 0 if a vector for that moment is exact."""
        return max(int(self._counts[call_store.NOW]) - at, 0)

    def _parties(self, call: KeyedCall) -> tuple[int, int]:
        """Returns the keys of caller and callee, and writes those of block, trunk and device into `group`.

        0 means a token without a key, NONE means that the call has no such token. The keys of the last call are
        cached: a call is usually observed right after its vector was computed.
        """
        if call is self._cached_call:
            return self._cached_keys
        key, group = self._keys[NUMBER].key, self._memory["shared"]["group"]
        self._cached_call = None
        try:
            check(call)
            for i, name, token_of in self._groups:
                token = token_of(call)
                group[i] = windows.NONE if token is None else self._keys[name].key(token)
            self._cached_keys = key(call.caller), key(call.callee)
        except (AttributeError, TypeError, struct.error):  # their messages could show a number
            raise ValueError(
                "call: expected texts, and whole numbers within bounds, as an intake returns them"
            ) from None
        self._cached_call = call
        return self._cached_keys

    def forget(self, token: str) -> None:
        """Forgets a number: from now on it is a new one.

        Its calls stay, without a name, in the windows of the other parties until they expire.
        """
        self._cached_call = None
        keys = self._keys[NUMBER]
        keys.remove(keys.key(token))

    def _store_call(self, call: KeyedCall) -> int:
        """Stores a new call; returns its place, or NONE if there is no room."""
        while self._counts[call_store.STORED] >= self._max_calls:
            if not self._drop_oldest():
                return windows.NONE
        caller, callee = self._parties(call)
        if not caller:
            caller = self._key(NUMBER, call.caller)
            callee = self._keys[NUMBER].key(call.callee)  # the eviction may have freed it
        callee = callee or self._key(NUMBER, call.callee, spare=caller)
        if not caller or not callee:
            return windows.NONE
        self._add_group_keys(call)
        self._cached_keys = caller, callee
        return int(self._driver.store_call(call.start, attempt_known(call), caller, callee, event_facts(call)))

    def _drop_oldest(self) -> bool:
        """Drops the oldest call before it expires; returns False if there is none to drop."""
        before = self.calls
        self._driver.advance(self._moment.at)
        if self.calls < before:
            return True
        place = int(self._driver.oldest_call())
        if place < 0:
            return False
        self.dropped += 1
        self._dropped_until = max(
            self._dropped_until, windows.read_wide(self._calls, place * call_store.FIELDS + call_store.START)
        )
        self._driver.drop_call(place)
        return True

    def _key(self, kind: str, token: str, spare: int = 0) -> int:
        """Returns the key of a token, or 0 if there is no room.

        A new key takes the place of an idle one that no feature remembers. Without room it may take that of any idle
        one, but not of `spare`.
        """
        keys = self._keys[kind]
        key = keys.key(token)
        if key:
            return key
        counts = self._memory[kind]["counts"]
        idle = int(counts[key_store.IDLE_FIRST])
        if idle and idle != spare and not self._is_remembered(kind, idle):
            self._evict(kind, idle)
        while not (key := int(self._driver.allocate_key[kind]())):
            idle = int(counts[key_store.IDLE_FIRST])
            if idle and idle != spare:
                self._evict(kind, idle)
            elif not self._drop_oldest():
                return 0
        keys.add(token, key)
        if key == LARGE_PAGES_FROM and kind == NUMBER:
            self._ask_for_large_pages()
        return key

    def _evict(self, kind: str, key: int) -> None:
        self._cached_call = None
        self._keys[kind].remove(key)
        self.evicted += int(self._is_remembered(kind, key))
        self._driver.free_key[kind](key)

    def _is_remembered(self, kind: str, key: int) -> bool:
        if kind != NUMBER:
            return False
        size = compact_size(self._driver.layouts[kind])
        return bool(self._memory[kind]["compact"][key * size + DAYS_FROM] > self._moment.at // DAY_MS - MEMORY_DAYS)
