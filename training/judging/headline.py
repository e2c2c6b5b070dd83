"""The headline of scores at a threshold: innocent calls flagged, their bounds, catch rate, calls to detection.

The headline of the policy counts actions in place of scores: rules and model together. The model's own figures are of
its scores alone, so a rule's hit never improves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from msgspec import structs

from callsieve.features.arrays import Array
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import STRATA
from callsieve.training.evidence.judging_labels import JudgingLabels
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.certify import (
    CertificateFigures,
    bound_by_organisation,
    caller_bootstrap,
    certificate,
    certificate_figures,
)
from callsieve.training.model.pool import FolderFacts

from .detection import NO_QUANTILES, calls_to_detection, detecting_calls
from .figures import Catch, Detection, Headline, PolicyHeadline, Rate
from .metrics import catch, threshold_at_rate

FLAGGED = 1  # the weakest action that a called person notices, as an index of ACTIONS
NO_RATE: Rate = {"rate": None, "low": None, "high": None}


class FolderFigures(TypedDict):
    """The operating points on one of several certifying folders; `baselines` has the simpler scorers by name."""

    folder: str
    model: Headline
    policy: PolicyHeadline
    baselines: dict[str, Headline]


class Outcomes(TypedDict):
    """Judged calls by truth and verdict at the certified thresholds, and the numbers that made them."""

    nuisance_flagged: int
    nuisance_passed: int
    nuisance_numbers: int
    innocent_flagged: int
    innocent_passed: int
    innocent_numbers: int


class DetectionCurve(TypedDict, total=False):
    """Share of nuisance numbers that are detected within each number of `calls`; empty without a new number."""

    calls: list[int]
    model: list[float]
    rule: list[float]


class BandFigures(TypedDict):
    """A band of scores: its threshold (raw score), and its certificates overall and by stratum.

    `silent`: strata for which the band abstains. `raised`: strata with a higher threshold.
    """

    name: str
    target: float
    threshold: float
    silent: list[str]
    raised: dict[str, float]
    certificate: CertificateFigures
    strata: dict[str, CertificateFigures]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCalls:
    """Scored calls with their truth, and which of them are judged. All arrays have one entry per call.

    `rows` are the calls of the headline. `lives` are all calls of nuisance numbers whose first call came after the
    model was made; for a training, only of groups that it was not trained on. `known_lives` are such calls of groups
    that it was trained on (None: not known). `announcing` are the judged calls of surveys and public announcements,
    which are not among `rows`; None without any.
    """

    rule: Array  # calls in the last hour
    raw: Array
    stratum: Array  # index among STRATA
    judged: JudgingLabels
    caller: Array
    callee: Array
    group: Array  # of the caller, as from `split.groups`
    start: Array  # Unix ms
    nth: Array  # number of the call among its caller's calls, from 1
    rows: Array
    lives: Array
    known_lives: Array | None = None
    announcing: Array | None = None
    seed: int


@dataclass(frozen=True, slots=True)
class PolicyActions:
    """The action that a policy leads to for each call, as an index of ACTIONS; 0 for calls that were not scored.

    Attributes:
        version: version of the policy.
        both: by rules and bands together, shape (calls,).
        rules: by the rules alone, shape (calls,).
    """

    version: str
    both: Array
    rules: Array


def policy_headline(s: JudgedCalls, actions: PolicyActions, band: Band) -> PolicyHeadline:
    """Returns the headline of the whole policy: a call is flagged if its action is stronger than "pass"."""
    flagged = structs.replace(band, threshold=float(FLAGGED), raised={}, abstains=())
    head = headline_of(s, actions.both.astype(float), flagged)
    return {**head, "in_hindsight": None, "policy": actions.version}


def headline_of(s: JudgedCalls, raw: Array, band: Band) -> Headline:
    """Returns the operating point of these scores at a band's thresholds; a band that abstains for all catches nothing.

    Its catch rates are None in that case, because it has no threshold to measure.
    """
    scores = aligned_scores(raw, s.stratum, band)
    benign = s.rows & ~s.judged.nuisance
    judges = set(band.abstains) < set(STRATA)
    false = scores[benign] >= band.threshold
    proof = certificate(band.certificate.fold, scores[benign], band.threshold, band.certificate.target)
    return {
        "benign_calls": proof.benign_calls,
        "false_calls": proof.false_calls,
        "bound": proof.bound,
        "target": proof.target,
        "certified": proof.certified,
        # Without a caller the rate may be anything.
        "bootstrap": list(caller_bootstrap(false, s.caller[benign], seed=s.seed)) if benign.any() else [0.0, 1.0],
        "organisations": len(np.unique(s.group[benign])),
        "bound_by_organisation": bound_by_organisation(false, s.group[benign]),
        "catch": catch_of(s, scores, band.threshold, s.rows & judges),
        "detection": detection_of(replace(s, lives=s.lives & judges), scores, band.threshold),
        "in_hindsight": catch_in_hindsight(s, raw, band.certificate.target),
    }


def catch_in_hindsight(s: JudgedCalls, raw: Array, target: float) -> float | None:
    """Returns the catch rate at the threshold that flags exactly the target share of the judged innocent calls.

    It measures how well scores rank calls, independent of the chosen threshold. None without nuisance calls.
    """
    nuisance, benign = s.rows & s.judged.nuisance, s.rows & ~s.judged.nuisance
    caught = raw[nuisance] >= threshold_at_rate(raw[benign], target)
    return float(caught.mean()) if len(caught) else None


def catch_of(s: JudgedCalls, raw: Array, threshold: float, rows: Array) -> Catch:
    """Returns the catch rate of the nuisance calls among `rows`, weighted by call, caller and callee."""
    nuisance = rows & s.judged.nuisance
    if not nuisance.any():
        return {"call": {**NO_RATE}, "caller": {**NO_RATE}, "callee": {**NO_RATE}}
    return catch(raw[nuisance], threshold, s.caller[nuisance], s.callee[nuisance], seed=s.seed)


def detection_of(s: JudgedCalls, raw: Array, threshold: float) -> Detection:
    """Returns the calls until detection over `s.lives`; without a call, all figures are None."""
    if s.lives.any():
        return calls_to_detection(raw[s.lives], threshold, s.caller[s.lives], s.start[s.lives])
    return {
        "callers": 0,
        "calls": 0,
        "detected_share": None,
        "soon_share": None,
        "soon_low": None,
        "soon_high": None,
        "stopped_share": None,
        **NO_QUANTILES,
    }


def folder_figures(
    s: JudgedCalls,
    folders: Sequence[FolderFacts],
    folder: Array,
    band: Band,
    actions: PolicyActions,
    baselines: Mapping[str, tuple[Array, Band]],
) -> list[FolderFigures]:
    """Returns the operating points on each folder that certified the model; none if it was only one.

    A mean over folders hides the folder on which a threshold fails.
    """
    certifying = [place for place, facts in enumerate(folders) if facts.role != "learn"]
    if len(certifying) < 2:
        return []
    figures: list[FolderFigures] = []
    for place in certifying:
        inside = folder == place
        there = replace(s, rows=s.rows & inside, lives=s.lives & inside)
        figures.append(
            {
                "folder": folders[place].name,
                "model": headline_of(there, s.raw, band),
                "policy": policy_headline(there, actions, band),
                "baselines": {name: headline_of(there, raw, own) for name, (raw, own) in baselines.items()},
            }
        )
    return figures


def detection_curve(s: JudgedCalls, band: Band, rule: Band) -> DetectionCurve:
    """Returns the share of nuisance numbers that are detected within n calls of their life, by the model and by the
    rule.
    """
    calls = np.unique(np.geomspace(1, 1000, 60).astype(int))
    return {
        "calls": [int(n) for n in calls],
        "model": detected_within(s.raw[s.lives], band.threshold, s, calls),
        "rule": detected_within(aligned_scores(s.rule, s.stratum, rule)[s.lives], rule.threshold, s, calls),
    }


def detected_within(raw: Array, threshold: float, s: JudgedCalls, calls: Array) -> list[float]:
    """Returns the share of callers that are detected at or before each number of calls."""
    detected, _ = detecting_calls(raw, threshold, s.caller[s.lives], s.start[s.lives])
    return [float((detected <= n).mean()) for n in calls]


def outcome_figures(s: JudgedCalls, band: Band) -> Outcomes:
    """Returns the judged calls by truth and verdict."""
    nuisance, flagged = s.judged.nuisance, s.raw >= band.threshold
    return {
        "nuisance_flagged": int((s.rows & nuisance & flagged).sum()),
        "nuisance_passed": int((s.rows & nuisance & ~flagged).sum()),
        "nuisance_numbers": len(np.unique(s.caller[s.rows & nuisance])),
        "innocent_flagged": int((s.rows & ~nuisance & flagged).sum()),
        "innocent_passed": int((s.rows & ~nuisance & ~flagged).sum()),
        "innocent_numbers": len(np.unique(s.caller[s.rows & ~nuisance])),
    }


def band_figures(band: Band) -> BandFigures:
    """Returns a band with its certificates."""
    return {
        "name": band.name,
        "target": band.certificate.target,
        "threshold": band.threshold,
        "silent": list(band.abstains),
        "raised": dict(band.raised),
        "certificate": certificate_figures(band.certificate),
        "strata": {name: certificate_figures(proof) for name, proof in band.strata.items()},
    }
