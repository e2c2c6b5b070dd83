"""The figures of a trained model: everything that is told to a person, to MLflow and to `--json`, as plain values.

Headline figures are of the certifying fold: later than everything, and of groups unseen in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import roc_curve

from callsieve.features.catalogue import ALL_FEATURES, NAMES
from callsieve.features.files.dates import DAY
from callsieve.serving.bundle.metadata import Band, BundleMetadata
from callsieve.training.model.bands import FeedScores, aligned_scores, bands_of
from callsieve.training.model.call_choice import calls_of_seen_groups, fold_rows, lifetime_calls, threshold_calls
from callsieve.training.model.cross_scores import NO_CV_FOLD
from callsieve.training.model.train import Trained, feature_columns
from callsieve.training.model.train import score_rows as scores_of

from .baselines import baseline_scores
from .calls_made import by_calls_made, reliability_by
from .class_figures import kind_figures
from .detection import SOON, detecting_calls
from .evasions import attack_figures
from .headline import Scored, catch_of, headline_of
from .metrics import calibration_table, prior_sweep, ranking, slices, to_json

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

RULE = NAMES.index("out_calls_count_1h")
CURVE_POINTS = 200


def judge(t: Trained) -> dict[str, Any]:
    """All figures of a trained model, JSON-able: infinities are None."""
    scored = scored_of(t)
    seen = calls_of_seen_groups(t.plan, t.part != NO_CV_FOLD, t.start, t.judged)
    band = t.card.thresholds[0]
    told = figures(scored, t.card, band_of(t, scored.rule))
    return {
        "model": {
            "trees": t.fitted["trees"],
            "features": len(t.card.features),
            "calibration": t.fitted["calibration"],
            "top_features": top_features(t.models["model"], t.card.features),
        },
        "data": data_figures(t.dataset.calls, t.judged.nuisance)
        | {
            "fingerprint": t.dataset.fingerprint,
            "seed": t.settings.seed,
            "judged_by": t.judged.source,
            "judged_on": "groups unseen in training",
        },
        "folds": t.card.training["folds"] | {"label_cutoff": t.card.training["label_cutoff"]},
        "rows": rows_told(t, scored),
        "bands": [band_json(b) for b in t.card.thresholds],
        "seen": {
            "calls": int(seen.sum()),
            "catch": catch_of(scored, aligned_scores(t.raw, t.stratum, band), band.threshold, seen),
        },
        "unseen": {"calls": int(scored.rows.sum()), "catch": told["headline"]["model"]["catch"]},
        "kinds": kind_figures(t, scored.rows & (aligned_scores(t.raw, t.stratum, band) >= band.threshold)),
        "baselines": {name: headline_of(scored, raw, band_of(t, raw)) for name, raw in baseline_scores(t).items()},
        **told,
    }


def scored_of(t: Trained) -> Scored:
    """The scored calls of a training: the headline is of its certifying fold."""
    certify = fold_rows("certify", t.plan.certify, t.fold, t.start) & t.judged.known
    lives, known_lives = lifetime_calls(t.plan, t.part != NO_CV_FOLD, t.start, t.judged, t.caller)
    rule = t.feed.column(RULE, len(t.start))
    return Scored(
        rule, served(t, known_lives), t.stratum, t.judged, t.caller, t.callee, t.start, certify, lives,
        t.settings.seed, known_lives,
    )  # fmt: skip


def served(t: Trained, rows: Array) -> Array:
    """Raw scores, those of `rows` by the whole model: where thresholds are chosen, members spoke that knew less."""
    again = scores_of(t.models["model"], t.feed, rows, feature_columns(t.settings.features), t.settings.threads)
    return np.where(rows, again, t.raw)


def brief(t: Trained) -> dict[str, Any]:
    """Headline, ranking and rows alone: what a study of many trainings compares, without the baselines."""
    scored = scored_of(t)
    return {
        "headline": headline_of(scored, t.raw, t.card.thresholds[0]),
        "ranking": ranking_figures(scored),
        "rows": rows_told(t, scored),
    }


def rows_told(t: Trained, scored: Scored) -> dict[str, int]:
    """How many calls each side had, how many were judged, and how many groups there are."""
    told: dict[str, int] = t.fitted["rows"] | {"certify": int(scored.rows.sum()), "groups": t.fitted["groups"]}
    return told


def figures(s: Scored, card: BundleMetadata, rule: Band) -> dict[str, Any]:
    """The figures of a bundle on scored calls, beside those of a rule on calls per hour."""
    band = card.thresholds[0]
    nuisance = s.judged.nuisance
    model = headline_of(s, s.raw, band)
    held = replace(s, raw=aligned_scores(s.raw, s.stratum, band))
    return {
        "headline": {
            "model": model,
            "rule": headline_of(s, s.rule, rule) | {"rule": rule_in_words(rule)},
        },
        "ranking": ranking_figures(s),
        "slices": slice_figures(held, band),
        "attacks": attack_figures(held, band.threshold),
        "buckets": by_calls_made(held, band),
        "reliability_by": reliability_by(s, card),
        "curve": {"model": curve(held.raw, nuisance, s.rows), "rule": curve(s.rule, nuisance, s.rows)}
        if both_kinds(s)
        else {},
        "detection_curve": detection_curve(held, band, rule) if s.lives.any() else {},
        "reliability": reliability_figures(s, card),
        "precision_at_prior": priors(model["catch"]["call"]["rate"], model["bound"]),
    }


def rule_in_words(rule: Band) -> str:
    """A band of calls per hour."""
    words = f"more than {int(np.ceil(rule.threshold)) - 1} calls in the last hour"
    return f"{words}, for some kinds of line more" if rule.raised else words


def both_kinds(s: Scored) -> bool:
    """Whether there are benign and nuisance calls to tell apart."""
    return len(np.unique(s.judged.nuisance[s.rows])) == 2


def ranking_figures(s: Scored) -> dict[str, Any]:
    """How well scores order calls; `None` where there is one kind only."""
    nuisance = s.judged.nuisance[s.rows]
    if not both_kinds(s):
        return {"calls": len(nuisance), "nuisance": int(nuisance.sum()), "auc": None, "average_precision": None}
    told: dict[str, Any] = to_json(ranking(s.raw[s.rows], nuisance))
    return told


def reliability_figures(s: Scored, card: BundleMetadata) -> dict[str, Any]:
    """Probabilities against what came true; calls without a score have none."""
    rows = s.rows & ~np.isnan(s.raw)
    if not rows.any():
        return {"bins": [], "ece": None, "log_loss": None}
    table = calibration_table(card.calibration.probabilities(s.raw[rows]), s.judged.nuisance[rows])
    told: dict[str, Any] = to_json(table)
    return told


def priors(rate: float | None, bound: float) -> list[dict[str, Any]]:
    """Precision where another share of calls is nuisance; nothing if no nuisance call was judged."""
    return [] if rate is None else [to_json(point) for point in prior_sweep(rate, bound)]


def data_figures(calls: pa.Table, nuisance: Array) -> dict[str, Any]:
    """How many calls, numbers and days, and the share of nuisance."""
    start = calls["start"].to_numpy()
    numbers = pc.unique(pa.chunked_array([*_plain(calls["caller"]), *_plain(calls["callee"])]))
    return {
        "calls": calls.num_rows,
        "numbers": len(numbers),
        "days": int((start.max() - start.min()) // DAY + 1),
        "nuisance_share": float(nuisance.mean()),
    }


def _plain(column: pa.ChunkedArray) -> list[pa.Array]:
    return [pc.unique(pc.dictionary_decode(chunk)) for chunk in column.chunks]


def band_of(t: Trained, values: Array) -> Band:
    """The band of other scores than the model's, held to the same benign error on the same folds; no guard is added."""
    benign = ~t.judged.nuisance & t.judged.known
    choose = threshold_calls(t.plan, t.fold, t.start, t.settings.seed) & benign
    certify = fold_rows("certify", t.plan.certify, t.fold, t.start) & benign
    return bands_of((FeedScores(values, t.stratum),), choose, certify, 0.0)[0]


