"""The record of a run: whatever a model or its split comes from is in it, so that a change of it shows."""

from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest

from callsieve.training.data.dataset import CAMPAIGNS, LISTS, RECYCLED
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.tracking import record
from callsieve.training.tracking.record import tables

MOMENT = pd.Timestamp("2025-03-05", tz="UTC").as_unit("us")
ROWS = {
    "recycled": (RECYCLED, {"number": "e1.a", "valid_from": MOMENT, "known_at": MOMENT}),
    "lists": (LISTS, {"number": "e1.a", "list": "own", "valid_from": MOMENT, "valid_to": None, "known_at": MOMENT}),
    "campaigns": (CAMPAIGNS, {"number": "e1.a", "principal": "p"}),
}


def hashes(dataset):
    return {name: fingerprint(table) for name, table, _ in tables(dataset)}


@pytest.mark.parametrize("name", ROWS)
def test_one_row_more_in_a_register_changes_its_fingerprint_alone(dataset, name):
    schema, row = ROWS[name]
    changed = replace(dataset, **{name: pa.Table.from_pylist([row], schema).to_pandas()})
    before, after = hashes(dataset), hashes(changed)
    assert {one for one in before if before[one] != after[one]} == {name}


@pytest.mark.parametrize("name", ["complaints", "findings"])
def test_one_row_less_changes_its_fingerprint_alone(dataset, name):
    changed = replace(dataset, **{name: getattr(dataset, name).iloc[1:]})
    before, after = hashes(dataset), hashes(changed)
    assert {one for one in before if before[one] != after[one]} == {name}


def test_a_campaign_called_otherwise_changes_the_truth_for_the_split_follows_it(dataset):
    place = dataset.truth.column_names.index("campaign")
    other = pa.array(["another"] * dataset.truth.num_rows)
    changed = replace(dataset, truth=dataset.truth.set_column(place, "campaign", other))
    before, after = hashes(dataset), hashes(changed)
    assert {one for one in before if before[one] != after[one]} == {"truth"}


def test_without_a_truth_the_rest_is_recorded_alike(dataset):
    before, after = hashes(dataset), hashes(replace(dataset, truth=None))
    assert after == {name: one for name, one in before.items() if name != "truth"}


def test_a_table_without_rows_is_no_file(tmp_path):
    record._write_rows(tmp_path / "none.csv", [])
    record._write_rows(tmp_path / "one.csv", [{"a": 1, "b": None}])
    assert [path.name for path in tmp_path.iterdir()] == ["one.csv"]
    assert (tmp_path / "one.csv").read_text() == "a,b\n1,\n"


def test_what_was_not_measured_is_no_metric():
    told = {
        "slices": [],
        "attacks": [],
        "kinds": [],
        "buckets": [{"bucket": "first", "catch": None}, {"bucket": "5", "catch": 0.5}],
    }
    assert record.slice_metrics(told) == {"bucket/5/catch": 0.5}
