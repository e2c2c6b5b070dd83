"""The vectors of more calls than one machine can take: the same kernel on Spark. The only import of pyspark.

There are three exchanges, one between each two steps of `stages.py`, for any number of features. Spark carries parcels
of some megabytes, each a piece of an Arrow table as bytes, and sees no rows between the first and the last step. A
Spark row per call would cost more time than the kernel, and a Spark group per key several times as much. The vector of
a call is made in the bucket of its id.

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
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.catalogue import NAMES, select_features
from callsieve.features.catalogue.feature import ROLES
from callsieve.features.intake.keyed_table import KEYED_OPTIONAL, KEYED_TOKENS, check_columns
from callsieve.features.kernel.table_pass import ROW
from callsieve.features.kernel.windows import START
from callsieve.features.keys.tokens import TOKEN
from callsieve.features.records import GROUP_COLUMNS, KEYED_CATEGORIES, KEYED_COLUMNS

from .shuffle import from_cells
from .stages import (
    NUMBER_COLUMNS,
    OUT,
    Parcel,
    inputs_of,
    joined_vectors,
    kinds_of,
    packed_calls,
    role_values,
    sent_calls,
    values_stage,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    Batches = Iterator[pa.RecordBatch]
    Work = Callable[[pa.Table, Array], pa.Table]
    Step = Callable[["Received", tuple[str, ...], int], Iterator[Parcel]]

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
KEYS = ("caller", "callee", *GROUP_COLUMNS.values())
BUCKETS = tuple(f"{key}_bucket" for key in KEYS)
"""Columns with the bucket of each key."""

MOST_BUCKETS = 1 << 16
PIECE = 1 << 16  # most calls of a parcel: some megabytes
PARCEL = "bucket int, stage string, body binary"
CALL = "call"  # the stage of the identities of calls, by home
IDENTITY = "call long, start long, caller string, callee string"
CALLS_AT_ONCE = 1 << 18  # calls packed at a time
BYTES_AT_ONCE = 1 << 24  # bytes of the parcels in a batch
ROWS_AT_ONCE = 1 << 14  # vectors in a batch


def vectors(calls: DataFrame, *, features: tuple[str, ...] = NAMES, buckets: int | None = None) -> DataFrame:
    """Returns the vectors of every call at its start, from all calls of the frame, bit-equal to `table.vectors`.

    `buckets`: number of parts of each step, by default `spark.sql.shuffle.partitions`. A part should have some hundred
    thousand calls. The result does not depend on it.
    Returns: call, start, caller, callee and a column for each feature, NaN where a value is unknown; in any order.
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
    parcels = _map_batches(_with_buckets(calls, buckets), partial(_pack_batches, buckets), PARCEL)
    for step in (_send, _compute):
        parcels = _map_batches(_exchange(parcels, buckets), partial(_step, step, names, buckets), PARCEL)
    return _map_batches(_exchange(parcels, buckets), partial(_finish, names, work), schema)


def session(threads: int = 0) -> SparkSession:
    """Returns the active session, or a new one as configured, or a local one on `threads` cores (0: all)."""
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
    """Writes a frame as Parquet files in a new folder."""
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
    from pyspark.sql import functions as F  # noqa: N812

    call = calls["call"].cast("long") if "call" in calls.columns else F.monotonically_increasing_id()
    columns = [calls[name].cast("string").alias(name) if name in KEYS else calls[name] for name in KEYED_COLUMNS]
    where = [F.pmod(F.xxhash64(name), F.lit(buckets)).cast("int") for name in KEYS]
    return calls.select(call.alias("call"), *columns).select(
        "*", *(column.alias(name) for column, name in zip(where, BUCKETS, strict=True))
    )


def _exchange(parcels: DataFrame, buckets: int) -> DataFrame:
    exchange = getattr(parcels, "repartitionById", parcels.repartition)
    frame: DataFrame = exchange(buckets, "bucket")
    return frame


def _map_batches(frame: DataFrame, work: Callable[[Batches], Batches], schema: str) -> DataFrame:
    with _without_pandas():
        return frame.mapInArrow(work, schema)


@contextmanager
def _without_pandas() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        yield


# Functions that run in Spark's worker processes.


class Received:
    """The parcels of some buckets."""

    def __init__(self, batches: Batches) -> None:
        self.bucket = 0  # one of the buckets
        self._pieces: defaultdict[str, list[pa.Table]] = defaultdict(list)
        for batch in batches:
            for bucket, stage, body in zip(*(batch[name] for name in ("bucket", "stage", "body")), strict=True):
                self.bucket = bucket.as_py()
                self._pieces[stage.as_py()].append(pa.ipc.open_stream(body.as_buffer()).read_all())

    def rows(self, stage: str) -> pa.Table | None:
        """Returns the rows of a stage, in order of the calls' ids where rows have a record; None without rows."""
        if stage not in self._pieces:
            return None
        table = pa.concat_tables(self._pieces[stage])
        return table.take(np.argsort(_ids(table), kind="stable")) if "record" in table.column_names else table


