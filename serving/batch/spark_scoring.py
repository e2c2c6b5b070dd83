"""Runs `callsieve features` and `callsieve score` on Spark: keyed calls in Parquet to a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Floats
from callsieve.features.catalogue import NAMES, catalogue_hash
from callsieve.features.files.dates import now_ms
from callsieve.features.files.progress import Progress
from callsieve.features.kernel.windows import DAY_MS, HOUR, WEEK
from callsieve.features.keys.callee_keys import CalleeCipher
from callsieve.features.keys.tokens import read_key
from callsieve.features.offline import odd_records, spark
from callsieve.features.online.coverage import covered_rows
from callsieve.features.online.feeds import COMPLETE, SAMPLE_CALLS, SampledCall, balance_of, feed_of_sample, whole_weeks
from callsieve.serving.bundle.level import NO_SHIFT, Shift, level_of
from callsieve.serving.custody.purposes import Declaration, require_purpose
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.rule_bits import BITS, rule_columns
from callsieve.serving.scorer.network_scores import MOST_CALLS
from callsieve.serving.scorer.scorer import Scorer

from .file_scoring import SCORING, ScoreInputs, open_scorer, summary
from .output_keys import read_callee_keys, with_callee_keys
from .shard_scoring import by_action
from .table_rules import rule_column, rules_met
from .vector_files import TRAINING
from .verdict_file import DETAILS, verdict_details

VERDICT = (
    "start long, caller string, callee string, score double, action tinyint, rules string, banded tinyint, met long, "
    "silent string, filled boolean, broken boolean, "
) + ", ".join(f"{name} string" for name in DETAILS)


def write_vectors(calls: Path, out: Path, *, threads: int, progress: Progress) -> dict[str, Any]:
    """Writes the vectors of keyed calls: start, caller, callee and one column a feature."""
    session = start_session(calls, out, threads)
    declaration = require_purpose(calls.parent, TRAINING)
    drop_expired = expired_rows_filter(declaration)
    progress("vectors", 0.1)
    vectors = spark.vectors(drop_expired(spark.read_keyed(session, str(calls))))
    spark.write(vectors.drop("call"), str(out))
    return {
        "calls": session.read.parquet(str(out)).count(),
        "features": len(NAMES),
        "catalogue": catalogue_hash(),
        "quarantined": 0,
        "purpose": declaration.in_record(TRAINING),
        "out": str(out),
    }


def score(inputs: ScoreInputs, *, threads: int, progress: Progress) -> dict[str, Any]:
    """Scores keyed calls and writes the verdict of each call to `out`; returns the counts of `file_scoring.score_file`.

    Every Spark worker reads the bundle itself, so `bundle`, `trust`, `policy` and `callees` must be paths that all
    workers reach. Workers cannot share a temporary callee key. The inputs have no registers, history, own
    columns or columns to copy.
    """
    bundle, trust, policy, callees = inputs.bundle, inputs.trust, inputs.policy, inputs.callees
    calls, out = inputs.calls.path, inputs.out
    if out is not None and callees is None:
        raise ValueError("--layout spark: called numbers are written under their own key; expected --callees-key")
    read_callee_keys(callees)
    scorer = open_scorer(bundle, trust, policy)
    if scorer.features != NAMES:
        raise ValueError("--layout spark: expected a model of catalogue features alone; use --layout keyed")
    session = start_session(calls, out, threads)
    must_be_declared = None if policy is None else scorer.policy.require_declaration
    # A folder of Parquet files is one table and holds nothing else, so the declaration lies beside it.
    declaration = require_purpose(calls.parent, SCORING, must_be_declared=must_be_declared)
    drop_expired = expired_rows_filter(declaration)
    progress("score", 0.1)
    frame = drop_expired(spark.read_keyed(session, str(calls)))
    feed = scorer.feed_for(scorer.policy.feed or feed_of_frame(frame))
    worker = WorkerInputs(bundle.absolute(), _absolute(trust), _absolute(policy))
    days = days_with_calls(frame)
    shift = shift_of_frame(frame, scorer, worker, days, feed)
    score_part = partial(verdicts, worker, _absolute(callees), scorer.bundle.model_id, days, feed, shift)
    scored = spark.apply_to_vectors(frame, score_part, VERDICT).persist()
    figures = verdict_figures(scored)
    if not figures["calls"]:
        raise ValueError(f"{calls}: no call to score")
    if out is not None:
        words = ", ".join(f"'{word}'" for word in ACTIONS)
        columns = ("start", "caller", "callee", "score probability", f"array({words})[action] action", "rules")
        spark.write(scored.selectExpr(*columns, *DETAILS), str(out))
    scored.unpersist()
    return summary(scorer, declaration, (feed, shift), figures, {}, odd_records_of_frame(frame, figures["calls"], feed))


def shift_of_frame(frame: Any, scorer: Scorer, worker: WorkerInputs, days: frozenset[int], feed: str) -> Shift:
    """Returns the shift of the frame's network by a random sample of its calls, whose vectors are computed twice."""
    level = scorer.bundle.levels.get(feed)
    if level is None:
        return NO_SHIFT
    scores = spark.apply_to_vectors(frame, partial(raw_scores, worker, days, feed), "raw double")
    with spark.one_line_errors():
        share = MOST_CALLS / max(frame.count(), 1)
        rows = (scores if share >= 1 else scores.sample(False, share, seed=1)).collect()
    return level.shift(level_of(row["raw"] for row in rows))


