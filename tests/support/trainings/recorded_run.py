"""Runs recorded in MLflow and in the audit log without a training: real-catalogue bundles with given metrics."""

import json
import time
from functools import partial
from types import SimpleNamespace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from callsieve.serving.bundle.attestation import write_attestation
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.bundle.signing import sign, write_public_key
from callsieve.training.model.settings import Settings
from callsieve.training.oversight.log.audit_log import append, log_id, payloads
from callsieve.training.oversight.log.gates import parse_gates, shipped_gates
from callsieve.training.oversight.log.run_paths import RunPaths, artifact_folder, default_store
from callsieve.training.run import run_payload
from callsieve.training.tracking import mlflow_write
from callsieve.training.tracking.mlflow_model import save_model
from callsieve.training.tracking.record import settings_json
from tests.support import real_bundle
from tests.support import small_bundle as small

APPROVERS = tuple(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 4))
OWNER, WITNESS = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (7, 8))
OFFICES = ("risk", "legal", "operations")
PASSING_METRICS = {
    "auc": 0.97, "model_benign_error_bound": 9e-5, "model_catch_by_call_low": 0.7, "model_detection_median": 4.0,
    "better_than_shipped": 1.0, "test_fold_touches": 1.0,
}  # fmt: skip
PERIOD = "1..2"
FILES = {
    "tables/slices.csv": "slice,calls\ncourier,12\n",
    "documents/model_card.md": "# Model card\n",
    "plots/curve.svg": "<svg/>\n",
    "report.html": "<p>report</p>\n",
    "audit.html": "<p>audit</p>\n",
}


def gates(owner=OWNER, **changes):
    """Returns the shipped gates with approvers, signed by their owner; `changes` replace texts."""
    text = shipped_gates().data.decode()
    keys = ", ".join(f'{name} = "{hex_of(key)}"' for name, key in zip(OFFICES, APPROVERS, strict=True))
    changes = {"keys = {}": f"keys = {{ {keys} }}", "callers = 30 ": "callers = 1 "} | changes
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    if owner is not None:
        text += f'[owner]\nname = "board"\nkey = "{hex_of(owner)}"\n'
    signature = "" if owner is None else sign(text.encode(), owner).decode().strip()
    return parse_gates(text.encode(), "gates", signature)


def hex_of(key):
    """Returns the public key as a gates file names it."""
    return key.public_key().public_bytes_raw().hex()


def write_gates(path):
    """Writes those gates and the signature of their owner; returns the path."""
    written = gates()
    path.write_bytes(written.data)
    path.with_name(f"{path.name}.sig").write_text(f"{written.signature}\n")
    return path


def record_run(place, folder, *, metrics=PASSING_METRICS, threshold=None, data="0" * 64, judged_by=None):
    """Records one run as a study does: gates, look at the test fold, MLflow run, audit log entry.

    Returns its MLflow id and version. `threshold` is the raw score from which its model flags a call.
    """
    folder.mkdir(exist_ok=True)
    run_gates = judged_by or gates()
    entry = append(place.log, "gates", run_gates.to_json(), small.KEY)
    nth = sum(payload["fold"].endswith(PERIOD) for _, payload in payloads(place.log, "touch"))
    fold = f"{nth:016x} {PERIOD}"  # each run has calls of its own
    append(place.log, "touch", {"fold": fold, "gates": run_gates.sha256}, small.KEY)
    bound = metrics["model_benign_error_bound"]
    proof = small.certificate(benign_calls=40_000, bound=bound, certified=bound <= 1e-4)
    bands = real_bundle.card().thresholds
    bands = tuple(structs.replace(band, certificate=proof) if band is bands[0] else band for band in bands)
    bands = bands if threshold is None else (Band("certified", threshold, proof),)
    real_bundle.write_bundle(folder / "bundle", epoch=len(list(folder.parent.iterdir())), thresholds=bands)
    (folder / "record").mkdir()
    (folder / "record" / "settings.json").write_text(json.dumps(settings_json(Settings())))
    for signed in (folder, folder / "record"):
        write_public_key(small.KEY.public_key(), signed / "signer.pub")
    write_attestation(folder / "bundle", {}, small.KEY)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    figures = {
        "model": {"id": folder.name},
        "gates": {
            "sha256": run_gates.sha256,
            "entry": entry,
            "fold": fold,
            "touches": int(metrics["test_fold_touches"]),
        },
    }
    dataset = {"sha256": data, "rows": 10, "source": "nowhere", "context": "training"}
    tracked = mlflow_write.write_run(
        place.uri, artifact_folder(place.uri), name=folder.name, made_by="a test", began=time.time(),
        parameters={"seed": 1, "calls": 10}, metrics=metrics,
        tags={"data_sha256": data, "certified": "true", mlflow_write.LOG: log_id(place.log)},
        datasets={"calls": dataset}, figures={"auc": 0.97},
        files={name: folder / name for name in ("record", *{name.partition("/")[0] for name in FILES if "/" in name})}
        | {"report": folder / "report.html"},
        model=partial(save_model, folder / "bundle", signer=folder / "signer.pub"),
    )  # fmt: skip
    mlflow_write.attach_file(place.uri, tracked["run"], folder / "audit.html", "report")
    finished = SimpleNamespace(figures=figures, folder=folder)
    append(place.log, "run", run_payload(place.uri, tracked, finished), small.KEY)
    return tracked


def run_paths_in(folder):
    """Returns an audit log and a SQLite store in a folder."""
    return RunPaths(folder / "audit", default_store(folder))
