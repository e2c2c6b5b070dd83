"""Compares the vectors of a simulated world by all engines, bit for bit: table, stream, shards and Spark.

python -m tests.tools.replay_parity [--size small] [--seed 7] [--calls 1000000] [--skip-spark] [--json]

In the stream a call is observed at its start and again when its record becomes known. Late records and repeats come
from the world. Besides, a tenth of the records are observed again, up to ten days later, events of one moment come in
any order, and some attempts are observed eight days before their start, as by a wrong clock. The vector of a call is
computed before it is observed. The shards are planned for the least memory.
"""

import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.catalogue import NAMES
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.offline import spark
from callsieve.features.offline.shards import BASE_BYTES, write_shards
from callsieve.features.offline.table import vectors
from callsieve.features.online.history import History
from callsieve.features.records import KEYED_COLUMNS
from tests.bench.harness import parser_of, show, simulated_world

RECORD, ATTEMPT, EARLY = range(3)
DAY = 86_400_000
OBSERVED_AGAIN, OBSERVED_EARLY = 0.1, 0.001  # shares of calls


def main():
    options = parser_of(__doc__, size="small", seed=7, calls=1_000_000, skip_spark=False, json=False).parse_args()
    calls = simulated_world(options.size, options.seed).calls.sort_by("start").slice(0, options.calls)
    offline = vectors(calls)
    result = {"size": options.size, "seed": options.seed, "features": len(NAMES)}
    result |= compare(calls, offline, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calls.parquet"
        numbered = calls.select(KEYED_COLUMNS).append_column("call", pa.array(np.arange(len(calls))))
        pq.write_table(numbered, file, row_group_size=100_000)
        result |= compare_shards(file, Path(folder) / "shards", offline)
        if not options.skip_spark:
            result |= compare_spark(file, Path(folder) / "spark", offline)
    show(result, as_json=options.json)
    sys.exit(any(value for name, value in result.items() if name.startswith("different")))


def compare(calls, offline, seed):
    """Compares the vectors of stream and table, for the first record of each call."""
    singles = list(keyed_calls(calls))
    first = is_first_record(singles)
    order = sorted(events(singles, first, random.Random(seed)))
    began = time.perf_counter()
    online, history = stream(singles, order)
    seconds = time.perf_counter() - began
    kinds = [kind for _, kind, _, _ in order]
    return {
        "calls": len(singles),
        "events": len(order),
        "repeats": int(np.count_nonzero(~first)),
        "late": sum(is_late(call) for call in singles),
        "observed again": kinds.count(RECORD) - len(singles),
        "observed early": kinds.count(EARLY),
        "different by stream": differences(online[first], offline[first]),
        "dropped": history.dropped,
        "evicted": history.evicted,
        "events_per_second": round(len(order) / seconds),
    }


def differences(values, expected):
    """Returns the number of values that differ in any bit; a missing value has one form."""
    same = (values.view(np.int64) == expected.view(np.int64)) | (np.isnan(values) & np.isnan(expected))
    return int(np.count_nonzero(~same))


def compare_shards(file, folder, offline):
    """Compares the vectors in shards with those of the table."""
    figures = write_shards(file, folder, memory=2 * BASE_BYTES, threads=2)
    return {"shards": figures["shards"], "different by shards": compare_files(folder, "row", offline)}


def compare_spark(file, folder, offline):
    """Compares the vectors of Spark with those of the table."""
    session = spark.session(2)
    # `read_keyed` leaves out the column "call", by which the rows are compared.
    spark.write(spark.vectors(session.read.parquet(str(file)), buckets=16), str(folder))
    return {"different by Spark": compare_files(folder, "call", offline)}


def compare_files(folder, name, offline):
    """Returns the number of different values in Parquet files whose column `name` is a row of the table."""
    rows, different = [], 0
    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(1 << 15):
            rows.append(batch[name].to_numpy())
            values = np.column_stack([batch[feature].to_numpy(zero_copy_only=False) for feature in NAMES])
            different += differences(values, offline[rows[-1]])
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(len(offline)))
    return different


def stream(singles, order):
    """Computes the vector of every call at its start, and observes each event when it becomes known."""
    history = History(calls=2 * len(singles), numbers=len(singles))
    rows = np.empty((len(singles), len(NAMES)))
    for _, kind, _, row in order:
        call = singles[row]
        if kind == RECORD:
            history.observe(call)
            continue
        if kind == ATTEMPT:
            history.advance(call.start)
            rows[row] = history.vector(call)
        if not is_late(call):
            history.observe(replace(call, ring=None, talk=None, recorded=None))
    return rows, history


def events(singles, first, rng):
    """Yields moment, kind, a random number and row of each event."""
    for row, call in enumerate(singles):
        known = max(end(call), call.recorded or end(call))
        yield call.start, ATTEMPT, rng.random(), row
        yield known, RECORD, rng.random(), row
        if rng.random() < OBSERVED_AGAIN:
            yield known + rng.randrange(10 * DAY), RECORD, rng.random(), row
        if first[row] and not is_late(call) and rng.random() < OBSERVED_EARLY:
            yield call.start - 8 * DAY, EARLY, rng.random(), row


def end(call):
    """Returns when a call ended; a call without ring or talk is only an attempt."""
    return call.start if call.ring is None or call.talk is None else call.start + call.ring + call.talk


def is_late(call):
    """Returns whether the record arrived after the end of its call, without an earlier record."""
    return call.recorded is not None and call.recorded > end(call)


def is_first_record(singles):
    """Returns a mask of the records that make their call known first: other records take its keys."""
    first = {}
    for row, call in enumerate(singles):
        known = call.recorded if is_late(call) else call.start
        is_over = call.ring is not None and call.talk is not None
        identity = call.start, call.caller, call.callee
        first[identity] = min(first.get(identity, (known, is_over, row)), (known, is_over, row))
    return np.isin(np.arange(len(singles)), [row for _, _, row in first.values()])


if __name__ == "__main__":
    main()
