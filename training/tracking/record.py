"""The record of a run: settings, versions, datasets by fingerprint, and the calls that judged it with their scores.

A run is reproduced from the folder `record/`: `settings.json`, `versions.json`, `datasets.json`, the gates and the
signer's public key. An adaptation also has `base.json`, which names its base; `datasets.json` names its sheets of
answers. `reference.json` in the same folder describes the days of its calls. `judged.parquet` lets two runs be compared
without their models. It holds no token and no time: a call is the number of its folder and of its row, a caller is a
code that is the same in all runs on the same folders.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import atomic_path, write_atomic
from callsieve.serving.bundle.signing import SIGNER
from callsieve.serving.custody.purposes import UNDECLARED
from callsieve.training.adapt.adapting import Adaptation
from callsieve.training.adapt.answers import sha256_of
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.dataset_tables import table_facts
from callsieve.training.data.label_policy import policy_of
from callsieve.training.judging.run_figures import DatasetEntry
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.matrix import array_hash
from callsieve.training.model.provenance import source_hash, versions
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import Trained
from callsieve.training.oversight.log.rounds import Round

from .run_values import FinishedRun

SETTINGS, VERSIONS, DATASETS, GATES = "settings.json", "versions.json", "datasets.json", "gates.toml"
BASE = "base.json"  # of an adaptation
ANSWERS = "answers"  # name of a sheet of answers among the datasets, with its place among the sheets
JUDGED = "judged.parquet"
COLUMNS = ("folder", "row", "caller", "slice", "nuisance", "raw", "flagged")


def settings_json(settings: Settings) -> dict[str, object]:
    """Returns the settings as plain values; `threads` is left out, since no result depends on it."""
    values = {name: getattr(settings, name) for name in Settings.__dataclass_fields__ if name != "threads"}
    return values | {"label_policy": settings.label_policy.to_json(), "features": list(settings.features)}


def settings_of(values: Mapping[str, Any], threads: int) -> Settings:
    """Returns the settings of a record."""
    try:
        fields = {**values, "label_policy": policy_of(values["label_policy"]), "features": tuple(values["features"])}
        return Settings(**fields, threads=threads)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{SETTINGS}: expected the settings of this version of callsieve: {error}") from None


def adaptation_round(dataset: Dataset, settings: Settings, adaptation: Adaptation) -> Round:
    """Returns the round of an adaptation, before its answers are added to the data set.

    Rounds begin at the same start if base, tables, code and settings are the same. The days on which a model is valid
    change none of its figures.
    """
    figured = {name: value for name, value in settings_json(settings).items() if not name.startswith("valid_")}
    tables = [(table.name, table.sha256) for table in table_facts(dataset) if table.context == "training"]
    start = sha256_of([adaptation.base.manifest, tables, figured, source_hash()])
    return Round(start, adaptation.answers.draw(), adaptation.answers.digests())


def dataset_entries(trained: Trained, source: str, adaptation: Adaptation | None = None) -> dict[str, DatasetEntry]:
    """Returns every table of the run by name, each with the SHA-256 of the whole table.

    An adaptation also has its answers, one table for each sheet.
    """
    entries: dict[str, DatasetEntry] = {}

    def add(name: str, sha256: str, rows: int, context: str, source: str) -> None:
        entries[name] = {"sha256": sha256, "rows": rows, "source": source, "context": context}

    for place, folder in enumerate(trained.folders, 1):
        several = f" {place}" if len(trained.folders) > 1 else ""
        for table in folder.tables:
            add(f"{table.name}{several}", table.sha256, table.rows, table.context, folder.name or source)
            entries[f"{table.name}{several}"] |= {"purpose": folder.purpose, "columns": table.columns}
    for place, sheet in enumerate(adaptation.answers.sheets if adaptation else (), 1):
        add(f"{ANSWERS} {place}", sheet.sha256, sheet.rows, "training", sheet.path)
        entries[f"{ANSWERS} {place}"]["purpose"] = UNDECLARED
    add("vectors", array_hash([trained.pool.row, trained.X]), len(trained.pool.row), "training", source)
    for name, sha256 in trained.fitted.sides.items():
        add(f"labelled {name}", sha256, trained.fitted.rows[name], "training", source)
    return entries


def write_record(run: FinishedRun, gates: bytes) -> None:
    """Writes the folder that a run is reproduced from. `gates`: bytes of the gates file."""
    folder, code = run.folder / "record", run.figures["code"]
    folder.mkdir()
    every = (package.metadata for package in distributions())  # each access parses the file anew
    installed = {metadata["Name"]: metadata["Version"] for metadata in every if metadata["Name"]}
    made_by = {"decisive": versions(), **code, "source_sha256": source_hash(), "installed": installed}
    values = {SETTINGS: settings_json(run.settings), VERSIONS: made_by, DATASETS: dict(run.datasets)}
    if (adapted := run.figures["adapted"]) is not None:
        named = {"model": adapted["base"], "manifest_sha256": adapted["manifest"], "signed_by": adapted["signed_by"]}
        values[BASE] = named
    for name, value in values.items():
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        write_atomic(folder / name, (text + "\n").encode())
    write_atomic(folder / GATES, gates)
    shutil.copyfile(run.folder / SIGNER, folder / SIGNER)


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """Returns a file of the record in a run's folder."""
    path = folder / "record" / name
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fault = "it is missing" if isinstance(error, FileNotFoundError) else error
        raise ValueError(f"{path}: expected the record of a run: {fault}") from None
    return values


@dataclass(frozen=True, slots=True)
class Judged:
    """The judged calls of a run; arrays of shape (calls,), in order of folder and start.

    row: number of the call in its folder: the line of the records for `train --calls`, else the column `call`.
    raw: NaN where the model gave no score. flagged: whether the call reaches the certified band.
    """

    folder: Array
    row: Array
    caller: Array
    slice: Array
    nuisance: Array
    raw: Array
    flagged: Array


def write_judged(trained: Trained, path: Path) -> None:
    """Writes the calls of the certifying fold of a training."""
    pool, band = trained.pool, trained.card.thresholds[0]
    aligned = aligned_scores(trained.raw, trained.stratum, band)
    rows = np.flatnonzero(pool.certify & pool.judged.known)
    columns = {
        "folder": pool.folder[rows].astype(np.int32),
        "row": pool.call[rows].astype(np.int64),
        "caller": pool.caller[rows].astype(np.int64),
        "slice": pa.array(pool.judged.slice[rows].astype(str)).dictionary_encode(),
        "nuisance": pool.judged.nuisance[rows],
        "raw": trained.raw[rows],
        "flagged": aligned[rows] >= band.threshold,
    }
    with atomic_path(path) as part:
        pq.write_table(pa.table(columns), part, compression="zstd")


def read_judged(path: Path) -> Judged:
    """Returns the judged calls of a run."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        raise ValueError(f"{path}: expected the judged calls of a run; train it with this version") from None
    if table.column_names != list(COLUMNS):
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}")
    plain = {name: table[name].to_numpy() for name in COLUMNS if name != "slice"}
    return Judged(slice=np.asarray(table["slice"].to_pylist(), dtype=str), **plain)
