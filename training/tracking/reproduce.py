"""Reproduces the datasets and the model of a run from its record, and compares them byte for byte."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from callsieve.features.files.atomic import sha256
from callsieve.features.files.progress import Progress, silent
from callsieve.features.files.strict_json import decode
from callsieve.serving.bundle.bundle import MANIFEST, METADATA, SIGNATURE
from callsieve.serving.bundle.signing import SIGNER, read_public_key, verify_signature
from callsieve.training.adapt.adapting import Adaptation, adapt
from callsieve.training.adapt.answers import read_sheets
from callsieve.training.adapt.base import read_base
from callsieve.training.data.sources import Source, folder_source
from callsieve.training.judging.judge import summarise
from callsieve.training.model.provenance import versions
from callsieve.training.model.train import train, write_bundle
from callsieve.training.oversight.log.audit_log import has_log, payloads
from callsieve.training.oversight.log.run_paths import log_folder
from callsieve.training.reports.headline_list import scorer_metrics

from . import mlflow_read
from .record import ANSWERS, BASE, DATASETS, SETTINGS, VERSIONS, dataset_entries, read_record, settings_of

NO_METRICS = "metrics: the folder has no audit log with this run; expected --audit FOLDER"


@dataclass(frozen=True, slots=True)
class BaseAndAnswers:
    """The base and the answers of an adaptation, where they are now.

    Attributes:
        folder: of the base; by default the shipped bundle.
        trusted: public keys of its signer, as for `read_base`.
        sheets: filled-in sheets in their order; by default the files that the record names.
    """

    folder: Path | None = None
    trusted: Sequence[Ed25519PublicKey] | None = None
    sheets: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The outcome of `callsieve model replay`: names of what is equal, and of what differs and how.

    Attributes:
        same_bundle: whether the files of the bundle are equal, byte for byte.
    """

    model: str
    identical: bool
    same_bundle: bool
    equal: list[str]
    differences: list[str]


def reproduce(
    run: str,
    data: Sequence[Path] = (),
    *,
    uri: str | None = None,
    audit: Path | None = None,
    adapted: BaseAndAnswers = BaseAndAnswers(),
    threads: int = 0,
    progress: Progress = silent,
) -> Reproduction:
    """Trains or adapts again with the recorded settings, and compares.

    `audit`: folder of the audit log that has the run's metrics; by default `audit` in its folder. `data`: folders of
    the calls, in the order of the training; by default the folders that the record names.
    """
    if Path(run).is_dir():
        return reproduce_folder(Path(run), data, adapted, threads, progress, logged_metrics(Path(run), audit))
    if uri is None:
        raise ValueError(f"{run}: expected the folder of a run, or --tracking-uri and its id in MLflow")
    with tempfile.TemporaryDirectory() as folder:
        root = mlflow_read.download(uri, run, Path(folder))
        return reproduce_folder(root, data, adapted, threads, progress, mlflow_read.snapshot(uri, run)["metric"])


def logged_metrics(folder: Path, audit: Path | None) -> Mapping[str, float]:
    """Returns the metrics of a run's folder from the entry of the run in the audit log; none without such an entry."""
    log, bundle = log_folder(folder, audit), folder / "bundle"
    runs = [payload for _, payload in payloads(log, "run")] if has_log(log) and bundle.is_dir() else []
    metrics = [run["record"]["metric"] for run in runs if run["manifest_sha256"] == sha256(bundle / MANIFEST)]
    return metrics[-1] if metrics else {}


def reproduce_folder(
    folder: Path,
    data: Sequence[Path],
    adapted: BaseAndAnswers,
    threads: int,
    progress: Progress,
    metrics: Mapping[str, float],
) -> Reproduction:
    """Reproduces a run from a folder with its `bundle/` and `record/`."""
    if not (folder / "bundle").is_dir():
        raise ValueError(f"{folder}: expected the folder bundle/ of a run")
    settings = settings_of(read_record(folder, SETTINGS), threads)
    recorded = read_record(folder, DATASETS)
    sources = _sources(folder, data, recorded)
    adaptation = _adaptation(folder, adapted, recorded) if settings.base else None
    if adaptation is None:
        trained = train(sources, settings, progress)
    else:
        trained, _ = adapt(sources, settings, adaptation, progress)
    made = {name: entry["sha256"] for name, entry in dataset_entries(trained, "", adaptation).items()}
    expected = {name: entry["sha256"] for name, entry in recorded.items()}
    equal = [f"dataset {name}" for name in made if made[name] == expected.get(name)]
    differences = [
        f"dataset {name}" for name in sorted(made.keys() | expected.keys()) if made.get(name) != expected.get(name)
    ]
    with tempfile.TemporaryDirectory() as beside:
        # Any key will do: the comparison covers the signed manifest and the recorded signature, not this signature.
        write_bundle(trained, Path(beside) / "bundle", Ed25519PrivateKey.generate())
        same_files, other_files = compare_bundles(folder, Path(beside) / "bundle")
    measured = scorer_metrics("model", summarise(trained)["headline"])
    same_metrics, other_metrics = compare_metrics(metrics, measured) if metrics else ([], [NO_METRICS])
    differences += [*other_files, *other_metrics, *_versions(folder)]
    return Reproduction(
        model=_model(folder),
        identical=not differences,
        same_bundle=not other_files,
        equal=[*equal, *same_files, *same_metrics],
        differences=differences,
    )


