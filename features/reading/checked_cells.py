"""Decodes the cells of a batch into the columns of a call: times, seconds, categories and texts.

An invalid cell marks its row as faulty. The batch keeps its length; the reader separates the faulty rows from the valid
ones. All columns of a batch have the types of `schema()`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from callsieve.features.arrays import Bools, Floats, Int32s
from callsieve.features.intake.text_columns import dictionary_column
from callsieve.features.records import CALL_COLUMNS, OUTCOMES

from .layouts import CATEGORIES, NUMBERS, SECONDS, TEXTS, TIMES, Layout
from .quarantine import (
    BAD_TIME,
    BAD_VALUE,
    END_BEFORE_START,
    MISSING_CALLEE,
    NEGATIVE_DURATION,
    TIME_OUT_OF_RANGE,
    Faults,
)

LONGEST_CALL = 10 * 86400.0
"""Longest valid ring or talk in seconds."""
LONG = {"talk": 3 * 3600.0, "ring": 600.0}
"""Seconds that the median of a real network does not reach; in milliseconds, it exceeds them."""
UNKNOWN_RING = 20.0
"""Seconds of an empty ring of an unanswered call, the median of unanswered calls in simulated worlds.

A shorter time would make it a call that rings once: with 0 s, twice as many innocent calls of such a world are flagged.
"""

_COUNT = r"^[+-]?\d+(\.\d*)?$"
_LOCAL = r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?$"
_OFFSET = r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)$"
_DECIMAL = r"^\+?\d{5,}\.0+$|^\d(\.\d+)?[eE]\+?\d\d?$"
_FORMATS = {"iso": "a time like 2019-11-11 21:59:46", "unix": "a count of seconds"}
_ANSWERED = OUTCOMES.index("answered")
_NO_ANSWER = OUTCOMES.index("no_answer")
_UNKNOWN = OUTCOMES.index("unknown")


def schema() -> pa.Schema:
    """Returns the columns and Arrow types of a table of calls."""
    kinds = {
        "start": pa.timestamp("ms", "UTC"),
        "recorded": pa.timestamp("ms", "UTC"),
        "ring": pa.float64(),
        "talk": pa.float64(),
    }
    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([(name, kinds.get(name, text)) for name in CALL_COLUMNS])


def check_types(types: pa.Schema, columns: Mapping[str, tuple[str, ...]], file: str) -> None:
    """Raises ValueError if a column of a typed file cannot hold its role: a float is no telephone number."""
    for role, names in columns.items():
        for name in names:
            kind = types.field(name).type
            value = kind.value_type if kinds.is_dictionary(kind) else kind
            number = kinds.is_integer(value) or kinds.is_floating(value) or kinds.is_decimal(value)
            valid = kinds.is_string(value) or kinds.is_large_string(value) or kinds.is_null(value)
            if role in TIMES:
                valid, expected = valid or number or kinds.is_timestamp(value), "times, numbers or text"
            elif role in SECONDS:
                valid, expected = valid or number, "numbers"
            else:
                valid, expected = valid or kinds.is_integer(value), "text or whole numbers"
            if not valid:
                raise ValueError(f"{file}: column {name!r} holds {kind}, expected {expected}")


def decode(
    cells: pa.Table, columns: Mapping[str, tuple[str, ...]], layout: Layout, latest: float
) -> tuple[pa.Table, Faults]:
    """Decodes a batch of cells; `latest` is the latest valid time in Unix seconds.

    Returns: the calls, and the fault of each row.
    """
    rows = cells.num_rows
    faults = Faults(rows)
    inputs = {role: _column(cells, names) for role, names in columns.items()}
    for role in layout.before_last.keys() & inputs.keys():
        inputs[role] = _before_last(inputs[role], layout.before_last[role])
    times = {role: _time(inputs[role], role, layout, latest, faults) for role in TIMES if role in inputs}
    times.setdefault("recorded", np.full(rows, np.nan))
    codes = {role: _category(inputs.get(role), role, rows, layout, faults) for role in CATEGORIES}
    direction = codes.pop("direction")
    outputs = _sides(inputs, direction, layout, faults)
    _classes(codes, direction if "subscriber" in inputs else None)
    ring, talk = _durations(inputs, rows, layout, codes["outcome"], faults)
    _settle_outcome(codes["outcome"], talk, faults)
    for role in ("end", "recorded"):
        if role in times:
            faults.mark(times[role] < times["start"], END_BEFORE_START, role, "a time not before start")
    outputs |= {"ring": _floats(ring), "talk": _floats(talk)}
    for role in ("start", "recorded"):
        outputs[role] = _floats(times[role]).cast(pa.int64()).cast(pa.timestamp("ms", "UTC"))
    for role, values in codes.items():
        values[values < 0] = CATEGORIES[role].index("unknown")
        outputs[role] = pa.DictionaryArray.from_arrays(pa.array(values), pa.array(CATEGORIES[role]))
    for name, kind in zip(schema().names, schema().types, strict=True):
        if name not in outputs:
            outputs[name] = pa.nulls(rows, kind)
    return pa.table([outputs[name] for name in CALL_COLUMNS], schema=schema()), faults


def _column(cells: pa.Table, names: tuple[str, ...]) -> pa.Array:
    parts = [cells.column(name).combine_chunks() for name in names]
    if len(parts) == 1:
        return parts[0]
    texts = [part.cast(pa.string()).fill_null("") for part in parts]
    return pc.utf8_trim(pc.binary_join_element_wise(*texts, pa.scalar("/")), "/")


def _before_last(column: pa.Array, mark: str) -> pa.Array:
    pattern = f"(?s)^(?:(.*){re.escape(mark)})?.*$"
    return pc.replace_substring_regex(column.cast(pa.string()), pattern, r"\1")


def _time(column: pa.Array, role: str, layout: Layout, latest: float, faults: Faults) -> Floats:
    column = _text_or_number(column)
    at = _milliseconds(column, layout)
    expected = " or ".join(_FORMATS.get(name, f"a time written as {name}") for name in layout.formats)
    unread = np.isnan(at) & (_present(column) if role != "start" else True)
    faults.mark(unread, BAD_TIME, role, expected)
    first, last = (datetime.fromtimestamp(t, UTC).date() for t in (layout.earliest, latest))
    outside = (at < layout.earliest * 1000) | (at > latest * 1000)
    faults.mark(outside, TIME_OUT_OF_RANGE, role, f"a time from {first} to {last}")
    # A value out of range becomes NaN: it may be too large for an integer of milliseconds.
    return np.where(outside, np.nan, at)


def _milliseconds(column: pa.Array, layout: Layout) -> Floats:
    if pa.types.is_timestamp(column.type):
        return _instants(column, layout)
    if pa.types.is_floating(column.type):
        return _counted(column, layout)
    at, unread = np.full(len(column), np.nan), len(column) - column.null_count
    patterns = {"iso": ((_LOCAL, None), (_OFFSET, "UTC")), "unix": ((_COUNT, None),)}
    for name in layout.formats:
        if name not in patterns and unread:
            open_cells = np.isnan(at) & column.is_valid().to_numpy(zero_copy_only=False)
            at[open_cells] = _instants(_parsed(column.filter(pa.array(open_cells)), name), layout)
            unread = int(np.isnan(at).sum()) - column.null_count
        for pattern, zone in patterns.get(name, ()):
            if not unread:
                break
            like = _like(column, pattern)
            texts = column.filter(like)
            unread -= len(texts)
            if len(texts) and name == "unix":
                at[like.to_numpy(zero_copy_only=False)] = _counted(texts.cast(pa.float64()), layout)
            elif len(texts):
                instants = _cast(texts, pa.timestamp("us", zone))
                at[like.to_numpy(zero_copy_only=False)] = _instants(instants, layout)
    return at


def _like(texts: pa.Array, pattern: str) -> pa.Array:
    if not texts.null_count and _have_one_shape(texts):
        return pa.repeat(pc.match_substring_regex(texts[:1], pattern)[0], len(texts))
    return pc.match_substring_regex(texts, pattern).fill_null(False)


def _have_one_shape(texts: pa.Array) -> bool:
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[texts.offset :][: len(texts) + 1]
    if not bounds[-1] - bounds[0] or np.any(np.diff(bounds) != bounds[1] - bounds[0]):
        return False
    letters = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]].reshape(len(texts), -1)
    are_digits = letters - np.uint8(ord("0")) < 10
    return bool(np.all((are_digits & are_digits[0]) | (letters == letters[0])))


def _parsed(texts: pa.Array, form: str) -> pa.Array:
    import pandas as pd  # Arrow's own parser reads 30 February as 2 March

    moments = pd.to_datetime(pd.Series(texts.to_pylist(), dtype=object), format=form, errors="coerce", utc="%z" in form)
    zone = "UTC" if "%z" in form else None
    instants = pa.array(moments.dt.tz_localize(None).to_numpy(), from_pandas=True)
    return instants.cast(pa.timestamp("us")).cast(pa.timestamp("us", zone))


def _counted(column: pa.Array, layout: Layout) -> Floats:
    # Clipped far outside the valid years, and far from overflow.
    seconds = np.clip(_numpy(column), -1e15, 1e15) * layout.unit + layout.epoch
    return np.asarray(np.rint(seconds * 1000))


def _instants(column: pa.Array, layout: Layout) -> Floats:
    import pandas as pd

    if column.type.tz is None:
        # With pandas: Arrow needs the system's zone tables. An ambiguous hour is read as its first occurrence.
        local = pd.DatetimeIndex(column.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False))
        first = np.ones(len(local), dtype=bool)
        zoned = local.tz_localize(layout.clock_zone, ambiguous=first, nonexistent="shift_forward")
        column = pa.array(zoned.tz_convert(None).to_numpy())
    return _numpy(column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())) // 1000


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    # Arrow refuses the whole array for one impossible date: bisection isolates it.
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        half = len(texts) // 2
        if half == 0:
            return pa.nulls(1, kind)
        return pa.concat_arrays([_cast(texts[:half], kind), _cast(texts[half:], kind)])


def _durations(
    inputs: Mapping[str, pa.Array], rows: int, layout: Layout, outcome: Int32s, faults: Faults
) -> tuple[Floats, Floats]:
    """Seconds of ring and talk, both NaN while a call is not over; sets the outcome of missed calls."""
    seconds = {role: np.full(rows, float(layout.constants.get(role, np.nan))) for role in ("ring", "talk")}
    for role in SECONDS:
        if role in inputs:
            column = _text_or_number(inputs[role])
            read = _seconds(column)
            faults.mark(~np.isfinite(read) & _present(column), BAD_VALUE, role, "a number of seconds")
            seconds[role] = np.where(np.isfinite(read), read, np.nan)
    if layout.missed is not None:
        missed = seconds["talk"] == layout.missed
        seconds["talk"][missed] = 0.0
        outcome[missed] = _NO_ANSWER
    missed = (outcome >= 0) & ~np.isin(outcome, (_ANSWERED, _UNKNOWN))
    empty = {"talk": 0.0} | ({"ring": UNKNOWN_RING} if "ring" in inputs else {})
    for role, assumed in empty.items():
        seconds[role][missed & np.isnan(seconds[role])] = assumed
    if "total" in seconds:
        seconds["ring"] = seconds["total"] - seconds["talk"]
    ring, talk = seconds["ring"], seconds["talk"]
    for role, value in seconds.items():
        faults.mark(value < 0, NEGATIVE_DURATION, role, "0 seconds or more")
        faults.mark(value > LONGEST_CALL, BAD_VALUE, role, f"at most {LONGEST_CALL:.0f} seconds")
    if layout.optional >= {"ring", "talk"}:
        faults.mark(np.isnan(ring) != np.isnan(talk), BAD_VALUE, "talk", "both ring and talk, or neither")
    else:
        faults.mark(np.isnan(ring) | np.isnan(talk), BAD_VALUE, "talk", "a number of seconds")
    return ring, talk


def _seconds(column: pa.Array) -> Floats:
    if pa.types.is_string(column.type):
        like = pc.match_substring_regex(column, _COUNT)
        column = pc.if_else(like, column, pa.scalar(None, pa.string())).cast(pa.float64())
    return _numpy(column)


def _category(column: pa.Array | None, role: str, rows: int, layout: Layout, faults: Faults) -> Int32s:
    listed = CATEGORIES[role]
    if column is None:
        constant = layout.constants.get(role)
        return np.full(rows, -1 if constant is None else listed.index(str(constant)), np.int32)
    meaning = layout.values.get(role, dict(zip(listed, listed, strict=True)))
    codes, words = _encoded(column)
    indices = [listed.index(meaning[word]) if word in meaning else -2 for word in words.to_pylist()]
    values = np.array([*indices, -1], np.int32)[codes]
    faults.mark(values == -2, BAD_VALUE, role, "one of " + ", ".join(meaning))
    return values


def _settle_outcome(outcome: Int32s, talk: Floats, faults: Faults) -> None:
    talked = talk > 0
    outcome[(outcome == -1) & talked] = _ANSWERED
    faults.mark(talked & (outcome >= 0) & (outcome != _ANSWERED), BAD_VALUE, "talk", "talk 0 unless answered")


def _sides(inputs: Mapping[str, pa.Array], direction: Int32s, layout: Layout, faults: Faults) -> dict[str, pa.Array]:
    """Returns the columns of texts; the direction of a subscriber's record decides who is caller and who is callee."""
    texts = {role: inputs[role] for role in (*NUMBERS, *TEXTS) if role in inputs}
    if "subscriber" in texts:
        faults.mark(direction == -1, BAD_VALUE, "direction", "a direction that the layout lists")
        out = pa.array(direction == 0)
        own, peer = (texts.pop(role).cast(pa.string()) for role in ("subscriber", "peer"))
        texts |= {"caller": pc.if_else(out, own, peer), "callee": pc.if_else(out, peer, own)}
        for role in layout.own_side & texts.keys():
            texts[role] = pc.if_else(out, texts[role].cast(pa.string()), pa.scalar(None, pa.string()))
    columns = {}
    for role, column in texts.items():
        codes, words = _encoded(column)
        if role in NUMBERS and layout.numbers == "written":
            decimal = pc.match_substring_regex(words, _DECIMAL).to_numpy(zero_copy_only=False)
            if decimal.any():  # a program that took numbers for decimals wrote 13800138000.0 or 1.38E+10
                expected = "a telephone number, without a decimal point or an exponent: write the column as text"
                faults.mark((codes >= 0) & np.append(decimal, False)[codes], BAD_VALUE, role, expected)
        if role == "callee":
            faults.mark(codes < 0, MISSING_CALLEE, role, "a callee")
        if role == "caller" and (codes < 0).any():
            # An empty caller is a withheld number.
            codes = np.where(codes < 0, np.int32(len(words)), codes)
            words = pa.concat_arrays([words, pa.array([""])])
        columns[role] = dictionary_column(codes, words)
    return columns


