"""Calls in a DataFrame get the vectors of the same calls in a file, whatever their columns and numbers look like."""

import pydoc
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from callsieve.features import CallFeatures, Intake, Key, call_features
from callsieve.features.catalogue import NAMES
from callsieve.features.offline.table import vectors
from callsieve.features.reading.call_files import read_layout
from tests.support.calls.worlds import small_world
from tests.support.errors import refused

OWN = {
    "start": "CALL_TIME",
    "caller": "A_NUMBER",
    "callee": "B_NUMBER",
    "ring": "RING",
    "talk": "TALK",
    "outcome": "RESULT",
    "released_by": "ENDED_BY",
    "recorded": "WRITTEN",
    "network_caller": "NETWORK",
    "trunk": "TRUNK",
    "device": "IMEI",
    "attestation": "STIR",
    "route": "ROUTE",
}
PAIR = {"start": [1_772_500_000, 1_772_500_060], "caller": ["13800138000"] * 2, "callee": ["95588", "10086"]}
COUNT = "out_calls_count_1h"


@pytest.fixture(scope="module")
def written_calls():
    """Returns the first calls of a world as its switch writes them, in order of start."""
    table = small_world().calls.sort_by("start").slice(0, 6000)
    return table.select([name for name in table.column_names if name not in ("call", "cause", "operator", "place")])


@pytest.fixture(scope="module")
def frame(written_calls):
    """Returns these calls under other names, in random order, with a label column and an index of words."""
    frame = written_calls.to_pandas()[list(OWN)].rename(columns=OWN)
    frame = frame.assign(label=0).set_index(np.array([f"row {i}" for i in range(len(frame))]))
    return frame.sample(frac=1.0, random_state=1)


@pytest.fixture(scope="module")
def expected(written_calls):
    """Returns the vectors of these calls by intake and engine, by the word of the row."""
    calls = Intake(Key("e1", bytes(32))).table(written_calls)
    return pd.DataFrame(vectors(calls), columns=list(NAMES), index=[f"row {i}" for i in range(calls.num_rows)])


def test_a_data_frame_of_own_columns_has_the_vectors_of_the_same_calls_in_a_table(frame, expected):
    features = call_features(frame, OWN)
    assert features.columns.tolist() == list(NAMES)
    pd.testing.assert_frame_equal(features, expected.loc[frame.index], check_exact=True)


def test_calls_of_the_days_before_are_known_but_get_no_row(frame, expected):
    moment = frame["CALL_TIME"].sort_values().iloc[len(frame) // 2]
    earlier, later = frame[frame["CALL_TIME"] < moment], frame[frame["CALL_TIME"] >= moment]
    with_history = call_features(later, OWN, history=earlier)
    pd.testing.assert_frame_equal(with_history, expected.loc[later.index], check_exact=True)
    assert not call_features(later, OWN).equals(with_history)


def test_a_layout_reads_a_data_frame_like_its_file():
    calls = pd.DataFrame({"caller": ["13800138000"] * 3, "callee": ["95588", "10086", "95588"]})
    calls["timestamp"] = ["2026-03-01 09:00:00", "2026-03-01 09:10:00", "2026-03-01 09:20:00"]
    calls["duration"] = [30, -1, 40]  # -1 is a missed call in this layout
    by_name, by_value = (call_features(calls, layout) for layout in ("plain", read_layout("plain")))
    pd.testing.assert_frame_equal(by_name, by_value)
    assert by_name["out_answered_share_1h"].iloc[2] == pytest.approx(0.5, abs=0.2)  # smoothed; 1 of 2 was answered
    assert by_name[COUNT].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "callers",
    [
        ["13800138000", "13800138000"],
        [13800138000, 13800138000],
        [8613800138000, "+86 138 0013 8000"],
        pd.array([13800138000, 13800138000], dtype="Int64"),
        [13800138000.0, 13800138000.0],
        pd.Categorical(["013800138000", "0086 13800138000"]),
    ],
    ids=["text", "whole numbers", "mixed", "nullable", "floats without a fraction", "categories"],
)
def test_a_number_is_the_same_number_as_text_and_as_a_whole_number(callers):
    calls = pd.DataFrame(PAIR | {"caller": callers})
    assert call_features(calls)[COUNT].tolist() == [0, 1]


def test_a_missing_caller_is_a_withheld_number():
    calls = pd.DataFrame(PAIR | {"caller": [np.nan, 13800138000.0]})
    words = call_features(calls)["call_caller_class"]
    assert words.iloc[0] != words.iloc[1]


@pytest.mark.parametrize(
    ("callers", "options", "earlier"),
    [
        (["07911 123456", "+44 7911 123456"], {"country": "GB"}, 1),
        (["07911 123456", "+44 7911 123456"], {}, 0),
        (["user_17", "u17"], {"numbers": "codes"}, 0),  # codes that share their digits
    ],
)
def test_country_and_codes_decide_which_numbers_are_one_caller(callers, options, earlier):
    calls = pd.DataFrame(PAIR | {"caller": callers})
    assert call_features(calls, **options)[COUNT].tolist() == [0, earlier]


