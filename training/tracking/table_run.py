"""One training on a feature table, to a recorded run: a folder with model and page, and a run in MLflow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import sha256, write_atomic
from callsieve.training.judging.run_figures import DatasetEntry
from callsieve.training.model.feature_table import PARAMETERS, FeatureTable, train_ready_made
from callsieve.training.oversight.log.run_paths import artifact_folder, working_store
from callsieve.training.reports.run_page import environment, render

from .mlflow_write import write_run

MODEL, REPORT = "model.txt", "report.html"


def record_table(
    table: FeatureTable,
    path: Path,
    folder: Path,
    *,
    seed: int = 0,
    threads: int = 0,
    tracking_uri: str | None = None,
    made_by: str = "callsieve.training.tracking.table_run",
) -> dict[str, Any]:
    """Trains and judges a model of a feature table, and records the run in MLflow.

    Writes the model, and the page in the language in force.

    Args:
        path: file of the table, for the record.
        folder: new; gets MODEL and REPORT.
    Returns: the figures of `train_ready_made`, and the run as `tracking`; JSON-able.
    """
    began, uri = time.time(), tracking_uri or working_store()
    folder.mkdir(parents=True, exist_ok=True)
    figures = train_ready_made(table, seed=seed, threads=threads)
    write_atomic(folder / MODEL, figures["model"].encode())
    write_atomic(folder / REPORT, table_page(path.name, figures).encode())
    entry: DatasetEntry = {
        "sha256": sha256(path), "rows": len(table.y), "source": str(path), "context": "training",
        "purpose": table.purpose,
    }  # fmt: skip
    shown = {name: value for name, value in figures.items() if name != "model"}
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
        figures=shown,
        files={"model.txt": folder / MODEL, "report": folder / REPORT},
        kind=" tables",
    )
    return {**figures, "tracking": tracked}


def table_page(name: str, figures: Mapping[str, Any]) -> str:
    """Returns the page of a feature table as HTML, in the language in force.

    Args:
        name: file name of the table.
        figures: as from `train_ready_made`.
    """
    return render(environment(__package__).get_template("table_page.html"), figures, table=name)
