"""The intake of a whole Arrow table: reads each distinct number once, then compares numbers as columns.

Shared leading digits: a number's digits become the nibbles of one integer (digit + 1, so that 0 ends it). The
highest bit in which two integers differ tells how many nibbles they share.

Dialling distances: the calls of each caller are sorted by the time at which they became known. A call's rank is its
place among all calls by caller, start and callee. So the running maximum of the ranks is the latest call that was known
at each place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import compress

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Ints
from callsieve.features.files.dates import DAY, HOUR
from callsieve.features.keys.tokens import Use
from callsieve.features.records import CALL_COLUMNS, KEYED_COLUMNS, NEAR_DISTANCE, STEPS, UNKNOWN

from .call_values import CATEGORIES, QUARTER, UNKNOWN_CLASS, category
from .keyed_table import TEXTS, check_table
from .number_cache import NIBBLES, NumberCache, TextIndex, as_columns
from .number_memory import NumberMemory
from .numberplan import changes
from .text_columns import dictionary_column, dictionary_encoded

Distance = Callable[[Ints, Ints], Ints]
FIRST = np.iinfo(np.int64).min


def dial_all(
    memory: NumberMemory, numbers: NumberCache, times: tuple[Ints, Ints], caller: Ints, callee: Ints, distance: Distance
) -> Ints:
    """Returns the step of each call, and remembers the calls, like `NumberMemory.dial` in the order of becoming known.

    A repeated record of a call has the step of its first record.

    `times`: start and when the call became known, Unix ms, shape (calls,).
    """
    (start, known), facts = times, numbers.facts()
    steps = np.full(len(start), UNKNOWN, dtype=np.int64)
    rows = np.argsort(known, kind="stable")
    rows = rows[facts["withheld"][caller[rows]] == 0]
    tokens = facts["token"][caller[rows]]
    order = _stable_order(tokens)
    last = rows[np.sort(order[_ends(tokens[order])])]  # of each caller, in order of their last calls
    callers = facts["token"][caller[last]]
    remembered = _remembered(memory, numbers, caller[last], callers)
    if remembered is None:  # callers may be forgotten on the way: only single steps are exact
        for row in rows.tolist():
            pair = numbers.numbers[caller[row]], numbers.numbers[callee[row]]
            steps[row] = memory.dial(*pair, int(start[row]), int(known[row]))
        return steps
    rows = rows[order]
    calls = tokens[order], callee[rows], start[rows], known[rows]
    steps[rows], after = _dialled(numbers, callers, remembered, calls, distance)
    numbers.last_dialled.put(callers, after)
    return steps


def _remembered(memory: NumberMemory, numbers: NumberCache, ids: Ints, callers: Ints) -> Ints | None:
    """Returns what is remembered of each caller, as `LastDialled.get` does; None if there is no room for all."""
    dials = numbers.last_dialled.get(callers)
    new = np.flatnonzero(dials[0, 0] == UNKNOWN)  # not remembered from a table, but perhaps from single calls
    from_calls = memory.last_dialled(numbers.numbers[number].token for number in ids[new].tolist())
    new_callers = from_calls.count(None)
    if not memory.has_room(new_callers):
        return None
    numbers.last_dialled.new_callers += new_callers
    dials[:, :, new] = as_columns(from_calls, numbers.ids_of)
    return dials


def _dialled(
    numbers: NumberCache, callers: Ints, remembered: Ints, calls: tuple[Ints, ...], distance: Distance
) -> tuple[Ints, Ints]:
    """Returns the steps of the calls, and what to remember of the callers, as `LastDialled.put` takes it."""
    # The remembered calls come first: the settled ones, then the fresh ones.
    old = [np.vstack((callers, remembered[:, slot]))[:, remembered[0, slot] != UNKNOWN] for slot in (1, 0)]
    new = np.vstack((*calls, np.full(len(calls[0]), UNKNOWN)))
    caller, callee, start, known, step = np.concatenate((*old, new), axis=1)
    settled, olds = old[0].shape[1], len(caller) - len(calls[0])
    newest = np.full(int(caller.max(initial=-1)) + 1, FIRST)
    newest[caller[settled:olds]] = known[settled:olds]
    is_behind = known < newest[caller]  # known before the fresh call that is remembered
    moment = known.copy()
    moment[:settled] = FIRST
    order = np.argsort(moment, kind="stable")
    order = order[_stable_order(caller[order])]
    same_caller = caller[order[1:]] == caller[order[:-1]]
    originals, by_rank = None, order
    if np.any(same_caller & (start[order[1:]] <= start[order[:-1]])):
        originals, by_rank = _rank(numbers, caller, callee, start)
        order = order[originals[order] == order]
    rank = np.empty(len(caller), dtype=np.int64)
    rank[by_rank] = np.arange(len(by_rank))
    most = np.maximum.accumulate(rank[order])
    place = np.arange(len(order))
    starts_group = np.ones(len(order), dtype=np.bool_)
    starts_group[1:] = (caller[order[1:]] != caller[order[:-1]]) | (moment[order[1:]] != moment[order[:-1]])
    group = np.maximum.accumulate(np.where(starts_group, place, 0))
    is_new = order >= olds
    rows, at = order[is_new], np.where(is_behind[order], place, group)[is_new] - 1
    before = by_rank[most[at]]
    is_before = (at >= 0) & (caller[before] == caller[rows])
    is_before &= (start[before] < start[rows]) & (known[before] < start[rows])
    step[rows] = distance(np.where(is_before, callee[before], UNKNOWN), callee[rows])
    if originals is not None:
        step = step[originals]
    ends = _ends(caller[order])
    ends = ends[np.searchsorted(caller[order[ends]], callers)]
    fresh = by_rank[np.maximum.reduceat(rank[order], np.flatnonzero(starts_group))[np.cumsum(starts_group)[ends] - 1]]
    earlier = by_rank[most[group[ends] - 1]]
    has_earlier = (group[ends] > 0) & (caller[earlier] == callers)
    places = np.stack((fresh, earlier))
    ids = np.where(np.stack((np.ones_like(has_earlier), has_earlier)), callee[places], UNKNOWN)
    return step[olds:], np.stack((ids, start[places], known[places], step[places]))


def _rank(numbers: NumberCache, caller: Ints, callee: Ints, start: Ints) -> tuple[Ints, Ints]:
    """Returns the first record of each call, and the order of calls by caller, start and the callee's token."""
    order = np.argsort(start, kind="stable")
    order = order[_stable_order(caller[order])]
    same = (caller[order[1:]] == caller[order[:-1]]) & (start[order[1:]] == start[order[:-1]])
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    rows = order[tied]
    codes, token = np.unique(numbers.facts()["token"][callee[rows]], return_inverse=True)
    texts, place = list(numbers.tokens), np.zeros(len(codes), dtype=np.int64)
    place[sorted(range(len(codes)), key=lambda code: texts[codes[code]])] = np.arange(len(codes))
    order[tied] = rows = rows[np.lexsort((place[token], start[rows], caller[rows]))]
    token = numbers.facts()["token"][callee[rows]]
    again = (caller[rows[1:]] == caller[rows[:-1]]) & (start[rows[1:]] == start[rows[:-1]]) & (token[1:] == token[:-1])
    first = np.arange(len(rows))
    first[1:][again] = 0
    originals = np.arange(len(order))
    originals[rows] = rows[np.maximum.accumulate(first)]
    return originals, order


