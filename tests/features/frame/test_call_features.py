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

OWN = {
    "start": "CALL_TIME", "caller": "A_NUMBER", "callee": "B_NUMBER", "ring": "RING", "talk": "TALK",
    "outcome": "RESULT", "released_by": "ENDED_BY", "recorded": "WRITTEN", "network_caller": "NETWORK",
    "trunk": "TRUNK", "device": "IMEI", "attestation": "STIR", "route": "ROUTE",
}  # fmt: skip
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


def test_a_missing_caller_is_a_withheld_number():
    calls = pd.DataFrame(PAIR | {"caller": [np.nan, 13800138000.0]})
    words = call_features(calls)["call_caller_class"]
    assert words.iloc[0] != words.iloc[1]


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
