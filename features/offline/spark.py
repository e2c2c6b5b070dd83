"""The vectors of more calls than one machine holds: the same kernel on Spark. The only import of pyspark.

Three exchanges, whatever the number of features: by caller, by key of each kind of history, by call (see
`buckets.py`). Spark carries parcels of some megabytes and never sees a row between the first step and the last: rows
of its own would cost more than the kernel, and one group per key several times as much.

Memory: a process holds what came for its bucket. All calls of one number, block, trunk or device go to one bucket, so
the busiest key says how much that is at least; more buckets make the others smaller.
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
from typing import TYPE_CHECKING, Any

from callsieve.features.catalogue import NAMES, select_features
from callsieve.features.intake.keyed_table import KEYED_OPTIONAL, KEYED_TOKENS, check_columns
from callsieve.features.keys.tokens import TOKEN
from callsieve.features.records import KEYED_CATEGORIES, KEYED_COLUMNS

from .buckets import BUCKETS, KEYS, MOST_BUCKETS, Found, Parcels, assembled, computed, settled, told

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    Array = npt.NDArray[Any]
    Batches = Iterator[pa.RecordBatch]
    Work = Callable[[pa.Table, Array], pa.Table]

MISSING = "the Spark engine needs PySpark and Java 17 or later: pip install 'callsieve[spark]'"
PARTITIONS = "spark.sql.shuffle.partitions"
# A session on this machine alone listens to nobody else and writes nothing between our own lines.
ALONE = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
WHOLE = ("tinyint", "smallint", "int", "bigint")
# What a process of ours raised, or a check in a query, or Spark itself.
FAULT = re.compile(
    r"^(?:\w+\.)*(?:ValueError|Refused): (.*)$|\[USER_RAISED_EXCEPTION\] (.*?)(?: SQLSTATE.*)?$", re.MULTILINE
)
PARCEL = "bucket int, kind string, body binary"
IDENTITY = "call long, start long, caller string, callee string"
CALLS_AT_ONCE = 1 << 18  # of those told in one go
BYTES_AT_ONCE = 1 << 24  # of parcels handed to Spark in one go
ROWS_AT_ONCE = 1 << 14  # of vectors handed to Spark in one go


def vectors(calls: DataFrame, *, features: tuple[str, ...] = NAMES, buckets: int | None = None) -> DataFrame:
    """Feature vectors of every call as of its start, from all calls of the frame; as `table.vectors`, bit for bit.

    Args:
        calls: keyed calls, columns `records.KEYED_COLUMNS`, and `call`, another whole number in each row; made if it
            is not there. Where two records tell of one call and became known together, the lower one counts.
        features: names from the catalogue; the fewer, the quicker.
        buckets: how many parts each step is cut into, by default `spark.sql.shuffle.partitions`; good parts hold
            some hundred thousand calls. The result does not depend on it.
    Returns: call, start, caller, callee and a column for each feature, NaN where a value is unknown; in any order.
    Raises: ValueError: if a column is missing or a feature is not in the catalogue; an unknown word fails the job.
    """
    columns = ", ".join(f"`{name}` double" for name in features)
    return applied(calls, partial(_as_columns, features), f"{IDENTITY}, {columns}", features=features, buckets=buckets)


def applied(
    calls: DataFrame, work: Work, schema: str, *, features: tuple[str, ...] = NAMES, buckets: int | None = None
) -> DataFrame:
    """What `work` makes of the vectors where they arise, some thousand calls at a time: nobody else need see them.

    `work` gets call, start, caller and callee, and the vectors, features in the order of the catalogue, and returns a
    table with the columns of `schema`. It is called in processes of Spark, so it must be fit to be pickled.
    """
    missing = [name for name in KEYED_COLUMNS if name not in calls.columns]
    if missing:
        raise ValueError(f"calls: expected the columns of a keyed table, {', '.join(missing)} missing")
    names = tuple(feature.name for feature in select_features(features))
    if buckets is None:
        buckets = int(str(calls.sparkSession.conf.get(PARTITIONS)))
    if not 1 <= buckets <= MOST_BUCKETS:
        raise ValueError(f"buckets: expected 1 to {MOST_BUCKETS}, got {buckets}")
    parcels = _mapped(_keyed(calls, buckets), _tell, PARCEL)
    for step in (settled, computed):
        parcels = _mapped(_exchanged(parcels, buckets), partial(_step, step, names, buckets), PARCEL)
    return _mapped(_exchanged(parcels, buckets), partial(_finish, names, work), schema)


def session(threads: int = 0) -> SparkSession:
    """The session that there is, or one as Spark is configured, or one on `threads` cores of this machine (0: all).

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
    found = SparkSession.getActiveSession()
    if found is not None:
        return found
    builder = SparkSession.builder.appName("callsieve")
    alone = "PYSPARK_GATEWAY_PORT" not in os.environ  # else `spark-submit` started this process and says where to run
    try:
        if alone:
            SparkContext._ensure_initialized()  # only its Java side reads files of configuration
            alone = SparkConf().get("spark.master") == "local[*]"  # as it is where nobody names one
        if alone:
            cores = threads or os.cpu_count() or 1
            builder = builder.master(f"local[{cores}]").config(map={**ALONE, PARTITIONS: str(4 * cores)})
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else Spark takes the first python3 on the path
        started = builder.getOrCreate()
    except PySparkException as error:
        raise OSError(f"Spark did not start: {MISSING}") from error
    if alone:
        started.sparkContext.setLogLevel("OFF")  # a fault comes back as an exception
    return started


