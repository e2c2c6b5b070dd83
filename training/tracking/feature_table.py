"""Trains on an external feature table: one row a subject, numeric columns, a 0/1 label; records the run in MLflow.

Rows are split by group and by time, if the table has columns for them. Else the split follows GAT-COBO (IEEE TBD, arXiv
2303.17334, `main.py`): `train_test_split(stratify=y, random_state=2)`, 60 / 20 / 20.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sklearn.metrics import average_precision_score, f1_score, recall_score, roc_auc_score
from sklearn.model_selection import train_test_split

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import check_distinct, sha256, write_atomic
from callsieve.features.reading.call_files import write_table
from callsieve.serving.bundle.forest import read_forest
from callsieve.serving.bundle.signing import read_signing_key
from callsieve.serving.custody.purposes import require_purpose
from callsieve.training.judging.run_figures import DatasetEntry, TrackedRun
from callsieve.training.model.fit import FitRows, fit
from callsieve.training.model.settings import Parameter
from callsieve.training.model.split import fold_of_group
from callsieve.training.oversight.log.key_folder import new_key
from callsieve.training.oversight.log.run_paths import artifact_folder, working_store
from callsieve.training.reports.run_page import environment, render

from .mlflow_write import write_run
from .table_model import NAME, PROBABILITY, read_table_model, save_table_model, write_table_model

MODEL, REPORT = "model", "report.html"
SCORING = "scoring"  # the purpose of applying a model
SPLIT_SEED = 2
# For a small table patience matters more than depth.
PARAMETERS: Mapping[str, Parameter] = {
    "learning_rate": 0.03,
    "min_data_in_leaf": 20,
    "lambda_l2": 1.0,
    "rounds": 1000,
    "patience": 100,
}
SPLITS = {
    (False, False): "Rows are split at random: rows of one caller can be in several sets.",
    (False, True): "Test rows are the latest; rows of one caller can be in several sets.",
    (True, False): "No group is in two sets.",
    (True, True): "No group is in two sets, and test rows are later than the others.",
}
"""What a split keeps apart, in words; by whether groups and whether times are given."""


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """A feature table: values, labels, column names, and the columns that were left out.

    `groups` are codes of the rows' groups, `start` their times in Unix seconds, shape (rows,); None without. `purpose`
    is what the table is used for by its declaration, or "undeclared".
    """

    X: Array
    y: Array
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    groups: Array | None = None
    start: Array | None = None
    purpose: str = ""


class TableFigures(TypedDict):
    """The figures of a model of a feature table.

    rows: all rows, and those of each set. split: what the split keeps apart, in words. test: measures on the test set.
    """

    rows: dict[str, int]
    split: str
    positive_share: float
    features: int
    left_out: list[str]
    trees: int
    test: dict[str, float]


class TableRun(TableFigures):
    """The figures of a model of a feature table, LightGBM's text of it, and its run in MLflow."""

    model: str
    tracking: TrackedRun


def read_table(
    path: Path,
    label: str,
    where: str | None = None,
    *,
    purpose: str,
    groups: str | None = None,
    start: str | None = None,
) -> FeatureTable:
    """Reads Parquet or CSV, for a purpose that its declaration, if any, permits (`serving/custody/purposes.py`).

    Args:
        label: name of the column of 0 and 1.
        where: a pandas query that selects rows, such as "voc_cnt >= 5".
        groups, start: names of the columns of the group, such as the caller, and of the time; they are no features.
    Raises:
        ValueError: in one line, if the file, its declaration, the label or the query is invalid.
    """
    declaration = require_purpose(path, purpose)
    frame = read_frame(path)
    for name in filter(None, (label, groups, start)):
        if name not in frame:
            raise ValueError(f"{path}: no column {name!r}; it has {', '.join(map(str, frame.columns[:8]))} ...")
    if where is not None:
        try:
            frame = frame.query(where)
        except Exception as error:
            raise ValueError(f"--where {where!r}: expected a condition on columns, {error}") from error
    y = frame.pop(label)
    group = None if groups is None else pd.factorize(frame.pop(groups), use_na_sentinel=False)[0]
    moment = None if start is None else _seconds(frame.pop(start), f"{path}: column {start!r}")
    if not set(y.unique()) <= {0, 1} or y.nunique() < 2:
        raise ValueError(f"{path}: column {label!r} must hold 0 and 1, got {sorted(y.unique().tolist(), key=str)[:5]}")
    numeric = frame.select_dtypes(include=["number", "bool"])
    names = [name for name in numeric if not is_identifier(numeric[name])]
    left_out = tuple(str(name) for name in frame if name not in names)
    X = numeric[names].to_numpy(dtype=float)
    labels, names_in_use = y.to_numpy(dtype=np.int8), tuple(map(str, names))
    return FeatureTable(X, labels, names_in_use, left_out, group, moment, declaration.in_record(purpose))


