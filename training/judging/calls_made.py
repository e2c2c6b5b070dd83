"""Figures by how many calls a number had made, and of probabilities by what is known of a call as it rings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from callsieve.serving.rules.strata import STRATA
from callsieve.training.model.certify import caller_bootstrap, upper_bound

from .metrics import calibration_table

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.serving.bundle.metadata import Band, BundleMetadata

    from .headline import Scored

    Array = npt.NDArray[Any]

BUCKETS = (("first call", 1, 1), ("calls 2-5", 2, 5), ("calls 6-20", 6, 20), ("later", 21, 1 << 40))
LEAST_CALLS = 200  # of a slice, below which ten bins say nothing


def nth_call(caller: Array, start: Array) -> Array:
    """Which of its caller's calls each call is, from 1, in order of start; those of one moment as in the table.

    >>> nth_call(np.array([5, 3, 5, 5]), np.array([10, 20, 30, 20]))
    array([1, 1, 3, 2])
    """
    order = np.lexsort((start, caller))
    owners = caller[order]
    begin = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]])) if len(order) else np.zeros(0, int)
    place = np.arange(len(order)) - np.repeat(begin, np.diff(np.append(begin, len(order))))
    nth = np.empty(len(order), dtype=np.int64)
    nth[order] = place + 1
    return nth


def by_calls_made(s: Scored, band: Band) -> list[dict[str, Any]]:
    """Catch and error by how many calls the number had made in the records: a cold start apart from a long history.

    Caught are calls of the headline and all that numbers which came later made (`Scored.lives`): in a certifying
    stretch of a few days hardly any number begins, and its first calls would be told by a handful.

    Args:
        s: with raw scores that are held below the threshold where the band is silent.
    """
    nth = nth_call(s.caller, s.start)
    told = []
    for name, low, high in BUCKETS:
        mine = (nth >= low) & (nth <= high)
        bad, benign = mine & (s.rows | s.lives) & s.judged.nuisance, mine & s.rows & ~s.judged.nuisance
        hit, false = s.raw[bad] >= band.threshold, int((s.raw[benign] >= band.threshold).sum())
        ends = caller_bootstrap(hit, s.caller[bad], seed=s.seed) if len(hit) else (None, None)
        told.append(
            {
                "bucket": name,
                "calls": len(hit),
                "callers": len(np.unique(s.caller[bad])),
                "catch": float(hit.mean()) if len(hit) else None,
                "low": ends[0],
                "high": ends[1],
                "benign_calls": int(benign.sum()),
                "false_calls": false,
                "bound": upper_bound(false, int(benign.sum())),
            }
        )
    return told


def reliability_by(s: Scored, card: BundleMetadata) -> list[dict[str, Any]]:
    """Mean probability and share that came true, by stratum and by how many calls the number had made.

    Slices are of what is known as a call rings: within one of those that the truth draws, all calls are of one kind.
    """
    rows = np.flatnonzero(s.rows & ~np.isnan(s.raw))
    p, truth, caller = card.calibration.probabilities(s.raw[rows]), s.judged.nuisance[rows], s.caller[rows]
    nth = nth_call(s.caller, s.start)[rows]
    parts = {f"class {name}": s.stratum[rows] == code for code, name in enumerate(STRATA)}
    parts |= {name: (nth >= low) & (nth <= high) for name, low, high in BUCKETS}
    told = []
    for name, mine in parts.items():
        if mine.sum() < LEAST_CALLS:
            continue
        low, high = caller_bootstrap(truth[mine], caller[mine], seed=s.seed)
        told.append(
            {
                "slice": name,
                "calls": int(mine.sum()),
                "callers": len(np.unique(caller[mine])),
                "predicted": float(p[mine].mean()),
                "observed": float(truth[mine].mean()),
                "low": low,
                "high": high,
                "ece": calibration_table(p[mine], truth[mine]).ece,
            }
        )
    return told
