"""Compares the table engine with Spark on the same calls: the values must be equal; prints times as ratios.

python -m tests.bench.speed.bench_spark [--calls 1000000] [--seed 0] [--buckets 16] [--repeats 3] [--json]

Both read the same Parquet file and compute every column of the catalogue; Spark writes to its "noop" sink. Each runs in
a separate process, once to load, compile and warm up, then `--repeats` times; prints medians. Processor time includes
all child processes: Spark's Java and Python processes. Run by hand, on a machine without other load; no test looks at a
clock.

From the figures follow the cores for a day of calls: calls a day / calls per processor second / available seconds.
`cores_for_a_day` are those for the features of DAY_OF_CALLS calls in HOURS hours, without the history. Every run also
replays the days before that the windows cover: 7 days, or 28 or 56 for days with calls and decayed sums.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.catalogue import NAMES
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.offline import spark, table
from tests.bench.harness import figures_of, parser_of, show

from .drawn_calls import draw_calls

RUNS = {"table 1": 1, "table 2": 2, "spark 1": 1, "spark 2": 2}
REFERENCE = "table 1"
DAY_OF_CALLS, HOURS = 10**9, 4  # the assumed calls of a day, and the time for their features
TICK = os.sysconf("SC_CLK_TCK")

Figures = dict[str, float]


def main() -> None:
    """Prints the figures; with --run, runs one engine in this process."""
    options = parsed()
    if options.run:
        print(json.dumps(measured(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.file = Path(folder) / "calls.parquet"
        pq.write_table(draw_calls(options.calls, options.seed), options.file, row_group_size=100_000)
        runs = {run: in_process(run, options) for run in RUNS}
    if len({int(figures.pop("checksum")) for figures in runs.values()}) > 1:
        raise SystemExit("no times: the values of the engines differ")
    sizes = {"features": len(NAMES), "calls": options.calls, "seed": options.seed, "buckets": options.buckets}
    report = sizes | {"figures": rates(runs, options)}
    show(report, as_json=options.json)


def parsed() -> argparse.Namespace:
    parser = parser_of(__doc__, calls=1_000_000, seed=0, buckets=16, repeats=3, json=False)
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_process(run: str, options: argparse.Namespace) -> Figures:
    """Returns the figures of a run in a separate process."""
    print(f"{run} ...", file=sys.stderr, flush=True)
    words = ("--run", run, "--file", options.file, "--buckets", options.buckets, "--repeats", options.repeats)
    return figures_of("-m", "tests.bench.speed.bench_spark", *words)


def measured(options: argparse.Namespace) -> Figures:
    """Returns the medians of seconds, and a checksum of the values."""
    engine, threads = options.run.split()[0], RUNS[options.run]
    pa.set_cpu_count(threads)
    work, checksum = (by_spark if engine == "spark" else by_table)(options.file, threads, options.buckets)
    total = checksum()
    walls, cpus = [], []
    for _ in range(options.repeats):
        wall, cpu = time.perf_counter(), cpu_seconds()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(cpu_seconds() - cpu)
    return {"wall_seconds": statistics.median(walls), "cpu_seconds": statistics.median(cpus), "checksum": total}


Engine = tuple[Callable[[], object], Callable[[], int]]


def by_table(file: Path, threads: int, _buckets: int) -> Engine:
    def work() -> np.ndarray:
        return table.vectors(read_keyed(file), threads=threads)

    return work, lambda: added(checksums(pa.table({}), work()))


def by_spark(file: Path, threads: int, buckets: int) -> Engine:
    session = spark.session(threads)

    def work() -> None:
        frame = spark.vectors(spark.read_keyed(session, str(file)), buckets=buckets)
        frame.write.format("noop").mode("overwrite").save()

    def checksum() -> int:
        work()
        frame = spark.read_keyed(session, str(file))
        return added(spark.apply_to_vectors(frame, checksums, "sum long", buckets=buckets).toArrow())

    return work, checksum


def checksums(_identity: pa.Table, rows: np.ndarray) -> pa.Table:
    """Returns a sum over all bits of all vectors; it depends on the column, but not on the order of the rows."""
    bits = np.where(np.isnan(rows), np.nan, rows).view(np.uint64)
    odd = np.random.default_rng(0).integers(1 << 63, size=rows.shape[1], dtype=np.uint64) * 2 + 1
    mixed = (bits * odd).sum(axis=1)
    mixed = (mixed ^ mixed >> np.uint64(29)) * odd[0]
    return pa.table({"sum": mixed.sum(keepdims=True).view(np.int64)})


def added(sums: pa.Table) -> int:
    return int(sums["sum"].to_numpy().sum())


def cpu_seconds() -> float:
    """Returns the processor time of this process and all its descendants."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        pid = int(entry.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        spent[pid] = sum(int(field) for field in fields[11:15]) / TICK
    waiting, total = [os.getpid()], 0.0
    while waiting:
        pid = waiting.pop()
        total += spent.get(pid, 0.0)
        waiting += children.get(pid, [])
    return total


def rates(runs: dict[str, Figures], options: argparse.Namespace) -> dict[str, Figures]:
    """Returns rates, times relative to the reference, and cores for a day of calls."""
    reference = runs[REFERENCE]
    return {
        run: {
            "calls_per_second": options.calls / figures["wall_seconds"],
            "calls_per_cpu_second": options.calls / figures["cpu_seconds"],
            "times_reference_wall": figures["wall_seconds"] / reference["wall_seconds"],
            "times_reference_cpu": figures["cpu_seconds"] / reference["cpu_seconds"],
            "cores_for_a_day": DAY_OF_CALLS * figures["cpu_seconds"] / options.calls / (3600 * HOURS),
        }
        for run, figures in runs.items()
    }


if __name__ == "__main__":
    main()
