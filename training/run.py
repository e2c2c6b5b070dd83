"""One training, from a dataset to a recorded and signed run: a folder with bundle and pages, and a run in MLflow."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.catalogue import catalogue_hash
from callsieve.features.files.progress import Progress
from callsieve.serving.bundle.bundle import MANIFEST
from callsieve.serving.bundle.signing import SIGNER, key_id, read_public_key, write_public_key
from callsieve.serving.scorer.scorer import Scorer

from .adapt.adapting import Adaptation, adapt, of_base
from .adapt.answers import SHEET
from .adapt.check_sheet import write_sheet
from .data.dataset import Dataset
from .data.sources import Source, read_once, sources_of
from .drift.days import ScoredCalls
from .drift.reference import REFERENCE, measure_reference, write_reference
from .judging.judge import is_candidate, judge, operating_point
from .judging.last_day import last_day, policy_actions
from .judging.leak_probes import check_for_leaks
from .judging.run_figures import RecordedRun, RunFigures, TrackedRun
from .model.allocators import give_back
from .model.provenance import command_line, commit, without_password
from .model.settings import Settings
from .model.split import fold_plan
from .model.train import Trained, train, write_bundle
from .oversight.audit.audit_page import write_first_page
from .oversight.log.audit_log import append, has_log, log_id
from .oversight.log.gates import Gates, shipped_gates
from .oversight.log.key_folder import key_path, log_signing_key, new_key
from .oversight.log.looks import Ledger
from .oversight.log.payload_types import GateEntry, Look, RunPayload
from .oversight.log.run_paths import RunPaths, record_store, run_paths
from .preflight import require_enough
from .reports.check_page import PAGE, write_check_page
from .reports.csv_tables import write_tables
from .reports.model_card import write_documents
from .reports.pictures import pictures
from .reports.run_page import write_pictures, write_run_page
from .tracking import mlflow_read
from .tracking.build_provenance import write_provenance
from .tracking.mlflow_write import attach_file
from .tracking.record import JUDGED, adaptation_round, dataset_entries, write_judged, write_record
from .tracking.run_values import FinishedRun, run_metrics, track_run


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
    others: Mapping[str, Scorer] | None = None,
    adaptation: Adaptation | None = None,
    progress: Progress | None = None,
) -> RecordedRun:
    """Trains, judges and signs a model, scores the last day as a service would, writes the pages, and records the run.

    >>> from pathlib import Path
    >>> from callsieve.training import Settings, read_dataset
    >>> data, settings = read_dataset(Path("world")), Settings(threads=1)
    >>> figures = record_training(data, settings, Path("run"), source="a simulated world")
    >>> sorted(file.name for file in Path("run/bundle").iterdir())
    ['MANIFEST.json', 'MANIFEST.sig', 'bundle.json', 'model.forest', 'model.txt']

    Args:
        data: a data set, or the folders of a training; the days of the last are monitored.
        folder: new; gets `bundle/`, its provenance, `signer.pub`, `report.html`, `record/` and, unless `audit` names
            another place, the audit log.
        source: where the calls come from, in a few words.
        signing_key: Ed25519 key file for bundle and log; by default the log's, or a new one in the key folder.
        tracking_uri: MLflow's store; by default the one that MLflow is set to, or `mlruns.db` in the working folder.
        gates: conditions for a promotion of the model; the shipped gates by default.
        made_by: command or function that MLflow names as the source of the run.
        others: scorers of other models by name, which the figures compare on the same calls, as a training always does
            with the shipped model.
        adaptation: adapts a signed bundle to the calls, in place of a training of its own. The folder also gets
            `to_check.csv`, the numbers that a person should check next, and `to_check.html`, the page beside it.
    Returns: all figures of the run.
    Raises:
        ValueError: in one line, before anything is written, if a fold has too few labelled groups.
    """
    began = time.time()
    sources = read_once(sources_of(data))
    settings = ready(sources, settings, adaptation)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    place = run_paths(folder, _path(audit), tracking_uri)
    key = signer(folder, place.log, _path(signing_key))
    record_store(folder, place.uri)
    gates = gates or shipped_gates()
    code = commit()
    looks = Looks(Ledger(place.log, key, gates), settings, folder, adaptation)

    counted = [looks.counted(source) for source in sources]
    if adaptation is None:
        trained, adapted = train(counted, settings, progress), None
    else:
        trained, adapted = adapt(counted, settings, adaptation, progress)
    leak_probes = check_for_leaks(trained)
    give_back()
    judged = judge(trained, policy_actions(trained), source, others)
    write_bundle(trained, folder / "bundle", key)
    scorer = Scorer.load(folder / "bundle", trusted=[read_public_key(folder / SIGNER)])

    figures: RunFigures = {
        **judged,
        "model": {**judged["model"], "id": scorer.bundle.model_id},
        "leak_probes": leak_probes,
        "catalogue": catalogue_hash(),
        "code": code,
        "gates": looks.entry(),
        "last_day": last_day(scorer, trained),
        "next": [
            *([] if is_candidate(judged) else ["callsieve adapt --help   (fits the shipped model to these records)"]),
            f"mlflow ui --backend-store-uri {without_password(place.uri)}",
            f"callsieve score --bundle {folder / 'bundle'} --help",
        ],
        "learning_curve": trained.learning_curve,
        "adapted": None if adapted is None else adapted.figures,
        "base": None if adapted is None else operating_point(trained, adapted.base_raw, adapted.base_bands),
        "made_by": command_line(made_by),
    }
    if adapted is not None:
        write_check_page(write_sheet(adapted, trained, folder / SHEET, scorer.bundle.model), folder / PAGE)
    results = gates.results(run_metrics(figures))
    figures["gates"]["refused"] = [str(gate["metric"]) for gate in results if not gate["passed"]]
    figures["gates"]["owner"] = gates.owner[0] if gates.owner else ""
    curves = {"loss on held-out folds": figures["learning_curve"]}
    datasets = dataset_entries(trained, source, adaptation)
    run = FinishedRun(folder, settings, figures, datasets, curves, made_by, began)
    tracked, entry = write_judged_run(run, trained, place, gates, key)
    return {**figures, "tracking": tracked, "audit": {"log": str(place.log), "entry": entry}}


def ready(sources: Sequence[Source], settings: Settings, adaptation: Adaptation | None) -> Settings:
    """Returns the settings, with the features of the base. Raises ValueError if a training has too few labels."""
    if adaptation is not None:
        return of_base(settings, adaptation.base)
    require_enough(sources, settings)
    return settings


def write_judged_run(
    run: FinishedRun, trained: Trained, place: RunPaths, gates: Gates, key: Ed25519PrivateKey
) -> tuple[TrackedRun, int]:
    """Writes all that follows from the figures: record, documents, provenance, pages, the run in MLflow, and its entry.

    Returns the run in MLflow and the number of the log entry, which comes last, so that it commits to the audit page.
    """
    folder, figures = run.folder, run.figures
    write_record(run, gates.data)
    write_documents(figures, run.datasets, folder / "documents")
    roles = [facts.role for facts in trained.folders]
    write_provenance(run, key, roles, f"{log_id(place.log)}/{figures['gates']['entry']}")
    write_judged(trained, folder / "record" / JUDGED)
    reference = measure_reference(figures["model"]["id"], scored_calls(trained))
    write_reference(reference, folder / "record" / REFERENCE)
    drawn, page = pictures(figures), folder / "audit.html"
    write_run_page(figures, folder / "report.html", drawn)
    write_pictures(drawn, folder / "plots")
    write_tables(figures, folder / "tables")
    tracked = track_run(place, run)
    write_first_page(place, run_payload(place.uri, tracked, run), figures, gates, page, drawn)
    attach_file(place.uri, tracked["run"], page, "report")
    return tracked, append(place.log, "run", run_payload(place.uri, tracked, run), key)


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

    def __init__(self, ledger: Ledger, settings: Settings, run: Path, adaptation: Adaptation | None = None) -> None:
        self._ledger, self._settings, self._run, self._entry = ledger, settings, run.resolve(), ledger.begin()
        self._adaptation, self._looks = adaptation, list[Look]()

    def counted(self, source: Source) -> Source:
        """Returns the source with its look counted as soon as its calls are read; a folder to learn from has none."""

        def read() -> Dataset:
            dataset = source.read()
            span = fold_plan(dataset.calls, self._settings.label_delay_days, source.role).certify
            # Own files are keyed into the folder of the run: a registry there would be new for each run.
            stays = dataset.folder is not None and self._run not in dataset.folder.resolve().parents
            folder = dataset.folder if stays else None
            adaptation = self._adaptation
            by = "train" if adaptation is None else "adapt"
            round_ = None if adaptation is None else adaptation_round(dataset, self._settings, adaptation)
            self._looks.append(self._ledger.touch(dataset.fingerprint, span, by, folder, round_))
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


def run_payload(uri: str, tracked: TrackedRun, run: FinishedRun) -> RunPayload:
    """Returns the log entry of a run: all that MLflow shows of it at this moment."""
    version, figures, manifest = tracked["version"], run.figures, run.folder / "bundle" / MANIFEST
    return {
        "run": tracked["run"],
        "version": version,
        "registered": mlflow_read.registry(uri)["versions"][version],
        "model": figures["model"]["id"],
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "signer": key_id(read_public_key(run.folder / SIGNER)),
        "gates": figures["gates"],
        "record": mlflow_read.snapshot(uri, tracked["run"]),
    }
