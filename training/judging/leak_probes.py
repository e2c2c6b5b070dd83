"""Leaks that make a model look good and be worthless: looked for in every study, and none is let pass.

* A feature made of the future: vectors of a day are computed anew from what was known when that day ended, everything
  later left out and the outcomes of calls in the air made up; not one value may differ.
* A label known later: labels are made anew from what was known at their cutoff.
* The same caller, block, trunk, device or campaign on two sides of the split.
* A feature that tells all: one that alone ranks callers as well as the label itself is a leak until shown otherwise.

Kaufman et al., Leakage in Data Mining (KDD 2011), call the first two leaks in features and in training examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import roc_auc_score

from callsieve.features.catalogue import NAMES, vector_columns
from callsieve.features.complaints import complaint_vectors
from callsieve.features.files.dates import DAY
from callsieve.features.intake.text_columns import codes
from callsieve.features.offline.table import vectors
from callsieve.serving.batch.complaint_rows import complaint_table
from callsieve.training.data.credibility import among
from callsieve.training.data.dataset import Dataset, as_known, campaigns_of
from callsieve.training.data.labels import label_numbers
from callsieve.training.model.call_choice import recomputed_rows
from callsieve.training.model.split import LINKS

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.training.data.feeds import Feed
    from callsieve.training.model.train import Trained

    Array = npt.NDArray[Any]

LEAST_CALLERS = 30  # of each kind, below which a feature may rank them all by chance
TOO_GOOD = 0.995


class LeakError(ValueError):
    """Training or judging would have seen what it must not."""


def check(t: Trained) -> dict[str, Any]:
    """Look for every leak in a finished training.

    Returns: what was checked, JSON-able.
    Raises:
        LeakError: in one line that names the leak and where it is.
    """
    names = vector_columns(t.settings.features)
    moment = t.plan.train[0] + DAY
    again = vectors_again(t, moment)
    checked = future_features(t.feed, again, names)
    cutoff = pd.Timestamp(t.plan.label_cutoff, unit="ms", tz="UTC")
    known = known_before(t.dataset, t.plan.label_cutoff)
    used = label_numbers(t.dataset, cutoff, t.settings.label_policy)
    later_labels(used, label_numbers(known, cutoff, t.settings.label_policy), cutoff)
    sides = {"caller": t.dataset.calls["caller"], **{name: t.dataset.calls[name] for name in LINKS}}
    campaigns = {f"campaign {place}": column for place, column in enumerate(campaigns_of(t.dataset))}
    both_sides(t.fold, sides | campaigns)
    later = (t.start >= t.plan.choose[0]) & t.judged.known
    best = tells_all(t.feed, t.judged.nuisance, t.caller, later, names)
    return {
        "vectors_again": checked,
        "labels_again": len(used),
        "kept_apart": [*sides, *campaigns],
        "best_single_feature": best,
    }


def known_before(dataset: Dataset, moment: int) -> Dataset:
    """What was known before a moment (Unix ms): later calls and words left out, outcomes to come made up."""
    calls = dataset.calls
    rung = calls.filter(pc.less(calls["start"], moment))
    when = pd.Timestamp(moment, unit="ms", tz="UTC")
    return replace(as_known(dataset, when), calls=made_up(rung, moment), truth=None)


def made_up(calls: pa.Table, moment: int) -> pa.Table:
    """Calls whose outcome became known at the moment or later get another one, which is known later still."""
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


def vectors_again(t: Trained, moment: int) -> tuple[Array, Array]:
    """Rows of calls of the day before a moment, and their vectors from what was known before it."""
    known = known_before(t.dataset, moment)
    rows = recomputed_rows(known.calls["start"].to_numpy(), t.plan)
    near, places = neighbours(known.calls, rows)
    again = vectors(near, threads=t.settings.threads or None)[places]
    if vector_columns(t.settings.features) != NAMES:
        told = complaint_vectors(known.calls.take(rows), complaint_table(known.calls, known.complaints))
        again = np.hstack([again, told])
    return rows, again


def neighbours(calls: pa.Table, rows: Array) -> tuple[pa.Table, Array]:
    """The calls that share a history with some rows, and where these rows stand among them.

    No feature looks further: all are of the caller's and the callee's own calls, or of the caller's block, trunk and
    device. So a second set of vectors needs little memory.
    """
    asked = calls.take(rows)
    kept = np.zeros(calls.num_rows, dtype=bool)
    kept[rows] = True
    people = pd.concat([asked[name].cast(pa.string()).to_pandas() for name in ("caller", "callee")])
    wanted = {"caller": people, "callee": people}
    wanted |= {name: asked[name].cast(pa.string()).drop_null().to_pandas() for name in LINKS}
    for name, words in wanted.items():
        told = among(calls[name], words)
        kept |= told.fill_null(False).to_numpy(zero_copy_only=False)
    return calls.filter(pa.array(kept)), (np.cumsum(kept) - 1)[rows]


def future_features(used: Feed, again: tuple[Array, Array], names: Sequence[str]) -> int:
    """How many vectors of `used` are as they were computed again.

    Raises:
        LeakError: if one value is not.
    """
    rows, then = again
    held = used.at(rows)
    differs = ~((held == then) | (np.isnan(held) & np.isnan(then)))
    if differs.any():
        column = int(np.flatnonzero(differs.any(axis=0))[0])
        raise LeakError(
            f"feature {names[column]}: {differs[:, column].sum()} of {len(rows)} values change with what became known "
            "after the call: expected none made of the future"
        )
    return len(rows)


def later_labels(used: pd.DataFrame, known: pd.DataFrame, cutoff: pd.Timestamp) -> None:
    """Raise `LeakError` unless the labels used are those that can be made from what was known at the cutoff."""
    late = int((used["known_at"] > cutoff).sum())
    if late:
        raise LeakError(f"labels: {late} became known after the cutoff: expected none")
    ordered = [labels.sort_values("number", kind="stable").reset_index(drop=True) for labels in (used, known)]
    if not ordered[0].equals(ordered[1]):
        numbers = [set(map(tuple, labels[["number", "nuisance"]].to_numpy())) for labels in ordered]
        odd = len(numbers[0] ^ numbers[1])
        raise LeakError(
            f"labels: {odd} differ from those made of what was known at the cutoff: expected none, nor other times"
        )


def both_sides(fold: Array, columns: Mapping[str, pa.ChunkedArray]) -> None:
    """Raise `LeakError` if a value of a column has calls in two folds."""
    for name, column in columns.items():
        code, count = codes(column)
        known = code >= 0
        sides = np.unique(code[known] * (int(fold.max(initial=0)) + 1) + fold[known])
        if len(sides) != len(np.unique(code[known])):
            raise LeakError(
                f"split: {len(sides) - count} of {count} values of {name} stand on both sides: expected none"
            )


def tells_all(feed: Feed, nuisance: Array, caller: Array, rows: Array, names: Sequence[str]) -> dict[str, Any] | None:
    """The feature that alone ranks callers best, by its value at one call of each; None if there are too few callers.

    Raises:
        LeakError: if it ranks them as only the label could.
    """
    at = feed.rows[rows[feed.rows]]
    at = at[np.random.default_rng(0).permutation(len(at))]
    at = np.sort(at[np.unique(caller[at], return_index=True)[1]])
    y = nuisance[at]
    if min(int(y.sum()), int((~y).sum())) < LEAST_CALLERS:
        return None
    areas = []
    for column in range(len(names)):
        values = feed.values(at, column)
        area = roc_auc_score(y, np.where(np.isnan(values), -1.0, values))
        areas.append(max(area, 1 - area))
    best = int(np.argmax(areas))
    if areas[best] >= TOO_GOOD:
        raise LeakError(
            f"feature {names[best]}: alone it ranks callers with AUC {areas[best]:.4f}: expected less than {TOO_GOOD}, "
            "for that is a leak until shown otherwise"
        )
    return {"name": names[best], "auc": float(areas[best])}
