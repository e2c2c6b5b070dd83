"""The record of a run: settings, versions, datasets by fingerprint, metrics of slices, and tables as CSV.

A run is reproduced from the folder `record/`: `settings.json`, `versions.json`, `datasets.json`, the gates and the
signer's public key. `reference.json` in the same folder describes the days of its calls.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import write_atomic
from callsieve.serving.bundle.signing import SIGNER
from callsieve.training.data.label_policy import policy_of
from callsieve.training.judging.figures import Headline
from callsieve.training.judging.judge import headline_metrics
from callsieve.training.judging.run_figures import DatasetEntry, RunFigures
from callsieve.training.language import language
from callsieve.training.model.fit import lightgbm_parameters
from callsieve.training.model.matrix import array_hash
from callsieve.training.model.provenance import source_hash, versions
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import Trained
from callsieve.training.reports.run_page import by_organisation, one_in, share

SETTINGS, VERSIONS, DATASETS, GATES = "settings.json", "versions.json", "datasets.json", "gates.toml"


def settings_json(settings: Settings) -> dict[str, Any]:
    """Returns the settings as plain values; `threads` is left out, since no result depends on it."""
    values = {name: getattr(settings, name) for name in Settings.__dataclass_fields__ if name != "threads"}
    return values | {"label_policy": settings.label_policy.to_json(), "features": list(settings.features)}


def settings_of(values: Mapping[str, Any], threads: int) -> Settings:
    """Returns the settings of a record.

    Raises:
        ValueError: if a field is missing or unknown.
    """
    try:
        fields = {**values, "label_policy": policy_of(values["label_policy"]), "features": tuple(values["features"])}
        return Settings(**fields, threads=threads)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{SETTINGS}: expected the settings of this version of callsieve: {error}") from None


def dataset_entries(trained: Trained, source: str) -> dict[str, DatasetEntry]:
    """Returns every table of the run by name, each with the SHA-256 of the whole table."""
    entries: dict[str, DatasetEntry] = {}

    def add(name: str, sha256: str, rows: int, context: str, source: str) -> None:
        entries[name] = {"sha256": sha256, "rows": rows, "source": source, "context": context}

    for place, folder in enumerate(trained.folders, 1):
        several = f" {place}" if len(trained.folders) > 1 else ""
        for table in folder.tables:
            add(f"{table.name}{several}", table.sha256, table.rows, table.context, folder.name or source)
            entries[f"{table.name}{several}"]["purpose"] = folder.purpose
    add("vectors", array_hash([trained.pool.row, trained.X]), len(trained.pool.row), "training", source)
    for name, sha256 in trained.fitted.sides.items():
        add(f"labelled {name}", sha256, trained.fitted.rows[name], "training", source)
    return entries


def write_record(
    folder: Path,
    settings: Settings,
    datasets: Mapping[str, DatasetEntry],
    code: Mapping[str, str],
    gates: bytes,
    signer: Path,
) -> None:
    """Writes the folder that a run is reproduced from.

    Args:
        datasets: as from `dataset_entries`.
        code: as from `provenance.commit`, called when the run began.
        gates: bytes of the gates file.
        signer: public key file of the run.
    """
    folder.mkdir()
    installed = {package.name: package.version for package in distributions() if package.name}
    made_by = {"decisive": versions(), **code, "source_sha256": source_hash(), "installed": installed}
    for name, value in ((SETTINGS, settings_json(settings)), (VERSIONS, made_by), (DATASETS, dict(datasets))):
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        write_atomic(folder / name, (text + "\n").encode())
    write_atomic(folder / GATES, gates)
    shutil.copyfile(signer, folder / SIGNER)


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """Returns a file of the record in a run's folder.

    Raises:
        ValueError: in one line, if the file is missing or not JSON.
    """
    path = folder / "record" / name
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected the record of a run: {error}") from None
    return values


def run_parameters(settings: Settings, figures: RunFigures) -> dict[str, Any]:
    """Returns the parameters of a run in MLflow: its settings, the label policy and LightGBM's parameters."""
    policy = settings.label_policy.to_json()
    return {
        **{
            name: value
            for name, value in asdict(settings).items()
            if name not in ("features", "label_policy", "parameters")
        },
        "features": len(settings.features),  # their names are in settings.json and in the bundle
        "label_policy": settings.label_policy.version,
        "calls": figures["data"]["calls"],
        "days": figures["data"]["days"],
        **{f"label_policy.{name}": value for name, value in policy.items() if name != "version"},
        **{f"lightgbm_{name}": value for name, value in of_lightgbm(settings, figures["rows"]["train"]).items()},
    }