def read_keyed(spark: SparkSession, path: str) -> DataFrame:
    """Keyed calls in Parquet, one file or a folder of them, anywhere that Spark reads from.

    A null where none may be and a text that is no token fail the job that reads them.
    Raises: ValueError: if there is nothing, or no table of keyed calls.
    """
    from pyspark.sql import functions as F  # noqa: N812

    with plainly():
        frame = spark.read.parquet(path)
    check_columns(frame.columns, path)
    kinds = dict(frame.dtypes)
    columns = []
    for name in KEYED_COLUMNS:
        text = name in KEYED_TOKENS or name in KEYED_CATEGORIES
        if kinds[name] not in (("string",) if text else WHOLE):
            wanted = "text" if text else "whole numbers"
            raise ValueError(f"{path}: column {name!r} holds {kinds[name]}, expected {wanted}")
        column = frame[name]
        if name in KEYED_TOKENS:
            refused = F.raise_error(f"column '{name}' holds another text, expected keyed tokens only")
            column = F.when(column.isNull() | column.rlike(f"^{TOKEN.pattern}\\z"), column).otherwise(refused)
        if name not in KEYED_OPTIONAL:
            column = F.coalesce(column, F.raise_error(f"column '{name}' has nulls, expected none"))
        columns.append(column.alias(name))
    return frame.select(columns)


def write(frame: DataFrame, out: str) -> None:
    """Write a frame as Parquet files in a new folder.

    Raises: ValueError: if the folder is there already, or with the fault that a row met on the way.
    """
    with plainly():
        frame.write.parquet(out, compression="zstd")


@contextmanager
def plainly() -> Iterator[None]:
    """A fault that Spark wraps into pages is raised as ValueError with the line that says what it was."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        found = FAULT.search(str(error))
        line = (found[1] or found[2]) if found else str(error).strip().partition("\n")[0]
        raise ValueError(line.strip()) from error


def _keyed(calls: DataFrame, buckets: int) -> DataFrame:
    """The columns of keyed calls, their ids, and the bucket of each key."""
    from pyspark.sql import functions as F  # noqa: N812

    call = calls["call"].cast("long") if "call" in calls.columns else F.monotonically_increasing_id()
    columns = [calls[name].cast("string").alias(name) if name in KEYS else calls[name] for name in KEYED_COLUMNS]
    where = [F.pmod(F.xxhash64(name), F.lit(buckets)).cast("int") for name in KEYS]
    return calls.select(call.alias("call"), *columns).select(
        "*", *(column.alias(name) for column, name in zip(where, BUCKETS, strict=True))
    )


def _exchanged(parcels: DataFrame, buckets: int) -> DataFrame:
    """Every parcel to its bucket. Before Spark 4.1 buckets can only be hashed again, which spreads them less evenly."""
    exchange = getattr(parcels, "repartitionById", parcels.repartition)
    frame: DataFrame = exchange(buckets, "bucket")
    return frame


def _mapped(frame: DataFrame, work: Callable[[Batches], Batches], schema: str) -> DataFrame:
    with _without_pandas():
        return frame.mapInArrow(work, schema)


@contextmanager
def _without_pandas() -> Iterator[None]:
    """PySpark warns of a new pandas as soon as it sees one; nothing here goes through it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        yield


# What runs in the processes of Spark.


def _tell(batches: Batches) -> Batches:
    import pyarrow as pa

    def parcels() -> Parcels:
        waiting: list[pa.RecordBatch] = []
        for batch in batches:
            waiting.append(batch)
            if sum(len(part) for part in waiting) >= CALLS_AT_ONCE:
                yield from told(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            yield from told(pa.Table.from_batches(waiting))

    return _sent(parcels())


def _step(
    step: Callable[[Found, tuple[str, ...], int], Parcels], names: tuple[str, ...], buckets: int, batches: Batches
) -> Batches:
    return _sent(step(_found(batches), names, buckets))


def _finish(names: tuple[str, ...], work: Work, batches: Batches) -> Iterator[pa.RecordBatch]:
    identity, rows = assembled(_found(batches), names)
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        table = work(identity.slice(begin, ROWS_AT_ONCE), rows[begin : begin + ROWS_AT_ONCE])
        yield from table.combine_chunks().to_batches()


def _found(batches: Batches) -> dict[str, list[pa.Buffer]]:
    found = defaultdict(list)
    for batch in batches:
        for kind, body in zip(batch["kind"].to_pylist(), batch["body"], strict=True):
            found[kind].append(body.as_buffer())
    return found


def _sent(parcels: Parcels) -> Iterator[pa.RecordBatch]:
    """Parcels as rows, many small ones or few large ones at a time."""
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


def _as_columns(names: tuple[str, ...], identity: pa.Table, rows: Array) -> pa.Table:
    import pyarrow as pa

    place = {feature.name: i for i, feature in enumerate(select_features(names))}
    columns = dict(zip(identity.column_names, identity.columns, strict=True))
    return pa.table({**columns, **{name: rows[:, place[name]] for name in names}})
