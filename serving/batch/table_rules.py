"""Evaluates the rules on a table of calls, part by part, with the register facts of each call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.catalogue import NAMES
from callsieve.features.offline.table import vectors
from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.rules.preferences import PREFERENCE_RULE, rejected_categories
from callsieve.serving.rules.register_join import PART_ROWS, RegisterJoin
from callsieve.serving.rules.register_lookup import Terms
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import BITS, matching_bits, rule_names, table_actions
from callsieve.serving.rules.rule_input import VECTOR_COLUMNS, VECTOR_FEATURES, RuleInput, rule_input
from callsieve.serving.rules.rules import FLAGGED, ON_LISTS, RULE_BY_NAME, matching_rules
from callsieve.serving.rules.strata import STRATA, strata_of
from callsieve.serving.scorer.flags import events_of_calls
from callsieve.serving.scorer.listed import Listed
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores


def compute_rule_columns(calls: pa.Table, threads: int) -> dict[int, Array]:
    """Computes the few vector columns that rules read, by their places in the catalogue; each of shape (calls,)."""
    rows = vectors(calls, features=tuple(VECTOR_FEATURES.values()), threads=threads or None)
    return {place: rows[:, i] for i, (_, place) in enumerate(VECTOR_COLUMNS)}


def rules_met(calls: pa.Table, columns: Mapping[int, Array], registers: Registers | None, terms: Terms) -> Array:
    """Returns which rules each call meets: int64 of shape (calls,), one bit a rule (`rules.rule_bits.BITS`)."""
    bits = np.zeros(calls.num_rows, dtype=np.int64)
    join = None if registers is None else RegisterJoin(registers, terms)
    for begin in range(0, calls.num_rows, PART_ROWS):
        part, some = slice(begin, begin + PART_ROWS), calls.slice(begin, PART_ROWS)
        facts = rule_input({place: column[part] for place, column in columns.items()}, calls_itself(some))
        bits[part] = matching_bits(facts if join is None else join.registered(some, facts), terms)
    return bits


def with_preferences(scorer: Scorer, calls: pa.Table, rows: Array, scores: Scores, covered: Array) -> Scores:
    """Adds the preference rule to calls whose predicted content is certain enough and unwanted by the called person.

    The result equals the scorer's on single calls. Only calls that reach a band are checked, because the policy ignores
    the rule for all others.

    `covered`: whether history reaches back far enough before each call for bands to apply; bool, shape (calls,).
    """
    categories, registers = scorer.bundle.classes.get("content", ()), scorer.registers
    if registers is None or "preferences" not in registers.tables or not categories:
        return scores
    bands = () if scores.shift.unlike else scorer.bands(scores.feed)
    lowest = min((band.threshold for band in bands), default=np.inf)
    candidates = np.flatnonzero((scores.raw >= lowest) & covered)
    stratum = strata_of(rows[candidates])
    reached = [
        scorer.reaches_band(raw, STRATA[code], scores.feed)
        for raw, code in zip(scores.raw[candidates], stratum, strict=True)
    ]
    places = candidates[np.array(reached, dtype=bool)]
    callees = calls["callee"].take(pa.array(places)).cast(pa.string()).to_pylist()
    starts = calls["start"].to_numpy()[places].tolist()
    rule_bits = scores.rule_bits.copy()
    for place, callee, start, content in zip(
        places, callees, starts, scorer.content_classes(rows[places], scores.feed), strict=True
    ):
        if content is not None and rejected_categories(registers, callee, start, (content,)):
            rule_bits[place] |= BITS[PREFERENCE_RULE]
    return replace(scores, rule_bits=rule_bits, action=table_actions(scorer.policy, scores.band_action, rule_bits))


def with_flags(scorer: Scorer, calls: pa.Table, vectors: Array, scores: Scores, covered: Array) -> Scores:
    """Adds the rule `flagged` to calls of numbers that were caught before, as the scorer does call by call.

    `covered`: whether history reaches back far enough before each call for bands to apply; bool, shape (calls,).
    """
    bands = () if scores.shift.unlike else scorer.bands(scores.feed)
    if not bands or not scorer.acts_on_flags:
        return scores
    stratum, start = strata_of(vectors), calls["start"].to_numpy()
    highest, lowest = (
        np.array(thresholds)[stratum]
        for thresholds in (
            [bands[0].threshold_for(name) for name in STRATA],
            [scorer.flag_threshold(name, scores.feed) for name in STRATA],
        )
    )
    caught, reached = (covered & (scores.raw >= threshold) for threshold in (highest, lowest))
    places = np.flatnonzero(reached)
    places = places[np.argsort(start[places], kind="stable")]
    callers, trunks = (calls[name].take(pa.array(places)).cast(pa.string()).to_pylist() for name in ("caller", "trunk"))
    events = np.zeros(len(start))
    events[places] = events_of_calls(callers, trunks, start[places].tolist(), caught[places].tolist())
    flagged = RuleInput(flag_events=events, caller_class=vectors[:, NAMES.index(VECTOR_FEATURES["caller_class"])])
    is_flagged = np.asarray(RULE_BY_NAME[FLAGGED].when(flagged, scorer.policy.terms), dtype=bool)
    rule_bits = np.where(is_flagged, scores.rule_bits | BITS[FLAGGED], scores.rule_bits)
    return replace(scores, rule_bits=rule_bits, action=table_actions(scorer.policy, scores.band_action, rule_bits))


def listed_bits(scorer: Scorer, listed: Listed, calls: pa.Table, on_lists: Mapping[str, int]) -> Array:
    """Returns the rules on lists that each call meets: int64 of shape (calls,), one bit a rule.

    `on_lists`: token on lists of each listed caller, by its token.
    """
    bits = np.zeros(calls.num_rows, dtype=np.int64)
    column = calls["caller"].combine_chunks().dictionary_encode()
    shared = np.array([on_lists.get(token, 0) for token in column.dictionary.to_pylist()] or [0], dtype=np.int64)
    places = np.flatnonzero(shared[column.indices.to_numpy()])
    some = calls.take(pa.array(places)).select(["caller", "start", "caller_class"]).to_pydict()
    for place, caller, start, name in zip(places.tolist(), *some.values(), strict=True):
        if (listing := listed.at(on_lists[caller], start)) is not None:
            facts = listing.rule_input(start, NUMBER_CLASSES.index(name))
            bits[place] = sum(BITS[rule.name] for rule in matching_rules(facts, scorer.policy.terms, ON_LISTS))
    return bits


def rule_column(rule_bits: Array) -> pa.DictionaryArray:
    """Returns the comma-separated names of the rules that each call meets."""
    bits, codes = np.unique(rule_bits, return_inverse=True)
    words = [",".join(rule_names(value)) for value in bits.tolist()]
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words, pa.string()))


def calls_itself(calls: pa.Table) -> Array:
    """Returns 1.0 where caller and callee are the same number."""
    same = pc.equal(calls["caller"].cast(pa.string()), calls["callee"].cast(pa.string()))
    return np.asarray(same.to_numpy(), dtype=float)