def slice_figures(s: Scored, band: Band) -> list[dict[str, Any]]:
    """Each slice at the certified threshold: benign ones with the exact bound of their error, nuisance ones caught."""
    target = band.certificate.target
    found = slices(
        s.raw[s.rows], band.threshold, s.judged.nuisance[s.rows], s.judged.slice[s.rows], s.caller[s.rows],
        target=target, seed=s.seed,
    )  # fmt: skip
    return [
        {
            "slice": one.slice,
            "nuisance": one.nuisance,
            "calls": one.calls,
            "callers": one.callers,
            "flagged": one.flagged_calls,
            "rate": one.rate,
            "low": one.low,
            "high": one.high,
            "bound": None if one.nuisance else 1.0 - one.low,
            "certified": one.certified,
        }
        for one in found
    ]


def detection_curve(s: Scored, band: Band, rule: Band) -> dict[str, list[float]]:
    """Share of nuisance numbers found within n calls of their life, for the model and for the rule."""
    calls = np.unique(np.geomspace(1, 1000, 60).astype(int))
    return {
        "calls": [int(n) for n in calls],
        "model": found_by(s.raw[s.lives], band.threshold, s, calls),
        "rule": found_by(aligned_scores(s.rule, s.stratum, rule)[s.lives], rule.threshold, s, calls),
    }