def _classes(codes: dict[str, Int32s], direction: Int32s | None) -> None:
    own, peer = codes.pop("subscriber_class"), codes.pop("peer_class")
    if direction is not None:
        out = direction == 0
        codes["caller_class"], codes["callee_class"] = np.where(out, own, peer), np.where(out, peer, own)


def _encoded(column: pa.Array) -> tuple[Int32s, pa.Array]:
    if not pa.types.is_dictionary(column.type) or column.dictionary.null_count:
        column = column.cast(pa.string()).dictionary_encode()
    words = column.dictionary.cast(pa.string())
    codes = column.indices.cast(pa.int32()).fill_null(-1).to_numpy(zero_copy_only=False).copy()
    empty = words.index("").as_py()
    if empty >= 0:
        codes[codes == empty] = -1
    return codes, words


def _text_or_number(column: pa.Array) -> pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_timestamp(kind):
        return column
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return column.cast(pa.string())
    return column.cast(pa.float64(), safe=False)


def _present(column: pa.Array) -> Bools:
    if pa.types.is_floating(column.type):
        return ~np.isnan(_numpy(column))  # writers of Parquet files use null or NaN for an empty value
    text = pa.types.is_string(column.type)
    present = pc.not_equal(column, "").fill_null(False) if text else column.is_valid()
    return np.asarray(present.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _numpy(column: pa.Array) -> Floats:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _floats(values: Floats) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