@pytest.mark.parametrize(("zone", "hour"), [(None, 9), ("Asia/Shanghai", 9), ("Europe/Berlin", 9)])
def test_a_time_without_a_zone_is_local_in_the_stated_zone(zone, hour):
    calls = pd.DataFrame(PAIR | {"start": pd.to_datetime(["2026-03-01 09:00", "2026-03-01 09:30"])})
    assert call_features(calls, zone=zone)["call_hour"].tolist() == [hour, hour]


def test_a_time_with_a_zone_is_the_same_moment_in_another_one():
    moments = pd.to_datetime(["2026-03-01 01:00", "2026-03-01 01:30"]).tz_localize("UTC")
    frames = [pd.DataFrame(PAIR | {"start": start}) for start in (moments, moments.tz_convert("America/New_York"))]
    first, second = (call_features(frame) for frame in frames)
    pd.testing.assert_frame_equal(first, second)
    assert first["call_hour"].tolist() == [9, 9]  # in Shanghai


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ({}, {"columns": {"start": "start", "caller": "caller"}}, "no column for callee"),
        ({}, {"columns": {"caller": "start", "start": "gone", "callee": "callee"}}, "'gone', which is not a column"),
        ({}, {"columns": {"callee": "caller", "beginning": "start"}}, "got 'beginning'"),
        ({"A": ["1", "2"]}, {"columns": {"A": "caller"}}, "the mapping is role: column"),
        ({}, {"columns": "plaine"}, "layout must be one of"),
        ({}, {"columns": 3}, "dict of role: column, or a layout, got int"),
        ({}, {"zone": "Asia/Beijing"}, "unknown time zone 'Asia/Beijing'"),
        ({}, {"country": "UK"}, "ISO code such as 'CN' or 'GB', got 'UK'"),
        ({}, {"features": ("calls",)}, "names of the catalogue, got calls"),
        ({"start": ["2026-03-01", "soon"]}, {}, r"2 of 2 rows are not valid calls; the first is row 0 .*'start'"),
        ({"start": [1.7725e12, 1.7725e12]}, {}, "time out of range, expected a time from 1990-01-01 to 2100-01-01"),
        ({"caller": [1380013800.5, 1.0]}, {}, "column 'caller' holds float, expected text or whole numbers"),
        ({"callee": ["13900139000", None]}, {}, "1 of 2 rows .* row 1 .*'callee': missing callee"),
        ({"talk": [3.0, -3.0], "ring": [1, 1]}, {}, "row 1 .*'talk': negative duration, expected 0 seconds or more"),
        ({"outcome": ["answered", "went well"]}, {}, "row 1 .*'outcome': bad value, expected one of answered"),
        ({"start": [1, "x"]}, {}, "'start' mixes kinds of values"),
        ({"start": pd.period_range("2026", periods=2)}, {}, r"'start' holds period\[D\], expected times or numbers"),
        (
            {"start": ["02/03/2026"] * 2},
            {},
            "bad time, .*; pandas.to_datetime reads other formats",
        ),
        ({"talk": [True, False]}, {}, "column 'talk' holds bool, expected numbers"),
        ({"caller": ["13800138000.0"] * 2}, {}, "2 of 2 rows .*'caller': bad value, .* without a decimal point"),
        (
            {"callee": ["95588", "1.39E+10"]},
            {},
            "1 of 2 rows .*'callee': bad value, .* or an exponent",
        ),
        ({"caller": [np.inf, 1.0]}, {}, "column 'caller' holds float, expected text or whole numbers"),
        ({"caller": [[1], [2]]}, {}, "column 'caller' holds lists or dicts, expected text or whole numbers"),
        ({"caller": [b"1", b"2"]}, {}, "column 'caller' holds bytes, expected text or whole numbers"),
        ({"caller": [True, False]}, {}, "column 'caller' holds bool, expected text or whole numbers"),
        ({}, {"features": COUNT}, rf"expected a list of names, got a text: write \['{COUNT}'\]"),
        ({}, {"features": (1,)}, "names of the catalogue, got 1"),
        ({}, {"numbers": "tokens"}, "numbers must be 'written', 'codes' or None, got 'tokens'"),
        ({}, {"threads": -3}, "threads must be 0 or more, got -3"),
        ({}, {"history": "yesterday"}, "history: expected a DataFrame or an Arrow table of calls, got str"),
    ],
)
def test_an_error_is_one_line_that_names_the_column_and_shows_no_number(change, arguments, words):
    with refused(words, (TypeError, ValueError)):
        call_features(pd.DataFrame(PAIR | change), **arguments)


@pytest.mark.parametrize(
    "calls",
    [PAIR, None, np.zeros((2, 3)), pd.Series([1, 2]), polars.Series([1, 2]), polars.LazyFrame(PAIR)],
    ids=["dict", "None", "array", "pandas column", "polars column", "lazy frame"],
)
def test_something_else_than_a_table_is_refused(calls):
    with refused(r"calls: expected a DataFrame or an Arrow table of calls, got \w+$", TypeError):
        call_features(calls)
    with refused(r"X: expected a DataFrame or an Arrow table of calls, got \w+$", TypeError):
        CallFeatures().fit(calls)


