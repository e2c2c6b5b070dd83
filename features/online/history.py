"""Online: a stream of calls, and the vector of a call at ring time.

The same kernel as `table.py`. Nothing here needs more than the standard library.
"""

from __future__ import annotations

import struct
from array import array
from operator import attrgetter
from pathlib import Path
from typing import Any

from callsieve.features.catalogue import NAMES, catalogue_hash, select_features
from callsieve.features.codegen.assemble import version
from callsieve.features.codegen.feature_program import KINDS
from callsieve.features.codegen.memory_layout import ask_for_large_pages, used_sizes
from callsieve.features.complaints import COMPLAINT_NAMES, Complaint, Complaints
from callsieve.features.kernel import number_state, windows
from callsieve.features.kernel.windows import DAY_MS, NEVER
from callsieve.features.records import GROUP_COLUMNS, KeyedCall
from callsieve.features.stream import call_store, key_store

from . import snapshot
from .call_facts import attempt_known, check, facts_of, said
from .coverage import COVERAGE_DAYS, CallDays
from .driver import driver
from .token_book import Tokens

LONGEST = (1 << 31) - 1  # ms
MANY = 50_000  # numbers: from there on, memory is taken in large pages
COUNTERS = ("dropped", "evicted", "refused")
DAYS_REMEMBERED = 4 * number_state.FORTNIGHT
NUMBER, GROUPS = KINDS[0].name, tuple(kind.name for kind in KINDS[1:])


