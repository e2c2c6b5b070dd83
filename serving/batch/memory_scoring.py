"""Scores keyed calls in memory with a signed bundle; `file_scoring` scores a file of any length."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.catalogue import own_columns
from callsieve.features.complaints import COMPLAINT_NAMES
from callsieve.features.files.atomic import check_distinct, check_present
from callsieve.features.files.dates import now_ms
from callsieve.features.keys.tokens import KEY_VARIABLE
from callsieve.features.offline.complaint_vectors import complaint_vectors
from callsieve.features.offline.table import vectors
from callsieve.features.online.coverage import call_days, covered_rows
from callsieve.features.online.feeds import feed_of_table
from callsieve.serving.bundle.level import Shift
from callsieve.serving.bundle.signing import read_public_key, signer_path
from callsieve.serving.custody.purposes import Declaration, require_purpose
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.rules.policy import Policy, read_policy
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import rule_columns
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores

from .call_files import CallFile, key_or_temporary
from .complaint_rows import complaint_table
from .own_column_join import own_values
from .register_files import read_registers
from .table_rules import rules_met, with_preferences

SCORING = "scoring"  # the purpose that a scored file must be declared for


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreInputs:
    """The calls to score, and the files that decide their verdicts.

    Attributes:
        bundle: folder of the model.
        trust: public key that must have signed the bundle; by default the one beside the bundle.
        policy: policy file; the shipped one by default.
        registers: folder of registers.
        complaints, columns: tables that a model with such features needs.
        history: file of the same layout with the days before, which are not scored.
        out: Parquet file for the verdict of each call.
        callees: key file of the called numbers in `out`.
        keep: columns of the calls that are copied to `out` as they are, such as an own id.
    """

    calls: CallFile
    bundle: Path
    trust: Path | None = None
    policy: Path | None = None
    registers: Path | None = None
    complaints: Path | None = None
    columns: Path | None = None
    history: Path | None = None
    out: Path | None = None
    callees: Path | None = None
    keep: Sequence[str] = ()

    def check(self) -> None:
        """Raises ValueError if an input is missing, or the output would replace one or has a name of another format."""
        calls, tables = self.calls, (self.complaints, self.columns, self.history)
        check_distinct(calls.path, calls.key, calls.quarantine, self.out, *tables)
        if self.out is not None and self.out.suffix.lower() in (".csv", ".json", ".xlsx"):
            raise ValueError(f"{self.out}: expected a name such as verdicts.parquet; verdicts are Parquet")
        others = (self.bundle, self.trust, self.policy, self.callees, self.registers)
        check_present(calls.path, calls.key, *tables, *others)

    def declared(self, policy: Policy) -> Declaration:
        """Returns the declaration of the calls. Raises ValueError if that of the calls or history forbids scoring."""
        must_be_declared = None if self.policy is None else policy.require_declaration
        declaration = require_purpose(self.calls.path, SCORING, must_be_declared=must_be_declared)
        if self.history is not None:
            require_purpose(self.history, SCORING, must_be_declared=must_be_declared)
        return declaration


def score_calls(
    scorer: Scorer,
    calls: pa.Table,
    complaints: pd.DataFrame | None = None,
    columns: pd.DataFrame | None = None,
    *,
    threads: int = 0,
) -> tuple[Scores, Array]:
    """Scores keyed calls by model and rules.

    Args:
        calls: keyed calls in order of start.
        complaints: columns of `complaint_rows.COMPLAINTS`; needed only by a model with complaint features.
        columns: as from `read_own_columns`; needed only by a model with own columns.
    Returns: the scores, and the vectors of the calls, shape (calls, features).
    Raises:
        ValueError: if the model has complaint features and `complaints` is None, or own columns and no table with them.
    """
    rows = vectors(calls, threads=threads or None)
    if set(scorer.features) & set(COMPLAINT_NAMES):
        if complaints is None:
            raise ValueError("the model has complaint features: expected --complaints FILE")
        rows = np.hstack([rows, complaint_vectors(calls, complaint_table(calls, complaints))])
    if own_columns(scorer.features):
        own = own_values(scorer.features, calls["caller"], calls["start"].to_numpy(), columns)
        rows = np.hstack([rows, own])
    return score_vectors(scorer, calls, rows, threads), rows


def score_vectors(scorer: Scorer, calls: pa.Table, rows: Array, threads: int) -> Scores:
    """Scores calls whose vectors are computed already, by model, rules and preferences of the called persons."""
    rule_bits = rules_met(calls, rule_columns(rows), scorer.registers, scorer.policy.terms)
    covered = rows_with_history(calls, scorer.policy.history_days)
    feed = scorer.feed_for(scorer.policy.feed or feed_of_table(calls))
    shift = scorer.shift_of(rows, covered, feed)
    scores = scorer.score_table(rows, rule_bits, covered=covered, feed=feed, shift=shift, threads=threads or 2)
    return with_preferences(scorer, calls, rows, scores, covered)


def rows_with_history(calls: pa.Table, days: int) -> Array:
    """Returns whether the table itself covers the `days` days before each call; bool, shape (calls,)."""
    start = calls["start"].to_numpy()
    return covered_rows(start, call_days(start), days)


def open_scorer(
    bundle: Path, trust: Path | None, policy: Path | None = None, registers: Registers | None = None
) -> Scorer:
    """Loads the scorer of a bundle and checks its signature.

    Args:
        trust: public key that must have signed the bundle; by default the one beside the bundle.
        policy: policy file; the shipped one by default.
    """
    signer = read_public_key(signer_path(bundle, trust))
    return Scorer.load(bundle, trusted=[signer], policy=read_policy(policy), registers=registers)


def open_registers(folder: Path | None, key: Path | None, purpose: str) -> Registers | None:
    """Reads the registers of a folder, keyed or as offices write them, without expired rows; None without a folder.

    Raises:
        ValueError: if the registers hold plain numbers and the key of the calls is missing, or the folder is not
            declared for the purpose.
    """
    if folder is None:
        return None
    declaration = require_purpose(folder, purpose)
    number_key = key_or_temporary(key)
    registers = read_registers(folder, number_key).registers
    temporary = key is None and KEY_VARIABLE not in os.environ
    if temporary and registers.has_epoch(number_key.epoch):
        raise ValueError(f"{folder}: numbers as written need the key of the calls: expected --key FILE")
    return registers if not declaration.limits else registers.in_time(read_retention(), now_ms())


def summary(
    scorer: Scorer,
    declaration: Declaration,
    scope: tuple[str, Shift],
    counts: Mapping[str, Any],
    quarantined: Mapping[str, int],
    odd_records: Sequence[str],
) -> dict[str, Any]:
    """Returns the figures of scored calls, JSON-able.

    Args:
        scope: feed of the records, and shift of their network.
        counts: `calls`, `filling`, the start of the last call as `last` (Unix ms), and other counts, which are copied.
        quarantined: number of rows that are no calls, by reason.
        odd_records: signs that the records were read in a wrong way, a sentence each.
    """
    feed, shift = scope
    return {
        "model": scorer.bundle.model_id,
        "policy": scorer.policy.version,
        "purpose": declaration.in_record(SCORING),
        **{name: count for name, count in counts.items() if name != "last"},
        "feed": feed,
        "other_feed": 0 if scorer.bands(feed) else counts["calls"] - counts["filling"],
        "shift": shift.amount,
        "unlike_network": counts["calls"] - counts["filling"] if shift.unlike else 0,
        "score_level": shift.detail,
        "quarantined": dict(quarantined),
        "odd_records": list(odd_records),
        "valid_until": scorer.bundle.valid_until,
        "stale": counts["last"] > scorer.valid_until_ms,
    }
