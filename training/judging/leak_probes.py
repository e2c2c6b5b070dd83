"""Leak probes: every training is searched for leaks, which make a worthless model look good; a leak stops the run.

* A feature from the future: some vectors of a day are computed again from what was known when that day ended.
    Everything later is left out, and the outcomes of calls in progress are altered. No value may differ.
* A label from the future: labels are made again from what was known at their cutoff.
* A caller, block, trunk, device or campaign in two folds.
* A single feature that reveals the label: alone, it ranks callers as well as the label does.

Kaufman et al., Leakage in Data Mining (KDD 2011), call the first two leaks in features and in training examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import roc_auc_score

from callsieve.features.arrays import Array
from callsieve.features.catalogue import own_columns, vector_columns
from callsieve.features.files.dates import DAY
from callsieve.features.intake.text_columns import factorize
from callsieve.features.offline.table import vectors
from callsieve.serving.batch.own_column_join import own_values
from callsieve.training.data.credibility import among
from callsieve.training.data.dataset import Dataset, as_known, campaigns_of
from callsieve.training.data.feeds import Feed
from callsieve.training.data.labels import label_numbers
from callsieve.training.evidence.judging_labels import GROUNDS
from callsieve.training.model.folds import recomputed_rows
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import LINKS, judged_span, links_of

if TYPE_CHECKING:
    from callsieve.training.model.train import Trained


MIN_CALLERS = 30  # of each class; a feature may rank fewer callers perfectly by chance
TOO_GOOD = 0.995  # AUC


class SingleFeature(TypedDict):
    """The feature that alone ranks callers best."""

    name: str
    auc: float


class LeakProbes(TypedDict):
    """Result of the leak probes: counts of recomputed vectors and labels, and columns that the split separates."""

    vectors_again: int
    labels_again: int
    separated: list[str]
    best_single_feature: SingleFeature | None


class LeakError(ValueError):
    """Training or judging would have used information that it must not have."""


def check_for_leaks(t: Trained) -> LeakProbes:
    """Searches a finished training for every kind of leak, in the last of its folders.

    Returns: counts and columns that were checked, and the best single feature.
    """
    names, dataset, folds, feed = vector_columns(t.settings.features), t.last.dataset, t.last.folds, t.last.feed
    checked = require_equal_vectors(feed, vectors_again(dataset, t.settings), names)
    cutoff = pd.Timestamp(folds.plan.label_cutoff, unit="ms", tz="UTC")
    known_dataset = known_before(dataset, folds.plan.label_cutoff)
    used = label_numbers(dataset, cutoff, t.settings.label_policy)
    require_equal_labels(used, label_numbers(known_dataset, cutoff, t.settings.label_policy), cutoff)
    links = {"caller": dataset.calls["caller"], **links_of(dataset.calls)}
    campaigns = {f"campaign {place}": column for place, column in enumerate(campaigns_of(dataset))}
    require_one_fold_each(folds.fold, links | campaigns)
    # Whom people call first follows from calls, as features do: among such callers an honest feature looks perfect.
    later = (folds.start >= folds.plan.choose[0]) & (folds.judged.ground != GROUNDS.index("called first"))
    best = best_single_feature(feed, folds.judged.nuisance, folds.caller, later, names)
    return {
        "vectors_again": checked,
        "labels_again": len(used),
        "separated": [*links, *campaigns],
        "best_single_feature": best,
    }


def known_before(dataset: Dataset, moment: int) -> Dataset:
    """Returns the dataset as known before a moment (Unix ms): later rows are left out, outcomes still to come are
    altered.
    """
    calls = dataset.calls
    earlier = calls.filter(pc.less(calls["start"], moment))
    when = pd.Timestamp(moment, unit="ms", tz="UTC")
    return replace(as_known(dataset, when), calls=with_altered_outcomes(earlier, moment), truth=None)


def with_altered_outcomes(calls: pa.Table, moment: int) -> pa.Table:
    """Returns the calls with every outcome that became known at the moment or later altered, and known a day later."""
    ring, talk = (calls[name].cast(pa.int64()).fill_null(0).to_numpy() for name in ("ring", "talk"))
    end = calls["start"].to_numpy() + ring + talk
    recorded = calls["recorded"].cast(pa.int64()).fill_null(-1).to_numpy()
    pending = np.where(recorded >= 0, recorded, end) >= moment
    changed = calls
    for name in ("talk", "recorded"):
        column = calls[name].cast(pa.int64())
        later = pa.array(np.where(pending, DAY, 0))
        changed = changed.set_column(changed.column_names.index(name), name, pc.add(column, later))
    for name in ("outcome", "released_by"):
        words = calls[name].combine_chunks()
        count = len(words.dictionary)
        index = words.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        other = pa.array(np.where(pending, (index + 1) % count, index), words.indices.type)
        changed = changed.set_column(
            changed.column_names.index(name), name, pa.DictionaryArray.from_arrays(other, words.dictionary)
        )
    return changed


def vectors_again(dataset: Dataset, settings: Settings) -> tuple[Array, Array]:
    """Returns places of some calls of the first day with full windows, and their vectors from what was known when that
    day ended.
    """
    dataset = known_before(dataset, judged_span(dataset.calls)[0] + DAY)
    rows = recomputed_rows(dataset.calls["start"].to_numpy())
    near, places = neighbours(dataset.calls, rows)
    again = vectors(near, threads=settings.threads or None)[places]
    chosen = dataset.calls.take(rows)
    if own_columns(settings.features):
        own = own_values(settings.features, chosen["caller"], chosen["start"].to_numpy(), dataset.own)
        again = np.hstack([again, own])
    return rows, again


def neighbours(calls: pa.Table, rows: Array) -> tuple[pa.Table, Array]:
    """Returns the calls that share a history with these rows, and the indices of the rows among them.

    A feature reads the calls of the caller, the callee, and the caller's block, trunk and device, and no others. So a
    second set of vectors needs little memory.
    """
    chosen = calls.take(rows)
    near = np.zeros(calls.num_rows, dtype=bool)
    near[rows] = True
    people = pd.concat([chosen[name].cast(pa.string()).to_pandas() for name in ("caller", "callee")])
    wanted = {"caller": people, "callee": people}
    wanted |= {name: chosen[name].cast(pa.string()).drop_null().to_pandas() for name in LINKS}
    for name, words in wanted.items():
        near |= among(calls[name], words).fill_null(False).to_numpy(zero_copy_only=False)
    return calls.filter(pa.array(near)), (np.cumsum(near) - 1)[rows]


def require_equal_vectors(used: Feed, again: tuple[Array, Array], names: Sequence[str]) -> int:
    """Returns how many vectors were compared; all of them equal the vectors computed again."""
    rows, second = again
    first = used.at(rows)
    differs = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    if differs.any():
        column = int(np.flatnonzero(differs.any(axis=0))[0])
        raise LeakError(
            f"feature {names[column]}: {differs[:, column].sum()} of {len(rows)} values depend on what became known "
            "after the call: expected 0"
        )
    return len(rows)


def require_equal_labels(used: pd.DataFrame, recomputed: pd.DataFrame, cutoff: pd.Timestamp) -> None:
    """Raises `LeakError` unless the labels used equal those made from what was known at the cutoff."""
    late = int((used["known_at"] > cutoff).sum())
    if late:
        raise LeakError(f"labels: {late} became known after the cutoff: expected 0")
    ordered = [labels.sort_values("number", kind="stable").reset_index(drop=True) for labels in (used, recomputed)]
    if not ordered[0].equals(ordered[1]):
        pairs = [set(map(tuple, labels[["number", "nuisance"]].to_numpy())) for labels in ordered]
        differing = len(pairs[0] ^ pairs[1])
        raise LeakError(
            f"labels: {differing} differ from those made of what was known at the cutoff: expected the same labels "
            "and times"
        )


def require_one_fold_each(fold: Array, columns: Mapping[str, pa.ChunkedArray]) -> None:
    """Raises `LeakError` if a value of a column has calls in two folds."""
    for name, column in columns.items():
        code, count = factorize(column)
        valid = code >= 0
        pairs = np.unique(code[valid] * (int(fold.max(initial=0)) + 1) + fold[valid])
        if len(pairs) != len(np.unique(code[valid])):
            raise LeakError(
                f"split: {len(pairs) - count} of {count} values of {name} have calls in two folds: expected 0"
            )


def best_single_feature(
    feed: Feed, nuisance: Array, caller: Array, rows: Array, names: Sequence[str]
) -> SingleFeature | None:
    """Returns the feature that alone ranks callers best, from one call of each; None if there are too few callers.

    `nuisance`, `rows`: bool, of each call; calls outside `rows` are left out.
    """
    at = feed.rows[rows[feed.rows]]
    at = at[np.random.default_rng(0).permutation(len(at))]
    at = np.sort(at[np.unique(caller[at], return_index=True)[1]])
    y = nuisance[at]
    if min(int(y.sum()), int((~y).sum())) < MIN_CALLERS:
        return None
    areas = []
    for column in range(len(names)):
        values = feed.values(at, column)
        area = roc_auc_score(y, np.where(np.isnan(values), -1.0, values))
        areas.append(max(area, 1 - area))
    best = int(np.argmax(areas))
    if areas[best] >= TOO_GOOD:
        raise LeakError(
            f"feature {names[best]}: alone it ranks callers with AUC {areas[best]:.4f}: expected less than {TOO_GOOD}; "
            "look for a leak in this feature"
        )
    return {"name": names[best], "auc": float(areas[best])}
