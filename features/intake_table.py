"""The intake of a whole Arrow table: facts of unique numbers once, then compared as columns.

Shared leading digits: a number's digits become the nibbles of one integer (digit + 1, so that 0 ends it). The
highest bit in which two integers differ says how many nibbles they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import numbers as plan
from .intake import CATEGORIES, DAY, HOUR, QUARTER, Intake, Known, category
from .numberplan import changes
from .pseudonyms import Use
from .records import CALL_COLUMNS, KEYED_COLUMNS, NUMBER_CLASSES, STEPS, UNKNOWN

if TYPE_CHECKING:
    import pyarrow as pa

Ints = npt.NDArray[np.int64]
TEXTS: tuple[Use, ...] = ("trunk", "operator", "device", "place")
_NIBBLES = 15
_SAME, _NEAR, _BLOCK, _OTHER = (STEPS.index(word) for word in ("same", "near", "block", "other"))
_AS_NIBBLES = str.maketrans("0123456789", "123456789a")


class Numbers:
    """Unique numbers of a table, and their facts as columns."""

    def __init__(self) -> None:
        self.known: list[Known] = []
        self.tokens: list[int] = []  # place of each one's token among the unique ones
        self._ids: dict[tuple[str, int], int] = {}
        self._places: dict[str, int] = {}

    def id(self, known: Known) -> int:
        """Number of a `Known`; two writings of one number share it."""
        key = (known.token, known.kind)
        found = self._ids.get(key)
        if found is None:
            found = self._ids[key] = len(self.known)
            self.known.append(known)
            self.tokens.append(self._places.setdefault(known.token, len(self._places)))
        return found

    def words(self) -> list[str]:
        """The unique tokens, by place."""
        return list(self._places)

    def columns(self) -> dict[str, Ints]:
        """The facts, by the ids."""
        numbers = [known.number for known in self.known]
        parts = [plan.significant(number) for number in numbers]
        columns: dict[str, Sequence[int]] = {
            "token": self.tokens,
            "kind": [known.kind for known in self.known],
            "digits": [plan.has_digits(number) for number in numbers],
            "foreign": [number.kind == "foreign" for number in numbers],
            "home": [plan.is_domestic(number) for number in numbers],
            "region": _ids_or_none([number.region for number in numbers]),
            "block": _ids_or_none([number.block for number in numbers]),
            "tail": [plan.last_digits(number) for number in numbers],
            "length": [len(number.canonical) for number in numbers],
            "country": _ids([country for country, _ in parts])[0],
            "size": [len(digits) for _, digits in parts],
            "nibbles": [_nibbles(digits) for _, digits in parts],
        }
        return {name: np.array(values, dtype=np.int64) for name, values in columns.items()}


def keyed_table(intake: Intake, calls: pa.Table) -> pa.Table:
    """`Intake.table`."""
    import pyarrow as pa

    _check_columns(calls.column_names)
    start = _start(calls)
    hour, day = _clock(intake, start)
    period = np.searchsorted(np.array(changes(), dtype=np.int64), day, side="right")
    numbers = Numbers()
    caller, callee, network = (
        _number_ids(intake, numbers, calls, name, period) for name in ("caller", "callee", "network_caller")
    )
    previous = _previous(intake, numbers, start, caller, callee)
    facts = numbers.columns()
    tokens = pa.array(numbers.words(), pa.string())
    blocks, block_texts = _ids([known.block for known in numbers.known])
    columns: dict[str, Any] = {
        "start": pa.array(start),
        "caller": _dictionary(facts["token"][caller], tokens, np.int32),
        "callee": _dictionary(facts["token"][callee], tokens, np.int32),
        "hour": pa.array(hour.astype(np.int8)),
        "day": pa.array(day.astype(np.int32)),
        "caller_class": _dictionary(facts["kind"][caller], NUMBER_CLASSES, np.int8),
        "callee_class": _dictionary(facts["kind"][callee], NUMBER_CLASSES, np.int8),
        "same_region": _small(_same_region(facts, caller, callee)),
        "shared_prefix": _small(_shared_prefix(facts, caller, callee)),
        "step": _dictionary(_step(facts, previous, callee), STEPS, np.int8),
        "presented_differs": _small(_differs(facts, caller, network)),
        "caller_block": _dictionary(np.array(blocks, dtype=np.int64)[caller], block_texts, np.int32),
    }
    for name in ("ring", "talk", "recorded"):
        columns[name] = _times(calls, name)
    for name, words in CATEGORIES.items():
        columns[name] = _dictionary(_category_ids(calls, name), words, np.int8)
    for use in TEXTS:
        columns[use] = keyed_column(intake, use, _column(calls, use))
    names = [*KEYED_COLUMNS, *(["call"] if "call" in calls.column_names else [])]
    return pa.table({name: calls[name] if name == "call" else columns[name] for name in names})


def keyed_column(intake: Intake, use: Use, column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """`Intake.keyed`."""
    codes, texts = _encoded(column)
    tokens = [intake.token(use, text) for text in texts]
    words = list(dict.fromkeys(token for token in tokens if token is not None))
    index = {word: i for i, word in enumerate(words)}
    ids = np.array([UNKNOWN if token is None else index[token] for token in tokens] + [UNKNOWN], dtype=np.int64)
    return _dictionary(ids[codes], words, np.int32)


# Columns of the input


def _check_columns(names: Sequence[str]) -> None:
    strange = sorted(set(names) - {*CALL_COLUMNS, "call"})
    missing = sorted({"start", "caller", "callee"} - set(names))
    if strange or missing:
        raise ValueError(f"calls: unknown columns {strange}, missing columns {missing}; columns are {CALL_COLUMNS}")


def _column(calls: pa.Table, name: str) -> pa.ChunkedArray:
    import pyarrow as pa

    if name in calls.column_names:
        return calls[name]
    return pa.chunked_array([pa.nulls(len(calls), pa.string())])


def _encoded(column: pa.Array | pa.ChunkedArray) -> tuple[Ints, list[str | None]]:
    """Codes into a list of the texts that occur; -1, so the last place after them, is null."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    codes = column.indices.cast(pa.int64()).fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
    # A slice of a table can carry the whole table's dictionary: read only what occurs.
    met = np.zeros(len(column.dictionary) + 1, dtype=np.bool_)
    met[codes] = True
    places = np.flatnonzero(met[:-1])
    renumbered = np.full(len(met), UNKNOWN, dtype=np.int64)
    renumbered[places] = np.arange(len(places))
    return renumbered[codes], column.dictionary.take(pa.array(places)).cast(pa.string()).to_pylist()


