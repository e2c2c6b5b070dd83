"""Writes runs into MLflow; `mlflow_read` reads them back.

The store is a SQLite file by default, or a server. The registered model is the signed bundle, which `mlflow_model`
opens for `mlflow.pyfunc`; nothing is pickled. Only MLflow's client is used, because its fluent interface keeps the
store in a global.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from callsieve.features.files.ownership import OWNER_ONLY
from callsieve.training.judging.run_figures import DatasetEntry, TrackedRun
from callsieve.training.oversight.log import audit_log

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

try:
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunInfo, RunTag
    from mlflow.exceptions import MlflowException
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise ImportError("tracking needs MLflow: pip install 'callsieve[train]'") from error

EXPERIMENT = "callsieve"  # unless MLFLOW_EXPERIMENT_NAME names another
USER, NOTE = "mlflow.user", "mlflow.note.content"  # tags that MLflow shows on the page of a run
LOG = "audit_log"  # tag of a run: the log that has its entry
KIND = {"mlflow.experimentKind": "custom_model_development"}  # otherwise MLflow shows the pages for language models
MODEL = "callsieve"
OF_VERSION = ("certified", "data_sha256", "gates", "model_id")  # tags of a run that its version has, too
ARTIFACT = "model"  # of a run, which is registered: runs:/ID/model
ALIAS = "candidate"  # the newest run whose model may be promoted
CHAMPION = "champion"  # the promoted one
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
POINTS = 1000  # metrics that MLflow accepts in one request
BATCH = 100  # parameters and tags that MLflow accepts in one request
PARAMETER_LENGTH = 6000
DIGEST_LENGTH = 36


@contextmanager
def quiet() -> Iterator[None]:
    """Hides the store's migration log and MLflow's progress bars, and turns MLflow's errors into one line."""
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
    except SQLAlchemyError as error:  # MLflow does not wrap errors of opening a store
        text = str(getattr(error, "orig", error))  # without the statement and its values
        raise ValueError(f"MLflow: the store failed: {' '.join(text.split())[:400]}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars is None:
            del os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"]
        else:
            os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = bars


def client_of(uri: str) -> MlflowClient:
    """MLflow's client of a store; a new SQLite file gets its name once it has all tables.

    MLflow creates the tables in hundreds of steps. It neither waits for another process that does so, nor resumes after
    a process was killed.
    """
    if uri.startswith("sqlite:") and (name := make_url(uri).database):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
                made = new_store(Path(folder))
                with suppress(FileExistsError):  # another process was faster
                    os.link(made, path)
        follow_move(path.resolve())
    return MlflowClient(uri)


def follow_move(store: Path) -> None:
    """Writes where the artifacts are now into a SQLite store that was moved or copied together with them.

    MLflow writes absolute paths. They are changed if the folder of that name is beside the store, and the old place is
    gone or has a store of the same name beside it: this store is then a copy, and has artifacts of its own.
    """
    with closing(sqlite3.connect(store)) as database, database:
        for (old,) in database.execute("SELECT artifact_location FROM experiments").fetchall():
            former = Path(unquote(urlsplit(old or "").path))
            folder = store.parent / former.name
            if not former.is_absolute() or former == folder or not folder.is_dir():
                continue
            if former.exists() and not (former.parent / store.name).exists():
                continue
            for table, column in PLACES:
                moved = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"  # noqa: S608
                database.execute(moved, (folder.as_uri(), len(old) + 1, len(old), old))


def new_store(folder: Path) -> Path:
    """Creates a file with an empty store that only its owner can read; no connection keeps it open."""
    made, copy = folder / "made.db", folder / "copy.db"
    MlflowClient(f"sqlite:///{made.resolve()}").search_experiments(max_results=1)
    with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    copy.chmod(OWNER_ONLY)
    return copy


def write_run(
    uri: str,
    artifacts: Path,
    *,
    name: str,
    made_by: str,
    began: float,
    parameters: Mapping[str, object],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    datasets: Mapping[str, DatasetEntry],
    figures: Mapping[str, object],
    files: Mapping[str, Path],
    model: Callable[[Path], None] | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
    candidate: bool = True,
) -> TrackedRun:
    """Writes one finished run and registers its model, under the alias "candidate" unless that is not wanted.

    `began`: Unix seconds.
    Returns: the run id and the version of the registered model, "" without a model.
    """
    with quiet():
        client = client_of(uri)
        experiment = experiment_of(client, uri, artifacts)
        run = new_run(client, experiment, name, made_by, began, {LOG: tags[LOG]} if LOG in tags else None)
        try:
            inputs = [dataset_input(key, entry) for key, entry in datasets.items()]
            client.log_inputs(run.run_id, inputs)
            client.log_dict(run.run_id, dict(figures), "figures.json")
            for folder, path in files.items():
                send = client.log_artifacts if path.is_dir() else client.log_artifact
                send(run.run_id, str(path), folder)
            of_model = {} if model is None else log_model(client, run, model, tags)
            if of_model and inputs:
                of_model |= {"dataset_name": inputs[0].dataset.name, "dataset_digest": inputs[0].dataset.digest}
            by_group = dict(sorted(metrics.items(), key=lambda metric: "/" in metric[0]))  # MLflow shows a dozen
            write_values(client, run.run_id, parameters, by_group, tags, of_model)
            write_curves(client, run.run_id, curves or {})
        except BaseException:
            client.set_terminated(run.run_id, "FAILED")
            raise
        client.set_terminated(run.run_id)
        version = register(client, run.run_id, candidate=candidate) if model is not None else ""
    return {"run": run.run_id, "version": version}


def log_model(
    client: MlflowClient, run: RunInfo, save: Callable[[Path], None], tags: Mapping[str, str]
) -> dict[str, str]:
    """Adds the MLflow model that `save` writes into a new folder to a run, and to MLflow's list of models.

    Its files stay among the artifacts of the run, so the list has it as external.
    Returns: its id, by which metrics name their model.
    """
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder, ARTIFACT))
        client.log_artifacts(run.run_id, str(Path(folder, ARTIFACT)), ARTIFACT)
    shown = {name: tags[name] for name in OF_VERSION if name in tags} | {"mlflow.model.isExternal": "true"}
    model: str = client.create_logged_model(run.experiment_id, MODEL, run.run_id, shown).model_id
    client.finalize_logged_model(model, "READY")
    client.log_outputs(run.run_id, [LoggedModelOutput(model, 0)])
    return {"model_id": model, "run_id": run.run_id}


