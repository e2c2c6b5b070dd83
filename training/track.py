"""MLflow: the record of every run. The only place that imports it.

The store is a SQLite file by default. No model flavour is used, so nothing is pickled: the registered model is
the signed bundle itself, which only `serving.bundle` opens.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

try:
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
except ImportError as error:
    raise ImportError("tracking needs MLflow: pip install 'callsieve[train]'") from error

EXPERIMENT = "callsieve"
MODEL = "callsieve"
ALIAS = "candidate"


def default_uri(folder: Path) -> str:
    """The SQLite store in a folder."""
    return f"sqlite:///{(folder / 'mlflow.db').resolve()}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the store's migration log off a person's screen."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def record(
    uri: str,
    artifacts: Path,
    *,
    name: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    figures: Mapping[str, Any],
    files: Mapping[str, Path],
) -> dict[str, str]:
    """Write one finished run and register its bundle under the alias "candidate".

    Args:
        uri: of the tracking store.
        artifacts: where a new experiment keeps its artifacts.
        figures: everything that was measured, kept as `figures.json`.
        files: folder of the artifact -> file or folder; "bundle" is registered as the model.
    Returns: the run id and the version of the registered model.
    """
    with quiet():
        mlflow.set_tracking_uri(uri)
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        number = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(EXPERIMENT, artifact_location=artifacts.resolve().as_uri())
        )
        with mlflow.start_run(experiment_id=number, run_name=name) as run:
            mlflow.log_params({key: str(value)[:500] for key, value in parameters.items()})
            mlflow.log_metrics({key: float(value) for key, value in metrics.items()})
            mlflow.set_tags(dict(tags))
            mlflow.log_dict(dict(figures), "figures.json")
            for folder, path in files.items():
                if path.is_dir():
                    mlflow.log_artifacts(str(path), folder)
                else:
                    mlflow.log_artifact(str(path), folder)
        version = register(client, run.info.run_id, run.info.artifact_uri) if "bundle" in files else ""
    return {"run": run.info.run_id, "version": version}


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
