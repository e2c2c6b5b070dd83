"""One training run, written down: a folder with bundle and report, and a run in MLflow."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from callsieve.features.catalogue import catalogue_hash
from callsieve.serving.batch.verdict_counts import verdict_counts
from callsieve.serving.bundle.bundle import MANIFEST
from callsieve.serving.bundle.signing import (
    SIGNER,
    SIGNING_KEY,
    generate_signing_key,
    read_public_key,
    read_signing_key,
    write_public_key,
)
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores, case_id
from callsieve.training.audit.page import write_first_page
from callsieve.training.drift.days import ScoredCalls
from callsieve.training.drift.reference import REFERENCE, measure_reference, write_reference
from callsieve.training.judging.judge import judge, metrics
from callsieve.training.judging.leak_probes import check
from callsieve.training.log.audit_log import append
from callsieve.training.log.gates import Gates, shipped_gates
from callsieve.training.log.looks import Ledger
from callsieve.training.log.run_paths import place_of
from callsieve.training.model.allocators import give_back
from callsieve.training.model.call_choice import last_day_rows
from callsieve.training.model.provenance import commit
from callsieve.training.model.split import fold_plan
from callsieve.training.model.train import Settings, Trained, train, write_bundle
from callsieve.training.reports.model_card import write_documents
from callsieve.training.reports.pictures import pictures
from callsieve.training.reports.run_page import write_pictures, write_report
from callsieve.training.tracking.lineage import since_last
from callsieve.training.tracking.record import datasets, parameters, slice_metrics, tags, write_record, write_tables

from .tracking import mlflow_read, mlflow_write

if TYPE_CHECKING:
    import numpy.typing as npt
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from callsieve.features.files.progress import Progress
    from callsieve.training.data.dataset import Dataset
    from callsieve.training.reports.pictures import Picture

    Array = npt.NDArray[Any]
    Datasets = Mapping[str, Mapping[str, Any]]

EXAMPLES = 3


def study(
    dataset: Dataset,
    settings: Settings,
    folder: str | Path,
    *,
    source: str,
    signing_key: str | Path | None = None,
    tracking_uri: str | None = None,
    gates: Gates | None = None,
    audit: str | Path | None = None,
    made_by: str = "callsieve.training.study",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train, judge, sign, score the last day as it would be served, report, and record.

    >>> from pathlib import Path
    >>> from callsieve.training import Settings, read_dataset
    >>> figures = study(read_dataset(Path("world")), Settings(threads=1), Path("run"), source="a simulated world")
    >>> sorted(file.name for file in Path("run/bundle").iterdir())
    ['MANIFEST.json', 'MANIFEST.sig', 'bundle.json', 'model.txt']

    Args:
        folder: new; gets `bundle/`, `signer.pub`, `report.html`, `record/` and, unless `tracking_uri` and `audit` say
            otherwise, `mlflow.db` and the audit log.
        source: where the calls come from, in a few words.
        signing_key: Ed25519 key file for bundle and log; a new one is made in `folder` if none is given.
        gates: what the model must show to be promoted; the shipped ones by default.
        made_by: command or function that MLflow names as the source of the run.
    Returns: all figures, JSON-able.
    """
    began = time.time()
    folder, signing_key, audit = Path(folder), _path(signing_key), _path(audit)
    folder.mkdir(parents=True, exist_ok=True)
    key, code = signer(folder, signing_key), commit()
    place, said = place_of(folder, audit, tracking_uri), gates or shipped_gates()
    tests = register(Ledger(place.log, key, said), dataset, settings)
    trained = train(dataset, settings, progress)
    leak_probes = check(trained)
    give_back()
    figures = judge(trained)
    figures["leak_probes"] = leak_probes
    figures["model"]["id"] = write_bundle(trained, folder / "bundle", key)
    figures["catalogue"] = catalogue_hash()
    figures["code"] = code
    figures["data"]["source"] = source
    figures["gates"] = tests
    scorer = Scorer.load(folder / "bundle", trusted=[read_public_key(folder / SIGNER)])
    figures["last_day"] = last_day(scorer, trained)
    calls = ScoredCalls(dataset.calls, trained.feed, trained.raw, dataset.complaints, trained.card.thresholds)
    figures["drift"] = since_last(place, calls)
    figures["next"] = [
        f"mlflow ui --backend-store-uri {place.uri}",
        f"callsieve score --bundle {folder / 'bundle'} --help",
    ]
    told = datasets(trained, source)
    write_record(folder / "record", settings, told, code, said.data, folder / SIGNER)
    write_reference(measure_reference(figures["model"]["id"], calls), folder / "record" / REFERENCE)
    drawn = pictures(figures)
    write_pages(figures, told, folder, drawn)
    figures["tracking"] = track_run(place.uri, folder, figures, settings, told, made_by, began)
    # The page of the run as it was recorded is an artifact of it; the log then commits to that page too.
    payload = run_payload(place.uri, figures, folder / "bundle")
    write_first_page(place, payload, figures, said, folder / "audit.html", drawn)
    mlflow_write.attach(place.uri, figures["tracking"]["run"], folder / "audit.html", "report")
    entry = append(place.log, "run", run_payload(place.uri, figures, folder / "bundle"), key)
    figures["audit"] = {"log": str(place.log), "entry": entry}
    return figures


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def write_pages(figures: dict[str, Any], told: Datasets, folder: Path, drawn: Mapping[str, Picture]) -> None:
    """Report, pictures, tables and documents of the figures, each in its place."""
    write_report(figures, folder / "report.html", drawn)
    write_pictures(drawn, folder / "plots")
    write_tables(figures, folder / "tables")
    write_documents(figures, told, folder / "documents")


