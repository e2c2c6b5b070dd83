"""Records in MLflow what commands besides `train` measured, in an experiment beside that of the trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from callsieve.training.oversight.log.run_paths import artifact_folder, recorded_store, working_store

EXPERIMENT = " evaluations"  # after the name of the experiment of trainings
DEPTH = 3  # of groups in the name of a metric


def record_activity(
    command: str,
    figures: Mapping[str, object],
    metrics: Mapping[str, float] | None = None,
    *,
    began: float,
    bundle: Path | None = None,
    files: Mapping[str, Path] | None = None,
    **parameters: object,
) -> str:
    """Records the figures of a command as a run, in the store of the judged run or in that of the working folder.

    Args:
        command: such as "study roll"; it names the run.
        figures: JSON-able; the artifact `figures.json`.
        metrics: by default every number of `figures`; a list gives a metric with a value for each step.
        began: Unix seconds.
        bundle: in the folder of the run that it judged.
        files: as in `mlflow_write.write_run`.
        parameters: of the run; the first is part of its name.
    Returns: why MLflow has no such run, in one line; "" if it has. The figures are worth more than their record.
    """
    try:
        from .mlflow_write import write_run

        uri = (recorded_store(bundle.resolve().parent) if bundle is not None else "") or working_store()
        write_run(
            uri,
            artifact_folder(uri),
            name=f"{command} {next(iter(parameters.values()), '')}"[:200],
            made_by=f"callsieve {command}",
            began=began,
            parameters=parameters,
            metrics=numbers(figures) if metrics is None else metrics,
            curves={} if metrics is not None else steps(figures),
            tags={},
            datasets={},
            figures=figures,
            files=files or {},
            kind=EXPERIMENT,
        )
    except (ImportError, OSError, ValueError) as error:
        return f"{command}: not recorded in MLflow: {error}"
    return ""


def numbers(figures: Mapping[str, object], depth: int = DEPTH) -> dict[str, float]:
    """Returns the numbers of nested figures, by names such as "once/catch"; lists are left out.

    >>> numbers({"auc": 0.9, "once": {"catch": 1, "certified": True}, "weeks": [1, 2], "model": "a1"})
    {'auc': 0.9, 'once/catch': 1.0}
    """
    values: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            inner = numbers(value, depth - 1) if depth > 1 else {}
            values |= {f"{name}/{rest}": number for rest, number in inner.items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            values[str(name)] = float(value)
    return {plain(name): value for name, value in values.items()}


def steps(figures: Mapping[str, object]) -> dict[str, Sequence[float]]:
    """Returns the lists of figures as metrics with a step for each entry; entries that differ in form are left out.

    >>> steps({"periods": [{"week": "1", "catch": 0.5}, {"week": "2", "catch": 0.25}], "days": 2})
    {'periods/catch': [0.5, 0.25]}
    """
    curves: dict[str, Sequence[float]] = {}
    for name, rows in figures.items():
        if isinstance(rows, list) and len(rows) > 1 and all(isinstance(row, Mapping) for row in rows):
            by_row = [numbers(row) for row in rows]
            common = [key for key in by_row[0] if all(key in row for row in by_row)]
            curves |= {plain(f"{name}/{key}"): [row[key] for row in by_row] for key in common}
    return curves


def plain(name: str) -> str:
    """Returns a name with the characters alone that MLflow accepts in the name of a metric."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-. :/") else "-" for letter in name)
