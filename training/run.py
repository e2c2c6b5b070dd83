"""One training, from a dataset to a recorded and signed run: a folder with bundle and pages, and a run in MLflow."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.catalogue import catalogue_hash
from callsieve.serving.batch.shard_scoring import verdict_counts
from callsieve.serving.bundle.bundle import MANIFEST
from callsieve.serving.bundle.signing import SIGNER, key_id, read_public_key, write_public_key
from callsieve.serving.rules.policy import ACTIONS, read_policy
from callsieve.serving.rules.rule_bits import matching_bits, table_actions, table_band_actions
from callsieve.serving.rules.rule_input import VECTOR_COLUMNS
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores, case_id

from .data.dataset import Dataset
from .data.sources import Source, sources_of
from .drift.days import ScoredCalls
from .drift.reference import REFERENCE, measure_reference, write_reference
from .estimator.unsigned import can_be_signed, unsigned_scorer
from .judging.headline import PolicyActions
from .judging.judge import judge
from .judging.leak_probes import check_for_leaks
from .judging.run_figures import DatasetEntry, ExampleVerdict, GateEntry, LastDay, RecordedRun, RunFigures, TrackedRun
from .model.allocators import give_back
from .model.folds import last_day_rows
from .model.provenance import command_line, commit, without_password
from .model.settings import Settings
from .model.split import fold_plan
from .model.train import Trained, train, write_bundle
from .oversight.audit.audit_page import write_first_page
from .oversight.log.audit_log import append, has_log, log_id
from .oversight.log.gates import Gates, shipped_gates
from .oversight.log.key_folder import key_path, log_signing_key, new_key
from .oversight.log.looks import Ledger, Look
from .oversight.log.run_paths import artifact_folder, record_store, run_paths
from .reports.model_card import write_documents
from .reports.pictures import pictures
from .reports.run_page import write_pictures, write_run_page
from .tracking import mlflow_read, mlflow_write
from .tracking.build_provenance import write_provenance
from .tracking.judged_calls import JUDGED, write_judged
from .tracking.lineage import drift_since_last_run
from .tracking.record import (
    dataset_entries,
    mean_curve,
    run_metrics,
    run_parameters,
    run_tags,
    write_record,
    write_tables,
)
from .tracking.system_metrics import system_metrics

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from callsieve.features.files.progress import Progress

    from .oversight.log.run_paths import RunPaths
    from .reports.drawing import Picture

    Datasets = Mapping[str, DatasetEntry]

EXAMPLES = 3


def record_training(
    data: Dataset | Sequence[Source],
    settings: Settings,
    folder: str | Path,
    *,
    source: str,
    signing_key: str | Path | None = None,
    tracking_uri: str | None = None,
    gates: Gates | None = None,
    audit: str | Path | None = None,
    made_by: str = "callsieve.training.record_training",
    other: tuple[str, Scorer] | None = None,
    progress: Progress | None = None,
) -> RecordedRun:
    """Trains, judges and signs a model, scores the last day as a service would, writes the pages, and records the run.

    >>> from pathlib import Path
    >>> from callsieve.training import Settings, read_dataset
    >>> data, settings = read_dataset(Path("world")), Settings(threads=1)
    >>> figures = record_training(data, settings, Path("run"), source="a simulated world")
    >>> sorted(file.name for file in Path("run/bundle").iterdir())
    ['MANIFEST.json', 'MANIFEST.sig', 'bundle.json', 'model.txt']

    Args:
        data: a data set, or the folders of a training; the days of the last are monitored.
        folder: new; gets `bundle/`, its provenance, `signer.pub`, `report.html`, `record/` and, unless `audit` names
            another place, the audit log.
        source: where the calls come from, in a few words.
        signing_key: Ed25519 key file for bundle and log; by default the log's, or a new one in the key folder.
        tracking_uri: MLflow's store; by default the one that MLflow is set to, or `mlruns.db` in the working folder.
        gates: conditions for a promotion of the model; the shipped gates by default.
        made_by: command or function that MLflow names as the source of the run.
        other: name and scorer of another model, which the figures compare on the same calls.
    Returns: all figures of the run.
    """
    began = time.time()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    place = run_paths(folder, _path(audit), tracking_uri)
    key = signer(folder, place.log, _path(signing_key))
    record_store(folder, place.uri)
    gates = gates or shipped_gates()
    code = commit()
    looks = Looks(Ledger(place.log, key, gates), settings, folder)

    with system_metrics() as system:
        trained = train([looks.counted(source) for source in sources_of(data)], settings, progress)
    leak_probes = check_for_leaks(trained)
    give_back()
    judged = judge(trained, policy_actions(trained), source, other)
    if can_be_signed(trained):
        write_bundle(trained, folder / "bundle", key)
        scorer = Scorer.load(folder / "bundle", trusted=[read_public_key(folder / SIGNER)])
    else:
        scorer = unsigned_scorer(trained)
    model = scorer.bundle.model_id
    calls = scored_calls(trained)

    figures: RunFigures = {
        **judged,
        "model": {**judged["model"], "id": model},
        "leak_probes": leak_probes,
        "catalogue": catalogue_hash(),
        "code": code,
        "gates": looks.entry(),
        "last_day": last_day(scorer, trained),
        "drift": drift_since_last_run(place, calls),
        "next": [
            f"mlflow ui --backend-store-uri {without_password(place.uri)}",
            *([f"callsieve score --bundle {folder / 'bundle'} --help"] if can_be_signed(trained) else []),
        ],
        "learning_curve": mean_curve(trained.curves),
        "made_by": command_line(made_by),
    }
    results = gates.results(run_metrics(figures))
    figures["gates"]["refused"] = [str(gate["metric"]) for gate in results if not gate["passed"]]
    figures["gates"]["owner"] = gates.owner[0] if gates.owner else ""
    datasets = dataset_entries(trained, source)
    write_record(folder / "record", settings, datasets, code, gates.data, folder / SIGNER)
    if can_be_signed(trained):
        roles, run = [facts.role for facts in trained.folders], f"{log_id(place.log)}/{figures['gates']['entry']}"
        write_provenance(folder / "bundle", key, settings, roles, datasets, code, run, began)
    write_judged(trained, folder / "record" / JUDGED)
    write_reference(measure_reference(model, calls), folder / "record" / REFERENCE)
    drawn = pictures(figures)
    write_pages(figures, datasets, folder, drawn)
    curves = {"loss on held-out folds": figures["learning_curve"], **system}
    tracked = track_run(place, folder, figures, settings, datasets, made_by, began, curves)
    write_audit_page(place, tracked, figures, folder, gates, drawn)
    entry = append(place.log, "run", run_payload(place.uri, tracked, figures, folder / "bundle"), key)
    return {**figures, "tracking": tracked, "audit": {"log": str(place.log), "entry": entry}}


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def signer(folder: Path, log: Path, signing_key: Path | None) -> Ed25519PrivateKey:
    """Returns the key that signs bundle and log, and writes its public half into `folder`.

    It is `signing_key`, else the key of the log, else a new one in the user's key folder.
    """
    known = signing_key is not None or (has_log(log) and key_path(folder, log).exists())
    key = log_signing_key(folder, log, signing_key) if known else new_key()
    write_public_key(key.public_key(), folder / SIGNER)
    return key


class Looks:
    """Records the gates of a run and its look at the test fold of each folder in the audit log, before training."""

    def __init__(self, ledger: Ledger, settings: Settings, run: Path) -> None:
        self._ledger, self._settings, self._run, self._entry = ledger, settings, run.resolve(), ledger.begin()
        self._looks: list[Look] = []

    def counted(self, source: Source) -> Source:
        """Returns the source with its look counted as soon as its calls are read; a folder to learn from has none."""

        def read() -> Dataset:
            dataset = source.read()
            span = fold_plan(dataset.calls, self._settings.label_delay_days, source.role).certify
            # Own files are keyed into the folder of the run: a registry there would be new for each run.
            stays = dataset.folder is not None and self._run not in dataset.folder.resolve().parents
            folder = dataset.folder if stays else None
            self._looks.append(self._ledger.touch(dataset.fingerprint, span, "train", folder))
            return dataset

        return source if source.role == "learn" else replace(source, read=read)

    def entry(self) -> GateEntry:
        """Returns the gates with the look at the last folder, and the most looks at a folder."""
        counts = [look["touches"] or 0 for look in self._looks]
        fold = self._looks[-1]["fold"] if self._looks else None
        return {
            "sha256": self._ledger.gates.sha256,
            "entry": self._entry,
            "fold": fold,
            "touches": max(counts, default=None),
            "registered": all(look["registered"] for look in self._looks),
            "refused": [],
            "owner": "",
        }


def scored_calls(trained: Trained) -> ScoredCalls:
    """Returns the calls of the last folder with their scores, for monitoring."""
    dataset, feed = trained.last.dataset, trained.last.feed
    raw = np.full(dataset.calls.num_rows, np.nan)
    raw[feed.rows] = trained.raw[trained.last.begin :]
    return ScoredCalls(dataset.calls, feed, raw, dataset.complaints, trained.card.thresholds)


def write_pages(figures: RunFigures, datasets: Datasets, folder: Path, drawn: Mapping[str, Picture]) -> None:
    """Writes the run page, the pictures, the tables, the model card and the datasheet."""
    write_run_page(figures, folder / "report.html", drawn)
    write_pictures(drawn, folder / "plots")
    write_tables(figures, folder / "tables")
    write_documents(figures, datasets, folder / "documents")


def track_run(
    place: RunPaths,
    folder: Path,
    figures: RunFigures,
    settings: Settings,
    datasets: Datasets,
    made_by: str,
    began: float,
    curves: Mapping[str, Sequence[float]],
) -> TrackedRun:
    """Records figures and files as a run in MLflow."""
    files = {name: folder / name for name in ("record", "documents", "plots", "tables")}
    return mlflow_write.write_run(
        place.uri,
        artifact_folder(place.uri),
        name=f"{folder.resolve().name} {figures['model']['id'][:6]}",
        made_by=made_by,
        began=began,
        parameters=run_parameters(settings, figures),
        metrics=run_metrics(figures),
        tags=run_tags(figures) | {mlflow_write.LOG: log_id(place.log)},
        datasets=datasets,
        figures=figures,
        files=files | {"report": folder / "report.html"},
        model=(folder / "bundle", folder / SIGNER) if (folder / "bundle").exists() else None,
        curves=curves,
    )


def write_audit_page(
    place: RunPaths, tracked: TrackedRun, figures: RunFigures, folder: Path, gates: Gates, drawn: Mapping[str, Picture]
) -> None:
    """Writes the audit page of the run as recorded, and attaches it to the run in MLflow.

    The log entry of the run comes after this, so that it commits to the page, too.
    """
    payload = run_payload(place.uri, tracked, figures, folder / "bundle")
    write_first_page(place, payload, figures, gates, folder / "audit.html", drawn)
    mlflow_write.attach_file(place.uri, tracked["run"], folder / "audit.html", "report")


def run_payload(uri: str, tracked: TrackedRun, figures: RunFigures, bundle: Path) -> dict[str, Any]:
    """Returns the log entry of a run: all that MLflow shows of it at this moment; version "" without a bundle."""
    run, version, manifest = tracked["run"], tracked["version"], bundle / MANIFEST
    return {
        "run": run,
        "version": version,
        "registered": mlflow_read.registry(uri)["versions"][version] if version else {},
        "model": figures["model"]["id"],
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest() if version else "",
        "signer": key_id(read_public_key(bundle.parent / SIGNER)),
        "gates": figures["gates"],
        "record": mlflow_read.snapshot(uri, run),
    }


def policy_actions(trained: Trained) -> PolicyActions:
    """Returns the actions of the shipped policy, without registers, for all calls of the pool."""
    policy = read_policy()
    columns = {column: np.asarray(trained.X[:, column]) for _, column in VECTOR_COLUMNS}
    bits = matching_bits(columns, None, policy.terms, trained.pool.itself.astype(float))
    by_band = table_band_actions(policy, trained.card.thresholds, trained.raw, trained.stratum)
    by_rules = table_actions(policy, np.zeros_like(by_band), bits)
    return PolicyActions(policy.version, table_actions(policy, by_band, bits), by_rules)


def last_day(scorer: Scorer, trained: Trained) -> LastDay:
    """Returns the last day's verdicts as a service would give them, with a few examples that did not pass."""
    rows = last_day_rows(trained.last.folds.start)
    calls = trained.last.dataset.calls.take(rows)
    scores = scorer.score_table(trained.last.feed.at(rows), threads=trained.settings.threads or 2)
    counted = verdict_counts(scores, calls)
    return {
        "date": str(pc.max(calls["day"]).cast("int32").cast("date32")),
        "calls": len(rows),
        "actions": counted["actions"],
        "callers": counted["callers"],
        "bands": counted["bands"],
        "rules": counted["rules"],
        "examples": examples(scorer, scores, trained, rows),
    }


