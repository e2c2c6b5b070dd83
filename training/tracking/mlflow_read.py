"""What MLflow says of runs and of the registered model now, read back from the store that `track.py` writes.

All that MLflow's client shows of a run or a version, and that is known when the run is logged. Not when a version or
the model was changed last, for MLflow's own moves change that, nor columns of the store that no client shows
(`source_name` and the like of old versions of MLflow, `entry_point_name`, `deleted_time`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import sha256

from .mlflow_write import (  # first, for it says what to install where there is no MLflow
    EXPERIMENT,
    MODEL,
    client_of,
    quiet,
)

# isort: split
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, ViewType
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

CREATED = "creation time"


def registry(uri: str) -> dict[str, dict[str, Any]]:
    """The registered model as it stands: its aliases, all that is said of each version, and what is noted of it."""
    with quiet():
        client = client_of(uri)
        try:
            model = client.get_registered_model(MODEL)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {"aliases": {}, "versions": {}, "notes": {}}
        found = client.search_model_versions(f"name = '{MODEL}'", max_results=10_000)
        versions = {str(one.version): version_json(client, one) for one in found}
    return {
        "aliases": {name: str(version) for name, version in dict(model.aliases).items()},
        "versions": versions,
        "notes": notes(model),
    }


def version_json(client: MlflowClient, version: ModelVersion) -> dict[str, Any]:
    """A version as plain values; `download` is where whoever loads it is sent, which need not be its source."""
    return {
        "run": version.run_id,
        "source": version.source,
        "download": client.get_model_version_download_uri(MODEL, version.version),
        "stage": version.current_stage or "None",
        CREATED: version.creation_timestamp,
        **notes(version),
        **seldom(version),
    }


def seldom(version: ModelVersion) -> dict[str, str]:
    """What MLflow shows of a version and nobody has said of one of ours: whose it is, where its run is to be seen, a
    message, and a status other than that it is ready."""
    told = {
        "user": version.user_id,
        "run link": version.run_link,
        "status message": version.status_message,
        "status": version.status,
    }
    return {name: str(word) for name, word in told.items() if word and (name, word) != ("status", "READY")}


def notes(told: ModelVersion | RegisteredModel) -> dict[str, str]:
    """What persons may write to a model or a version: its description and its tags."""
    words = {"description": told.description} if told.description else {}
    return words | {f"tag {name}": str(value) for name, value in dict(told.tags).items()}


def finished_runs(uri: str, experiments: Collection[str] = ()) -> list[str]:
    """The ids of all finished runs, deleted ones too, of the experiment and of others, of these ids."""
    with quiet():
        client = client_of(uri)
        named = client.get_experiment_by_name(EXPERIMENT)
        places = sorted({*experiments, *([str(named.experiment_id)] if named else [])})
        found: list[str] = []
        token: str | None = "" if places else None
        while token is not None:
            page = client.search_runs(
                places,
                "attributes.status = 'FINISHED'",
                run_view_type=ViewType.ALL,
                page_token=token or None,
            )
            found += [run.info.run_id for run in page]
            token = page.token or None
    return found


def snapshot(uri: str, run: str) -> dict[str, dict[str, Any]]:
    """All that MLflow says of a run, as plain values: by section ("metric", "artifact", ...) and name.

    Raises:
        ValueError: if there is no such run.
    """
    with quiet():
        client = client_of(uri)
        try:
            found = client.get_run(run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise ValueError("MLflow has no such run") from None
        info, data = found.info, found.data
        names = ("run_name", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri", "experiment_id")
        inputs = [dataset_json(one) for one in found.inputs.dataset_inputs]
        return {
            "run": {name: getattr(info, name) for name in (*names, "user_id")},
            "experiment": experiment_json(client, info.experiment_id),
            "parameter": dict(data.params),
            "tag": dict(data.tags),
            "metric": dict(data.metrics),
            "moment of metric": {point.key: [point.step, point.timestamp] for point in data.to_proto().metrics},
            "history of metric": {
                name: [[point.step, point.timestamp, point.value] for point in client.get_metric_history(run, name)]
                for name in data.metrics
            },
            "dataset": dict(zip(distinct([one["name"] for one in inputs]), inputs, strict=True)),
            "artifact": artifact_hashes(client, run),
        }


def dataset_json(told: DatasetInput) -> dict[str, Any]:
    """A dataset of a run as plain values."""
    described: dict[str, Any] = told.dataset.to_dictionary()
    return described | {"tags": {tag.key: tag.value for tag in told.tags}}


def experiment_json(client: MlflowClient, experiment: str) -> dict[str, Any]:
    """An experiment as plain values."""
    told = client.get_experiment(experiment)
    names = ("name", "artifact_location", "lifecycle_stage")
    return {name: getattr(told, name) for name in names} | {f"tag {name}": word for name, word in told.tags.items()}


def distinct(names: Sequence[str]) -> list[str]:
    """Names, the second of the same and those after it with a number: no dataset hides behind another.

    >>> distinct(["calls", "reports", "calls"])
    ['calls', 'reports', 'calls (2)']
    """
    seen = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [name if nth == 1 else f"{name} ({nth})" for name, nth in zip(names, seen, strict=True)]


def artifact_hashes(client: MlflowClient, run: str) -> dict[str, str]:
    """SHA-256 of every artifact of a run by its path; one that MLflow does not hand out, such as a link, is not there,
    and neither is any whose folder is not where MLflow says."""
    # One by one, MLflow looks the run up for each; all at once, one that is not handed out is the end of all.
    with suppress(MlflowException, OSError), tempfile.TemporaryDirectory() as folder:
        root = Path(client.download_artifacts(run, "", folder))
        return {path.relative_to(root).as_posix(): sha256(path) for path in root.rglob("*") if path.is_file()}
    return hashes_one_by_one(client, run)


def hashes_one_by_one(client: MlflowClient, run: str, within: str = "") -> dict[str, str]:
    """SHA-256 of every artifact in a folder of a run that MLflow hands out."""
    found: dict[str, str] = {}
    with suppress(MlflowException, OSError):
        for one in client.list_artifacts(run, within):
            if one.is_dir:
                found |= hashes_one_by_one(client, run, one.path)
                continue
            with suppress(MlflowException, OSError), tempfile.TemporaryDirectory() as folder:
                found[one.path] = sha256(Path(client.download_artifacts(run, one.path, folder)))
    return found


def download(uri: str, run: str, folder: Path) -> Path:
    """Fetch all artifacts of a run into a folder.

    Raises:
        ValueError: if MLflow has no such run.
    """
    with quiet():
        return Path(client_of(uri).download_artifacts(run, "", str(folder)))