def raw_scores(inputs: WorkerInputs, days: frozenset[int], feed: str, identity: pa.Table, rows: Floats) -> pa.Table:
    """Returns the raw scores of the calls with a full history, without a shift, in a Spark worker."""
    scorer = _loaded(inputs)
    covered = covered_rows(identity["start"].to_numpy(), set(days), scorer.policy.history_days)
    return pa.table({"raw": scorer.score_table(rows[covered], feed=feed, threads=1).raw})


def days_with_calls(frame: Any) -> frozenset[int]:
    """Returns the days since 1970 (UTC) on which a call of the frame starts."""
    with spark.one_line_errors():
        rows = frame.selectExpr(f"start div {DAY_MS} day").distinct().collect()
    return frozenset(row["day"] for row in rows)


def feed_of_frame(frame: Any) -> str:
    """Returns the feed of a frame of keyed calls, by a random sample of its calls."""
    flags = {
        "over": "ring is not null and talk is not null",
        "unanswered": "ring is not null and talk is not null and outcome != 'answered'",
        "routed": "trunk is not null or device is not null",
        "rang": "ring > 0 and talk is not null",
    }
    with spark.one_line_errors():
        span = frame.selectExpr("count(*) count", "min(start) first", "max(start) last").first()
        if not span["count"]:
            return COMPLETE
        share = SAMPLE_CALLS / span["count"]
        sample = frame if share >= 1 else frame.sample(share, seed=1)
        week = f"(start - {span['first']}) div {WEEK} week"
        rows = sample.selectExpr(
            "caller", "callee", week, *(f"coalesce({test}, false) {name}" for name, test in flags.items())
        ).collect()
        callers = sorted({row["caller"] for row in rows})
        numbers = sorted({row["callee"] for row in rows}.union(callers))
        ends = frame.selectExpr("caller number", "callee other", week).unionByName(
            frame.selectExpr("callee number", "caller other", week)
        )
        counts = ends.filter(ends["number"].isin(numbers)).distinct().groupBy("number", "week").count().collect()
        back = frame.filter(frame["caller"].isin(numbers) & frame["callee"].isin(callers))
        called_back = {tuple(row) for row in back.selectExpr("callee", "caller", week).distinct().collect()}
        callees = frame.filter(frame["callee"].isin(callers)).select("callee").distinct().collect()
        weekly = frame.filter(frame["caller"].isin(callers)).selectExpr("caller", week).groupBy("caller", "week")
        made = {(row["caller"], row["week"]): row["count"] for row in weekly.count().collect()}
        days = frame.selectExpr(f"(start - {span['first']}) div {DAY_MS} day").distinct().collect()
    partners = {(row["number"], row["week"]): row["count"] for row in counts}
    called, last = {row["callee"] for row in callees}, (span["last"] - span["first"] + HOUR) // WEEK
    weeks = {week for week in whole_weeks(row["day"] for row in days) if week < last}
    return feed_of_sample(
        [
            SampledCall(
                **{name: row[name] for name in flags},
                called=row["caller"] in called,
                made=made[row["caller"], row["week"]] if row["week"] in weeks else 0,
                lone=(own == 1) != (other == 1),
                balance=balance_of(own, other) if tuple(row)[:3] in called_back else 0.0,
                caller=row["caller"],
                callee=row["callee"],
            )
            for row in rows
            for own, other in [[partners[row[name], row["week"]] for name in ("caller", "callee")]]
        ]
    )


def odd_records_of_frame(frame: Any, count: int, feed: str) -> list[str]:
    """Returns `odd_records` of a frame of `count` keyed calls on this feed, by a random sample of its calls."""
    sample = frame.select(*odd_records.COLUMNS).sample(min(odd_records.SAMPLE_CALLS / count, 1.0), seed=1)
    with spark.one_line_errors():
        rows = pa.Table.from_pylist([row.asDict() for row in sample.collect()])
    return odd_records.odd_records([rows], rows.num_rows, lambda: feed)


