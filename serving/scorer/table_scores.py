"""Scores and explanations of a table of calls, and the score level of the table's network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from callsieve.features.arrays import Bools, Floats, Int64s
from callsieve.serving.bundle.level import NO_SHIFT, Shift, level_of
from callsieve.serving.rules.rule_bits import matching_bits, rule_columns, table_actions, table_band_actions
from callsieve.serving.rules.rule_input import rule_input
from callsieve.serving.rules.strata import strata_of

from .network_scores import sampled
from .reasons import english_reasons
from .verdict import Scores

if TYPE_CHECKING:
    from .served_model import ServedModel


def table_scores(
    served: ServedModel,
    vectors: Floats,
    rule_bits: Int64s | None = None,
    *,
    covered: Bools | None = None,
    feed: str,
    shift: Shift = NO_SHIFT,
    threads: int = 1,
) -> Scores:
    """Scores many calls at once; the arguments and what it raises are as for `Scorer.score_table`."""
    if vectors.ndim != 2 or vectors.shape[1] != len(served.features):
        raise ValueError(f"vectors: expected (n, {len(served.features)}), got {vectors.shape}")
    rows = served.model_input.rows(vectors, feed)
    finite = ~np.isinf(rows).any(axis=1)
    scored = finite if covered is None else finite & covered  # half of a long file may be its first week
    raw, (model, calibration) = np.where(finite, -np.inf, np.nan), served.bundle.risk_model(feed)
    score = np.full(len(rows), np.nan)
    if scored.any():
        scored_rows = rows if scored.all() else rows[scored]
        raw[scored] = model.predict_raw(scored_rows, threads=threads) - shift.amount
        score[scored] = calibration.probabilities(raw[scored])
    if rule_bits is None:
        rule_bits = matching_bits(rule_input(rule_columns(vectors)), served.policy.terms)
    rule_bits = np.where(finite, rule_bits, 0)  # no rule holds for a row with an infinite value
    bands = () if shift.unlike else served.bands(feed)
    by_band = table_band_actions(served.policy, bands, raw, strata_of(vectors))
    return Scores(raw, score, table_actions(served.policy, by_band, rule_bits), by_band, rule_bits, feed, shift)


def table_explanations(served: ServedModel, vectors: Floats, feed: str) -> dict[str, list[str | None]]:
    """Returns content, mode and English reasons of some calls, equal to those of `Scorer.explain_row`.

    Args:
        vectors, feed: as for `Scorer.score_table`, without infinite values.
    """
    bundle, rows = served.bundle, served.model_input.rows(vectors, feed)
    columns: dict[str, list[str | None]] = {}
    for name, model in (("content", bundle.content), ("mode", bundle.mode)):
        likely = None if model is None else model.predict_raw(rows).argmax(axis=1)
        columns[name] = [None] * len(rows) if likely is None else [bundle.classes[name][code] for code in likely]
    contributions = bundle.risk_model(feed)[0].contributions_of(rows)[:, 0]
    return columns | {"reasons": ["; ".join(texts) for texts in english_reasons(bundle.features, rows, contributions)]}


def table_shift(served: ServedModel, vectors: Floats, covered: Bools | None, feed: str) -> Shift:
    """Returns the shift of the network of the calls; the arguments are as for `Scorer.shift_of`."""
    level = served.bundle.levels.get(feed)
    if level is None:
        return NO_SHIFT
    rows = sampled(np.arange(len(vectors)) if covered is None else np.flatnonzero(covered))
    return level.shift(level_of(table_scores(served, vectors[rows], feed=feed).raw.tolist()))
