"""Arrow columns are read correctly, whatever their chunks, slices, widths and nulls."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.kernel import table_pass, windows
from callsieve.features.offline.packing import integers, party_codes, start_order

columns = st.lists(st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=20), max_size=4)
names = st.lists(st.lists(st.sampled_from(["e1.a", "e1.b", "e1.c", "e1.d"]), max_size=8), max_size=4)


@given(columns, st.sampled_from([pa.int32(), pa.int64()]), st.integers(0, 5))
def test_integers_equal_the_column(chunks, kind, cut):
    arrays = [pa.array(chunk, kind).slice(cut) for chunk in chunks]
    column = pa.chunked_array(arrays, type=kind)
    assert integers(column, -7).tolist() == [-7 if value is None else value for value in column.to_pylist()]


@given(names, st.booleans())
def test_a_number_has_one_code_as_caller_and_as_callee(chunks, coded):
    arrays = [pa.array(chunk).cast(pa.string()) for chunk in chunks]
    column = pa.chunked_array(
        [array.dictionary_encode() if coded else array for array in arrays] or [pa.array([], "str")]
    )
    callers = column.cast(pa.string()).to_pylist()
    callees = pa.chunked_array([pa.array(callers[::-1], pa.string())])
    codes, count = party_codes(pa.table({"caller": column, "callee": callees}))
    assert codes.dtype == np.int32 and codes.max(initial=-1) < max(count, 1)
    number_of_code = dict(
        zip(codes.tolist(), (name for pair in zip(callers, callers[::-1], strict=True) for name in pair), strict=True)
    )
    assert [number_of_code[code] for code in codes[::2]] == callers
    assert [number_of_code[code] for code in codes[1::2]] == callers[::-1]


times = st.integers(0, 2)


@given(st.lists(st.tuples(times, st.integers(0, 2), st.none() | times, st.none() | times), max_size=40))
def test_the_records_of_a_caller_are_in_order_of_start_and_of_what_is_known_first(calls):
    records = np.zeros((len(calls), table_pass.RECORD), dtype=np.int64)
    for i, (start, caller, talk, late) in enumerate(calls):
        records[i, windows.START], records[i, windows.END] = start, start + (talk or 0)
        records[i, windows.TALK] = windows.NONE if talk is None else talk
        records[i, table_pass.LATE] = windows.NEVER if late is None else start + late
        records[i, table_pass.PARTIES] = caller << 32 | i

    def key(i):
        start, _, talk, late = calls[i]
        return start, start + (late or 0), talk is not None, start + (talk or 0), i

    order = start_order(records)[0].tolist()
    assert [calls[i][0] for i in order] == sorted(start for start, *_ in calls)
    for caller in range(3):
        own = [i for i in order if calls[i][1] == caller]
        assert own == sorted(own, key=key)
    assert sorted(order) == list(range(len(calls)))


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.int64(), pa.uint64()])
def test_integers_are_int64_whatever_was_written(kind):
    result = integers(pa.chunked_array([pa.array([1, 2], kind)]))
    assert result.dtype == np.int64 and result.tolist() == [1, 2]


def test_text_is_refused_as_integers():
    with pytest.raises(ValueError, match="expected integers"):
        integers(pa.chunked_array([["a"]]))
