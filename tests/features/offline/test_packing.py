"""Columns of Arrow are read as they lie, whatever their chunks, slices, widths and nulls."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.offline.packing import integers, party_codes

columns = st.lists(st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=20), max_size=4)
names = st.lists(st.lists(st.sampled_from(["e1.a", "e1.b", "e1.c", "e1.d"]), max_size=8), max_size=4)


@given(columns, st.sampled_from([pa.int32(), pa.int64()]), st.integers(0, 5))
def test_integers_are_those_of_the_column(chunks, kind, cut):
    arrays = [pa.array(chunk, kind).slice(cut) for chunk in chunks]
    column = pa.chunked_array(arrays, type=kind)
    assert integers(column, -7).tolist() == [-7 if value is None else value for value in column.to_pylist()]


@given(names, st.booleans())
def test_a_number_has_one_code_on_either_side(chunks, coded):
    arrays = [pa.array(chunk).cast(pa.string()) for chunk in chunks]
    column = pa.chunked_array(
        [array.dictionary_encode() if coded else array for array in arrays] or [pa.array([], "str")]
    )
    told = column.cast(pa.string()).to_pylist()
    back = pa.chunked_array([pa.array(told[::-1], pa.string())])
    codes, count = party_codes(pa.table({"caller": column, "callee": back}))
    assert codes.dtype == np.int32 and codes.max(initial=-1) < max(count, 1)
    told_by = dict(
        zip(codes.tolist(), (name for pair in zip(told, told[::-1], strict=True) for name in pair), strict=True)
    )
    assert [told_by[code] for code in codes[::2]] == told
    assert [told_by[code] for code in codes[1::2]] == told[::-1]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.int64(), pa.uint64()])
def test_integers_are_of_one_width_whatever_was_written(kind):
    found = integers(pa.chunked_array([pa.array([1, 2], kind)]))
    assert found.dtype == np.int64 and found.tolist() == [1, 2]


def test_words_are_no_integers():
    with pytest.raises(ValueError, match="expected integers"):
        integers(pa.chunked_array([["a"]]))
