"""Computes the common features with Polars, in the fastest known way.

It sums over one sorted key for (caller, time) and needs no groups, because no window reaches from one caller to the
next. Distinct callees are counted by sorted search: an attempt stops counting when its window ends or its callee is
called again. Time for a million calls and one thread: 1.9 s. Slower variants: `rolling_sum_by` over each caller, as in
the manual (4.1 s), `rolling(group_by=caller)` for the sums (2.5 s), prefix sums and sorted search for all (1.9-2.2 s,
and no gain from a second thread), distinct callees by `join_asof` (7.1 s), or by `n_unique` in the rolling aggregation
(33 s, more than linear in the calls of a caller).
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from .common_features import COLUMNS, COMMON, OUTCOMES, WINDOWS, outcome_sums

NEVER = 2**62


def columns(calls: pa.Table, threads: int) -> pa.Table:  # noqa: ARG001 - set in the environment before the import
    """Computes the sums of each window by `DataFrame.rolling` over the key."""
    events = stream(calls)
    parts = [events.select("row")]
    for name, width in WINDOWS.items():
        windows = events.rolling("key", period=f"{width}i", closed="left")
        sums = windows.agg(pl.col(total).sum().alias(f"{total}_{name}") for total in ("calls", *outcome_sums(name)))
        parts.append(sums.drop("key"))
    return features(events, pl.concat(parts, how="horizontal"))


def stream(calls):
    """Returns attempts and outcomes in order of caller and time; an outcome has no `row`."""
    attempts = frame(calls)
    starts = attempts.select("row", "key", "number", "other", moment="start", calls=pl.lit(1, pl.Int64))
    both = pl.concat([starts, outcomes(attempts)], how="diagonal")
    return both.sort("key").with_columns(pl.col("calls", *OUTCOMES).fill_null(0))


def features(events, sums):
    """Returns the features at the attempts."""
    of_attempts = pl.col("row").is_not_null()
    counted = sums.filter(of_attempts).with_columns(callees(events.filter(of_attempts)))
    return counted.select("row", *(value(feature).alias(feature.name) for feature in COMMON)).to_arrow()


def frame(calls):
    """Returns the calls with their key, and numbers as integers."""
    coded = lambda name: pl.col(name).to_physical().cast(pl.Int64)
    read = pl.from_arrow(calls.select(COLUMNS)).with_row_index("row")
    read = read.with_columns(number=coded("caller"), other=coded("callee"))
    first = read["start"].min() - WINDOWS["7d"] - 1
    span = read["start"].max() - first + 3 * WINDOWS["7d"]
    return read.with_columns(key=pl.col("number") * span + pl.col("start") - first)


def outcomes(attempts):
    """Returns the outcomes as events at the end of their calls."""
    outcome, talk = pl.col("outcome").cast(pl.String), pl.col("talk")
    answered = outcome == "answered"
    ends = attempts.filter(pl.col("ring").is_not_null())
    return ends.select(
        "number", moment=pl.col("start") + pl.col("ring") + talk, key=pl.col("key") + pl.col("ring") + talk,
        ended=(outcome != "blocked").cast(pl.Int64), answered=answered.cast(pl.Int64),
        talk=pl.when(answered).then(talk).otherwise(0), under_10s=(answered & (talk < 10_000)).cast(pl.Int64),
        under_30s=(answered & (talk < 30_000)).cast(pl.Int64), no_answer=(outcome == "no_answer").cast(pl.Int64),
    )  # fmt: skip


def callees(attempts):
    """Returns the distinct callees of each window; `attempts` are in order of their key."""
    again = attempts.select("key", again=pl.col("key").shift(-1).over("number", "other").fill_null(NEVER))
    before = left_of(again["key"], again["key"])
    counts = []
    for name, width in WINDOWS.items():
        stops = again.select(pl.min_horizontal(pl.col("key") + width, "again")).to_series().sort()
        counts.append((before - left_of(stops, again["key"])).alias(f"callees_{name}"))
    return counts


def left_of(values, at):
    return values.search_sorted(at, side="left").cast(pl.Int64)


def value(feature):
    part, whole = pl.col(feature.part), pl.col(feature.whole)
    if feature.how == "count":
        return part.cast(pl.Float64)
    return pl.when(whole > 0).then(part / whole / 1000 if feature.how == "seconds" else (part + 0.5) / (whole + 1))
