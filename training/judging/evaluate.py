"""Judges a signed bundle on calls that it was not trained on.

A bundle contains no number. Its metadata name the data, the seed and the time span of its training. On the same data,
the folds can be computed again. On other calls that cover the training span, a group that did not call in that span was
not trained on. The groups are unknown for calls that begin later. After a training on several folders, they are known
for the calls of these folders only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import numpy as np
from msgspec import structs

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import check_present
from callsieve.features.files.progress import Progress
from callsieve.features.intake.text_columns import factorize
from callsieve.features.online.feeds import COMPLETE, feed_of_table
from callsieve.serving.batch.file_scoring import open_scorer
from callsieve.serving.batch.table_rules import rules_met
from callsieve.serving.bundle.metadata import Band, BundleMetadata
from callsieve.serving.rules.rule_bits import rule_columns, table_actions
from callsieve.serving.rules.strata import STRATA, strata_of
from callsieve.training.data.dataset import Dataset, campaigns_of, read_dataset
from callsieve.training.data.feeds import vectors_on
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.evidence.judging_labels import judging_labels
from callsieve.training.model.bands import aligned_scores
from callsieve.training.model.certify import FalseCalls, certificate, choose_threshold
from callsieve.training.model.folds import calls_of_new_callers, nth_call
from callsieve.training.model.split import FOLDS, caller_classes, fold_of_group, groups, judged_span
from callsieve.training.oversight.log.looks import Ledger, count_look
from callsieve.training.oversight.log.payload_types import Look

from .headline import JudgedCalls, PolicyActions, catch_of
from .judge import RULE, call_counts, score_figures
from .run_figures import DataFigures, ScoreFigures, SeenCalls

BY_FOLDS = "the folds of its training, computed again on the same calls"
BY_TIME = "whether the caller's group called in the time span that the model was trained on"
NOT_KNOWN = "not known: the bundle contains no number, and the calls begin after the first call of its training"


class ModelId(TypedDict):
    """The id of the judged model."""

    id: str


class SeenGroupFigures(FalseCalls, SeenCalls):
    """Error and catch rate on calls of groups that the model may have been trained on, or was not trained on."""


class BySeenGroups(TypedDict):
    """Figures by whether the model may have seen the caller's group; `seen_basis` states how that is known."""

    seen_basis: str
    seen: SeenGroupFigures | None
    unseen: SeenGroupFigures | None


class FeedEntry(TypedDict):
    """The feed of some records, and whether a bundle has bands for it."""

    name: str
    bands: bool


class EvaluationFigures(ScoreFigures, BySeenGroups, Look):
    """Figures of a bundle on calls that it was not trained on: `callsieve evaluate --json`."""

    model: ModelId
    feed: FeedEntry
    data: DataFigures


def evaluate(
    bundle: Path, data: Path, *, trust: Path | None, threads: int, progress: Progress, ledger: Ledger | None
) -> EvaluationFigures:
    """Returns the figures of a bundle on the calls of a folder; the first 7 days only fill the windows.

    The threshold of the rule on calls per hour is fitted to these test calls, which favours the rule over the model.
    Without bands for the feed of the records a service abstains; the figures then use the bands of the bundle's feed.
    """
    check_present(bundle, data, trust)
    scorer = open_scorer(bundle, trust)
    dataset = read_dataset(data, "evaluation")
    look = count_look(ledger, scorer.bundle, dataset.fingerprint, judged_span(dataset.calls), "evaluate", data)
    progress("features", 0.1)
    X = vectors_on(COMPLETE, dataset, scorer.bundle.features, threads).X
    progress("score", 0.6)
    seen = seen_groups(dataset, scorer.bundle)
    rule_bits = rules_met(dataset.calls, rule_columns(X), None, scorer.policy.terms)
    feed = scorer.feed_for(feed_of_table(dataset.calls))
    shift = scorer.shift_of(X, feed=feed)
    bundle_there = structs.replace(scorer.bundle, thresholds=scorer.bands(feed) or scorer.bundle.thresholds)
    scores = scorer.score_table(X, rule_bits, feed=feed, shift=shift, threads=threads)
    by_rules = table_actions(scorer.policy, np.zeros_like(scores.band_action), scores.rule_bits)
    actions = PolicyActions(scorer.policy.version, scores.action, by_rules)
    calls = judged_calls(dataset, X, scores.raw, seen)
    progress("judge", 0.8)
    return {
        "model": {"id": scorer.bundle.model_id},
        "feed": {"name": feed, "bands": bool(scorer.bands(feed))},
        **look,
        "data": {
            **call_counts(dataset.calls, calls.judged.nuisance),
            "source": str(data),
            "fingerprint": dataset.fingerprint,
            "judged_by": calls.judged.source,
            "judged_on": "every call after the first 7 days; the rule's threshold is fitted to these calls",
        },
        **score_figures(calls, bundle_there, best_rule(calls, bundle_there.thresholds[0].certificate.target), actions),
        **by_seen_groups(calls, bundle_there.thresholds[0], seen),
    }


