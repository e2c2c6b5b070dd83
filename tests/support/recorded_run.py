"""Runs recorded in MLflow and in the audit log without a training: real-catalogue bundles with given metrics."""

import json
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.serving.bundle.metadata import Band
from callsieve.serving.bundle.signing import write_public_key
from callsieve.training.log.audit_log import append, log_id
from callsieve.training.log.gates import parse_gates, shipped_gates
from callsieve.training.log.run_paths import RunPaths, artifact_folder, default_store
from callsieve.training.model.settings import Settings
from callsieve.training.run import run_payload
from callsieve.training.tracking import mlflow_write
from callsieve.training.tracking.record import settings_json
from tests.support import real_bundle
from tests.support import small_bundle as small

APPROVERS = tuple(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 4))
OFFICES = ("risk", "legal", "operations")
PASSING_METRICS = {
    "auc": 0.97,
    "model_benign_error_bound": 9e-5,
    "model_catch_by_call_low": 0.7,
    "model_detection_median": 4.0,
    "test_fold_touches": 1.0,
}
FOLD = "0123456789abcdef 1..2"


def gates(**changes):
    """Returns the shipped gates with approvers; `changes` replace texts."""
    text = shipped_gates().data.decode()
    keys = ", ".join(
        f'{name} = "{key.public_key().public_bytes_raw().hex()}"' for name, key in zip(OFFICES, APPROVERS, strict=True)
    )
    changes = {"keys = {}": f"keys = {{ {keys} }}", "callers = 30 ": "callers = 1 "} | changes
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return parse_gates(text.encode(), "gates")


def record_run(place, folder, *, metrics=PASSING_METRICS, threshold=None, data="0" * 64, judged_by=None):
    """Records one run as a study does: gates, look at the test fold, MLflow run, audit log entry.

    Returns its MLflow id and version. `threshold` is the raw score from which its model flags a call.
    """
    folder.mkdir()
    run_gates = judged_by or gates()
    entry = append(place.log, "gates", {"sha256": run_gates.sha256, "text": run_gates.data.decode()}, small.KEY)
    append(place.log, "touch", {"fold": FOLD, "gates": run_gates.sha256}, small.KEY)
    bands = real_bundle.card().thresholds if threshold is None else (Band("certified", threshold, small.certificate()),)
    real_bundle.write_bundle(folder / "bundle", epoch=len(list(folder.parent.iterdir())), thresholds=bands)
    (folder / "record").mkdir()
    (folder / "record" / "settings.json").write_text(json.dumps(settings_json(Settings())))
    for signed in (folder, folder / "record"):
        write_public_key(small.KEY.public_key(), signed / "signer.pub")
    (folder / "tables").mkdir()
    (folder / "tables" / "slices.csv").write_text("slice,calls\ncourier,12\n")
    figures = {
        "model": {"id": folder.name},
        "gates": {"sha256": run_gates.sha256, "entry": entry, "fold": FOLD, "touches": 1},
    }
    dataset = {"sha256": data, "rows": 10, "source": "nowhere", "context": "training"}
    tracked = mlflow_write.write_run(
        place.uri, artifact_folder(place.uri), name=folder.name, made_by="a test", began=time.time(),
        parameters={"seed": 1, "calls": 10}, metrics=metrics,
        tags={"data_sha256": data, "certified": "true", mlflow_write.LOG: log_id(place.log)},
        datasets={"calls": dataset}, figures={"auc": 0.97},
        files={name: folder / name for name in ("record", "tables")},
        model=(folder / "bundle", folder / "signer.pub"),
    )  # fmt: skip
    append(place.log, "run", run_payload(place.uri, tracked, figures, folder / "bundle"), small.KEY)
    return tracked


def run_paths_in(folder):
    """Returns an audit log and a SQLite store in a folder."""
    return RunPaths(folder / "audit", default_store(folder))
