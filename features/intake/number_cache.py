"""What an intake's tables brought: each number is read and keyed once, over tables, its facts are kept as columns.

A world is written, and a file is read, part after part, and most numbers come again in the next part. Memory is bounded
by starting anew (`Intake.met`), some 900 bytes a number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from callsieve.features.keys.tokens import Use
from callsieve.features.records import UNKNOWN

from . import numbers as plan
from .intake import Known
from .last_dialled import Dialled
from .numberplan import changes

if TYPE_CHECKING:
    import pyarrow as pa

Ints = npt.NDArray[np.signedinteger[Any]]
Read = Callable[[Sequence[str | None], int], Sequence[Known]]
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
    "tail": np.int32,
    "length": np.int32,
    "country": np.int32,
    "size": np.int8,
    "nibbles": np.int64,
}


class Places(defaultdict[str, int]):
    """The place of each text in the order in which they came."""

    def __missing__(self, text: str) -> int:
        place = self[text] = len(self)
        return place

    def or_none(self, text: str | None) -> int:
        """The place of a text, UNKNOWN of none."""
        return self[text] if text else UNKNOWN


class Met:
    """Unique numbers and their facts, and the tokens of other texts.

    `known` holds them by id; two writings of one number share an id. `tokens` and `blocks` are the unique tokens of
    numbers and of their blocks. `read` makes a `Known` of each number as written, in a period of the number plan,
    `hashed` a token of each text of another use. `dialled` is what their callers dialled last.
    """

    def __init__(self, read: Read, hashed: Hash) -> None:
        self.known: list[Known] = []
        self.tokens, self.blocks = Places(), Places()
        self._read, self._hashed = read, hashed
        self._met: list[dict[str | None, int]] = [{} for _ in range(len(changes()) + 1)]  # by period
        self._ids: dict[tuple[int, int], int] = {}
        self._of_words: dict[int, tuple[pa.Array, Ints]] = {}  # by period
        self._texts: defaultdict[Use, dict[str, str]] = defaultdict(dict)
        self._region, self._block, self._country = Places(), Places(), Places()
        self._columns = {name: np.empty(0, dtype=kind) for name, kind in FACTS.items()}
        self.dialled = Dialled()

    def __len__(self) -> int:
        return len(self.known) + sum(map(len, self._texts.values()))

    def written(self, texts: Sequence[str | None], period: int) -> list[int]:
        """Ids of numbers as written, in a period of the number plan."""
        met = self._met[period]
        new = list(dict.fromkeys([text for text in texts if text not in met]))
        met.update(zip(new, self.ids(self._read(new, period)), strict=True))
        return [met[text] for text in texts]

    def coded(self, codes: Ints, words: pa.Array, period: int) -> Ints:
        """Ids of numbers that are told by their places among these words; -1 is a number that was not told.

        Parts of one table have the same words: what was read of them is kept until others come.
        """
        kept, ids = self._of_words.get(period, (None, np.empty(0, dtype=np.int32)))
        if kept is None or not _same(kept, words):
            ids = np.full(len(words) + 1, UNKNOWN, dtype=np.int32)
            self._of_words[period] = words, ids
        met = np.zeros(len(ids), dtype=np.bool_)
        met[codes] = True
        new = np.flatnonzero(met & (ids == UNKNOWN))
        texts = words.cast("string").take(new[new < len(words)]).to_pylist()
        ids[new] = self.written(texts + [None] * (len(new) - len(texts)), period)
        return ids[codes]

    def spelt(self, texts: Sequence[str | None]) -> list[Known]:
        """Numbers as written in any period of the plan: their tokens and blocks are the same in all."""
        met = max(self._met, key=len)
        return [self.known[number] for number in self.written(texts, self._met.index(met))]

    def texts(self, use: Use, texts: Sequence[str | None]) -> list[str | None]:
        """Tokens of trunks, operators, devices or places; None of none."""
        met = self._texts[use]
        new = list(dict.fromkeys([text for text in texts if text and text not in met]))
        met.update(zip(new, self._hashed(use, new), strict=True))
        return [met[text] if text else None for text in texts]

    def id(self, known: Known) -> int:
        """Id of a `Known`."""
        key = (self.tokens[known.token], known.kind)
        found = self._ids.get(key)
        if found is None:
            found = self._ids[key] = len(self.known)
            self.known.append(known)
            object.__setattr__(known, "place", found)
        return found

    def ids(self, known: Iterable[Known | None]) -> list[int]:
        """Ids of several; UNKNOWN of none."""
        held, size = self.known, len(self.known)
        return [
            UNKNOWN if number is None
            else number.place if number.place < size and held[number.place] is number
            else self.id(number)
            for number in known
        ]  # fmt: skip

    def columns(self) -> dict[str, Ints]:
        """The facts, by the ids."""
        new = self.known[len(self._columns["token"]) :]
        if new:
            for name, values in self._facts(new).items():
                added = np.array(values, dtype=FACTS[name])
                self._columns[name] = np.concatenate((self._columns[name], added))
        return self._columns

    def _facts(self, new: Sequence[Known]) -> dict[str, Sequence[int] | Ints]:
        numbers = [known.number for known in new]
        digits = [known.significant[1] for known in new]
        return {
            "token": [self.tokens[known.token] for known in new],
            "token_block": [self.blocks[known.block] for known in new],
            "kind": [known.kind for known in new],
            "digits": [plan.has_digits(number) for number in numbers],
            "withheld": [number.kind == "withheld" for number in numbers],
            "foreign": [number.kind == "foreign" for number in numbers],
            "home": [plan.is_domestic(number) for number in numbers],
            "region": [self._region.or_none(number.region) for number in numbers],
            "block": [self._block.or_none(number.block) for number in numbers],
            "tail": [plan.last_digits(number) for number in numbers],
            "length": [len(number.canonical) for number in numbers],
            "country": [self._country[known.significant[0]] for known in new],
            "size": [len(each) for each in digits],
            "nibbles": _nibbles(digits),
        }


def _same(one: pa.Array, other: pa.Array) -> bool:
    """Whether two arrays are the same memory."""
    addresses = [[part and part.address for part in words.buffers()] for words in (one, other)]
    return addresses[0] == addresses[1] and (one.offset, len(one)) == (other.offset, len(other))


def _nibbles(digits: Sequence[str]) -> Ints:
    """The digits of each number, each one more than it is, as the nibbles of an integer; 0 from their end on."""
    letters = "".join([each.ljust(NIBBLES, _BEFORE_0) for each in digits]).encode()
    values = np.frombuffer(letters, dtype=np.uint8).reshape(len(digits), NIBBLES) - np.uint8(ord(_BEFORE_0))
    found = np.zeros(len(digits), dtype=np.int64)
    for place in values.T:
        found = found << 4 | place
    return found