def verdict_figures(scored: Any) -> dict[str, Any]:
    """Counts a frame of verdicts as `verdict_counts` does; `last` is the start of the last call."""

    def count_by(frame: Any, column: str) -> dict[Any, int]:
        return dict(frame.groupBy(column).count().collect())

    with spark.one_line_errors():
        totals = scored.selectExpr("count(*) calls", "count_if(broken) unscored", "max(start) last").first()
        strongest = scored.groupBy("caller").agg({"action": "max"}).toDF("caller", "action")
        return {
            "calls": totals["calls"],
            "actions": by_action(count_by(scored, "action")),
            "callers": by_action(count_by(strongest, "action")),
            "bands": by_action(count_by(scored, "banded")),
            "rules": by_rule(count_by(scored, "met")),
            "unscored": totals["unscored"],
            "filling": scored.filter("not filled").count(),
            "no_threshold": dict(sorted(count_by(scored.filter("silent is not null"), "silent").items())),
            "last": totals["last"],
        }


def start_session(calls: Path, out: Path | None, threads: int) -> Any:
    """Starts a Spark session, after the checks that need none: starting Spark takes seconds."""
    if not calls.exists():
        raise ValueError(f"{calls}: not found; expected keyed calls in Parquet, a file or a folder of files")
    if out is not None and out.exists():
        raise ValueError(f"{out}: exists already; expected the name of a new folder")
    return spark.session(threads)


def expired_rows_filter(declaration: Declaration) -> Callable[[Any], Any]:
    """Returns a function that drops the rows of a frame that have expired under the declaration of its folder."""
    if not declaration.limits:
        return lambda frame: frame
    oldest = now_ms() - read_retention().of("calls").ceiling
    return lambda frame: frame.filter(f"start >= {oldest}")


def by_rule(counts: dict[int, int]) -> dict[str, int]:
    """Counts the calls that meet each rule, from counts of rule bits; a rule without a call is left out."""
    by_name = {name: sum(calls for bits, calls in counts.items() if bits & bit) for name, bit in BITS.items()}
    return {name: calls for name, calls in by_name.items() if calls}


class WorkerInputs(NamedTuple):
    """Absolute paths of the files that decide verdicts; every worker reads them."""

    bundle: Path
    trust: Path | None = None
    policy: Path | None = None


def verdicts(
    inputs: WorkerInputs,
    callees: Path | None,
    model: str,
    days: frozenset[int],
    feed: str,
    shift: Shift,
    identity: pa.Table,
    rows: Floats,
) -> pa.Table:
    """Scores some calls in a Spark worker.

    `days`: days since 1970 on which the whole data set has calls. `identity`: keyed columns of the calls. `rows`: their
    vectors, shape (calls, features).
    Returns: a table with the columns of VERDICT.
    """
    scorer = _loaded(inputs)
    if scorer.bundle.model_id != model:
        raise ValueError(
            f"bundle: expected model {model}, got {scorer.bundle.model_id}: it was replaced during the run"
        )
    rule_bits = rules_met(identity, rule_columns(rows), None, scorer.policy.terms)
    covered = covered_rows(identity["start"].to_numpy(), set(days), scorer.policy.history_days)
    scores = scorer.score_table(rows, rule_bits, covered=covered, feed=feed, shift=shift, threads=1)
    stale = identity["start"].to_numpy() > scorer.valid_until_ms
    details = verdict_details(scorer, identity, rows, scores, covered, stale)
    if callees is not None:
        identity = with_callee_keys(identity, _callee_keys(callees))
    return pa.table(
        {
            **{name: identity[name] for name in ("start", "caller", "callee")},
            "score": pa.array(scores.score, from_pandas=True),
            "action": scores.action,
            "rules": rule_column(scores.rule_bits).cast(pa.string()),
            "banded": scores.band_action,
            "met": scores.rule_bits,
            "silent": pa.array(scorer.abstaining_strata(rows, feed), pa.string()),
            "filled": covered,
            "broken": np.isnan(scores.raw),
            **{name: column.cast(pa.string()) for name, column in details.items()},
        }
    )


@cache
def _loaded(inputs: WorkerInputs) -> Scorer:
    return open_scorer(*inputs)


@cache
def _callee_keys(callees: Path) -> CalleeCipher:
    return CalleeCipher(read_key(callees, "callees"))


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
