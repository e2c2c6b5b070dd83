"""Reads runs and the registered model back from MLflow, for comparison with the values that `mlflow_write` wrote.

It reads everything that MLflow's client shows of a run or a version and that is known when the run is logged.
It leaves out when a version or the model was last changed, since MLflow's own moves change that.
It also leaves out columns of the store that no client shows: `source_name` and the like of old versions of MLflow,
`entry_point_name`, `deleted_time`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import sha256
from callsieve.training.language import gettext
from callsieve.training.oversight.log.run_paths import sqlite_path

from .mlflow_write import (  # before MLflow itself, since it says what to install where MLflow is missing
    ARTIFACT,
    LOG,
    MODEL,
    client_of,
    experiment_name,
    quiet,
)

# isort: split
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Experiment, ViewType
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

CREATED = "creation time"


def registry(uri: str) -> dict[str, dict[str, Any]]:
    """Returns the registered model: its aliases, its versions and its notes."""
    with quiet():
        client = client_of(uri)
        try:
            model = client.get_registered_model(MODEL)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {"aliases": {}, "versions": {}, "notes": {}}
        versions = client.search_model_versions(f"name = '{MODEL}'", max_results=10_000)
        return {
            "aliases": {name: str(version) for name, version in dict(model.aliases).items()},
            "versions": {str(version.version): version_json(client, version, uri) for version in versions},
            "notes": notes(model),
        }


def version_json(client: MlflowClient, version: ModelVersion, uri: str) -> dict[str, object]:
    """Returns a version as plain values; a client loads it from `download`, which may differ from `source`."""
    return {
        "run": version.run_id,
        "source": within(uri, version.source),
        "download": within(uri, client.get_model_version_download_uri(MODEL, version.version)),
        "stage": version.current_stage or "None",
        CREATED: version.creation_timestamp,
        **notes(version),
        **unexpected(version),
    }


def unexpected(version: ModelVersion) -> dict[str, str]:
    """Returns the fields of a version that callsieve never sets: user, run link, message, and a status other than
    READY.
    """
    fields = {
        "user": version.user_id,
        "run link": version.run_link,
        "status message": version.status_message,
        "status": version.status,
    }
    return {name: str(value) for name, value in fields.items() if value and (name, value) != ("status", "READY")}


def notes(entity: ModelVersion | RegisteredModel) -> dict[str, str]:
    """Returns the notes of people on a model or a version: its description and its tags."""
    description = {"description": entity.description} if entity.description else {}
    return description | {f"tag {name}": str(value) for name, value in dict(entity.tags).items()}


def all_runs(uri: str, experiments: Collection[str] = (), log: str = "") -> dict[str, str]:
    """Returns the status of all runs by id, deleted runs included."""
    with quiet():
        client = client_of(uri)
        own = client.get_experiment_by_name(experiment_name())
        ids = {*experiments, *([str(own.experiment_id)] if own else [])}
        every = [str(experiment.experiment_id) for experiment in _experiments(client)]
        return _runs(client, sorted(ids), "") | (_runs(client, every, f"tags.{LOG} = '{log}'") if log else {})


def _runs(client: MlflowClient, experiments: Sequence[str], condition: str) -> dict[str, str]:
    runs: dict[str, str] = {}
    token: str | None = "" if experiments else None
    while token is not None:
        page = client.search_runs(experiments, condition, run_view_type=ViewType.ALL, page_token=token or None)
        runs |= {run.info.run_id: run.info.status for run in page}
        token = page.token or None
    return runs


def experiment_names(uri: str) -> list[str]:
    """Returns the names of all experiments, deleted ones included."""
    with quiet():
        return [experiment.name for experiment in _experiments(client_of(uri))]


def _experiments(client: MlflowClient) -> list[Experiment]:
    return list(client.search_experiments(view_type=ViewType.ALL, max_results=10_000))


def other_models(uri: str) -> dict[str, dict[str, str]]:
    """Returns the aliases of all other registered models by name, each with the run of its version."""
    with quiet():
        client = client_of(uri)
        models = client.search_registered_models(max_results=1000)
        return {
            model.name: {
                alias: str(client.get_model_version(model.name, version).run_id)
                for alias, version in dict(model.aliases).items()
            }
            for model in models
            if model.name != MODEL
        }


def artifact_bytes(uri: str, run: str, path: str) -> bytes:
    """Returns the content of an artifact of a run."""
    with quiet(), tempfile.TemporaryDirectory() as folder:
        try:
            return Path(client_of(uri).download_artifacts(run, path, folder)).read_bytes()
        except OSError as error:
            raise ValueError(f"artifact {path}: {error}") from None


def snapshot(uri: str, run: str) -> dict[str, dict[str, Any]]:
    """Returns all that MLflow shows of a run, as plain values: by section ("metric", "artifact", ...) and name."""
    with quiet():
        client = client_of(uri)
        try:
            entity = client.get_run(run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise ValueError(gettext("MLflow has no such run")) from None
        info, data = entity.info, entity.data
        names = ("run_name", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri", "experiment_id")
        datasets = [dataset_json(dataset) for dataset in entity.inputs.dataset_inputs]
        return {
            "run": {name: within(uri, getattr(info, name)) for name in (*names, "user_id")},
            "experiment": experiment_json(client, info.experiment_id, uri),
            "parameter": dict(data.params),
            "tag": dict(data.tags),
            "metric": dict(data.metrics),
            "moment of metric": {point.key: [point.step, point.timestamp] for point in data.to_proto().metrics},
            "history of metric": {
                name: [[point.step, point.timestamp, point.value] for point in client.get_metric_history(run, name)]
                for name in data.metrics
            },
            "dataset": dict(zip(distinct([dataset["name"] for dataset in datasets]), datasets, strict=True)),
            "artifact": artifact_hashes(client, run),
        }


def within(uri: str, value: Any) -> Any:
    """Returns a place beside a SQLite store relative to it, as "./artifacts", because both may move.

    Any other value is returned unchanged.
    """
    path = sqlite_path(uri)
    folder = f"{path.parent.as_uri()}/" if path is not None else ""
    beside = folder and isinstance(value, str) and value.startswith(folder)
    return f"./{value.removeprefix(folder)}" if beside else value


def log_of(uri: str, run: str) -> str:
    """Returns the id of the audit log that has the entry of a run, as its tag says; "" if there is no tag or no run."""
    with quiet(), suppress(MlflowException):
        return str(client_of(uri).get_run(run).data.tags.get(LOG, ""))
    return ""


def dataset_json(dataset: DatasetInput) -> dict[str, Any]:
    """Returns a dataset of a run as plain values."""
    values: dict[str, Any] = dataset.dataset.to_dictionary()
    return values | {"tags": {tag.key: tag.value for tag in dataset.tags}}


def experiment_json(client: MlflowClient, experiment: str, uri: str) -> dict[str, object]:
    """Returns an experiment as plain values."""
    entity = client.get_experiment(experiment)
    names = ("name", "artifact_location", "lifecycle_stage")
    values = {name: within(uri, getattr(entity, name)) for name in names}
    return values | {f"tag {name}": tag for name, tag in entity.tags.items()}


def distinct(names: Sequence[str]) -> list[str]:
    """Returns the names in which repeated ones are numbered, so that no dataset hides behind another.

    >>> distinct(["calls", "reports", "calls"])
    ['calls', 'reports', 'calls (2)']
    """
    seen = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [name if nth == 1 else f"{name} ({nth})" for name, nth in zip(names, seen, strict=True)]


def artifact_hashes(client: MlflowClient, run: str) -> dict[str, str]:
    """Returns the SHA-256 of every artifact of a run by its path.

    Artifacts that MLflow does not serve, such as links, are left out, and so are all artifacts of a missing folder.
    """
    # One download of everything is faster, since MLflow looks the run up for each. But one refused artifact fails it.
    with suppress(MlflowException, OSError), tempfile.TemporaryDirectory() as folder:
        root = Path(client.download_artifacts(run, "", folder))
        return {path.relative_to(root).as_posix(): sha256(path) for path in root.rglob("*") if path.is_file()}
    return hashes_one_by_one(client, run)


def hashes_one_by_one(client: MlflowClient, run: str, within: str = "") -> dict[str, str]:
    """Returns the SHA-256 of every artifact in a folder of a run that MLflow serves."""
    hashes: dict[str, str] = {}
    with suppress(MlflowException, OSError):
        for artifact in client.list_artifacts(run, within):
            if artifact.is_dir:
                hashes |= hashes_one_by_one(client, run, artifact.path)
                continue
            with suppress(MlflowException, OSError), tempfile.TemporaryDirectory() as folder:
                hashes[artifact.path] = sha256(Path(client.download_artifacts(run, artifact.path, folder)))
    return hashes


def download(uri: str, run: str, folder: Path) -> Path:
    """Fetches all artifacts of a run into a folder, with the bundle of its model in `bundle`, as in a run's folder."""
    with quiet():
        root = Path(client_of(uri).download_artifacts(run, "", str(folder)))
    if (root / ARTIFACT).is_dir():
        shutil.copytree(root / ARTIFACT / "bundle", root / "bundle")
    return root
