"""Scores of a table of calls: `Scorer.score_table` and the score level of the table's network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from callsieve.features.arrays import Bools, Floats, Int64s
from callsieve.serving.bundle.level import NO_SHIFT, Shift, level_of
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.rule_bits import matching_bits, rule_columns, table_actions, table_band_actions
from callsieve.serving.rules.rule_input import rule_input
from callsieve.serving.rules.strata import strata_of

from .network_scores import sampled
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
    raw, (model, calibration) = np.full(len(rows), np.nan), served.bundle.risk_model(feed)
    if finite.any():
        finite_rows = rows if finite.all() else rows[finite]
        raw[finite] = model.predict_raw(finite_rows, threads=threads) - shift.amount
    score = np.full(len(rows), np.nan)
    score[finite] = calibration.probabilities(raw[finite])
    if rule_bits is None:
        rule_bits = matching_bits(rule_input(rule_columns(vectors)), served.policy.terms)
    rule_bits = np.where(finite, rule_bits, 0)  # no rule holds for a row with an infinite value
    bands = () if shift.unlike else served.bands(feed)
    by_band = table_band_actions(served.policy, bands, raw, strata_of(vectors))
    if covered is not None:
        by_band[~covered] = ACTIONS.index("pass")
        score[~covered] = np.nan
    return Scores(raw, score, table_actions(served.policy, by_band, rule_bits), by_band, rule_bits, feed, shift)


def table_shift(served: ServedModel, vectors: Floats, covered: Bools | None, feed: str) -> Shift:
    """Returns the shift of the network of the calls; the arguments are as for `Scorer.shift_of`."""
    level = served.bundle.levels.get(feed)
    if level is None:
        return NO_SHIFT
    rows = sampled(np.arange(len(vectors)) if covered is None else np.flatnonzero(covered))
    return level.shift(level_of(table_scores(served, vectors[rows], feed=feed).raw.tolist()))
