"""The figures of a trained model, for people, for MLflow and for `--json`, and the baselines that it has to beat.

Headline figures are of the certifying fold: it is later than all other folds, and its groups were not trained on.

Baselines are simpler models on the same rows and labels, a list, and counters. A regression has few parameters, so it
is fitted on a random sample of the training rows (`Trained.learnt`). As for the ensemble, a regression is also fitted
without each part of the groups. These fits score that part when thresholds are chosen. The five counters are not
trained. They follow `fraud_detection` of OpenSIPS, but count calls by the hour instead of the minute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from msgspec import structs

from callsieve.features.arrays import Array
from callsieve.features.catalogue import BY_NAME, NAMES
from callsieve.features.files.dates import DAY
from callsieve.serving.bundle.metadata import Band, BundleMetadata
from callsieve.serving.rules.strata import STRATA
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.data.dataset import count_numbers
from callsieve.training.model.bands import aligned_scores, bands_of, caution_of, chosen_on
from callsieve.training.model.certify import FeedScores, difference_interval
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.pool import FolderFacts
from callsieve.training.model.scores import levels_of_folders, score_rows
from callsieve.training.model.train import Trained, covered_calls, folder_entry, missing_calls
from callsieve.training.model.trees import read_forest

from .baselines import baseline_scores
from .calls_made import by_calls_made, reliability_by
from .class_figures import class_figures
from .evasions import evasion_figures
from .figures import EqualError, Gain, HourlyRule
from .headline import (
    JudgedCalls,
    PolicyActions,
    band_figures,
    catch_of,
    detection_curve,
    folder_figures,
    headline_of,
    outcome_figures,
    policy_headline,
)
from .metrics import (
    KINDS,
    Ranking,
    Reliability,
    Slice,
    calibration_table,
    curve,
    nearest_callers,
    precision_at_priors,
    ranking,
    score_histogram,
    slices,
)
from .run_figures import (
    AnnouncingFigures,
    CallCounts,
    Judgement,
    OperatingPoint,
    RowCounts,
    ScoreFigures,
    Summary,
    TopFeature,
)

RULE = NAMES.index("out_calls_count_1h")
EXPLAINED_CALLS = 500  # of each kind
FEATURES_SHOWN = 12
UNREACHED = 1e6  # log-odds by which a score is lowered that must reach no threshold
SHIPPED = "the shipped model"  # its name among the baselines
FEWEST_CALLERS = 30  # nuisance callers; with fewer, resampled callers show no difference between two models


def judge(
    t: Trained, actions: PolicyActions, source: str = "", others: Mapping[str, Scorer] | None = None
) -> Judgement:
    """Returns all figures of a trained model."""
    calls = judged_calls(t)
    band = t.card.thresholds[0]
    scores = aligned_scores(t.raw, t.stratum, band)
    judges = set(band.abstains) < set(STRATA)
    seen = t.pool.trained & t.pool.late & t.pool.judged.known & judges
    rule = baseline_band(t, calls.rule)
    judged = score_figures(calls, t.card, rule, actions)
    baselines = {name: (raw, baseline_band(t, raw)) for name, raw in baseline_scores(t).items()}
    shipped = {} if t.settings.base else {SHIPPED: Scorer.load()}
    wanted = calls.rows | calls.lives | t.pool.choose  # the level of a network is that of random calls
    baselines |= {name: served(t, scorer, wanted) for name, scorer in {**shipped, **(others or {})}.items()}
    last = folder_entry(t.folders[-1])
    return {
        "model": {
            "trees": t.fitted.trees,
            "features": len(t.card.features),
            "calibration": t.fitted.calibration,
            "top_features": top_features(t, calls),
        },
        "data": {
            **counts_of_folders(t.folders),
            "fingerprint": t.folders[-1].fingerprint,
            "folders": len(t.folders),
            "learn_from": t.settings.learn_from,
            "seed": t.settings.seed,
            "judged_by": t.pool.judged.source,
            "judged_on": judged_on(t),
            "source": source,
        },
        "folds": {
            "train": last["folds"]["train"],
            "choose": last["folds"]["choose"],
            "certify": last["folds"]["certify"],
            "label_cutoff": last["label_cutoff"],
        },
        "rows": row_counts(t, calls),
        "bands": [band_figures(b) for b in t.card.thresholds],
        "seen": {"calls": int(seen.sum()), "catch": catch_of(calls, scores, band.threshold, seen)},
        "unseen": {"calls": int(calls.rows.sum()), "catch": judged["headline"]["model"]["catch"]},
        "covered": {} if t.settings.base else covered_calls(t.folders),
        "too_few": None if t.settings.base else missing_calls(t.folders, t.settings.target),
        "odd_records": [sign for folder in t.folders for sign in folder.odd_records],
        "gain": gain_on(calls, band, *baselines[SHIPPED]) if SHIPPED in baselines else None,
        "kinds": class_figures(t, calls.rows & (scores >= band.threshold)),
        "baselines": {name: headline_of(calls, raw, own) for name, (raw, own) in baselines.items()},
        "feeds": t.fitted.feeds,
        "flags": t.fitted.flags,
        "by_folder": folder_figures(
            calls, t.folders, t.pool.folder, band, actions, baselines | {"rule": (calls.rule, rule)}
        ),
        **judged,
    }


def served(t: Trained, scorer: Scorer, wanted: Array) -> tuple[Array, Band]:
    """Returns the scores of the wanted calls by another model and its band, as it serves such records.

    On a feed without bands the band abstains. In a folder whose score level is unlike those learnt from, no score
    reaches a threshold.
    """
    bundle, feed = scorer.bundle, scorer.feed_for(t.card.feed)
    columns, every = feature_columns(bundle.features), np.arange(len(wanted))
    raw = score_rows(bundle.risk_model(feed)[0], t.X, every, wanted, columns, t.settings.threads)
    if (level := bundle.levels.get(feed)) is not None:
        shifts = [level.shift(own) for own in levels_of_folders(raw, t.pool)]
        amount = np.array([UNREACHED if shift.unlike else shift.amount for shift in shifts])
        raw -= amount[t.pool.folder]
    bands = scorer.bands(feed)
    return raw, bands[0] if bands else structs.replace(bundle.thresholds[0], abstains=STRATA, raised={})


def is_candidate(figures: Judgement) -> bool:
    """Returns whether a model may be promoted: a training must be better than the shipped model, on the same calls."""
    return figures["gain"] is None or figures["gain"]["better"]


def gain_on(s: JudgedCalls, band: Band, raw: Array, own: Band) -> Gain:
    """Returns how many more nuisance calls the model catches than another, each at its own thresholds."""
    nuisance, equal = s.rows & s.judged.nuisance, at_equal_error(s, band, raw, own)
    if not nuisance.any():
        return {"rate": None, "low": None, "high": None, "callers": 0, "better": False, "equal": equal}
    flags = [aligned_scores(scores, s.stratum, of) >= of.threshold for scores, of in ((s.raw, band), (raw, own))]
    low, high = difference_interval(flags[0][nuisance], flags[1][nuisance], s.caller[nuisance], seed=s.seed)
    allowed = max(float(equal["base_flagged"]), band.certificate.target * equal["innocent"])
    return {
        "rate": float(flags[0][nuisance].mean() - flags[1][nuisance].mean()),
        "low": low,
        "high": high,
        "callers": equal["callers"],
        "better": bool(low > 0 and equal["callers"] >= FEWEST_CALLERS and equal["flagged"] <= allowed),
        "equal": equal,
    }


def at_equal_error(s: JudgedCalls, band: Band, raw: Array, own: Band) -> EqualError:
    """Returns what a model catches at its thresholds, and its base where it flags no more innocent calls than that."""
    model, base = (aligned_scores(scores, s.stratum, of) for scores, of in ((s.raw, band), (raw, own)))
    nuisance, innocent = s.rows & s.judged.nuisance, s.rows & ~s.judged.nuisance
    flagged, ranked = int((model[innocent] >= band.threshold).sum()), -np.sort(-base[innocent & ~np.isnan(base)])
    first = ranked[flagged] if flagged < len(ranked) else -np.inf
    judges = set(own.abstains) < set(STRATA)
    caught = float((model[nuisance] >= band.threshold).mean()) if nuisance.any() else None
    return {
        "calls": int(nuisance.sum()),
        "callers": len(np.unique(s.caller[nuisance])),
        "innocent": int(innocent.sum()),
        "flagged": flagged,
        "base_flagged": int((base[innocent] >= own.threshold).sum()),
        "caught": caught,
        "base_caught": None if caught is None or not judges else float((base[nuisance] > first).mean()),
    }


def judged_on(t: Trained) -> str:
    """Returns in words which calls judge a training, or an adaptation of a bundle."""
    if not t.settings.base:
        by_evidence = ", of callers that evidence decides" if t.pool.judged.source != "truth" else ""
        return f"groups unseen in training{by_evidence}"
    if t.pool.judged.source == "truth":
        return "every call after the first 7 days"
    return "calls after the first 7 days, of callers that evidence decides"


def operating_point(t: Trained, raw: Array, bands: Sequence[Band]) -> OperatingPoint | None:
    """Returns the figures of another model on the judged calls; None if it abstains on such records."""
    if not bands:
        return None
    calls = judged_calls(t)
    abstaining = replace(calls, raw=aligned_scores(raw, calls.stratum, bands[0]))
    return {
        "headline": headline_of(calls, raw, bands[0]),
        "slices": slice_figures(abstaining, bands[0]),
        "equal": at_equal_error(calls, t.card.thresholds[0], raw, bands[0]),
    }


def counts_of_folders(folders: Sequence[FolderFacts]) -> CallCounts:
    """Returns the counts of all folders of a training; a number that calls in two folders counts twice."""
    calls = sum(folder.calls for folder in folders)
    return {
        "calls": calls,
        "numbers": sum(folder.numbers for folder in folders),
        "days": sum(folder.days for folder in folders),
        "nuisance_share": sum(folder.nuisance for folder in folders) / calls,
    }


def summarise(t: Trained) -> Summary:
    """Returns headline, ranking and row counts, without baselines; studies of many trainings compare these."""
    calls = judged_calls(t)
    return {
        "headline": headline_of(calls, t.raw, t.card.thresholds[0]),
        "ranking": ranking_figures(calls),
        "rows": row_counts(t, calls),
    }


def judged_calls(t: Trained) -> JudgedCalls:
    """Returns the scored calls of a training; the headline is of its certifying fold."""
    pool, known_lives = t.pool, t.pool.new & t.pool.trained
    return JudgedCalls(
        rule=np.asarray(t.X[:, RULE]),
        raw=with_final_scores(t, known_lives),
        stratum=t.stratum,
        judged=pool.judged,
        caller=pool.caller,
        callee=pool.callee,
        group=pool.group,
        start=pool.start,
        nth=pool.nth,
        rows=pool.certify & ~pool.judged.announcing,
        announcing=pool.certify & pool.judged.announcing,
        lives=pool.new & ~pool.trained,
        known_lives=known_lives,
        seed=t.settings.judging_seed,
    )


def with_final_scores(t: Trained, rows: Array) -> Array:
    """Returns the raw scores of the training, with `rows` scored by the whole ensemble.

    Where thresholds are chosen, a training scores calls by the members that did not train on their group.
    """
    columns, every = feature_columns(t.settings.features), np.arange(len(rows))
    final = score_rows(t.models["model"], t.X, every, rows, columns, t.settings.threads)
    return np.where(rows, final - t.shift[t.pool.folder], t.raw)


def row_counts(t: Trained, calls: JudgedCalls) -> RowCounts:
    """Returns the numbers of training rows, of judged calls of the certifying fold, and of groups."""
    return {"train": t.fitted.rows["train"], "certify": int(calls.rows.sum()), "groups": t.fitted.groups}


def score_figures(s: JudgedCalls, card: BundleMetadata, rule: Band, actions: PolicyActions) -> ScoreFigures:
    """Returns the figures of a bundle on scored calls, beside those of a rule on calls per hour.

    `rule`: band of calls in the last hour.
    """
    band = card.thresholds[0]
    nuisance = s.judged.nuisance
    model = headline_of(s, s.raw, band)
    caught = model["catch"]["call"]["rate"]
    abstaining = replace(s, raw=aligned_scores(s.raw, s.stratum, band))  # below the threshold where the band abstains
    innocent = s.rows & ~nuisance
    above = abstaining.raw[innocent] - band.threshold
    return {
        "headline": {
            "model": model,
            "policy": policy_headline(s, actions, band),
            "rule": {**headline_of(s, s.rule, rule), "rule": hourly_rule(rule)},
        },
        "ranking": ranking_figures(s),
        "outcomes": outcome_figures(abstaining, band),
        "histogram": score_histogram(abstaining.raw[s.rows] - band.threshold, nuisance[s.rows]),
        "slices": slice_figures(abstaining, band),
        "nearest": nearest_callers(above, s.judged.slice[innocent], s.caller[innocent]),
        "attacks": evasion_figures(abstaining, band.threshold, actions),
        "buckets": by_calls_made(abstaining, band),
        "reliability_by": reliability_by(s, card),
        "curve": {"model": curve(abstaining.raw, nuisance, s.rows), "rule": curve(s.rule, nuisance, s.rows)}
        if both_classes(s)
        else {},
        "detection_curve": detection_curve(abstaining, band, rule) if s.lives.any() else {},
        "reliability": reliability_figures(s, card),
        "announcing": announcing_figures(abstaining, band),
        "precision_at_prior": [] if caught is None else precision_at_priors(caught, model["bound"]),
    }


def announcing_figures(s: JudgedCalls, band: Band) -> AnnouncingFigures:
    """Returns how many calls of surveys and public announcements reach a band."""
    rows = np.zeros(len(s.raw), dtype=bool) if s.announcing is None else s.announcing
    flagged = int((s.raw[rows] >= band.threshold).sum())
    return {"calls": int(rows.sum()), "callers": len(np.unique(s.caller[rows])), "flagged": flagged}


def hourly_rule(rule: Band) -> HourlyRule:
    """Returns a band of calls per hour as a rule."""
    return {"more_than": int(np.ceil(rule.threshold)) - 1, "higher_for_some": bool(rule.raised)}


def both_classes(s: JudgedCalls) -> bool:
    """Returns whether the judged calls are both benign and nuisance."""
    return len(np.unique(s.judged.nuisance[s.rows])) == 2


def ranking_figures(s: JudgedCalls) -> Ranking:
    """Returns how well scores order the judged calls."""
    nuisance = s.judged.nuisance[s.rows]
    if not both_classes(s):
        return {"calls": len(nuisance), "nuisance": int(nuisance.sum()), "auc": None, "average_precision": None}
    return ranking(s.raw[s.rows], nuisance)


def reliability_figures(s: JudgedCalls, card: BundleMetadata) -> Reliability:
    """Returns predicted probabilities against observed shares of nuisance; calls without a score are left out."""
    rows = s.rows & ~np.isnan(s.raw)
    if not rows.any():
        return {"bins": [], "ece": None, "log_loss": None}
    return calibration_table(card.calibration.probabilities(s.raw[rows]), s.judged.nuisance[rows])


def call_counts(calls: pa.Table, nuisance: Array) -> CallCounts:
    """Returns the number of calls, numbers and days of a table, and its share of nuisance."""
    start = calls["start"].to_numpy()
    return {
        "calls": calls.num_rows,
        "numbers": count_numbers(calls),
        "days": int((start.max() - start.min()) // DAY + 1),
        "nuisance_share": float(nuisance.mean()),
    }


def baseline_band(t: Trained, values: Array) -> Band:
    """Returns the band of a baseline's scores, for the target of the model and on the same folds; no guard is added."""
    benign = ~t.pool.judged.nuisance & t.pool.judged.known & ~t.pool.judged.announcing
    caution = replace(caution_of(by_folder=t.fitted.by_folder), guard=0.0)
    target = t.settings.target
    return bands_of(FeedScores(values, t.stratum), chosen_on(t.pool, target), t.pool.certify & benign, caution, target)[
        0
    ]


