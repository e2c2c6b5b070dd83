"""The record of a run changes with every table that a model depends on, and a signed statement names these tables."""

import base64
import hashlib
import json
import shutil
from dataclasses import replace
from datetime import datetime

import pandas as pd
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.serving.bundle.attestation import attestation_path, verify_attestation
from callsieve.serving.bundle.signing import SIGNER, read_public_key
from callsieve.training.data.dataset import CAMPAIGNS, LISTS, RECYCLED
from callsieve.training.data.dataset_tables import tables
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.model.settings import Settings
from callsieve.training.oversight.log.audit_log import log_id
from callsieve.training.reports import csv_tables
from callsieve.training.tracking.build_provenance import SOURCE_DIGEST, TABLE_DIGEST, write_provenance
from callsieve.training.tracking.run_values import FinishedRun, run_metrics, run_tags, slice_metrics
from tests.training.reports.run_figures import adapted_figures

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
    csv_tables.write_rows(tmp_path / "none.csv", [])
    csv_tables.write_rows(tmp_path / "one.csv", [{"a": 1, "b": None}])
    assert [path.name for path in tmp_path.iterdir()] == ["one.csv"]
    assert (tmp_path / "one.csv").read_text() == "a,b\n1,\n"


def test_kinds_that_are_certified_or_not_are_metrics():
    slices = [{"slice": "taxi / 夜", "certified": True}, {"slice": "bank", "certified": None}]
    assert slice_metrics({"slices": slices}) == {"slice/benign/taxi - -/certified": 1.0}


def test_an_adaptation_has_metrics_of_both_models_and_tags_of_its_base(training_run):
    figures = training_run[1]
    adapted = adapted_figures(175, figures)
    more = set(run_metrics(adapted)) - set(run_metrics(figures))
    assert all(name.startswith(("base/", "adapted/")) for name in more)
    metrics = run_metrics(adapted)
    assert metrics["adapted/probable_catch"] == 0.81 and metrics["base/probable_catch"] == 0.42
    assert metrics["adapted/estimated_error"] == 0.9e-4 and metrics["adapted/estimated_error_bound"] == 6.1e-4
    assert metrics["base/false_calls"] == 31
    assert "adapted/estimated_error" not in run_metrics(adapted_figures(0, figures))
    assert "base/false_calls" not in run_metrics(adapted | {"base": None})
    tags = {"base_model_id": "70764091aeb0", "base_learnt": "threshold and trees"}
    shown = run_tags(adapted)
    assert tags.items() <= shown.items() and not tags.keys() & run_tags(figures).keys()
    assert "of groups unseen in training" not in shown["mlflow.note.content"]


# The statement of a training


def test_the_statement_of_an_adaptation_names_its_base(training_run, tmp_path):
    folder, figures = training_run
    shutil.copytree(folder / "bundle", tmp_path / "bundle")
    adapted = adapted_figures(175, figures)
    key = Ed25519PrivateKey.generate()
    write_provenance(
        FinishedRun(tmp_path, Settings(), adapted, {}, {}, "callsieve adapt", 0.0), key, ["certify"], "a/0"
    )
    payload = json.loads(attestation_path(tmp_path / "bundle").read_text())["payload"]
    build = json.loads(base64.b64decode(payload))["predicate"]["buildDefinition"]
    inputs = {entry["name"]: entry for entry in build["resolvedDependencies"]}
    assert inputs["base bundle"] == {
        "name": "base bundle",
        "uri": "pkg:generic/callsieve-bundle@70764091aeb0",
        "digest": {"sha256": adapted["adapted"]["manifest"]},
    }


def test_the_statement_of_a_training_agrees_with_its_record(training_run):
    folder, figures = training_run
    made = verify_attestation(folder / "bundle", read_public_key(folder / SIGNER)).predicate
    envelope = json.loads(attestation_path(folder / "bundle").read_text())
    signed = base64.b64decode(envelope["payload"]).decode()
    assert "buildDefinition" in signed and str(folder) not in signed
    build, run = made["buildDefinition"], made["runDetails"]
    settings, datasets, made_by = (
        json.loads((folder / "record" / f"{name}.json").read_text()) for name in ("settings", "datasets", "versions")
    )
    assert build["externalParameters"] == {"settings": settings, "roles": ["both"]}
    inputs = {entry["name"]: entry for entry in build["resolvedDependencies"]}
    tables = {name: entry["digest"][TABLE_DIGEST] for name, entry in inputs.items() if "uri" not in entry}
    assert tables == {
        name: entry["sha256"] for name, entry in datasets.items() if name not in ("vectors", "labelled train")
    }
    assert {"calls", "complaints", "findings"} < tables.keys()
    assert inputs["callsieve"]["digest"][SOURCE_DIGEST] == made_by["source_sha256"]
    assert ("gitCommit" in inputs["callsieve"]["digest"]) is (made_by.get("dirty") == "false")
    assert inputs["lightgbm"]["uri"] == f"pkg:pypi/lightgbm@{made_by['decisive']['lightgbm']}"
    assert run["metadata"]["invocationId"] == f"{log_id(folder / 'audit')}/{figures['gates']['entry']}"
    began, ended = (datetime.fromisoformat(run["metadata"][name]) for name in ("startedOn", "finishedOn"))
    assert began < ended
    documents = {entry["name"]: entry["digest"]["sha256"] for entry in run["byproducts"]}
    assert documents == {
        f"documents/{name}": hashlib.sha256((folder / "documents" / name).read_bytes()).hexdigest()
        for name in ("datasheet.md", "model_card.md")
    }


def test_the_registered_model_has_the_statement(training_run):
    folder, figures = training_run
    path = attestation_path(folder / "bundle")
    logged = folder / "mlartifacts" / figures["tracking"]["run"] / "artifacts" / "model" / path.name
    assert logged.read_bytes() == path.read_bytes()