def _ends(keys: Ints) -> Ints:
    return np.flatnonzero(np.append(keys[1:] != keys[:-1], np.ones(min(1, len(keys)), dtype=np.bool_)))


def _stable_order(keys: Ints) -> Ints:
    """Returns the stable sort order of 32-bit keys, in two passes of 16 bits: NumPy's radix sort makes that three times
    as fast.
    """
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    return order[np.argsort((keys >> 16).astype(np.uint16)[order], kind="stable")]


Offset = Callable[[int], int]
"""Milliseconds that local time is ahead of UTC in a quarter hour since 1970."""

_SAME, _NEAR, _BLOCK, _OTHER = (STEPS.index(word) for word in ("same", "near", "block", "other"))


def keyed_table(calls: pa.Table, memory: NumberMemory, offset: Offset) -> pa.Table:
    """Returns the keyed form of a table of calls; see `Intake.table` for its columns."""
    check_table(calls)
    _check_columns(calls.column_names)
    start = _start(calls)
    hour, day = _clock(offset, start)
    period = np.searchsorted(np.array(changes(), dtype=np.int64), day, side="right")
    numbers = memory.tables()
    caller, callee, network = (
        _number_ids(numbers, calls, name, period) for name in ("caller", "callee", "network_caller")
    )
    times = {name: _times(calls, name) for name in ("ring", "talk", "recorded")}
    known = _attempt_known(start, times)
    step = dial_all(memory, numbers, (start, known), caller, callee, partial(_step, numbers))
    facts = numbers.facts()
    columns: dict[str, pa.Array] = {
        "start": pa.array(start),
        "caller": _words(facts["token"][caller], numbers.tokens),
        "callee": _words(facts["token"][callee], numbers.tokens),
        "hour": pa.array(hour.astype(np.int8)),
        "day": pa.array(day.astype(np.int32)),
        "same_region": _small(_same_region(facts, caller, callee)),
        "shared_prefix": _small(_shared_prefix(facts, caller, callee)),
        "step": dictionary_column(step, STEPS, np.int8),
        "presented_differs": _small(_differs(facts, caller, network)),
        "caller_block": _words(facts["token_block"][caller], numbers.blocks),
    }
    columns |= times
    read = {"caller_class": facts["kind"][caller], "callee_class": facts["kind"][callee]}
    for name, words in CATEGORIES.items():
        codes = _category_codes(calls, name)
        if name in read:  # a declared class counts only where the number has no digits to read
            codes = np.where(read[name] == UNKNOWN_CLASS, codes, read[name])
        columns[name] = dictionary_column(codes, words, np.int8)
    for use in TEXTS:
        columns[use] = keyed_column(use, _column(calls, use), memory)
    names = [*KEYED_COLUMNS, *(["call"] if "call" in calls.column_names else [])]
    return pa.table({name: calls[name] if name == "call" else columns[name] for name in names})