def of_lightgbm(settings: Settings, rows: int) -> dict[str, Any]:
    """Returns LightGBM's parameters of the risk model, without those that change no model; each member has its own
    seed.

    Args:
        rows: number of training rows.
    """
    values = lightgbm_parameters(rows, classes=1, seed=settings.seed, threads=0, parameters=settings.parameters)
    return {name: value for name, value in values.items() if name not in ("seed", "num_threads", "verbosity")}


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Returns the mean of several learning curves, up to the end of the shortest.

    >>> mean_curve([[0.5, 0.25, 0.1], [0.25, 0.25]])
    [0.375, 0.25]
    """
    return [sum(values) / len(values) for values in zip(*curves, strict=False)]


def run_tags(figures: RunFigures) -> dict[str, str]:
    """Returns the tags of a run in MLflow, which identify its inputs and its code."""
    return {
        "data_sha256": figures["data"]["fingerprint"],
        "catalogue_sha256": figures["catalogue"],
        "gates_sha256": figures["gates"]["sha256"],
        "model_id": figures["model"]["id"],
        "source_sha256": source_hash(),
        "certified": str(figures["headline"]["model"]["certified"]).lower(),
        "gates": f"refused by {', '.join(refused)}" if (refused := figures["gates"]["refused"]) else "passed",
        **{f"version.{name}": version for name, version in versions().items() if name != "source"},
        **figures["code"],
        "mlflow.note.content": description(figures),  # MLflow shows it first on the page of the run
    }


def description(figures: RunFigures) -> str:
    """Returns the headline of a run in Markdown and in English, and where to read on."""
    head = figures["headline"]["model"]
    catch = head["catch"]["call"]
    certified = "certified" if head["certified"] else "not certified"
    refused = f", refused by gates on {', '.join(figures['gates']['refused'])}" if figures["gates"]["refused"] else ""
    with language("en"):
        bound, organisation, target = one_in(head["bound"]), by_organisation(head), one_in(head["target"])
        rate, low, high = (share(value) for value in (catch["rate"], catch["low"], catch["high"]))
    return (
        f"**{certified}{refused}**: {head['false_calls']:,} of {head['benign_calls']:,} innocent calls were flagged, "
        f"of groups unseen in training. That is at most {bound} (95 % upper bound, calls as independent), "
        f"{organisation}; the target is {target}. {rate} of the nuisance calls were caught ({low} to {high}). "
        f"Evaluated on {figures['data']['judged_on']} ({figures['data']['source']}).\n\n"
        "Among the artifacts: `report/report.html`, `report/audit.html`, `documents/model_card.md`."
    )


def run_metrics(figures: RunFigures) -> dict[str, float]:
    """Returns the metrics of a run in MLflow, which gates refer to: its headline, its slices and its looks."""
    looks = {"test_fold_touches": float(figures["gates"]["touches"] or 0)}
    return headline_metrics(figures) | slice_metrics(figures) | looks


def slice_metrics(figures: RunFigures) -> dict[str, float]:
    """Returns the figures of slices, buckets, class models and evasions as flat metrics, such as
    "slice/benign/courier/bound".

    Figures that are None are left out.
    """
    values: dict[str, float | None] = {}
    for row in figures["slices"]:
        name = re.sub(r"[^\w .:-]", "-", row["slice"], flags=re.ASCII)
        prefix = f"slice/{'nuisance' if row['nuisance'] else 'benign'}/{name}"
        values |= {
            f"{prefix}/calls": row["calls"],
            f"{prefix}/callers": row["callers"],
            f"{prefix}/flagged": row["flagged"],
            f"{prefix}/rate": row["rate"],
            f"{prefix}/low": row["low"],
            f"{prefix}/high": row["high"],
            f"{prefix}/bound": row["bound"],
            f"{prefix}/certified": row["certified"],
        }
    for bucket in figures["buckets"]:
        values[f"test/bucket/{bucket['bucket']}/catch"] = bucket["catch"]
    for classes in figures["kinds"]:
        prefix = f"test/kind/{classes['kind']}"
        values |= {
            f"{prefix}/right": classes["right"],
            f"{prefix}/commonest": classes["commonest"],
            f"{prefix}/sure": classes["sure"],
        }
    for evasion in figures["attacks"]:
        prefix, known_group = f"test/attack/{evasion['attack']}", evasion["known_group"]["calls_through_a_number"]
        values |= {
            f"{prefix}/caught": evasion["caught"]["rate"],
            f"{prefix}/caught_by_rules": evasion["caught_by_rules"]["rate"],
            f"{prefix}/caught_by_policy": evasion["caught_by_policy"]["rate"],
            f"{prefix}/calls_through_a_number": evasion["calls_through_a_number"]["mean"],
            f"{prefix}/calls_through_a_number_of_a_known_group": known_group["mean"],
        }
    return {name: float(value) for name, value in values.items() if value is not None}


def write_tables(figures: RunFigures, folder: Path) -> None:
    """Writes the curves and tables of a run as CSV files, without those that have no rows."""
    folder.mkdir()
    heads: dict[str, Headline] = {
        "model": figures["headline"]["model"],
        "policy": figures["headline"]["policy"],
        "rule": figures["headline"]["rule"],
        **figures["baselines"],
    }
    curve = figures["detection_curve"]
    rows: dict[str, Sequence[Mapping[str, object]]] = {
        "slices": figures["slices"],
        "buckets": figures["buckets"],
        "precision_at_prior": figures["precision_at_prior"],
        "reliability": figures["reliability"]["bins"],
        "reliability_by": figures["reliability_by"],
        "kinds": figures["kinds"],
        "attacks": [flatten(evasion) for evasion in figures["attacks"]],
        "top_features": figures["model"]["top_features"],
        "baselines": [{"way": name, **baseline_row(head)} for name, head in heads.items()],
        **{
            f"curve_{scorer}": [{"error": error, "catch": catch} for error, catch in points]
            for scorer, points in figures["curve"].items()
        },
        "detection": [
            {"calls": calls, "model": model, "rule": rule}
            for calls, model, rule in zip(curve["calls"], curve["model"], curve["rule"], strict=True)
        ]
        if curve
        else [],
    }
    for name, table in rows.items():
        _write_rows(folder / f"{name}.csv", table)


def baseline_row(head: Headline) -> dict[str, object]:
    """Returns the headline of one scorer as a row; all scorers have the same columns in the same order."""
    low, high = head["bootstrap"]
    columns = {name: value for name, value in head.items() if name not in ("bootstrap", "rule", "policy")}
    return flatten(columns | {"bootstrap": {"low": low, "high": high}})


def flatten(figures: Mapping[str, object]) -> dict[str, object]:
    """Returns nested figures as one row, with dotted names such as "detection.median"."""
    row: dict[str, object] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            row |= {f"{name}.{key}": item for key, item in flatten(value).items()}
        else:
            row[name] = value
    return row


def _write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(path, text.getvalue().encode())
