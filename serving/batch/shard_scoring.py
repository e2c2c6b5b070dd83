"""Scores the calls of one shard, and counts its verdicts by action, caller, band and rule."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.catalogue import NAMES, own_columns
from callsieve.features.files.atomic import write_atomic
from callsieve.features.intake.text_columns import factorize
from callsieve.features.offline.shards import Plan, ShardVectors, party_tokens, shard_vectors
from callsieve.features.offline.shuffle import write_parts
from callsieve.features.online.coverage import covered_rows
from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.bundle.level import NO_SHIFT, Shift
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.rule_bits import BITS, rule_columns
from callsieve.serving.scorer.network_scores import MOST_CALLS
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores

from .own_column_join import own_values
from .table_rules import listed_bits, rules_met, with_flags, with_preferences
from .verdict_file import verdict_details

BLOCK_ROWS = 1 << 13  # calls that are scored at once: their vectors fit the cache
VERDICTS = "verdicts"  # the files of this stage
SHIFT = "shift.json"
COLUMNS = ("raw", "score", "action", "band_action", "rule_bits")  # of `Scores`, a value a call
# Calls whose callers show the score level of a file. A few busy callers decide it among fewer: the levels of seventh
# parts of a network of 1.2 million calls lay between 3.8 and 5.0, that of all at 4.5.
MEASURED_CALLS = 4_000_000
ALONE = ("caller", "callee", "trunk")  # the tokens that rules read
JOINED = (*ALONE, "caller_block", "device")  # those that registers are joined by
EPOCHS = ("caller_epoch", "callee_epoch")
CALLER_CLASS = NAMES.index("call_caller_class")


@dataclass(frozen=True)
class Job:
    """The inputs that scoring a shard needs besides its calls.

    Attributes:
        columns: own columns, as from `read_own_columns`; None for a model without them.
        days: days since 1970 (UTC) with calls, of the whole file.
        numbers: for each keyed call the number of its row in the input, not positive for a call of the history; None
            if the keyed calls are the input.
        spans: number of spans of `span_rows` rows of the input.
        feed: the feed of the whole file.
        details: whether the verdicts are written, and so explained.
        on_lists: token on lists of each listed caller, by its token.
        lock: for the shift of the file, which the first task measures.
    """

    scorer: Scorer
    columns: pd.DataFrame | None
    days: set[int]
    numbers: Array | None
    spans: int
    span_rows: int
    feed: str
    details: bool
    on_lists: Mapping[str, int] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)


def score_shard(plan: Plan, job: Job, shard: int) -> None:
    """Scores the calls of a shard of callers and writes their verdicts, by span of time."""
    shift = shift_of_file(plan, job)
    with shard_vectors(plan, shard) as vectors:
        calls = vectors
        numbers = calls.rows + 1 if job.numbers is None else job.numbers[calls.rows]
        covered = covered_rows(calls.start, job.days, job.scorer.policy.history_days)
        # Calls of the history get no verdict, but they may flag a number.
        taken = (numbers > 0) | covered if job.scorer.acts_on_flags else numbers > 0
        if not taken.all():
            calls, numbers, covered = selected(calls, taken), numbers[taken], covered[taken]
        keyed = keyed_columns(calls, ALONE if job.scorer.registers is None else JOINED)
        scores = score_rows(job, calls, keyed, covered, shift)
        if not (wanted := numbers > 0).all():
            calls, numbers, covered = selected(calls, wanted), numbers[wanted], covered[wanted]
            keyed, scores = keyed.filter(pa.array(wanted)), part_of(scores, wanted)
        abstaining, details = explain_rows(job, calls, keyed, covered, scores)
    counts = verdict_counts(scores, keyed) | {
        "unscored": int(np.isnan(scores.raw).sum()),
        "filling": int(np.count_nonzero(~covered)),
        "no_threshold": dict(sorted(abstaining.items())),
        "last": int(calls.start.max(initial=0)),
    }
    verdicts = {"row": numbers, "start": calls.start, "score": scores.score, "action": scores.action}
    parties = {name: calls.parties[name].combine_chunks() for name in ("caller", "callee", *EPOCHS)}
    rows = {name: pa.array(values) for name, values in (verdicts | {"rules": scores.rule_bits}).items()} | parties
    rows |= details
    spans = ((numbers - 1) // job.span_rows).astype(np.uint16)
    notes = {"counts": json.dumps(counts)}
    path = plan.files(VERDICTS)[shard]
    write_parts(rows, spans, job.spans, path, compression=plan.compression, notes=notes)


def shift_of_file(plan: Plan, job: Job) -> Shift:
    """Returns the shift of the file's network, from the callers of as many shards as MEASURED_CALLS need.

    The first task measures it; a resumed run reads it again.
    """
    if job.feed not in job.scorer.bundle.levels:
        return NO_SHIFT
    with job.lock:
        path = plan.work / SHIFT
        if not path.exists():
            shards = range(min(plan.shards, -(-plan.shards * MEASURED_CALLS // max(plan.rows, 1))))
            step = -(-plan.rows * len(shards) // (plan.shards * MOST_CALLS)) | 1  # odd: a call may have two rows
            rows = np.concatenate([sampled_rows(plan, job, shard, step) for shard in shards])
            write_atomic(path, json.dumps(job.scorer.shift_of(rows, feed=job.feed)).encode())
        return Shift(*json.loads(path.read_bytes()))


def sampled_rows(plan: Plan, job: Job, shard: int, step: int) -> Array:
    """Returns the vectors of covered calls in every `step`-th row, of the history, too; shape (calls, features).

    The rows are those of the file, so that the number of shards makes no difference.
    """
    with shard_vectors(plan, shard) as calls:
        covered = covered_rows(calls.start, job.days, job.scorer.policy.history_days)
        some = selected(calls, covered & (calls.rows % step == 0))
        return np.concatenate(columns_of(job, some, keyed_columns(some, JOINED)), axis=1)


def selected(calls: ShardVectors, chosen: Array) -> ShardVectors:
    """Returns the calls of a shard where `chosen` is true, shape (calls,); not their order by caller."""
    return replace(
        calls,
        rows=calls.rows[chosen],
        start=calls.start[chosen],
        parties=calls.parties.filter(pa.array(chosen)),
        vectors=calls.vectors[chosen],
        by_caller=np.empty(0, np.int64),
    )


def keyed_columns(calls: ShardVectors, names: tuple[str, ...]) -> pa.Table:
    """Returns start, class of the caller, and these tokens of keyed calls."""
    tokens = party_tokens(calls.parties, names)
    code = calls.vectors[:, CALLER_CLASS]
    unknown = NUMBER_CLASSES.index("unknown")
    classes = pa.array(np.where(np.isnan(code), unknown, code).astype(np.int8))
    words = pa.DictionaryArray.from_arrays(classes, pa.array(NUMBER_CLASSES))
    return pa.table({"start": calls.start, **tokens, "caller_class": words})


def columns_of(job: Job, calls: ShardVectors, keyed: pa.Table) -> list[Array]:
    """Returns the vectors of some calls in parts, side by side: catalogue, own columns."""
    values = [calls.vectors]
    if own_columns(job.scorer.features):
        values.append(own_values(job.scorer.features, keyed["caller"], calls.start, job.columns))
    return values


def blocks(job: Job, calls: ShardVectors, keyed: pa.Table) -> Iterator[tuple[slice, Array, pa.Table]]:
    """Yields a shard in parts that fit the cache, at least one: places, vectors and keyed columns of the calls."""
    values = columns_of(job, calls, keyed)
    block = np.empty((BLOCK_ROWS, len(job.scorer.features)))
    for begin in range(0, max(len(calls.rows), 1), BLOCK_ROWS):
        part = slice(begin, begin + BLOCK_ROWS)
        rows = values[0][part]
        if len(values) > 1:
            rows = np.concatenate([columns[part] for columns in values], axis=1, out=block[: len(rows)])
        yield part, rows, keyed.slice(begin, BLOCK_ROWS)


def part_of(scores: Scores, part: slice | Array) -> Scores:
    """Returns the scores of some calls."""
    return replace(scores, **{name: getattr(scores, name)[part] for name in COLUMNS})


def score_rows(job: Job, calls: ShardVectors, keyed: pa.Table, covered: Array, shift: Shift) -> Scores:
    """Returns the scores of a shard's calls, with the rules that they meet."""
    scorer, parts = job.scorer, []
    bits = rules_met(keyed, rule_columns(calls.vectors), scorer.registers, scorer.policy.terms)
    if scorer.listed is not None:
        bits |= listed_bits(scorer, scorer.listed, keyed, job.on_lists)
    for part, rows, some in blocks(job, calls, keyed):
        scores = scorer.score_table(rows, bits[part], covered=covered[part], feed=job.feed, shift=shift)
        parts.append(with_preferences(scorer, some, rows, scores, covered[part]))
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    return with_flags(scorer, keyed, calls.vectors, Scores(**joined, feed=job.feed, shift=shift), covered)


