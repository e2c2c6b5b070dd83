"""The vectors of more calls than one machine can take: the same kernel on Spark. The only import of pyspark.

There are three exchanges, for any number of features: by caller, by key of each kind of history, by call (see
`buckets.py`). Spark carries parcels of some megabytes and sees no rows between the first and the last step. A Spark row
per call would cost more time than the kernel, and a Spark group per key several times as much.

Memory: a process takes the parcels of its bucket. All calls of one number, block, trunk or device go to one bucket, so
the busiest key sets the minimum; more buckets make the others smaller.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from callsieve.features.catalogue import NAMES, select_features
from callsieve.features.intake.keyed_table import KEYED_OPTIONAL, KEYED_TOKENS, check_columns
from callsieve.features.keys.tokens import TOKEN
from callsieve.features.records import KEYED_CATEGORIES, KEYED_COLUMNS

from .buckets import (
    BUCKETS,
    KEYS,
    MOST_BUCKETS,
    ParcelBodies,
    Parcels,
    assemble_vectors,
    compute_parts,
    pack_parcels,
    route_calls,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from callsieve.features.arrays import Array

    Batches = Iterator[pa.RecordBatch]
    Work = Callable[[pa.Table, Array], pa.Table]

MISSING = "the Spark engine needs PySpark and Java 17 or later: pip install 'callsieve[spark]'"
PARTITIONS = "spark.sql.shuffle.partitions"
# Settings of a local session: it listens on loopback only and prints nothing.
LOCAL_SETTINGS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
INTEGER_TYPES = ("tinyint", "smallint", "int", "bigint")
# Matches the message of a worker, of a check in a query, or of Spark itself.
ERROR_LINE = re.compile(
    r"^(?:\w+\.)*(?:ValueError|BundleError): (.*)$|\[USER_RAISED_EXCEPTION\] (.*?)(?: SQLSTATE.*)?$", re.MULTILINE
)
PARCEL = "bucket int, kind string, body binary"
IDENTITY = "call long, start long, caller string, callee string"
CALLS_AT_ONCE = 1 << 18  # calls packed at a time
BYTES_AT_ONCE = 1 << 24  # bytes of the parcels in a batch
ROWS_AT_ONCE = 1 << 14  # vectors in a batch


def vectors(calls: DataFrame, *, features: tuple[str, ...] = NAMES, buckets: int | None = None) -> DataFrame:
    """Returns the vectors of every call at its start, from all calls of the frame, bit-equal to `table.vectors`.

    Args:
        calls: keyed calls, columns `records.KEYED_COLUMNS`, and `call`, a unique integer; generated if missing. Of two
            records of one call that became known together, the lower id counts.
        features: names from the catalogue; fewer features take less time.
        buckets: number of parts of each step, by default `spark.sql.shuffle.partitions`. A part should have some
            hundred thousand calls. The result does not depend on it.
    Returns:
        call, start, caller, callee and a column for each feature, NaN where a value is unknown; in any order.
    Raises:
        ValueError: if a column is missing or a feature is not in the catalogue; an unknown word fails the job.
    """
    columns = ", ".join(f"`{name}` double" for name in features)
    return apply_to_vectors(
        calls, partial(_vector_columns, features), f"{IDENTITY}, {columns}", features=features, buckets=buckets
    )


def apply_to_vectors(
    calls: DataFrame, work: Work, schema: str, *, features: tuple[str, ...] = NAMES, buckets: int | None = None
) -> DataFrame:
    """Applies `work` to the vectors where they are computed, some thousand calls at a time.

    `work` takes call, start, caller and callee, and the vectors with features in catalogue order. It returns a table
    with the columns of `schema`. It runs in Spark's worker processes, so it must be picklable.
    """
    missing = [name for name in KEYED_COLUMNS if name not in calls.columns]
    if missing:
        raise ValueError(f"calls: expected the columns of a keyed table, {', '.join(missing)} missing")
    names = tuple(feature.name for feature in select_features(features))
    if buckets is None:
        buckets = int(str(calls.sparkSession.conf.get(PARTITIONS)))
    if not 1 <= buckets <= MOST_BUCKETS:
        raise ValueError(f"buckets: expected 1 to {MOST_BUCKETS}, got {buckets}")
    parcels = _map_batches(_with_buckets(calls, buckets), _pack_batches, PARCEL)
    for step in (route_calls, compute_parts):
        parcels = _map_batches(_exchange(parcels, buckets), partial(_step, step, names, buckets), PARCEL)
    return _map_batches(_exchange(parcels, buckets), partial(_finish, names, work), schema)


def session(threads: int = 0) -> SparkSession:
    """Returns the active session, or a new one as configured, or a local one on `threads` cores (0: all).

    Raises:
        ImportError: if PySpark is not installed.
        OSError: if Spark cannot be started.
    """
    try:
        with _without_pandas():
            from pyspark import SparkConf, SparkContext
            from pyspark.errors import PySparkException
            from pyspark.sql import SparkSession
    except ImportError as error:
        raise ImportError(MISSING) from error
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    builder = SparkSession.builder.appName("callsieve")
    is_local = (
        "PYSPARK_GATEWAY_PORT" not in os.environ
    )  # otherwise `spark-submit` started this process and decides where to run
    try:
        if is_local:
            SparkContext._ensure_initialized()  # only its Java side reads configuration files
            is_local = SparkConf().get("spark.master") == "local[*]"  # the default if no master is configured
        if is_local:
            cores = threads or os.cpu_count() or 1
            builder = builder.master(f"local[{cores}]").config(map={**LOCAL_SETTINGS, PARTITIONS: str(4 * cores)})
            os.environ.setdefault(
                "PYSPARK_PYTHON", sys.executable
            )  # otherwise Spark takes the first python3 on the path
        started = builder.getOrCreate()
    except PySparkException as error:
        raise OSError(f"Spark did not start: {MISSING}") from error
    if is_local:
        started.sparkContext.setLogLevel("OFF")  # errors come back as exceptions
    return started


def read_keyed(spark: SparkSession, path: str) -> DataFrame:
    """Reads keyed calls in Parquet, a file or a folder, from anywhere that Spark reads.

    A null in a required column, or a text that is not a token, fails the job that reads it.

    Raises:
        ValueError: if the path has no table of keyed calls.
    """
    from pyspark.sql import functions as F  # noqa: N812

    with one_line_errors():
        frame = spark.read.parquet(path)
    check_columns(frame.columns, path)
    kinds = dict(frame.dtypes)
    columns = []
    for name in KEYED_COLUMNS:
        text = name in KEYED_TOKENS or name in KEYED_CATEGORIES
        if kinds[name] not in (("string",) if text else INTEGER_TYPES):
            wanted = "text" if text else "whole numbers"
            raise ValueError(f"{path}: column {name!r} holds {kinds[name]}, expected {wanted}")
        column = frame[name]
        if name in KEYED_TOKENS:
            refused = F.raise_error(f"column '{name}' has an invalid value, expected keyed tokens only")
            column = F.when(column.isNull() | column.rlike(f"^{TOKEN.pattern}\\z"), column).otherwise(refused)
        if name not in KEYED_OPTIONAL:
            column = F.coalesce(column, F.raise_error(f"column '{name}' has nulls, expected none"))
        columns.append(column.alias(name))
    return frame.select(columns)


def write(frame: DataFrame, out: str) -> None:
    """Writes a frame as Parquet files in a new folder.

    Raises:
        ValueError: if the folder exists, or with the message of a failed row.
    """
    with one_line_errors():
        frame.write.parquet(out, compression="zstd")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Raises a Spark error as ValueError with its one line that names the fault."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        match = ERROR_LINE.search(str(error))
        line = (match[1] or match[2]) if match else str(error).strip().partition("\n")[0]
        raise ValueError(line.strip()) from error


def _with_buckets(calls: DataFrame, buckets: int) -> DataFrame:
    """Returns the columns of keyed calls, their ids, and the bucket of each key."""
    from pyspark.sql import functions as F  # noqa: N812

    call = calls["call"].cast("long") if "call" in calls.columns else F.monotonically_increasing_id()
    columns = [calls[name].cast("string").alias(name) if name in KEYS else calls[name] for name in KEYED_COLUMNS]
    where = [F.pmod(F.xxhash64(name), F.lit(buckets)).cast("int") for name in KEYS]
    return calls.select(call.alias("call"), *columns).select(
        "*", *(column.alias(name) for column, name in zip(where, BUCKETS, strict=True))
    )


def _exchange(parcels: DataFrame, buckets: int) -> DataFrame:
    """Sends every parcel to its bucket. Spark before 4.1 hashes the bucket again, which is less even."""
    exchange = getattr(parcels, "repartitionById", parcels.repartition)
    frame: DataFrame = exchange(buckets, "bucket")
    return frame


def _map_batches(frame: DataFrame, work: Callable[[Batches], Batches], schema: str) -> DataFrame:
    with _without_pandas():
        return frame.mapInArrow(work, schema)


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Ignores the warning of PySpark about a new pandas, which is not used here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        yield


# Functions that run in Spark's worker processes.


def _pack_batches(batches: Batches) -> Batches:
    import pyarrow as pa

    def parcels() -> Parcels:
        waiting: list[pa.RecordBatch] = []
        for batch in batches:
            waiting.append(batch)
            if sum(len(part) for part in waiting) >= CALLS_AT_ONCE:
                yield from pack_parcels(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            yield from pack_parcels(pa.Table.from_batches(waiting))

    return _parcel_batches(parcels())


def _step(
    step: Callable[[ParcelBodies, tuple[str, ...], int], Parcels],
    names: tuple[str, ...],
    buckets: int,
    batches: Batches,
) -> Batches:
    return _parcel_batches(step(_bodies_by_kind(batches), names, buckets))


def _finish(names: tuple[str, ...], work: Work, batches: Batches) -> Iterator[pa.RecordBatch]:
    identity, rows = assemble_vectors(_bodies_by_kind(batches), names)
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        table = work(identity.slice(begin, ROWS_AT_ONCE), rows[begin : begin + ROWS_AT_ONCE])
        yield from table.combine_chunks().to_batches()


def _bodies_by_kind(batches: Batches) -> dict[str, list[pa.Buffer]]:
    bodies = defaultdict(list)
    for batch in batches:
        for kind, body in zip(batch["kind"].to_pylist(), batch["body"], strict=True):
            bodies[kind].append(body.as_buffer())
    return bodies


def _parcel_batches(parcels: Parcels) -> Iterator[pa.RecordBatch]:
    """Yields parcels as rows, many small ones or few large ones at a time."""
    import pyarrow as pa

    schema = pa.schema({"bucket": pa.int32(), "kind": pa.string(), "body": pa.binary()})
    waiting, size = [], 0
    for parcel in parcels:
        waiting.append(parcel)
        size += len(parcel.body)
        if size >= BYTES_AT_ONCE:
            yield pa.record_batch([list(column) for column in zip(*waiting, strict=True)], schema)
            waiting, size = [], 0
    if waiting:
        yield pa.record_batch([list(column) for column in zip(*waiting, strict=True)], schema)


def _vector_columns(names: tuple[str, ...], identity: pa.Table, rows: Array) -> pa.Table:
    import pyarrow as pa

    place = {feature.name: i for i, feature in enumerate(select_features(names))}
    columns = dict(zip(identity.column_names, identity.columns, strict=True))
    return pa.table({**columns, **{name: rows[:, place[name]] for name in names}})
