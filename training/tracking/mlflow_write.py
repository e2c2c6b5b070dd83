"""MLflow: the record of every run, as it is written; `tracked.py` reads it back.

The store is a SQLite file by default, or a server's. No model flavour is used, so nothing is pickled: the registered
model is the signed bundle itself, which only `serving.bundle` opens. The client is used, never the fluent interface:
that one keeps the store in a global, and writes the login name of whoever started it into every run.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

try:
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunInfo, RunTag
    from mlflow.exceptions import MlflowException
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise ImportError("tracking needs MLflow: pip install 'callsieve[train]'") from error

EXPERIMENT = "callsieve"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # else MLflow's pages are those of a language model
SEARCHES = "callsieve searches"  # apart: what is tried on the training side is no run that may be promoted
MODEL = "callsieve"
ALIAS = "candidate"  # the newest run
CHAMPION = "champion"  # the promoted one
BATCH = 100  # parameters and tags that MLflow takes at a time
PARAMETER_LENGTH = 6000
DIGEST_LENGTH = 36


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the store's migration log and bars of downloads off a person's screen; MLflow's faults in one line.

    Raises:
        ValueError: for whatever MLflow refuses.
    """
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    bars = os.environ.get("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    except MlflowException as error:
        raise ValueError(f"MLflow: {' '.join(error.message.split())[:400]}") from error
    except SQLAlchemyError as error:  # of a store that is opened, MLflow lets them through
        told = str(getattr(error, "orig", error))  # without the statement and its values
        raise ValueError(f"MLflow: the store failed: {' '.join(told.split())[:400]}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars is None:
            del os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"]
        else:
            os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = bars


def client_of(uri: str) -> MlflowClient:
    """MLflow's client of a store; a new SQLite file gets its name when all its tables are there.

    MLflow makes them in hundreds of steps, and neither waits for another process that does so, nor goes on where one
    was killed.
    """
    if uri.startswith("sqlite:") and (name := make_url(uri).database):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
                made = new_store(Path(folder))
                with suppress(FileExistsError):  # another one was quicker
                    os.link(made, path)
    return MlflowClient(uri)


def new_store(folder: Path) -> Path:
    """A file with an empty store, which no connection holds open."""
    made, copy = folder / "made.db", folder / "copy.db"
    MlflowClient(f"sqlite:///{made.resolve()}").search_experiments(max_results=1)
    with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def record(
    uri: str,
    artifacts: Path,
    *,
    name: str,
    made_by: str,
    began: float,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    datasets: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, Any],
    files: Mapping[str, Path],
) -> dict[str, str]:
    """Write one finished run and register its bundle under the alias "candidate".

    Args:
        uri: of the tracking store.
        artifacts: where a new experiment keeps its artifacts; a server keeps them where it was told to.
        made_by: command or function.
        began: when, in Unix seconds.
        datasets: by name, each with `sha256` over all of it, `rows`, `source` and `context` (training, evaluation).
        figures: everything that was measured, kept as `figures.json`.
        files: folder of the artifact -> file or folder; "bundle" is registered as the model.
    Returns: the run id and the version of the registered model.
    """
    with quiet():
        client = client_of(uri)
        run = new_run(client, experiment_of(client, uri, artifacts), name, made_by, began)
        try:
            write_values(client, run.run_id, parameters, metrics, tags)
            client.log_inputs(run.run_id, [dataset_input(key, told) for key, told in datasets.items()])
            client.log_dict(run.run_id, dict(figures), "figures.json")
            for folder, path in files.items():
                send = client.log_artifacts if path.is_dir() else client.log_artifact
                send(run.run_id, str(path), folder)
        except BaseException:
            client.set_terminated(run.run_id, "FAILED")
            raise
        client.set_terminated(run.run_id)
        version = register(client, run.run_id, run.artifact_uri) if "bundle" in files else ""
    return {"run": run.run_id, "version": version}


def attach(uri: str, run: str, path: Path, folder: str) -> None:
    """Add a file to the artifacts of a run."""
    with quiet():
        client_of(uri).log_artifact(run, str(path), folder)


def new_run(
    client: MlflowClient, experiment: str, name: str, made_by: str, began: float, parent: str | None = None
) -> RunInfo:
    """A run that began before it is written, and what made it: a page of MLflow says both."""
    tags = {"mlflow.source.name": made_by, "mlflow.source.type": "LOCAL"}
    more = {"mlflow.parentRunId": parent} if parent else {}
    return client.create_run(experiment, start_time=round(1000 * began), tags=tags | more, run_name=name).info


def begin_search(
    uri: str, artifacts: Path, name: str, made_by: str, began: float, parameters: Mapping[str, Any]
) -> str:
    """The id of the run of a search: of its earlier part if there is one, opened again, else of a new run."""
    with quiet():
        client = client_of(uri)
        experiment = experiment_of(client, uri, artifacts, SEARCHES)
        known = client.search_runs([experiment], f"attributes.run_name = '{name}'", max_results=1)
        if known:
            client.update_run(known[0].info.run_id, "RUNNING")
            return str(known[0].info.run_id)
        run = new_run(client, experiment, name, made_by, began).run_id
        write_values(client, run, parameters, {}, {})
        return str(run)


def nested_run(
    uri: str, parent: str, name: str, began: float, parameters: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    """One finished trial of a search, nested in its run."""
    with quiet():
        client = client_of(uri)
        search = client.get_run(parent)
        made_by = search.data.tags["mlflow.source.name"]
        run = new_run(client, search.info.experiment_id, name, made_by, began, parent).run_id
        write_values(client, run, parameters, metrics, {})
        client.set_terminated(run)


def end_search(uri: str, run: str, metrics: Mapping[str, float], result: Path) -> None:
    """Close the run of a search with its best figures and its file of parameters."""
    with quiet():
        client = client_of(uri)
        write_values(client, run, {}, metrics, {})
        client.log_artifact(run, str(result))
        client.set_terminated(run)


def experiment_of(client: MlflowClient, uri: str, artifacts: Path, name: str = EXPERIMENT) -> str:
    """The id of an experiment, made if it is not there."""
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    location = None if uri.startswith("http") else artifacts.resolve().as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=KIND))
    except MlflowException as error:
        found = client.get_experiment_by_name(name)  # another one was quicker
        if found is None:
            raise error from None
        return str(found.experiment_id)