def test_column_names_that_are_equal_as_text_are_refused():
    with refused("expected each column name once"):
        call_features(pd.DataFrame(PAIR).set_axis([1, "1", 2], axis=1), {"start": 1, "caller": "1", "callee": 2})


@pytest.mark.parametrize("library", [polars.DataFrame, pa.table, pa.record_batch], ids=["polars", "pyarrow", "batch"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"start": [datetime(2026, 3, 1, 9, 0), datetime(2026, 3, 1, 9, 5)]},
        {"caller": [13800138000, 13800138000], "talk": [30.5, None], "ring": [2.0, None]},
        {"caller": [13800138000, None]},
        {"talk": [timedelta(seconds=30), timedelta(0)]},
    ],
    ids=["text", "datetimes", "missing seconds", "a missing number", "durations"],
)
def test_a_table_of_another_library_has_the_vectors_of_the_data_frame(library, change):
    calls = PAIR | change
    expected = call_features(pd.DataFrame(calls))
    pd.testing.assert_frame_equal(call_features(library(calls)), expected)
    transformer = CallFeatures(history=library(calls))
    np.testing.assert_array_equal(
        transformer.fit_transform(library(calls)), call_features(pd.DataFrame(calls), history=pd.DataFrame(calls))
    )


def test_a_duration_is_its_seconds():
    calls = pd.DataFrame(PAIR | {"talk": [90.0, 0.5]})
    durations = calls.assign(talk=pd.to_timedelta(calls["talk"], unit="s"))
    of_arrow = calls.assign(talk=durations["talk"].astype(pd.ArrowDtype(pa.duration("ms"))))
    for written in (durations, of_arrow):
        pd.testing.assert_frame_equal(call_features(written), call_features(calls))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"caller": [None, None]}, "^DataFrame: 100% of the calls have no caller, .*check the caller's column"),
        ({"caller": ["nan", "<NA>"]}, "100% of the calls have no caller"),
        ({"caller": ["tok1", "tok2"], "callee": ["tok3", "tok4"]}, r'are not telephone numbers: .*numbers="codes"'),
        ({"talk": [99_000.0, 12_000.0]}, "talk time have one of more than 55,500 s: .*divide milliseconds by 1000"),
        ({"talk": [99.0, 12.0], "ring": [9_000, 8_000]}, "ring time have one of more than 8,500 s"),
    ],
)
def test_valid_but_unlikely_calls_cause_a_warning_that_says_what_to_change(change, words):
    with pytest.warns(UserWarning, match=words) as warnings:
        call_features(pd.DataFrame(PAIR | change))
    assert [warning.filename for warning in warnings] == [__file__]


@pytest.mark.parametrize(
    ("change", "arguments"),
    [
        ({"caller": [None, "13800138000"]}, {}),
        ({"caller": ["tok1", "tok2"], "callee": ["tok3", "tok4"]}, {"numbers": "codes"}),
        ({"talk": [9_000.0, 0.0], "ring": [60.0, 500.0]}, {}),
    ],
)
def test_calls_of_an_ordinary_network_cause_no_warning(change, arguments):
    call_features(pd.DataFrame(PAIR | change), **arguments)  # a warning is an error here


def test_help_begins_with_the_call_and_not_with_the_names_of_all_features():
    for text in map(pydoc.render_doc, (call_features, CallFeatures)):
        assert NAMES[100] not in text


def test_the_transformer_gives_an_array_or_a_data_frame_with_the_index(frame, expected):
    names = ("call_hour", COUNT)
    transformer = CallFeatures(OWN, features=names)
    values = transformer.fit_transform(frame)
    assert isinstance(values, np.ndarray)
    assert transformer.get_feature_names_out().tolist() == list(names)
    table = clone(transformer).set_output(transform="pandas").fit(frame).transform(frame)
    pd.testing.assert_frame_equal(table, expected.loc[frame.index, list(names)])
    np.testing.assert_array_equal(values, table)
    assert transformer.feature_names_in_.tolist() == frame.columns.tolist()


def test_the_transformer_is_the_first_step_of_a_pipeline():
    calls = pd.DataFrame(PAIR)
    pipeline = make_pipeline(CallFeatures(features=(COUNT,)), StandardScaler()).set_output(transform="pandas")
    assert pipeline.fit_transform(calls)[COUNT].tolist() == [-1, 1]
    pipeline.set_params(callfeatures__features=("call_hour", COUNT))
    assert pipeline.fit(calls).get_feature_names_out().tolist() == ["call_hour", COUNT]


def test_the_transformer_refuses_features_that_are_not_in_the_catalogue_when_it_is_fitted():
    with pytest.raises(ValueError, match="expected names of the catalogue, got calls"):
        CallFeatures(features=("calls",)).fit(pd.DataFrame(PAIR))
