"""How the calls of a run differ from those of the run before: its days, compared with that run's reference."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from callsieve.training.drift.days import ScoredCalls, day_figures
from callsieve.training.drift.monitor import compare
from callsieve.training.drift.reference import REFERENCE, Reference, read_reference
from callsieve.training.judging.run_figures import RunDrift, RunShift, Shift
from callsieve.training.model.folds import whole_days
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.oversight.log.run_paths import RunPaths

from . import mlflow_read

MAX_SHIFTS = 12


def drift_since_last_run(place: RunPaths, calls: ScoredCalls) -> RunDrift | None:
    """Returns the statistics that raise an alarm on at least half of the days against the run before; None without such
    a run.

    Scores are left out, since the two runs have different models.
    """
    runs = [payload for _, payload in payloads(place.log, "run")] if place.log.exists() else []
    reference = reference_of(place, runs[-1]["run"]) if runs else None
    if reference is None:
        return None
    unscored = replace(calls, raw=np.full(len(calls.raw), np.nan), bands=())
    days = whole_days(unscored.calls)
    by_name: dict[str, list[Shift]] = {}
    for day, rows in days.items():
        for shift in compare(reference, day_figures(day, rows, unscored, reference.cuts)):
            if shift["measure"] == "together":
                continue  # it describes a day, not a statistic
            by_name.setdefault(shift["name"], []).append(shift)
    moved = [run_shift(shifts) for shifts in by_name.values()]
    moved = sorted((shift for shift in moved if 2 * shift["days"] >= len(days)), key=lambda shift: -abs(shift["z"]))
    return {
        "run": runs[-1]["run"],
        "model": reference.model,
        "reference": [reference.first, reference.last],
        "days": len(days),
        "compared": len(by_name),
        "moved": len(moved),
        "shifts": moved[:MAX_SHIFTS],
    }


def reference_of(place: RunPaths, run: str) -> Reference | None:
    """Returns the reference in a run's record; None if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow_read.download(place.uri, run, Path(folder)) / "record" / REFERENCE
        return read_reference(path) if path.exists() else None


def run_shift(shifts: list[Shift]) -> RunShift:
    """Returns the shift of one statistic on its median day, and on how many days it raises an alarm."""
    median = sorted(shifts, key=lambda shift: shift["z"])[len(shifts) // 2]
    return {**median, "days": sum(shift["alarm"] for shift in shifts)}
