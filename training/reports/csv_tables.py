"""The curves and tables of a run as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from callsieve.features.files.atomic import write_atomic
from callsieve.training.judging.figures import Headline
from callsieve.training.judging.run_figures import RunFigures


def write_tables(figures: RunFigures, folder: Path) -> None:
    """Writes the curves and tables of a run as CSV files, without those that have no rows."""
    folder.mkdir()
    top = figures["headline"]
    heads: dict[str, Headline] = {"model": top["model"], "policy": top["policy"], "rule": top["rule"]}
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
        "baselines": [{"way": name, **baseline_row(head)} for name, head in (heads | figures["baselines"]).items()],
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
        write_rows(folder / f"{name}.csv", table)


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


def write_rows(path: Path, rows: Sequence[Mapping[str, object]], encoding: str = "utf-8") -> None:
    """Writes rows as a CSV file with all their columns, in the order of their first use; no file without rows.

    A spreadsheet would read a text that starts with = + - @ as a formula, so an apostrophe stands before it.
    """
    if rows:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
        write_atomic(path, text.getvalue().encode(encoding))


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
