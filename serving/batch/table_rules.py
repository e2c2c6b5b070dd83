"""The rules that each call of a table meets, with what registers say of it, a part of the calls at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.offline.table import vectors
from callsieve.serving.rules.preferences import PREFERENCE_RULE, rejected_categories
from callsieve.serving.rules.register_lookup import RegisterFacts, Terms
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import BITS, matching_bits, rule_names, table_actions
from callsieve.serving.rules.rule_input import VECTOR_COLUMNS, VECTOR_FEATURES
from callsieve.serving.rules.strata import STRATA, strata_of
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores

from .register_join import PART_ROWS, RegisterJoin

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


def compute_rule_columns(calls: pa.Table, threads: int) -> dict[int, Array]:
    """The few columns of vectors that rules look at, by their places in the catalogue."""
    rows = vectors(calls, features=tuple(VECTOR_FEATURES.values()), threads=threads or None)
    return {place: rows[:, i] for i, (_, place) in enumerate(VECTOR_COLUMNS)}


def rules_met(calls: pa.Table, columns: Mapping[int, Array], registers: Registers | None, terms: Terms) -> Array:
    """Which rules each call meets: int64, one bit a rule, as `rule_bits.matching_bits` has them.

    Args:
        calls: keyed calls.
        columns: as from `compute_rule_columns` or `rule_bits.rule_columns`, a value a call.
    """
    met = np.zeros(calls.num_rows, dtype=np.int64)
    for part, registered in _parts(calls, registers, terms):
        some = {place: column[part] for place, column in columns.items()}
        met[part] = matching_bits(some, registered, terms, _own_number(calls.slice(part.start, PART_ROWS)))
    return met


def with_preferences(scorer: Scorer, calls: pa.Table, known: Array, scores: Scores, filled: Array) -> Scores:
    """The scores, and what called people do not want where the model of contents is sure, as `Scorer.score` has it.

    Args:
        calls: keyed calls, at least start and callee.
        known, scores, filled: vectors and scores of these calls, and whether bands say anything of them.
    """
    categories, registers = scorer.bundle.classes.get("content", ()), scorer.registers
    if registers is None or "preferences" not in registers.tables or not categories:
        return scores
    lowest = min(band.threshold for band in scorer.bundle.thresholds)
    near = np.flatnonzero((scores.raw >= lowest) & filled)
    stratum = strata_of(known[near])
    reached = [scorer.reaches_band(raw, STRATA[code]) for raw, code in zip(scores.raw[near], stratum, strict=True)]
    rows = near[np.array(reached, dtype=bool)]
    who, when = calls["callee"].take(pa.array(rows)).cast(pa.string()).to_pylist(), calls["start"].to_numpy()[rows]
    met = scores.rule_bits.copy()
    for row, callee, at, content in zip(rows, who, when.tolist(), scorer.content_classes(known[rows]), strict=True):
        if content is not None and rejected_categories(registers, callee, at, (content,)):
            met[row] |= BITS[PREFERENCE_RULE]
    return replace(scores, rule_bits=met, action=table_actions(scorer.policy, scores.band_action, met))


def rule_column(met: Array) -> pa.DictionaryArray:
    """The rules of each call by name, commas between."""
    bits, which = np.unique(met, return_inverse=True)
    words = [",".join(rule_names(each)) for each in bits.tolist()]
    return pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32)), pa.array(words, pa.string()))


def _parts(calls: pa.Table, registers: Registers | None, terms: Terms) -> Iterator[tuple[slice, RegisterFacts | None]]:
    if registers is not None:
        yield from RegisterJoin(registers, terms).parts(calls)
        return
    for begin in range(0, calls.num_rows, PART_ROWS):
        yield slice(begin, min(begin + PART_ROWS, calls.num_rows)), None


def _own_number(calls: pa.Table) -> Array:
    same = pc.equal(calls["caller"].cast(pa.string()), calls["callee"].cast(pa.string()))
    return np.asarray(same.to_numpy(), dtype=float)
