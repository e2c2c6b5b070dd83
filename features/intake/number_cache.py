"""Numbers of an intake's tables: each is read and keyed once, over all tables, and its facts are columns.

Tables come in parts, and most numbers of one part come again in the next. Memory is bounded because the cache starts
anew (`NumberMemory.tables`); a number takes about 900 bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Ints
from callsieve.features.keys.tokens import Use
from callsieve.features.records import UNKNOWN

from . import numbers as plan
from .dials import Dial, Dials, KeyedNumber
from .numberplan import changes

Read = Callable[[Sequence[str | None], int], Sequence[KeyedNumber]]
Hash = Callable[[Use, Sequence[str]], Sequence[str]]
NIBBLES = 15
_BEFORE_0 = chr(ord("0") - 1)
FACTS: dict[str, type[np.signedinteger[Any]]] = {
    "token": np.int32,
    "token_block": np.int32,
    "kind": np.int8,
    "digits": np.int8,
    "withheld": np.int8,
    "foreign": np.int8,
    "home": np.int8,
    "region": np.int32,
    "block": np.int32,
    "series": np.int32,
    "place": np.int64,
    "country": np.int32,
    "size": np.int8,
    "nibbles": np.int64,
}


class TextIndex(defaultdict[str, int]):
    """Codes of texts, in order of first appearance."""

    def __missing__(self, text: str) -> int:
        code = self[text] = len(self)
        return code

    def code(self, text: str | None) -> int:
        """Returns the code of a text; UNKNOWN for None or an empty text."""
        return self[text] if text else UNKNOWN


class NumberCache:
    """Distinct numbers with their facts, and the tokens of other texts.

    `numbers` holds them by id; two spellings of one number share an id. `tokens` and `blocks` are the distinct tokens
    of numbers and of their blocks. `last_dialled` is the last dialled number of each caller.
    """

    def __init__(self, read: Read, hashed: Hash) -> None:
        self.numbers: list[KeyedNumber] = []
        self.tokens, self.blocks = TextIndex(), TextIndex()
        self.last_dialled = LastDialled()
        self._read, self._hashed = read, hashed
        self._by_text: list[dict[str | None, int]] = [{} for _ in range(len(changes()) + 1)]  # id, by period
        self._ids: dict[tuple[int, int], int] = {}
        self._by_code: dict[int, tuple[pa.Array, Ints]] = {}  # dictionary of a column and ids of its words, by period
        self._texts: defaultdict[Use, dict[str, str]] = defaultdict(dict)
        self._region, self._block, self._country, self._series = (TextIndex() for _ in range(4))
        self._facts = {name: np.empty(0, dtype=kind) for name, kind in FACTS.items()}

    def __len__(self) -> int:
        return len(self.numbers) + sum(map(len, self._texts.values()))

    def ids_of_texts(self, texts: Sequence[str | None], period: int) -> list[int]:
        """Returns the ids of numbers as written, in a period of the number plan."""
        ids = self._by_text[period]
        new = list(dict.fromkeys([text for text in texts if text not in ids]))
        ids.update(zip(new, self.ids_of(self._read(new, period)), strict=True))
        return [ids[text] for text in texts]

    def ids_of_codes(self, codes: Ints, words: pa.Array, period: int) -> Ints:
        """Returns the ids of numbers in a dictionary column."""
        cached, ids = self._by_code.get(period, (None, np.empty(0, dtype=np.int32)))
        if cached is None or not _same_memory(cached, words):
            ids = np.full(len(words) + 1, UNKNOWN, dtype=np.int32)
            self._by_code[period] = words, ids
        present = np.zeros(len(ids), dtype=np.bool_)
        present[codes] = True
        new = np.flatnonzero(present & (ids == UNKNOWN))
        texts = words.cast("string").take(new[new < len(words)]).to_pylist()
        ids[new] = self.ids_of_texts(texts + [None] * (len(new) - len(texts)), period)
        return ids[codes]

    def numbers_of_texts(self, texts: Sequence[str | None]) -> list[KeyedNumber]:
        """Returns numbers as written, read in the period with most cached numbers: tokens are equal in all periods."""
        period = max(range(len(self._by_text)), key=lambda period: (len(self._by_text[period]), period))
        return [self.numbers[number] for number in self.ids_of_texts(texts, period)]

    def tokens_of_texts(self, use: Use, texts: Sequence[str | None]) -> list[str | None]:
        """Returns the tokens of trunks, operators, devices or places; None for None or an empty text."""
        tokens = self._texts[use]
        new = list(dict.fromkeys([text for text in texts if text and text not in tokens]))
        tokens.update(zip(new, self._hashed(use, new), strict=True))
        return [tokens[text] if text else None for text in texts]

    def ids_of(self, numbers: Iterable[KeyedNumber | None]) -> list[int]:
        """Returns the ids of numbers, which are added if they are new; UNKNOWN for None."""
        return [UNKNOWN if number is None else self._id(number) for number in numbers]

    def _id(self, number: KeyedNumber) -> int:
        if number.cache_id < len(self.numbers) and self.numbers[number.cache_id] is number:
            return number.cache_id
        key = (self.tokens[number.token], number.class_code)
        cache_id = self._ids.get(key)
        if cache_id is None:
            cache_id = self._ids[key] = len(self.numbers)
            self.numbers.append(number)
            number.cache_id = cache_id
        return cache_id

    def facts(self) -> dict[str, Ints]:
        """Returns the columns of FACTS, by id."""
        new = self.numbers[len(self._facts["token"]) :]
        if new:
            for name, values in self._facts_of(new).items():
                added = np.array(values, dtype=FACTS[name])
                self._facts[name] = np.concatenate((self._facts[name], added))
        return self._facts

    def _facts_of(self, new: Sequence[KeyedNumber]) -> dict[str, Sequence[int] | Ints]:
        numbers = [keyed.number for keyed in new]
        digits = [keyed.significant[1] for keyed in new]
        series = [plan.series(number) for number in numbers]
        return {
            "token": [self.tokens[keyed.token] for keyed in new],
            "token_block": [self.blocks[keyed.block] for keyed in new],
            "kind": [keyed.class_code for keyed in new],
            "digits": [plan.has_digits(number) for number in numbers],
            "withheld": [number.kind == "withheld" for number in numbers],
            "foreign": [number.kind == "foreign" for number in numbers],
            "home": [plan.is_domestic(number) for number in numbers],
            "region": [self._region.code(number.region) for number in numbers],
            "block": [self._block.code(number.block) for number in numbers],
            "series": [self._series[text] for text, _ in series],
            "place": [place for _, place in series],
            "country": [self._country[keyed.significant[0]] for keyed in new],
            "size": [len(text) for text in digits],
            "nibbles": _nibbles(digits),
        }


def _same_memory(first: pa.Array, second: pa.Array) -> bool:
    addresses = [[part and part.address for part in words.buffers()] for words in (first, second)]
    return addresses[0] == addresses[1] and (first.offset, len(first)) == (second.offset, len(second))


def _nibbles(digits: Sequence[str]) -> Ints:
    letters = "".join([text.ljust(NIBBLES, _BEFORE_0) for text in digits]).encode()
    values = np.frombuffer(letters, dtype=np.uint8).reshape(len(digits), NIBBLES) - np.uint8(ord(_BEFORE_0))
    packed = np.zeros(len(digits), dtype=np.int64)
    for column in values.T:
        packed = packed << 4 | column
    return packed


DIAL = ("callee", "start", "known", "step")
"""A `Dial` as integers; the callee is an id of `NumberCache`."""


class LastDialled:
    """`Dials` of the callers of tables as arrays, by the codes of the callers' tokens.

    `new_callers` counts callers that `NumberMemory` does not remember.
    """

    def __init__(self) -> None:
        self.new_callers = 0
        self._calls = np.empty((len(DIAL), 2, 0), dtype=np.int64)
        self._put = np.empty(0, dtype=np.int64)  # when it was last put, as a counter
        self._clock = 0

    def get(self, callers: Ints) -> Ints:
        """Returns DIAL of both calls of each caller, shape (4, 2, callers); makes room for them.

        The first call is the fresh one, the second the settled one. A callee is UNKNOWN where no call is remembered.
        """
        more = int(callers.max(initial=-1)) + 1 - len(self._put)
        if more > 0:
            self._calls = np.pad(self._calls, ((0, 0), (0, 0), (0, more)), constant_values=UNKNOWN)
            self._put = np.pad(self._put, (0, more))
        return self._calls[:, :, callers]

    def put(self, callers: Ints, calls: Ints) -> None:
        """Remembers both calls of callers that were passed to `get`; the last caller is the one that called last."""
        self._calls[:, :, callers] = calls
        self._put[callers] = np.arange(self._clock, self._clock + len(callers))
        self._clock += len(callers)

    def take_all(self, numbers: list[KeyedNumber]) -> tuple[Ints, Iterable[Dials]]:
        """Returns callers and their calls, the one that called first first, and forgets them."""
        callers = np.flatnonzero(self._calls[0, 0] != UNKNOWN)
        callers = callers[np.argsort(self._put[callers])]
        pairs = self.get(callers).transpose(2, 1, 0).tolist()
        self._calls[0], self.new_callers = UNKNOWN, 0

        def dial(callee: int, start: int, known: int, step: int) -> Dial:
            return Dial(start, known, numbers[callee], step)

        return callers, (Dials(dial(*new), None if old[0] == UNKNOWN else dial(*old)) for new, old in pairs)


def as_columns(dials: Iterable[Dials | None], ids: Callable[[Iterable[KeyedNumber | None]], list[int]]) -> Ints:
    """Returns DIAL of both calls of each caller, shape (4, 2, callers), as `LastDialled.get` does."""
    pairs = [(None, None) if last is None else (last.fresh, last.settled) for last in dials]
    calls = [call for slot in zip(*pairs, strict=True) for call in slot]
    callees = ids(None if call is None else call.callee for call in calls)
    rest = ((UNKNOWN,) * 3 if call is None else (call.start, call.known, call.step) for call in calls)
    rows = [(callee, *row) for callee, row in zip(callees, rest, strict=True)]
    return np.array(rows, dtype=np.int64).reshape(2, -1, len(DIAL)).transpose(2, 0, 1)