def by_seen_groups(calls: JudgedCalls, band: Band, seen: SeenGroups) -> BySeenGroups:
    """Returns error and catch rate by whether the caller's group may have been in training; None if not known."""
    if seen.seen is None:
        return {"seen_basis": seen.basis, "seen": None, "unseen": None}
    return {
        "seen_basis": seen.basis,
        "seen": _figures(calls, band, calls.rows & seen.seen),
        "unseen": _figures(calls, band, calls.rows & ~seen.seen),
    }


def _figures(calls: JudgedCalls, band: Band, rows: Array) -> SeenGroupFigures:
    raw = aligned_scores(calls.raw, calls.stratum, band)
    proof = certificate("these calls", raw[rows & ~calls.judged.nuisance], band.threshold, band.certificate.target)
    return {
        "calls": int(rows.sum()),
        "benign_calls": proof.benign_calls,
        "false_calls": proof.false_calls,
        "bound": proof.bound,
        "catch": catch_of(calls, raw, band.threshold, rows),
    }


def judged_calls(dataset: Dataset, X: Array, raw: Array, seen: SeenGroups) -> JudgedCalls:
    """Returns the scored calls of a dataset; judged are all calls after the first 7 days.

    `lives` has the numbers that began after these 7 days. `known_lives` has those that also began after the labels of
    the training, in groups that the model may have been trained on.
    """
    start = dataset.calls["start"].to_numpy()
    (caller, _), (callee, _) = factorize(dataset.calls["caller"]), factorize(dataset.calls["callee"])
    truth = judging_labels(dataset, caller, read_label_policy())
    begin = judged_span(dataset.calls)[0]
    newer = calls_of_new_callers(max(begin, seen.labels_made), truth, caller, start)
    return JudgedCalls(
        rule=X[:, RULE],
        raw=raw,
        stratum=strata_of(X),
        judged=truth,
        caller=caller,
        callee=callee,
        group=groups(dataset.calls, campaigns_of(dataset)),
        start=start,
        nth=nth_call(caller, start),
        rows=(start >= begin) & truth.known & ~truth.announcing,
        announcing=(start >= begin) & truth.announcing,
        lives=calls_of_new_callers(begin, truth, caller, start),
        known_lives=None if seen.seen is None else newer & seen.seen,
        seed=0,
    )


def best_rule(calls: JudgedCalls, target: float) -> Band:
    """Returns the lowest threshold on calls per hour whose benign error on these calls is within the target.

    Without a benign call the band abstains.
    """
    values = calls.rule[calls.rows & ~calls.judged.nuisance]
    if np.isnan(values).all():
        return Band("rule", 0.0, certificate("these calls", values, 0.0, target), {}, STRATA)
    threshold = choose_threshold(values, target, margin=1.0)
    return Band("rule", threshold, certificate("these calls", values, threshold, target))


@dataclass(frozen=True, slots=True)
class SeenGroups:
    """Whether the model may have been trained on each call's group, and how that is known.

    A number whose first call is at `labels_made` (Unix ms) or later was not trained on, even if its group was.
    """

    seen: Array | None  # bool, of each call; None: not known
    basis: str
    labels_made: int = 0


def seen_groups(dataset: Dataset, card: BundleMetadata) -> SeenGroups:
    """Returns which calls belong to groups that the model with these metadata may have been trained on."""
    training, start = card.training, dataset.calls["start"].to_numpy()
    folders = training.get("folders", ())
    same = [folder for folder in folders if folder["data"] == dataset.fingerprint]
    if not len(start) or not (same or len(folders) == 1):
        return SeenGroups(None, NOT_KNOWN)
    folder = (same or folders)[0]
    # The metadata round moments down to whole seconds, so a span may end up to a second later than stated.
    group, made = groups(dataset.calls, campaigns_of(dataset)), _milliseconds(folder["label_cutoff"]) + 1000
    # Campaigns join groups, so with other known campaigns than in training the folds differ.
    if same and len(np.unique(group)) == folder["groups"]:
        if folder["role"] != "both":
            return SeenGroups(np.full(len(start), folder["role"] == "learn"), BY_FOLDS, made)
        seed = training["settings"].get("judge_seed", training["seed"])
        fold = fold_of_group(group, caller_classes(dataset.calls), seed)
        return SeenGroups(fold == FOLDS.index("train"), BY_FOLDS, made)
    begin, end = (_milliseconds(moment) for moment in folder["folds"]["train"])
    if start.min() > begin or start.max() < end:
        return SeenGroups(None, NOT_KNOWN)
    return SeenGroups(np.isin(group, group[(start >= begin) & (start < end + 1000)]), BY_TIME, made)


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