def slice_figures(s: JudgedCalls, band: Band) -> list[Slice]:
    """Returns the figures of each kind of caller at the certified threshold."""
    rows = s.rows if s.announcing is None else s.rows | s.announcing
    target = band.certificate.target
    return slices(
        s.raw[rows],
        band.threshold,
        s.judged.nuisance[rows],
        s.judged.slice[rows],
        s.caller[rows],
        target=target,
        seed=s.seed,
    )


def top_features(t: Trained, calls: JudgedCalls) -> list[TopFeature]:
    """Returns the features with the largest Shapley values over a sample of the judged calls."""
    forest, names, draw = read_forest(t.models["model"]), t.card.features, np.random.default_rng(t.settings.seed)
    columns, means, sizes = feature_columns(t.settings.features), {}, np.zeros(len(names))
    for kind, flag in KINDS.items():
        rows = np.flatnonzero(calls.rows & (calls.judged.nuisance == flag))
        rows = draw.choice(rows, min(len(rows), EXPLAINED_CALLS), replace=False)
        values = np.array([forest.contributions(row.tolist())[0] for row in t.X[np.sort(rows)][:, columns]])
        values = values.reshape(-1, len(names))
        means[kind] = values.mean(axis=0) if len(values) else sizes * 0
        sizes += np.abs(values).sum(axis=0)
    best, total = np.argsort(-sizes, kind="stable")[:FEATURES_SHOWN], sizes.sum() or 1.0
    return [
        {
            "name": names[i],
            "en": BY_NAME[names[i]].en if names[i] in BY_NAME else names[i],
            "share": float(sizes[i] / total),
            "nuisance": float(means["nuisance"][i]),
            "innocent": float(means["innocent"][i]),
        }
        for i in best
    ]
