"""Online: a stream of calls, and the vector of a call at ring time.

The same kernel as `table.py`, as it stands or compiled. As it stands, nothing here needs more than the standard
library.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import astuple
from pathlib import Path
from typing import Any

from . import live, number, snapshot, stream
from .books import Sizes, as_arrays, book_sizes, book_used, held_sizes, held_used, room, rooms
from .catalogue import NAMES, catalogue_hash, chosen
from .engine import stream_kernel, version
from .feature import FACT_BITS
from .program import KINDS
from .records import KeyedCall
from .reports import REPORT_NAMES, Report, Reports
from .windows import BEGUN, CLOCK, DAY_MS, END, FACTS, FIELDS, NEVER, START, pack

COUNTERS = ("dropped", "evicted", "refused")
DAYS_REMEMBERED = 4 * number.FORTNIGHT
NUMBER, GROUPS = KINDS[0].name, tuple(kind.name for kind in KINDS[1:])


def facts_of(call: KeyedCall) -> int:
    """Facts of the call itself, in the order of `feature.CALL_FACTS`, as one integer."""
    facts = (
        call.caller_class,
        call.callee_class,
        call.attestation,
        call.route,
        call.step,
        call.hour,
        (call.day + 3) % 7,  # 1970-01-01 was a Thursday
        call.same_region,
        call.shared_prefix,
        call.presented_differs,
    )
    return sum(fact + 1 << FACT_BITS * i for i, fact in enumerate(facts))


class History:
    """What is known of every number, block, trunk and device, as of now.

    `vector` answers for the moment a call starts; `observe` takes in a call when it begins, when it ended, or whole,
    in any order, and twice if it must be. Moments may come out of order, but the windows of a key never move back: a
    vector asked for an earlier moment than the key's last one is that of the last one. Not thread-safe.

    Args:
        features: names from the catalogue, in the order of the vector; the fewer, the quicker. Those of
            `reports.REPORT_NAMES` too, if they are wanted.
        calls: calls held at most. When there is no room, the oldest is forgotten before its time, counted in `dropped`.
        numbers: numbers held at most. When there is no room, the one that is longest without a call goes, and is
            counted in `evicted` if anything was still known of it.
        compiled: let Numba compile the kernel: some ten times as quick, and slower to start. The vectors are the same.
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
        compiled: bool = False,
    ) -> None:
        if calls < 1 or numbers < 2:
            raise ValueError(f"calls must be 1 or more and numbers 2 or more, got {calls} and {numbers}")
        wanted = chosen(tuple(name for name in features if name not in REPORT_NAMES))
        self._reports = Reports() if set(features) & set(REPORT_NAMES) else None
        order = [*(feature.name for feature in wanted), *(REPORT_NAMES if self._reports else ())]
        self._order = None if order == list(features) else [order.index(name) for name in features]
        self._kernel = stream_kernel(wanted, compiled=compiled)
        self._kernels = self._kernel.kernels
        self._features, self._most_calls, self._most_numbers = features, calls, numbers
        self.dropped = self.evicted = self.refused = 0
        self._moment = NEVER
        self._keys: dict[str, dict[str, int]] = {kind.name: {} for kind in KINDS}
        self._tokens: dict[str, list[str]] = {kind.name: [""] for kind in KINDS}
        self._unentered: dict[tuple[int, int, int], int] = {}
        used = {NUMBER, *(feature.role for feature in wanted)}
        self._groups = [(i, name) for i, name in enumerate(GROUPS) if name in used]
        self._rooms = {"held": rooms(held_sizes(calls))} | {
            name: rooms(book_sizes(kernel, calls if name in used else 0, numbers if name in used else 0))
            for name, kernel in self._kernels.items()
        }
        arrays = {name: as_arrays(views, compiled=compiled) for name, views in self._rooms.items()}
        self._held, self._books = arrays["held"], {kind.name: arrays[kind.name] for kind in KINDS}
        self._calls, self._counts = self._held[0], self._held[-1]
        for name, book in self._books.items():
            self._kernels[name].clear(book[0], 0)
        self._group_room, self._row = room("i", len(GROUPS)), room("d", len(wanted))
        self._group, self._out = as_arrays({"group": self._group_room, "row": self._row}, compiled=compiled)
        self._nothing = array("d", [math.nan] * len(wanted))

    def save(self, path: Path) -> None:
        """Write all that is known into a file, whole or not at all."""
        sizes = self._used()
        facts = {
            "kernel": version(),
            "catalogue": catalogue_hash(),
            "features": self._features,
            "calls": self._most_calls,
            "numbers": self._most_numbers,
            "moment": self._moment,
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "reports": [astuple(report) for report in self._reports.held] if self._reports else [],
            "sizes": {book: {name: size for name, (_, size) in used.items()} for book, used in sizes.items()},
        }
        # A key that was given back keeps its place, but not its token.
        tokens = {
            kind: [token if self._keys[kind].get(token) == key else "" for key, token in enumerate(told)]
            for kind, told in self._tokens.items()
        }
        arrays = (self._rooms[book][name][:size] for book, used in sizes.items() for name, (_, size) in used.items())
        snapshot.write(path, facts, tokens, arrays)

    @classmethod
    def load(
        cls, path: Path, *, calls: int | None = None, numbers: int | None = None, compiled: bool = False
    ) -> History:
        """A history as it was saved.

        Args:
            calls: calls held at most, as before by default; never fewer than are there.
            numbers: the same for numbers.
        Raises:
            ValueError: if the file is not whole, is of another version, or has not enough room.
            OSError: if it cannot be read.
        """
        file, facts, tokens = snapshot.opened(path)
        with file:
            if (facts["kernel"], facts["catalogue"]) != (version(), catalogue_hash()):
                raise ValueError(f"{path}: written by another version; expected one of this version's snapshots")
            found = cls(
                tuple(facts["features"]),
                calls=facts["calls"] if calls is None else calls,
                numbers=facts["numbers"] if numbers is None else numbers,
                compiled=compiled,
            )
            for book, sizes in facts["sizes"].items():
                for name, size in sizes.items():
                    if size > len(found._rooms[book][name]):
                        raise ValueError(f"{path}: holds more calls or numbers than there shall be room for")
                    file.readinto(found._rooms[book][name][:size].cast("B"))  # type: ignore[attr-defined]
        found._take_over(facts, tokens)
        return found

    def _used(self) -> dict[str, Sizes]:
        used = {"held": held_used(self._counts)}
        for name, kernel in self._kernels.items():
            places = int(self._counts[stream.PLACES]) if name == NUMBER or name in dict(self._groups).values() else 0
            used[name] = book_used(kernel, places, self._rooms[name]["counts"])
        return used

    def _take_over(self, facts: dict[str, Any], tokens: dict[str, list[str]]) -> None:
        """What is not in the arrays, or follows from them."""
        self._moment = facts["moment"]
        for report in facts["reports"]:
            self.report(Report(*report))
        for name, count in facts["counters"].items():
            setattr(self, name, count)
        self._tokens = tokens
        for kind, told in tokens.items():
            self._keys[kind] = {token: key for key, token in enumerate(told) if token}
            self._kernels[kind].fill_table(self._books[kind])
        for node in self._held[4][: self._counts[stream.WAITING]]:
            place = int(node) >> 1
            if not node & 1:
                caller, callee = (int(self._held[1][place * stream.PARTIES + i]) for i in range(2))
                self._unentered[(caller, callee, int(self._calls[place * FIELDS + START]))] = place

    @property
    def calls(self) -> int:
        """Calls held in memory."""
        return int(self._counts[stream.HELD])

    @property
    def numbers(self) -> int:
        """Numbers held in memory."""
        return len(self._keys[NUMBER])

    def vector(self, call: KeyedCall) -> list[float]:
        """Feature values of `call` at its start, in the order of the features; NaN where unknown."""
        numbers = self._keys[NUMBER]
        caller, callee = numbers.get(call.caller, 0), numbers.get(call.callee, 0)
        group = self._group_room
        for i, name in self._groups:
            token = key_of(call, name)
            group[i] = -1 if token is None else self._keys[name].get(token, 0)
        self._row[:] = self._nothing
        facts = facts_of(call)
        self._kernel.vector(
            call.start, call.day, caller, callee, self._group, facts, self._out, *self._held, *self._books.values()
        )
        row: list[float] = self._row.tolist()
        if self._reports:
            row += self._reports.vector(call)
        return row if self._order is None else [row[i] for i in self._order]

    def observe(self, call: KeyedCall) -> None:
        """Take in a call. One that is not over (`ring` or `talk` is None) is an attempt; its end may come later."""
        over = call.ring is not None and call.talk is not None
        place = self._find(call)
        if place is None:
            place = self._keep(call)
            if place is None:
                self.refused += 1
                return
        elif not over or self._calls[place * FIELDS + END] != NEVER:
            return  # a repeat
        if over:
            ring, talk = call.ring or 0, call.talk or 0
            moment = call.start + ring + talk
            known = max(moment, call.recorded or moment)
            self._kernel.end(place, moment, talk, packed(call), known, self._calls, *self._held[3:])

    def report(self, report: Report) -> None:
        """Take in what a person said of a number; kept only if a feature asks for it."""
        if self._reports:
            self._reports.observe(report)

    def forget(self, token: str) -> None:
        """Know a number no more: who has it is new from now on.

        Its calls stay in the windows of those whom it called or who called it, under no name, until they leave them.
        """
        key = self._keys[NUMBER].pop(token, None)
        if key is not None:
            self._tokens[NUMBER][key] = ""
        if self._reports:
            held, self._reports = self._reports.held, Reports()
            for report in held:
                if token not in (report.number, report.reporter):
                    self._reports.observe(report)

    def _find(self, call: KeyedCall) -> int | None:
        """The place of a call that is held already."""
        numbers = self._keys[NUMBER]
        caller, callee = numbers.get(call.caller, 0), numbers.get(call.callee, 0)
        if not caller or not callee:
            return None
        place = self._unentered.get((caller, callee, call.start))
        if place is not None and self._holds(place, caller, callee, call.start):
            return place
        found = self._kernels[NUMBER].find_call(caller, callee, call.start, self._calls, self._books[NUMBER])
        return int(found) if found >= 0 else None

    def _holds(self, place: int, caller: int, callee: int, start: int) -> bool:
        parties = self._held[1]
        first = place * stream.PARTIES
        return bool(
            parties[first] == caller and parties[first + 1] == callee and self._calls[place * FIELDS + START] == start
        )

    def _keep(self, call: KeyedCall) -> int | None:
        """Give a new call a place, if there is room."""
        while self._counts[stream.HELD] >= self._most_calls:
            if not self._drop():
                return None
        self._moment = max(self._moment, call.start)
        caller = self._key(NUMBER, call.caller)
        callee = self._key(NUMBER, call.callee, spare=caller)
        if not caller or not callee:
            return None
        group = self._group_room
        for i, name in self._groups:
            token = key_of(call, name)
            group[i] = 0 if token is None else self._key(name, token)
        known = attempt_known(call)
        place = self._kernel.keep(
            call.start, packed(call), known, caller, callee, self._group, *self._held, *self._books.values()
        )
        self._unentered[(caller, callee, call.start)] = int(place)
        if len(self._unentered) > 64 + 2 * self._counts[stream.WAITING]:
            self._unentered = {
                told: place
                for told, place in self._unentered.items()
                if self._holds(place, *told) and not self._calls[place * FIELDS + FACTS] >> BEGUN & 1
            }
        return int(place)

    def _drop(self) -> bool:
        """Forget the oldest call, if it must be before its time; false if there is none that can go."""
        held = self.calls
        self._kernel.advance(self._moment, *self._held, *self._books.values())
        if self.calls < held:
            return True
        dropped = bool(self._kernel.drop_oldest(*self._held[:3], self._counts, *self._books.values()))
        self.dropped += dropped
        return dropped

    def _key(self, kind: str, token: str, spare: int = 0) -> int:
        """The key of a token; 0 if there is no room. A new one may take the place of an idle one other than `spare`."""
        key = self._keys[kind].get(token)
        if key is not None:
            return key
        book, kernel = self._books[kind], self._kernels[kind]
        while not (key := int(kernel.new_key(book))):
            idle = int(self._rooms[kind]["counts"][live.IDLE_FIRST])
            if idle and idle != spare:
                self._evict(kind, idle)
            elif not self._drop():
                return 0
        tokens = self._tokens[kind]
        tokens += [""] * (key + 1 - len(tokens))
        tokens[key] = token
        self._keys[kind][token] = key
        return key

    def _evict(self, kind: str, key: int) -> None:
        """Forget a key that has no call."""
        self._keys[kind].pop(self._tokens[kind][key], None)  # one that was forgotten has no name
        if kind == NUMBER:
            clock = self._rooms[kind]["state"][key * self._kernels[kind].STATE + CLOCK]
            self.evicted += int(clock > self._moment - DAYS_REMEMBERED * DAY_MS)
        self._kernels[kind].free_key(key, self._books[kind])


def key_of(call: KeyedCall, group: str) -> str | None:
    """The token of a call's block, trunk or device."""
    return call.caller_block if group == "block" else call.trunk if group == "trunk" else call.device


def packed(call: KeyedCall) -> int:
    """The facts of a call as its events carry them."""
    return int(pack(call.outcome, call.released_by, call.hour, call.day, call.step, call.same_region, call.ring or 0))


def attempt_known(call: KeyedCall) -> int:
    """When the attempt became known: at its start, unless the whole record came late."""
    over = call.start if call.ring is None or call.talk is None else call.start + call.ring + call.talk
    return call.start if call.recorded is None or call.recorded <= over else call.recorded
