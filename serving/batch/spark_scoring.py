"""`callsieve features` and `callsieve score` on Spark: keyed calls in Parquet, to a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from callsieve.features.catalogue import NAMES, catalogue_hash
from callsieve.features.files.dates import unix_now
from callsieve.features.files.progress import Progress
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.keys.callee_keys import Callees
from callsieve.features.keys.tokens import read_key
from callsieve.features.offline import spark
from callsieve.features.online.coverage import covered_rows
from callsieve.serving.custody.purposes import require_purpose
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.rule_bits import BITS, rule_columns
from callsieve.serving.scorer.scorer import Scorer

from .output_keys import read_callee_keys, with_callee_keys
from .score import SCORING, VECTORS, by_action, open_scorer
from .table_rules import rule_column, rules_met

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

VERDICT = (
    "start long, caller string, callee string, score double, action tinyint, rules string, banded tinyint, met long, "
    "silent string, filled boolean"
)


def write_vectors(calls: Path, layout: str, out: Path, *, threads: int, progress: Progress) -> dict[str, Any]:
    """Write the vectors of keyed calls: start, caller, callee and one column a feature.

    Raises: ValueError: for any other layout, for faults of the calls, and if the folder is there already.
    """
    session = started(calls, layout, out, threads)
    kept = in_time(calls, VECTORS)
    progress("vectors", 0.1)
    found = spark.vectors(kept(spark.read_keyed(session, str(calls))))
    spark.write(found.drop("call"), str(out))
    return {
        "calls": session.read.parquet(str(out)).count(),
        "features": len(NAMES),
        "catalogue": catalogue_hash(),
        "quarantined": 0,
        "purpose": VECTORS,
        "out": str(out),
    }


def score(
    bundle: Path,
    calls: Path,
    layout: str,
    *,
    trust: Path | None,
    policy: Path | None,
    out: Path | None,
    callees: Path | None,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """Counts of scored calls by action, for calls and callers; the verdict of each call goes to `out`.

    The bundle is read by every process of Spark, so `bundle`, `trust`, `policy` and `callees` must be where all of them
    find it. A key that dies with the process, as `callsieve score` may make one, they could not share.
    """
    if out is not None and callees is None:
        raise ValueError("--engine spark: called people are written under a key of their own; expected --callees-key")
    read_callee_keys(callees)
    scorer = open_scorer(bundle, trust, policy)
    if scorer.features != NAMES:
        raise ValueError("--engine spark: expected a model without features of reports")
    session = started(calls, layout, out, threads)
    kept = in_time(calls, SCORING)
    progress("score", 0.1)
    frame = kept(spark.read_keyed(session, str(calls)))
    judge = partial(
        verdicts, bundle.absolute(), _absolute(trust), _absolute(policy), _absolute(callees), scorer.bundle.model_id,
        days_of(frame),
    )  # fmt: skip
    found = spark.applied(frame, judge, VERDICT).persist()
    facts = counted(found)
    if not facts["calls"]:
        raise ValueError(f"{calls}: no call to score")
    if out is not None:
        words = ", ".join(f"'{word}'" for word in ACTIONS)
        spark.write(
            found.selectExpr("start", "caller", "callee", "score", f"array({words})[action] action", "rules"), str(out)
        )
    found.unpersist()
    last = datetime.fromtimestamp(facts.pop("last") / 1000, UTC)
    return {
        "model": scorer.bundle.model_id,
        "policy": scorer.policy.version,
        "purpose": SCORING,
        **facts,
        "quarantined": {},
        "valid_until": scorer.bundle.valid_until,
        "stale": last > datetime.fromisoformat(scorer.bundle.valid_until),
    }


def days_of(frame: Any) -> frozenset[int]:
    """The days since 1970 (UTC) on which calls of a frame began."""
    with spark.plainly():
        rows = frame.selectExpr(f"start div {DAY_MS} day").distinct().collect()
    return frozenset(row["day"] for row in rows)


def counted(found: Any) -> dict[str, Any]:
    """The figures of a frame of verdicts, and the start of its last call."""

    def by(frame: Any, column: str) -> dict[Any, int]:
        return dict(frame.groupBy(column).count().collect())

    with spark.plainly():
        totals = found.selectExpr("count(*) calls", "count(*) - count(score) unscored", "max(start) last").first()
        strongest = found.groupBy("caller").agg({"action": "max"}).toDF("caller", "action")
        return {
            "calls": totals["calls"],
            "actions": by_action(by(found, "action")),
            "callers": by_action(by(strongest, "action")),
            "bands": by_action(by(found, "banded")),
            "rules": by_rule(by(found, "met")),
            "unscored": totals["unscored"],
            "filling": found.filter("not filled").count(),
            "no_threshold": dict(sorted(by(found.filter("silent is not null"), "silent").items())),
            "last": totals["last"],
        }


def started(calls: Path, layout: str, out: Path | None, threads: int) -> Any:
    """A session, once it is clear that it would not be started in vain."""
    if layout != "keyed":
        raise ValueError(f"--engine spark: expected --layout keyed, a table that the intake wrote, got {layout!r}")
    if not calls.exists():
        raise ValueError(f"{calls}: not found; expected keyed calls in Parquet, a file or a folder of files")
    if out is not None and out.exists():
        raise ValueError(f"{out}: is there already; expected the name of a new folder")
    return spark.session(threads)


def in_time(calls: Path, purpose: str) -> Callable[[Any], Any]:
    """What lets through the rows of a frame that may still be read.

    Raises: ValueError: if the folder of the calls is not declared for the purpose.
    """
    if require_purpose(
        calls.parent, purpose
    ).simulated:  # a folder of Parquet files is one table, and holds nothing else
        return lambda frame: frame
    oldest = unix_now() - read_retention().of("calls").ceiling
    return lambda frame: frame.filter(f"start >= {oldest}")


def by_rule(counts: dict[int, int]) -> dict[str, int]:
    """How many calls meet each rule, of those that some call meets."""
    met = {name: sum(calls for bits, calls in counts.items() if bits & bit) for name, bit in BITS.items()}
    return {name: calls for name, calls in met.items() if calls}


def verdicts(
    bundle: Path,
    trust: Path | None,
    policy: Path | None,
    callees: Path | None,
    model: str,
    days: frozenset[int],
    identity: pa.Table,
    rows: npt.NDArray[np.float64],
) -> pa.Table:
    """What is said about some calls, in a process of Spark.

    Raises: ValueError: if the bundle is no longer the one with which the work began.
    """
    scorer = _loaded(bundle, trust, policy)
    if scorer.bundle.model_id != model:
        raise ValueError(f"bundle: expected model {model}, got {scorer.bundle.model_id}: it was replaced meanwhile")
    met = rules_met(identity, rule_columns(rows), None, scorer.policy.terms)
    filled = covered_rows(identity["start"].to_numpy(), set(days), scorer.policy.history_days)
    scores = scorer.score_table(rows, met, covered=filled, threads=1)
    if callees is not None:
        identity = with_callee_keys(identity, _hidden(callees))
    return pa.table(
        {
            **{name: identity[name] for name in ("start", "caller", "callee")},
            "score": pa.array(scores.score, from_pandas=True),
            "action": scores.action,
            "rules": rule_column(scores.rule_bits).cast(pa.string()),
            "banded": scores.band_action,
            "met": scores.rule_bits,
            "silent": pa.array(scorer.abstaining_strata(rows), pa.string()),
            "filled": filled,
        }
    )


@cache
def _loaded(bundle: Path, trust: Path | None, policy: Path | None) -> Scorer:
    """The scorer of this process: the bundle is checked once in each."""
    return open_scorer(bundle, trust, policy)


@cache
def _hidden(callees: Path) -> Callees:
    """How this process writes called people."""
    return Callees(read_key(callees, "callees"))


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