def _ids(table: pa.Table) -> Array:
    return from_cells(table["record"], np.int64)[:, ROW]


def _pack_batches(buckets: int, batches: Batches) -> Batches:
    def parcels() -> Iterator[Parcel]:
        waiting: list[pa.RecordBatch] = []
        for batch in batches:
            waiting.append(batch)
            if sum(len(part) for part in waiting) >= CALLS_AT_ONCE:
                yield _pack(pa.Table.from_batches(waiting), buckets)
                waiting = []
        if waiting:
            yield _pack(pa.Table.from_batches(waiting), buckets)

    return _parcel_batches(parcels())


def _pack(calls: pa.Table, buckets: int) -> Parcel:
    ids = calls["call"].to_numpy()
    rows = {name: calls[name].combine_chunks() for name in (*KEYS, *BUCKETS)}
    rows |= {"record": packed_calls(calls, ids), "home": pa.array((ids % buckets).astype(np.uint16))}
    return Parcel(OUT, rows, _bucket_of(calls, "caller"))


def _bucket_of(calls: pa.Table, key: str) -> Array:
    return np.asarray(calls[f"{key}_bucket"].to_numpy())


def _send(received: Received, names: tuple[str, ...], buckets: int) -> Iterator[Parcel]:
    calls = received.rows(OUT)
    if calls is None:
        return
    yield from sent_calls(calls, kinds_of(names), received.bucket, buckets, _bucket_of)
    rows = {name: calls[name].combine_chunks() for name in NUMBER_COLUMNS}
    yield Parcel(OUT, rows, _bucket_of(calls, "caller"))


def _compute(received: Received, names: tuple[str, ...], _buckets: int) -> Iterator[Parcel]:
    for kind in kinds_of(names):
        sides = [received.rows(stage) for stage in inputs_of(kind)]
        empty = next((side.slice(0, 0) for side in sides if side is not None), None)
        if empty is not None:
            yield from role_values(kind, [empty if side is None else side for side in sides], names)
    calls = received.rows(OUT)
    if calls is not None:
        starts = pa.array(from_cells(calls["record"], np.int64)[:, START])
        parties = {name: calls[name].combine_chunks() for name in ("caller", "callee")}
        yield Parcel(CALL, {"call": pa.array(_ids(calls)), "start": starts} | parties, calls["home"].to_numpy())


def _step(step: Step, names: tuple[str, ...], buckets: int, batches: Batches) -> Batches:
    return _parcel_batches(step(Received(batches), names, buckets))


def _finish(names: tuple[str, ...], work: Work, batches: Batches) -> Iterator[pa.RecordBatch]:
    received = Received(batches)
    calls = received.rows(CALL)
    if calls is None:
        return
    calls = calls.sort_by("call")
    ids = calls["call"].to_numpy()
    if np.any(ids[1:] == ids[:-1]):
        raise ValueError("calls: expected another id (column call) in each row, got the same in two")
    values = ((role, received.rows(values_stage(role))) for role in ROLES)
    rows = joined_vectors(ids, names, ((role, table) for role, table in values if table is not None))
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        table = work(calls.slice(begin, ROWS_AT_ONCE), rows[begin : begin + ROWS_AT_ONCE])
        yield from table.combine_chunks().to_batches()


def _parcel_batches(parcels: Iterator[Parcel]) -> Iterator[pa.RecordBatch]:
    schema = pa.schema({"bucket": pa.int32(), "stage": pa.string(), "body": pa.binary()})
    waiting, size = [], 0
    for piece in _pieces(parcels):
        waiting.append(piece)
        size += len(piece[-1])
        if size >= BYTES_AT_ONCE:
            yield pa.record_batch([list(column) for column in zip(*waiting, strict=True)], schema)
            waiting, size = [], 0
    if waiting:
        yield pa.record_batch([list(column) for column in zip(*waiting, strict=True)], schema)


def _pieces(parcels: Iterator[Parcel]) -> Iterator[tuple[int, str, bytes]]:
    for stage, rows, to in parcels:
        order = np.argsort(to.astype(np.uint16), kind="stable")  # NumPy sorts 16 bits by counting
        batch, where = pa.record_batch(rows).take(pa.array(order)), to[order].astype(np.int64)
        begins = np.flatnonzero(np.diff(where, prepend=-1))
        for begin, end in pairwise([*begins.tolist(), len(where)]):
            for first in range(begin, end, PIECE):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, batch.schema) as stream:
                    stream.write_batch(batch.slice(first, min(PIECE, end - first)))
                yield int(where[begin]), stage, sink.getvalue().to_pybytes()


def _vector_columns(names: tuple[str, ...], identity: pa.Table, rows: Array) -> pa.Table:
    place = {feature.name: i for i, feature in enumerate(select_features(names))}
    columns = dict(zip(identity.column_names, identity.columns, strict=True))
    return pa.table({**columns, **{name: rows[:, place[name]] for name in names}})