def read_frame(path: Path) -> pd.DataFrame:
    """Reads a table of Parquet or CSV. Raises ValueError, in one line, if it is neither."""
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a Parquet or CSV table, {error}") from error


def apply_table_model(model: Path, path: Path, out: Path, trusted: Ed25519PublicKey) -> int:
    """Writes a table with the probabilities of a signed model, as Parquet.

    Args:
        model: folder of the model.
        path: table with its columns, as for `read_table`.
        out: gets all columns of the table, and `probability`.
    Returns: the number of rows.
    Raises:
        ValueError: in one line, if the model or the table is invalid.
    """
    check_distinct(path, out)
    opened = read_table_model(model, trusted)
    require_purpose(path, SCORING)
    frame = read_frame(path)
    if PROBABILITY in frame:
        raise ValueError(f"{path}: has a column {PROBABILITY!r} already; rename it")
    try:
        scores = opened.predict(frame)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    scored = frame.assign(**{PROBABILITY: scores[PROBABILITY].to_numpy()})
    write_table(pa.Table.from_pandas(scored, preserve_index=False), out)
    return len(frame)


def _seconds(column: pd.Series, where: str) -> Array:
    """Returns times in Unix seconds, from datetimes, ISO 8601 texts, or numbers of seconds."""
    if not pd.api.types.is_numeric_dtype(column):
        moments = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601")
        column = (moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(1, "s")
    if column.isna().any():
        raise ValueError(f"{where}: expected a time in each row, {int(column.isna().sum())} have none")
    return column.to_numpy(dtype=float)


def is_identifier(column: pd.Series) -> bool:
    """Returns whether a column holds distinct integers: such a column identifies rows and does not describe them."""
    return pd.api.types.is_integer_dtype(column) and column.is_unique and len(column) > 1


def record_table(
    table: FeatureTable,
    path: Path,
    folder: Path,
    *,
    seed: int = 0,
    threads: int = 0,
    signing_key: Path | None = None,
    tracking_uri: str | None = None,
    made_by: str = "callsieve.training.tracking.feature_table",
) -> TableRun:
    """Trains, judges and signs a model of a feature table, and records the run in MLflow, with the registered model.

    Writes the model, and the page in the language in force.

    Args:
        path: file of the table, for the record.
        folder: new; gets MODEL, REPORT and the signer's public key.
        signing_key: file of the Ed25519 key that signs the model; by default a new one in the user's key folder.
    Returns: the figures of `train_ready_made`, and the run as `tracking`; JSON-able.
    """
    began, uri = time.time(), tracking_uri or working_store()
    folder.mkdir(parents=True, exist_ok=True)
    key = new_key() if signing_key is None else read_signing_key(signing_key)
    model, figures = train_ready_made(table, seed=seed, threads=threads)
    write_table_model(model, table.names, folder / MODEL, key)
    write_atomic(folder / REPORT, table_page(path.name, figures).encode())
    entry: DatasetEntry = {
        "sha256": sha256(path), "rows": len(table.y), "source": str(path), "context": "training",
        "purpose": table.purpose,
    }  # fmt: skip
    tracked = write_run(
        uri,
        artifact_folder(uri),
        name=path.stem,
        made_by=made_by,
        began=began,
        parameters={"seed": seed, "split": figures["split"], **PARAMETERS},
        metrics={f"test.{name}": value for name, value in figures["test"].items()},
        tags={"purpose": table.purpose, "certified": "false"},
        datasets={"vectors": entry},
        figures=figures,
        files={"report": folder / REPORT},
        model=partial(save_table_model, folder / MODEL),
        registered=NAME,
        kind=" tables",
    )
    return {**figures, "model": model, "tracking": tracked}


def table_page(name: str, figures: TableFigures) -> str:
    """Returns the page of a feature table as HTML, in the language in force.

    Args:
        name: file name of the table.
        figures: as from `train_ready_made`.
    """
    return render(environment(__package__).get_template("table_page.html"), figures, table=name)


def train_ready_made(table: FeatureTable, *, seed: int = 0, threads: int = 0) -> tuple[str, TableFigures]:
    """Trains on 60 % of the rows, stops early on 20 %, and judges on the last 20 %.

    Returns: LightGBM's text of the model, and its figures.
    """
    train, valid, test = split(table, SPLIT_SEED)
    for name, rows in (("train", train), ("valid", valid), ("test", test)):
        if len(np.unique(table.y[rows])) < 2:
            raise ValueError(f"the {len(rows)} {name} rows do not have both labels; expected more groups or more time")
    train_rows, valid_rows = (FitRows(table.X[rows], table.y[rows]) for rows in (train, valid))
    text = fit(train_rows, valid_rows, table.names, seed=seed, threads=threads, parameters=PARAMETERS)
    raw = read_forest(text).predict_raw(np.ascontiguousarray(table.X[test]))
    return text, {
        "rows": {"all": len(table.y), "train": len(train), "valid": len(valid), "test": len(test)},
        "split": SPLITS[table.groups is not None, table.start is not None],
        "positive_share": float(table.y.mean()),
        "features": len(table.names),
        "left_out": list(table.left_out),
        "trees": text.count("\nTree="),
        "test": classifier_figures(table.y[test], raw),
    }


def split(table: FeatureTable, state: int) -> tuple[Array, Array, Array]:
    """Returns the training, validation and test rows: 60, 20 and 20 % of the groups, or of the rows without groups.

    With times, test rows are later than all others: of rows without groups the last 20 %, of test groups those after
    the first 60 % of all rows. Rows on the wrong side are in no set.
    """
    if table.groups is not None:
        highest = np.zeros(int(table.groups.max()) + 1, dtype=np.int64)
        np.maximum.at(highest, table.groups, table.y)
        fold = fold_of_group(table.groups, highest[table.groups], state, (0.6, 0.2, 0.2))
        if table.start is not None:
            late = table.start > np.quantile(table.start, 0.6)
            fold = np.where(late == (fold == 2), fold, -1)
        return np.flatnonzero(fold == 0), np.flatnonzero(fold == 1), np.flatnonzero(fold == 2)
    if table.start is not None:
        cuts = np.quantile(table.start, (0.6, 0.8))
        fold = np.searchsorted(cuts, table.start, side="left")
        return np.flatnonzero(fold == 0), np.flatnonzero(fold == 1), np.flatnonzero(fold == 2)
    rest, test = train_test_split(np.arange(len(table.y)), test_size=0.2, stratify=table.y, random_state=state)
    train, valid = train_test_split(rest, test_size=0.25, stratify=table.y[rest], random_state=state)
    return train, valid, test


def classifier_figures(y: Array, raw: Array) -> dict[str, float]:
    """Returns AUC and average precision, and macro measures at probability 1/2 (raw score 0)."""
    predicted = (raw >= 0).astype(int)
    recalls = recall_score(y, predicted, average=None)
    return {
        "auc": float(roc_auc_score(y, raw)),
        "average_precision": float(average_precision_score(y, raw)),
        "macro_f1": float(f1_score(y, predicted, average="macro")),
        "macro_recall": float(recalls.mean()),
        "g_mean": float(np.sqrt(recalls.prod())),
    }