def explain_rows(
    job: Job, calls: ShardVectors, keyed: pa.Table, covered: Array, scores: Scores
) -> tuple[Counter[str], dict[str, pa.Array]]:
    """Returns the calls for which every band abstains by stratum, and the details of the verdicts, if they are kept."""
    abstaining, stale = Counter[str](), calls.start > job.scorer.valid_until_ms
    details: list[dict[str, pa.Array]] = []
    for part, rows, some in blocks(job, calls, keyed):
        abstaining.update(filter(None, job.scorer.abstaining_strata(rows, job.feed)))
        if job.details:
            details.append(verdict_details(job.scorer, some, rows, part_of(scores, part), covered[part], stale[part]))
    return abstaining, {name: pa.concat_arrays([part[name] for part in details]) for name in (details or [{}])[0]}


def verdict_counts(scores: Scores, calls: pa.Table) -> dict[str, dict[str, int]]:
    """Counts the verdicts on a table of calls.

    Returns: `actions`: calls by action. `callers`: callers by their strongest action. `bands`: calls by the action of
    the model's bands alone. `rules`: calls by the rule that they meet; a call may meet several.
    """
    caller, callers = factorize(calls["caller"])
    strongest = np.zeros(callers, dtype=np.int8)
    np.maximum.at(strongest, caller, scores.action)
    by_rule = {name: int(np.count_nonzero(scores.rule_bits & bit)) for name, bit in BITS.items()}
    return {
        "actions": by_action(Counter(scores.action.tolist())),
        "callers": by_action(Counter(strongest.tolist())),
        "bands": by_action(Counter(scores.band_action.tolist())),
        "rules": {name: count for name, count in by_rule.items() if count},
    }


def by_action(counts: Mapping[int, int]) -> dict[str, int]:
    """Replaces action codes by their names; an action without a call counts 0."""
    return {action: counts.get(code, 0) for code, action in enumerate(ACTIONS)}