def compare_metrics(recorded: Mapping[str, float], measured: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """Compares the recorded metrics of the headline, which gates refer to, with those that were measured again.

    >>> compare_metrics({"auc": 0.9, "bound": 0.5}, {"bound": 0.25, "catch": 1.0})
    ([], ['metric bound: recorded 0.5, measured 0.25', 'metric catch: recorded None, measured 1.0'])
    """
    differences = [
        f"metric {name}: recorded {recorded.get(name)}, measured {value}"
        for name, value in measured.items()
        if recorded.get(name) != value
    ]
    return [] if differences else [f"metrics: {len(measured)} of the headline"], differences


def compare_bundles(folder: Path, made: Path) -> tuple[list[str], list[str]]:
    """Compares the files of the recorded bundle with the reproduced ones: names of equal files, and differences."""
    equal: list[str] = []
    differences: list[str] = []
    recorded = folder / "bundle"
    names = {path.name for place in (recorded, made) for path in place.iterdir()} - {SIGNATURE}
    for name in sorted(names):
        pair = [place / name for place in (recorded, made)]
        if not all(path.exists() for path in pair):
            differences.append(f"{name}: {'not made again' if pair[0].exists() else 'not in the record'}")
        elif pair[0].read_bytes() == pair[1].read_bytes():
            equal.append(name)
        elif name == METADATA:
            cards = [decode(path.read_bytes()) for path in pair]
            differences.append(f"{name}: {', '.join(different(cards[0], cards[1]))}")
        else:
            differences.append(f"{name}: other bytes")
    try:
        verify_signature(
            (made / MANIFEST).read_bytes(),
            (recorded / SIGNATURE).read_bytes(),
            [read_public_key(folder / "record" / SIGNER)],
        )
        equal.append(f"{SIGNATURE}: signs the bundle made again")
    except ValueError as error:
        differences.append(f"{SIGNATURE}: {error}")
    return equal, differences


def different(first: Any, second: Any, where: str = "") -> list[str]:
    """Returns the dotted paths at which two JSON values differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        return [
            path
            for name in sorted(first.keys() | second.keys())
            for path in different(first.get(name), second.get(name), f"{where}.{name}" if where else name)
        ]
    return [] if first == second else [where]


def _versions(folder: Path) -> list[str]:
    recorded, here = read_record(folder, VERSIONS)["decisive"], versions()
    return [
        f"version of {name}: recorded {str(recorded.get(name))[:16]}, here {str(here.get(name))[:16]}"
        for name in sorted(recorded.keys() | here.keys())
        if recorded.get(name) != here.get(name)
    ]


def _sources(folder: Path, data: Sequence[Path], recorded: Mapping[str, Any]) -> list[Source]:
    roles = [entry["role"] for entry in decode((folder / "bundle" / METADATA).read_bytes())["training"]["folders"]]
    names = ["calls"] if len(roles) == 1 else [f"calls {place}" for place in range(1, len(roles) + 1)]
    paths = list(data) or [Path(recorded[name]["source"]) for name in names]
    if not data and (folder / "world").is_dir():
        paths = [folder / "world"]
    if len(paths) != len(roles) or not all(path.is_dir() for path in paths):
        expected = ", ".join(recorded[name]["source"] for name in names)
        raise ValueError(
            f"{folder}: expected --data FOLDER for each of {len(roles)} folders of calls; recorded: {expected}"
        )
    return [folder_source(path, role) for path, role in zip(paths, roles, strict=True)]


def _adaptation(folder: Path, places: BaseAndAnswers, recorded: Mapping[str, Any]) -> Adaptation:
    base, named = read_base(places.folder, places.trusted), read_record(folder, BASE)
    if base.manifest != named["manifest_sha256"]:
        raise ValueError(
            f"{folder}: adapted from model {named['model']}, manifest {named['manifest_sha256']}; "
            f"expected its folder as --bundle, got model {base.bundle.model_id}, manifest {base.manifest}"
        )
    names = [f"{ANSWERS} {place}" for place in range(1, 1 + sum(name.startswith(f"{ANSWERS} ") for name in recorded))]
    paths = list(places.sheets) or [Path(recorded[name]["source"]) for name in names]
    if len(paths) != len(names) or not all(path.is_file() for path in paths):
        expected = ", ".join(recorded[name]["source"] for name in names)
        raise ValueError(f"{folder}: expected --answers FILE for each of {len(names)} sheets; recorded: {expected}")
    return Adaptation(base, read_sheets(paths))


def _model(folder: Path) -> str:
    return hashlib.sha256((folder / "bundle" / MANIFEST).read_bytes()).hexdigest()[:12]
