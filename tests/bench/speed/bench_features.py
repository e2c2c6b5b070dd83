"""Compares callsieve with Polars on the same calls: the values must be equal; prints calls a second as JSON.

python -m tests.bench.speed.bench_features [--calls 5000000] [--first 1000000] [--seed 0] [--json]

callsieve computes its whole catalogue, and the 21 features of `common_features.py` alone, as Polars does. Each run is a
separate process, from the same Arrow table in memory to its columns in memory, in any order of rows. Polars gets the
first calls only (--first). The features of a call depend on earlier calls only, so the values must be equal, and rates
are compared. That favours Polars, as windows fill up later. A cold rate is that of the first run, which takes new
memory. Last, the vectors of a file are written shard by shard, and the memory that this touches is counted. Run by
hand, on a machine without other load; no test looks at a clock.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.catalogue import NAMES as ALL
from callsieve.features.offline.shards import write_shards
from callsieve.features.offline.table import vectors
from tests.bench.harness import figures_of, parser_of, show

from .common_features import NAMES, check
from .drawn_calls import draw_calls

# Run -> engine, threads. The first run is the reference.
RUNS = {
    "ours 1": ("ours", 1),
    "ours 2": ("ours", 2),
    "ours, 21 of them 1": ("same", 1),
    "ours, 21 of them 2": ("same", 2),
    "polars 1": ("polars", 1),
    "polars 2": ("polars", 2),
}
OURS = {"ours": ALL, "same": NAMES}  # engine -> its features
REFERENCE = next(iter(RUNS))
LONG, FIRST = 10, 2000
NO_HUGE_PAGES = 41  # PR_SET_THP_DISABLE of prctl: a huge page is one page fault, however little of it is used
# A process keeps the memory that it has once allocated, whichever allocator its engine uses (that of C, mimalloc,
# jemalloc). Otherwise the host of a virtual machine takes free pages back and clears them at their next use, and
# this time would count for the engine.
KEEPING = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_ARENA_MAX": "1",  # arenas of threads ignore the settings above
    "MIMALLOC_PURGE_DELAY": "-1",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1",
}
Figures = dict[str, float]


def main() -> None:
    """Prints the figures; with --run, runs one engine in this process."""
    parser = parser_of(__doc__, calls=5_000_000, first=1_000_000, seed=0, repeats=3, json=False)
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--touched", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--values", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run = (
            touched(options.run, options.file)
            if options.touched
            else run_engine(options.run, options.file, options.values)
        )
        print(json.dumps(run))
    else:
        show({"seed": options.seed, "figures": compared(options)}, as_json=options.json)


def compared(options: argparse.Namespace) -> dict[str, Figures]:
    """Returns the rates of each run, whose values equal those of callsieve, and the memory that is touched.

    Raises:
        ValueError: if an engine computes another value.
    """
    rows: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        calls = draw_calls(options.calls, options.seed)
        for run, (engine, _) in RUNS.items():
            some = calls if engine in OURS else calls.slice(0, options.first)
            seconds = checked(run, write(some, Path(folder)), options.repeats)
            rows[run] = {name.replace("seconds", "second"): some.num_rows / spent for name, spent in seconds.items()}
        words = ["-m", "tests.bench.speed.bench_features", "--touched", "--file", write(calls, Path(folder)), "--run"]
        rows |= {f"{run}, from a file": figures_of(*words, run) for run in ("ours 2", "ours, 21 of them 2")}
    return rows


def write(calls: pa.Table, folder: Path) -> Path:
    """Writes the calls to a file that is named by their number."""
    path = folder / f"{calls.num_rows}.arrow"
    if path.exists():
        return path
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, calls.schema) as writer:
        writer.write_table(calls)
    return path


def checked(run: str, calls: Path, repeats: int) -> Figures:
    """Returns the figures of a run, after its values are compared with those of the reference, which runs first."""
    expected, actual = calls.parent / "expected.npy", calls.parent / "actual.npy"
    if run == REFERENCE:
        return measured(run, calls, repeats, expected)
    figures = measured(run, calls, repeats, actual)
    values = np.load(actual, mmap_mode="r")
    check(run, np.load(expected, mmap_mode="r")[:, : values.shape[1]], values)
    return figures


def measured(run: str, calls: Path, repeats: int, values: Path | None = None) -> Figures:
    """Returns medians over `repeats` processes, or fewer if they take long: processor, warm; wall clock, cold."""
    words = ["-m", "tests.bench.speed.bench_features", "--run", run, "--file", calls]
    words += ["--values", values] if values else []
    threads = RUNS[run][1]
    # Both libraries read their number of threads when they are imported.
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    rounds: list[Figures] = []
    while len(rounds) < repeats and sum(figures["wall_seconds"] for figures in rounds) < LONG:
        rounds.append(figures_of(*words, environment=environment | KEEPING))
    # The time with new memory is measured with allocators that return it.
    cold = [figures_of(*words, environment=environment)["cold_seconds"] for _ in rounds]
    cpu = statistics.median(row["cpu_seconds"] for row in rounds)
    return {"calls_per_cpu_seconds": cpu, "cold_calls_per_seconds": statistics.median(cold)}


def run_engine(run: str, calls_path: Path, values_path: Path | None) -> Figures:
    """Runs an engine on few calls, so that it is loaded and compiled, then on all, twice.

    Returns the wall seconds of the first run (cold), and the seconds of the second. The first use of a page of
    memory takes time, on a virtual machine up to fifteen times as long (1.7 s per GiB on one machine).
    """
    engine, threads = RUNS[run]
    pa.set_cpu_count(threads)
    with pa.OSFile(str(calls_path)) as file:
        calls = pa.ipc.open_file(file).read_all()
    if engine in OURS:
        columns_of = partial(ours, OURS[engine])
    else:
        columns_of = importlib.import_module("tests.bench.speed.engine_polars").columns
    columns_of(calls.slice(0, FIRST), threads)
    wall = time.perf_counter()
    columns = columns_of(calls, threads)
    cold = time.perf_counter() - wall
    del columns
    wall, cpu = time.perf_counter(), time.process_time()
    columns = columns_of(calls, threads)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if values_path:  # last, because the system uses a core to write a file to the disk
        save(columns, values_path)
    return {"wall_seconds": wall, "cpu_seconds": cpu, "cold_seconds": cold}


def touched(run: str, calls_path: Path) -> Figures:
    """Returns the bytes of memory that the vectors of a call touch on their way from a file to files."""
    engine, threads = RUNS[run]
    with pa.OSFile(str(calls_path)) as file:
        calls = pa.ipc.open_file(file).read_all()
    source, folder = calls_path.with_suffix(".parquet"), calls_path.with_name(run)
    pq.write_table(calls, source)
    if ctypes.CDLL(None).prctl(NO_HUGE_PAGES, 1, 0, 0, 0):
        raise OSError("this system cannot do without huge pages")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    write_shards(source, folder, features=OURS[engine], threads=threads)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {"calls": len(calls), "bytes_touched": faults * resource.getpagesize() / len(calls)}


def ours(names: tuple[str, ...], calls: pa.Table, threads: int) -> dict[str, np.ndarray]:
    """Returns views of the columns of these features, without a copy."""
    matrix = vectors(calls, features=names, threads=threads)
    return {"row": np.arange(len(matrix))} | {name: matrix[:, i] for i, name in enumerate(names)}


def save(columns: Mapping[str, Any], path: Path) -> None:
    """Writes the common features in order of the calls, shape (len(NAMES), calls)."""
    order = np.argsort(np.asarray(columns["row"]), kind="stable")
    values = np.lib.format.open_memmap(path, "w+", np.float64, (len(NAMES), len(order)))
    for i, name in enumerate(NAMES):
        values[i] = np.asarray(columns[name])[order]


if __name__ == "__main__":
    main()