def attach_file(uri: str, run: str, path: Path, folder: str) -> None:
    """Adds a file to the artifacts of a run."""
    with quiet():
        client_of(uri).log_artifact(run, str(path), folder)


def new_run(
    client: MlflowClient, experiment: str, name: str, made_by: str, began: float, more: Mapping[str, str] | None = None
) -> RunInfo:
    """Creates a run with the moment when it began and the command that made it, which MLflow shows on its page."""
    tags = {"mlflow.source.name": made_by, "mlflow.source.type": "LOCAL", USER: user()} | dict(more or {})
    return client.create_run(experiment, start_time=round(1000 * began), tags=tags, run_name=name).info


def user() -> str:
    """Returns the name under which MLflow shows who made a run: MLFLOW_TRACKING_USERNAME, else the login name."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or audit_log.user()


def experiment_name() -> str:
    """Returns the name of the experiment of trainings."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def experiment_of(client: MlflowClient, uri: str, artifacts: Path) -> str:
    """Returns the id of the experiment of trainings; it is created if it does not exist."""
    name = experiment_name()
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    location = None if uri.startswith("http") else artifacts.resolve().as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=KIND))
    except MlflowException as error:
        experiment = client.get_experiment_by_name(name)  # another process was faster
        if experiment is None:
            raise error from None
        return str(experiment.experiment_id)


def write_values(
    client: MlflowClient,
    run: str,
    parameters: Mapping[str, object],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    of_model: Mapping[str, str],
) -> None:
    """Writes all parameters, metrics and tags of a run; `of_model` are the fields by which a metric names its model."""
    long = [key for key, value in parameters.items() if len(str(value)) > PARAMETER_LENGTH]
    if long:
        raise ValueError(f"parameter {long[0]}: expected at most {PARAMETER_LENGTH} characters")
    now = time.time_ns() // 1_000_000
    client.log_batch(run, metrics=[Metric(key, float(value), now, 0, **of_model) for key, value in metrics.items()])
    params = [Param(key, str(value)) for key, value in parameters.items()]
    run_tags = [RunTag(key, value) for key, value in tags.items()]
    for begin in range(0, max(len(params), len(run_tags)), BATCH):
        client.log_batch(run, params=params[begin : begin + BATCH], tags=run_tags[begin : begin + BATCH])


def write_curves(client: MlflowClient, run: str, curves: Mapping[str, Sequence[float]]) -> None:
    """Writes metrics with a value for each iteration, counted from 1."""
    now = time.time_ns() // 1_000_000
    points = [Metric(name, value, now, step) for name, curve in curves.items() for step, value in enumerate(curve, 1)]
    for begin in range(0, len(points), POINTS):
        client.log_batch(run, metrics=points[begin : begin + POINTS])


def dataset_input(name: str, entry: DatasetEntry) -> DatasetInput:
    """Returns a dataset of a run. Its digest covers the whole table; MLflow's own covers the first 10,000 rows."""
    columns = [{"type": kind, "name": column, "required": True} for column, kind in entry.get("columns", {}).items()]
    return DatasetInput(
        Dataset(
            name=name,
            digest=entry["sha256"][:DIGEST_LENGTH],
            source_type="code",
            source=json.dumps({"tags": {"source": entry["source"]}}),
            schema=json.dumps({"mlflow_colspec": columns}) if columns else None,
            profile=json.dumps({"sha256": entry["sha256"], "num_rows": entry["rows"]}),
        ),
        [InputTag("mlflow.data.context", entry["context"])],
    )


def register(client: MlflowClient, run: str, *, candidate: bool = True) -> str:
    """Registers the run's model as the next version, and names it the candidate if it is one.

    The version has the run's description, and as tags its name, its user, and those that say what it is.
    """
    try:
        client.create_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    recorded = client.get_run(run)
    tags = {tag: value for tag, value in recorded.data.tags.items() if tag in OF_VERSION}
    named = {"run": recorded.info.run_name, "user": recorded.data.tags[USER]}
    version = client.create_model_version(
        MODEL,
        f"{recorded.info.artifact_uri}/{ARTIFACT}",
        run_id=run,
        tags=named | tags,
        description=recorded.data.tags.get(NOTE),
    )
    if candidate:
        client.set_registered_model_alias(MODEL, ALIAS, version.version)
    return str(version.version)


def move_champion(uri: str, version: str) -> None:
    """Points the alias "champion" to a version of the model."""
    with quiet():
        client_of(uri).set_registered_model_alias(MODEL, CHAMPION, version)
