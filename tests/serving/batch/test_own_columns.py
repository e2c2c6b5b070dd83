"""Own columns are joined as of the call: a loop over the table finds the same rows, and nothing later counts."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.catalogue import NAMES, vector_columns
from callsieve.features.keys.tokens import Key
from callsieve.serving import OwnColumns
from callsieve.serving.batch.own_column_join import checked_columns, own_values, read_own_columns
from tests.support.errors import refused

KEY = Key("e1", b"k" * 32)
TOKENS = [KEY.token("number", f"1380013800{i}") for i in range(4)]
FEATURES = ("call_hour", "own_tariff", "own_age")
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 5) | st.none(), st.integers(0, 5)))


def table_of(rows):
    number, known, tariff, age = zip(*rows, strict=True) if rows else ((), (), (), ())
    moments = [datetime.fromtimestamp(at, UTC) for at in known]
    return pa.table(
        {
            "number": pa.array([TOKENS[i] for i in number], pa.string()),
            "known_at": pa.array(moments, pa.timestamp("us", "UTC")),
            "age": pa.array(age, pa.int32()),
            "tariff": pa.array(tariff, pa.float64()),
        }
    )


@given(ROWS, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10)), min_size=1))
def test_a_call_gets_the_last_row_of_its_caller_that_was_known_before(rows, calls):
    frame = checked_columns(table_of(rows), "own.parquet")
    caller = pa.chunked_array([[TOKENS[i] for i, _ in calls]]).dictionary_encode()
    values = own_values(FEATURES, caller, np.array([at * 1000 for _, at in calls]), frame)
    for value, (number, at) in zip(values, calls, strict=True):
        before = [(known, i) for i, (other, known, *_) in enumerate(rows) if other == number and known < at]
        expected = rows[max(before)[1]][2:] if before else (None, None)
        np.testing.assert_array_equal(value, np.array(expected, dtype=float))
    # At ring time, call by call.
    columns = {name: frame[name].tolist() for name in ("age", "tariff")}
    online = OwnColumns(frame["number"].tolist(), [known * 1000 for _, known, *_ in rows], columns)
    one_by_one = [online.row(FEATURES[1:], TOKENS[i], at * 1000) for i, at in calls]
    np.testing.assert_array_equal(one_by_one, values)


def test_own_columns_stand_after_the_catalogue_in_the_order_of_the_features():
    assert vector_columns(("own_b", "call_hour", "own_a")) == (*NAMES, "own_b", "own_a")
    assert vector_columns(("call_hour",)) == NAMES


def test_a_missing_table_or_column_is_named():
    caller, start = pa.chunked_array([[TOKENS[0]]]), np.array([5])
    with pytest.raises(ValueError, match="own columns: expected a table with tariff, age"):
        own_values(FEATURES, caller, start, None)
    frame = checked_columns(table_of([(0, 1, 2, 3)]), "own.parquet").drop(columns="age")
    with pytest.raises(ValueError, match="own columns: expected a table with age"):
        own_values(FEATURES, caller, start, frame)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"number": ["13800138000"]}, "column number: expected keyed tokens"),
        ({"tariff": ["gold"]}, "column tariff: expected numbers, got string"),
        ({"tariff": [float("inf")]}, "column tariff: expected finite numbers or none"),
        ({"Tariff": [1.0]}, "expected names of lower-case letters, digits and _, got 'Tariff'"),
        ({"known_at": None}, "column known_at: expected timestamp.*, it is missing"),
        ({"tariff": None, "age": None}, "expected a column besides number and known_at"),
    ],
)
def test_a_table_that_cannot_be_joined_is_refused_in_one_line(change, words, tmp_path):
    columns = table_of([(0, 1, 2, 3)]).to_pydict() | change
    path = tmp_path / "own.parquet"
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    with refused(words):
        read_own_columns(path)


def test_true_and_false_are_numbers():
    table = table_of([(0, 1, 2, 3)]).append_column("prepaid", pa.array([True]))
    frame = checked_columns(table, "own.parquet")
    assert frame["prepaid"].tolist() == [1.0]
    assert isinstance(frame, pd.DataFrame)
