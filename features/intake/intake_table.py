"""The intake of a whole Arrow table: facts of unique numbers once, then compared as columns.

Shared leading digits: a number's digits become the nibbles of one integer (digit + 1, so that 0 ends it). The
highest bit in which two integers differ says how many nibbles they share.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from callsieve.features.keys.tokens import Use
from callsieve.features.records import CALL_COLUMNS, KEYED_COLUMNS, STEPS, UNKNOWN

from . import numbers as plan
from .intake import CATEGORIES, DAY, HOUR, QUARTER, UNKNOWN_CLASS, Intake, category
from .keyed_table import check_table
from .number_cache import NIBBLES, Ints, Met, Places
from .numberplan import changes

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS: tuple[Use, ...] = ("trunk", "operator", "device", "place")
_SAME, _NEAR, _BLOCK, _OTHER = (STEPS.index(word) for word in ("same", "near", "block", "other"))


def keyed_table(intake: Intake, calls: pa.Table) -> pa.Table:
    """`Intake.table`."""
    import pyarrow as pa

    check_table(calls)
    _check_columns(calls.column_names)
    start = _start(calls)
    hour, day = _clock(intake, start)
    period = np.searchsorted(np.array(changes(), dtype=np.int64), day, side="right")
    numbers = intake.met()
    caller, callee, network = (
        _number_ids(numbers, calls, name, period) for name in ("caller", "callee", "network_caller")
    )
    previous = _previous(intake, numbers, start, caller, callee)
    facts = numbers.columns()
    columns: dict[str, Any] = {
        "start": pa.array(start),
        "caller": _words(facts["token"][caller], numbers.tokens),
        "callee": _words(facts["token"][callee], numbers.tokens),
        "hour": pa.array(hour.astype(np.int8)),
        "day": pa.array(day.astype(np.int32)),
        "same_region": _small(_same_region(facts, caller, callee)),
        "shared_prefix": _small(_shared_prefix(facts, caller, callee)),
        "step": _dictionary(_step(facts, previous, callee), STEPS, np.int8),
        "presented_differs": _small(_differs(facts, caller, network)),
        "caller_block": _words(facts["token_block"][caller], numbers.blocks),
    }
    for name in ("ring", "talk", "recorded"):
        columns[name] = _times(calls, name)
    read = {"caller_class": facts["kind"][caller], "callee_class": facts["kind"][callee]}
    for name, words in CATEGORIES.items():
        told = _category_ids(calls, name)
        if name in read:  # a class that is told counts where the number has no digits to read
            told = np.where(read[name] == UNKNOWN_CLASS, told, read[name])
        columns[name] = _dictionary(told, words, np.int8)
    for use in TEXTS:
        columns[use] = keyed_column(intake, use, _column(calls, use))
    names = [*KEYED_COLUMNS, *(["call"] if "call" in calls.column_names else [])]
    return pa.table({name: calls[name] if name == "call" else columns[name] for name in names})


def keyed_column(intake: Intake, use: Use, column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """`Intake.keyed`."""
    codes, texts = _encoded(column)
    places = Places()
    ids = np.array([*map(places.or_none, _tokens(intake, use, texts)), UNKNOWN], dtype=np.int32)
    return _dictionary(ids[codes], list(places), np.int32)


def _tokens(intake: Intake, use: Use, texts: Sequence[str | None]) -> list[str | None]:
    if use not in ("number", "block"):
        return intake.met().texts(use, texts)
    known = zip(texts, intake.met().spelt(texts), strict=True)
    return [(number.token if use == "number" else number.block) if text else None for text, number in known]


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


def _coded(column: pa.Array | pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Codes, and the words that they are places of; -1 is null."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    return column.indices.cast(pa.int64()).fill_null(UNKNOWN).to_numpy(zero_copy_only=False), column.dictionary


def _encoded(column: pa.Array | pa.ChunkedArray) -> tuple[Ints, list[str | None]]:
    """Codes into a list of the texts that occur; -1, so the last place after them, is null."""
    import pyarrow as pa

    codes, words = _coded(column)
    # A slice of a table can carry the whole table's dictionary: read only what occurs.
    met = np.zeros(len(words) + 1, dtype=np.bool_)
    met[codes] = True
    places = np.flatnonzero(met[:-1])
    renumbered = np.full(len(met), UNKNOWN, dtype=np.int64)
    renumbered[places] = np.arange(len(places))
    return renumbered[codes], words.take(pa.array(places)).cast(pa.string()).to_pylist()


def _number_ids(numbers: Met, calls: pa.Table, name: str, period: Ints) -> Ints:
    """Ids of a column of numbers."""
    codes, words = _coded(_column(calls, name))
    found = np.empty(len(codes), dtype=np.int32)
    for place in np.flatnonzero(np.bincount(period)).tolist():
        rows = np.flatnonzero(period == place)
        found[rows] = numbers.coded(codes[rows], words, place)
    return found


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
    below = np.flatnonzero(seconds < 0)
    if len(below):
        raise ValueError(f"row {below[0]}: {name} must be 0 seconds or more")
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


def _previous(intake: Intake, numbers: Met, start: Ints, caller: Ints, callee: Ints) -> Ints:
    """Ids of what each caller dialled before, in order of start; notes what each dialled last."""
    known, facts, found = numbers.known, numbers.columns(), np.full(len(start), UNKNOWN, dtype=np.int64)
    rows = np.argsort(start, kind="stable")
    rows = rows[facts["withheld"][caller[rows]] == 0]
    who = facts["token"][caller[rows]]
    places = _stable_order(who)
    who = who[places]
    change = np.flatnonzero(who[1:] != who[:-1]) + 1
    first = np.concatenate([np.arange(min(1, len(who))), change])
    before = numbers.dialled.last(who[first])
    new = np.flatnonzero(before == UNKNOWN)  # no table has noted them yet, but single calls may have
    dialled = intake.last(known[one].token for one in caller[rows[places[first[new]]]].tolist())
    fresh = dialled.count(None)
    if not intake.has_room(fresh):  # some caller may be forgotten on the way: only one by one is exact
        pairs = zip(caller[rows].tolist(), callee[rows].tolist(), strict=True)
        found[rows] = numbers.ids(intake.dialled(known[one], known[other]) for one, other in pairs)
        return found
    found[rows[places[1:]]] = callee[rows[places[:-1]]]
    before[new] = numbers.ids(dialled)  # the memory may hold numbers that no table has brought: they get ids now
    found[rows[places[first]]] = before
    last = rows[np.sort(places[np.concatenate([change, np.full(min(1, len(who)), len(who))]) - 1])]
    numbers.dialled.note(facts["token"][caller[last]], callee[last], fresh)
    return found


def _stable_order(keys: Ints) -> Ints:
    """A stable order of keys of 32 bits: NumPy counts where it sorts 16 bits, and takes thrice as long for more."""
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    return order[np.argsort((keys >> 16).astype(np.uint16)[order], kind="stable")]


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
    shared = np.minimum(NIBBLES - (bits.astype(np.int64) + 3) // 4, np.minimum(size[a], size[b]))
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


def _words(places: Ints, words: Collection[str]) -> pa.DictionaryArray:
    """A column of words by their places, its dictionary those that occur."""
    met = np.zeros(len(words), dtype=np.bool_)
    met[places] = True
    renumbered = np.cumsum(met, dtype=np.int32) - 1
    return _dictionary(renumbered[places], list(compress(words, met.tolist())), np.int32)


def _dictionary(ids: Ints, words: Sequence[str] | pa.Array, width: type[np.signedinteger[Any]]) -> pa.DictionaryArray:
    import pyarrow as pa

    indices = pa.array(ids.astype(width), mask=ids < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))


def _small(values: Ints) -> pa.Array:
    import pyarrow as pa

    return pa.array(values.astype(np.int8), mask=values < 0)