def _number_ids(intake: Intake, numbers: Numbers, calls: pa.Table, name: str, period: Ints) -> Ints:
    """Ids of a column of numbers; UNKNOWN where a network's number is missing."""
    codes, texts = _encoded(_column(calls, name))
    periods, width = len(changes()) + 1, len(texts) + 1
    pairs: Ints = period * width + codes % width
    met = np.zeros(periods * width, dtype=np.bool_)
    met[pairs] = True
    ids = np.full(len(met), UNKNOWN, dtype=np.int64)
    for pair in np.flatnonzero(met).tolist():
        place, code = divmod(pair, width)
        text = texts[code] if code < len(texts) else None
        if text or name != "network_caller":
            ids[pair] = numbers.id(intake.known(text, place))
    return ids[pairs]


def _start(calls: pa.Table) -> Ints:
    """Milliseconds; a call without a start is refused."""
    column = calls["start"]
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise ValueError(f"row {row}: start must be a time, got null")
    return _milliseconds("start", column)


def _milliseconds(name: str, column: pa.ChunkedArray) -> Ints:
    import pyarrow as pa

    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        raise ValueError(f"{name} must be timestamp[ms, tz=UTC], got {column.type}")
    times = column.cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
    values: Ints = times.fill_null(0).to_numpy()
    return values


def _times(calls: pa.Table, name: str) -> pa.Array:
    """A column of moments or of seconds as whole milliseconds, half rounded up."""
    import pyarrow as pa

    if name not in calls.column_names:
        return pa.nulls(len(calls), pa.int64())
    column, empty = calls[name], calls[name].is_null().to_numpy()
    if name == "recorded":
        return pa.array(_milliseconds(name, column), mask=empty)
    seconds = column.cast(pa.float64()).fill_null(0.0).to_numpy()
    wrong = np.flatnonzero(~np.isfinite(seconds))
    if len(wrong):
        raise ValueError(f"row {wrong[0]}: {name} must be a finite number of seconds, got {seconds[wrong[0]]}")
    return pa.array(np.floor(seconds * 1000 + 0.5).astype(np.int64), mask=empty)


def _category_ids(calls: pa.Table, name: str) -> Ints:
    codes, words = _encoded(_column(calls, name))
    ids = []
    for code, word in enumerate([*words, None]):
        try:
            ids.append(category(name, word))
        except ValueError as error:
            row = int(np.flatnonzero(codes == code)[0])
            raise ValueError(f"row {row}: {error}") from None
    return np.array(ids, dtype=np.int64)[codes]


# Facts