def examples(scorer: Scorer, scores: Scores, trained: Trained, rows: Array) -> list[ExampleVerdict]:
    """Returns the first call that did not pass, of each of a few callers, with its reasons.

    Args:
        scores: of `rows`, in their order.
    """
    flagged = np.flatnonzero(scores.action > 0)
    _, first = np.unique(trained.last.folds.caller[rows][flagged], return_index=True)
    chosen = flagged[np.sort(first)[: EXAMPLES if can_be_signed(trained) else 0]]  # others have no reasons
    return [example(scorer, ACTIONS[scores.action[i]], trained, int(rows[i])) for i in chosen]


def example(scorer: Scorer, action: str, trained: Trained, row: int) -> ExampleVerdict:
    """Returns the verdict on one call, with its reasons."""
    last = trained.last
    start = int(last.folds.start[row])
    caller, callee = (last.dataset.calls[name][row].as_py() for name in ("caller", "callee"))
    verdict = scorer.explain_row(last.feed.at(np.array([row]))[0].tolist(), start)
    return {
        "case": case_id(scorer.bundle.model_id, caller, callee, start),
        "action": action,
        "score": verdict.score,
        "band": verdict.band,
        "slice": str(last.folds.judged.slice[row]),
        "content": verdict.content,
        "mode": verdict.mode,
        "rules": [{"en": fact.en, "zh": fact.zh} for fact in verdict.rules],
        "reasons": [{"en": reason.en, "zh": reason.zh} for reason in verdict.reasons],
    }