def keyed_column(use: Use, column: pa.Array | pa.ChunkedArray, memory: NumberMemory) -> pa.DictionaryArray:
    """Returns the tokens of a column of texts; nulls stay null."""
    codes, texts = _encoded(column)
    tokens = TextIndex()
    ids = np.array([*map(tokens.code, _tokens(memory, use, texts)), UNKNOWN], dtype=np.int32)
    return dictionary_column(ids[codes], list(tokens))


def _tokens(memory: NumberMemory, use: Use, texts: Sequence[str | None]) -> list[str | None]:
    if use not in ("number", "block"):
        return memory.tables().tokens_of_texts(use, texts)
    numbers = zip(texts, memory.tables().numbers_of_texts(texts), strict=True)
    return [(number.token if use == "number" else number.block) if text else None for text, number in numbers]


# Columns of the input


def _check_columns(names: Sequence[str]) -> None:
    strange = sorted(set(names) - {*CALL_COLUMNS, "call"})
    missing = sorted({"start", "caller", "callee"} - set(names))
    if strange or missing:
        raise ValueError(f"calls: unknown columns {strange}, missing columns {missing}; columns are {CALL_COLUMNS}")


def _column(calls: pa.Table, name: str) -> pa.ChunkedArray:
    if name in calls.column_names:
        return calls[name]
    return pa.chunked_array([pa.nulls(len(calls), pa.string())])


