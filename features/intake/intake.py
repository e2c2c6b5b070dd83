"""Calls as written -> keyed calls: the facts that need digits are taken, then the digits are gone.

One call (`Intake.__call__`) and a whole table (`Intake.table`) give the same facts. What is costly, reading
and keying, is done once for each unique number (and period of the number plan) and kept in bounded memory, that of
tables (`met.py`) from one table to the next.
Two numbers are then compared: column by column in a table, number by number in a single call.

The last number that each caller dialled is kept too, over calls and tables, in the order in which they come.
It is digits, so it stays in the process: an intake cannot be pickled.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Literal, NoReturn
from zlib import crc32
from zoneinfo import ZoneInfo

from callsieve.features.dataclass import dataclass, field
from callsieve.features.files.zones import time_zone
from callsieve.features.keys.tokens import Key, Use, is_token
from callsieve.features.records import (
    ATTESTATIONS,
    NUMBER_CLASSES,
    OUTCOMES,
    RELEASED_BY,
    ROUTES,
    UNKNOWN,
    Call,
    KeyedCall,
)

from . import numbers as plan
from .bounded_dict import Kept
from .numberplan import changes

if TYPE_CHECKING:
    import pyarrow as pa

    from .number_cache import Met

HOUR, DAY, QUARTER = 3_600_000, 86_400_000, 900_000  # milliseconds
CATEGORIES = {
    "outcome": OUTCOMES,
    "released_by": RELEASED_BY,
    "attestation": ATTESTATIONS,
    "route": ROUTES,
    "caller_class": NUMBER_CLASSES,
    "callee_class": NUMBER_CLASSES,
}
_INDEX = {name: {word: i for i, word in enumerate(words)} for name, words in CATEGORIES.items()}
NOT_TOLD = "unknown"
UNKNOWN_CLASS = NUMBER_CLASSES.index(NOT_TOLD)
CACHED = 1 << 17  # unique numbers, blocks and texts of single calls
_MET = 1 << 20  # the same of tables

# Seconds since 1970 between which there is a calendar in every time zone: the years 2 to 9998.
_EARLIEST, _LATEST = -62_104_060_800.0, 253_370_764_800.0


@dataclass(frozen=True, slots=True)
class Known:
    """A number that was met: its reading in a period of the number plan, and what is kept of it; `place` is its id in
    the last `Met` that took it."""

    number: plan.Number
    token: str
    block: str
    period: int = field(repr=False, compare=False)
    kind: int = field(init=False)
    place: int = field(init=False, repr=False, compare=False, default=0)
    significant: tuple[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", _INDEX["caller_class"][self.number.kind])
        object.__setattr__(self, "significant", plan.significant(self.number))


class Intake:
    """Keys calls.

    `zone` is the clock of hour and day. `numbers` says what caller and callee are: "written" as a switch
    writes them, or "codes" that stand for numbers; of a code, and of what is a token already, no fact is
    known but the class that the call tells.
    `remember` bounds the callers whose last dialled number is kept (some 90 bytes each, and up to 560 for a
    number); one of those longest silent is forgotten first. `cached` bounds the numbers of single calls that are not
    read and keyed anew each time (up to 800 bytes each): whoever meets more numbers than that again and again gives
    them room.

    >>> intake = Intake(Key("e1", bytes(32)))
    >>> call = intake(Call(start=1767225600.0, caller="+8613800138000", callee="13800138001"))
    >>> call.hour, call.shared_prefix, call.caller[:3]
    (8, 10, 'e1.')
    """

    def __init__(
        self,
        key: Key,
        zone: str = "Asia/Shanghai",
        numbers: Literal["written", "codes"] = "written",
        remember: int = 1_000_000,
        cached: int = CACHED,
    ) -> None:
        if numbers not in ("written", "codes"):
            raise ValueError(f"numbers must be 'written' or 'codes', got {numbers!r}")
        if key.purpose != "records":
            raise ValueError(f"key must be one for records, got one for {key.purpose}")
        if remember < 1:
            raise ValueError(f"remember must be 1 or more, got {remember}")
        if cached < 1:
            raise ValueError(f"cached must be 1 or more, got {cached}")
        self._key, self._zone, self._codes, self._remember = key, time_zone(zone), numbers == "codes", remember
        self._last: Kept[str, Known] = Kept(remember, _place)
        self._numbers: Kept[str | None, Known] = Kept(cached, hash)  # each as it was read last
        self._block = lru_cache(maxsize=cached)(self._block_token)
        self._text = lru_cache(maxsize=CACHED)(self._text_token)
        self._met: Met | None = None
        self._behind = False  # tables may have noted what `_last` lacks

    def __reduce__(self) -> NoReturn:
        raise TypeError("an intake holds digits and a key: it is never pickled; make one where it is used")

    def __call__(self, call: Call) -> KeyedCall:
        """Key one call.

        Raises: ValueError: for a word that is no category, a time that is not finite or of no calendar, or a ring or
        talk below 0.
        """
        start = milliseconds("start", call.start)
        hour, day = self.clock(start)
        period = bisect_right(changes(), day)
        caller, callee = self.known(call.caller, period), self.known(call.callee, period)
        network = self.known(call.network_caller, period) if call.network_caller else None
        previous = self.dialled(caller, callee)
        return KeyedCall(  # in the order of its fields: by their names it takes as long again
            start,
            caller.token,
            callee.token,
            None if call.ring is None else duration("ring", call.ring),
            None if call.talk is None else duration("talk", call.talk),
            None if call.recorded is None else milliseconds("recorded", call.recorded),
            category("outcome", call.outcome),
            category("released_by", call.released_by),
            hour,
            day,
            number_class("caller_class", caller.kind, call.caller_class),
            number_class("callee_class", callee.kind, call.callee_class),
            plan.same_region(caller.number, callee.number),
            plan.shared_digits(caller.significant, callee.significant),
            plan.step(previous.number if previous else None, callee.number),
            _differs(caller, network),
            category("attestation", call.attestation),
            category("route", call.route),
            caller.block,
            self.text("trunk", call.trunk),
            self.text("operator", call.operator),
            self.text("device", call.device),
            self.text("place", call.place),
        )

    def table(self, calls: pa.Table) -> pa.Table:
        """Key a table with the columns of `Call`; the rows stay in their order.

        Columns: start, recorded timestamp[ms, UTC]; ring, talk float64 seconds; the others strings, or
        dictionaries of them. All but start, caller and callee may be missing. A column "call" is kept.

        Returns: the columns of `KeyedCall`: times in whole ms (int64), tokens and words as dictionaries,
        unknown facts null.

        Raises: ValueError: for an unknown or missing column, a word that is no category, a time that is not
        finite, a ring or talk below 0.
        """
        from .intake_table import keyed_table

        return keyed_table(self, calls)

    def keyed(self, use: Use, column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
        """The tokens of a column of another table, as this intake writes them; nulls stay null.

        For the uses "number" and "block" the column holds numbers as `Call.caller` does.
        """
        from .intake_table import keyed_column

        return keyed_column(self, use, column)

    def met(self) -> Met:
        """What tables brought; nothing if it was too much to keep on."""
        from .number_cache import Met

        if self._met is None or len(self._met) > _MET:
            self._take_over()
            self._met = Met(self._all_known, self._text_tokens)
        self._behind = True
        return self._met

    def clock(self, start: int) -> tuple[int, int]:
        """Local hour of day, and days since 1970-01-01, of a moment in ms."""
        day, rest = divmod(start + self.offset(start // QUARTER), DAY)
        return rest // HOUR, day

    def offset(self, quarter: int) -> int:
        """Milliseconds that local time is ahead of UTC in a quarter hour since 1970.

        Zones shift between two quarter hours, never within one.
        """
        return _offset(self._zone, quarter)

    def dialled(self, caller: Known, callee: Known) -> Known | None:
        """Note a call; returns what the caller dialled before."""
        if self._behind:
            self._take_over()
        if caller.number.kind == "withheld":
            return None  # many people share this caller: what one dialled says nothing of the next
        return self._last.put(caller.token, callee)

    def last(self, tokens: Iterable[str]) -> list[Known | None]:
        """What callers dialled last, but for what a table has noted since the last single call."""
        return list(map(self._last.get, tokens))

    def _take_over(self) -> None:
        """Note what tables have noted, who dialled longest ago first; all of them have room."""
        self._behind = False
        if self._met is None:
            return
        callers, callees = self._met.dialled.taken()
        tokens, known = list(self._met.tokens), self._met.known
        for caller, callee in zip(callers.tolist(), callees.tolist(), strict=True):
            self._last.put(tokens[caller], known[callee])

    def forget(self, token: str) -> None:
        """Remember nothing of a number: neither what it dialled nor that it was dialled."""
        for _ in self.forgetting(token):
            pass

    def forgetting(self, token: str) -> Iterator[bool]:
        """The same in short steps, between which calls may be keyed."""
        self._take_over()
        self._met = None
        self._last.drop(token)
        for kept in (self._last, self._numbers):
            yield from kept.without(lambda known: known.token == token)

    def has_room(self, fresh: int) -> bool:
        """Whether so many more callers could be remembered and none forgotten."""
        return len(self._last) + self.met().dialled.fresh + fresh <= self._remember

    def known(self, written: str | None, period: int) -> Known:
        """A number as it is read in a period of the number plan, and what is kept of it."""
        found = self._numbers.get(written)
        if found is None or found.period != period:
            found = self._known(written, period)
            self._numbers.put(written, found)
        return found

    def text(self, use: Use, text: str | None) -> str | None:
        """The token of a trunk, operator, device or place; None for none."""
        return self._text(use, text) if text else None

    def token(self, use: Use, text: str | None) -> str | None:
        """The token of a text of any use; None for none."""
        if not text or use not in ("number", "block"):
            return self.text(use, text)
        # Canonical forms do not depend on the period.
        known = self._numbers.get(text) or self.known(text, len(changes()))
        return known.token if use == "number" else known.block

    def _known(self, written: str | None, period: int) -> Known:
        number = self._number(written, period)
        token = _kept(written, self._key.token("number", number.canonical))
        return Known(number, token, self._block_of(number), period)

    def _all_known(self, written: Sequence[str | None], period: int) -> list[Known]:
        numbers = [self._number(text, period) for text in written]
        tokens = self._key.tokens("number", [number.canonical for number in numbers])
        return list(map(Known, numbers, map(_kept, written, tokens), map(self._block_of, numbers), repeat(period)))

    def _block_of(self, number: plan.Number) -> str:
        """Numbers without a block are no neighbours of each other: each is a block of its own, and not remembered."""
        return self._block(number.block) if number.block else self._block_token(number.canonical)

    def _number(self, written: str | None, period: int) -> plan.Number:
        if written and (self._codes or is_token(written)):
            return plan.Number(written, "unknown", "", "", "")
        return plan.parse_in(written, period)

    def _block_token(self, block: str) -> str:
        return self._key.token("block", block)

    def _text_token(self, use: Use, text: str) -> str:
        return self._text_tokens(use, [text])[0]

    def _text_tokens(self, use: Use, texts: Sequence[str]) -> list[str]:
        return list(map(_kept, texts, self._key.tokens(use, texts)))


def milliseconds(name: str, seconds: float) -> int:
    """Whole milliseconds, half rounded up."""
    if not _EARLIEST <= seconds < _LATEST:
        # The value is not shown: a number that slipped into the wrong field is one, too.
        raise ValueError(f"{name} must be a finite number of seconds, of a year from 2 to 9998")
    return math.floor(seconds * 1000 + 0.5)


def duration(name: str, seconds: float) -> int:
    """Whole milliseconds of a time that cannot be below 0, as of clocks that were set between its ends."""
    if seconds < 0:
        raise ValueError(f"{name} must be 0 seconds or more")
    return milliseconds(name, seconds)


def _place(token: str) -> int:
    """The same in each process: who is forgotten for want of room must not be drawn anew."""
    return crc32(token.encode())


def category(name: str, word: str | None) -> int:
    """Index of a word in its tuple of `records`; None is "unknown"."""
    index = _INDEX[name].get("unknown" if word is None else word)
    if index is None:
        # The word is not shown: where columns are shifted, it could be a number.
        raise ValueError(f"{name} must be one of {', '.join(CATEGORIES[name])}")
    return index


def number_class(name: str, read: int, told: str) -> int:
    """The class of a number: as it reads, or as the call tells it of what has no digits to read."""
    if told == NOT_TOLD:
        return read
    code = category(name, told)
    return code if read == UNKNOWN_CLASS else read


def _kept(text: str | None, token: str) -> str:
    """A text that is a token already stays as it is."""
    return text if text and is_token(text) else token


def _differs(caller: Known, network: Known | None) -> int:
    if network is None or not plan.has_digits(caller.number) or not plan.has_digits(network.number):
        return UNKNOWN
    return int(caller.token != network.token)


@lru_cache(maxsize=1 << 16)
def _offset(zone: ZoneInfo, quarter: int) -> int:
    offset = datetime.fromtimestamp(quarter * (QUARTER // 1000), zone).utcoffset() or timedelta(0)
    return offset // timedelta(milliseconds=1)