def track_run(
    uri: str, folder: Path, figures: dict[str, Any], settings: Settings, told: Datasets, made_by: str, began: float
) -> dict[str, Any]:
    """Record figures and files as a run in MLflow: where it stands there."""
    files = {name: folder / name for name in ("bundle", "record", "documents", "plots", "tables")}
    return mlflow_write.record(
        uri,
        folder / "artifacts",
        name=figures["model"]["id"],
        made_by=made_by,
        began=began,
        parameters=parameters(settings, figures),
        metrics=metrics(figures) | slice_metrics(figures) | {"test_fold_touches": figures["gates"]["touches"]},
        tags=tags(figures),
        datasets=told,
        figures=figures,
        files=files | {"report": folder / "report.html"},
    )


def signer(folder: Path, signing_key: Path | None) -> Ed25519PrivateKey:
    """The key that signs bundle and log, its public half written beside the bundle; a new one if none is given."""
    private = signing_key or folder / SIGNING_KEY
    if signing_key is None:
        generate_signing_key(private, folder / SIGNER)
    key = read_signing_key(private)
    if signing_key is not None:
        write_public_key(key.public_key(), folder / SIGNER)
    return key


def register(ledger: Ledger, dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """Log, before anything is trained, by which gates the run will be judged, and that the test fold is looked at."""
    folds = fold_plan(dataset.calls, settings.label_delay_days)
    entry = ledger.begin()
    touched = ledger.touch(dataset.fingerprint, folds.certify, "train")
    return {"sha256": ledger.gates.sha256, "entry": entry, **touched}


def run_payload(uri: str, figures: Mapping[str, Any], bundle: Path) -> dict[str, Any]:
    """What the log says of a run: all that MLflow now says of it."""
    run, version = figures["tracking"]["run"], figures["tracking"]["version"]
    return {
        "run": run,
        "version": version,
        "registered": mlflow_read.registry(uri)["versions"][version],
        "model": figures["model"]["id"],
        "manifest_sha256": hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest(),
        "gates": figures["gates"],
        "record": mlflow_read.snapshot(uri, run),
    }


def last_day(scorer: Scorer, trained: Trained) -> dict[str, Any]:
    """Verdicts on the last day's calls by the served scorer, with a few cases that were not passed."""
    rows = last_day_rows(trained.start)
    calls = trained.dataset.calls.take(rows)
    scores = scorer.score_table(trained.feed.at(rows), threads=trained.settings.threads or 2)
    day = str(pc.max(calls["day"]).cast("int32").cast("date32"))
    return {
        "date": day,
        "calls": len(rows),
        **verdict_counts(scores, calls),
        "examples": examples(scorer, scores, trained, rows),
    }


def examples(scorer: Scorer, scores: Scores, trained: Trained, rows: Array) -> list[dict[str, Any]]:
    """The first flagged call of each of a few callers, with reasons."""
    flagged = np.flatnonzero(scores.action > 0)
    caller = trained.caller[rows][flagged]
    _, first = np.unique(caller, return_index=True)
    chosen = flagged[np.sort(first)[:EXAMPLES]]
    told = []
    for i in chosen:
        row = int(rows[i])
        start = int(trained.start[row])
        caller, callee = (trained.dataset.calls[name][row].as_py() for name in ("caller", "callee"))
        verdict = scorer.explain_row(trained.feed.at(np.array([row]))[0].tolist(), start)
        told.append(
            {
                "case": case_id(scorer.bundle.model_id, caller, callee, start),
                "action": ACTIONS[scores.action[i]],
                "score": verdict.score,
                "band": verdict.band,
                "slice": str(trained.judged.slice[row]),
                "content": verdict.content,
                "mode": verdict.mode,
                "reasons": [{"en": reason.en, "zh": reason.zh} for reason in verdict.reasons],
            }
        )
    return told
