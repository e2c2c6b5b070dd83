"""How the calls of a run differ from those of the run before it: its days, held against that run's reference."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from callsieve.training.drift.days import ScoredCalls, day_figures
from callsieve.training.drift.monitor import Shift, compare
from callsieve.training.drift.reference import REFERENCE, Reference, read_reference
from callsieve.training.log.audit_log import payloads
from callsieve.training.log.run_paths import Place
from callsieve.training.model.call_choice import whole_days

from . import mlflow_read

SHOWN = 12


def since_last(place: Place, stretch: ScoredCalls) -> dict[str, Any] | None:
    """What is otherwise on at least half of the days than it was for the run before; None without such a run.

    Scores are left out: they are of two models.
    """
    before = [told for _, told in payloads(place.log, "run")] if place.log.exists() else []
    known = reference_of(place, before[-1]["run"]) if before else None
    if known is None:
        return None
    unscored = replace(stretch, raw=np.full(len(stretch.raw), np.nan), bands=())
    days = whole_days(unscored.calls)
    by_name: dict[str, list[Shift]] = {}
    for day, rows in days.items():
        for shift in compare(known, day_figures(day, rows, unscored, known.cuts)):
            if shift.measure == "together":
                continue  # of a day, not of a statistic
            by_name.setdefault(shift.name, []).append(shift)
    moved = [(sum(one.alarm for one in some), middle(some)) for some in by_name.values()]
    moved = sorted(
        ((times, shift) for times, shift in moved if 2 * times >= len(days)), key=lambda one: -abs(one[1].z)
    )  # fmt: skip
    return {
        "run": before[-1]["run"],
        "model": known.model,
        "reference": [known.first, known.last],
        "days": len(days),
        "compared": len(by_name),
        "moved": len(moved),
        "shifts": [asdict(shift) | {"days": times} for times, shift in moved[:SHOWN]],
    }


def reference_of(place: Place, run: str) -> Reference | None:
    """The reference in a run's record; None if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow_read.download(place.uri, run, Path(folder)) / "record" / REFERENCE
        return read_reference(path) if path.exists() else None


def middle(shifts: list[Shift]) -> Shift:
    """The shift of a day in the middle of all days."""
    return sorted(shifts, key=lambda one: one.z)[len(shifts) // 2]