class History:
    """What is known of every number, block, trunk and device, as of now.

    `vector` answers for the moment a call starts; `observe` takes in a call when it begins, when it ended, or whole,
    in any order, and twice if it must be. Moments may come out of order, but windows never move back: a vector asked
    for an earlier moment than the last one is that of the last one. Not thread-safe.

    Args:
        features: names from the catalogue, in the order of the vector. Those of `reports.COMPLAINT_NAMES` too, if they
            are wanted.
        calls: calls held at most. When there is no room, the oldest is forgotten before its time, counted in `dropped`.
        numbers: numbers held at most. When there is no room, the one that is longest without a call goes, and is
            counted in `evicted` if anything was still known of it.
        compiled: run the kernel as C, if that was built with the package; else it runs as it stands, in Python, many
            times slower. The vectors are the same, bit for bit.
    Raises: ValueError: if a feature is not in the catalogue or there is no room at all.

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
        calls: int = 2_000_000,
        numbers: int = 200_000,
        compiled: bool = True,
    ) -> None:
        if calls < 1 or numbers < 2:
            raise ValueError(f"calls must be 1 or more and numbers 2 or more, got {calls} and {numbers}")
        select_features(tuple(name for name in features if name not in COMPLAINT_NAMES))  # refuses unknown ones
        self._reports = Complaints() if set(features) & set(COMPLAINT_NAMES) else None
        order = [*NAMES, *(COMPLAINT_NAMES if self._reports else ())]
        self._order = None if order == list(features) else [order.index(name) for name in features]
        self._features, self._most_calls, self._most_numbers = features, calls, numbers
        self.dropped = self.evicted = self.refused = 0
        self._moment = NEVER
        self._known = CallDays()
        self._gone = NEVER  # start of the last call that was forgotten before its time
        self._driver = driver(calls, numbers, compiled=compiled)
        self._memory = self._driver.memory
        self._calls, self._counts = self._memory["held"]["calls"], self._memory["held"]["counts"]
        self._keys = {
            kind.name: Tokens(
                self._memory[kind.name],
                self._driver.key_of_token[kind.name],
                self._driver.name_key[kind.name],
                self._driver.unname_key[kind.name],
            )
            for kind in KINDS
        }
        self._groups = [(i, name, attrgetter(GROUP_COLUMNS[name])) for i, name in enumerate(GROUPS)]
        self._asked: KeyedCall | None = None
        self._found = (0, 0)

    def save(self, path: str | Path) -> None:
        """Write all that is known into a file, whole or not at all."""
        from dataclasses import astuple  # it takes long to import, and few histories are saved

        sizes = used_sizes(self._driver.layouts, self._memory)
        facts = {
            "kernel": version(),
            "catalogue": catalogue_hash(),
            "features": self._features,
            "calls": self._most_calls,
            "numbers": self._most_numbers,
            "moment": self._moment,
            "days": sorted(self._known.days),
            "gone": self._gone,
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "reports": [astuple(report) for report in self._reports.held] if self._reports else [],
            "sizes": {part: {name: size for name, (_, size) in told.items()} for part, told in sizes.items()},
        }
        tokens = {kind: keys.texts(sizes[kind]["uses"][1]) for kind, keys in self._keys.items()}
        arrays = (self._memory[part][name][:size] for part, told in sizes.items() for name, (_, size) in told.items())
        snapshot.write(Path(path), facts, tokens, arrays)

    @classmethod
    def load(
        cls, path: str | Path, *, calls: int | None = None, numbers: int | None = None, compiled: bool = True
    ) -> History:
        """A history as it was saved.

        Args:
            calls: calls held at most, as before by default; never fewer than are there.
            numbers: the same for numbers.
        Raises:
            ValueError: if the file is not whole, is of another version, or has not enough room.
            OSError: if it cannot be read.
        """
        try:
            return cls._read(path, calls, numbers, compiled)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
            # Whole, but with other facts than `save` writes: a fault of whoever wrote it.
            raise ValueError(f"{path}: expected the facts of a history, {type(error).__name__}") from None

    @classmethod
    def _read(cls, path: str | Path, calls: int | None, numbers: int | None, compiled: bool) -> History:
        file, facts, tokens = snapshot.opened(Path(path))
        with file:
            if (facts["kernel"], facts["catalogue"]) != (version(), catalogue_hash()):
                raise ValueError(f"{path}: written by another version; expected one of this version's snapshots")
            found = cls(
                tuple(facts["features"]),
                calls=facts["calls"] if calls is None else calls,
                numbers=facts["numbers"] if numbers is None else numbers,
                compiled=compiled,
            )
            if len(tokens[NUMBER]) > MANY:
                found._ask_for_large_pages()
            for part, sizes in facts["sizes"].items():
                for name, size in sizes.items():
                    if size > len(found._memory[part][name]):
                        raise ValueError(f"{path}: holds more calls or numbers than there shall be room for")
                    file.readinto(found._memory[part][name][:size].cast("B"))  # type: ignore[attr-defined]
        found._take_over(facts, tokens)
        return found

    def _ask_for_large_pages(self) -> None:
        ask_for_large_pages(array for part in self._memory.values() for array in part.values())

    def _take_over(self, facts: dict[str, Any], tokens: dict[str, list[str]]) -> None:
        """What is not in the arrays, or follows from them."""
        self._moment = facts["moment"]
        # Earlier versions did not write down the days: what they had saved is taken to be filled.
        last = self._moment // DAY_MS
        self._known = CallDays(facts.get("days", range(last - COVERAGE_DAYS, last + 1)))
        self._gone = facts.get("gone", NEVER)
        for report in facts["reports"]:
            self.report(Complaint(*report))
        for name, count in facts["counters"].items():
            setattr(self, name, count)
        for kind, told in tokens.items():
            for key, token in enumerate(told):
                if token:
                    self._keys[kind].add(token, key)
        for fill in (*self._driver.fill_pairs.values(), self._driver.fill_routes, self._driver.fill_index):
            fill()

    @property
    def compiled(self) -> bool:
        """Whether the kernel runs as C."""
        return self._driver.compiled

    @property
    def calls(self) -> int:
        """Calls held in memory."""
        return int(self._counts[call_store.HELD])

    @property
    def numbers(self) -> int:
        """Numbers held in memory."""
        return len(self._keys[NUMBER])

    def filled(self, at: int, days: int = COVERAGE_DAYS) -> bool:
        """Whether calls of so many days before a moment (Unix ms) are known, and none of them was dropped: else
        everybody seems new."""
        return self._known.filled(at, days) and self._gone < at - days * DAY_MS

    def vector(self, call: KeyedCall) -> list[float]:
        """Feature values of `call` at its start, in the order of the features; NaN where unknown."""
        return self.row(call).tolist()

    def row(self, call: KeyedCall) -> array[float]:
        """The same as doubles side by side, which a model takes as they are."""
        caller, callee = self._parties(call)
        driver = self._driver
        driver.vector(call.start, call.day, caller, callee, facts_of(call))
        row = array("d", self._memory["held"]["row"].tobytes())
        if self._reports:
            row.extend(self._reports.vector(call))
        return row if self._order is None else array("d", [row[i] for i in self._order])

    def observe(self, call: KeyedCall) -> None:
        """Take in a call. One that is not over (`ring` or `talk` is None) is an attempt; its end may come later.

        One that has no place is counted in `refused`, as is one of more than 24 days.

        Raises:
            ValueError: for what no intake makes: a fact that is not there, no whole number, or beyond its bounds.
        """
        caller, callee = self._parties(call)
        if (call.ring or 0) + (call.talk or 0) > LONGEST:
            self.refused += 1
            return
        place = self._driver.find(call.start, caller, callee) if caller and callee else windows.NONE
        over = call.ring is not None and call.talk is not None
        if place < 0:
            place = self._keep(call)
            if place < 0:
                self.refused += 1
                return
            self._known.note(call.start)
        elif not over or self._calls[place * call_store.FIELDS + call_store.DURATION] >= 0:
            return  # a repeat
        if over:
            ring, talk = call.ring or 0, call.talk or 0
            moment = call.start + ring + talk
            self._driver.end(place, moment, talk, max(moment, call.recorded or moment), *said(call))

    def advance(self, at: int) -> None:
        """Let in what became known before a moment, as a vector of a call that starts then would."""
        self._driver.advance(at)

    def _parties(self, call: KeyedCall) -> tuple[int, int]:
        """The keys of caller and callee; those of block, trunk and device go to `group`. 0 is nobody's, NONE of none.

        A call is mostly taken in right after it was asked about: its keys are still there then.
        """
        if call is self._asked:
            return self._found
        key, group = self._keys[NUMBER].key, self._memory["held"]["group"]
        self._asked = None
        try:
            check(call)
            for i, name, token_of in self._groups:
                token = token_of(call)
                group[i] = windows.NONE if token is None else self._keys[name].key(token)
            self._found = key(call.caller), key(call.callee)
        except (AttributeError, TypeError, struct.error):  # none of their messages: they could show a number
            raise ValueError("call: expected texts, and whole numbers within bounds, as an intake gives them") from None
        self._asked = call
        return self._found

    def report(self, report: Complaint) -> None:
        """Take in what a person said of a number; kept only if a feature asks for it."""
        if self._reports:
            self._reports.observe(report)

    def forget(self, token: str) -> None:
        """Know a number no more: who has it is new from now on.

        Its calls stay in the windows of those whom it called or who called it, under no name, until they leave them.
        """
        self._asked = None
        keys = self._keys[NUMBER]
        keys.remove(keys.key(token))
        if self._reports:
            told, self._reports = self._reports.held, Complaints()
            for report in told:
                if token not in (report.number, report.reporter):
                    self._reports.observe(report)

    def _keep(self, call: KeyedCall) -> int:
        """Give a new call a place; NONE if there is no room."""
        while self._counts[call_store.HELD] >= self._most_calls:
            if not self._drop():
                return windows.NONE
        self._moment = max(self._moment, call.start)
        caller, callee = self._parties(call)
        if not caller:
            caller = self._key(NUMBER, call.caller)
            callee = self._keys[NUMBER].key(call.callee)  # it may have had to make room
        callee = callee or self._key(NUMBER, call.callee, spare=caller)
        if not caller or not callee:
            return windows.NONE
        group = self._memory["held"]["group"]
        for i, name, token_of in self._groups:
            if group[i] == 0:
                group[i] = self._key(name, token_of(call))
        self._found = caller, callee
        return int(self._driver.keep(call.start, attempt_known(call), caller, callee, *said(call)))

    def _drop(self) -> bool:
        """Forget the oldest call, if it must be before its time; false if there is none that can go."""
        before = self.calls
        self._driver.advance(self._moment)
        if self.calls < before:
            return True
        place = int(self._driver.oldest())
        if place < 0:
            return False
        self.dropped += 1
        self._gone = max(self._gone, windows.wide(self._calls, place * call_store.FIELDS + call_store.START))
        self._driver.drop(place)
        return True

    def _key(self, kind: str, token: str, spare: int = 0) -> int:
        """The key of a token; 0 if there is no room. A new one may take the place of an idle one other than `spare`."""
        keys = self._keys[kind]
        key = keys.key(token)
        if key:
            return key
        while not (key := int(self._driver.new_key[kind]())):
            idle = int(self._memory[kind]["counts"][key_store.IDLE_FIRST])
            if idle and idle != spare:
                self._evict(kind, idle)
            elif not self._drop():
                return 0
        keys.add(token, key)
        if key == MANY and kind == NUMBER:
            self._ask_for_large_pages()
        return key

    def _evict(self, kind: str, key: int) -> None:
        """Forget a key that has no call."""
        self._asked = None
        self._keys[kind].remove(key)
        if kind == NUMBER:
            layout = self._driver.layouts[kind]
            last = self._memory[kind]["state"][key * layout.STATE + layout.DAY]
            self.evicted += int(last > self._moment // DAY_MS - DAYS_REMEMBERED)
        self._driver.free_key[kind](key)
