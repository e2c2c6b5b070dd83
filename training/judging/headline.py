"""The headline of scores at a threshold: innocent calls flagged, with their bounds, catch, calls until detected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from callsieve.serving.bundle.metadata import Band
from callsieve.training.data.dataset import JudgingLabels
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.certify import bound_by_caller, caller_bootstrap, certificate

from .detection import OF_QUANTILES, calls_to_detection
from .metrics import at_target, catch, to_json

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SHARES = ("detected_share", "soon_share", "soon_low", "soon_high", "stopped_share")
DETECTION = (*SHARES, *OF_QUANTILES)


@dataclass(frozen=True, slots=True)
class Scored:
    """Scored calls, and which of them are judged on: arrays over all calls.

    `rows` are the calls of the headline; `lives` all calls of nuisance numbers that began after the model was made, and
    `known_lives` those of numbers whose group it learnt from: of a training, none of `lives`; None if nobody knows.
    """

    rule: Array  # calls of the last hour
    raw: Array
    stratum: Array  # as `strata_of`
    judged: JudgingLabels
    caller: Array
    callee: Array
    start: Array
    rows: Array
    lives: Array
    seed: int
    known_lives: Array | None = None


def headline_of(s: Scored, raw: Array, band: Band) -> dict[str, Any]:
    """Benign pass with its bound, catch rate, and calls until detected."""
    held = aligned_scores(raw, s.stratum, band)
    benign = s.rows & ~s.judged.nuisance
    found = certificate(band.certificate.fold, held[benign], band.threshold, band.certificate.target)
    return {
        "benign_calls": found.benign_calls,
        "false_calls": found.false_calls,
        "bound": found.bound,
        "target": found.target,
        "certified": found.certified,
        # Without a caller nothing is known of the rate.
        "bootstrap": list(caller_bootstrap(held[benign] >= band.threshold, s.caller[benign], seed=s.seed))
        if benign.any()
        else [0.0, 1.0],
        "bound_by_caller": bound_by_caller(held[benign] >= band.threshold, s.caller[benign]),
        "catch": catch_of(s, held, band.threshold, s.rows),
        "detection": detection_figures(s, held, band.threshold),
        "in_hindsight": in_hindsight(s, raw, band.certificate.target),
    }


def in_hindsight(s: Scored, raw: Array, target: float) -> float | None:
    """Catch rate at the threshold that flags just the target share of the innocent calls judged: how scores order
    calls, whatever was chosen beforehand. None without nuisance calls."""
    bad = s.rows & s.judged.nuisance
    return float((raw[bad] >= at_target(raw[s.rows & ~s.judged.nuisance], target)).mean()) if bad.any() else None


def catch_of(s: Scored, raw: Array, threshold: float, rows: Array) -> dict[str, Any]:
    """Catch rate of the nuisance calls among `rows`, weighted by call, caller and callee; `None` if there are none."""
    bad = rows & s.judged.nuisance
    if not bad.any():
        return {name: {"rate": None, "low": None, "high": None} for name in ("call", "caller", "callee")}
    found = catch(raw[bad], threshold, s.caller[bad], s.callee[bad], seed=s.seed)
    rates = {"call": found.by_call, "caller": found.by_caller, "callee": found.by_callee}
    return {name: {"rate": rate.value, "low": rate.low, "high": rate.high} for name, rate in rates.items()}


def detection_figures(s: Scored, raw: Array, threshold: float) -> dict[str, Any]:
    """Calls until detected; where the figure is infinite, None beside the floor that the calls prove."""
    if not s.lives.any():
        return {"callers": 0, "calls": 0} | dict.fromkeys(DETECTION)
    found = calls_to_detection(raw[s.lives], threshold, s.caller[s.lives], s.start[s.lives])
    told: dict[str, Any] = to_json(
        {
            "callers": found.callers,
            "calls": found.calls,
            "detected_share": found.detected,
            "soon_share": found.soon,
            "soon_low": found.soon_low,
            "soon_high": found.soon_high,
            **{name: getattr(found, name) for name in OF_QUANTILES},
            "stopped_share": found.stopped,
        }
    )
    return told
