"""Bounded memory of an intake: numbers that were read and keyed, and the last two calls of each caller.

It serves single calls and tables. Tables have a cache of their own (`number_cache.py`), whose last dialled numbers are
merged here before the next single call. The memory holds digits, so it stays in the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING
from zlib import crc32

from callsieve.features.keys.tokens import Key, Use, is_token
from callsieve.features.records import UNKNOWN

from . import numbers as plan
from .bounded_dict import BoundedDict
from .dials import Dials, KeyedNumber, dial
from .numberplan import changes

if TYPE_CHECKING:
    from .number_cache import NumberCache

CACHE_SIZE = 1 << 17
"""Default of distinct numbers, blocks and texts of single calls."""

TABLE_CACHE_SIZE = 1 << 19
"""Distinct numbers and texts of tables, beyond which their cache starts anew."""


class NumberMemory:
    """Reads and keys numbers, with bounded caches."""

    def __init__(self, key: Key, *, codes: bool, remember: int, cached: int) -> None:
        self._key, self._codes, self._remember = key, codes, remember
        self._last: BoundedDict[str, Dials] = BoundedDict(remember, _stable_hash)
        self._numbers: BoundedDict[str | None, KeyedNumber] = BoundedDict(cached, hash)  # by text, as last read
        self._block = lru_cache(maxsize=cached)(self._block_token)
        self._text = lru_cache(maxsize=CACHE_SIZE)(self._text_token)
        self._tables: NumberCache | None = None
        self._behind = False  # the cache of tables may have last dialled numbers that `_last` lacks

    def number(self, written: str | None, period: int) -> KeyedNumber:
        """Reads and keys a number in a period of the number plan."""
        number = self._numbers.get(written)
        if number is None or number.period != period:
            parsed = self._parse(written, period)
            token = _token_or_text(written, self._key.token("number", parsed.canonical))
            number = KeyedNumber(parsed, token, self._block_of(parsed), period)
            self._numbers.put(written, number)
        return number

    def text(self, use: Use, text: str | None) -> str | None:
        """Returns the token of a trunk, operator, device or place; None for None or an empty text."""
        return self._text(use, text) if text else None

    def token(self, use: Use, text: str | None) -> str | None:
        """Returns the token of a text of any use; None for None or an empty text."""
        if not text or use not in ("number", "block"):
            return self.text(use, text)
        # Canonical forms do not depend on the period.
        number = self._numbers.get(text) or self.number(text, len(changes()))
        return number.token if use == "number" else number.block

    def dial(self, caller: KeyedNumber, callee: KeyedNumber, start: int, known: int) -> int:
        """Records a call, see `dials.dial`; returns its step."""
        if self._behind:
            self._merge_tables()
        if caller.number.kind == "withheld":
            return UNKNOWN  # many people share this caller: one person's call says nothing about the next
        step, dials = dial(self._last.get(caller.token), start, known, callee)
        self._last.put(caller.token, dials)
        return step

    def last_dialled(self, tokens: Iterable[str]) -> list[Dials | None]:
        """Returns what each caller dialled last, without what only the cache of tables has."""
        return list(map(self._last.get, tokens))

    def has_room(self, new_callers: int) -> bool:
        """Returns whether this many new callers can be remembered without forgetting another one."""
        return len(self._last) + self.tables().last_dialled.new_callers + new_callers <= self._remember

    def tables(self) -> NumberCache:
        """Returns the cache of tables; a new one if it grew beyond TABLE_CACHE_SIZE."""
        from .number_cache import NumberCache

        if self._tables is None or len(self._tables) > TABLE_CACHE_SIZE:
            self._merge_tables()
            self._tables = NumberCache(self._read_all, self._text_tokens)
        self._behind = True
        return self._tables

    def forgetting(self, token: str) -> Iterator[bool]:
        """Forgets a number and what it dialled, in short steps; calls may be keyed between two steps."""
        self._merge_tables()
        self._tables = None
        self._last.drop(token)
        yield from self._last.removing(lambda dials: token in dials.tokens())
        yield from self._numbers.removing(lambda number: number.token == token)

    def forget_calls(self) -> None:
        """Forgets what all callers dialled last."""
        from .number_cache import LastDialled

        self._last = BoundedDict(self._remember, _stable_hash)
        if self._tables is not None:
            self._tables.last_dialled = LastDialled()

    def _merge_tables(self) -> None:
        self._behind = False
        if self._tables is None:
            return
        callers, dials = self._tables.last_dialled.take_all(self._tables.numbers)
        tokens = list(self._tables.tokens)
        for caller, last in zip(callers.tolist(), dials, strict=True):
            self._last.put(tokens[caller], last)

    def _read_all(self, written: Sequence[str | None], period: int) -> list[KeyedNumber]:
        numbers = [self._parse(text, period) for text in written]
        hashed = self._key.tokens("number", [number.canonical for number in numbers])
        tokens = map(_token_or_text, written, hashed)
        return list(map(KeyedNumber, numbers, tokens, map(self._block_of, numbers), repeat(period)))

    def _parse(self, written: str | None, period: int) -> plan.Number:
        if written and (self._codes or is_token(written)):
            return plan.Number(written, "unknown", "", "", "")
        return plan.parse_in_period(written, period)

    def _block_of(self, number: plan.Number) -> str:
        return self._block(number.block) if number.block else self._block_token(number.canonical)

    def _block_token(self, block: str) -> str:
        return self._key.token("block", block)

    def _text_token(self, use: Use, text: str) -> str:
        return self._text_tokens(use, [text])[0]

    def _text_tokens(self, use: Use, texts: Sequence[str]) -> list[str]:
        return list(map(_token_or_text, texts, self._key.tokens(use, texts)))


def _stable_hash(token: str) -> int:
    return crc32(token.encode())


def _token_or_text(text: str | None, token: str) -> str:
    return text if text and is_token(text) else token
