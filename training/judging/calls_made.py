"""Figures by how many calls a number had made before, and calibration by facts known at ring time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from callsieve.serving.bundle.metadata import Band, BundleMetadata
from callsieve.serving.rules.strata import STRATA
from callsieve.training.model.certify import FalseCalls, caller_bootstrap, upper_bound

from .metrics import calibration_table

if TYPE_CHECKING:
    from .headline import JudgedCalls


BUCKETS = (("first call", 1, 1), ("calls 2-5", 2, 5), ("calls 6-20", 6, 20), ("later", 21, 1 << 40))
MIN_CALLS = 200  # of a slice; fewer calls do not fill ten bins


class Bucket(FalseCalls):
    """Nuisance calls caught and innocent calls flagged, by how many calls the number had made before."""

    bucket: str
    calls: int
    callers: int
    catch: float | None
    low: float | None
    high: float | None


class SliceReliability(TypedDict):
    """Predicted against observed for calls of one slice known at ring time; the interval is of `observed`."""

    slice: str
    calls: int
    callers: int
    predicted: float
    observed: float
    low: float
    high: float
    ece: float | None


def by_calls_made(s: JudgedCalls, band: Band) -> list[Bucket]:
    """Returns catch rate and error by how many calls the number had made before: cold start apart from long history.

    The catch rate is over nuisance calls of the headline and all calls of new numbers (`JudgedCalls.lives`). Few
    numbers make their first call within the few days of a certifying fold.
    """
    nth = s.nth
    buckets: list[Bucket] = []
    for name, low, high in BUCKETS:
        rows = (nth >= low) & (nth <= high)
        nuisance, benign = rows & (s.rows | s.lives) & s.judged.nuisance, rows & s.rows & ~s.judged.nuisance
        hit, false = s.raw[nuisance] >= band.threshold, int((s.raw[benign] >= band.threshold).sum())
        interval = caller_bootstrap(hit, s.caller[nuisance], seed=s.seed) if len(hit) else (None, None)
        buckets.append(
            {
                "bucket": name,
                "calls": len(hit),
                "callers": len(np.unique(s.caller[nuisance])),
                "catch": float(hit.mean()) if len(hit) else None,
                "low": interval[0],
                "high": interval[1],
                "benign_calls": int(benign.sum()),
                "false_calls": false,
                "bound": upper_bound(false, int(benign.sum())),
            }
        )
    return buckets


def reliability_by(s: JudgedCalls, card: BundleMetadata) -> list[SliceReliability]:
    """Returns the mean predicted probability and observed share of nuisance, by stratum and by how many calls the
    number had made.

    Only slices that are known at ring time are used: within a slice of the truth, all calls are nuisance or none is.
    """
    rows = np.flatnonzero(s.rows & ~np.isnan(s.raw))
    p, truth, caller = card.calibration.probabilities(s.raw[rows]), s.judged.nuisance[rows], s.caller[rows]
    nth = s.nth[rows]
    parts = {f"class {name}": s.stratum[rows] == code for code, name in enumerate(STRATA)}
    parts |= {name: (nth >= low) & (nth <= high) for name, low, high in BUCKETS}
    figures: list[SliceReliability] = []
    for name, part in parts.items():
        if part.sum() < MIN_CALLS:
            continue
        low, high = caller_bootstrap(truth[part], caller[part], seed=s.seed)
        figures.append(
            {
                "slice": name,
                "calls": int(part.sum()),
                "callers": len(np.unique(caller[part])),
                "predicted": float(p[part].mean()),
                "observed": float(truth[part].mean()),
                "low": low,
                "high": high,
                "ece": calibration_table(p[part], truth[part])["ece"],
            }
        )
    return figures