def _clock(intake: Intake, start: Ints) -> tuple[Ints, Ints]:
    """Local hour and day: the zone is asked once for each quarter hour."""
    import pyarrow as pa

    quarters = pa.array(start // QUARTER).dictionary_encode()
    offsets = np.array([intake.offset(quarter) for quarter in quarters.dictionary.to_pylist()], dtype=np.int64)
    local = start + offsets[quarters.indices.to_numpy()]
    day = local // DAY
    return (local - day * DAY) // HOUR, day


def _previous(intake: Intake, numbers: Numbers, start: Ints, caller: Ints, callee: Ints) -> Ints:
    """Ids of what each caller dialled before, in order of start; notes what each dialled last."""
    known, found = numbers.known, np.full(len(start), UNKNOWN, dtype=np.int64)
    shared = np.array([number.number.kind == "withheld" for number in known], dtype=np.bool_)
    rows = np.argsort(start, kind="stable")
    rows = rows[~shared[caller[rows]]]
    if not intake.has_room(len(known)):  # some caller may be forgotten on the way: only one by one is exact
        pairs = zip(caller[rows].tolist(), callee[rows].tolist(), strict=True)
        before = [intake.dialled(known[one], known[other]) for one, other in pairs]
        found[rows] = [UNKNOWN if number is None else numbers.id(number) for number in before]
        return found
    who = np.array(numbers.tokens, dtype=np.int64)[caller[rows]]
    places = np.argsort(who, kind="stable")
    who, rows = who[places], rows[places]
    change = np.flatnonzero(who[1:] != who[:-1]) + 1
    first = np.concatenate([np.arange(min(1, len(who))), change])
    last = np.concatenate([change, np.full(min(1, len(who)), len(who))]) - 1
    found[rows[1:]] = callee[rows[:-1]]
    # The memory may hold numbers of earlier tables: they get ids now.
    before = [intake.last(known[one]) for one in caller[rows[first]].tolist()]
    found[rows[first]] = [UNKNOWN if number is None else numbers.id(number) for number in before]
    last = rows[last[np.argsort(places[last])]]
    for one, other in zip(caller[last].tolist(), callee[last].tolist(), strict=True):
        intake.dialled(known[one], known[other])
    return found


def _same_region(facts: dict[str, Ints], a: Ints, b: Ints) -> Ints:
    region, foreign, home = facts["region"], facts["foreign"], facts["home"]
    apart = (foreign[a] & home[b]) | (foreign[b] & home[a])
    told = (region[a] >= 0) & (region[b] >= 0)
    return np.where(told, region[a] == region[b], np.where(apart == 1, 0, UNKNOWN))


def _shared_prefix(facts: dict[str, Ints], a: Ints, b: Ints) -> Ints:
    size, country, nibbles = facts["size"], facts["country"], facts["nibbles"]
    differing = nibbles[a] ^ nibbles[b]
    # No two neighbouring bits stay set: the float that frexp takes cannot round up to the next power of two.
    bits = np.frexp((differing & ~(differing >> 1)).astype(np.float64))[1]
    shared = np.minimum(_NIBBLES - (bits.astype(np.int64) + 3) // 4, np.minimum(size[a], size[b]))
    shared = np.where(country[a] == country[b], shared, 0)
    return np.where((size[a] > 0) & (size[b] > 0), shared, UNKNOWN)


def _step(facts: dict[str, Ints], previous: Ints, callee: Ints) -> Ints:
    token, block, tail, length = (facts[name] for name in ("token", "block", "tail", "length"))
    distance = np.abs(tail[previous] - tail[callee])
    near = (tail[previous] >= 0) & (tail[callee] >= 0) & (length[previous] == length[callee]) & (distance <= plan.NEAR)
    together = (block[previous] == block[callee]) & (block[callee] >= 0)
    step = np.where(together, np.where(near, _NEAR, _BLOCK), _OTHER)
    step = np.where(token[previous] == token[callee], _SAME, step)
    told = (previous >= 0) & (facts["digits"][previous] == 1) & (facts["digits"][callee] == 1)
    return np.where(told, step, UNKNOWN)


def _differs(facts: dict[str, Ints], caller: Ints, network: Ints) -> Ints:
    token, digits = facts["token"], facts["digits"]
    told = (network >= 0) & (digits[network] == 1) & (digits[caller] == 1)
    return np.where(told, token[caller] != token[network], UNKNOWN)


# Columns of the output


def _ids(texts: Sequence[str]) -> tuple[list[int], list[str]]:
    """Places in the list of unique texts, and that list."""
    places: dict[str, int] = {}
    return [places.setdefault(text, len(places)) for text in texts], list(places)


def _ids_or_none(texts: Sequence[str]) -> list[int]:
    return [place if text else UNKNOWN for place, text in zip(_ids(texts)[0], texts, strict=True)]


def _nibbles(digits: str) -> int:
    return int(digits.translate(_AS_NIBBLES).ljust(_NIBBLES, "0"), 16)


def _dictionary(ids: Ints, words: Sequence[str] | pa.Array, width: type[np.signedinteger[Any]]) -> pa.DictionaryArray:
    import pyarrow as pa

    indices = pa.array(ids.astype(width), mask=ids < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))


def _small(values: Ints) -> pa.Array:
    import pyarrow as pa

    return pa.array(values.astype(np.int8), mask=values < 0)