def _coded(column: pa.Array | pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    encoded = dictionary_encoded(column)
    return encoded.indices.cast(pa.int64()).fill_null(UNKNOWN).to_numpy(zero_copy_only=False), encoded.dictionary


def _encoded(column: pa.Array | pa.ChunkedArray) -> tuple[Ints, list[str | None]]:
    codes, words = _coded(column)
    # A slice of a table can carry the whole table's dictionary: read only the texts that occur.
    present = np.zeros(len(words) + 1, dtype=np.bool_)
    present[codes] = True
    used = np.flatnonzero(present[:-1])
    renumbered = np.full(len(present), UNKNOWN, dtype=np.int64)
    renumbered[used] = np.arange(len(used))
    return renumbered[codes], words.take(pa.array(used)).cast(pa.string()).to_pylist()


def _number_ids(numbers: NumberCache, calls: pa.Table, name: str, period: Ints) -> Ints:
    codes, words = _coded(_column(calls, name))
    ids = np.empty(len(codes), dtype=np.int32)
    for value in np.flatnonzero(np.bincount(period)).tolist():
        rows = np.flatnonzero(period == value)
        ids[rows] = numbers.ids_of_codes(codes[rows], words, value)
    return ids


def _start(calls: pa.Table) -> Ints:
    column = calls["start"]
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise ValueError(f"row {row}: start must be a time, got null")
    return _milliseconds("start", column)


def _milliseconds(name: str, column: pa.ChunkedArray) -> Ints:
    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        raise ValueError(f"{name} must be timestamp[ms, tz=UTC], got {column.type}")
    times = column.cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
    values: Ints = times.fill_null(0).to_numpy()
    return values


def _times(calls: pa.Table, name: str) -> pa.Array:
    """Returns a column of times or of seconds as whole milliseconds, half rounded up."""
    if name not in calls.column_names:
        return pa.nulls(len(calls), pa.int64())
    column, empty = calls[name], calls[name].is_null().to_numpy()
    if name == "recorded":
        return pa.array(_milliseconds(name, column), mask=empty)
    seconds = column.cast(pa.float64()).fill_null(0.0).to_numpy()
    not_finite = np.flatnonzero(~np.isfinite(seconds))
    if len(not_finite):
        row = not_finite[0]
        raise ValueError(f"row {row}: {name} must be a finite number of seconds, got {seconds[row]}")
    negative = np.flatnonzero(seconds < 0)
    if len(negative):
        raise ValueError(f"row {negative[0]}: {name} must be 0 seconds or more")
    return pa.array(np.floor(seconds * 1000 + 0.5).astype(np.int64), mask=empty)


def _category_codes(calls: pa.Table, name: str) -> Ints:
    codes, words = _encoded(_column(calls, name))
    categories = []
    for code, word in enumerate([*words, None]):
        try:
            categories.append(category(name, word))
        except ValueError as error:
            row = int(np.flatnonzero(codes == code)[0])
            raise ValueError(f"row {row}: {error}") from None
    return np.array(categories, dtype=np.int64)[codes]


# Facts


def _clock(offset: Offset, start: Ints) -> tuple[Ints, Ints]:
    quarters = pa.array(start // QUARTER).dictionary_encode()
    offsets = np.array([offset(quarter) for quarter in quarters.dictionary.to_pylist()], dtype=np.int64)
    local = start + offsets[quarters.indices.to_numpy()]
    day = local // DAY
    return (local - day * DAY) // HOUR, day


def _attempt_known(start: Ints, times: dict[str, pa.Array]) -> Ints:
    ring, talk, recorded = (times[name].fill_null(FIRST).to_numpy() for name in ("ring", "talk", "recorded"))
    end = np.where((ring == FIRST) | (talk == FIRST), start, start + ring + talk)
    return np.where(recorded > end, recorded, start)


def _same_region(facts: dict[str, Ints], a: Ints, b: Ints) -> Ints:
    region, foreign, home = facts["region"], facts["foreign"], facts["home"]
    apart = (foreign[a] & home[b]) | (foreign[b] & home[a])
    both_known = (region[a] >= 0) & (region[b] >= 0)
    return np.where(both_known, region[a] == region[b], np.where(apart == 1, 0, UNKNOWN))


def _shared_prefix(facts: dict[str, Ints], a: Ints, b: Ints) -> Ints:
    size, country, nibbles = facts["size"], facts["country"], facts["nibbles"]
    differing = nibbles[a] ^ nibbles[b]
    # No two neighbouring bits stay set, so that the conversion to float cannot round up to the next power of two.
    bits = np.frexp((differing & ~(differing >> 1)).astype(np.float64))[1]
    shared = np.minimum(NIBBLES - (bits.astype(np.int64) + 3) // 4, np.minimum(size[a], size[b]))
    shared = np.where(country[a] == country[b], shared, 0)
    return np.where((size[a] > 0) & (size[b] > 0), shared, UNKNOWN)


def _step(numbers: NumberCache, previous: Ints, callee: Ints) -> Ints:
    facts = numbers.facts()  # remembered numbers are among them only now
    token, block, series, place = (facts[name] for name in ("token", "block", "series", "place"))
    near = (series[previous] == series[callee]) & (np.abs(place[previous] - place[callee]) <= NEAR_DISTANCE)
    together = (block[previous] == block[callee]) & (block[callee] >= 0)
    step = np.where(near, _NEAR, np.where(together, _BLOCK, _OTHER))
    step = np.where(token[previous] == token[callee], _SAME, step)
    both_digits = (previous >= 0) & (facts["digits"][previous] == 1) & (facts["digits"][callee] == 1)
    return np.where(both_digits, step, UNKNOWN)


def _differs(facts: dict[str, Ints], caller: Ints, network: Ints) -> Ints:
    token, digits = facts["token"], facts["digits"]
    both_digits = (network >= 0) & (digits[network] == 1) & (digits[caller] == 1)
    return np.where(both_digits, token[caller] != token[network], UNKNOWN)


# Columns of the output


def _words(codes: Ints, words: Collection[str]) -> pa.DictionaryArray:
    present = np.zeros(len(words), dtype=np.bool_)
    present[codes] = True
    renumbered = np.cumsum(present, dtype=np.int32) - 1
    return dictionary_column(renumbered[codes], list(compress(words, present.tolist())))


def _small(values: Ints) -> pa.Array:
    return pa.array(values.astype(np.int8), mask=values < 0)
