"""The statement of a training: the tables, settings and source of its record, signed by the signer of its bundle."""

import base64
import json
from datetime import datetime

from callsieve.serving.bundle.attestation import attestation_path, verify_attestation
from callsieve.serving.bundle.signing import SIGNER, read_public_key
from callsieve.training.oversight.log.audit_log import log_id
from callsieve.training.tracking.build_provenance import SOURCE_DIGEST, TABLE_DIGEST


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


def test_the_registered_model_has_the_statement(training_run):
    folder, figures = training_run
    path = attestation_path(folder / "bundle")
    logged = folder / "mlartifacts" / figures["tracking"]["run"] / "artifacts" / "model" / path.name
    assert logged.read_bytes() == path.read_bytes()
