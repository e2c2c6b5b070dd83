"""Joins calls to registers as of each call's start, by pandas' `merge_asof`, a million calls at a time.

The results equal `register_lookup.look_up` for each call. Memory holds the registers and one part of the calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.intake.text_columns import dictionary_column, dictionary_encoded
from callsieve.features.records import NUMBER_CLASSES

from .register_lookup import Terms
from .registers import ANY, BETWEEN, INDEXES, NO_ROW, ROLES, Registers
from .rule_input import RuleInput

PART_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class _Index:
    """The steps of all keys of an index, in order of time; a key is a position in `combined`."""

    words: tuple[pa.Array, ...]  # distinct words of each component of a key
    combined: Array  # sorted: the word codes of a key as one number
    steps: pd.DataFrame  # key, moment, answer


class IndexJoins:
    """The indexes of registers, ready to be joined to calls as of their starts."""

    def __init__(self, registers: Registers) -> None:
        self._indexes = {name: _index(registers, name) for name in registers.indexes}

    def in_effect(self, name: str, at: Array, *keys: Any) -> Array:
        """Returns `Registers.in_effect` for each call: a row's place, `~place` of an ended row, or NO_ROW.

        `at`: Unix ms of each call, shape (calls,).
        """
        result = np.full(len(at), NO_ROW)
        for key in keys:
            place = self._look_up(name, at, *(key if isinstance(key, tuple) else (key,)))
            better = (result < 0) & ((place >= 0) | (result == NO_ROW))
            result = np.where(better, place, result)
        return result

    def _look_up(self, name: str, at: Array, *columns: pa.DictionaryArray) -> Array:
        """Returns the register row in effect for each call's key at its start; NO_ROW for an unknown key."""
        index, result = self._indexes[name], np.full(len(at), NO_ROW)
        code, in_index = np.zeros(len(at), dtype=np.int64), np.ones(len(at), dtype=bool)
        for column, words in zip(columns, index.words, strict=True):
            places = pc.index_in(column.dictionary, value_set=words).fill_null(-1).to_numpy(zero_copy_only=False)
            word = np.append(places, -1)[column.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
            in_index &= word >= 0
            code = code * len(words) + word
        rows = np.flatnonzero(in_index)
        key = np.searchsorted(index.combined, code[rows])
        listed = key < len(index.combined)
        listed[listed] = index.combined[key[listed]] == code[rows][listed]
        rows, key = rows[listed], key[listed]
        rows, key = (values[np.argsort(at[rows], kind="stable")] for values in (rows, key))
        left = pd.DataFrame({"at": at[rows], "key": key})
        joined = pd.merge_asof(left, index.steps, left_on="at", right_on="moment", by="key")["answer"]
        result[rows] = joined.fillna(NO_ROW).to_numpy(dtype=np.int64)
        return result


class RegisterJoin:
    """Looks up the register facts of each call of a table."""

    def __init__(self, registers: Registers, terms: Terms) -> None:
        self._registers, self._terms = registers, terms
        self._joined = IndexJoins(registers).in_effect
        self._business, self._businesses = _factors(registers, "campaigns", "business")
        self._principal, self._principals = _factors(registers, "campaigns", "principal")
        self._agent, self._agents = _factors(registers, "campaigns", "agent")
        self._use, self._uses = _factors(registers, "trunks", "declared_use")

    def registered(self, calls: pa.Table, facts: RuleInput | None = None) -> RuleInput:
        """Adds the register facts of calls to their other `facts`, as float64 arrays; returns them."""
        facts, at = RuleInput() if facts is None else facts, calls["start"].to_numpy()
        tables = self._registers.tables
        if "campaigns" in tables:
            self._campaigns(calls, at, facts)
        if "trunks" in tables:
            self._trunks(calls, at, facts)
        if "number_resources" in tables:
            place = self._joined("number_resources", at, column_of(calls, "caller"), column_of(calls, "caller_block"))
            facts.lapsed = np.where(place == NO_ROW, np.nan, place < 0)
        if "subscribers" in tables:
            place = self._joined("subscribers", at, column_of(calls, "caller"))
            facts.calls_per_day = self._values("subscribers", "calls_per_day", place)
        if "protected" in tables:
            facts.callee_protected = _yes(self._joined("protected", at, column_of(calls, "callee")))
            facts.caller_protected = _yes(self._joined("protected", at, column_of(calls, "caller")))
        if "trusted" in tables:
            facts.caller_trusted = _yes(self._joined("trusted", at, column_of(calls, "caller")))
        if "risk_regions" in tables:
            facts.risk_region = _yes(
                self._joined("risk_regions", at, column_of(calls, "caller"), column_of(calls, "caller_block"))
            )
        return facts

    def _campaigns(self, calls: pa.Table, at: Array, facts: RuleInput) -> None:
        place = self._joined("campaigns", at, column_of(calls, "caller"), column_of(calls, "caller_block"))
        registered = place >= 0
        facts.campaign = registered.astype(float)
        facts.hour_from = self._values("campaigns", "hour_from", place)
        facts.hour_to = self._values("campaigns", "hour_to", place)
        marketing = np.array([word in self._terms.marketing for word in self._businesses] + [False])
        facts.marketing = np.where(registered, _taken(marketing, self._business, place), np.nan)
        callee, tables = column_of(calls, "callee"), self._registers.tables

        def campaign_words(codes: Array, words: list[str]) -> pa.DictionaryArray:
            code = codes[np.where(registered, place, 0)] if len(codes) else 0
            return dictionary_column(np.where(registered, code, -1), words)

        business = campaign_words(self._business, self._businesses)
        any_business = campaign_words(np.zeros_like(self._business), [ANY])
        principal, agent = (
            campaign_words(codes, words)
            for codes, words in ((self._principal, self._principals), (self._agent, self._agents))
        )
        if "discredited" in tables:
            roles = [campaign_words(np.zeros_like(self._business), [role]) for role in ROLES]
            row = self._joined("discredited", at, *zip(roles, (principal, agent), strict=True))
            facts.discredited = np.where(registered, _yes(row), np.nan)
        if "consents" in tables:
            facts.consent = np.where(registered, _yes(self._joined("consents", at, (callee, principal))), np.nan)
        if "refusals" in tables:
            row = self._joined("refusals", at, (callee, business), (callee, any_business))
            facts.refused = np.where(registered, _yes(row), np.nan)
        if "preferences" in tables:
            row = self._joined("preferences", at, (callee, business), (callee, any_business))
            accepts = self._values("preferences", "accepts", row)
            facts.accepts = np.where(registered, accepts == 1, np.nan)
            facts.rejects = np.where(registered, accepts == 0, np.nan)

    def _trunks(self, calls: pa.Table, at: Array, facts: RuleInput) -> None:
        trunk = column_of(calls, "trunk")
        has_trunk = np.asarray(pc.is_valid(trunk))
        place = self._joined("trunks", at, trunk)
        listed = has_trunk & (place >= 0)
        facts.trunk_listed = np.where(has_trunk, listed, np.nan)
        on_trunk = self._joined(
            "trunk_numbers", at, (trunk, column_of(calls, "caller")), (trunk, column_of(calls, "caller_block"))
        )
        facts.on_trunk = np.where(listed, on_trunk >= 0, np.nan)
        fits = np.full((len(self._uses) + 1, len(NUMBER_CLASSES)), np.nan)
        for row, declared in enumerate(self._uses):
            classes = self._terms.uses.get(declared)
            if classes is not None:
                fits[row] = [word in classes for word in NUMBER_CLASSES]
        use = np.where(listed, self._use[np.where(listed, place, 0)] if len(self._use) else 0, len(self._uses))
        facts.use_allows = fits[use, _classes(calls)]

    def _values(self, table: str, name: str, place: Array) -> Array:
        values = np.array([np.nan if value is None else float(value) for value in self._registers.columns[table][name]])
        return np.where(place >= 0, np.append(values, np.nan)[np.where(place >= 0, place, -1)], np.nan)


def _index(registers: Registers, name: str) -> _Index:
    known = registers.indexes[name]
    width = len(INDEXES[name][1])
    split = [key.split(BETWEEN) for key in known]
    key_words, code = [], np.zeros(len(split), dtype=np.int64)
    for i in range(width):
        codes, words = pd.factorize(np.array([key[i] for key in split], dtype=object))
        key_words.append(pa.array(words, pa.string()))
        code = code * len(words) + codes
    order = np.argsort(code)
    key_of = np.empty(len(order), dtype=np.int64)
    key_of[order] = np.arange(len(order))
    lengths = [len(moments) for moments, _ in known.values()]
    steps = pd.DataFrame(
        {
            "key": np.repeat(key_of, lengths),
            "moment": np.array([moment for moments, _ in known.values() for moment in moments], dtype=np.int64),
            "answer": np.array([answer for _, answers in known.values() for answer in answers], dtype=np.int64),
        }
    )
    return _Index(tuple(key_words), code[order], steps.sort_values("moment", kind="stable", ignore_index=True))


def _factors(registers: Registers, table: str, name: str) -> tuple[Array, list[str]]:
    if table not in registers.tables:
        return np.zeros(0, dtype=np.int64), []
    codes, words = pd.factorize(np.array(registers.columns[table][name], dtype=object))
    return codes, [str(word) for word in words]


def column_of(calls: pa.Table, name: str) -> pa.DictionaryArray:
    """Returns a column of tokens or words as one dictionary array."""
    return dictionary_encoded(calls[name])


def _classes(calls: pa.Table) -> Array:
    column = column_of(calls, "caller_class")
    places = np.array([NUMBER_CLASSES.index(word) for word in column.dictionary.to_pylist()], dtype=np.int64)
    return np.asarray(places[column.indices.to_numpy(zero_copy_only=False)])


def _taken(values: Array, codes: Array, place: Array) -> Array:
    return np.asarray(values[np.append(codes, len(values) - 1)[np.where(place >= 0, place, -1)]])


def _yes(place: Array) -> Array:
    return np.asarray(place >= 0, dtype=float)