def write_values(
    client: MlflowClient, run: str, parameters: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]
) -> None:
    """All parameters, metrics and tags of a run.

    Raises:
        ValueError: if a parameter is longer than MLflow keeps: a shortened one would be a wrong one.
    """
    long = [key for key, value in parameters.items() if len(str(value)) > PARAMETER_LENGTH]
    if long:
        raise ValueError(f"parameter {long[0]}: expected at most {PARAMETER_LENGTH} characters")
    now = time.time_ns() // 1_000_000
    client.log_batch(run, metrics=[Metric(key, float(value), now, 0) for key, value in metrics.items()])
    settings = [Param(key, str(value)) for key, value in parameters.items()]
    words = [RunTag(key, value) for key, value in tags.items()]
    for some in range(0, max(len(settings), len(words)), BATCH):
        client.log_batch(run, params=settings[some : some + BATCH], tags=words[some : some + BATCH])


def dataset_input(name: str, told: Mapping[str, Any]) -> DatasetInput:
    """A dataset of a run. MLflow's own digest is of the first 10,000 rows; this one is of the whole data."""
    return DatasetInput(
        Dataset(
            name=name,
            digest=told["sha256"][:DIGEST_LENGTH],
            source_type="code",
            source=json.dumps({"tags": {"source": told["source"]}}),
            profile=json.dumps({"sha256": told["sha256"], "num_rows": told["rows"]}),
        ),
        [InputTag("mlflow.data.context", told["context"])],
    )


def register(client: MlflowClient, run: str, artifact_uri: str) -> str:
    """Register the run's bundle as the next version of the model."""
    try:
        client.create_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(MODEL, f"{artifact_uri}/bundle", run_id=run)
    client.set_registered_model_alias(MODEL, ALIAS, version.version)
    return str(version.version)


def move_champion(uri: str, version: str) -> None:
    """Let the alias "champion" point to a version of the model."""
    with quiet():
        client_of(uri).set_registered_model_alias(MODEL, CHAMPION, version)
