"""Computes the common features with DuckDB: window functions with RANGE frames, native `count(DISTINCT)`.

Slower variants, on a million calls and one thread (17 s): attempts and outcomes in one stream also for the distinct
counts (26 s), ASOF joins on prefix sums (21 s), running sums over events that enter and leave (60 s), one sorted key in
place of PARTITION BY, as in `engine_polars` (310 s). DuckDB adds integers in 128 bits, so sums of DOUBLE are faster;
they are exact, far below 2^53.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from .common_features import ATTEMPTS, COLUMNS, COMMON, OUTCOMES, WINDOWS, outcome_sums

ADDS = {
    "ended": "outcome <> 'blocked'",
    "answered": "outcome = 'answered'",
    "talk": "CASE WHEN outcome = 'answered' THEN talk ELSE 0 END",
    "under_10s": "outcome = 'answered' AND talk < 10000",
    "under_30s": "outcome = 'answered' AND talk < 30000",
    "no_answer": "outcome = 'no_answer'",
}


def columns(calls: pa.Table, threads: int) -> pa.Table:
    """Sums outcomes over a stream of attempts and ends, and attempts over the calls only."""
    connection = duckdb.connect(config={"threads": threads, "preserve_insertion_order": False})
    connection.register("source", with_codes(calls.select(COLUMNS)))
    connection.sql("CREATE TEMP TABLE calls AS SELECT row_number() OVER () - 1 AS row, * FROM source")
    return connection.sql(statement()).to_arrow_table()


def with_codes(calls: pa.Table) -> pa.Table:
    """Replaces numbers by the integers of their dictionaries, because DuckDB would hash the text."""
    for name in ("caller", "callee"):
        codes = calls[name].combine_chunks().indices
        calls = calls.set_column(calls.column_names.index(name), name, codes)
    return calls


def statement() -> str:
    """Returns the query."""
    zeros = ", ".join(f"0::DOUBLE AS {total}" for total in OUTCOMES)
    adds = ", ".join(f"({ADDS[total]})::DOUBLE" for total in OUTCOMES)
    sums = [f"coalesce(sum({total}) OVER w{w}, 0) AS {total}_{w}" for w in WINDOWS for total in outcome_sums(w)]
    counted = {"calls": "*", "callees": "DISTINCT callee"}
    counts = [f"count({counted[total]}) OVER w{w} AS {total}_{w}" for w in WINDOWS for total in ATTEMPTS]
    return f"""
        WITH stream AS (
            SELECT row, caller, start AS moment, {zeros} FROM calls
            UNION ALL SELECT NULL, caller, start + ring + talk, {adds} FROM calls WHERE ring IS NOT NULL
        ), outcomes AS (SELECT row, {", ".join(sums)} FROM stream WINDOW {frames("moment")}
        ), attempts AS (SELECT row, {", ".join(counts)} FROM calls WINDOW {frames("start")}
        ) SELECT row, {", ".join(value(f) for f in COMMON)} FROM outcomes JOIN attempts USING (row)
    """  # noqa: S608 - no text from outside


def frames(moment: str) -> str:
    """Returns the frames; in whole milliseconds a half-open window ends 1 ms before the call."""
    frame = f"PARTITION BY caller ORDER BY {moment} RANGE BETWEEN {{}} PRECEDING AND 1 PRECEDING"
    return ", ".join(f"w{name} AS ({frame.format(width)})" for name, width in WINDOWS.items())


def value(feature) -> str:
    part, whole = feature.part, feature.whole
    if feature.how == "count":
        return f"{part}::DOUBLE AS {feature.name}"
    ratio = f"{part} / {whole} / 1000" if feature.how == "seconds" else f"({part} + 0.5::DOUBLE) / ({whole} + 1)"
    return f"CASE WHEN {whole} > 0 THEN {ratio} END AS {feature.name}"