def found_by(raw: Array, threshold: float, s: Scored, calls: Array) -> list[float]:
    """Share of callers detected at or before each number of calls."""
    detected, _ = detecting_calls(raw, threshold, s.caller[s.lives], s.start[s.lives])
    return [float((detected <= n).mean()) for n in calls]


def curve(raw: Array, nuisance: Array, rows: Array) -> list[list[float]]:
    """False-positive rate and catch rate, thinned to some hundred points that suit a logarithmic axis."""
    fpr, tpr, _ = roc_curve(nuisance[rows], raw[rows])
    wanted = np.concatenate([[0.0], np.geomspace(1e-6, 1.0, CURVE_POINTS)])
    feature_columns = np.unique(np.searchsorted(fpr, wanted, side="right") - 1)
    return [[float(fpr[i]), float(tpr[i])] for i in feature_columns]


def top_features(model: str, names: Sequence[str], most: int = 12) -> list[dict[str, Any]]:
    """Features by their share of the total gain of the model's splits."""
    gain: dict[int, float] = {}
    features: list[str] = []
    for line in model.split("\n"):
        if line.startswith("split_feature="):
            features = line.removeprefix("split_feature=").split()
        elif line.startswith("split_gain="):
            for feature, value in zip(features, line.removeprefix("split_gain=").split(), strict=True):
                gain[int(feature)] = gain.get(int(feature), 0.0) + float(value)
    total = sum(gain.values()) or 1.0
    best = sorted(gain, key=lambda feature: -gain[feature])[:most]
    return [{"name": names[i], "en": ALL_FEATURES[names[i]].en, "share": gain[i] / total} for i in best]


def band_json(band: Band) -> dict[str, Any]:
    """A band with its certificates as plain values."""
    return {
        "name": band.name,
        "target": band.certificate.target,
        "threshold": band.threshold,
        "silent": list(band.abstains),
        "raised": dict(band.raised),
        "certificate": to_json(band.certificate),
        "strata": to_json(band.strata),
    }


def metrics(figures: Mapping[str, Any]) -> dict[str, float]:
    """The headline as flat numbers for MLflow."""
    found: dict[str, float] = {"auc": figures["ranking"]["auc"], "ece": figures["reliability"]["ece"]}
    for who in ("model", "rule"):
        told = figures["headline"][who]
        found[f"{who}_benign_error_bound"] = told["bound"]
        found[f"{who}_false_calls"] = told["false_calls"]
        for weight in ("call", "caller", "callee"):
            rate = told["catch"][weight]
            found |= {
                f"{who}_catch_by_{weight}": rate["rate"],
                f"{who}_catch_by_{weight}_low": rate["low"],
                f"{who}_catch_by_{weight}_high": rate["high"],
            }
        detection = told["detection"]
        for word in ("median", "p90"):  # what is not reached has a floor alone
            name = word if detection[word] is not None else f"{word}_floor"
            found[f"{who}_detection_{name}"] = detection[name]
        found[f"{who}_found_within_{SOON}_calls"] = detection["soon_share"]
        found[f"{who}_lifetime_calls_stopped"] = detection["stopped_share"]
    return {name: value for name, value in found.items() if value is not None}
