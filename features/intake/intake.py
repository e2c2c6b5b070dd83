"""The intake turns calls as written into keyed calls: it derives the facts that need digits, and drops the digits.

One call (`Intake.__call__`) and a whole table (`Intake.table`) give the same facts. The costly steps, reading and
keying, happen once per distinct number and period of the number plan, and their results are cached in bounded memory
(`number_memory.py`). Two numbers are then compared: number by number for a single call, column by column for a table.

The intake also remembers the last two calls of each caller, over calls and tables (`dials.py`). The step of a call
compares its callee with the one of the caller's latest call that started, and was known, before. A repeated record of a
remembered call has the same step again and changes nothing. The memory holds digits, so it stays in its process and
cannot be pickled.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Literal, NoReturn
from zoneinfo import ZoneInfo

from callsieve.features.files.dates import DAY, HOUR, time_zone
from callsieve.features.keys.tokens import Key, Use
from callsieve.features.records import UNKNOWN, Call, KeyedCall

from . import numbers as plan
from .call_values import QUARTER, category, duration, milliseconds, number_class, type_fault
from .dials import KeyedNumber
from .number_memory import CACHE_SIZE, NumberMemory
from .numberplan import changes

if TYPE_CHECKING:
    import pyarrow as pa


class Intake:
    """Turns calls into keyed calls. Not thread-safe: each thread needs its own, or a lock.

    Args:
        zone: time zone of hour and day.
        numbers: "written" if caller and callee are numbers as a switch writes them, "codes" if they are opaque codes.
            A code, like a token, has no facts but the class that the call declares.
        remember: maximum of callers whose last two calls are remembered (about 350 bytes each, up to 560 for each of
            the two numbers). Beyond it, the caller that was silent longest is forgotten first.
        cached: maximum of cached numbers of single calls (up to 800 bytes each); a cached number is not read and keyed
            again. A stream with more recurring numbers needs a larger value.

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
        cached: int = CACHE_SIZE,
    ) -> None:
        if numbers not in ("written", "codes"):
            raise ValueError(f"numbers must be 'written' or 'codes', got {numbers!r}")
        if not isinstance(key, Key):
            raise TypeError(f"key must be a Key, from read_key or Key.generate, got {type(key).__name__}")
        if key.purpose != "records":
            raise ValueError(f"key must be one for records, got one for {key.purpose}")
        if remember < 1:
            raise ValueError(f"remember must be 1 or more, got {remember}")
        if cached < 1:
            raise ValueError(f"cached must be 1 or more, got {cached}")
        self._offset = partial(_offset, time_zone(zone))
        self._memory = NumberMemory(key, codes=numbers == "codes", remember=remember, cached=cached)
        self._number, self._text = self._memory.number, self._memory.text

    def __reduce__(self) -> NoReturn:
        raise TypeError("an intake holds digits and a key: it cannot be pickled; create it in the process that uses it")

    def __call__(self, call: Call) -> KeyedCall:
        """Returns the keyed form of one call, and remembers the call as one of its caller.

        Key calls in the order in which they become known: the step of a call that comes after later calls of its
        caller can be unknown.

        Raises:
            ValueError: for a category that is not listed, a time that is not finite or outside the calendar, or a
                negative ring or talk.
            TypeError: for a field of another type than `Call` declares. Both errors name the field and show no value.
        """
        try:
            return self._keyed(call)
        except (TypeError, AttributeError):  # of the first step that met the value: its message names no field
            if fault := type_fault(call):
                raise TypeError(fault) from None
            raise

    def _keyed(self, call: Call) -> KeyedCall:
        start = milliseconds("start", call.start)
        hour, day = self._clock(start)
        period = bisect_right(changes(), day)
        caller, callee = self._number(call.caller, period), self._number(call.callee, period)
        network = self._number(call.network_caller, period) if call.network_caller else None
        ring = None if call.ring is None else duration("ring", call.ring)
        talk = None if call.talk is None else duration("talk", call.talk)
        recorded = None if call.recorded is None else milliseconds("recorded", call.recorded)
        end = start if ring is None or talk is None else start + ring + talk
        known = start if recorded is None or recorded <= end else recorded
        return KeyedCall(  # positional, in the order of the fields: keyword arguments take twice as long
            start,
            caller.token,
            callee.token,
            ring,
            talk,
            recorded,
            category("outcome", call.outcome),
            category("released_by", call.released_by),
            hour,
            day,
            number_class("caller_class", caller.class_code, call.caller_class),
            number_class("callee_class", callee.class_code, call.callee_class),
            plan.same_region(caller.number, callee.number),
            plan.shared_digits(caller.significant, callee.significant),
            self._memory.dial(caller, callee, start, known),
            _differs(caller, network),
            category("attestation", call.attestation),
            category("route", call.route),
            caller.block,
            self._text("trunk", call.trunk),
            self._text("operator", call.operator),
            self._text("device", call.device),
            self._text("place", call.place),
        )

    def table(self, calls: pa.Table) -> pa.Table:
        """Returns the keyed form of a table with the columns of `Call`, row by row.

        Args:
            calls: start, recorded timestamp[ms, UTC]; ring, talk float64 seconds; the others strings, or dictionaries
                of strings. All but start, caller and callee are optional. A column "call" is copied.
        Returns: the columns of `KeyedCall`: times in whole ms (int64), tokens and categories as dictionaries, missing
            facts null.
        Raises: ValueError: for an unknown or missing column, a category that is not listed, a time that is not finite,
            or a negative ring or talk.
        """
        from .intake_table import keyed_table

        return keyed_table(calls, self._memory, self._offset)

    def forget_calls(self) -> None:
        """Forgets the calls of all callers, as if none had been keyed; numbers stay cached.

        For a table in parts by caller: the calls of a caller are in one part, and those of earlier parts take memory.
        """
        self._memory.forget_calls()

    def keyed(self, use: Use, column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
        """Returns the tokens of a column of another table; nulls stay null.

        For the uses "number" and "block" the column holds numbers as `Call.caller` does.
        """
        from .intake_table import keyed_column

        return keyed_column(use, column, self._memory)

    def token(self, use: Use, text: str | None) -> str | None:
        """Returns the token of a text of any use; None for None or an empty text."""
        return self._memory.token(use, text)

    def forget(self, token: str) -> None:
        """Forgets a number: what it dialled, and that it was dialled."""
        for _ in self.forgetting(token):
            pass

    def forgetting(self, token: str) -> Iterator[bool]:
        """Forgets a number like `forget`, in short steps; calls may be keyed between two steps."""
        return self._memory.forgetting(token)

    def _clock(self, start: int) -> tuple[int, int]:
        day, rest = divmod(start + self._offset(start // QUARTER), DAY)
        return rest // HOUR, day


def _differs(caller: KeyedNumber, network: KeyedNumber | None) -> int:
    if network is None or not plan.has_digits(caller.number) or not plan.has_digits(network.number):
        return UNKNOWN
    return int(caller.token != network.token)


@lru_cache(maxsize=1 << 16)
def _offset(zone: ZoneInfo, quarter: int) -> int:
    offset = datetime.fromtimestamp(quarter * (QUARTER // 1000), zone).utcoffset() or timedelta(0)
    return offset // timedelta(milliseconds=1)
