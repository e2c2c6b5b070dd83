"""Scores call records with a signed bundle: a file of any length, or keyed calls in memory.

For a file, memory does not grow with its length, and a killed run is resumed:

1. `features/offline/keyed_file` writes the keyed calls.
2. The stages of `features/offline/shards` compute vectors, shard by shard.
3. `shard_scoring` scores the calls of a shard, and sends their verdicts to spans of rows of the input.
4. `verdict_file` writes the spans one after the other.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.arrays import Array
from callsieve.features.catalogue import NAMES, OWN, own_columns
from callsieve.features.files.atomic import check_distinct, check_present, locked_folder
from callsieve.features.files.dates import now_ms
from callsieve.features.files.parquet_file import GROUP_ROWS
from callsieve.features.files.progress import Progress, steps
from callsieve.features.keys.tokens import KEY_VARIABLE
from callsieve.features.offline import odd_records
from callsieve.features.offline.shards import open_plan, run
from callsieve.features.offline.shuffle import read_notes
from callsieve.features.offline.table import vectors
from callsieve.features.online.coverage import call_days, covered_rows
from callsieve.features.online.feeds import COLUMNS, feed_of_batches, feed_of_table
from callsieve.serving.bundle.level import Shift
from callsieve.serving.bundle.signing import read_public_key, signer_path
from callsieve.serving.custody.purposes import Declaration, require_purpose
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.rules.policy import Policy, read_policy
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import BITS, rule_columns
from callsieve.serving.scorer.listed import Listed
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores

from .call_files import CallFile, days_of_file, digest, key_or_temporary, keyed_input
from .output_keys import callee_keys_or_temporary
from .own_column_join import own_values, read_own_columns
from .register_files import read_registers
from .shard_scoring import VERDICTS, Job, score_shard, shift_of_file
from .table_rules import rules_met, with_flags, with_preferences
from .verdict_file import CopiedColumns, check_copied, write_verdicts

MEMORY = 1 << 30  # bytes that shards are planned for; the whole program took 1.2 GiB for 1.5 million calls
SPAN_ROWS = 1 << 19  # rows of the input in a span
SCORING = "scoring"  # the purpose that a scored file must be declared for


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreInputs:
    """The calls to score, and the files that decide their verdicts.

    Attributes:
        bundle: folder of the model.
        trust: public key that must have signed the bundle; by default the one beside the bundle.
        policy: policy file; the shipped one by default.
        registers: folder of registers.
        columns: own columns that a model with such features needs.
        history: file of the same layout with the days before, which are not scored.
        out: Parquet file for the verdict of each call.
        callees: key file of the called numbers in `out`.
        keep: columns of the calls that are copied to `out` as they are, such as an own id.
        listed: lists of other issuers.
    """

    calls: CallFile
    bundle: Path
    trust: Path | None = None
    policy: Path | None = None
    registers: Path | None = None
    columns: Path | None = None
    history: Path | None = None
    out: Path | None = None
    callees: Path | None = None
    keep: Sequence[str] = ()
    listed: Listed | None = None

    def check(self) -> None:
        """Raises ValueError if an input is missing, or the output would replace one or has a name of another format."""
        calls, tables = self.calls, (self.columns, self.history)
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


def score_file(inputs: ScoreInputs, *, threads: int, progress: Progress) -> dict[str, Any]:
    """Scores a file of call records and writes a row of `out` for each of its rows, in its order.

    Unfinished work is in the folder `out` + ".work", which a later run with the same input resumes. It is deleted at
    the end. Without `out` nothing is resumed.

    `threads`: number of threads; 0 for one a core.
    Returns: counts of calls and callers by action, what was not scored, and `resumed` if an unfinished run was;
    JSON-able.
    """
    inputs.check()
    check_copied(inputs.calls, inputs.keep)
    registers = open_registers(inputs.registers, inputs.calls.key, SCORING)
    scorer = open_scorer(inputs.bundle, inputs.trust, inputs.policy, registers)
    scorer.listed = inputs.listed
    own = checked_columns(scorer, inputs.columns)
    callee_keys = callee_keys_or_temporary(inputs.callees)
    declaration = inputs.declared(scorer.policy)
    step, threads = steps(progress, {"calls": 45, "score": 50, "write": 5}), threads or os.cpu_count() or 1
    with work_folder(inputs.out) as work:
        resumed, lasting = any(work.glob("*.json")), inputs.out is not None
        keyed = keyed_input(
            inputs.calls,
            inputs.history,
            work,
            declaration,
            resumable=lasting,
            listed=inputs.listed,
            progress=step["calls"],
        )
        if not (count := keyed.count()):
            raise ValueError(f"{inputs.calls.path}: no call to score")
        plan = open_plan(keyed.path, work, NAMES, MEMORY, threads, identity(inputs, scorer))
        job = Job(
            scorer=scorer,
            columns=own,
            days=days_of_file(keyed.path),
            numbers=keyed.numbers,
            spans=-(-keyed.last_row() // SPAN_ROWS),
            span_rows=SPAN_ROWS,
            feed=scorer.feed_for(scorer.policy.feed or feed_of_file(keyed.path)),
            details=lasting,
            on_lists=keyed.on_lists,
        )
        odd = odd_records_of_file(keyed.path, job.feed)
        plan.work.mkdir(exist_ok=True)
        run(plan, keyed.path, threads, step["score"], partial(score_shard, plan, job), VERDICTS)
        scored = plan.files(VERDICTS)
        if inputs.out is not None:
            copies = CopiedColumns(keyed.source, keyed.layout, inputs.keep)
            spans = {"spans": job.spans, "span_rows": SPAN_ROWS}
            write_verdicts(scored, keyed.refused, copies, inputs.out, callee_keys, step["write"], **spans)
        shift = shift_of_file(plan, job)
        counts = total([json.loads(read_notes(file)["counts"]) for file in scored])
        shutil.rmtree(plan.work)
    counts["rules"] = {name: counts["rules"][name] for name in BITS if name in counts["rules"]}
    figures = summary(scorer, declaration, (job.feed, shift), {"calls": count, **counts}, keyed.quarantined, odd)
    return figures | ({"resumed": True} if resumed else {})


def score_calls(
    scorer: Scorer, calls: pa.Table, columns: pd.DataFrame | None = None, *, threads: int = 0
) -> tuple[Scores, Array]:
    """Scores keyed calls by model and rules.

    Returns: the scores, and the vectors of the calls, shape (calls, features).
    """
    rows = vectors(calls, threads=threads or None)
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
    scores = scorer.score_table(rows, rule_bits, covered=covered, feed=feed, shift=shift, threads=threads)
    return with_flags(scorer, calls, rows, with_preferences(scorer, calls, rows, scores, covered), covered)


def rows_with_history(calls: pa.Table, days: int) -> Array:
    """Returns whether the table itself covers the `days` days before each call; bool, shape (calls,)."""
    start = calls["start"].to_numpy()
    return covered_rows(start, call_days(start), days)


def open_scorer(
    bundle: Path, trust: Path | None, policy: Path | None = None, registers: Registers | None = None
) -> Scorer:
    """Loads the scorer of a bundle and checks its signature.

    `trust`: public key that must have signed the bundle; by default the one beside the bundle. `policy`: policy file;
    the shipped one by default.
    """
    signer = read_public_key(signer_path(bundle, trust))
    return Scorer.load(bundle, trusted=[signer], policy=read_policy(policy), registers=registers)


def open_registers(folder: Path | None, key: Path | None, purpose: str) -> Registers | None:
    """Reads the registers of a folder, keyed or as offices write them, without expired rows; None without a folder."""
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

    `counts`: `calls`, `filling`, the start of the last call as `last` (Unix ms), and other counts, which are copied.
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


def identity(inputs: ScoreInputs, scorer: Scorer) -> dict[str, Any]:
    """Returns what the verdicts follow from besides the calls; a run with another identity is not resumed."""
    files = {
        "policy file": inputs.policy,
        "registers": inputs.registers,
        "columns": inputs.columns,
        "history": inputs.history,
    }
    model = {"model": scorer.bundle.model_id, "policy": scorer.policy.version, "span": SPAN_ROWS}
    lists = "" if inputs.listed is None else inputs.listed.digest
    return model | {name: digest(file) for name, file in files.items()} | {"lists": lists}


def checked_columns(scorer: Scorer, columns: Path | None) -> pd.DataFrame | None:
    """Returns the own columns of a file. Raises ValueError if the model needs columns not given."""
    own = None if columns is None else read_own_columns(columns)
    missing = [name.removeprefix(OWN) for name in own_columns(scorer.features)]
    missing = [name for name in missing if own is None or name not in own]
    if missing:
        raise ValueError(f"the model has own columns: expected --columns FILE with {', '.join(missing)}")
    return own


@contextmanager
def work_folder(out: Path | None) -> Iterator[Path]:
    """Yields the locked folder for unfinished work and deletes it at the end; after an error or a kill it remains.

    Without `out` it is a temporary folder.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="callsieve-") as folder:
            yield Path(folder)
        return
    work = out.with_name(out.name + ".work")
    with locked_folder(work):
        yield work
        for file in work.iterdir():
            if file.name != "_lock":
                file.unlink()
    shutil.rmtree(work, ignore_errors=True)


def feed_of_file(calls: Path) -> str:
    """Returns the feed of a Parquet file of keyed calls."""
    with pq.ParquetFile(calls, pre_buffer=False) as file:
        return feed_of_batches(lambda: file.iter_batches(GROUP_ROWS, columns=list(COLUMNS)), file.metadata.num_rows)


def odd_records_of_file(calls: Path, feed: str) -> list[str]:
    """Returns `odd_records` of a Parquet file of keyed calls on this feed."""
    with pq.ParquetFile(calls, pre_buffer=False) as file:
        batches = file.iter_batches(GROUP_ROWS, columns=list(odd_records.COLUMNS))
        return odd_records.odd_records(batches, file.metadata.num_rows, lambda: feed)


def total(counts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Adds the counts of all shards, name by name; `last` is the latest moment."""
    result: dict[str, Any] = {}
    for part in counts:
        for name, value in part.items():
            if isinstance(value, dict):
                result[name] = total([result.get(name, {}), value])
            else:
                result[name] = max(result.get(name, 0), value) if name == "last" else result.get(name, 0) + value
    return result
