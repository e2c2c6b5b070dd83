"""Data sets: invalid tables are refused in one line, and equal values have one fingerprint."""

import dataclasses
import re
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.serving.batch.keyed_rows import checked_frame
from callsieve.training.data.dataset import COMPLAINTS, TRUTH_COLUMNS, make_dataset, read_dataset, truth_of_calls
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.evidence.judging_labels import judging_labels

MOMENT, EARLIER = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


def complaint(**changes):
    """Returns one complaint as a table, without the columns that are None."""
    columns = {"reporter": ["e1.r"], "number": ["e1.a"], "at": [MOMENT], "known_at": [MOMENT], "category": ["loans"],
               "mode": [None], "channel": [None]} | changes  # fmt: skip
    return pa.table(
        {name: pa.array(value, COMPLAINTS.field(name).type) for name, value in columns.items() if value is not None}
    )


def test_columns_of_a_table_are_checked():
    assert len(checked_frame(complaint(), COMPLAINTS, "f")) == 1
    assert "mode" not in checked_frame(complaint(mode=None), COMPLAINTS, "f")
    of_list = complaint(number=None).append_column("number", pa.array([["e1.a"]]))
    for table, message in (
        (complaint(number=None), "f: column number: expected string, it is missing"),
        (complaint(number=[None]), "f: column number: expected no missing value"),
        (complaint(known_at=[EARLIER]), "f: column known_at: expected no moment before `at`"),
        (of_list, "f: column number: expected string, got list"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            checked_frame(table, COMPLAINTS, "f")
        assert "\n" not in str(error.value) and "e1.a" not in str(error.value)


def test_calls_and_truth_must_match(dataset):
    frames = dataset.complaints, dataset.findings
    with pytest.raises(ValueError, match="calls: expected rows in order of start"):
        make_dataset(dataset.calls.take(pa.array([5, 0])), *frames)
    with pytest.raises(ValueError, match=r"truth: expected one row a call, \d+ in all, got 3"):
        make_dataset(dataset.calls, *frames, dataset.truth.slice(0, 3))


def test_truth_is_matched_by_call():
    calls = pa.table({"call": [7, 9, 8]})
    names = [name for name in TRUTH_COLUMNS if name != "call"]
    truth = pa.table({name: ["9", "8", "7"] for name in names} | {"call": [9, 8, 7]})
    assert truth_of_calls(truth, calls)[names[0]].to_pylist() == ["7", "9", "8"]
    with pytest.raises(ValueError, match="truth: expected the columns"):
        truth_of_calls(truth.drop_columns([names[0]]), calls)
    with pytest.raises(ValueError, match="truth: expected a row for every call, 1 calls have none"):
        truth_of_calls(truth.slice(0, 2), calls)


def test_a_folder_can_be_a_string(world_folder, dataset):
    assert read_dataset(str(world_folder)).fingerprint == dataset.fingerprint


def test_an_invalid_file_is_refused_in_one_line(world_folder, tmp_path):
    for path in world_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "complaints.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"complaints\.parquet: broken Parquet file, expected a table of complaints"):
        read_dataset(tmp_path)
    (tmp_path / "complaints.parquet").unlink()
    of_checks = read_dataset(tmp_path)
    assert of_checks.complaints.empty and len(of_checks.findings)
    (tmp_path / "findings.parquet").unlink()
    with pytest.raises(
        ValueError, match=r"^\S+complaints\.parquet: not found; expected keyed calls, and complaints or"
    ):
        read_dataset(tmp_path)
    pq.write_table(pa.table({"at": [1]}), tmp_path / "complaints.parquet")
    with pytest.raises(ValueError, match=r"complaints\.parquet: column \w+: expected .*, it is missing"):
        read_dataset(tmp_path)


def test_labels_replace_a_missing_truth(dataset):
    blind = dataclasses.replace(dataset, truth=None)
    caller = dataset.calls["caller"].combine_chunks().indices.to_numpy()
    order = np.unique(caller, return_index=True)[1]
    caller = np.argsort(np.argsort(order))[np.searchsorted(np.unique(caller), caller)]  # by first appearance
    labels = judging_labels(blind, caller, read_label_policy(None))
    assert labels.source == "labels" and set(labels.attack) == {-1}
    assert 0 < labels.known.sum() < len(caller)
    assert not labels.nuisance[~labels.known].any() and labels.nuisance.any()


@pytest.mark.parametrize("size", [1, 3, 100])
def test_equal_values_have_one_fingerprint_in_any_memory_layout(size):
    texts, numbers = ["a", None, "b", "a", ""] * 20, [*range(99), None]
    plain = pa.table({"text": texts, "number": numbers})
    other = pa.concat_tables([plain.slice(i, size) for i in range(0, 100, size)])
    other = other.set_column(0, "text", other["text"].dictionary_encode())
    assert fingerprint(other) == fingerprint(plain)
    for changed in (plain.slice(1), plain.rename_columns(["text", "n"]), plain.take(pa.array([1, 0, *range(2, 100)]))):
        assert fingerprint(changed) != fingerprint(plain)
    assert fingerprint(plain.set_column(0, "text", [[text or "" for text in texts]])) != fingerprint(plain)
