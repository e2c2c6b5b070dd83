"""The record of a run changes with every table that a model or its split depends on."""

from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest

from callsieve.training.data.dataset import CAMPAIGNS, LISTS, RECYCLED
from callsieve.training.data.dataset_tables import tables
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.reports import csv_tables
from callsieve.training.tracking.run_values import slice_metrics

MOMENT = pd.Timestamp("2025-03-05", tz="UTC").as_unit("us")
ROWS = {
    "recycled": (RECYCLED, {"number": "e1.a", "valid_from": MOMENT, "known_at": MOMENT}),
    "lists": (LISTS, {"number": "e1.a", "list": "own", "valid_from": MOMENT, "valid_to": None, "known_at": MOMENT}),
    "campaigns": (CAMPAIGNS, {"number": "e1.a", "principal": "p"}),
}


def hashes(dataset):
    return {name: fingerprint(table) for name, table, _ in tables(dataset)}


def changed_tables(dataset, **changed):
    before, after = hashes(dataset), hashes(replace(dataset, **changed))
    return {table for table in before if before[table] != after[table]}


@pytest.mark.parametrize("name", ROWS)
def test_an_added_row_changes_the_fingerprint_of_its_table_only(dataset, name):
    schema, row = ROWS[name]
    table = pa.Table.from_pylist([row], schema).to_pandas()
    assert changed_tables(dataset, **{name: table}) == {name}


@pytest.mark.parametrize("name", ["complaints", "findings"])
def test_a_removed_row_changes_the_fingerprint_of_its_table_only(dataset, name):
    assert changed_tables(dataset, **{name: getattr(dataset, name).iloc[1:]}) == {name}


def test_a_changed_campaign_changes_the_fingerprint_of_the_truth(dataset):
    """The split follows the campaigns of the truth."""
    column = dataset.truth.column_names.index("campaign")
    other = pa.array(["another"] * dataset.truth.num_rows)
    assert changed_tables(dataset, truth=dataset.truth.set_column(column, "campaign", other)) == {"truth"}


def test_a_missing_truth_leaves_the_other_fingerprints_unchanged(dataset):
    before, after = hashes(dataset), hashes(replace(dataset, truth=None))
    assert after == {name: sha256 for name, sha256 in before.items() if name != "truth"}


def test_a_table_without_rows_gives_no_file(tmp_path):
    csv_tables._write_rows(tmp_path / "none.csv", [])
    csv_tables._write_rows(tmp_path / "one.csv", [{"a": 1, "b": None}])
    assert [path.name for path in tmp_path.iterdir()] == ["one.csv"]
    assert (tmp_path / "one.csv").read_text() == "a,b\n1,\n"


def test_missing_figures_give_no_metric():
    buckets = [{"bucket": "first", "catch": None}, {"bucket": "5", "catch": 0.5}]
    figures = {"slices": [], "attacks": [], "kinds": [], "buckets": buckets}
    assert slice_metrics(figures) == {"test/bucket/5/catch": 0.5}
